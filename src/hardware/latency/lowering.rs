//! Lowers a model, its shape and a phase of work to the kernel calls of one device.
//!
//! Tensor parallelism is Megatron's (arXiv 1909.08053): q, k, v and gate, up are split by output features, o and
//! down by input features, each pair ended by one all-reduce of `tokens x hidden` bf16 activations; embedding and
//! LM head are split over the vocabulary. KV heads are replicated where there are fewer than devices. Engines fuse
//! q, k, v into one GEMM, gate and up into one, and the residual addition into the norm that follows it; so do we.
//! Attention computes in bf16 whatever the operand type; the LM head and the embedding are not quantised.
//!
//! Deliberately absent: pipeline and sequence parallelism, the gather of the sampled logits (a few µs per step),
//! activation quantisation (inside the measured quantised GEMMs).

use crate::hardware::kernel::{Backend, KernelCall};
use crate::model::architecture::{Architecture, LayerShape};
use crate::model::spec::{ModelSpec, NormLayout};
use crate::model::tensor_parallel::{self, TensorParallelError};
use crate::model::workload::Deployment;

/// Bytes of a bf16 activation.
const ACTIVATION: u64 = 2;

/// Largest buffer the engines' own all-reduce kernel takes; larger ones go to the vendor library
/// (github vllm-project/vllm, `CustomAllreduce(max_size=8192 * 1024)`).
const CUSTOM_ALL_REDUCE_LIMIT: u64 = 8 << 20;

/// One forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// `batch` prompts of `tokens` tokens each, from the first token.
    Prefill {
        /// Sequences.
        batch: u64,
        /// Prompt tokens per sequence.
        tokens: u64,
    },
    /// One new token for each of `batch` sequences, against `kv_len` cached tokens each.
    Decode {
        /// Sequences.
        batch: u64,
        /// Cached tokens per sequence, the new one included.
        kv_len: u64,
    },
}

impl Phase {
    /// Rows of every linear layer: tokens processed in the pass.
    pub fn tokens(self) -> u64 {
        match self {
            Phase::Prefill { batch, tokens } => batch * tokens,
            Phase::Decode { batch, .. } => batch,
        }
    }

    /// Sequences in the pass: rows of the LM head, which reads the last token of each.
    pub fn sequences(self) -> u64 {
        match self {
            Phase::Prefill { batch, .. } | Phase::Decode { batch, .. } => batch,
        }
    }
}

/// One kernel call and where it stands in the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// Name for people: `qkv_proj`, `attention`, `down_proj`, …
    pub name: &'static str,
    /// First decoder layer that makes the call; `None` = outside the layers (embedding, LM head).
    pub first_layer: Option<u64>,
    /// Consecutive layers that make it.
    pub layers: u64,
    /// The call.
    pub call: KernelCall,
}

/// Heads and FFN width of one layer as one device sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// FFN width on this device.
    pub ffn: u64,
    /// Query heads on this device.
    pub q_heads: u64,
    /// KV heads on this device (replicated where the model has fewer than devices).
    pub kv_heads: u64,
}

/// One device's part of a layer that [`tensor_parallel::check`] lets `tp` devices share.
pub fn shard(shape: LayerShape, tp: u64) -> Shard {
    let tp = tp.max(1);
    Shard {
        ffn: shape.ffn.div_ceil(tp),
        q_heads: shape.q_heads.div_ceil(tp),
        kv_heads: tensor_parallel::kv_heads_on_device(shape.kv_heads, tp),
    }
}

/// Everything about a pass that does not depend on the layer.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The model.
    pub spec: &'a ModelSpec,
    /// The set-up.
    pub deployment: &'a Deployment,
    /// The pass.
    pub phase: Phase,
    /// Hidden size.
    pub hidden: u64,
    /// Head size.
    pub head_dim: u64,
}

impl Pass<'_> {
    fn gemm(&self, n: u64, k: u64) -> KernelCall {
        KernelCall::Gemm { m: self.phase.tokens(), n, k, dtype: self.deployment.dtype }
    }

    /// A memory-bound kernel that reads and writes so many bf16 values per token.
    fn elementwise(&self, values_per_token: u64) -> KernelCall {
        KernelCall::Elementwise { bytes: self.phase.tokens() * values_per_token * ACTIVATION, launches: 1 }
    }

    /// Sum of the hidden states over the devices; `None` on one device.
    fn all_reduce(&self) -> Option<KernelCall> {
        let bytes = self.phase.tokens() * self.hidden * ACTIVATION;
        let backend = if bytes <= CUSTOM_ALL_REDUCE_LIMIT { Backend::VllmGraph } else { Backend::Nccl };
        (self.deployment.tp > 1).then_some(KernelCall::AllReduce {
            world: self.deployment.tp,
            bytes,
            backend,
        })
    }

    /// Residual addition and norm in one kernel: reads the residual and the update, writes the sum and its norm.
    fn add_and_norm(&self) -> KernelCall {
        self.elementwise(4 * self.hidden)
    }

    /// The attention kernel of a layer; a window clips what each token sees.
    ///
    /// A windowed prefill of `tokens` beyond the window is priced as `tokens / window` prompts of one window each
    /// plus the part of the previous window each sees, that is twice the causal triangles.
    pub fn attention(&self, shard: Shard, window: Option<u64>) -> (u64, KernelCall) {
        let Shard { q_heads, kv_heads, .. } = shard;
        let (head_dim, dtype) = (self.head_dim, self.deployment.kv_dtype);
        let window = window.unwrap_or(u64::MAX).max(1);
        match self.phase {
            Phase::Prefill { batch, tokens } if tokens <= window => (
                1,
                KernelCall::AttentionPrefill { batch, seq_len: tokens, q_heads, kv_heads, head_dim, dtype },
            ),
            Phase::Prefill { batch, tokens } => {
                let blocks = tokens.div_ceil(window);
                let batch = batch * blocks;
                (
                    2,
                    KernelCall::AttentionPrefill {
                        batch,
                        seq_len: window,
                        q_heads,
                        kv_heads,
                        head_dim,
                        dtype,
                    },
                )
            }
            Phase::Decode { batch, kv_len } => {
                let kv_len = kv_len.min(window);
                (1, KernelCall::AttentionDecode { batch, kv_len, q_heads, kv_heads, head_dim, dtype })
            }
        }
    }

    /// The calls of one attention block but the attention kernel itself, first to last:
    /// norm, fused qkv `[tokens, hidden] -> (q + 2 kv) x head_dim`, q/k norms, rope, cache write, o, all-reduce.
    pub fn attention_block(&self, shard: Shard) -> Vec<(&'static str, KernelCall)> {
        let Shard { q_heads, kv_heads, .. } = shard;
        let (q, kv) = (q_heads * self.head_dim, kv_heads * self.head_dim);
        let mut calls =
            vec![("attention_norm", self.add_and_norm()), ("qkv_proj", self.gemm(q + 2 * kv, self.hidden))];
        if self.spec.qk_norm {
            calls.push(("qk_norm", self.elementwise(2 * (q + kv))));
        }
        calls.push(("rope", self.elementwise(2 * (q + kv))));
        calls.push(("kv_write", self.elementwise(4 * kv)));
        calls.push(("o_proj", self.gemm(self.hidden, q)));
        calls.extend(self.all_reduce().map(|call| ("attention_all_reduce", call)));
        calls.extend(self.post_norm().map(|call| ("attention_post_norm", call)));
        calls
    }

    /// The calls of one gated FFN: norm, fused gate and up `hidden -> 2 ffn`, activation, down, all-reduce.
    pub fn ffn_block(&self, shard: Shard) -> Vec<(&'static str, KernelCall)> {
        let mut calls = vec![
            ("ffn_norm", self.add_and_norm()),
            ("gate_up_proj", self.gemm(2 * shard.ffn, self.hidden)),
            ("activation", self.elementwise(3 * shard.ffn)),
            ("down_proj", self.gemm(self.hidden, shard.ffn)),
        ];
        calls.extend(self.all_reduce().map(|call| ("ffn_all_reduce", call)));
        calls.extend(self.post_norm().map(|call| ("ffn_post_norm", call)));
        calls
    }

    fn post_norm(&self) -> Option<KernelCall> {
        (self.spec.norms == NormLayout::Sandwich).then(|| self.elementwise(2 * self.hidden))
    }

    /// The calls before the first layer: embedding look-up and, over several devices, its all-reduce.
    pub fn head_calls(&self) -> Vec<(&'static str, KernelCall)> {
        let mut calls = vec![("embedding", self.elementwise(2 * self.hidden))];
        calls.extend(self.all_reduce().map(|call| ("embedding_all_reduce", call)));
        calls
    }

    /// The calls after the last layer: final norm, LM head on the last token of each sequence (the
    /// padded vocabulary over `tp`), sampling (logits read as bf16, written and read as f32).
    pub fn tail_calls(&self) -> Vec<(&'static str, KernelCall)> {
        let (rows, vocab) = (self.phase.sequences(), self.spec.vocab_size);
        let n = match self.deployment.tp {
            0 | 1 => vocab,
            tp => tensor_parallel::padded_vocabulary(vocab).div_ceil(tp),
        };
        vec![
            ("final_norm", self.add_and_norm()),
            ("lm_head", KernelCall::Gemm { m: rows, n, k: self.hidden, dtype: self.deployment.head_dtype() }),
            ("sampling", KernelCall::Elementwise { bytes: rows * vocab * (2 + 4 + 4), launches: 3 }),
        ]
    }
}

/// Consecutive layers that make the same calls: `(first layer, layers, shape, window)`.
fn layer_runs(spec: &ModelSpec, architecture: &Architecture) -> Vec<(u64, u64, LayerShape, Option<u64>)> {
    let mut runs: Vec<(u64, u64, LayerShape, Option<u64>)> = Vec::new();
    let mut first = 0;
    for (count, shape) in architecture.runs() {
        if spec.window_pattern.iter().all(Option::is_none) {
            runs.push((first, count, shape, None));
        } else {
            for layer in first..first + count {
                let window = spec.window(layer);
                match runs.last_mut() {
                    Some((_, n, s, w)) if *s == shape && *w == window => *n += 1,
                    _ => runs.push((layer, 1, shape, window)),
                }
            }
        }
        first += count;
    }
    runs
}

/// Lowers one forward pass to the kernel calls of one device, in order of execution.
///
/// # Errors
/// When the devices cannot share the shape.
pub fn lower(
    spec: &ModelSpec,
    architecture: &Architecture,
    deployment: &Deployment,
    phase: Phase,
) -> Result<Vec<Op>, TensorParallelError> {
    tensor_parallel::check(spec, architecture, deployment.tp)?;
    let pass = Pass { spec, deployment, phase, hidden: architecture.hidden, head_dim: architecture.head_dim };
    let outside = |calls: Vec<(&'static str, KernelCall)>| {
        calls.into_iter().map(|(name, call)| Op { name, first_layer: None, layers: 1, call })
    };
    let mut ops: Vec<Op> = outside(pass.head_calls()).collect();
    for (first, layers, shape, window) in layer_runs(spec, architecture) {
        let shard = shard(shape, deployment.tp);
        let mut push = |name, call| ops.push(Op { name, first_layer: Some(first), layers, call });
        if shard.q_heads > 0 {
            for (name, call) in pass.attention_block(shard) {
                if name == "o_proj" {
                    let (times, kernel) = pass.attention(shard, window);
                    (0..times).for_each(|_| push("attention", kernel));
                }
                push(name, call);
            }
        }
        if shard.ffn > 0 {
            pass.ffn_block(shard).into_iter().for_each(|(name, call)| push(name, call));
        }
    }
    ops.extend(outside(pass.tail_calls()));
    Ok(ops)
}
