//! Kernels that are bound by memory: norm, rope, activation.

use pulp::Arch;
use rayon::prelude::*;

use crate::compute::exponential::exp;

/// Tokens of one task.
const TOKENS: usize = 16;

/// Residual addition and RMSNorm: `residual += update`, `out = residual / rms(residual) * gain`; all but `gain` are
/// `[tokens, gain.len()]`.
pub fn add_and_norm(residual: &mut [f32], update: &[f32], gain: &[f32], epsilon: f32, out: &mut [f32]) {
    let width = gain.len().max(1);
    let arch = Arch::new();
    let rows = residual
        .par_chunks_mut(TOKENS * width)
        .zip(update.par_chunks(TOKENS * width))
        .zip(out.par_chunks_mut(TOKENS * width));
    rows.for_each(|((residual, update), out)| {
        arch.dispatch(AddAndNorm { residual, update, gain, epsilon, out });
    });
}

struct AddAndNorm<'a> {
    residual: &'a mut [f32],
    update: &'a [f32],
    gain: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl pulp::WithSimd for AddAndNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let width = self.gain.len().max(1);
        let rows =
            self.residual.chunks_mut(width).zip(self.update.chunks(width)).zip(self.out.chunks_mut(width));
        for ((residual, update), out) in rows {
            let mut squares = [0f32; 16];
            for (r, u) in residual.chunks_mut(16).zip(update.chunks(16)) {
                for ((r, u), s) in r.iter_mut().zip(u).zip(&mut squares) {
                    *r += u;
                    *s = r.mul_add(*r, *s);
                }
            }
            let mean = squares.iter().sum::<f32>() / width as f32;
            let scale = 1.0 / (mean + self.epsilon).sqrt();
            for ((o, r), g) in out.iter_mut().zip(residual.iter()).zip(self.gain) {
                *o = r * scale * g;
            }
        }
    }
}

/// `out = silu(gate) * up`; `gate_up` is `[tokens, 2 ffn]` (gate first), `out` `[tokens, ffn]`.
pub fn activation(gate_up: &[f32], ffn: usize, out: &mut [f32]) {
    let ffn = ffn.max(1);
    let arch = Arch::new();
    gate_up.par_chunks(2 * ffn).zip(out.par_chunks_mut(ffn)).with_min_len(TOKENS).for_each(
        |(gate_up, out)| {
            let (gate, up) = gate_up.split_at(ffn.min(gate_up.len()));
            arch.dispatch(SwiGlu { gate, up, out });
        },
    );
}

struct SwiGlu<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl pulp::WithSimd for SwiGlu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for ((o, g), u) in self.out.iter_mut().zip(self.gate).zip(self.up) {
            *o = g * u / (1.0 + exp(-*g));
        }
    }
}

/// Angles of rotary positions: cosines and sines, `[positions, head_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct Rotary {
    cosines: Vec<f32>,
    sines: Vec<f32>,
    half: usize,
}

impl Rotary {
    /// For positions `0..positions` (arXiv 2104.09864, eq. 15).
    pub fn new(positions: usize, head_dim: usize, theta: f64) -> Self {
        let half = head_dim / 2;
        let angle = |i: usize| {
            let (position, pair) = (i / half.max(1), i % half.max(1));
            position as f64 * theta.powf(-2.0 * pair as f64 / head_dim as f64)
        };
        let angles = || (0..positions * half).map(angle);
        Self {
            cosines: angles().map(|a| a.cos() as f32).collect(),
            sines: angles().map(|a| a.sin() as f32).collect(),
            half,
        }
    }

    /// Turns the first `heads` heads of every token in place; token `t` starts at `t * stride` and stands at
    /// position `positions[t]`. Halves are paired as in Hugging Face checkpoints. Positions beyond the table's are
    /// left as they are.
    pub fn turn(&self, tokens: &mut [f32], stride: usize, heads: usize, positions: &[usize]) {
        let work = tokens.par_chunks_mut(stride.max(1)).zip(positions).with_min_len(TOKENS);
        work.for_each(|(token, &position)| {
            let at = position * self.half..(position + 1) * self.half;
            let (Some(cosines), Some(sines)) = (self.cosines.get(at.clone()), self.sines.get(at)) else {
                return;
            };
            for head in token.chunks_exact_mut((2 * self.half).max(1)).take(heads) {
                let (low, high) = head.split_at_mut(self.half);
                for (((a, b), c), s) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                    (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
                }
            }
        });
    }
}
