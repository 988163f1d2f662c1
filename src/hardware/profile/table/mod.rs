//! Tables of measured kernel calls: one CSV per family, fixed columns, complete or refused.
//!
//! Accepted besides the plain form: CRLF line ends, a byte-order mark, blank lines. Refused: quotes,
//! comments, columns besides the table's own and [`SPREAD`], rows that repeat a call.

mod columns;
mod order;

use std::collections::BTreeMap;
use std::path::Path;

use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::profile::defect::Defect;
use crate::hardware::profile::error::{self, Lines, Place, ProfileError};
use crate::hardware::profile::folder::Folder;
use crate::hardware::profile::table::columns::Cells;
use crate::units::{DType, Seconds};

/// One measured kernel call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The call.
    pub call: KernelCall,
    /// Its measured latency.
    pub latency: Seconds,
    /// Spread of its repeats: their robust standard deviation (1.4826 x median absolute deviation) as a share
    /// of their median; `None` where the source does not state it.
    pub spread: Option<f64>,
}

impl Row {
    /// A row whose source states no spread.
    pub fn new(call: KernelCall, latency: Seconds) -> Self {
        Self { call, latency, spread: None }
    }
}

/// Rows and where each starts in the file.
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    /// Byte offset of each row, after a byte-order mark.
    pub(crate) starts: Vec<usize>,
}

/// The column that may follow the others: the spread of each row's repeats in percent; an empty cell where it is
/// not known.
pub const SPREAD: &str = "spread_percent";

/// Column names of a family's table, in order; none for elementwise kernels, which have no table.
pub fn columns(family: KernelFamily) -> &'static [&'static str] {
    columns::names(family)
}

/// Reads one table; `file` names it in errors. With `declared` element types, rows of any other are refused.
///
/// # Errors
/// Every defect found, in the order of the file.
pub fn parse(
    file: &str,
    bytes: &[u8],
    family: KernelFamily,
    declared: Option<&[DType]>,
) -> Result<Vec<Row>, Vec<ProfileError>> {
    parse_located(file, bytes, family, declared).map(|table| table.rows)
}

/// Reads every table of a folder that needs no manifest; families without a file are absent.
///
/// # Errors
/// The first defect: an unreadable folder, a CSV of no known family, or anything [`parse`] refuses.
pub fn read_folder(dir: &Path) -> Result<BTreeMap<KernelFamily, Vec<Row>>, ProfileError> {
    let folder = Folder::on_disk(dir)?;
    let tables = KernelFamily::TABLES.into_iter().filter_map(|family| Some((family, folder.table(family)?)));
    tables
        .map(|(family, bytes)| {
            let file = folder.path_of(&format!("{family}.csv"));
            parse(&file, bytes, family, None).map(|rows| (family, rows)).map_err(first)
        })
        .collect()
}

/// A row and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct LocatedRow {
    /// The row.
    pub row: Row,
    /// Its file and line.
    pub place: Place,
}

/// Reads rows that belong to no profile: a folder of `<family>.csv`, or one CSV whose header tells its family.
///
/// # Errors
/// The first defect: what cannot be read, a header of no family, or anything [`parse`] refuses.
pub fn read_located(path: &Path) -> Result<BTreeMap<KernelFamily, Vec<LocatedRow>>, ProfileError> {
    if path.is_dir() {
        let folder = Folder::on_disk(path)?;
        let tables =
            KernelFamily::TABLES.into_iter().filter_map(|family| Some((family, folder.table(family)?)));
        return tables
            .map(|(family, bytes)| {
                Ok((family, located(&folder.path_of(&format!("{family}.csv")), bytes, family)?))
            })
            .collect();
    }
    let file = path.display().to_string();
    let unreadable =
        |e: std::io::Error| ProfileError::of(&file, Defect::Unreadable { reason: e.to_string() });
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = error::without_bom(&bytes);
    let first = text.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default();
    let begins = |family: &KernelFamily| {
        let names = columns::names(*family);
        // The unit of the latency is the parser's to judge.
        let own = names.split_last().map(|(_, own)| own.join(",")).unwrap_or_default();
        first.starts_with(own.as_bytes())
    };
    let Some(family) = KernelFamily::TABLES.into_iter().find(begins) else {
        let expected = KernelFamily::TABLES.map(|family| columns::names(family).join(",")).join(" or ");
        let found = String::from_utf8_lossy(first).into_owned();
        return Err(ProfileError::of(file, Defect::Header { found, expected }));
    };
    Ok(BTreeMap::from([(family, located(&file, &bytes, family)?)]))
}

fn located(file: &str, bytes: &[u8], family: KernelFamily) -> Result<Vec<LocatedRow>, ProfileError> {
    let table = parse_located(file, bytes, family, None).map_err(first)?;
    let lines = Lines::of(error::without_bom(bytes));
    let rows = table.rows.iter().zip(&table.starts);
    Ok(rows.map(|(row, start)| LocatedRow { row: *row, place: lines.place(file, *start) }).collect())
}

/// The first of several defects, for callers that report one.
pub(crate) fn first(errors: Vec<ProfileError>) -> ProfileError {
    let none =
        || ProfileError { place: None, defect: Defect::Unreadable { reason: "no reason noted".to_string() } };
    errors.into_iter().next().unwrap_or_else(none)
}

pub(crate) fn parse_located(
    file: &str,
    bytes: &[u8],
    family: KernelFamily,
    declared: Option<&[DType]>,
) -> Result<Table, Vec<ProfileError>> {
    let bytes = error::without_bom(bytes);
    let mut defects = Vec::new();
    let table = read_rows(bytes, family, declared, &mut defects);
    if defects.is_empty() {
        order::check(&table, |offset| Lines::of(bytes).at(offset).line, &mut defects);
    }
    if defects.is_empty() {
        return Ok(table);
    }
    let lines = Lines::of(bytes);
    defects.sort_by_key(|(offset, _)| *offset);
    Err(defects.into_iter().map(|(at, defect)| ProfileError::at(lines.place(file, at), defect)).collect())
}

/// Defects with the byte offset of each.
type Defects = Vec<(usize, Defect)>;

fn read_rows(bytes: &[u8], family: KernelFamily, declared: Option<&[DType]>, defects: &mut Defects) -> Table {
    let mut table = Table { rows: Vec::with_capacity(bytes.len() / 24), starts: Vec::new() };
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).quoting(false).from_reader(bytes);
    let mut record = csv::ByteRecord::new();
    let mut header = true;
    let mut spread = false;
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => {
                defects.push((0, Defect::Unreadable { reason: e.to_string() }));
                break;
            }
        }
        let start = start_of(&record, bytes);
        if header {
            header = false;
            match columns::check_header(&record, family) {
                Ok(with_spread) => spread = with_spread,
                Err((at, defect)) => {
                    defects.push((start + at, defect));
                    return table;
                }
            }
            continue;
        }
        if let Some(row) = Cells::of(&record, (family, spread), declared, start, defects).row() {
            table.rows.push(row);
            table.starts.push(start);
        }
    }
    if header {
        defects.push((0, Defect::EmptyFile { expected: columns::names(family).join(",") }));
    } else if table.rows.is_empty() && defects.is_empty() {
        defects.push((0, Defect::NoRowsInTable));
    }
    table
}

/// Offset of a record's first byte: the reader's own position may stand before line ends it skips.
fn start_of(record: &csv::ByteRecord, bytes: &[u8]) -> usize {
    let from = record.position().map_or(0, |p| p.byte() as usize);
    let rest = bytes.get(from..).unwrap_or(&[]);
    from + rest.iter().take_while(|b| matches!(b, b'\n' | b'\r')).count()
}

#[cfg(test)]
mod tests;
