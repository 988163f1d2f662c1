//! Whether the weights of an open checkpoint are sound, whether engines load it, and what it shares with another.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::model::loading;
use crate::model::tensor_parallel;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::checkpoint::error::CheckpointError;
use crate::weights::checkpoint::tensor::TensorError;

/// An engine that should load a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Hugging Face transformers.
    Transformers,
    /// vLLM.
    Vllm,
    /// Either: trouble in one of them is told but does not count.
    Any,
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "transformers" => Ok(Engine::Transformers),
            "vllm" => Ok(Engine::Vllm),
            "any" => Ok(Engine::Any),
            _ => Err("expected transformers, vllm or any".into()),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Transformers => "transformers",
            Engine::Vllm => "vLLM",
            Engine::Any => "any",
        })
    }
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The checkpoint is damaged.
    Damaged,
    /// The engine that was asked for does not load it, or not so divided.
    NotLoadable,
    /// Worth knowing.
    Note,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// What, where and what to do.
    pub message: String,
}

impl Finding {
    fn new(severity: Severity, message: impl fmt::Display) -> Self {
        Finding { severity, message: message.to_string() }
    }
}

/// Reads every weight once, calling `seen` after each tensor. Damage is every tensor with a NaN or an infinity (its
/// first one is named); tensors of the model only, strays are not looked at.
///
/// # Errors
/// None once a checkpoint is open.
pub fn weights(checkpoint: &Checkpoint, mut seen: impl FnMut(&str)) -> Result<Vec<Finding>, CheckpointError> {
    let mut findings = Vec::new();
    for name in checkpoint.stored_order() {
        if checkpoint.strays().iter().all(|stray| stray.name != name) {
            let tensor = checkpoint.tensor(name)?;
            if let Err(error) = tensor.check_finite() {
                let file = checkpoint.file_of(name).unwrap_or_default();
                let path = checkpoint.dir().join(file);
                findings.push(Finding::new(Severity::Damaged, in_file(&path, &error)));
            }
            checkpoint.release(&tensor);
        }
        seen(name);
    }
    Ok(findings)
}

fn in_file(path: &std::path::Path, error: &TensorError) -> String {
    format!("{}: {error}", path.display())
}

/// What engines and people should know about a sound checkpoint: who does not load it, tensors nobody needs, an index
/// that states another size.
pub fn surroundings(checkpoint: &Checkpoint, engine: Engine, tp: u64) -> Vec<Finding> {
    let spec = checkpoint.spec();
    let mut findings = Vec::new();
    for warning in loading::warnings(spec, &spec.architecture) {
        let asked_for = match engine {
            Engine::Any => false,
            _ => warning.engine.eq_ignore_ascii_case(&engine.to_string()),
        };
        if asked_for || engine == Engine::Any {
            let severity = if asked_for && !warning.is_past { Severity::NotLoadable } else { Severity::Note };
            findings.push(Finding::new(severity, warning));
        }
    }
    if let Err(error) = tensor_parallel::check(spec, &spec.architecture, tp) {
        findings.push(Finding::new(Severity::NotLoadable, error));
    }
    for stray in checkpoint.strays() {
        findings.push(Finding::new(Severity::Note, format!("tensor {stray}")));
    }
    let bytes = checkpoint.total_bytes();
    if let Some(stated) = checkpoint.stated_bytes().filter(|stated| *stated != bytes) {
        let message =
            format!("the index states {stated} bytes of tensors, they have {bytes}; engines do not mind");
        findings.push(Finding::new(Severity::Note, message));
    }
    findings
}

/// Tensor by tensor against another checkpoint; names sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Tensors with the same name, type, shape and bytes.
    pub identical: usize,
    /// Same name, type and shape, other bytes.
    pub different: Vec<String>,
    /// Same name, another shape or type.
    pub reshaped: Vec<String>,
    /// Only in this checkpoint.
    pub added: Vec<String>,
    /// Only in the other.
    pub removed: Vec<String>,
}

impl Comparison {
    /// Whether every tensor that both have in the same shape and type has the same bytes.
    pub fn is_identity(&self) -> bool {
        self.different.is_empty()
    }
}

/// Compares every tensor of `checkpoint` with the one of the same name in `parent`, calling `seen` after each.
///
/// # Errors
/// None once both are open.
pub fn compare(
    checkpoint: &Checkpoint,
    parent: &Checkpoint,
    mut seen: impl FnMut(&str),
) -> Result<Comparison, CheckpointError> {
    let mut comparison = Comparison::default();
    for name in checkpoint.stored_order() {
        let ours = checkpoint.tensor(name)?;
        let theirs = parent.file_of(name).map(|_| parent.tensor(name)).transpose()?;
        match &theirs {
            None => comparison.added.push(name.into()),
            Some(theirs) if (ours.dtype, &ours.shape) != (theirs.dtype, &theirs.shape) => {
                comparison.reshaped.push(name.into());
            }
            Some(theirs) if ours.data == theirs.data => comparison.identical += 1,
            Some(_) => comparison.different.push(name.into()),
        }
        checkpoint.release(&ours);
        theirs.iter().for_each(|theirs| parent.release(theirs));
        seen(name);
    }
    let removed = parent.names().filter(|name| checkpoint.file_of(name).is_none());
    comparison.removed = removed.map(String::from).collect();
    for list in [&mut comparison.different, &mut comparison.reshaped, &mut comparison.added] {
        list.sort_unstable();
    }
    Ok(comparison)
}
