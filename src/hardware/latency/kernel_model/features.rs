//! What the boosted residual sees of a call: sizes, intensity, tile and wave quantisation.

use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::profile::device::Device;

/// Output tiles that GEMM libraries commonly use, in elements (rows, columns).
const GEMM_TILES: [(u64, u64); 6] = [(128, 256), (256, 128), (128, 128), (64, 128), (64, 64), (16, 128)];

/// Appends the features of a call on a device; the number depends on the family only.
pub fn push(call: &KernelCall, device: &Device, out: &mut Vec<f32>) {
    match *call {
        KernelCall::Gemm { m, n, k, .. } => {
            out.extend([log2(m), log2(n), log2(k)]);
            for tile in GEMM_TILES {
                out.push(wave_inflation(m, n, tile, device.cores));
            }
            let cube = device.tile.m.min(64);
            out.push(padding(m, cube));
            out.push(padding(n, 128));
            out.push(log2(product(&[n.div_ceil(128), m.div_ceil(128)])) - log2(device.cores));
            out.push(log2(product(&[m, n])) - log2(k));
        }
        KernelCall::AttentionPrefill { batch, seq_len, q_heads, kv_heads, head_dim, .. } => {
            out.extend([log2(batch), log2(seq_len), log2(q_heads), log2(kv_heads), log2(head_dim)]);
            out.push(log2(q_heads) - log2(kv_heads));
            for rows in [64, 128] {
                let blocks = product(&[seq_len.div_ceil(rows), batch, q_heads]);
                out.push(log2(blocks) - log2(device.cores));
                out.push(wave(blocks, device.cores));
            }
            out.push(padding(seq_len, 128));
            out.push(padding(product(&[seq_len, (q_heads / kv_heads.max(1)).max(1)]), 128));
        }
        KernelCall::AttentionDecode { batch, kv_len, q_heads, kv_heads, head_dim, .. } => {
            out.extend([log2(batch), log2(kv_len), log2(q_heads), log2(kv_heads), log2(head_dim)]);
            out.push(log2(q_heads) - log2(kv_heads));
            let group = (q_heads / kv_heads.max(1)).max(1);
            out.push(padding(group, 16));
            let pairs = product(&[batch, kv_heads]);
            out.push(log2(pairs) - log2(device.cores));
            out.push(wave(pairs, device.cores));
            out.push(wave(product(&[batch, q_heads]), device.cores));
            out.push(log2(product(&[kv_len.div_ceil(128), pairs])) - log2(device.cores));
        }
        KernelCall::AllReduce { .. } | KernelCall::Elementwise { .. } => {}
    }
}

/// Number of features of a family.
pub fn count(family: KernelFamily) -> usize {
    match family {
        KernelFamily::Gemm => 7 + GEMM_TILES.len(),
        KernelFamily::AttentionPrefill => 12,
        KernelFamily::AttentionDecode => 11,
        KernelFamily::AllReduce | KernelFamily::Elementwise => 0,
    }
}

/// Tables and device facts may hold numbers whose product no `u64` holds: the largest stands for it.
fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, factor| product.saturating_mul(*factor))
}

fn log2(x: u64) -> f32 {
    (x.max(1) as f32).log2()
}

fn padding(x: u64, multiple: u64) -> f32 {
    let padded = product(&[x.div_ceil(multiple), multiple]);
    (padded as f32 / x.max(1) as f32).log2()
}

fn wave(blocks: u64, cores: u64) -> f32 {
    let waves = product(&[blocks.div_ceil(cores), cores]);
    (waves as f32 / blocks.max(1) as f32).log2()
}

fn wave_inflation(m: u64, n: u64, (rows, columns): (u64, u64), cores: u64) -> f32 {
    let tiles = product(&[m.div_ceil(rows), n.div_ceil(columns)]);
    let work = product(&[tiles.div_ceil(cores), cores, rows, columns]);
    (work as f32 / product(&[m, n]).max(1) as f32).log2()
}
