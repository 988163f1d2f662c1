//! A checkpoint's tensors against those its configuration asks for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use crate::model::spec::ModelSpec;
use crate::model::tensors;
use crate::model::tensors::Role;
use crate::names;
use crate::weights::checkpoint::error::CheckpointError;
use crate::weights::checkpoint::header::Entry;
use crate::weights::checkpoint::index::{INDEX, Index};
use crate::weights::checkpoint::shard::Shard;

/// Ends of names that only quantised checkpoints have (compressed-tensors, GPTQ, AWQ, bitsandbytes, FP8, Ascend).
const QUANTISED: &[&str] = &[
    "_scale",
    "_scale_inv",
    "_scales",
    "_zero_point",
    "_packed",
    "_g_idx",
    ".scales",
    ".qweight",
    ".qzeros",
    ".g_idx",
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".SCB",
    ".weight_offset",
    ".deq_scale",
    ".quant_bias",
    ".input_offset",
];

/// Parts of names that only mixtures of experts have.
const EXPERTS: &[&str] = &["experts", "shared_expert", "shared_experts", "block_sparse_moe"];

/// Why a tensor is not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrayKind {
    /// Frequencies of the rotary embedding, which engines compute.
    RotaryCache,
    /// LM head of a model that shares the embedding; engines read the embedding.
    TiedHead,
    /// Not known.
    Unknown,
}

/// A tensor that the model has no use for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Its name.
    pub name: String,
    /// Why it is not needed.
    pub kind: StrayKind,
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.kind {
            StrayKind::RotaryCache => "rotary frequencies, which engines compute",
            StrayKind::TiedHead => "the head shares the embedding, which engines read instead",
            StrayKind::Unknown => "no part of the model that config.json describes",
        };
        write!(f, "{}: {why}", self.name)
    }
}

/// What was found in a directory.
pub(crate) struct Found<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) shards: &'a [Shard],
    pub(crate) entries: &'a BTreeMap<String, (usize, Entry)>,
    pub(crate) index: &'a Index,
}

type Roles = BTreeMap<(Option<u64>, Role), String>;

impl Found<'_> {
    fn file(&self, shard: usize) -> PathBuf {
        self.shards.get(shard).map(|shard| shard.path(self.directory)).unwrap_or_default()
    }
}

/// Refuses a tensor whose name or type says that the checkpoint is quantised or has experts, whatever its
/// configuration says.
pub(crate) fn refuse_telltale(file: &Path, entry: &Entry) -> Result<(), CheckpointError> {
    let (file, tensor) = (file.to_path_buf(), entry.name.clone());
    if entry.name.split('.').any(|part| EXPERTS.contains(&part)) {
        return Err(CheckpointError::Experts { file, tensor });
    }
    if QUANTISED.iter().any(|end| entry.name.ends_with(end)) {
        return Err(CheckpointError::Quantised { file, tensor });
    }
    if entry.name.ends_with(".weight") && !floating(entry.dtype) {
        return Err(CheckpointError::NotFloating { file, tensor, dtype: entry.dtype });
    }
    Ok(())
}

fn floating(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Compares with what the model needs; names by role, and what nobody needs.
pub(crate) fn check(spec: &ModelSpec, found: &Found) -> Result<(Roles, Vec<Stray>), CheckpointError> {
    let mut roles = Roles::new();
    let mut unused: BTreeMap<&str, usize> =
        found.entries.iter().map(|(name, (shard, _))| (name.as_str(), *shard)).collect();
    for wanted in tensors::all(spec) {
        let Some((shard, entry)) = found.entries.get(&wanted.name) else {
            let suggestion = names::closest(
                &wanted.name,
                unused
                    .keys()
                    .copied()
                    .filter(|name| name.ends_with(wanted.name.trim_start_matches("model."))),
            );
            return Err(CheckpointError::Missing {
                directory: found.directory.into(),
                suggestion: suggestion.map(|name| format!(" (it has `{name}`)")).unwrap_or_default(),
                tensor: wanted.name,
                shape: wanted.shape,
            });
        };
        let file = || found.file(*shard);
        if !floating(entry.dtype) {
            return Err(CheckpointError::NotFloating {
                file: file(),
                tensor: wanted.name,
                dtype: entry.dtype,
            });
        }
        if !entry.shape.iter().map(|dim| *dim as u64).eq(wanted.shape.iter().copied()) {
            let (expected, shape) = (wanted.shape, entry.shape.clone());
            return Err(CheckpointError::Shape { file: file(), tensor: wanted.name, expected, found: shape });
        }
        if found.index.placed.as_ref().is_some_and(|placed| !placed.contains_key(&wanted.name)) {
            let file = found.shards.get(*shard).map(|s| s.name.clone()).unwrap_or_default();
            return Err(CheckpointError::NotIndexed {
                index: found.directory.join(INDEX),
                tensor: wanted.name,
                file,
            });
        }
        unused.remove(wanted.name.as_str());
        roles.insert((wanted.layer, wanted.role), wanted.name);
    }
    let strays = unused.into_iter().map(|(name, shard)| stray(spec, found, name, shard));
    Ok((roles, strays.collect::<Result<_, _>>()?))
}

fn stray(spec: &ModelSpec, found: &Found, name: &str, shard: usize) -> Result<Stray, CheckpointError> {
    let parameter = name.ends_with(".weight") || name.ends_with(".bias");
    let kind = if name.contains("rotary_emb.") {
        StrayKind::RotaryCache
    } else if name == "lm_head.weight" && spec.tied_embeddings {
        StrayKind::TiedHead
    } else if name.starts_with("model.layers.") && parameter {
        return Err(CheckpointError::Unexpected { file: found.file(shard), tensor: name.into() });
    } else {
        StrayKind::Unknown
    };
    Ok(Stray { name: name.into(), kind })
}
