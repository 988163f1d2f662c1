//! Sums per channel: blocks of channels in parallel, the tokens of each in their order.

use rayon::prelude::*;

use crate::weights::importance::gather::batch::Batch;
use crate::weights::importance::statistics::Channels;

/// Channels of a block: their sums stay in the first-level cache.
const BLOCK: usize = 128;

/// Adds the counted rows of `values`, `[tokens, channels]`.
pub fn add(sums: &mut Channels, values: &[f32], batch: &Batch) {
    let width = sums.sum.len();
    let blocks = sums
        .mean_abs_squared
        .par_chunks_mut(BLOCK)
        .zip(sums.sum.par_chunks_mut(BLOCK))
        .zip(sums.sum_squares.par_chunks_mut(BLOCK));
    blocks.enumerate().for_each(|(index, ((means, totals), squares))| {
        for sample in &batch.samples {
            let mut sample_sums = [[0.0f64; BLOCK]; 3];
            for row in sample.clone() {
                let start = row * width + index * BLOCK;
                add_row(&mut sample_sums, values.get(start..start + means.len()).unwrap_or_default());
            }
            let [absolute, sum, square] = &sample_sums;
            let count = sample.len() as f64;
            means.iter_mut().zip(absolute).for_each(|(to, from)| *to += (from / count).powi(2));
            totals.iter_mut().zip(sum).for_each(|(to, from)| *to += from);
            squares.iter_mut().zip(square).for_each(|(to, from)| *to += from);
        }
    });
}

fn add_row([absolute, sum, square]: &mut [[f64; BLOCK]; 3], row: &[f32]) {
    for (((absolute, sum), square), x) in absolute.iter_mut().zip(sum).zip(square).zip(row) {
        let x = f64::from(*x);
        *absolute += x.abs();
        *sum += x;
        *square += x * x;
    }
}

/// Adds each channel's share in the energy of the stream; `norms` are the stream's, per token.
pub fn add_energy(energy: &mut [f64], stream: &[f32], norms: &[f64], batch: &Batch) {
    let width = energy.len();
    energy.par_chunks_mut(BLOCK).enumerate().for_each(|(index, energy)| {
        for sample in &batch.samples {
            let mut sums = [0.0f64; BLOCK];
            for row in sample.clone() {
                let norm = norms.get(row).copied().unwrap_or_default();
                let inverse = if norm > 0.0 { 1.0 / (norm * norm) } else { 0.0 };
                let start = row * width + index * BLOCK;
                let values = stream.get(start..start + energy.len()).unwrap_or_default();
                for (sum, x) in sums.iter_mut().zip(values) {
                    let x = f64::from(*x);
                    *sum += x * x * inverse;
                }
            }
            energy.iter_mut().zip(&sums).for_each(|(to, from)| *to += from);
        }
    });
}
