//! Rows of logits: log of the sum of exponentials, most likely token, divergence of two distributions.

use pulp::Arch;
use rayon::prelude::*;

use crate::compute::elementwise::Rows;
use crate::compute::exponential::exp;
use crate::compute::storage::{SizeError, sized};

/// Numbers summed in f32 before the sum goes on in f64.
const PART: usize = 1024;

/// One row of logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowSum {
    /// `ln(sum of e^logit)`: minus a token's logit, its negative log-likelihood in nats.
    pub log_sum: f64,
    /// Index of the largest logit, the first of equals.
    pub best: usize,
}

/// Sums of every row of `logits`, `[rows, width]`.
///
/// # Errors
/// Logits that are no whole rows.
pub fn row_sums(logits: &[f32], width: usize) -> Result<Vec<RowSum>, SizeError> {
    sized("logits", logits.len(), logits.len() / width.max(1) * width)?;
    let arch = Arch::new();
    Ok(logits.par_chunks_exact(width.max(1)).map(|row| arch.dispatch(Rows(|| sum_of_row(row)))).collect())
}

#[inline(always)]
fn sum_of_row(row: &[f32]) -> RowSum {
    let mut lanes = [f32::NEG_INFINITY; 16];
    for part in row.chunks(16) {
        for (lane, x) in lanes.iter_mut().zip(part) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    let largest = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f64;
    for part in row.chunks(PART) {
        let mut sums = [0f32; 16];
        for part in part.chunks(16) {
            for (sum, x) in sums.iter_mut().zip(part) {
                *sum += exp(*x - largest);
            }
        }
        sum += f64::from(sums.iter().sum::<f32>());
    }
    let best = row.iter().position(|x| *x == largest).unwrap_or(0);
    RowSum { log_sum: f64::from(largest) + sum.ln(), best }
}

/// Kullback-Leibler divergence of row after row, in nats: `sum of p ln(p / q)` with `p` and `q` the distributions of
/// `reference` and `logits`; both `[rows, width]`, with their sums.
///
/// # Errors
/// Slices that do not fit each other.
pub fn divergences(
    (reference, reference_sums): (&[f32], &[RowSum]),
    (logits, sums): (&[f32], &[RowSum]),
    width: usize,
) -> Result<Vec<f64>, SizeError> {
    sized("logits", logits.len(), reference.len())?;
    sized("logits", logits.len(), sums.len() * width)?;
    sized("sums", sums.len(), reference_sums.len())?;
    let arch = Arch::new();
    let rows = reference.par_chunks_exact(width.max(1)).zip(logits.par_chunks_exact(width.max(1)));
    let work = rows.zip(reference_sums.par_iter().zip(sums));
    Ok(work
        .map(|((p, q), (p_sum, q_sum))| {
            arch.dispatch(Rows(|| divergence(p, q, p_sum.log_sum, q_sum.log_sum)))
        })
        .collect())
}

#[inline(always)]
fn divergence(p: &[f32], q: &[f32], p_log_sum: f64, q_log_sum: f64) -> f64 {
    // sum of p (ln p - ln q) = sum of p (logit_p - logit_q) - (log_sum_p - log_sum_q).
    let shift = p_log_sum as f32;
    let (mut total, mut weight) = (0f64, 0f64);
    for (p, q) in p.chunks(PART).zip(q.chunks(PART)) {
        let (mut sums, mut weights) = ([0f32; 16], [0f32; 16]);
        for (p, q) in p.chunks(16).zip(q.chunks(16)) {
            for (((p, q), sum), weight) in p.iter().zip(q).zip(&mut sums).zip(&mut weights) {
                let probability = exp(*p - shift);
                *weight += probability;
                *sum = probability.mul_add(*p - *q, *sum);
            }
        }
        total += f64::from(sums.iter().sum::<f32>());
        weight += f64::from(weights.iter().sum::<f32>());
    }
    // Divided by what the probabilities add up to: rounding of `shift` cancels.
    (total / weight - (p_log_sum - q_log_sum)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agree_with_double_precision() {
        let width = 3001;
        let numbers = |seed: usize| -> Vec<f32> {
            (0..2 * width).map(|i| ((i * 7919 + seed) % 2003) as f32 / 150.0 - 6.0).collect()
        };
        let (p, q) = (numbers(1), numbers(77));
        let (p_sums, q_sums) = (row_sums(&p, width).unwrap(), row_sums(&q, width).unwrap());
        let found = divergences((&p, &p_sums), (&q, &q_sums), width).unwrap();
        let same = divergences((&p, &p_sums), (&p, &p_sums), width).unwrap();
        for row in 0..2 {
            let (p, q) = (&p[row * width..][..width], &q[row * width..][..width]);
            let log_sum = |x: &[f32]| x.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
            assert!((p_sums[row].log_sum - log_sum(p)).abs() < 1e-6);
            assert_eq!(p_sums[row].best, p.iter().position(|x| *x == 2002.0 / 150.0 - 6.0).unwrap());
            let term = |(p, q): (&f32, &f32)| f64::from(*p).exp() * (f64::from(*p) - f64::from(*q));
            let total: f64 = p.iter().zip(q).map(term).sum::<f64>() / log_sum(p).exp();
            let exact = total - log_sum(p) + log_sum(q);
            assert!((found[row] - exact).abs() < 1e-5, "{} {exact}", found[row]);
            assert!(same[row] < 1e-9);
        }
        assert!(row_sums(&p, 7).is_err());
    }
}
