//! Row-major products as a column-major BLAS is asked for them.
//!
//! A row-major `r x c` matrix is, read column by column, its transpose, `c x r` with `c` numbers from one column to the
//! next. So BLAS is asked for `out^T`, and `A` is the second operand of the product, `B` the first.

use crate::compute::linear::Shape;

/// Arguments of `C = op(A) op(B)`: `op(A)` is `m x k`, `op(B)` `k x n`, `C` `m x n`, column-major, nothing between
/// columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// `A` is held transposed, `k x m`.
    pub transa: bool,
    /// `B` is held transposed, `n x k`.
    pub transb: bool,
    /// Rows of `C`.
    pub m: i32,
    /// Columns of `C`.
    pub n: i32,
    /// Products of a sum.
    pub k: i32,
    /// Numbers from one column of `A` to the next.
    pub lda: i32,
    /// Numbers from one column of `B` to the next.
    pub ldb: i32,
    /// Numbers from one column of `C` to the next.
    pub ldc: i32,
}

impl Gemm {
    /// For `out = x w^T` with `x` `m x k` and `w` `n x k`: `A` is `w`, `B` is `x`. `None`: a side beyond 31 bits.
    pub fn rows_by_rows(shape: Shape) -> Option<Self> {
        let (rows, columns, inner) = (side(shape.m)?, side(shape.n)?, side(shape.k)?);
        let (m, n, k) = (columns, rows, inner);
        Some(Self { transa: true, transb: false, m, n, k, lda: inner, ldb: inner, ldc: columns })
    }

    /// For `out = x^T y` with `x` `tokens x rows` and `y` `tokens x columns`: `A` is `y`, `B` is `x`. `None`: a side
    /// beyond 31 bits.
    pub fn columns_by_columns(tokens: usize, rows: usize, columns: usize) -> Option<Self> {
        let (rows, columns, inner) = (side(rows)?, side(columns)?, side(tokens)?);
        let (m, n, k) = (columns, rows, inner);
        Some(Self { transa: false, transb: true, m, n, k, lda: columns, ldb: rows, ldc: columns })
    }

    /// Whether `A`, `B` and `C` hold so many numbers.
    pub fn fits(&self, a: usize, b: usize, c: usize) -> bool {
        let size = |x: i32, y: i32| u64::from(x.unsigned_abs()) * u64::from(y.unsigned_abs());
        let (m, n, k) = (self.m, self.n, self.k);
        [(a, size(m, k)), (b, size(k, n)), (c, size(m, n))].iter().all(|(len, size)| *len as u64 == *size)
    }
}

fn side(length: usize) -> Option<i32> {
    i32::try_from(length).ok()
}

/// Test only: BLAS's `sgemm` as its reference defines it, column-major, in plain loops and double precision.
#[cfg(test)]
pub(super) fn reference(gemm: Gemm, a: &[f32], b: &[f32], c: &mut [f32]) {
    let whole = |x: i32| usize::try_from(x).unwrap();
    let (m, n, k) = (whole(gemm.m), whole(gemm.n), whole(gemm.k));
    let (lda, ldb, ldc) = (whole(gemm.lda), whole(gemm.ldb), whole(gemm.ldc));
    assert!(lda >= if gemm.transa { k } else { m }, "lda is at least the rows of A as held");
    assert!(ldb >= if gemm.transb { n } else { k }, "ldb is at least the rows of B as held");
    assert!(ldc >= m, "ldc is at least the rows of C");
    let held = |x: &[f32], ld: usize, row: usize, column: usize| f64::from(x[row + column * ld]);
    for column in 0..n {
        for row in 0..m {
            let sum: f64 = (0..k)
                .map(|i| {
                    let left = if gemm.transa { held(a, lda, i, row) } else { held(a, lda, row, i) };
                    let right = if gemm.transb { held(b, ldb, column, i) } else { held(b, ldb, i, column) };
                    left * right
                })
                .sum();
            c[row + column * ldc] = sum as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers, whose sums of products are exact.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 199) as f32 - 99.0).collect()
    }

    const SIZES: [(usize, usize, usize); 6] =
        [(1, 1, 1), (1, 5, 7), (7, 33, 65), (37, 1, 129), (64, 30, 31), (3, 70, 2)];

    #[test]
    fn a_column_major_blas_gives_the_row_major_product() {
        for (m, n, k) in SIZES {
            let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
            let gemm = Gemm::rows_by_rows(Shape { m, n, k }).unwrap();
            assert!(gemm.fits(w.len(), x.len(), m * n));
            let mut out = vec![f32::NAN; m * n];
            reference(gemm, &w, &x, &mut out);
            for i in 0..m {
                for j in 0..n {
                    let sum: f32 = (0..k).map(|c| x[i * k + c] * w[j * k + c]).sum();
                    assert_eq!(out[i * n + j], sum, "{m} x {n} x {k} at {i}, {j}");
                }
            }
        }
    }

    #[test]
    fn a_column_major_blas_gives_the_row_major_cross_product() {
        for (tokens, a, b) in SIZES {
            let (x, y) = (numbers(tokens * a, 3), numbers(tokens * b, 4));
            let gemm = Gemm::columns_by_columns(tokens, a, b).unwrap();
            assert!(gemm.fits(y.len(), x.len(), a * b));
            let mut out = vec![f32::NAN; a * b];
            reference(gemm, &y, &x, &mut out);
            for i in 0..a {
                for j in 0..b {
                    let sum: f32 = (0..tokens).map(|t| x[t * a + i] * y[t * b + j]).sum();
                    assert_eq!(out[i * b + j], sum, "{tokens} x {a} x {b} at {i}, {j}");
                }
            }
        }
    }

    #[test]
    fn sides_that_blas_cannot_count_are_refused() {
        let long = i32::MAX as usize + 1;
        assert_eq!(Gemm::rows_by_rows(Shape { m: 1, n: long, k: 1 }), None);
        assert_eq!(Gemm::columns_by_columns(long, 1, 1), None);
        let gemm = Gemm::rows_by_rows(Shape { m: 2, n: 3, k: 5 }).unwrap();
        assert!(gemm.fits(15, 10, 6) && !gemm.fits(10, 15, 6) && !gemm.fits(15, 10, 5));
    }
}
