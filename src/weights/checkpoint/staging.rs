//! A directory that appears whole or not at all: filled under a temporary name beside the target, then renamed.

use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::weights::checkpoint::write_error::WriteError;

/// Held while a directory is being filled. It tells a run that goes on from one that died, on any machine that shares
/// the file system, where process numbers say nothing.
const LOCK: &str = ".lock";

/// A directory being filled; removed when dropped before it is published.
#[derive(Debug)]
pub(crate) struct Staging {
    directory: PathBuf,
    target: PathBuf,
    lock: Option<File>,
}

impl Staging {
    /// Makes `.NAME.part-PID` beside `target`, after removing such directories of runs that died.
    pub(crate) fn create(target: &Path) -> Result<Staging, WriteError> {
        let Some(name) = target.file_name() else { return Err(WriteError::NoName { path: target.into() }) };
        refuse_occupied(target)?;
        let parent = parent(target);
        fs::create_dir_all(parent).map_err(failed(parent))?;
        let prefix = format!(".{}.part-", name.to_string_lossy());
        remove_stale(parent, &prefix)?;
        let directory = parent.join(format!("{prefix}{}", std::process::id()));
        fs::create_dir(&directory).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => WriteError::InUse { path: directory.clone() },
            _ => WriteError::Io { path: directory.clone(), error },
        })?;
        let mut staging = Staging { directory, target: target.into(), lock: None };
        let path = staging.directory.join(LOCK);
        let lock = File::create(&path).and_then(|file| file.lock().map(|()| file)).map_err(failed(&path))?;
        staging.lock = Some(lock);
        Ok(staging)
    }

    /// Where files are put meanwhile.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Gives the directory its name. What is in it must be on disk already.
    pub(crate) fn publish(mut self) -> Result<(), WriteError> {
        let lock = self.directory.join(LOCK);
        fs::remove_file(&lock).map_err(failed(&lock))?;
        sync(&self.directory)?;
        refuse_occupied(&self.target)?;
        fs::rename(&self.directory, &self.target).map_err(failed(&self.target))?;
        self.lock = None;
        self.directory = PathBuf::new();
        sync(parent(&self.target))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.directory.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// An error of the system with its place.
pub(crate) fn failed(path: &Path) -> impl Fn(io::Error) -> WriteError {
    move |error| WriteError::Io { path: path.into(), error }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a directory's entries durable, where the system can.
fn sync(directory: &Path) -> Result<(), WriteError> {
    match cfg!(unix) {
        true => File::open(directory).and_then(|file| file.sync_all()).map_err(failed(directory)),
        false => Ok(()),
    }
}

fn refuse_occupied(target: &Path) -> Result<(), WriteError> {
    let occupied = match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(WriteError::Io { path: target.into(), error }),
        Ok(found) if found.is_dir() => fs::read_dir(target).map_err(failed(target))?.next().is_some(),
        Ok(_) => true,
    };
    match occupied {
        true => Err(WriteError::Exists { path: target.into() }),
        false => Ok(()),
    }
}

fn remove_stale(parent: &Path, prefix: &str) -> Result<(), WriteError> {
    for entry in fs::read_dir(parent).map_err(failed(parent))?.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse::<u32>().ok());
        if let Some(process) = process
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && is_stale(&entry.path(), process)
        {
            fs::remove_dir_all(entry.path()).map_err(failed(&entry.path()))?;
        }
    }
    Ok(())
}

/// Whether nobody fills the directory any more: its lock is free, or it has none and its process is gone.
fn is_stale(directory: &Path, process: u32) -> bool {
    match File::open(directory.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(_) => {
            let processes = Path::new("/proc");
            let gone =
                processes.join("self").exists() && !processes.join(OsStr::new(&process.to_string())).exists();
            gone || process == std::process::id()
        }
    }
}
