//! Which files a checkpoint consists of: its index, or the single file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

use serde::Deserialize;

use crate::weights::checkpoint::error::CheckpointError;

/// File name of the index.
pub const INDEX: &str = "model.safetensors.index.json";

/// File name of a checkpoint in one file.
pub const SINGLE: &str = "model.safetensors";

/// The files of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// Names of the files, sorted.
    pub files: Vec<String>,
    /// Tensor name -> file name; none for a checkpoint without an index.
    pub placed: Option<BTreeMap<String, String>>,
    /// Bytes of all tensors, as the index states them.
    pub total_size: Option<u64>,
}

#[derive(Deserialize)]
struct Written {
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
    weight_map: BTreeMap<String, String>,
}

/// Finds the files of a checkpoint; those that an index names exist.
///
/// # Errors
/// No safetensors weights; an index that is not one or that names a file that is not there; both an index and a
/// `model.safetensors` it does not mention.
pub fn read(directory: &Path) -> Result<Index, CheckpointError> {
    let path = directory.join(INDEX);
    if !path.exists() {
        return match directory.join(SINGLE).exists() {
            true => Ok(Index { files: vec![SINGLE.into()], ..Index::default() }),
            false => Err(CheckpointError::NoWeights {
                directory: directory.into(),
                others: other_weights(directory),
            }),
        };
    }
    let text = fs::read(&path).map_err(|error| CheckpointError::Unreadable { path: path.clone(), error })?;
    let written: Written = serde_json::from_slice(&text)
        .map_err(|error| CheckpointError::IndexSyntax { index: path.clone(), message: error.to_string() })?;
    for (tensor, file) in &written.weight_map {
        let mut parts = Path::new(file).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        let (index, tensor) = (path.clone(), tensor.clone());
        if !plain {
            return Err(CheckpointError::IndexFileName { index, tensor, file: file.clone() });
        }
        if !directory.join(file).exists() {
            return Err(CheckpointError::IndexMissingFile { index, tensor, file: file.clone() });
        }
    }
    let mut files: Vec<String> = written.weight_map.values().cloned().collect();
    files.sort_unstable();
    files.dedup();
    if directory.join(SINGLE).exists() && !files.iter().any(|file| file == SINGLE) {
        return Err(CheckpointError::Ambiguous { directory: directory.into() });
    }
    let total_size = written.metadata.and_then(|m| m.get("total_size")?.as_u64());
    Ok(Index { files, placed: Some(written.weight_map), total_size })
}

/// Weights in other formats, as a list for a message.
fn other_weights(directory: &Path) -> String {
    let Ok(entries) = fs::read_dir(directory) else { return String::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| [".bin", ".pth", ".pt", ".gguf", ".safetensors"].iter().any(|end| name.ends_with(end)))
        .collect();
    names.sort_unstable();
    names.truncate(4);
    match names.is_empty() {
        true => String::new(),
        false => format!(" (it has {})", names.join(", ")),
    }
}
