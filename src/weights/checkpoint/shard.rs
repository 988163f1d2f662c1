//! One file of a checkpoint, mapped into memory.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap};

use crate::weights::checkpoint::error::CheckpointError;
use crate::weights::checkpoint::header::{self, Entry};

/// A mapped safetensors file whose header is sound.
#[derive(Debug)]
pub struct Shard {
    /// File name inside the checkpoint.
    pub name: String,
    map: Mmap,
    file: File,
}

impl Shard {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// The file cannot be opened or mapped; its header is not sound.
    pub fn open(directory: &Path, name: &str) -> Result<(Shard, Vec<Entry>), CheckpointError> {
        let path = directory.join(name);
        let unreadable = |error| CheckpointError::Unreadable { path: path.clone(), error };
        let file = File::open(&path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.is_dir() {
            return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
        }
        // SAFETY: the map is read only. Should another process change or cut the file meanwhile, numbers change or the
        // system ends us with SIGBUS, as it would for every reader of mapped weights.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        let entries = header::read(&map)
            .map_err(|error| CheckpointError::Header { file: path.clone(), error: Box::new(error) })?;
        let _ = map.advise(Advice::Sequential);
        Ok((Shard { name: name.into(), map, file }, entries))
    }

    /// Its path.
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(&self.name)
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.map.len()
    }

    /// Bytes of the file, none where the range lies outside it.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.map.get(range).unwrap_or_default()
    }

    /// The file, for reading at places.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where in the file `bytes` lie, if they are part of its map.
    pub fn offset_of(&self, bytes: &[u8]) -> Option<usize> {
        let (map, bytes) = (self.map.as_ptr_range(), bytes.as_ptr_range());
        let inside = map.start <= bytes.start && bytes.end <= map.end;
        inside.then(|| bytes.start.addr() - map.start.addr())
    }

    /// Gives the memory behind `range` back to the system; it is read again from the file if it is used again.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        {
            let length = range.end.min(self.map.len()).saturating_sub(range.start);
            // SAFETY: the map is of a file and never written to, so that pages that are dropped come back with the same
            // bytes.
            let _ = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, length)
            };
        }
    }
}
