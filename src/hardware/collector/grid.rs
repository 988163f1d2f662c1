//! The grid that is the same for every device: powers of two, coarse first, halved from level to level.

use crate::hardware::collector::point::Point;
use crate::hardware::kernel::KernelCall;
use crate::units::DType;

/// Levels of refinement; level 0 is the coarsest and spans the whole range.
pub const LEVELS: u32 = 3;

/// Powers of two from `2^low` to `2^high`, every fourth at level 0, every second at level 1, then all.
pub fn ladder(low: u32, high: u32, level: u32) -> Vec<u64> {
    let step = 4u32 >> level.min(2);
    (low..=high).step_by(step as usize).map(|exponent| 1 << exponent).collect()
}

/// Tokens in a GEMM.
pub fn tokens(level: u32) -> Vec<u64> {
    ladder(0, 14, level)
}

/// Sequences in a batch: 1 to 256.
pub fn batches(level: u32) -> Vec<u64> {
    ladder(0, 8, level)
}

/// Prompt lengths: 32 to 8192.
pub fn prompts(level: u32) -> Vec<u64> {
    ladder(5, 13, level)
}

/// Lengths of a KV cache: 64 to 32 768.
pub fn caches(level: u32) -> Vec<u64> {
    ladder(6, 15, level)
}

/// Features: 1024, 4096, 16 384 first; then 512 to 32 768; then the values between them too.
fn features(level: u32) -> Vec<u64> {
    match level {
        0 => vec![1024, 4096, 16_384],
        1 => ladder(9, 15, 2),
        _ => ladder(9, 15, 2).into_iter().flat_map(|n| [n, n + n / 2]).filter(|n| *n <= 32_768).collect(),
    }
}

/// Query heads, KV heads and head size of one device.
fn heads(level: u32) -> &'static [(u64, u64, u64)] {
    const HEADS: [(u64, u64, u64); 14] = [
        (32, 8, 128),
        (8, 1, 128),
        (64, 8, 128),
        (16, 8, 128),
        (32, 32, 128),
        (8, 8, 128),
        (32, 8, 64),
        (16, 2, 128),
        (4, 1, 128),
        (24, 8, 128),
        (40, 8, 128),
        (16, 16, 128),
        (32, 4, 128),
        (8, 4, 256),
    ];
    match level {
        0 => HEADS.split_at(2).0,
        1 => HEADS.split_at(7).0,
        _ => &HEADS,
    }
}

/// Copies and norms: what the elementwise rule is fitted to.
pub fn elementwise() -> Vec<Point> {
    let copies = ladder(13, 30, 1).into_iter().map(|bytes| Point::Copy { bytes });
    let norm = |hidden| move |tokens| Point::Norm { tokens, hidden };
    let norms = [2048, 8192].into_iter().flat_map(|hidden| tokens(0).into_iter().map(norm(hidden)));
    copies.chain(norms).collect()
}

/// Buffers that are summed over devices: 1 KiB to 256 MiB.
pub fn all_reduce() -> Vec<Point> {
    ladder(10, 28, 2).into_iter().map(|bytes| Point::AllReduce { bytes }).collect()
}

/// The calls of one level, those of the levels before it among them.
pub fn calls(level: u32, gemm_dtypes: &[DType]) -> Vec<KernelCall> {
    let mut calls = Vec::new();
    for &dtype in gemm_dtypes {
        for m in tokens(level) {
            for n in features(level) {
                calls.extend(features(level).into_iter().map(|k| KernelCall::Gemm { m, n, k, dtype }));
            }
        }
    }
    let dtype = DType::Bf16;
    for &(q_heads, kv_heads, head_dim) in heads(level) {
        for batch in batches(level) {
            calls.extend(prompts(level).into_iter().map(|seq_len| KernelCall::AttentionPrefill {
                batch,
                seq_len,
                q_heads,
                kv_heads,
                head_dim,
                dtype,
            }));
            calls.extend(caches(level).into_iter().map(|kv_len| KernelCall::AttentionDecode {
                batch,
                kv_len,
                q_heads,
                kv_heads,
                head_dim,
                dtype,
            }));
        }
    }
    calls
}
