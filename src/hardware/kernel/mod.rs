//! One kernel call: family, shape, element type, FLOPs, bytes.
//!
//! Deliberately absent: how long it takes (see [`crate::hardware::latency`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, DType, Flops};

/// Kernel family: one estimator and one CSV table each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelFamily {
    /// `C[m,n] = A[m,k] B[n,k]^T`.
    Gemm,
    /// Causal self attention over a whole prompt.
    AttentionPrefill,
    /// One query token per sequence against the KV cache.
    AttentionDecode,
    /// Sum over the devices of a tensor-parallel group.
    AllReduce,
    /// Memory-bound kernels without a table: norms, activation, rope, embedding, sampling.
    Elementwise,
}

impl KernelFamily {
    /// The families that have a table, in table order.
    pub const TABLES: [KernelFamily; 4] = [
        KernelFamily::Gemm,
        KernelFamily::AttentionPrefill,
        KernelFamily::AttentionDecode,
        KernelFamily::AllReduce,
    ];

    /// Name as it stands in file names and JSON.
    pub fn name(self) -> &'static str {
        match self {
            KernelFamily::Gemm => "gemm",
            KernelFamily::AttentionPrefill => "attention_prefill",
            KernelFamily::AttentionDecode => "attention_decode",
            KernelFamily::AllReduce => "all_reduce",
            KernelFamily::Elementwise => "elementwise",
        }
    }
}

impl fmt::Display for KernelFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How an all-reduce is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Vendor library (NCCL, HCCL).
    Nccl,
    /// Engine's own kernel, launched eagerly.
    VllmEager,
    /// Engine's own kernel inside a captured graph.
    VllmGraph,
}

impl Backend {
    /// Name as it stands in data files.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Nccl => "nccl",
            Backend::VllmEager => "vllm_eager",
            Backend::VllmGraph => "vllm_graph",
        }
    }
}

/// One kernel call on one device. Dimensions are those the device sees (after tensor parallelism).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelCall {
    /// `C[m,n] = A[m,k] B[n,k]^T`.
    Gemm {
        /// Rows (tokens).
        m: u64,
        /// Output features.
        n: u64,
        /// Input features.
        k: u64,
        /// Operand type.
        dtype: DType,
    },
    /// Causal self attention over a whole prompt, no prefix.
    AttentionPrefill {
        /// Sequences.
        batch: u64,
        /// Tokens per sequence.
        seq_len: u64,
        /// Query heads on this device.
        q_heads: u64,
        /// KV heads on this device.
        kv_heads: u64,
        /// Head size.
        head_dim: u64,
        /// KV-cache type.
        dtype: DType,
    },
    /// One query token per sequence against `kv_len` cached tokens.
    AttentionDecode {
        /// Sequences.
        batch: u64,
        /// Cached tokens per sequence.
        kv_len: u64,
        /// Query heads on this device.
        q_heads: u64,
        /// KV heads on this device.
        kv_heads: u64,
        /// Head size.
        head_dim: u64,
        /// KV-cache type.
        dtype: DType,
    },
    /// Sum of a buffer over `world` devices.
    AllReduce {
        /// Devices.
        world: u64,
        /// Bytes of the buffer being reduced.
        bytes: u64,
        /// How it is carried out.
        backend: Backend,
    },
    /// A memory-bound kernel: so many bytes moved in so many launches.
    Elementwise {
        /// Bytes read and written.
        bytes: u64,
        /// Kernel launches.
        launches: u64,
    },
}

impl KernelCall {
    /// The family this call belongs to.
    pub fn family(&self) -> KernelFamily {
        match self {
            KernelCall::Gemm { .. } => KernelFamily::Gemm,
            KernelCall::AttentionPrefill { .. } => KernelFamily::AttentionPrefill,
            KernelCall::AttentionDecode { .. } => KernelFamily::AttentionDecode,
            KernelCall::AllReduce { .. } => KernelFamily::AllReduce,
            KernelCall::Elementwise { .. } => KernelFamily::Elementwise,
        }
    }

    /// Numbers of the call under the names of their columns; none for elementwise kernels, which have no table.
    pub fn dimensions(&self) -> Vec<(&'static str, u64)> {
        match *self {
            KernelCall::Gemm { m, n, k, .. } => vec![("m", m), ("n", n), ("k", k)],
            KernelCall::AttentionPrefill { batch, seq_len, q_heads, kv_heads, head_dim, .. } => vec![
                ("batch", batch),
                ("seq_len", seq_len),
                ("q_heads", q_heads),
                ("kv_heads", kv_heads),
                ("head_dim", head_dim),
            ],
            KernelCall::AttentionDecode { batch, kv_len, q_heads, kv_heads, head_dim, .. } => vec![
                ("batch", batch),
                ("kv_len", kv_len),
                ("q_heads", q_heads),
                ("kv_heads", kv_heads),
                ("head_dim", head_dim),
            ],
            KernelCall::AllReduce { world, bytes, .. } => vec![("world", world), ("bytes", bytes)],
            KernelCall::Elementwise { .. } => Vec::new(),
        }
    }

    /// Its element type: of operands or of the KV cache; none for all-reduce and elementwise.
    pub fn dtype(&self) -> Option<DType> {
        match *self {
            KernelCall::Gemm { dtype, .. }
            | KernelCall::AttentionPrefill { dtype, .. }
            | KernelCall::AttentionDecode { dtype, .. } => Some(dtype),
            KernelCall::AllReduce { .. } | KernelCall::Elementwise { .. } => None,
        }
    }

    /// How an all-reduce is carried out; none for other kernels.
    pub fn backend(&self) -> Option<Backend> {
        match *self {
            KernelCall::AllReduce { backend, .. } => Some(backend),
            _ => None,
        }
    }

    /// Operations the call needs (a multiply-add is two); zero for all-reduce and elementwise.
    pub fn flops(&self) -> Flops {
        match *self {
            KernelCall::Gemm { m, n, k, .. } => Flops(2.0 * m as f64 * n as f64 * k as f64),
            KernelCall::AttentionPrefill { batch, seq_len, q_heads, head_dim, .. } => {
                let pairs = seq_len as f64 * (seq_len as f64 + 1.0) / 2.0;
                Flops(4.0 * batch as f64 * q_heads as f64 * head_dim as f64 * pairs)
            }
            KernelCall::AttentionDecode { batch, kv_len, q_heads, head_dim, .. } => {
                Flops(4.0 * batch as f64 * q_heads as f64 * head_dim as f64 * kv_len as f64)
            }
            KernelCall::AllReduce { .. } | KernelCall::Elementwise { .. } => Flops::ZERO,
        }
    }

    /// Bytes the call must move to and from device memory at least once
    /// (activations are bf16; an all-reduce counts its buffer).
    pub fn bytes(&self) -> Bytes {
        match *self {
            KernelCall::Gemm { m, n, k, dtype } => {
                let (m, n, k) = (m as f64, n as f64, k as f64);
                Bytes((m * k + n * k) * dtype.bytes() + m * n * dtype.bytes().clamp(2.0, 4.0))
            }
            KernelCall::AttentionPrefill { batch, seq_len, q_heads, kv_heads, head_dim, dtype } => {
                let tokens = batch as f64 * seq_len as f64 * head_dim as f64;
                Bytes(tokens * (2.0 * q_heads as f64 * 2.0 + 2.0 * kv_heads as f64 * dtype.bytes()))
            }
            KernelCall::AttentionDecode { batch, kv_len, q_heads, kv_heads, head_dim, dtype } => {
                let head = batch as f64 * head_dim as f64;
                let cache = 2.0 * head * kv_len as f64 * kv_heads as f64 * dtype.bytes();
                Bytes(cache + 2.0 * 2.0 * head * q_heads as f64)
            }
            KernelCall::AllReduce { bytes, .. } => Bytes(bytes as f64),
            KernelCall::Elementwise { bytes, .. } => Bytes(bytes as f64),
        }
    }
}

/// Such as `m=128 n=4096 k=4096 bf16`.
impl fmt::Display for KernelCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> =
            self.dimensions().iter().map(|(name, value)| format!("{name}={value}")).collect();
        words.extend(self.dtype().map(|dtype| dtype.to_string()));
        words.extend(self.backend().map(|backend| backend.name().to_string()));
        if let KernelCall::Elementwise { bytes, launches } = self {
            words.push(format!("bytes={bytes} launches={launches}"));
        }
        f.pad(&words.join(" "))
    }
}
