//! Inner products and weighted sums of f32 vectors in registers.

#![allow(clippy::needless_range_loop, reason = "fixed ranges over arrays unroll into registers")]

use half::bf16;
use pulp::Simd;

use crate::compute::storage::widen;

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

/// `out[t] = sum over rows of weight[t][row] * v[row]` for `T` vectors of `d` numbers; `v` is `rows x d`, every weight
/// has at least as many numbers as there are rows.
#[inline(always)]
pub(super) fn weighted<S: Simd, const T: usize>(
    simd: S,
    weight: [&[f32]; T],
    v: &[f32],
    d: usize,
    out: &mut [f32],
) {
    weighted_apart(simd, weight, v, d, out, d);
}

/// As [`weighted`], `out[t]` from `t * stride` on.
#[inline(always)]
pub(super) fn weighted_apart<S: Simd, const T: usize>(
    simd: S,
    weight: [&[f32]; T],
    v: &[f32],
    d: usize,
    out: &mut [f32],
    stride: usize,
) {
    let mut at = 0;
    while at + 4 * S::F32_LANES <= d {
        columns::<S, T, 4>(simd, weight, v, (d, at), out, stride);
        at += 4 * S::F32_LANES;
    }
    while at + S::F32_LANES <= d {
        columns::<S, T, 1>(simd, weight, v, (d, at), out, stride);
        at += S::F32_LANES;
    }
    for column in at..d {
        for t in 0..T {
            let rows = v.chunks_exact(d).zip(weight[t]);
            out[t * stride + column] = rows.map(|(row, w)| w * row[column]).sum();
        }
    }
}

/// `C` vectors of columns from `at` on.
#[inline(always)]
fn columns<S: Simd, const T: usize, const C: usize>(
    simd: S,
    weight: [&[f32]; T],
    v: &[f32],
    (d, at): (usize, usize),
    out: &mut [f32],
    stride: usize,
) {
    let width = C * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); C]; T];
    for (row, values) in v.chunks_exact(d).enumerate() {
        let (values, _) = S::as_simd_f32s(&values[at..at + width]);
        for t in 0..T {
            let factor = simd.splat_f32s(weight[t][row]);
            for c in 0..C {
                sums[t][c] = simd.mul_add_e_f32s(factor, values[c], sums[t][c]);
            }
        }
    }
    for t in 0..T {
        let (target, _) = S::as_mut_simd_f32s(&mut out[t * stride + at..t * stride + at + width]);
        target.copy_from_slice(&sums[t]);
    }
}

/// `x · row` of a row stored in bf16.
pub(super) struct Widened<'a> {
    pub(super) x: &'a [f32],
    pub(super) row: &'a [bf16],
}

impl pulp::WithSimd for Widened<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        /// Partial sums: four registers of the widest vectors.
        const LANES: usize = 64;
        let mut sums = [0f32; LANES];
        let (x, row) = (self.x.chunks_exact(LANES), self.row.chunks_exact(LANES));
        let rest: f32 = x.remainder().iter().zip(row.remainder()).map(|(x, w)| x * widen(*w)).sum();
        for (x, row) in x.zip(row) {
            for ((sum, x), w) in sums.iter_mut().zip(x).zip(row) {
                *sum = x.mul_add(widen(*w), *sum);
            }
        }
        sums.iter().sum::<f32>() + rest
    }
}
