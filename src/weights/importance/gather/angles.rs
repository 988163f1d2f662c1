//! Angles between the stream at all pairs of layer boundaries, at some tokens of each sample.

use rayon::prelude::*;

use crate::weights::importance::gather::batch::{self, Batch};
use crate::weights::importance::statistics::Sums;

/// One token in so many is looked at; one per sample at least.
const SPACING: usize = 64;

/// The stream at the tokens looked at, for every boundary.
#[derive(Clone, Debug)]
pub struct Angles {
    hidden: usize,
    /// Rows of the batch that are looked at.
    rows: Vec<usize>,
    /// Per boundary `[rows, hidden]`.
    streams: Vec<Vec<f32>>,
}

impl Angles {
    pub fn new(boundaries: usize) -> Self {
        Self { hidden: 0, rows: Vec::new(), streams: vec![Vec::new(); boundaries] }
    }

    /// Chooses the tokens: evenly over the counted tokens of each sample.
    pub fn begin(&mut self, batch: &Batch, hidden: usize) {
        self.hidden = hidden;
        self.rows.clear();
        for sample in &batch.samples {
            let count = sample.len().div_ceil(SPACING);
            self.rows.extend((0..count).map(|i| sample.start + (2 * i + 1) * sample.len() / (2 * count)));
        }
        self.streams.iter_mut().for_each(Vec::clear);
    }

    pub fn see(&mut self, boundary: usize, stream: &[f32]) {
        if let Some(kept) = self.streams.get_mut(boundary) {
            kept.clear();
            for row in &self.rows {
                kept.extend(stream.get(row * self.hidden..(row + 1) * self.hidden).unwrap_or_default());
            }
        }
    }

    /// Adds the angles of the batch.
    pub fn end(&self, sums: &mut Sums) {
        let hidden = self.hidden.max(1);
        let measured = |stream: &Vec<f32>| batch::row_norms(stream, hidden);
        let norms: Vec<Vec<f64>> = self.streams.iter().map(measured).collect();
        let streams: Vec<(&Vec<f32>, &Vec<f64>)> = self.streams.iter().zip(&norms).collect();
        let rows = sums.angular.par_chunks_mut(streams.len()).zip(&streams).enumerate();
        rows.for_each(|(from, (angular, a))| {
            for (place, b) in angular.iter_mut().zip(&streams).skip(from + 1) {
                *place += angle_sum(*a, *b, hidden);
            }
        });
        sums.angular_tokens += self.rows.len() as u64;
    }
}

/// Sum over rows of the angle over pi.
fn angle_sum(a: (&Vec<f32>, &Vec<f64>), b: (&Vec<f32>, &Vec<f64>), hidden: usize) -> f64 {
    let norms = a.1.iter().zip(b.1);
    let rows = a.0.chunks_exact(hidden).zip(b.0.chunks_exact(hidden));
    let cosines = rows.zip(norms).map(|((a, b), (na, nb))| batch::cosine(batch::dot(a, b), *na, *nb));
    cosines.map(|cosine| cosine.acos() / std::f64::consts::PI).sum()
}
