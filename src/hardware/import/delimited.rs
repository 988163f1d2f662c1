//! Comma-separated text -> columns. Quoted fields, a byte-order mark and Windows' line ends are read.

use std::collections::BTreeMap;

use crate::hardware::import::columns::{Columns, Counting, Texts};
use crate::hardware::import::error::ImportError;
use crate::hardware::profile::error::{self, Lines};

/// Reads a whole file; `file` names it in errors.
///
/// # Errors
/// No header, a column twice, a row with more or fewer fields than columns, text that is not UTF-8.
pub(crate) fn read(file: &str, bytes: &[u8]) -> Result<Columns, ImportError> {
    let malformed = |reason: String| ImportError::Malformed { file: file.to_string(), reason };
    let bytes = error::without_bom(bytes);
    let places = Lines::of(bytes);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let header = reader.byte_headers().map_err(|e| malformed(e.to_string()))?.clone();
    let names: Vec<String> =
        header.iter().map(|name| String::from_utf8_lossy(name).trim().to_string()).collect();
    if names.is_empty() {
        return Err(malformed("an empty file; a header line was expected".to_string()));
    }
    if let Some(twice) = names.iter().enumerate().find(|(i, name)| names.iter().take(*i).any(|n| n == *name))
    {
        return Err(malformed(format!("column `{}` stands there twice", twice.1)));
    }
    let mut texts: Vec<Texts> = names.iter().map(|_| Texts::default()).collect();
    let mut lines = Vec::new();
    let mut record = csv::ByteRecord::new();
    loop {
        let more = reader.read_byte_record(&mut record).map_err(|e| malformed(e.to_string()))?;
        if !more {
            break;
        }
        // The reader's own position may stand before line ends that it skips.
        let from = record.position().map_or(0, |p| p.byte() as usize);
        let ends = bytes.get(from..).unwrap_or(&[]).iter().take_while(|b| matches!(b, b'\n' | b'\r'));
        let line = places.at(from + ends.count()).line;
        if record.len() != names.len() {
            let (n, m) = (record.len(), names.len());
            return Err(malformed(format!("line {line}: {n} fields where the header has {m} columns")));
        }
        if texts.iter_mut().zip(&record).any(|(text, cell)| !text.push(cell)) {
            return Err(malformed(format!("line {line}: not UTF-8")));
        }
        lines.push(line);
    }
    let columns: BTreeMap<_, _> = names.iter().cloned().zip(texts.into_iter().map(Texts::column)).collect();
    Ok(Columns {
        file: file.to_string(),
        rows: lines.len(),
        counting: Counting::Lines(lines),
        columns,
        header: names,
        only: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_marks_quotes_and_windows_line_ends() {
        let table = read("f", "\u{feff}a,b\r\n\"1,2;3\",x\r\n\r\n4,y\r\n".as_bytes()).unwrap();
        assert_eq!((table.rows, table.get("a").unwrap().text(0)), (2, "1,2;3"));
        assert_eq!(table.row(1), "line 4");
        assert_eq!(table.get("a").unwrap().whole(1).unwrap(), 4);
    }

    #[test]
    fn refuses_ragged_rows_and_doubled_columns() {
        for (text, says) in [
            ("", "an empty file"),
            ("a,a\n", "twice"),
            ("a,b\n1\n", "line 2: 1 fields where the header has 2 columns"),
        ] {
            let error = read("f", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(read("f", b"a\n\xff\n").unwrap_err().to_string().contains("line 2: not UTF-8"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = read("f", &bytes);
        }
    }
}
