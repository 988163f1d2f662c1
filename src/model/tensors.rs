//! Which tensors a checkpoint of a model has: their names and shapes.
//!
//! Names as transformers writes them (5.23, `src/transformers/models/*/modeling_*.py`); openPangu's second norms as
//! vLLM's `models/openpangu.py` names them.

use crate::model::architecture::LayerShape;
use crate::model::spec::{Family, ModelSpec, NormLayout};

/// What a tensor is to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Input embedding, `[vocabulary, hidden]`.
    Embedding,
    /// LM head, `[vocabulary, hidden]`; absent where it shares the embedding.
    LmHead,
    /// Gain of the last norm, `[hidden]`.
    FinalNorm,
    /// Gain of the norm before attention, `[hidden]`.
    AttentionNorm,
    /// Query projection, `[q_heads * head_dim, hidden]`.
    Q,
    /// Its bias.
    QBias,
    /// Key projection, `[kv_heads * head_dim, hidden]`.
    K,
    /// Its bias.
    KBias,
    /// Value projection, `[kv_heads * head_dim, hidden]`.
    V,
    /// Its bias.
    VBias,
    /// Gain on each query head, `[head_dim]`.
    QNorm,
    /// Gain on each key head, `[head_dim]`.
    KNorm,
    /// Attention output projection, `[hidden, q_heads * head_dim]`.
    O,
    /// Its bias, `[hidden]`.
    OBias,
    /// Gain of the post-norm of attention, `[hidden]`.
    AttentionPostNorm,
    /// Gain of the norm before the FFN, `[hidden]`.
    FfnNorm,
    /// Gate projection, `[ffn, hidden]`.
    Gate,
    /// Its bias.
    GateBias,
    /// Up projection, `[ffn, hidden]`.
    Up,
    /// Its bias.
    UpBias,
    /// Down projection, `[hidden, ffn]`.
    Down,
    /// Its bias, `[hidden]`.
    DownBias,
    /// Gain of the post-norm of the FFN, `[hidden]`.
    FfnPostNorm,
}

/// Roles of a layer, in the order a forward pass meets them.
const LAYER: [Role; 20] = [
    Role::AttentionNorm,
    Role::Q,
    Role::QBias,
    Role::K,
    Role::KBias,
    Role::V,
    Role::VBias,
    Role::QNorm,
    Role::KNorm,
    Role::O,
    Role::OBias,
    Role::AttentionPostNorm,
    Role::FfnNorm,
    Role::Gate,
    Role::GateBias,
    Role::Up,
    Role::UpBias,
    Role::Down,
    Role::DownBias,
    Role::FfnPostNorm,
];

/// One tensor that a checkpoint must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelTensor {
    /// Name, such as `model.layers.3.mlp.down_proj.weight`.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Layer, from 0; none for embedding, final norm and head.
    pub layer: Option<u64>,
    /// Shape, rows first.
    pub shape: Vec<u64>,
}

/// Every tensor of a model's checkpoint, in the order a forward pass meets them.
pub fn all(spec: &ModelSpec) -> Vec<ModelTensor> {
    let mut tensors: Vec<ModelTensor> = end(spec, Role::Embedding).into_iter().collect();
    for index in 0..spec.architecture.depth() {
        tensors.extend(layer(spec, index));
    }
    tensors.extend(end(spec, Role::FinalNorm));
    tensors.extend(end(spec, Role::LmHead));
    tensors
}

/// The tensors of one layer, in the order a forward pass meets them; none where there is no such layer.
pub fn layer(spec: &ModelSpec, index: u64) -> Vec<ModelTensor> {
    let Some(shape) = spec.architecture.layer_shapes().nth(index as usize) else { return Vec::new() };
    let tensor = |role: Role| {
        let dims = layer_dims(spec, shape, role)?;
        let name = format!("model.layers.{index}.{}", layer_suffix(spec, role)?);
        Some(ModelTensor { name, role, layer: Some(index), shape: dims })
    };
    LAYER.into_iter().filter_map(tensor).collect()
}

/// Embedding, final norm or head, where the model has it.
pub fn end(spec: &ModelSpec, role: Role) -> Option<ModelTensor> {
    let hidden = spec.architecture.hidden;
    let (name, shape) = match role {
        Role::Embedding => ("model.embed_tokens.weight", vec![spec.vocab_size, hidden]),
        Role::FinalNorm => ("model.norm.weight", vec![hidden]),
        Role::LmHead if !spec.tied_embeddings => ("lm_head.weight", vec![spec.vocab_size, hidden]),
        _ => return None,
    };
    Some(ModelTensor { name: name.into(), role, layer: None, shape })
}

fn layer_dims(spec: &ModelSpec, shape: LayerShape, role: Role) -> Option<Vec<u64>> {
    let (hidden, head_dim) = (spec.architecture.hidden, spec.architecture.head_dim);
    let (q, kv) = (shape.q_heads * head_dim, shape.kv_heads * head_dim);
    let sandwich = spec.norms == NormLayout::Sandwich;
    let has_attention = shape.q_heads > 0;
    let has_ffn = shape.ffn > 0;
    let (present, dims) = match role {
        Role::AttentionNorm => (has_attention, vec![hidden]),
        Role::Q => (has_attention, vec![q, hidden]),
        Role::K | Role::V => (has_attention, vec![kv, hidden]),
        Role::O => (has_attention, vec![hidden, q]),
        Role::QBias => (has_attention && spec.qkv_bias, vec![q]),
        Role::KBias | Role::VBias => (has_attention && spec.qkv_bias, vec![kv]),
        Role::OBias => (has_attention && spec.o_bias, vec![hidden]),
        Role::QNorm | Role::KNorm => (has_attention && spec.qk_norm, vec![head_dim]),
        Role::AttentionPostNorm => (has_attention && sandwich, vec![hidden]),
        Role::FfnNorm => (has_ffn, vec![hidden]),
        Role::Gate | Role::Up => (has_ffn, vec![shape.ffn, hidden]),
        Role::Down => (has_ffn, vec![hidden, shape.ffn]),
        Role::GateBias | Role::UpBias => (has_ffn && spec.mlp_bias, vec![shape.ffn]),
        Role::DownBias => (has_ffn && spec.mlp_bias, vec![hidden]),
        Role::FfnPostNorm => (has_ffn && sandwich, vec![hidden]),
        Role::Embedding | Role::LmHead | Role::FinalNorm => (false, vec![]),
    };
    present.then_some(dims)
}

fn layer_suffix(spec: &ModelSpec, role: Role) -> Option<&'static str> {
    let gemma = matches!(spec.family, Family::Gemma2 | Family::Gemma3);
    let sandwich = spec.norms == NormLayout::Sandwich;
    Some(match role {
        Role::AttentionNorm => "input_layernorm.weight",
        Role::Q => "self_attn.q_proj.weight",
        Role::QBias => "self_attn.q_proj.bias",
        Role::K => "self_attn.k_proj.weight",
        Role::KBias => "self_attn.k_proj.bias",
        Role::V => "self_attn.v_proj.weight",
        Role::VBias => "self_attn.v_proj.bias",
        Role::QNorm => "self_attn.q_norm.weight",
        Role::KNorm => "self_attn.k_norm.weight",
        Role::O => "self_attn.o_proj.weight",
        Role::OBias => "self_attn.o_proj.bias",
        Role::AttentionPostNorm => "post_attention_layernorm.weight",
        Role::FfnNorm if gemma => "pre_feedforward_layernorm.weight",
        Role::FfnNorm if sandwich => "pre_mlp_layernorm.weight",
        Role::FfnNorm => "post_attention_layernorm.weight",
        Role::Gate => "mlp.gate_proj.weight",
        Role::GateBias => "mlp.gate_proj.bias",
        Role::Up => "mlp.up_proj.weight",
        Role::UpBias => "mlp.up_proj.bias",
        Role::Down => "mlp.down_proj.weight",
        Role::DownBias => "mlp.down_proj.bias",
        Role::FfnPostNorm if gemma => "post_feedforward_layernorm.weight",
        Role::FfnPostNorm => "post_mlp_layernorm.weight",
        Role::Embedding | Role::LmHead | Role::FinalNorm => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cards;
    use crate::model::counts;

    #[test]
    fn the_shapes_add_up_to_the_count_of_every_card() {
        for card in cards::all() {
            let spec = card.spec().unwrap();
            let total: u64 = all(&spec).iter().map(|tensor| tensor.shape.iter().product::<u64>()).sum();
            assert_eq!(total, counts::parameters(&spec, &spec.architecture).total(), "{}", spec.name);
        }
    }
}
