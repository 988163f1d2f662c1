//! Kernels that are bound by memory: norm, rope.

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

/// RMSNorm of every row: `out = x / rms(x) * gain`; `x` and `out` are `[tokens, gain.len()]`.
pub fn rms_norm(x: &[f32], gain: &[f32], epsilon: f32, out: &mut [f32]) {
    let width = gain.len().max(1);
    let arch = Arch::new();
    let rows = x.par_chunks(TOKENS * width).zip(out.par_chunks_mut(TOKENS * width));
    rows.for_each(|(x, out)| {
        arch.dispatch(Rows(|| {
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                let scale = inverse_rms(x, epsilon);
                for ((o, x), g) in out.iter_mut().zip(x).zip(gain) {
                    *o = x * scale * g;
                }
            }
        }));
    });
}

/// RMSNorm of every row where it stands: `x = x / rms(x) * gain`; `x` is `[rows, gain.len()]`, each head a row where
/// heads are normed.
pub fn rms_norm_in_place(x: &mut [f32], gain: &[f32], epsilon: f32) {
    let width = gain.len().max(1);
    let arch = Arch::new();
    x.par_chunks_mut(TOKENS * width).for_each(|x| {
        arch.dispatch(Rows(|| {
            for row in x.chunks_exact_mut(width) {
                let scale = inverse_rms(row, epsilon);
                for (x, g) in row.iter_mut().zip(gain) {
                    *x = *x * scale * g;
                }
            }
        }));
    });
}

/// Adds a normed update to the stream: `stream += update / rms(update) * gain`; both are `[tokens, gain.len()]`.
pub fn add_normed(stream: &mut [f32], update: &[f32], gain: &[f32], epsilon: f32) {
    let width = gain.len().max(1);
    let arch = Arch::new();
    let rows = stream.par_chunks_mut(TOKENS * width).zip(update.par_chunks(TOKENS * width));
    rows.for_each(|(stream, update)| {
        arch.dispatch(Rows(|| {
            for (stream, update) in stream.chunks_exact_mut(width).zip(update.chunks_exact(width)) {
                let scale = inverse_rms(update, epsilon);
                for ((s, u), g) in stream.iter_mut().zip(update).zip(gain) {
                    *s += u * scale * g;
                }
            }
        }));
    });
}

/// `stream += update`.
pub fn add(stream: &mut [f32], update: &[f32]) {
    const PART: usize = 1 << 14;
    stream.par_chunks_mut(PART).zip(update.par_chunks(PART)).for_each(|(stream, update)| {
        stream.iter_mut().zip(update).for_each(|(s, u)| *s += u);
    });
}

#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    let mut squares = [0f32; 16];
    for part in x.chunks(16) {
        for (x, s) in part.iter().zip(&mut squares) {
            *s = x.mul_add(*x, *s);
        }
    }
    let mean = squares.iter().sum::<f32>() / x.len().max(1) as f32;
    1.0 / (mean + epsilon).sqrt()
}

/// Work on some rows, compiled for the widest vectors there are.
pub(super) struct Rows<F>(pub(super) F);

impl<R, F: FnOnce() -> R> pulp::WithSimd for Rows<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> R {
        (self.0)()
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
        Self::of_angles(positions * half, half, 1.0, angle)
    }

    /// For positions `0..positions`, pair `i` turning by `frequencies[i]` a token; cosines and sines are multiplied by
    /// `factor`. Angles are products in f32, as transformers computes them.
    pub fn with_frequencies(positions: usize, frequencies: &[f32], factor: f32) -> Self {
        let half = frequencies.len();
        let pairs = frequencies.iter().cycle();
        let angles: Vec<f64> = (0..positions * half)
            .zip(pairs)
            .map(|(i, frequency)| f64::from((i / half.max(1)) as f32 * frequency))
            .collect();
        Self::of_angles(angles.len(), half, f64::from(factor), |i| angles.get(i).copied().unwrap_or(0.0))
    }

    fn of_angles(count: usize, half: usize, factor: f64, angle: impl Fn(usize) -> f64) -> Self {
        Self {
            cosines: (0..count).map(|i| (angle(i).cos() * factor) as f32).collect(),
            sines: (0..count).map(|i| (angle(i).sin() * factor) as f32).collect(),
            half,
        }
    }

    /// Positions in the table.
    pub fn positions(&self) -> usize {
        self.cosines.len().checked_div(self.half).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * 7919 % 2003) as f32 / 500.0 - 2.0).collect()
    }

    #[test]
    fn norms_agree_with_double_precision() {
        let (width, tokens) = (37, 21);
        let (x, gain) = (numbers(width * tokens), numbers(width));
        let exact = |i: usize| {
            let row = &x[i / width * width..][..width];
            let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / width as f64;
            f64::from(x[i]) / (mean + 1e-6).sqrt() * f64::from(gain[i % width])
        };
        let (mut out, mut placed, mut stream) = (vec![f32::NAN; x.len()], x.clone(), x.clone());
        rms_norm(&x, &gain, 1e-6, &mut out);
        rms_norm_in_place(&mut placed, &gain, 1e-6);
        add_normed(&mut stream, &x, &gain, 1e-6);
        for i in 0..x.len() {
            assert!((f64::from(out[i]) - exact(i)).abs() < 2e-6);
            assert_eq!(out[i], placed[i]);
            assert!((f64::from(stream[i]) - exact(i) - f64::from(x[i])).abs() < 2e-6);
        }
    }

    #[test]
    fn frequencies_give_the_same_table_as_a_base() {
        let frequencies: Vec<f32> =
            (0..4).map(|i| 10_000f64.powf(-2.0 * f64::from(i) / 8.0) as f32).collect();
        let (a, b) = (Rotary::new(9, 8, 10_000.0), Rotary::with_frequencies(9, &frequencies, 1.0));
        assert_eq!(b.positions(), 9);
        let pairs = a.cosines.iter().zip(&b.cosines).chain(a.sines.iter().zip(&b.sines));
        assert!(pairs.clone().count() == 72 && pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
