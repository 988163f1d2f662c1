//! Which engines cannot load a pruned shape although its configuration is sound.
//!
//! A pruned shape often has a hidden size that is not query heads x head size. Classes that read `head_dim` do
//! not mind; some derive the head size instead, or check a divisibility that they do not need.

use std::fmt;

use serde::Serialize;

use crate::model::architecture::{Architecture, LayerShape};
use crate::model::blocks;
use crate::model::per_layer;
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
    /// Later versions do load it.
    pub is_past: bool,
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

/// Every engine known to stumble over this shape of the model.
pub fn warnings(spec: &ModelSpec, architecture: &Architecture) -> Vec<LoadWarning> {
    if spec.config.contains_key(per_layer::KEY) {
        return unread_list();
    }
    if spec.family == Family::NemotronNas {
        return of_blocks(spec, architecture);
    }
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
            is_past: false,
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
            is_past: false,
        });
        warnings.push(LoadWarning {
            engine: "transformers",
            versions: "before 4.48",
            problem,
            reference: "VainF/Torch-Pruning#495",
            is_past: true,
        });
    }
    if spec.family == Family::PanguEmbedded {
        warnings.push(LoadWarning {
            engine: "transformers",
            versions: "4.54 and later",
            problem: "lacks `LossKwargs`, which openPangu's remote code imports; use 4.53.2".into(),
            reference: "modeling_openpangu_dense.py; absent from 4.57.6 and 5.23.0",
            is_past: false,
        });
    }
    warnings
}

/// Nobody but this tool knows its list of layers.
fn unread_list() -> Vec<LoadWarning> {
    let warning = |engine| LoadWarning {
        engine,
        versions: "all",
        problem: format!(
            "does not read `{}`, and its classes have one shape for all layers; the checkpoint is for archplan alone, choose a uniform shape (or, for a Llama, one number of query heads) to load it",
            per_layer::KEY
        ),
        reference: "docs/pruning.md",
        is_past: false,
    };
    vec![warning("transformers"), warning("vLLM")]
}

/// What is known of readers of `block_configs`.
fn of_blocks(spec: &ModelSpec, architecture: &Architecture) -> Vec<LoadWarning> {
    let mut warnings = Vec::new();
    let model = |map: &serde_json::Value| map.get("AutoModelForCausalLM").is_some();
    if !spec.config.get("auto_map").is_some_and(model) {
        warnings.push(LoadWarning {
            engine: "transformers",
            versions: "all, seen in 5.24.0",
            problem: "has no DeciLMForCausalLM; load it in vLLM with --trust-remote-code, or with the remote code of a published DeciLM".into(),
            reference: "modeling_decilm.py of nvidia/Llama-3_3-Nemotron-Super-49B-v1",
            is_past: false,
        });
    }
    let mut vllm = |versions, problem, is_past| {
        let reference = "vllm/model_executor/models/nemotron_nas.py";
        warnings.push(LoadWarning { engine: "vLLM", versions, problem, reference, is_past });
    };
    let shapes: Vec<LayerShape> = architecture.layer_shapes().collect();
    let first = shapes.iter().position(|shape| *shape != LayerShape::default());
    if let Some(layer) = first.filter(|at| shapes.get(*at).is_some_and(|shape| shape.q_heads == 0)) {
        let problem = format!(
            "starts the residual stream in the first attention and fails in layer {layer}, whose FFN stands before any; keep the attention of that layer"
        );
        vllm("all seen, from 2025 to 00bd149 (2026)", problem, false);
    }
    let written =
        |shape: &LayerShape| shape.ffn > 0 && blocks::ffn_mult(shape.ffn, architecture.hidden).is_none();
    if let Some(layer) = shapes.iter().position(written) {
        let problem = format!(
            "knows ffn_mult only, which cannot say the FFN width of layer {layer}; use a later version, or FFN widths that are multiples of {}",
            blocks::FFN_MULTIPLE
        );
        vllm("before it read a block's intermediate_size (00bd149 of 2026 does)", problem, true);
    }
    warnings
}
