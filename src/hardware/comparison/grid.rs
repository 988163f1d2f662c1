//! The calls at which profiles without rows of their own are compared.

use crate::hardware::kernel::{Backend, KernelCall, KernelFamily};
use crate::units::DType;

/// Most calls taken from a table to ask another profile at.
pub const MOST: usize = 2_000;

/// Words for [`calls`].
pub fn words(family: KernelFamily) -> &'static str {
    match family {
        KernelFamily::Gemm => "m 1, 16, 128, 1024, 8192; n and k 1024, 2560, 4096, 8192, 14336",
        KernelFamily::AttentionPrefill => {
            "batch 1, 4, 16; seq_len 128, 512, 2048, 8192; q/kv heads 32/8, 16/16, 8/1 of 128"
        }
        KernelFamily::AttentionDecode => {
            "batch 1, 16, 128; kv_len 128, 512, 2048, 8192; q/kv heads 32/8, 16/16, 8/1 of 128"
        }
        KernelFamily::AllReduce => "world 2, 4, 8; 16 KiB, 256 KiB, 4 MiB, 64 MiB, 256 MiB; nccl",
        KernelFamily::Elementwise => "none",
    }
}

/// Sizes that models of 1 to 70 billion parameters come by, over what a deployment may ask.
pub fn calls(family: KernelFamily, dtype: DType) -> Vec<KernelCall> {
    const WIDTHS: [u64; 5] = [1024, 2560, 4096, 8192, 14336];
    const LENGTHS: [u64; 4] = [128, 512, 2048, 8192];
    const HEADS: [(u64, u64); 3] = [(32, 8), (16, 16), (8, 1)];
    let attention = |batches: [u64; 3]| -> Vec<(u64, u64, u64, u64)> {
        let lengths = batches.into_iter().flat_map(|batch| LENGTHS.map(|length| (batch, length)));
        lengths.flat_map(|(batch, length)| HEADS.map(|(q, kv)| (batch, length, q, kv))).collect()
    };
    let head_dim = 128;
    match family {
        KernelFamily::Gemm => {
            let pairs = WIDTHS.into_iter().flat_map(|n| WIDTHS.map(|k| (n, k)));
            let sizes = pairs.flat_map(|(n, k)| [1, 16, 128, 1024, 8192].map(|m| (m, n, k)));
            sizes.map(|(m, n, k)| KernelCall::Gemm { m, n, k, dtype }).collect()
        }
        KernelFamily::AttentionPrefill => attention([1, 4, 16])
            .into_iter()
            .map(|(batch, seq_len, q_heads, kv_heads)| KernelCall::AttentionPrefill {
                batch,
                seq_len,
                q_heads,
                kv_heads,
                head_dim,
                dtype,
            })
            .collect(),
        KernelFamily::AttentionDecode => attention([1, 16, 128])
            .into_iter()
            .map(|(batch, kv_len, q_heads, kv_heads)| KernelCall::AttentionDecode {
                batch,
                kv_len,
                q_heads,
                kv_heads,
                head_dim,
                dtype,
            })
            .collect(),
        KernelFamily::AllReduce => {
            let sizes =
                [2, 4, 8].into_iter().flat_map(|world| [14, 18, 22, 26, 28].map(|bits| (world, bits)));
            sizes
                .map(|(world, bits)| KernelCall::AllReduce {
                    world,
                    bytes: 1 << bits,
                    backend: Backend::Nccl,
                })
                .collect()
        }
        KernelFamily::Elementwise => Vec::new(),
    }
}
