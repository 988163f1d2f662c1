//! `out[m,n] = x[m,k] w[n,k]^T`: the linear layer as checkpoints store it.
//!
//! Few rows are read row by row at the speed of memory; many go through the packed GEMM of the `gemm` crate, bf16
//! weights widened block by block.

use gemm::Parallelism;
use pulp::Arch;
use rayon::prelude::*;

use crate::compute::dot::{Number, dots};
use crate::compute::storage::{SizeError, Stored, sized};

/// From so many rows on the packed GEMM is faster than reading the weights row by row.
const PACKED_FROM: usize = 13;
/// Rows of bf16 weights that are widened at a time.
const WIDENED: usize = 256;
/// Weight rows of one task of the row-by-row kernel.
const ROWS: usize = 32;

/// Sizes of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of `x`: tokens.
    pub m: usize,
    /// Output features.
    pub n: usize,
    /// Input features.
    pub k: usize,
}

/// Computes `out = x w^T`; `x` is `m x k`, `w` is `n x k`, `out` is `m x n`, all row-major.
///
/// # Errors
/// A slice of another size.
pub fn linear(x: &[f32], w: Stored<'_>, out: &mut [f32], shape: Shape) -> Result<(), SizeError> {
    let Shape { m, n, k } = shape;
    sized("x", x.len(), m * k)?;
    sized("w", w.len(), n * k)?;
    sized("out", out.len(), m * n)?;
    if m == 0 || n == 0 || k == 0 {
        out.fill(0.0);
        return Ok(());
    }
    match w {
        Stored::F32(w) if m < PACKED_FROM => by_rows(x, w, out, shape),
        Stored::Bf16(w) if m < PACKED_FROM => by_rows(x, w, out, shape),
        Stored::F32(w) => {
            let at = Target { out: out.as_mut_ptr(), stride: n };
            packed(x, w, at, shape, Parallelism::Rayon(rayon::current_num_threads()));
        }
        Stored::Bf16(w) => widened(x, w, out, shape),
    }
    Ok(())
}

/// Where a block of the output goes.
#[derive(Clone, Copy)]
struct Target {
    out: *mut f32,
    /// Numbers from one row of the output to the next.
    stride: usize,
}

// SAFETY: tasks write disjoint columns of the output (see `widened`).
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// The same rows from column `column` on.
    fn at_column(self, column: usize) -> Self {
        // SAFETY: callers pass a column below the stride, which lies inside the first row.
        Self { out: unsafe { self.out.add(column) }, stride: self.stride }
    }
}

fn packed(x: &[f32], w: &[f32], target: Target, Shape { m, n, k }: Shape, threads: Parallelism) {
    // SAFETY: `linear` has checked that x, w and the output hold m x k, n x k and m x n numbers.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target.out,
            1,
            target.stride as isize,
            false,
            x.as_ptr(),
            1,
            k as isize,
            w.as_ptr(),
            k as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

fn widened(x: &[f32], w: &[half::bf16], out: &mut [f32], shape: Shape) {
    let Shape { m, n, k } = shape;
    let target = Target { out: out.as_mut_ptr(), stride: n };
    w.par_chunks(WIDENED * k).enumerate().for_each_init(Vec::new, |scratch, (block, rows)| {
        let block_shape = Shape { m, n: rows.len() / k, k };
        let rows = Stored::Bf16(rows).widened(scratch);
        packed(x, rows, target.at_column(block * WIDENED), block_shape, Parallelism::None);
    });
}

fn by_rows<T: Number>(x: &[f32], w: &[T], out: &mut [f32], Shape { m, n, k }: Shape) {
    let target = Target { out: out.as_mut_ptr(), stride: n };
    let arch = Arch::new();
    w.par_chunks(ROWS * k).enumerate().for_each(|(block, rows)| {
        let target = target.at_column(block * ROWS);
        arch.dispatch(ByRows { x, rows, target, m, k });
    });
}

struct ByRows<'a, T> {
    x: &'a [f32],
    rows: &'a [T],
    target: Target,
    m: usize,
    k: usize,
}

impl<T: Number> pulp::WithSimd for ByRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Self { x, rows, target, m, k } = self;
        let token = |i: usize| &x[i * k..(i + 1) * k];
        for (column, row) in rows.chunks_exact(k).enumerate() {
            let put = |i: usize, value: f32| {
                // SAFETY: row i < m and this task's columns lie inside the output, and no other task has them.
                unsafe { *target.out.add(i * target.stride + column) = value };
            };
            let mut i = 0;
            while i + 4 <= m {
                let sums = dots([token(i), token(i + 1), token(i + 2), token(i + 3)], row);
                sums.iter().enumerate().for_each(|(j, sum)| put(i + j, *sum));
                i += 4;
            }
            while i < m {
                put(i, dots([token(i)], row)[0]);
                i += 1;
            }
        }
    }
}
