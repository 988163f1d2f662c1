//! Writes a checkpoint directory, shard by shard, whole or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Component, Path};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::weights::checkpoint::Checkpoint;
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
    open: Option<Open>,
    buffer: Vec<u8>,
    syncing: Vec<(usize, JoinHandle<io::Result<()>>)>,
    added: BTreeSet<String>,
}

/// Bytes after which the disk is asked to begin.
const SYNC_STEP: usize = 64 << 20;

/// Bytes copied at a time: few enough to stay in the processor's cache.
#[cfg(unix)]
const COPY_STEP: usize = 1 << 20;

/// A file being filled. A thread brings it to disk meanwhile, and wholly once this is dropped: otherwise the disk would idle
/// while the processor copies, and the processor while the disk writes.
#[derive(Debug)]
struct Open {
    file: File,
    sync: SyncSender<()>,
}

impl Open {
    fn create(path: &Path, header: &[u8]) -> io::Result<(Open, JoinHandle<io::Result<()>>)> {
        let mut file = File::create_new(path)?;
        file.write_all(header)?;
        let (sync, asked) = sync_channel(1);
        let same = file.try_clone()?;
        let thread = std::thread::spawn(move || {
            while asked.recv().is_ok() {
                same.sync_data()?;
            }
            same.sync_all()
        });
        Ok((Open { file, sync }, thread))
    }

    /// Some more was written; a request that waits already is enough.
    fn wrote(&self) {
        let _ = self.sync.try_send(());
    }
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
        Ok(CheckpointWriter {
            staging,
            shards,
            next: (0, 0),
            open: None,
            buffer: Vec::new(),
            syncing: Vec::new(),
            added,
        })
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
        self.put(tensor, |open, _| {
            tensor.data.chunks(SYNC_STEP).try_for_each(|part| {
                open.file.write_all(part)?;
                open.wrote();
                Ok(())
            })
        })
    }

    /// Writes the plan's next tensor as [`CheckpointWriter::write`] does; bytes that are borrowed from `parent` go from file
    /// to file without touching its map.
    ///
    /// # Errors
    /// Those of [`CheckpointWriter::write`]; the parent's file cannot be read.
    pub fn copy(&mut self, parent: &Checkpoint, tensor: &Tensor<'_>) -> Result<(), WriteError> {
        match parent.origin(&tensor.data) {
            #[cfg(unix)]
            Some((source, offset)) => self.put(tensor, |open, buffer| {
                let (mut at, end) = (offset, offset + tensor.data.len() as u64);
                buffer.resize(COPY_STEP, 0);
                while at < end {
                    let step = (end - at).min(COPY_STEP as u64) as usize;
                    let part = buffer.get_mut(..step).unwrap_or_default();
                    std::os::unix::fs::FileExt::read_exact_at(source, part, at)?;
                    open.file.write_all(part)?;
                    at += step as u64;
                    if (at - offset).is_multiple_of(SYNC_STEP as u64) || at == end {
                        open.wrote();
                    }
                }
                Ok(())
            }),
            _ => self.write(tensor),
        }
    }

    /// Has `fill` write the plan's next tensor at its place.
    fn put(
        &mut self,
        tensor: &Tensor<'_>,
        fill: impl FnOnce(&mut Open, &mut Vec<u8>) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        let shard = self.shards.get(self.next.0);
        let Some((shard, placed)) = shard.and_then(|shard| Some((shard, shard.tensors.get(self.next.1)?)))
        else {
            let (expected, found) = ("no more tensors".into(), tensor.name.clone());
            return Err(WriteError::OutOfTurn { expected, found });
        };
        check(&placed.info, placed.bytes, tensor)?;
        let path = self.staging.directory().join(&shard.name);
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let (open, thread) = Open::create(&path, &shard.header).map_err(failed(&path))?;
                self.syncing.push((self.next.0, thread));
                self.open.insert(open)
            }
        };
        open.file.seek(SeekFrom::Start(placed.begin)).map_err(failed(&path))?;
        fill(open, &mut self.buffer).map_err(failed(&path))?;
        self.next.1 += 1;
        if self.next.1 == shard.tensors.len() {
            self.open = None;
            self.next = (self.next.0 + 1, 0);
        }
        Ok(())
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
