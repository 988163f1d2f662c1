//! The folder a run writes to: whose it is, and that only one run at a time is in it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Folder of the records; that it is there marks the folder of a run.
const STAGES: &str = "stages";

/// A folder that cannot be worked in.
#[derive(Debug, thiserror::Error)]
pub enum WorkDirError {
    /// It holds something else.
    #[error(
        "{} holds other things than an earlier run: expected a new or empty folder; name one with --work-dir",
        path.display()
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// A run is in it, or a stage outlived the run that started it.
    #[error("{}: another run, or a stage it started, is still at work there; wait for it or end it", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot work in {}: {error}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// The folder, held until this is dropped and every process that was given the lock has ended.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    lock: File,
}

impl WorkDir {
    /// Takes a folder that is new, empty, or of an earlier run.
    ///
    /// # Errors
    /// [`WorkDirError`].
    pub fn take(path: &Path) -> Result<Self, WorkDirError> {
        let failed = |error| WorkDirError::Io { path: path.into(), error };
        fs::create_dir_all(path).map_err(failed)?;
        let stages = path.join(STAGES);
        if !stages.is_dir() && fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(WorkDirError::Occupied { path: path.into() });
        }
        fs::create_dir_all(&stages).map_err(failed)?;
        let options = File::options().read(true).write(true).create(true).truncate(false).to_owned();
        let lock = options.open(stages.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), lock }),
            Err(TryLockError::WouldBlock) => Err(WorkDirError::Busy { path: path.into() }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of the records.
    pub fn stages(&self) -> PathBuf {
        self.path.join(STAGES)
    }

    /// The lock, an empty file. A process that has it open holds the folder too, so that a stage whose run was killed
    /// keeps others out until it has ended.
    ///
    /// # Errors
    /// What the system says.
    pub fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once_and_only_if_it_is_free() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("run");
        let first = WorkDir::take(&path).unwrap();
        assert!(matches!(WorkDir::take(&path), Err(WorkDirError::Busy { .. })));
        let stage = first.lock().unwrap();
        drop(first);
        assert!(matches!(WorkDir::take(&path), Err(WorkDirError::Busy { .. })), "the stage still holds it");
        drop(stage);
        assert!(WorkDir::take(&path).is_ok());
        fs::write(scratch.path().join("mine"), "").unwrap();
        assert!(matches!(WorkDir::take(scratch.path()), Err(WorkDirError::Occupied { .. })));
        assert!(scratch.path().join("mine").exists() && !scratch.path().join(STAGES).exists());
    }
}
