//! Inner products of several vectors with one stored row, in a fixed order of summation.

use half::bf16;

use crate::compute::storage::widen;

/// Lanes of partial sums; the same whatever the instruction set, so that results are too.
const LANES: usize = 32;

/// A stored number that widens to f32.
pub(super) trait Number: Copy + Send + Sync {
    fn value(self) -> f32;
}

impl Number for f32 {
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn value(self) -> f32 {
        widen(self)
    }
}

/// `[x_0 · row, …, x_{M-1} · row]`; vectors are cut to the row's length.
#[inline(always)]
pub(super) fn dots<T: Number, const M: usize>(x: [&[f32]; M], row: &[T]) -> [f32; M] {
    let mut sums = [[0f32; LANES]; M];
    let whole = row.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let mut lane = [0f32; LANES];
        for (l, w) in lane.iter_mut().zip(&row[at..at + LANES]) {
            *l = w.value();
        }
        for (sum, x) in sums.iter_mut().zip(&x) {
            for ((s, w), v) in sum.iter_mut().zip(&lane).zip(&x[at..at + LANES]) {
                *s = v.mul_add(*w, *s);
            }
        }
    }
    let mut out = [0f32; M];
    for ((out, sum), x) in out.iter_mut().zip(&mut sums).zip(&x) {
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                sum[i] += sum[i + width];
            }
            width /= 2;
        }
        let rest: f32 = row[whole..].iter().zip(&x[whole..]).map(|(w, v)| w.value() * v).sum();
        *out = sum[0] + rest;
    }
    out
}
