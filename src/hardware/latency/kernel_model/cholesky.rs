//! Cholesky factors of small dense matrices, in a fixed order of summation.

/// Lower triangle `L` with `L L^T` = the matrix, row by row.
#[derive(Clone, Debug, Default)]
pub struct Factor {
    rows: Vec<Vec<f64>>,
}

/// Partial sums, so that the compiler may add several numbers at once.
const LANES: usize = 8;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (a8, b8) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for ((s, x), y) in sums.iter_mut().zip(x).zip(y) {
            *s += x * y;
        }
    }
    sums.iter().sum::<f64>() + rest
}

impl Factor {
    /// Factors the `n x n` matrix whose lower triangle `entry(row, column)` gives; `None` if it is not positive
    /// definite.
    pub fn of(n: usize, entry: impl Fn(usize, usize) -> f64) -> Option<Self> {
        let mut factor = Self { rows: Vec::with_capacity(n) };
        for i in 0..n {
            let row: Vec<f64> = (0..i).map(|j| entry(i, j)).collect();
            factor.push(&row, entry(i, i)).then_some(())?;
        }
        Some(factor)
    }

    /// Adds a row and column to the matrix; `false` (and no change) if it would not stay positive definite.
    pub fn push(&mut self, row: &[f64], diagonal: f64) -> bool {
        let mut new = self.forward(row);
        let rest = diagonal - dot(&new, &new);
        if !(rest.is_finite() && rest > 0.0) {
            return false;
        }
        new.push(rest.sqrt());
        self.rows.push(new);
        true
    }

    /// `L^-1 b`.
    pub fn forward(&self, b: &[f64]) -> Vec<f64> {
        let mut x: Vec<f64> = Vec::with_capacity(b.len() + 1);
        for (row, b) in self.rows.iter().zip(b) {
            let i = x.len();
            x.push((b - dot(&row[..i], &x)) / row[i]);
        }
        x
    }

    /// `A^-1 b`.
    pub fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = self.forward(b);
        for i in (0..x.len()).rev() {
            x[i] /= self.rows[i][i];
            let known = x[i];
            for (x, l) in x[..i].iter_mut().zip(&self.rows[i]) {
                *x -= l * known;
            }
        }
        x
    }

    /// `A^-1`.
    pub fn inverse(&self) -> Vec<Vec<f64>> {
        let n = self.rows.len();
        let unit = |i: usize| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect::<Vec<f64>>();
        (0..n).map(|i| self.solve(&unit(i))).collect()
    }

    /// Diagonal of `A^-1`.
    pub fn inverse_diagonal(&self) -> Vec<f64> {
        // Columns of L^-1: their squares add up to it.
        let n = self.rows.len();
        let mut diagonal = vec![0.0; n];
        for (j, d) in diagonal.iter_mut().enumerate() {
            let mut column = vec![0.0; n - j];
            column[0] = 1.0 / self.rows[j][j];
            for i in j + 1..n {
                let sum = dot(&self.rows[i][j..i], &column[..i - j]);
                column[i - j] = -sum / self.rows[i][i];
            }
            *d = dot(&column, &column);
        }
        diagonal
    }

    /// Half the logarithm of the determinant.
    pub fn log_determinant_half(&self) -> f64 {
        self.rows.iter().enumerate().map(|(i, row)| row[i].ln()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(i: usize, j: usize) -> f64 {
        let apart = (i as f64 - j as f64).abs();
        (-0.3 * apart).exp() + if i == j { 0.1 + i as f64 * 0.01 } else { 0.0 }
    }

    #[test]
    fn solves_and_inverts() {
        let n = 23;
        let factor = Factor::of(n, entry).unwrap();
        let b: Vec<f64> = (0..n).map(|i| (i as f64).sin()).collect();
        let x = factor.solve(&b);
        let (inverse, diagonal) = (factor.inverse(), factor.inverse_diagonal());
        for i in 0..n {
            let back: f64 = (0..n).map(|j| entry(i, j) * x[j]).sum();
            assert!((back - b[i]).abs() < 1e-10);
            let unit: f64 = (0..n).map(|j| entry(i, j) * inverse[j][i]).sum();
            assert!((unit - 1.0).abs() < 1e-10 && (inverse[i][i] - diagonal[i]).abs() < 1e-10);
        }
    }

    #[test]
    fn refuses_what_is_not_positive_definite() {
        assert!(Factor::of(2, |_, _| 1.0).is_none());
        assert!(Factor::of(1, |_, _| f64::NAN).is_none());
    }
}
