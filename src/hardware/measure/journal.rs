//! What a session has measured so far, one line a call: nothing is lost when it is interrupted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::hardware::kernel::KernelCall;
use crate::hardware::measure::timing::Timing;
use crate::hardware::profile::table::Row;
use crate::units::Seconds;

/// What measurements of one journal have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Version of this tool: another one may have other kernels.
    pub archplan: String,
    /// CPU model.
    pub cpu: String,
    /// Threads.
    pub threads: usize,
}

#[derive(Serialize, Deserialize)]
struct Line {
    call: KernelCall,
    latency_us: f64,
    spread_percent: f64,
    repeats: usize,
}

/// The journal of a session, open for more.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It is of other conditions.
    #[error(
        "{path} was measured with {found:?}, this is {expected:?}: measure under the same conditions, or start afresh with --fresh"
    )]
    OtherConditions {
        /// The journal.
        path: String,
        /// Its conditions.
        found: Box<Conditions>,
        /// Those of now.
        expected: Box<Conditions>,
    },
    /// A line is no measurement.
    #[error("{path}:{line}: not a measurement of this tool ({reason}): start afresh with --fresh")]
    Defective {
        /// The journal.
        path: String,
        /// Line from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// It cannot be read or written.
    #[error("{path}: {reason}")]
    Io {
        /// The journal.
        path: String,
        /// Why.
        reason: io::Error,
    },
}

/// Where the journal of a profile that will be `dir` lies.
pub fn path_of(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    dir.with_file_name(format!(".{name}.measurements.jsonl"))
}

impl Journal {
    /// Opens a journal, with what it holds; `fresh` forgets that. A last line that was cut off is dropped.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(path: &Path, conditions: &Conditions, fresh: bool) -> Result<(Self, Vec<Row>), JournalError> {
        let io = |reason| JournalError::Io { path: path.display().to_string(), reason };
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(io)?;
        }
        let text = match fs::read_to_string(path) {
            Ok(text) if !fresh => text,
            Ok(_) => String::new(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(io(e)),
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let rows = if whole.is_empty() { Vec::new() } else { read(path, whole, conditions)? };
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path).map_err(io)?;
        file.set_len(whole.len() as u64).map_err(io)?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(io)?;
        if whole.is_empty() {
            let head = serde_json::to_string(conditions).map_err(|e| io(io::Error::other(e)))?;
            writeln!(file, "{head}").map_err(io)?;
        }
        Ok((Self { path: path.to_path_buf(), file }, rows))
    }

    /// Adds a measurement.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn add(&mut self, call: &KernelCall, timing: &Timing) -> Result<Row, JournalError> {
        let line = Line {
            call: *call,
            latency_us: timing.median.us(),
            spread_percent: timing.spread * 100.0,
            repeats: timing.repeats,
        };
        let io = |reason| JournalError::Io { path: self.path.display().to_string(), reason };
        let text = serde_json::to_string(&line).map_err(|e| io(io::Error::other(e)))?;
        writeln!(self.file, "{text}").and_then(|()| self.file.sync_data()).map_err(io)?;
        Ok(row(&line))
    }

    /// Removes the journal once a profile stands.
    pub fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn row(line: &Line) -> Row {
    let (latency, spread) = (Seconds::from_us(line.latency_us), line.spread_percent / 100.0);
    Row { call: line.call, latency, spread: Some(spread) }
}

fn read(path: &Path, text: &str, conditions: &Conditions) -> Result<Vec<Row>, JournalError> {
    let defective = |line: usize, reason: String| JournalError::Defective {
        path: path.display().to_string(),
        line,
        reason,
    };
    let mut lines = text.lines().enumerate();
    let head = lines.next().map_or("", |(_, head)| head);
    let found: Conditions = serde_json::from_str(head).map_err(|e| defective(1, e.to_string()))?;
    if found != *conditions {
        let (path, expected) = (path.display().to_string(), Box::new(conditions.clone()));
        return Err(JournalError::OtherConditions { path, found: Box::new(found), expected });
    }
    let mut rows: Vec<Row> = Vec::new();
    for (i, text) in lines {
        let line: Line = serde_json::from_str(text).map_err(|e| defective(i + 1, e.to_string()))?;
        let fine = |x: f64, least: f64| x.is_finite() && x >= least;
        if !fine(line.latency_us, f64::MIN_POSITIVE) || !fine(line.spread_percent, 0.0) {
            return Err(defective(i + 1, "a latency or spread that is no such number".to_string()));
        }
        if rows.iter().any(|row| row.call == line.call) {
            return Err(defective(i + 1, "the call was measured on an earlier line".to_string()));
        }
        rows.push(row(&line));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::DType;

    fn conditions(threads: usize) -> Conditions {
        Conditions { archplan: "0".to_string(), cpu: "toy".to_string(), threads }
    }

    #[test]
    fn goes_on_where_it_was_cut_off() {
        let scratch = tempfile::tempdir().unwrap();
        let path = path_of(&scratch.path().join("cpu"));
        let call = |m| KernelCall::Gemm { m, n: 8, k: 8, dtype: DType::F32 };
        let timing = Timing { median: Seconds(3e-6), spread: 0.02, repeats: 9 };
        let (mut journal, rows) = Journal::open(&path, &conditions(2), false).unwrap();
        assert!(rows.is_empty());
        for m in [1, 2] {
            journal.add(&call(m), &timing).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut journal, rows) = Journal::open(&path, &conditions(2), false).unwrap();
            let lines = whole[..cut].iter().filter(|b| **b == b'\n').count();
            assert_eq!(rows.len(), lines.saturating_sub(1), "cut at {cut}");
            journal.add(&call(7), &timing).unwrap();
            let (_, rows) = Journal::open(&path, &conditions(2), false).unwrap();
            assert_eq!(rows.last().map(|row| row.call), Some(call(7)));
        }
        assert!(matches!(
            Journal::open(&path, &conditions(3), false),
            Err(JournalError::OtherConditions { .. })
        ));
        assert_eq!(Journal::open(&path, &conditions(3), true).unwrap().1, []);
    }

    #[test]
    fn refuses_what_is_no_measurement() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("j");
        let (mut journal, _) = Journal::open(&path, &conditions(2), false).unwrap();
        let call = KernelCall::Gemm { m: 1, n: 8, k: 8, dtype: DType::F32 };
        journal.add(&call, &Timing { median: Seconds(3e-6), spread: 0.02, repeats: 9 }).unwrap();
        let sound = fs::read_to_string(&path).unwrap();
        let last = sound.lines().last().unwrap();
        for (bad, says) in [
            ("{}\n".to_string(), ":3: not a measurement"),
            (format!("{last}\n"), "earlier line"),
            (last.replace("3.0", "-3.0") + "\n", "no such number"),
        ] {
            fs::write(&path, format!("{sound}{bad}")).unwrap();
            let error = Journal::open(&path, &conditions(2), false).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
