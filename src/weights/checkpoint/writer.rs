//! Writes a checkpoint directory, shard by shard, whole or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Component, Path};
use std::thread::JoinHandle;

use crate::weights::checkpoint::layout;
use crate::weights::checkpoint::layout::{ShardPlan, TensorInfo};
use crate::weights::checkpoint::staging::{Staging, failed};
use crate::weights::checkpoint::tensor::Tensor;
use crate::weights::checkpoint::write_error::WriteError;

/// Bytes of data in a shard at most, as transformers 5 has it by default for large models.
pub const SHARD_LIMIT: u64 = 5_000_000_000;

/// A checkpoint being written. Dropped before [`CheckpointWriter::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct CheckpointWriter {
    staging: Staging,
    shards: Vec<ShardPlan>,
    /// Shard and tensor in it that come next.
    next: (usize, usize),
    open: Option<File>,
    syncing: Vec<(usize, JoinHandle<io::Result<()>>)>,
    added: BTreeSet<String>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Names of the weight files.
    pub files: Vec<String>,
    /// Tensors.
    pub tensors: usize,
    /// Numbers in them.
    pub parameters: u64,
    /// Bytes of their data.
    pub bytes: u64,
}

impl CheckpointWriter {
    /// Starts a checkpoint of the tensors in `plan`, in shards of at most `shard_limit` bytes of data (see
    /// [`SHARD_LIMIT`]; a larger tensor has a shard of its own). Everything is written to `.NAME.part-PID` beside `out`
    /// until [`CheckpointWriter::finish`]; directories of that kind left by runs that died are removed.
    ///
    /// # Errors
    /// `out` exists and is not an empty directory, or cannot be made; a plan that is empty or names a tensor twice.
    pub fn create(out: &Path, plan: Vec<TensorInfo>, shard_limit: u64) -> Result<Self, WriteError> {
        let shards = layout::shards(plan, shard_limit)?;
        if shards.is_empty() {
            return Err(WriteError::NothingPlanned);
        }
        let staging = Staging::create(out)?;
        let mut added: BTreeSet<String> = shards.iter().map(|shard| shard.name.clone()).collect();
        added.extend(layout::index(&shards).map(|(name, _)| name.to_string()));
        Ok(CheckpointWriter { staging, shards, next: (0, 0), open: None, syncing: Vec::new(), added })
    }

    /// The tensor that must come next; none when all are written.
    pub fn expected(&self) -> Option<&TensorInfo> {
        let shard = self.shards.get(self.next.0)?;
        shard.tensors.get(self.next.1).map(|placed| &placed.info)
    }

    /// Writes the plan's next tensor.
    ///
    /// # Errors
    /// Another name, element type or shape than planned; bytes that do not fill the shape; the disk.
    pub fn write(&mut self, tensor: &Tensor<'_>) -> Result<(), WriteError> {
        let shard = self.shards.get(self.next.0);
        let Some((shard, placed)) = shard.and_then(|shard| Some((shard, shard.tensors.get(self.next.1)?)))
        else {
            let (expected, found) = ("no more tensors".into(), tensor.name.clone());
            return Err(WriteError::OutOfTurn { expected, found });
        };
        check(&placed.info, placed.bytes, tensor)?;
        let path = self.staging.directory().join(&shard.name);
        let file = match &mut self.open {
            Some(file) => file,
            None => {
                let mut file = File::create_new(&path).map_err(failed(&path))?;
                file.write_all(&shard.header).map_err(failed(&path))?;
                self.open.insert(file)
            }
        };
        file.seek(SeekFrom::Start(placed.begin)).map_err(failed(&path))?;
        file.write_all(&tensor.data).map_err(failed(&path))?;
        self.next.1 += 1;
        if self.next.1 == shard.tensors.len() {
            self.close_shard();
        }
        Ok(())
    }

    /// The next shard is filled while this one goes to disk.
    fn close_shard(&mut self) {
        if let Some(file) = self.open.take() {
            self.syncing.push((self.next.0, std::thread::spawn(move || file.sync_all())));
        }
        self.next = (self.next.0 + 1, 0);
    }

    /// Adds a file with these bytes. `name` may lie in a folder: `remote/code.py`.
    ///
    /// # Errors
    /// A name that leads out of the checkpoint or is taken; the disk.
    pub fn add_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        self.add(name, |file| file.write_all(bytes))
    }

    /// Adds a copy of a file; links are followed and modes not kept.
    ///
    /// # Errors
    /// `from` cannot be read; a name that leads out of the checkpoint or is taken; the disk.
    pub fn copy_file(&mut self, from: &Path, name: &str) -> Result<(), WriteError> {
        let mut source = File::open(from).map_err(failed(from))?;
        self.add(name, |file| io::copy(&mut source, file).map(|_| ()))
    }

    fn add(&mut self, name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), WriteError> {
        let relative = Path::new(name);
        let inside = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || !inside {
            return Err(WriteError::FileName { name: name.into() });
        }
        if !self.added.insert(name.into()) {
            return Err(WriteError::AddedTwice { name: name.into() });
        }
        let path = self.staging.directory().join(relative);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed(folder))?;
        }
        let mut file = File::create_new(&path).map_err(failed(&path))?;
        fill(&mut file).and_then(|()| file.sync_all()).map_err(failed(&path))
    }

    /// Writes the index, waits until everything is on disk and gives the directory its name.
    ///
    /// # Errors
    /// Planned tensors were not written; the disk; something came to stand at `out` meanwhile.
    pub fn finish(mut self) -> Result<Written, WriteError> {
        let written: usize = self.shards.iter().take(self.next.0).map(|s| s.tensors.len()).sum();
        let planned: usize = self.shards.iter().map(|s| s.tensors.len()).sum();
        if let Some(next) = self.expected() {
            let missing = planned - written - self.next.1;
            return Err(WriteError::Unfinished { next: next.name.clone(), missing });
        }
        if let Some((name, text)) = layout::index(&self.shards) {
            self.added.remove(name);
            self.add_file(name, text.as_bytes())?;
        }
        for (shard, thread) in std::mem::take(&mut self.syncing) {
            let name = self.shards.get(shard).map(|shard| shard.name.clone()).unwrap_or_default();
            let path = self.staging.directory().join(name);
            let ended =
                thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs it died")));
            ended.map_err(failed(&path))?;
        }
        let tensors = || self.shards.iter().flat_map(|shard| &shard.tensors);
        let summary = Written {
            files: self.shards.iter().map(|shard| shard.name.clone()).collect(),
            tensors: planned,
            parameters: tensors().filter_map(|t| t.info.elements()).map(|n| n as u64).sum(),
            bytes: tensors().map(|t| t.bytes as u64).sum(),
        };
        self.staging.publish()?;
        Ok(summary)
    }
}

fn check(planned: &TensorInfo, bytes: usize, tensor: &Tensor<'_>) -> Result<(), WriteError> {
    if planned.name != tensor.name {
        let (expected, found) = (planned.name.clone(), tensor.name.clone());
        return Err(WriteError::OutOfTurn { expected, found });
    }
    if (planned.dtype, &planned.shape) != (tensor.dtype, &tensor.shape) {
        let shown = |dtype: safetensors::Dtype, shape: &[usize]| format!("{dtype} {shape:?}");
        return Err(WriteError::Differs {
            tensor: planned.name.clone(),
            planned: shown(planned.dtype, &planned.shape),
            found: shown(tensor.dtype, &tensor.shape),
        });
    }
    if bytes != tensor.data.len() {
        let (tensor, found) = (planned.name.clone(), tensor.data.len());
        return Err(WriteError::Length { tensor, expected: bytes, found });
    }
    Ok(())
}
