//! Exact counts: parameters by tensor group, weight bytes, KV-cache bytes and FLOPs.
//!
//! Counts are of a valid shape ([`Architecture::validate`]), for which they do not overflow. Multiply-adds are
//! two FLOPs. Deliberately absent: scales of quantised tensors, activations and engine buffers.

use std::iter::Sum;
use std::ops::{Add, Mul};

use serde::Serialize;

use crate::model::architecture::{Architecture, LayerShape};
use crate::model::spec::{ModelSpec, NormLayout};
use crate::model::tensor_parallel;
use crate::units::{Bytes, DType, Flops};

/// Parameters of one or more decoder layers, by tensor group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LayerParameters {
    /// q, k, v and o matrices.
    pub attention: u64,
    /// gate, up and down matrices.
    pub ffn: u64,
    /// Biases of all of them.
    pub biases: u64,
    /// Gains of the layer norms and QK-norms.
    pub norms: u64,
}

/// Parameters of a model, by tensor group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// Input embedding.
    pub embedding: u64,
    /// LM head; 0 when it shares the embedding.
    pub lm_head: u64,
    /// All decoder layers.
    pub layers: LayerParameters,
    /// Gains of the final norm.
    pub final_norm: u64,
}

impl LayerParameters {
    /// All groups together.
    pub fn total(&self) -> u64 {
        self.attention + self.ffn + self.biases + self.norms
    }
}

impl Parameters {
    /// All groups together; a shared embedding counts once.
    pub fn total(&self) -> u64 {
        self.embedding + self.lm_head + self.layers.total() + self.final_norm
    }

    /// The matrices of the decoder layers: what a deployment's element type applies to.
    pub fn layer_matrices(&self) -> u64 {
        self.layers.attention + self.layers.ffn
    }
}

impl Add for LayerParameters {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            attention: self.attention + other.attention,
            ffn: self.ffn + other.ffn,
            biases: self.biases + other.biases,
            norms: self.norms + other.norms,
        }
    }
}

impl Mul<u64> for LayerParameters {
    type Output = Self;
    fn mul(self, n: u64) -> Self {
        Self {
            attention: self.attention * n,
            ffn: self.ffn * n,
            biases: self.biases * n,
            norms: self.norms * n,
        }
    }
}

impl Sum for LayerParameters {
    fn sum<I: Iterator<Item = Self>>(layers: I) -> Self {
        layers.fold(Self::default(), Self::add)
    }
}

/// Parameters of the model with the shape `architecture` (its own, or a child's).
pub fn parameters(spec: &ModelSpec, architecture: &Architecture) -> Parameters {
    let embedding = spec.vocab_size * architecture.hidden;
    Parameters {
        embedding,
        lm_head: if spec.tied_embeddings { 0 } else { embedding },
        layers: architecture.runs().iter().map(|&(n, shape)| layer(spec, architecture, shape) * n).sum(),
        final_norm: architecture.hidden,
    }
}

/// Parameters of one decoder layer of shape `shape`. A layer without attention or FFN lacks its norms too.
pub fn layer(spec: &ModelSpec, architecture: &Architecture, shape: LayerShape) -> LayerParameters {
    share_of_layer(spec, architecture, shape, 1)
}

/// What one of `tp` devices holds of a layer: matrices and the biases of their outputs are divided (KV heads
/// at least one each); norms and the biases of o and down are held whole.
fn share_of_layer(
    spec: &ModelSpec,
    architecture: &Architecture,
    shape: LayerShape,
    tp: u64,
) -> LayerParameters {
    let (hidden, head_dim) = (architecture.hidden, architecture.head_dim);
    let q = shape.q_heads.div_ceil(tp) * head_dim;
    let kv = tensor_parallel::kv_heads_on_device(shape.kv_heads, tp) * head_dim;
    let ffn = shape.ffn.div_ceil(tp);
    let norms_per_block = match spec.norms {
        NormLayout::PreNorm => 1,
        NormLayout::Sandwich => 2,
    };
    let mut layer =
        LayerParameters { attention: hidden * (2 * q + 2 * kv), ffn: 3 * hidden * ffn, ..Default::default() };
    if shape.q_heads > 0 {
        layer.norms += norms_per_block * hidden + if spec.qk_norm { 2 * head_dim } else { 0 };
        layer.biases += if spec.qkv_bias { q + 2 * kv } else { 0 };
        layer.biases += if spec.o_bias { hidden } else { 0 };
    }
    if shape.ffn > 0 {
        layer.norms += norms_per_block * hidden;
        layer.biases += if spec.mlp_bias { 2 * ffn + hidden } else { 0 };
    }
    layer
}

/// Bytes of all weights when the matrices of the decoder layers are stored as `dtype`. Embedding, LM head,
/// norms and biases stay 16-bit under an 8-bit `dtype` (as vLLM keeps them) and follow it otherwise.
pub fn weight_bytes(spec: &ModelSpec, architecture: &Architecture, dtype: DType) -> Bytes {
    weight_bytes_on_device(spec, architecture, dtype, 1)
}

/// [`weight_bytes`] that one of `tp` devices holds: see [`tensor_parallel`] for what is divided and what is
/// replicated. The vocabulary is padded only when there is something to divide (`tp` > 1).
pub fn weight_bytes_on_device(spec: &ModelSpec, architecture: &Architecture, dtype: DType, tp: u64) -> Bytes {
    let tp = tp.max(1);
    let layers: LayerParameters =
        architecture.runs().iter().map(|&(n, shape)| share_of_layer(spec, architecture, shape, tp) * n).sum();
    let rows = match tp {
        1 => spec.vocab_size,
        _ => tensor_parallel::padded_vocabulary(spec.vocab_size).div_ceil(tp),
    };
    let embeddings = rows * architecture.hidden * if spec.tied_embeddings { 1 } else { 2 };
    let matrices = layers.attention + layers.ffn;
    let others = embeddings + layers.biases + layers.norms + architecture.hidden;
    let other_bytes = dtype.bytes().max(DType::Bf16.bytes());
    Bytes(matrices as f64 * dtype.bytes() + others as f64 * other_bytes)
}

/// KV-cache bytes that each further token of a sequence takes in the whole model, while it lies within every
/// attention window.
pub fn kv_bytes_per_token(architecture: &Architecture, dtype: DType) -> Bytes {
    kv_bytes_per_token_on_device(architecture, dtype, 1)
}

/// [`kv_bytes_per_token`] on one of `tp` devices: KV heads are replicated when there are fewer than devices.
pub fn kv_bytes_per_token_on_device(architecture: &Architecture, dtype: DType, tp: u64) -> Bytes {
    let heads: u64 = architecture
        .runs()
        .iter()
        .map(|&(n, shape)| n * tensor_parallel::kv_heads_on_device(shape.kv_heads, tp))
        .sum();
    Bytes(2.0 * (heads * architecture.head_dim) as f64 * dtype.bytes())
}

/// KV-cache bytes of a sequence of `tokens` tokens on one of `tp` devices; a windowed layer keeps its window.
pub fn kv_bytes_on_device(
    spec: &ModelSpec,
    architecture: &Architecture,
    tokens: u64,
    dtype: DType,
    tp: u64,
) -> Bytes {
    let per_head = 2.0 * architecture.head_dim as f64 * dtype.bytes();
    let kept = |(layer, shape): (u64, LayerShape)| {
        let tokens = spec.window(layer).map_or(tokens, |window| tokens.min(window));
        tokens as f64 * tensor_parallel::kv_heads_on_device(shape.kv_heads, tp) as f64
    };
    Bytes((0..).zip(architecture.layer_shapes()).map(kept).sum::<f64>() * per_head)
}

/// FLOPs of prefilling one prompt of `tokens` tokens: every matrix on every token, causal attention, and the
/// LM head on the last token only (as serving engines do).
pub fn prefill_flops(spec: &ModelSpec, architecture: &Architecture, tokens: u64) -> Flops {
    let tokens = tokens as f64;
    let pairs = |window: Option<u64>| {
        let w = window.map_or(tokens, |w| tokens.min(w as f64));
        w * (w + 1.0) / 2.0 + (tokens - w) * w
    };
    forward_flops(spec, architecture, tokens, pairs)
}

/// FLOPs of decoding one token that attends to `kv_len` cached tokens.
pub fn decode_flops(spec: &ModelSpec, architecture: &Architecture, kv_len: u64) -> Flops {
    forward_flops(spec, architecture, 1.0, |window| window.map_or(kv_len, |w| kv_len.min(w)) as f64)
}

/// `pairs`: query-key pairs of one head of a layer with that window.
fn forward_flops(
    spec: &ModelSpec,
    architecture: &Architecture,
    tokens: f64,
    pairs: impl Fn(Option<u64>) -> f64,
) -> Flops {
    let parameters = parameters(spec, architecture);
    let matrices = 2.0 * parameters.layer_matrices() as f64 * tokens;
    let lm_head = 2.0 * (spec.vocab_size * architecture.hidden) as f64;
    let attention = |(layer, shape): (u64, LayerShape)| {
        4.0 * (shape.q_heads * architecture.head_dim) as f64 * pairs(spec.window(layer))
    };
    let attention: f64 = (0..).zip(architecture.layer_shapes()).map(attention).sum();
    Flops(matrices + lm_head + attention)
}
