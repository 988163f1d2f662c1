//! The sequences of a batch, which of their tokens count, and figures per token.

use std::ops::Range;

use rayon::prelude::*;

use crate::weights::importance::gather::GatherError;

/// Whole sequences, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Rows of each sequence that count.
    pub samples: Vec<Range<usize>>,
    /// Rows where the sequences start.
    starts: Vec<usize>,
    /// Rows.
    pub tokens: usize,
}

impl Batch {
    pub fn new(lengths: &[usize], skip_first: usize) -> Result<Self, GatherError> {
        let mut batch = Batch::default();
        for (sample, &tokens) in lengths.iter().enumerate() {
            if tokens <= skip_first {
                return Err(GatherError::TooShort { sample, tokens, skip_first });
            }
            let start = batch.tokens;
            batch.starts.push(start);
            batch.samples.push(start + skip_first..start + tokens);
            batch.tokens += tokens;
        }
        Ok(batch)
    }

    /// Counted tokens.
    pub fn counted(&self) -> usize {
        self.samples.iter().map(ExactSizeIterator::len).sum()
    }

    /// Sum over the counted tokens of a figure per token: of each sample by itself, then of the samples.
    pub fn counted_sums(&self, per_token: &[f64]) -> f64 {
        let of = |rows: &Range<usize>| per_token.get(rows.clone()).unwrap_or_default().iter().sum::<f64>();
        self.samples.iter().map(of).sum()
    }

    /// Sum over the sequences of a figure at their first token.
    pub fn first_sum(&self, per_token: &[f64]) -> f64 {
        self.starts.iter().filter_map(|row| per_token.get(*row)).sum()
    }

    /// Adds, per unit, the square of each sample's mean over its counted tokens; `per_token` is `[tokens, units]`.
    pub fn add_mean_squared(&self, per_token: &[f64], into: &mut [f64]) {
        let units = into.len();
        for rows in &self.samples {
            let values = per_token.get(rows.start * units..rows.end * units).unwrap_or_default();
            for (unit, into) in into.iter_mut().enumerate() {
                let sum: f64 = values.iter().skip(unit).step_by(units).sum();
                *into += (sum / rows.len() as f64).powi(2);
            }
        }
    }

    /// The counted rows, one after the other.
    pub fn packed(&self, values: &[f32], width: usize) -> Vec<f32> {
        let mut packed = Vec::with_capacity(self.counted() * width);
        for rows in &self.samples {
            packed.extend_from_slice(values.get(rows.start * width..rows.end * width).unwrap_or_default());
        }
        packed
    }
}

/// L2 norm of each row.
pub fn row_norms(values: &[f32], width: usize) -> Vec<f64> {
    per_row(values, width, |row| square_sum(row).sqrt())
}

/// Root mean square of each row.
pub fn row_rms(values: &[f32], width: usize) -> Vec<f64> {
    per_row(values, width, |row| (square_sum(row) / row.len() as f64).sqrt())
}

/// `|gain * x|^2` of each row.
pub fn row_gained(values: &[f32], gain: &[f32]) -> Vec<f64> {
    per_row(values, gain.len(), |row| {
        row.iter().zip(gain).map(|(x, g)| (f64::from(*x) * f64::from(*g)).powi(2)).sum()
    })
}

/// Cosine between each row of a stream, whose norms are known, and of another; 1 where both are zero.
pub fn row_cosines((a, norms): (&[f32], &[f64]), b: &[f32], width: usize) -> Vec<f64> {
    let rows = a.par_chunks_exact(width.max(1)).zip(norms).zip(b.par_chunks_exact(width.max(1)));
    rows.map(|((a, norm), b)| cosine(dot(a, b), *norm, square_sum(b).sqrt())).collect()
}

/// Cosine from a dot product and two norms.
pub fn cosine(dot: f64, norm_a: f64, norm_b: f64) -> f64 {
    if norm_a == 0.0 && norm_b == 0.0 {
        return 1.0;
    }
    if norm_a == 0.0 || norm_b == 0.0 { 0.0 } else { (dot / (norm_a * norm_b)).clamp(-1.0, 1.0) }
}

/// Dot product in f64, in eight interleaved sums so that it runs in vectors.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (blocks_a, rest_a) = a.as_chunks::<8>();
    let (blocks_b, rest_b) = b.as_chunks::<8>();
    for (a, b) in blocks_a.iter().zip(blocks_b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    sums.iter().sum::<f64>() + rest
}

fn square_sum(row: &[f32]) -> f64 {
    dot(row, row)
}

fn per_row(values: &[f32], width: usize, of: impl Fn(&[f32]) -> f64 + Sync + Send) -> Vec<f64> {
    values.par_chunks_exact(width.max(1)).map(of).collect()
}
