//! Large products handed to a device; what fails there is left to the CPU, counted and with its reason.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::compute::column_major::Gemm;
use crate::compute::device_error::DeviceError;
use crate::compute::linear::Shape;

/// Rows and columns that are added at a time.
const BLOCK: usize = 64;
/// Numbers of one task.
const PART: usize = 1 << 16;

/// `sgemm` of a device.
pub(super) trait Sgemm: Send + Sync {
    /// `c = op(a) op(b)` in f32; after an error `c` holds anything.
    fn sgemm(&self, gemm: Gemm, a: &[f32], b: &[f32], c: &mut [f32]) -> Result<(), DeviceError>;
}

/// Products that the device should have done and the CPU did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftToCpu {
    /// How many.
    pub products: u64,
    /// Why the first of them.
    pub reason: DeviceError,
}

/// A device and what went wrong on it.
pub(super) struct Offload {
    device: Box<dyn Sgemm>,
    /// Sums on their way to where they are added; kept, as fresh memory is slow to come by.
    sums: Mutex<Vec<f32>>,
    left: Mutex<Option<LeftToCpu>>,
}

impl Offload {
    pub(super) fn new(device: Box<dyn Sgemm>) -> Self {
        Self { device, sums: Mutex::default(), left: Mutex::default() }
    }

    /// What was left to the CPU so far.
    pub(super) fn left(&self) -> Option<LeftToCpu> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `out = x w^T`, sizes as [`crate::compute::product::product`] checked them. False: `out` is still to be made.
    pub(super) fn product(&self, x: &[f32], w: &[f32], out: &mut [f32], shape: Shape) -> bool {
        let gemm = Gemm::rows_by_rows(shape).ok_or(DeviceError::TooLarge);
        self.settled(gemm.and_then(|gemm| self.device.sgemm(gemm, w, x, out)))
    }

    /// Adds `x^T x` to `out`, which stays symmetric. False: nothing was added.
    pub(super) fn gram(&self, x: &[f32], width: usize, out: &mut [f32]) -> bool {
        self.sums((x, width), (x, width), out.len(), |sums| add_symmetric(out, sums, width))
    }

    /// Adds `x^T y` to `out`. False: nothing was added.
    pub(super) fn cross(&self, x: (&[f32], usize), y: (&[f32], usize), out: &mut [f32]) -> bool {
        self.sums(x, y, out.len(), |sums| {
            let parts = out.par_chunks_mut(PART).zip(sums.par_chunks(PART));
            parts.for_each(|(out, sums)| out.iter_mut().zip(sums).for_each(|(o, s)| *o += s));
        })
    }

    /// Hands `x^T y` to `add`: the sums so far are touched only once all of it is there.
    fn sums(
        &self,
        (x, x_width): (&[f32], usize),
        (y, y_width): (&[f32], usize),
        len: usize,
        add: impl FnOnce(&[f32]),
    ) -> bool {
        // Taken, not locked: a thread that waits for others in `add` may be given another product meanwhile.
        let mut sums = std::mem::take(&mut *self.sums.lock().unwrap_or_else(PoisonError::into_inner));
        if sums.len() < len {
            sums.resize(len, 0.0);
        }
        let gemm = Gemm::columns_by_columns(x.len() / x_width.max(1), x_width, y_width);
        let done = match (gemm, sums.get_mut(..len)) {
            (Some(gemm), Some(sums)) => self.device.sgemm(gemm, y, x, sums).map(|()| add(sums)),
            _ => Err(DeviceError::TooLarge),
        };
        let mut kept = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < sums.len() {
            *kept = sums;
        }
        drop(kept);
        self.settled(done)
    }

    fn settled(&self, outcome: Result<(), DeviceError>) -> bool {
        let Err(reason) = outcome else { return true };
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.get_or_insert(LeftToCpu { products: 0, reason }).products += 1;
        false
    }
}

/// Adds the lower triangle of `sums` to both triangles of `out`: a library need not round both alike.
fn add_symmetric(out: &mut [f32], sums: &[f32], width: usize) {
    out.par_chunks_mut((BLOCK * width).max(1)).enumerate().for_each(|(block, rows)| {
        for first in (0..width).step_by(BLOCK) {
            for (row, values) in (block * BLOCK..).zip(rows.chunks_exact_mut(width)) {
                for (column, value) in (first..).zip(values.iter_mut().skip(first).take(BLOCK)) {
                    let at = row.max(column) * width + row.min(column);
                    *value += sums.get(at).copied().unwrap_or_default();
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::column_major::reference;
    use crate::compute::product::{cross, gram, product};

    /// BLAS in plain loops, or a device that writes nonsense and fails.
    struct Plain {
        works: bool,
    }

    impl Sgemm for Plain {
        fn sgemm(&self, gemm: Gemm, a: &[f32], b: &[f32], c: &mut [f32]) -> Result<(), DeviceError> {
            assert!(gemm.fits(a.len(), b.len(), c.len()));
            if !self.works {
                c.fill(f32::NAN);
                return Err(DeviceError::OutOfMemory { bytes: 1 << 30 });
            }
            reference(gemm, a, b, c);
            // As if the triangles were rounded differently.
            if std::ptr::eq(a, b) {
                let width = gemm.m as usize;
                (0..width).for_each(|row| (row + 1..width).for_each(|column| c[row * width + column] += 1.0));
            }
            Ok(())
        }
    }

    /// Whole numbers, whose sums of products are exact in any order.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 63) as f32 - 31.0).collect()
    }

    #[test]
    fn a_device_gives_what_the_cpu_gives() {
        let offload = Offload::new(Box::new(Plain { works: true }));
        for (m, n, k) in [(1, 3, 5), (9, 130, 17), (70, 65, 33)] {
            let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
            let (mut found, mut exact) = (vec![f32::NAN; m * n], vec![0.0; m * n]);
            assert!(offload.product(&x, &w, &mut found, Shape { m, n, k }));
            product(&x, &w, None, &mut exact, Shape { m, n, k }).unwrap();
            assert_eq!(found, exact);

            // `k` tokens of `m` and of `n` numbers; what is there before stays.
            let (mut found, mut exact) = (vec![2.0; m * n], vec![2.0; m * n]);
            assert!(offload.cross((&x, m), (&w, n), &mut found));
            cross(&x, m, &w, n, &mut exact).unwrap();
            assert_eq!(found, exact);

            let (mut found, mut exact) = (vec![3.0; n * n], vec![3.0; n * n]);
            assert!(offload.gram(&w, n, &mut found));
            gram(&w, n, &mut exact).unwrap();
            assert_eq!(found, exact);
        }
        assert_eq!(offload.left(), None);
    }

    #[test]
    fn what_fails_leaves_sums_alone_and_is_counted_with_its_reason() {
        let offload = Offload::new(Box::new(Plain { works: false }));
        let (x, mut out) = (numbers(12, 3), vec![1.0f32; 16]);
        assert!(!offload.gram(&x, 4, &mut out));
        assert!(!offload.cross((&x, 4), (&x, 4), &mut out));
        assert_eq!(out, [1.0; 16]);
        assert!(!offload.product(&x, &x, &mut out[..9], Shape { m: 3, n: 3, k: 4 }));
        let left = offload.left().unwrap();
        assert_eq!((left.products, left.reason), (3, DeviceError::OutOfMemory { bytes: 1 << 30 }));
    }

    #[test]
    fn many_threads_may_ask_at_once() {
        let offload = Offload::new(Box::new(Plain { works: true }));
        let (x, width) = (numbers(40 * 90, 4), 90);
        let mut exact = vec![0.0; width * width];
        gram(&x, width, &mut exact).unwrap();
        (0..64).into_par_iter().for_each(|_| {
            let mut out = vec![0.0; width * width];
            assert!(offload.gram(&x, width, &mut out));
            assert_eq!(out, exact);
        });
    }
}
