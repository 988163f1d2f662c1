//! Device memory: weights, KV cache, activations and what the engine keeps for itself.
//!
//! "Does not fit" is an answer with numbers ([`Memory::fits`], [`Memory::max_sequences`]), not an error.

use serde::Serialize;

use crate::hardware::latency::lowering::{Shard, shard};
use crate::hardware::profile::engine::EngineParameters;
use crate::model::architecture::Architecture;
use crate::model::counts;
use crate::model::spec::ModelSpec;
use crate::model::workload::{Deployment, Load, Workload};
use crate::units::{Bytes, DType};

/// Device memory of one replica, per device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// Weights of this device's shard.
    pub weights: Bytes,
    /// KV cache of the sequences in flight.
    pub kv_cache: Bytes,
    /// Peak activations of one pass.
    pub activations: Bytes,
    /// What the engine keeps for itself: context, captured graphs, communication buffers.
    pub reserve: Bytes,
    /// What the engine may use of the device.
    pub budget: Bytes,
    /// KV cache of one sequence.
    pub kv_per_sequence: Bytes,
    /// Sequences asked for.
    pub sequences: u64,
}

impl Memory {
    /// Sum of the parts.
    pub fn total(&self) -> Bytes {
        self.weights + self.kv_cache + self.activations + self.reserve
    }

    /// Whether the parts fit the budget.
    pub fn fits(&self) -> bool {
        self.total() <= self.budget
    }

    /// Most sequences whose KV cache fits beside everything else (0 = not even the weights fit).
    pub fn max_sequences(&self) -> u64 {
        let free = self.budget - self.weights - self.activations - self.reserve;
        if free.0 <= 0.0 {
            0
        } else if self.kv_per_sequence.0 <= 0.0 {
            u64::MAX
        } else {
            (free / self.kv_per_sequence).floor() as u64
        }
    }
}

/// Cached tokens one sequence holds: all of them at the end of a static batch; in a closed loop, whose requests
/// stand at every stage of their output, the prompt and half the output on average.
pub fn tokens_per_sequence(workload: &Workload) -> u64 {
    match workload.load {
        Load::Batch(_) => workload.prompt + workload.output,
        Load::Concurrency(_) => workload.prompt + workload.output.div_ceil(2),
    }
}

/// Most tokens of one pass: the engine's chunk, or less where the work is smaller.
pub(crate) fn pass_tokens(workload: &Workload, engine: &EngineParameters) -> f64 {
    let (Load::Batch(sequences) | Load::Concurrency(sequences)) = workload.load;
    let work = sequences as f64 * workload.prompt as f64;
    work.min(engine.limits.chunk_tokens as f64).max(sequences as f64)
}

/// Peak activations of one pass: residual, norm and block output `[tokens, hidden]`, the widest block's inner
/// tensors (gate and up and their product, or q, k, v and the attention output), and f32 logits of the sequences.
pub fn activations(
    spec: &ModelSpec,
    architecture: &Architecture,
    tp: u64,
    workload: &Workload,
    engine: &EngineParameters,
) -> Bytes {
    let inner = |shape| inner_width(shard(shape, tp), architecture.head_dim);
    let widest = architecture.runs().into_iter().map(|(_, shape)| inner(shape)).max().unwrap_or(0);
    let (Load::Batch(sequences) | Load::Concurrency(sequences)) = workload.load;
    let per_token = (3 * architecture.hidden + widest) as f64 * DType::Bf16.bytes();
    let logits = sequences as f64 * spec.vocab_size as f64 * DType::F32.bytes();
    Bytes(pass_tokens(workload, engine) * per_token + logits)
}

/// Values per token that the wider of a layer's two blocks holds beside the hidden states.
pub fn inner_width(shard: Shard, head_dim: u64) -> u64 {
    (2 * (shard.q_heads + shard.kv_heads) * head_dim).max(3 * shard.ffn)
}

/// Device memory of a shape that the devices can share, under a workload.
pub fn memory(
    spec: &ModelSpec,
    architecture: &Architecture,
    deployment: &Deployment,
    workload: &Workload,
    hbm: Bytes,
    engine: &EngineParameters,
) -> Memory {
    let (Load::Batch(sequences) | Load::Concurrency(sequences)) = workload.load;
    let Deployment { tp, dtype, kv_dtype, .. } = *deployment;
    let tokens = tokens_per_sequence(workload);
    let kv_per_sequence = counts::kv_bytes_on_device(spec, architecture, tokens, kv_dtype, tp);
    Memory {
        weights: counts::weight_bytes_on_device(spec, architecture, dtype, tp),
        kv_cache: kv_per_sequence * sequences as f64,
        activations: activations(spec, architecture, tp, workload, engine),
        reserve: engine.reserve(),
        budget: hbm * engine.limits.memory_share,
        kv_per_sequence,
        sequences,
    }
}
