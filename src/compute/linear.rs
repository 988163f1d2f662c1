//! `out[m,n] = x[m,k] w[n,k]^T`: the linear layer as checkpoints store it.
//!
//! Few rows are read row by row at the speed of memory; many go through the packed GEMM of the `gemm` crate, bf16
//! weights widened block by block.

use gemm::Parallelism;
use pulp::Arch;
use rayon::prelude::*;

use crate::compute::dot::products;
use crate::compute::storage::{SizeError, Stored, sized};

/// From so many rows on the packed GEMM is faster than reading the weights row by row.
const PACKED_FROM: usize = 40;
/// Rows of bf16 weights that are widened at a time.
const WIDENED: usize = 256;
/// Weight rows of one task of the row-by-row kernel.
const ROWS: usize = 32;
/// Weight rows and tokens that are multiplied in registers at a time.
const BLOCK: usize = 4;

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
        _ if m < PACKED_FROM => by_rows(x, w, out, shape),
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

fn by_rows(x: &[f32], w: Stored<'_>, out: &mut [f32], Shape { m, n, k }: Shape) {
    let target = Target { out: out.as_mut_ptr(), stride: n };
    let arch = Arch::new();
    (0..n.div_ceil(ROWS)).into_par_iter().for_each_init(Vec::new, |scratch, block| {
        let first = block * ROWS;
        let target = target.at_column(first);
        let last = (first + ROWS).min(n);
        for at in (first..last).step_by(BLOCK) {
            let rows = w.part(at * k, (last - at).min(BLOCK) * k).widened(scratch);
            arch.dispatch(ByRows { x, rows, target: target.at_column(at - first), m, k });
        }
    });
}

/// Up to [`BLOCK`] rows of weights against all tokens.
struct ByRows<'a> {
    x: &'a [f32],
    rows: &'a [f32],
    target: Target,
    m: usize,
    k: usize,
}

impl pulp::WithSimd for ByRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        let Self { rows, k, .. } = self;
        let row = |r: usize| &rows[r * k..(r + 1) * k];
        match rows.len() / k {
            4.. => self.tokens(simd, [row(0), row(1), row(2), row(3)]),
            3 => self.tokens(simd, [row(0), row(1), row(2)]),
            2 => self.tokens(simd, [row(0), row(1)]),
            _ => self.tokens(simd, [row(0)]),
        }
    }
}

impl ByRows<'_> {
    #[inline(always)]
    fn tokens<S: pulp::Simd, const R: usize>(&self, simd: S, rows: [&[f32]; R]) {
        let token = |i: usize| &self.x[i * self.k..(i + 1) * self.k];
        let mut i = 0;
        while i + 4 <= self.m {
            self.put(i, products(simd, [token(i), token(i + 1), token(i + 2), token(i + 3)], rows));
            i += 4;
        }
        match self.m - i {
            3 => self.put(i, products(simd, [token(i), token(i + 1), token(i + 2)], rows)),
            2 => self.put(i, products(simd, [token(i), token(i + 1)], rows)),
            1 => self.put(i, products(simd, [token(i)], rows)),
            _ => {}
        }
    }

    #[inline(always)]
    fn put<const T: usize, const R: usize>(&self, first: usize, sums: [[f32; R]; T]) {
        for (t, sums) in sums.iter().enumerate() {
            for (column, sum) in sums.iter().enumerate() {
                // SAFETY: row first + t < m and this task's columns lie inside the output, and no other task has them.
                unsafe { *self.target.out.add((first + t) * self.target.stride + column) = *sum };
            }
        }
    }
}
