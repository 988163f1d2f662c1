//! What an interrupted `profiles fit` has already learned: one file per family and element type beside the
//! target, taken up again when rows, method and version are the same.

use std::fs;
use std::path::{Path, PathBuf};

use archplan::files;
use archplan::hardware::latency::kernel_model::ensemble::Fit;
use archplan::hardware::latency::kernel_model::fit_file::VERSION;
use archplan::hardware::latency::kernel_model::members::Rows;
use archplan::hardware::latency::kernel_model::scores::Score;
use serde::{Deserialize, Serialize};

use crate::cli::Failure;

/// A finished part.
#[derive(Serialize, Deserialize)]
pub struct Part {
    key: Key,
    /// What was learned.
    pub fit: Fit,
    /// Its errors on kept-out rows.
    pub scores: Vec<Score>,
}

/// What a part holds for; anything else is learned anew.
#[derive(PartialEq, Serialize, Deserialize)]
struct Key {
    archplan: String,
    format: u32,
    rows: String,
    coarse: bool,
}

impl Key {
    fn of(rows: &Rows, coarse: bool) -> Self {
        Self { archplan: env!("CARGO_PKG_VERSION").to_string(), format: VERSION, rows: rows.hash(), coarse }
    }
}

fn path(out: &Path, rows: &Rows) -> PathBuf {
    out.join(format!(".{}.{}.fit.part", rows.family, rows.dtype))
}

/// The part of these rows, if an earlier run finished it. One that cannot be read is as good as none.
pub fn load(out: &Path, rows: &Rows, coarse: bool) -> Option<Part> {
    let text = fs::read_to_string(path(out, rows)).ok()?;
    let part: Part = serde_json::from_str(&text).ok()?;
    (part.key == Key::of(rows, coarse)).then_some(part)
}

/// Keeps a finished part.
///
/// # Errors
/// The folder cannot be written.
pub fn save(out: &Path, rows: &Rows, coarse: bool, fit: Fit, scores: Vec<Score>) -> Result<Part, Failure> {
    let part = Part { key: Key::of(rows, coarse), fit, scores };
    let text = serde_json::to_string(&part).map_err(Failure::failed)?;
    let path = path(out, rows);
    files::write_atomically(&path, text.as_bytes())
        .map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
    Ok(part)
}

/// Removes the parts once the whole stands.
pub fn clear(out: &Path, sets: &[Rows]) {
    for rows in sets {
        let _ = fs::remove_file(path(out, rows));
    }
}
