//! Inner products and weighted sums of f32 vectors in registers.

#![allow(clippy::needless_range_loop, reason = "fixed ranges over arrays unroll into registers")]

use pulp::Simd;

/// `out[t][r] = x[t] · w[r]` for `T` vectors and `R` rows of one length (longer ones are cut to the shortest).
#[inline(always)]
pub(super) fn products<S: Simd, const T: usize, const R: usize>(
    simd: S,
    x: [&[f32]; T],
    w: [&[f32]; R],
) -> [[f32; R]; T] {
    let len = x.iter().chain(&w).map(|v| v.len()).min().unwrap_or(0);
    let (x, w) = (x.map(|v| S::as_simd_f32s(&v[..len])), w.map(|v| S::as_simd_f32s(&v[..len])));
    let vectors = x.first().map_or(0, |v| v.0.len());
    let mut sums = [[simd.splat_f32s(0.0); R]; T];
    for i in 0..vectors {
        let mut column = [simd.splat_f32s(0.0); R];
        for r in 0..R {
            column[r] = w[r].0[i];
        }
        for t in 0..T {
            let a = x[t].0[i];
            for r in 0..R {
                sums[t][r] = simd.mul_add_e_f32s(a, column[r], sums[t][r]);
            }
        }
    }
    let mut out = [[0f32; R]; T];
    for t in 0..T {
        for r in 0..R {
            let rest: f32 = x[t].1.iter().zip(w[r].1).map(|(a, b)| a * b).sum();
            out[t][r] = simd.reduce_sum_f32s(sums[t][r]) + rest;
        }
    }
    out
}

/// `out[t] = sum over rows of weight[t][row] * v[row]` for `T` vectors; `v` is `rows x d`, every weight has as many
/// numbers as there are rows.
#[inline(always)]
pub(super) fn weighted<S: Simd, const T: usize>(
    simd: S,
    weight: [&[f32]; T],
    v: &[f32],
    d: usize,
    out: &mut [f32],
) {
    /// Vectors of a row that are summed at a time.
    const COLUMNS: usize = 4;
    let rows = weight.iter().map(|w| w.len()).min().unwrap_or(0).min(v.len() / d.max(1));
    let lanes = S::F32_LANES;
    let wide = lanes * COLUMNS;
    let mut at = 0;
    while at + wide <= d {
        let mut sums = [[simd.splat_f32s(0.0); COLUMNS]; T];
        for row in 0..rows {
            let (values, _) = S::as_simd_f32s(&v[row * d + at..row * d + at + wide]);
            for t in 0..T {
                let factor = simd.splat_f32s(weight[t][row]);
                for c in 0..COLUMNS {
                    sums[t][c] = simd.mul_add_e_f32s(factor, values[c], sums[t][c]);
                }
            }
        }
        for t in 0..T {
            let (target, _) = S::as_mut_simd_f32s(&mut out[t * d + at..t * d + at + wide]);
            target.copy_from_slice(&sums[t]);
        }
        at += wide;
    }
    for column in at..d {
        for t in 0..T {
            let sum: f32 = (0..rows).map(|row| weight[t][row] * v[row * d + column]).sum();
            out[t * d + column] = sum;
        }
    }
}
