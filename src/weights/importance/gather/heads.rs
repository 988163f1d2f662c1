//! What heads and KV groups add to the residual stream, without forming it: `|W a|^2 = a^T (W^T W) a`, where `W^T W` is
//! small.

use rayon::prelude::*;

use crate::compute::linear::Shape;
use crate::compute::product::{gram, product};
use crate::compute::storage::SizeError;
use crate::model::architecture::LayerShape;
use crate::weights::importance::gather::batch::{self, Batch};
use crate::weights::importance::statistics::LayerSums;
use crate::weights::network::layer::Attention;

/// Tokens whose products are held at a time.
const TOKENS: usize = 1024;

/// Gram matrices of the output projection's columns, a post-norm's gain applied, and the squared norms of a batch.
#[derive(Clone, Debug, Default)]
pub struct HeadGrams {
    /// Per group, `heads_per_group * head_dim` square.
    groups: Vec<Vec<f32>>,
    head_dim: usize,
    heads_per_group: usize,
    /// `[tokens, q_heads]`.
    head_squares: Vec<f64>,
    /// `[tokens, groups]`.
    group_squares: Vec<f64>,
}

impl HeadGrams {
    /// Of a layer's attention.
    pub fn of(attention: &Attention, shape: LayerShape, head_dim: usize) -> Result<Self, SizeError> {
        let (q_heads, kv_heads) = (shape.q_heads as usize, shape.kv_heads as usize);
        let (o, channels) = (&attention.o, q_heads * head_dim);
        if o.inputs != channels || o.weight.len() != o.outputs * channels {
            let (found, expected) = (o.weight.len(), o.outputs * channels);
            return Err(SizeError { what: "output projection", found, expected });
        }
        let heads_per_group = q_heads.checked_div(kv_heads).unwrap_or(0);
        let width = heads_per_group * head_dim;
        let mut groups = Vec::new();
        for group in 0..kv_heads {
            let mut columns = Vec::with_capacity(o.outputs * width);
            for (row, weights) in o.weight.chunks_exact(channels).enumerate() {
                let gain =
                    attention.post_norm.as_ref().and_then(|gain| gain.get(row)).copied().unwrap_or(1.0);
                let weights = weights.get(group * width..(group + 1) * width).unwrap_or_default();
                columns.extend(weights.iter().map(|w| w * gain));
            }
            let mut squares = vec![0.0; width * width];
            gram(&columns, width, &mut squares)?;
            groups.push(squares);
        }
        Ok(Self { groups, head_dim, heads_per_group, ..Self::default() })
    }

    /// Takes the squared norms of what each head and group adds, `values` being `[tokens, q_heads * head_dim]`.
    pub fn see(&mut self, values: &[f32]) -> Result<(), SizeError> {
        let (groups, heads) = (self.groups.len(), self.heads_per_group);
        let (width, channels) = (heads * self.head_dim, groups * heads * self.head_dim);
        let tokens = values.len().checked_div(channels).unwrap_or(0);
        self.head_squares = vec![0.0; tokens * groups * heads];
        self.group_squares = vec![0.0; tokens * groups];
        let mut first = 0;
        for block in values.chunks(TOKENS * channels.max(1)) {
            for group in 0..groups {
                let whole = (group * width, width);
                let squares = quadratic(block, channels, whole, (self.gram(group), width, 0))?;
                scatter(&squares, &mut self.group_squares, groups, (first, group));
                for head in 0..heads {
                    let columns = (group * width + head * self.head_dim, self.head_dim);
                    let squares = match heads {
                        1 => squares.clone(),
                        _ => {
                            let gram = (self.gram(group), width, head * self.head_dim);
                            quadratic(block, channels, columns, gram)?
                        }
                    };
                    scatter(&squares, &mut self.head_squares, groups * heads, (first, group * heads + head));
                }
            }
            first += block.len() / channels.max(1);
        }
        Ok(())
    }

    fn gram(&self, group: usize) -> &[f32] {
        self.groups.get(group).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds the norms to the sums; over the whole output's root mean square per token, where a post-norm divides by it.
    pub fn settle(&mut self, rms: Option<&[f64]>, batch: &Batch, sums: &mut LayerSums) {
        for (squares, into) in [
            (&mut self.head_squares, &mut sums.head_contributions),
            (&mut self.group_squares, &mut sums.group_contributions),
        ] {
            squares.iter_mut().for_each(|x| *x = x.max(0.0).sqrt());
            if let Some(rms) = rms {
                for (row, rms) in squares.chunks_mut(into.len().max(1)).zip(rms) {
                    row.iter_mut().for_each(|x| *x = if *rms > 0.0 { *x / rms } else { 0.0 });
                }
            }
            batch.add_mean_squared(squares, into);
        }
    }
}

/// `a^T G a` per token for the columns `(first, count)` of `values`; `G` is the square of `count` that stands on the
/// diagonal of a Gram matrix of the given width from the given row on.
fn quadratic(
    values: &[f32],
    channels: usize,
    (first, count): (usize, usize),
    (gram, gram_width, offset): (&[f32], usize, usize),
) -> Result<Vec<f64>, SizeError> {
    let slice = |rows: &[f32], width: usize, first: usize| -> Vec<f32> {
        rows.chunks_exact(width.max(1))
            .flat_map(|row| row.get(first..first + count).unwrap_or_default())
            .copied()
            .collect()
    };
    let rows = gram.get(offset * gram_width..(offset + count) * gram_width).unwrap_or_default();
    let gram = slice(rows, gram_width, offset);
    let own = slice(values, channels, first);
    let tokens = own.len().checked_div(count).unwrap_or(0);
    let mut image = vec![0.0; own.len()];
    product(&own, &gram, None, &mut image, Shape { m: tokens, n: count, k: count })?;
    let pairs = own.par_chunks_exact(count.max(1)).zip(image.par_chunks_exact(count.max(1)));
    Ok(pairs.map(|(a, image)| batch::dot(a, image)).collect())
}

fn scatter(squares: &[f64], into: &mut [f64], units: usize, (first, unit): (usize, usize)) {
    for (row, square) in into.chunks_mut(units.max(1)).skip(first).zip(squares) {
        if let Some(place) = row.get_mut(unit) {
            *place = *square;
        }
    }
}

/// Norm of each head's output, `[tokens, heads]`.
pub fn output_norms(values: &[f32], heads: usize, head_dim: usize) -> Vec<f64> {
    debug_assert_eq!(values.len() % (heads * head_dim).max(1), 0);
    batch::row_norms(values, head_dim)
}
