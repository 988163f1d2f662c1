//! A measured table by columns, as it came out of a parquet or a CSV file.

use std::collections::BTreeMap;

use crate::hardware::import::error::ImportError;

/// One column. Texts are stored once and referred to by their place in `values`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Column {
    Text { codes: Vec<u32>, values: Vec<String> },
    Whole(Vec<i64>),
    Real(Vec<f64>),
}

/// Collects texts, each stored once.
#[derive(Default)]
pub(crate) struct Texts {
    codes: Vec<u32>,
    values: Vec<String>,
    known: BTreeMap<Vec<u8>, u32>,
}

impl Texts {
    /// Adds a text; `false` if it is not UTF-8.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        if let Some(code) = self.known.get(bytes) {
            self.codes.push(*code);
            return true;
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let code = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.values.push(text.to_string());
        self.known.insert(bytes.to_vec(), code);
        self.codes.push(code);
        true
    }

    pub(crate) fn column(self) -> Column {
        Column::Text { codes: self.codes, values: self.values }
    }
}

/// How a file counts its rows in messages.
#[derive(Clone, Debug)]
pub(crate) enum Counting {
    /// Row 1 is the first of the file.
    Rows,
    /// The line each row starts on.
    Lines(Vec<u32>),
}

/// A table by columns.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    /// The file as a person would name it.
    pub(crate) file: String,
    pub(crate) rows: usize,
    pub(crate) counting: Counting,
    pub(crate) columns: BTreeMap<String, Column>,
    /// All columns of the file, in its order, read or not.
    pub(crate) header: Vec<String>,
    /// The device whose rows are asked for; all rows where it is `None`.
    pub(crate) only: Option<String>,
}

/// One column of a table, with what errors must say.
pub(crate) struct Cells<'a> {
    table: &'a Columns,
    name: &'a str,
    column: &'a Column,
}

impl Columns {
    /// Whether the file has a column.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.columns.contains_key(name)
    }

    /// A column that must be there.
    pub(crate) fn get<'a>(&'a self, name: &'a str) -> Result<Cells<'a>, ImportError> {
        match self.columns.get(name) {
            Some(column) => Ok(Cells { table: self, name, column }),
            None => Err(ImportError::MissingColumn {
                file: self.file.clone(),
                column: name.to_string(),
                found: self.header.clone(),
            }),
        }
    }

    /// A column that may be absent.
    pub(crate) fn optional<'a>(&'a self, name: &'a str) -> Option<Cells<'a>> {
        self.columns.get(name).map(|column| Cells { table: self, name, column })
    }

    /// Why a row is passed over: it was measured on a device that was not asked for.
    pub(crate) fn foreign(&self, row: usize) -> Option<String> {
        let only = self.only.as_deref()?;
        let device =
            self.columns.get("device").map(|column| Cells { table: self, name: "device", column })?;
        Some(device.text(row)).filter(|device| *device != only).map(|device| format!("measured on {device}"))
    }

    /// Row `index` as a person would find it.
    pub(crate) fn row(&self, index: usize) -> String {
        match &self.counting {
            Counting::Rows => format!("row {}", index + 1),
            Counting::Lines(lines) => format!("line {}", lines.get(index).copied().unwrap_or(0)),
        }
    }
}

const WHOLE: &str = "a whole number above zero";
const FROM_ZERO: &str = "a whole number of at least zero";
const LATENCY: &str = "a finite latency above zero";

impl Cells<'_> {
    /// The cell as text; empty where there is none.
    pub(crate) fn text(&self, row: usize) -> &str {
        match self.column {
            Column::Text { codes, values } => {
                codes.get(row).and_then(|code| values.get(*code as usize)).map_or("", String::as_str)
            }
            _ => "",
        }
    }

    fn shown(&self, row: usize) -> String {
        match self.column {
            Column::Text { .. } => self.text(row).to_string(),
            Column::Whole(values) => values.get(row).map(ToString::to_string).unwrap_or_default(),
            Column::Real(values) => values.get(row).map(ToString::to_string).unwrap_or_default(),
        }
    }

    pub(crate) fn wrong(&self, row: usize, expected: &'static str) -> ImportError {
        ImportError::Cell {
            file: self.table.file.clone(),
            row: self.table.row(row),
            column: self.name.to_string(),
            found: self.shown(row),
            expected,
        }
    }

    fn number(&self, row: usize) -> Option<f64> {
        match self.column {
            Column::Text { .. } => self.text(row).trim().parse().ok(),
            Column::Whole(values) => values.get(row).map(|x| *x as f64),
            Column::Real(values) => values.get(row).copied(),
        }
    }

    fn whole_from(&self, row: usize, least: u64, expected: &'static str) -> Result<u64, ImportError> {
        // 2^53: every whole number up to it is one in floating point as well.
        let fits = |x: &f64| x.fract() == 0.0 && *x >= least as f64 && *x <= 9_007_199_254_740_992.0;
        self.number(row).filter(fits).map(|x| x as u64).ok_or_else(|| self.wrong(row, expected))
    }

    /// A dimension: a whole number above zero.
    pub(crate) fn whole(&self, row: usize) -> Result<u64, ImportError> {
        self.whole_from(row, 1, WHOLE)
    }

    /// A whole number that may be zero.
    pub(crate) fn whole_or_zero(&self, row: usize) -> Result<u64, ImportError> {
        self.whole_from(row, 0, FROM_ZERO)
    }

    /// A latency in the unit of the column.
    pub(crate) fn latency(&self, row: usize) -> Result<f64, ImportError> {
        let fits = |x: &f64| x.is_finite() && *x > 0.0;
        self.number(row).filter(fits).ok_or_else(|| self.wrong(row, LATENCY))
    }

    /// Distinct texts of the column, in the order of their first row.
    pub(crate) fn distinct(&self) -> &[String] {
        match self.column {
            Column::Text { values, .. } => values,
            _ => &[],
        }
    }
}

/// Settles which device a table is of: the one asked for, or the only one there is.
///
/// # Errors
/// Rows of several devices, none of which was asked for, or a device that the table does not name.
pub(crate) fn settle_device(table: &mut Columns, only: Option<&str>) -> Result<Option<String>, ImportError> {
    let Some(devices) = table.optional("device") else { return Ok(None) };
    if let Some(only) = only {
        let known = devices.distinct().to_vec();
        if !known.iter().any(|name| name == only) {
            return Err(ImportError::Unknown {
                what: "device",
                found: only.to_string(),
                place: table.file.clone(),
                known,
            });
        }
        table.only = Some(only.to_string());
        return Ok(table.only.clone());
    }
    if let Some(row) = (1..table.rows).find(|row| devices.text(*row) != devices.text(0)) {
        return Err(ImportError::MixedDevices {
            file: table.file.clone(),
            row: table.row(row),
            first: devices.text(0).to_string(),
            other: devices.text(row).to_string(),
        });
    }
    Ok(Some(devices.text(0).to_string()).filter(|name| !name.is_empty()))
}
