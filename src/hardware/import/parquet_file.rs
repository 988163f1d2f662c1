//! Parquet -> columns, column by column: only those asked for are decoded.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};

use parquet::basic::Type as Physical;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;

use crate::hardware::import::columns::{Column, Columns, Counting, Texts};
use crate::hardware::import::error::ImportError;

/// Records decoded at a time: a damaged row count cannot make it reserve more than this.
const BATCH: usize = 1 << 16;

/// The first line of a file that Git LFS has not fetched.
const LFS: &[u8] = b"version https://git-lfs";

/// Reads the columns `wanted` accepts; `file` names it in errors.
///
/// # Errors
/// A file that is cut off, damaged, or no parquet; a nested column; a missing value.
pub(crate) fn read(
    file: &str,
    bytes: Vec<u8>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Columns, ImportError> {
    // The decoder asserts what some damaged pages break; its panic must not become ours.
    panic::catch_unwind(AssertUnwindSafe(|| decode(file, bytes, wanted))).unwrap_or_else(|_| {
        let reason = "damaged: the decoder gave up on it".to_string();
        Err(ImportError::Malformed { file: file.to_string(), reason })
    })
}

fn decode(file: &str, bytes: Vec<u8>, wanted: impl Fn(&str) -> bool) -> Result<Columns, ImportError> {
    let malformed = |reason: String| ImportError::Malformed { file: file.to_string(), reason };
    if bytes.starts_with(LFS) {
        return Err(malformed(
            "a Git LFS pointer, not the table itself: run `git lfs pull` there".to_string(),
        ));
    }
    let length = bytes.len();
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes))
        .map_err(|e| malformed(format!("not a whole parquet file: {e}")))?;
    if !lies_within(reader.metadata(), length) {
        return Err(malformed("damaged: its footer points outside of it".to_string()));
    }
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let header: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
    let mut columns = BTreeMap::new();
    let mut rows = 0;
    for (index, name) in header.iter().enumerate().filter(|(_, name)| wanted(name)) {
        let descriptor = schema.column(index);
        if descriptor.max_rep_level() > 0 || descriptor.max_def_level() > 1 {
            return Err(malformed(format!("column `{name}` is nested; plain columns were expected")));
        }
        let optional = descriptor.max_def_level() == 1;
        let column = column(&reader, index, descriptor.physical_type(), optional)
            .map_err(|reason| malformed(format!("column `{name}`: {reason}")))?;
        let length = match &column {
            Column::Text { codes, .. } => codes.len(),
            Column::Whole(values) => values.len(),
            Column::Real(values) => values.len(),
        };
        if !columns.is_empty() && length != rows {
            return Err(malformed(format!(
                "column `{name}` has {length} rows, the columns before it {rows}"
            )));
        }
        rows = length;
        columns.insert(name.clone(), column);
    }
    Ok(Columns { file: file.to_string(), rows, counting: Counting::Rows, columns, header, only: None })
}

/// Whether every column's pages lie within the file.
fn lies_within(metadata: &ParquetMetaData, length: usize) -> bool {
    let within = |offset: i64, bytes: i64| {
        let end = offset.checked_add(bytes).and_then(|end| usize::try_from(end).ok());
        offset >= 0 && bytes >= 0 && end.is_some_and(|end| end <= length)
    };
    metadata.row_groups().iter().flat_map(|group| group.columns()).all(|column| {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        within(start, column.compressed_size()) && column.data_page_offset() >= 0
    })
}

type Reader = SerializedFileReader<bytes::Bytes>;

fn column(reader: &Reader, index: usize, physical: Physical, optional: bool) -> Result<Column, String> {
    let mut texts = Texts::default();
    let (mut whole, mut real) = (Vec::new(), Vec::new());
    for group in 0..reader.num_row_groups() {
        let group: Box<dyn RowGroupReader + '_> = reader.get_row_group(group).map_err(damaged)?;
        match group.get_column_reader(index).map_err(damaged)? {
            ColumnReader::ByteArrayColumnReader(r) => {
                let mut fine = true;
                // A text that is missing is an empty one.
                all(r, optional, |value| fine &= texts.push(value.map_or(&[][..], |v| v.data())))?;
                if !fine {
                    return Err("not UTF-8".to_string());
                }
            }
            ColumnReader::Int32ColumnReader(r) => each(r, optional, |x| whole.push(i64::from(*x)))?,
            ColumnReader::Int64ColumnReader(r) => each(r, optional, |x| whole.push(*x))?,
            ColumnReader::DoubleColumnReader(r) => each(r, optional, |x| real.push(*x))?,
            ColumnReader::FloatColumnReader(r) => each(r, optional, |x| real.push(f64::from(*x)))?,
            _ => return Err(format!("values of type {physical}; text, whole or real numbers were expected")),
        }
    }
    Ok(match physical {
        Physical::BYTE_ARRAY => texts.column(),
        Physical::INT32 | Physical::INT64 => Column::Whole(whole),
        _ => Column::Real(real),
    })
}

/// Every value; one that is missing is an error.
fn each<T: DataType>(
    reader: ColumnReaderImpl<T>,
    optional: bool,
    mut push: impl FnMut(&T::T),
) -> Result<(), String> {
    let (mut row, mut missing) = (0_u64, None);
    all(reader, optional, |value| {
        row += 1;
        match value {
            Some(value) => push(value),
            None => missing = missing.or(Some(row)),
        }
    })?;
    missing.map_or(Ok(()), |row| Err(format!("row {row} has no value")))
}

/// Every value of a column, in order; `None` where there is none.
fn all<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    optional: bool,
    mut push: impl FnMut(Option<&T::T>),
) -> Result<(), String> {
    loop {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let (records, ..) =
            reader.read_records(BATCH, Some(&mut levels), None, &mut values).map_err(damaged)?;
        if records == 0 {
            return Ok(());
        }
        let mut values = values.iter();
        match optional {
            true => levels.iter().for_each(|level| push(if *level > 0 { values.next() } else { None })),
            false => values.for_each(|value| push(Some(value))),
        }
    }
}

fn damaged(error: ParquetError) -> String {
    format!("damaged: {error}")
}
