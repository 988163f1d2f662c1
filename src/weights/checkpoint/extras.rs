//! What else lies in a checkpoint directory: copied for the child, or dropped with the reason.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::weights::checkpoint::index::INDEX;
use crate::weights::checkpoint::write_error::WriteError;
use crate::weights::checkpoint::writer::CheckpointWriter;

/// Folders deeper than this are not looked into.
const DEEPEST: usize = 8;

/// Why a file of the parent is not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Weights, their index, `config.json`, `archplan.json`: the child has its own.
    WrittenAnew,
    /// The model card describes the parent.
    ModelCard,
    /// Checksums and signatures of the parent's files.
    NoLongerTrue,
    /// The parent's weights, or their shape, in another format.
    OtherFormat,
    /// State of the parent's training.
    TrainingState,
    /// Version control and download caches.
    Repository,
    /// A link to a folder, or a folder too deep.
    NotFollowed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::WrittenAnew => "written anew",
            Reason::ModelCard => "describes the parent; a model card is written anew",
            Reason::NoLongerTrue => "checksums or signatures of the parent's files, no longer true",
            Reason::OtherFormat => "the parent's weights or their shape in another format",
            Reason::TrainingState => "state of the parent's training",
            Reason::Repository => "version control or a download cache",
            Reason::NotFollowed => "a link to a folder, or a folder too deep",
        })
    }
}

/// A file that was not taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Its name; a folder's ends in `/`.
    pub name: String,
    /// Why.
    pub reason: Reason,
}

/// What became of the parent's other files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extras {
    /// Names of files that were copied (tokenizer, generation config, chat template, remote code, licence, …), sorted.
    pub copied: Vec<String>,
    /// What was not, sorted.
    pub dropped: Vec<Dropped>,
}

/// Folders of other formats.
const OTHER_FOLDERS: &[&str] =
    &["original", "onnx", "openvino", "coreml", "gguf", "mlx", "metal", "tensorrt"];

/// Ends of names of weights in other formats.
const OTHER_WEIGHTS: &[&str] = &[
    ".safetensors",
    ".bin",
    ".pth",
    ".pt",
    ".ckpt",
    ".gguf",
    ".ggml",
    ".h5",
    ".msgpack",
    ".ot",
    ".onnx",
    ".onnx_data",
    ".npz",
    ".nemo",
    ".tflite",
    ".index.json",
];

/// Files of other formats that hold the parent's sizes.
const OTHER_SHAPES: &[&str] = &["params.json", "quantize_config.json", "quant_model_description.json"];

/// Starts of names of training state.
const TRAINING: &[&str] =
    &["optimizer", "scheduler", "rng_state", "trainer_state", "training_args", "zero_to_fp32", "global_step"];

/// Ends of names of checksum lists and signatures.
const CHECKSUMS: &[&str] = &[".chk", ".sha256", ".sha512", ".sha1", ".md5", ".sig", ".asc"];

/// Why a file or folder (its own name) is dropped; none where it is copied.
fn reason(name: &str, folder: bool) -> Option<Reason> {
    let lower = name.to_ascii_lowercase();
    let ends = |list: &[&str]| list.iter().any(|end| lower.ends_with(end));
    let starts = |list: &[&str]| list.iter().any(|start| lower.starts_with(start));
    if matches!(
        lower.as_str(),
        ".git" | ".gitattributes" | ".gitignore" | ".cache" | ".huggingface" | "__pycache__"
    ) {
        return Some(Reason::Repository);
    }
    if starts(TRAINING) {
        return Some(Reason::TrainingState);
    }
    if folder {
        return OTHER_FOLDERS.contains(&lower.as_str()).then_some(Reason::OtherFormat);
    }
    if matches!(lower.as_str(), "config.json" | "archplan.json" | INDEX) {
        return Some(Reason::WrittenAnew);
    }
    if matches!(lower.as_str(), "readme.md" | "readme" | "readme.txt" | "model_card.md") {
        return Some(Reason::ModelCard);
    }
    if ends(CHECKSUMS) || starts(&["checksum", "sha1sum", "sha256sum", "sha512sum", "md5sum"]) {
        return Some(Reason::NoLongerTrue);
    }
    let other = ends(OTHER_WEIGHTS) || OTHER_SHAPES.contains(&lower.as_str());
    other.then_some(Reason::OtherFormat)
}

/// Copies everything beside the weights that stays true of the child.
///
/// # Errors
/// A file cannot be read or written; a name that the child has already.
pub fn copy(parent: &Path, weights: &[&str], writer: &mut CheckpointWriter) -> Result<Extras, WriteError> {
    let mut extras = list(parent, weights)?;
    for name in &extras.copied {
        writer.copy_file(&parent.join(name), name)?;
    }
    extras.dropped.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(extras)
}

/// What [`copy`] would do; `weights` are the parent's weight files.
///
/// # Errors
/// A folder cannot be read.
pub fn list(parent: &Path, weights: &[&str]) -> Result<Extras, WriteError> {
    let mut extras = Extras::default();
    walk(parent, "", 0, weights, &mut extras)?;
    extras.dropped.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(extras)
}

fn walk(
    folder: &Path,
    prefix: &str,
    depth: usize,
    weights: &[&str],
    extras: &mut Extras,
) -> Result<(), WriteError> {
    for (name, path) in sorted(folder).map_err(|error| WriteError::Io { path: folder.into(), error })? {
        let full = format!("{prefix}{name}");
        if !path.is_dir() {
            let reason = match weights.contains(&full.as_str()) {
                true => Some(Reason::WrittenAnew),
                false => reason(&name, false),
            };
            match reason {
                Some(reason) => extras.dropped.push(Dropped { name: full, reason }),
                None => extras.copied.push(full),
            }
            continue;
        }
        let unfollowed = (path.is_symlink() || depth >= DEEPEST).then_some(Reason::NotFollowed);
        match reason(&name, true).or(unfollowed) {
            Some(reason) => extras.dropped.push(Dropped { name: format!("{full}/"), reason }),
            None => walk(&path, &format!("{full}/"), depth + 1, weights, extras)?,
        }
    }
    Ok(())
}

/// Entries whose names are text, sorted.
fn sorted(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            entries.push((name, entry.path()));
        }
    }
    entries.sort_unstable();
    Ok(entries)
}
