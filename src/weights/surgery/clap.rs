//! CLAP, cross-layer attention pruning (arXiv 2505.20155): KV groups of a dropped layer move, with their query heads,
//! into the kept layer. The publication that can be had stops before the formulas; the corrections follow from algebra.
//!
//! A group that moves was trained behind another norm gain and in front of another post-norm. With `g` the gains and
//! `r` the post-norms' mean divisors, its Q, K and V columns are scaled by `g_from / g_own` and its O rows by
//! `(h_from / h_own) (r_own / r_from)`, so that it reads and writes what it did. Rows of Q and K behind QK-norms are scaled by
//! the ratio of those gains: exact up to one factor per token, as each layer has one such gain for all its heads.

use crate::model::tensors::Role;
use crate::weights::checkpoint::tensor::{Tensor, TensorError};
use crate::weights::surgery::parts::Parts;

/// A gain smaller than this share of the layer's mean magnitude passes on too little to be divided by.
const SMALLEST_GAIN: f32 = 1e-2;

/// What changes the groups of one layer when they move into another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Correction {
    /// Factor on each kept hidden channel that Q, K and V read, `[hidden]`.
    pub input: Vec<f32>,
    /// Factor on each dimension of a query head, `[head_dim]`; empty without QK-norm.
    pub query: Vec<f32>,
    /// Factor on each dimension of a key head, `[head_dim]`; empty without QK-norm.
    pub key: Vec<f32>,
    /// Factor on each kept hidden channel that O writes, `[hidden]`; empty without post-norm.
    pub output: Vec<f32>,
}

/// `from / own` element by element; 1 where the own gain is too small to divide by.
pub fn ratio(from: &[f32], own: &[f32]) -> Vec<f32> {
    let mean = own.iter().map(|x| x.abs()).sum::<f32>() / own.len().max(1) as f32;
    let divide = |(from, own): (&f32, &f32)| {
        if own.abs() > SMALLEST_GAIN * mean { from / own } else { 1.0 }
    };
    from.iter().zip(own).map(divide).collect()
}

/// Appends the slice `moved` of another layer to the tensor of the same role: rows of Q, K, V and their biases, columns
/// of O; the bias of O is added.
///
/// # Errors
/// A value that is no finite number.
pub fn append(
    parts: &mut Parts<'_>,
    role: Role,
    moved: &Tensor<'_>,
    correction: &Correction,
) -> Result<(), TensorError> {
    let Some((dtype, shape)) = parts.form(role) else { return Ok(()) };
    let mut numbers = moved.to_f32()?;
    match role {
        Role::Q | Role::K | Role::V => scale_columns(&mut numbers, &correction.input),
        Role::O => scale_rows(&mut numbers, &correction.output),
        Role::OBias => scale_rows(&mut numbers, &correction.output),
        _ => {}
    }
    match role {
        Role::Q | Role::QBias => scale_heads(&mut numbers, moved.row_len(), &correction.query),
        Role::K | Role::KBias => scale_heads(&mut numbers, moved.row_len(), &correction.key),
        _ => {}
    }
    let own = std::mem::take(parts.numbers(role)?.unwrap_or(&mut Vec::new()));
    let (rows, width) = (shape.first().copied().unwrap_or(0), shape.iter().skip(1).product::<usize>());
    let (joined, shape) = match role {
        Role::O => {
            let added = moved.row_len();
            let mut joined = Vec::with_capacity(rows * (width + added));
            for row in 0..rows {
                joined.extend_from_slice(own.get(row * width..(row + 1) * width).unwrap_or_default());
                joined.extend_from_slice(numbers.get(row * added..(row + 1) * added).unwrap_or_default());
            }
            (joined, vec![rows, width + added])
        }
        Role::OBias => (own.iter().zip(&numbers).map(|(a, b)| a + b).collect(), shape),
        _ => {
            let mut longer = shape.clone();
            if let Some(first) = longer.first_mut() {
                *first += moved.rows();
            }
            ([own, numbers].concat(), longer)
        }
    };
    parts.change(role, dtype, &shape, joined);
    Ok(())
}

fn scale_columns(numbers: &mut [f32], factors: &[f32]) {
    if !factors.is_empty() {
        for row in numbers.chunks_mut(factors.len()) {
            row.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
        }
    }
}

fn scale_rows(numbers: &mut [f32], factors: &[f32]) {
    let width = numbers.len().checked_div(factors.len()).unwrap_or(0).max(1);
    for (row, factor) in numbers.chunks_mut(width).zip(factors) {
        row.iter_mut().for_each(|x| *x *= factor);
    }
}

/// Factors repeat head after head; a row has `width` numbers.
fn scale_heads(numbers: &mut [f32], width: usize, factors: &[f32]) {
    for (row, factor) in numbers.chunks_mut(width.max(1)).zip(factors.iter().cycle()) {
        row.iter_mut().for_each(|x| *x *= factor);
    }
}
