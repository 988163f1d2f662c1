//! Criteria of published systems behind one interface: scores of FFN neurons and of query heads.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::weights::importance::rankings::{self, HeadScore};
use crate::weights::importance::statistics::{Channels, LayerSums};
use crate::weights::network::layer::{Attention, Ffn, Linear};

/// How neurons and heads are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// Activations alone: L2 over samples of the mean over tokens (Minitron, arXiv 2407.14679).
    Minitron,
    /// Column sums of Wanda's scores at the later matrix, `sum_i |W_ij| |x_j|_2` (FASP, arXiv 2501.09412).
    Fasp,
    /// Fluctuation, `Var(x_j) |W_:j|^2`, standardised over the layer (FLAP, arXiv 2312.11983).
    Flap,
    /// FASP's, and the neurons of every narrowed layer chosen together with the weights that make up for the others, one
    /// after the other.
    Compensated,
    /// The same with mask and weights in turn: a reconstruction of SPAP (arXiv 2505.03373), whose formulas are not to be had.
    Spap,
    /// Weights alone: the L2 norm of all weights that belong to the neuron (its row of gate and of up, its column of
    /// down) or to the head (its rows of Q, its columns of O).
    Magnitude,
}

impl Criterion {
    /// Neurons are chosen anew with what makes up for the others, which needs Gram matrices.
    pub fn is_compensated(self) -> bool {
        matches!(self, Criterion::Compensated | Criterion::Spap)
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Criterion::Minitron => "minitron",
            Criterion::Fasp => "fasp",
            Criterion::Flap => "flap",
            Criterion::Compensated => "compensated",
            Criterion::Spap => "spap",
            Criterion::Magnitude => "magnitude",
        })
    }
}

/// Per FFN neuron of a layer. `tokens`: those counted in the sums.
pub fn neurons(criterion: Criterion, layer: &LayerSums, tokens: u64, ffn: &Ffn) -> Vec<f64> {
    let inputs = &layer.ffn_hidden;
    match criterion {
        Criterion::Minitron => rankings::neurons(layer),
        Criterion::Fasp | Criterion::Compensated | Criterion::Spap => wanda_columns(&ffn.down, inputs),
        Criterion::Flap => standardised(&fluctuation(&ffn.down, inputs, tokens)),
        Criterion::Magnitude => {
            let mut squares = column_squares(&ffn.down);
            for rows in [row_squares(&ffn.gate), row_squares(&ffn.up)] {
                squares.iter_mut().zip(rows).for_each(|(total, row)| *total += row);
            }
            squares.into_iter().map(f64::sqrt).collect()
        }
    }
}

/// Per query head of a layer: its channels' scores added (FLAP: their mean). `tokens`: those counted in the sums.
pub fn heads(
    criterion: Criterion,
    layer: &LayerSums,
    tokens: u64,
    attention: &Attention,
    head_dim: usize,
) -> Vec<f64> {
    let inputs = &layer.head_outputs;
    let head_dim = head_dim.max(1);
    let per_head = |channels: &[f64]| -> Vec<f64> {
        channels.chunks(head_dim).map(|head| head.iter().sum::<f64>()).collect()
    };
    match criterion {
        Criterion::Minitron => rankings::heads(layer, HeadScore::Output),
        Criterion::Fasp | Criterion::Compensated | Criterion::Spap => {
            per_head(&wanda_columns(&attention.o, inputs))
        }
        Criterion::Flap => {
            let channels = standardised(&fluctuation(&attention.o, inputs, tokens));
            per_head(&channels).into_iter().map(|sum| sum / head_dim as f64).collect()
        }
        Criterion::Magnitude => {
            let mut squares = column_squares(&attention.o);
            let rows = row_squares(&attention.q);
            squares.iter_mut().zip(rows).for_each(|(total, row)| *total += row);
            per_head(&squares).into_iter().map(f64::sqrt).collect()
        }
    }
}

/// `sum_i |W_ij| sqrt(sum x_j^2)` per input `j`.
fn wanda_columns(linear: &Linear, inputs: &Channels) -> Vec<f64> {
    let sums = by_column(linear, |w| w.abs());
    sums.into_iter().zip(&inputs.sum_squares).map(|(weights, squares)| weights * squares.sqrt()).collect()
}

/// `Var(x_j) |W_:j|^2` per input `j`, over the counted tokens.
fn fluctuation(linear: &Linear, inputs: &Channels, tokens: u64) -> Vec<f64> {
    let count = tokens.max(1) as f64;
    let moments = inputs.sum.iter().zip(&inputs.sum_squares);
    let variances = moments.map(|(sum, squares)| (squares / count - (sum / count).powi(2)).max(0.0));
    column_squares(linear).into_iter().zip(variances).map(|(weight, variance)| weight * variance).collect()
}

/// Less their mean, over their standard deviation (of a sample); zeros where all are equal.
fn standardised(scores: &[f64]) -> Vec<f64> {
    let count = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / count;
    let squares: f64 = scores.iter().map(|x| (x - mean) * (x - mean)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    let scaled = |x: &f64| if deviation > 0.0 { (x - mean) / deviation } else { 0.0 };
    scores.iter().map(scaled).collect()
}

fn column_squares(linear: &Linear) -> Vec<f64> {
    by_column(linear, |w| w * w)
}

fn row_squares(linear: &Linear) -> Vec<f64> {
    let rows = linear.weight.chunks(linear.inputs.max(1));
    rows.map(|row| row.iter().map(|w| f64::from(*w).powi(2)).sum()).collect()
}

fn by_column(linear: &Linear, of: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; linear.inputs];
    for row in linear.weight.chunks(linear.inputs.max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += of(f64::from(*w)));
    }
    sums
}
