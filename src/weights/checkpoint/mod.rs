//! Hugging Face checkpoint directories: validated, memory-mapped, written whole or not at all.
//!
//! Deliberately absent: what a tensor means (see [`crate::model::tensors`]).

pub mod error;
mod expected;
pub mod extras;
pub mod fingerprint;
pub mod gather;
pub mod header;
mod index;
pub mod layout;
mod shard;
mod staging;
pub mod tensor;
pub mod verification;
pub mod write_error;
pub mod writer;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::model::read;
use crate::model::read::ReadError;
use crate::model::spec::ModelSpec;
use crate::model::tensors::Role;
use crate::names;
use crate::weights::checkpoint::error::CheckpointError;
use crate::weights::checkpoint::header::Entry;
use crate::weights::checkpoint::shard::Shard;
use crate::weights::checkpoint::tensor::Tensor;

pub use crate::weights::checkpoint::expected::{Stray, StrayKind};
pub use crate::weights::checkpoint::index::{INDEX, SINGLE};

/// A checkpoint whose every header is sound and fits its configuration. Weights are mapped, not read: memory grows by
/// what is touched, until [`Checkpoint::release`] gives it back.
#[derive(Debug)]
pub struct Checkpoint {
    directory: PathBuf,
    spec: ModelSpec,
    config: Vec<u8>,
    shards: Vec<Shard>,
    entries: Entries,
    roles: BTreeMap<(Option<u64>, Role), String>,
    strays: Vec<Stray>,
    total_size: Option<u64>,
}

/// Tensor name -> index of its shard, and where it lies there.
type Entries = BTreeMap<String, (usize, Entry)>;

impl Checkpoint {
    /// Opens a directory with `config.json` and safetensors weights, and checks every header against the others, the
    /// index and the configuration. No weight is read.
    ///
    /// # Errors
    /// Every way in which the files do not fit each other or are not of a dense, unquantised decoder.
    pub fn open(directory: &Path) -> Result<Checkpoint, CheckpointError> {
        if !directory.is_dir() {
            return Err(CheckpointError::NotADirectory { path: directory.into() });
        }
        let config_path = directory.join("config.json");
        if !config_path.exists() {
            return Err(ReadError::NoConfig { path: directory.into() }.into());
        }
        let index = index::read(directory)?;
        let (shards, entries) = open_shards(directory, &index.files)?;
        check_placed(directory, &index, &shards, &entries)?;
        let spec = read::read(directory)?;
        let config = fs::read(&config_path)
            .map_err(|error| CheckpointError::Unreadable { path: config_path, error })?;
        let found = expected::Found { directory, shards: &shards, entries: &entries, index: &index };
        let (roles, strays) = expected::check(&spec, &found)?;
        let total_size = index.total_size;
        Ok(Checkpoint {
            directory: directory.into(),
            spec,
            config,
            shards,
            entries,
            roles,
            strays,
            total_size,
        })
    }

    /// The model that `config.json` describes.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.directory
    }

    /// The bytes of `config.json`.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Names of all tensors, strays included, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Names of all tensors, strays included, in the order they lie in the files: the order to stream them in.
    pub fn stored_order(&self) -> Vec<&str> {
        let mut order: Vec<_> =
            self.entries.iter().map(|(name, (shard, entry))| (*shard, entry.begin, name.as_str())).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, name)| name).collect()
    }

    /// Tensors that the model has no use for, sorted by name.
    pub fn strays(&self) -> &[Stray] {
        &self.strays
    }

    /// Bytes of all tensors, strays included.
    pub fn total_bytes(&self) -> u64 {
        self.entries.values().map(|(_, entry)| (entry.end - entry.begin) as u64).sum()
    }

    /// Bytes of all tensors as the index states them (`metadata.total_size`); engines do not read it.
    pub fn stated_bytes(&self) -> Option<u64> {
        self.total_size
    }

    /// Bytes of the largest tensor.
    pub fn largest_tensor_bytes(&self) -> u64 {
        self.entries.values().map(|(_, entry)| (entry.end - entry.begin) as u64).max().unwrap_or(0)
    }

    /// Names of the weight files, sorted.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.shards.iter().map(|shard| shard.name.as_str())
    }

    /// A tensor by name; borrows the mapped file.
    ///
    /// # Errors
    /// No tensor of this name.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>, CheckpointError> {
        let Some((shard, entry)) = self.entries.get(name) else {
            let suggestion = names::did_you_mean(names::closest(name, self.names()));
            let (directory, tensor) = (self.directory.clone(), name.into());
            return Err(CheckpointError::NoSuchTensor { directory, tensor, suggestion });
        };
        let data = self.shards.get(*shard).map(|s| s.bytes(entry.begin..entry.end)).unwrap_or_default();
        let (dtype, shape) = (entry.dtype, entry.shape.clone());
        Ok(Tensor { name: name.into(), dtype, shape, data: Cow::Borrowed(data) })
    }

    /// A tensor by what it is to the network; none where the model has no such tensor (a bias it lacks, a layer beyond
    /// the last, a head that shares the embedding).
    ///
    /// # Errors
    /// None today: every tensor the configuration asks for is there once a checkpoint is open.
    pub fn get(&self, role: Role, layer: Option<u64>) -> Result<Option<Tensor<'_>>, CheckpointError> {
        self.roles.get(&(layer, role)).map(|name| self.tensor(name)).transpose()
    }

    /// Gives the memory behind a tensor of this checkpoint back to the system. It is read again from the file if it is
    /// used again; a tensor that owns its bytes is left alone.
    pub fn release(&self, tensor: &Tensor<'_>) {
        if let (Cow::Borrowed(_), Some((shard, entry))) = (&tensor.data, self.entries.get(&tensor.name))
            && let Some(shard) = self.shards.get(*shard)
        {
            shard.release(entry.begin..entry.end);
        }
    }

    /// SHA-256 over what tells two checkpoints apart, in hexadecimal: `config.json`, names and sizes of the files, and of
    /// every tensor (in the order of their names) name, element type, shape, first and last 4 KiB. The middle of a tensor
    /// is not read.
    pub fn fingerprint(&self) -> String {
        fingerprint::of(self)
    }

    /// The file and the offset in it of bytes that are borrowed from this checkpoint: reading them there is quicker than
    /// touching the map, page by page.
    pub(crate) fn origin(&self, bytes: &[u8]) -> Option<(&File, u64)> {
        self.shards.iter().find_map(|shard| Some((shard.file(), shard.offset_of(bytes)? as u64)))
    }

    /// The file a tensor lies in.
    pub fn file_of(&self, name: &str) -> Option<&str> {
        let (shard, _) = self.entries.get(name)?;
        self.shards.get(*shard).map(|shard| shard.name.as_str())
    }
}

fn open_shards(directory: &Path, files: &[String]) -> Result<(Vec<Shard>, Entries), CheckpointError> {
    let (mut shards, mut all) = (Vec::<Shard>::new(), Entries::new());
    for name in files {
        let (shard, entries) = Shard::open(directory, name)?;
        for entry in entries {
            expected::refuse_telltale(&shard.path(directory), &entry)?;
            if let Some((first, _)) = all.get(&entry.name) {
                let first = shards.get(*first).map(|s| s.name.clone()).unwrap_or_default();
                return Err(CheckpointError::InTwoShards { tensor: entry.name, first, second: name.clone() });
            }
            all.insert(entry.name.clone(), (shards.len(), entry));
        }
        shards.push(shard);
    }
    Ok((shards, all))
}

fn check_placed(
    directory: &Path,
    index: &index::Index,
    shards: &[Shard],
    entries: &Entries,
) -> Result<(), CheckpointError> {
    for (tensor, file) in index.placed.iter().flatten() {
        let found = entries.get(tensor).and_then(|(shard, _)| shards.get(*shard));
        if found.is_none_or(|shard| shard.name != *file) {
            let index = directory.join(INDEX);
            return Err(CheckpointError::IndexMissingTensor {
                index,
                tensor: tensor.clone(),
                file: file.clone(),
            });
        }
    }
    Ok(())
}
