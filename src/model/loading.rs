//! Which engines cannot load a pruned shape although its configuration is sound.
//!
//! A pruned shape often has a hidden size that is not query heads x head size. Classes that read `head_dim` do
//! not mind; some derive the head size instead, or check a divisibility that they do not need.

use std::fmt;

use serde::Serialize;

use crate::model::architecture::Architecture;
use crate::model::spec::{Family, ModelSpec};

/// An engine that will not load the shape, or will read it wrongly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadWarning {
    /// Engine.
    pub engine: &'static str,
    /// Versions it was seen in.
    pub versions: &'static str,
    /// What happens, and what to do about it.
    pub problem: String,
    /// Where that is known from.
    pub reference: &'static str,
}

impl fmt::Display for LoadWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {} [{}]", self.engine, self.versions, self.problem, self.reference)
    }
}

/// Whether transformers 5 refuses a hidden size that the query heads do not divide, even with `head_dim` written
/// (`validate_architecture` of `LlamaConfig`, `Gemma2Config` and `Gemma3TextConfig`, seen in 5.23.0; 4.57.6
/// accepts it). A search whose child must load there keeps `hidden % q_heads == 0` for these families.
fn heads_must_divide_hidden(family: Family) -> bool {
    matches!(family, Family::Llama | Family::Gemma2 | Family::Gemma3)
}

/// Every engine known to stumble over this (uniform) shape of the model.
pub fn warnings(spec: &ModelSpec, architecture: &Architecture) -> Vec<LoadWarning> {
    let Some(shape) = architecture.uniform_shape() else { return Vec::new() };
    let (hidden, q_heads, head_dim) = (architecture.hidden, shape.q_heads, architecture.head_dim);
    let mut warnings = Vec::new();
    if heads_must_divide_hidden(spec.family) && q_heads > 0 && !hidden.is_multiple_of(q_heads) {
        warnings.push(LoadWarning {
            engine: "transformers",
            versions: "5.x, seen in 5.23.0",
            problem: format!(
                "refuses hidden_size {hidden} as no multiple of num_attention_heads {q_heads}, although head_dim is written; choose a hidden size that is one"
            ),
            reference: "huggingface/transformers#46082",
        });
    }
    if spec.family == Family::Qwen2 && hidden != q_heads * head_dim {
        let problem = format!(
            "takes the head size to be hidden_size / num_attention_heads and ignores head_dim {head_dim}; keep hidden_size {} for {q_heads} heads",
            q_heads * head_dim
        );
        warnings.push(LoadWarning {
            engine: "vLLM",
            versions: "all seen, from 013a279 (early 2025) to 2026",
            problem: problem.clone(),
            reference: "vllm/model_executor/models/qwen2.py",
        });
        warnings.push(LoadWarning {
            engine: "transformers",
            versions: "before 4.48",
            problem,
            reference: "VainF/Torch-Pruning#495",
        });
    }
    if spec.family == Family::PanguEmbedded {
        warnings.push(LoadWarning {
            engine: "transformers",
            versions: "4.54 and later",
            problem: "lacks `LossKwargs`, which openPangu's remote code imports; use 4.53.2".into(),
            reference: "modeling_openpangu_dense.py; absent from 4.57.6 and 5.23.0",
        });
    }
    warnings
}
