//! What the CPU can do at most: multiply-adds a second, bytes a second.

use pulp::Arch;
use rayon::prelude::*;

use crate::hardware::measure::timing::{self, Timing};
use crate::units::{BytesPerSecond, FlopsPerSecond};

/// Independent sums of one thread, each a vector register: enough to fill the pipelines.
const SUMS: usize = 12;
/// Rounds of one task.
const ROUNDS: usize = 200_000;

/// Multiply-adds in registers on all threads: the rate no kernel exceeds.
pub fn arithmetic() -> FlopsPerSecond {
    let threads = rayon::current_num_threads();
    let arch = Arch::new();
    let timing = timing::time(|repeat| {
        let sums: f32 = (0..threads)
            .into_par_iter()
            .with_max_len(1)
            .map(|thread| arch.dispatch(MultiplyAdd { start: (repeat + thread) as f32 * 1e-6 }))
            .sum();
        std::hint::black_box(sums);
    });
    FlopsPerSecond(2.0 * (SUMS * arch.dispatch(Lanes) * ROUNDS * threads) as f64 / best(timing))
}

struct MultiplyAdd {
    start: f32,
}

impl pulp::WithSimd for MultiplyAdd {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> f32 {
        let mut sums = [simd.splat_f32s(self.start); SUMS];
        let factor = simd.splat_f32s(0.999);
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, factor);
            }
        }
        sums.iter().map(|sum| simd.reduce_sum_f32s(*sum)).sum()
    }
}

/// Numbers in one vector register.
struct Lanes;

impl pulp::WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// Reading memory on all threads, far beyond the caches.
pub fn reading(memory: &[f32]) -> BytesPerSecond {
    let arch = Arch::new();
    let timing = timing::time(|_| {
        let sum: f32 = memory.par_chunks(1 << 16).map(|part| arch.dispatch(Sum { part })).sum();
        std::hint::black_box(sum);
    });
    BytesPerSecond(memory.len() as f64 * 4.0 / best(timing))
}

struct Sum<'a> {
    part: &'a [f32],
}

impl pulp::WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f32 {
        let mut lanes = [0f32; 64];
        for part in self.part.chunks_exact(64) {
            for (lane, x) in lanes.iter_mut().zip(part) {
                *lane += x;
            }
        }
        lanes.iter().sum()
    }
}

/// Copying memory on all threads; read and written bytes both count.
pub fn copying(from: &[f32], to: &mut [f32]) -> BytesPerSecond {
    let len = from.len().min(to.len());
    let timing = timing::time(|_| {
        to.par_chunks_mut(1 << 16).zip(from.par_chunks(1 << 16)).for_each(|(to, from)| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        });
    });
    BytesPerSecond(len as f64 * 8.0 / best(timing))
}

/// A peak is what undisturbed repeats reach: the median less one spread.
fn best(timing: Timing) -> f64 {
    timing.median.0 * (1.0 - timing.spread).max(0.5)
}
