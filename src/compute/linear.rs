//! `out[m,n] = x[m,k] w[n,k]^T`: the linear layer as checkpoints store it.
//!
//! Weights are read where they lie, bf16 widened four rows at a time; four rows meet four tokens in registers. Nothing
//! is packed, so that one kernel serves a single token at the speed of memory and a thousand at that of arithmetic.

use half::bf16;
use pulp::Arch;
use rayon::prelude::*;

use crate::compute::dot::{Widened, products};
use crate::compute::storage::{SizeError, Stored, sized, with_scratch};

/// Weight rows of one task.
const ROWS: usize = 32;
/// Weight rows and tokens that are multiplied in registers at a time.
const BLOCK: usize = 4;
/// Numbers of the tokens that all weights are run past at a time: what a core's own cache holds.
const CACHED: usize = 1 << 18;

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
    if let (1, Stored::Bf16(w)) = (m, w) {
        one_token(x, w, out, k);
        return Ok(());
    }
    let tokens = (CACHED / k).max(8 * BLOCK);
    for (x, out) in x.chunks(tokens * k).zip(out.chunks_mut(tokens * n)) {
        by_rows(x, w, out, Shape { m: x.len() / k, n, k });
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

// SAFETY: tasks write disjoint columns of the output (see `by_rows`).
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

fn by_rows(x: &[f32], w: Stored<'_>, out: &mut [f32], Shape { m, n, k }: Shape) {
    let target = Target { out: out.as_mut_ptr(), stride: n };
    let arch = Arch::new();
    (0..n.div_ceil(ROWS)).into_par_iter().for_each(|block| {
        let first = block * ROWS;
        let target = target.at_column(first);
        let last = (first + ROWS).min(n);
        with_scratch(|[scratch, _]| {
            for at in (first..last).step_by(BLOCK) {
                let rows = w.part(at * k, (last - at).min(BLOCK) * k).widened(scratch);
                arch.dispatch(ByRows { x, rows, target: target.at_column(at - first), m, k });
            }
        });
    });
}

/// One token against bf16 weights: each is used once, so that widening them in place of storing them widened pays.
fn one_token(x: &[f32], w: &[bf16], out: &mut [f32], k: usize) {
    let arch = Arch::new();
    out.par_chunks_mut(ROWS).zip(w.par_chunks(ROWS * k)).for_each(|(out, rows)| {
        for (out, row) in out.iter_mut().zip(rows.chunks_exact(k)) {
            *out = arch.dispatch(Widened { x, row });
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
