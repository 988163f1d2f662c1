//! Files of studies: read, begun, and appended to by many at once.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use archplan::quality::study::Study;
use archplan::quality::study::line::Line;

use crate::cli::Failure;

/// A study's file, held for this process alone until it is dropped.
pub struct StudyFile {
    file: File,
    /// What it says.
    pub study: Study,
    name: String,
}

/// Reads a study that others may go on with.
pub fn read(path: &Path) -> Result<Study, Failure> {
    Ok(StudyFile::open(path)?.study)
}

/// Begins a study with `lines`, the header first; an older file of that name is replaced.
pub fn begin(path: &Path, lines: &[Line]) -> Result<(), Failure> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line).map_err(Failure::failed)?);
        text.push('\n');
    }
    Study::read(&text).map_err(Failure::failed)?;
    archplan::files::write_atomically(path, text.as_bytes())
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

impl StudyFile {
    /// Opens and locks it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let wrong = |error: &dyn std::fmt::Display| Failure::bad_input(format!("{name}: {error}"));
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| wrong(&e))?;
        file.lock().map_err(|e| wrong(&e))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|e| wrong(&e))?;
        let study = Study::read(&text).map_err(|e| wrong(&e))?;
        // Half a line that a killed process left would make the next one unreadable.
        let whole = text.rfind('\n').map_or(0, |at| at + 1) as u64;
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0))).map_err(|e| wrong(&e))?;
        Ok(Self { file, study, name })
    }

    /// Adds lines; all of them are checked before any is written.
    pub fn append(&mut self, lines: Vec<Line>) -> Result<(), Failure> {
        let mut text = String::new();
        let mut study = self.study.clone();
        for line in lines {
            text.push_str(&serde_json::to_string(&line).map_err(Failure::failed)?);
            text.push('\n');
            study.take(line).map_err(|e| Failure::bad_input(format!("{}: {e}", self.name)))?;
        }
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|e| Failure::failed(format!("{}: {e}", self.name)))?;
        self.study = study;
        Ok(())
    }
}
