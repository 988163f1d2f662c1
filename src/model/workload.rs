//! The work a model is given and the machine set-up it is given on.

use serde::{Deserialize, Serialize};

use crate::units::DType;

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// One static batch: all prompts prefilled together, then decoded in lock-step.
    Batch(u64),
    /// Closed loop: this many requests always in flight, continuous batching.
    Concurrency(u64),
}

/// The work: load, prompt length and output length (tokens per request).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// How requests arrive.
    pub load: Load,
    /// Prompt tokens per request.
    pub prompt: u64,
    /// Generated tokens per request.
    pub output: u64,
}

/// The set-up: engine, tensor-parallel degree and element types.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Deployment {
    /// Serving engine whose overheads apply (`vllm`, `trtllm`, …; `none` = kernels only).
    pub engine: String,
    /// Tensor-parallel degree (devices per replica).
    pub tp: u64,
    /// Element type of weights and GEMM operands.
    pub dtype: DType,
    /// Element type of the KV cache.
    pub kv_dtype: DType,
}

impl Deployment {
    /// Element type of embedding and LM head, which are not quantised: f32 under f32, else bf16.
    pub fn head_dtype(&self) -> DType {
        if self.dtype == DType::F32 { DType::F32 } else { DType::Bf16 }
    }
}
