//! A dense decoder model: everything but its weights.

use serde::Serialize;

use crate::model::architecture::Architecture;

/// Model family: decides tensor names, norms and which HF class reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// `LlamaForCausalLM`.
    Llama,
    /// `MistralForCausalLM`.
    Mistral,
    /// `Qwen2ForCausalLM` (Qwen2 and Qwen2.5).
    Qwen2,
    /// `Qwen3ForCausalLM`.
    Qwen3,
    /// `PanguEmbeddedForCausalLM`.
    PanguEmbedded,
    /// `Gemma2ForCausalLM`.
    Gemma2,
    /// `Gemma3ForCausalLM` (text).
    Gemma3,
}

/// Norms of one decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormLayout {
    /// One norm before attention, one before the FFN.
    PreNorm,
    /// A second norm after each of them (sandwich norm, post-norm).
    Sandwich,
}

/// A dense decoder model, read from a Hugging Face `config.json` or a built-in card.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSpec {
    /// Name for people: the card's, or the directory's.
    pub name: String,
    /// Where the numbers come from: a path, or the card's source.
    pub source: String,
    /// Family.
    pub family: Family,
    /// Shape.
    pub architecture: Architecture,
    /// Rows of the embedding.
    pub vocab_size: u64,
    /// The LM head shares the embedding's weights.
    pub tied_embeddings: bool,
    /// RMSNorm on each query and key head (2 x head_dim gains per layer).
    pub qk_norm: bool,
    /// Biases on q, k and v projections.
    pub qkv_bias: bool,
    /// Bias on the attention output projection.
    pub o_bias: bool,
    /// Biases on gate, up and down projections.
    pub mlp_bias: bool,
    /// Norms of a layer.
    pub norms: NormLayout,
    /// Attention window of each layer in tokens (`None` = full), where the family mixes local and global
    /// layers (Gemma 2/3): repeated over the layers. Empty = all full.
    pub window_pattern: Vec<Option<u64>>,
    /// Longest context the model was made for, in tokens.
    pub max_positions: u64,
    /// The configuration it was read from, kept for export.
    #[serde(skip)]
    pub config: serde_json::Map<String, serde_json::Value>,
}
