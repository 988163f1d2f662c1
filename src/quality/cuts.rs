//! How far a child is cut from its parent, axis by axis, in the terms of the law.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::architecture::{Architecture, LayerShape};
use crate::quality::error::QualityError;

/// An axis along which a decoder is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Hidden size.
    Hidden,
    /// FFN width.
    Ffn,
    /// Query heads.
    QHeads,
    /// KV heads (groups).
    KvHeads,
    /// Number of layers.
    Layers,
    /// Attention or FFN removed from the first or the last layer.
    Edges,
}

impl Axis {
    /// Every axis, in the order of the reports.
    pub const ALL: [Axis; 6] =
        [Axis::Hidden, Axis::Ffn, Axis::QHeads, Axis::KvHeads, Axis::Layers, Axis::Edges];

    /// Name as it stands in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Axis::Hidden => "hidden",
            Axis::Ffn => "ffn",
            Axis::QHeads => "q_heads",
            Axis::KvHeads => "kv_heads",
            Axis::Layers => "layers",
            Axis::Edges => "edges",
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// `ln(1/r)` at which the cost of an FFN stops growing: removing it altogether costs 0.01452 nats in a layer
/// where the law costs 0.0041 `ln(1/r)` (block library of NVlabs/puzzle, medians over layers 5-74 of 80).
pub const FFN_REMOVED: f64 = 0.01452 / 0.0041;

/// How far a child is cut: `ln(1/r)` for the keep ratio `r` of a width (mean over its layers), the share of
/// layers removed, and removed sublayers at either end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cuts {
    /// `ln(1/r)` of the hidden size.
    pub hidden: f64,
    /// Mean over layers of `ln(1/r)` of the FFN width.
    pub ffn: f64,
    /// Mean over layers of `ln(1/r)` of the query heads.
    pub q_heads: f64,
    /// Mean over layers of `ln(1/r)` of the KV heads.
    pub kv_heads: f64,
    /// Share of the parent's layers removed, 0 to 1.
    pub layers: f64,
    /// Attention and FFN sublayers removed from the first and the last layer, 0 to 4.
    pub edges: f64,
}

impl Cuts {
    /// The cuts that turn `parent` into `child`.
    ///
    /// Layers are compared one to one when both have as many; otherwise each layer of the child is compared
    /// with the parent's mean layer, and the removed layers are taken to be the ones a good method removes
    /// (one late run of layers that spares both ends, arXiv 2408.11796).
    pub fn between(parent: &Architecture, child: &Architecture) -> Result<Self, QualityError> {
        if parent.head_dim != child.head_dim {
            return Err(QualityError::HeadDim { child: child.head_dim, parent: parent.head_dim });
        }
        let hidden = log_cut(Axis::Hidden, parent.hidden, child.hidden)?;
        let (depth, parent_depth) = (child.depth(), parent.depth());
        log_cut(Axis::Layers, parent_depth, depth)?;
        let mut cuts = Self { hidden, layers: 1.0 - depth as f64 / parent_depth as f64, ..Self::default() };
        for pair in paired_runs(parent, child) {
            cuts.add_layers(pair, depth)?;
        }
        Ok(cuts)
    }

    /// The cut in one number, for a baseline that looks at size alone: `ln` of the ratio of decoder weights
    /// (no embeddings), carried where the law expects the hidden size.
    pub fn size_only(parent: &Architecture, child: &Architecture) -> Self {
        Self { hidden: (decoder_weights(parent) / decoder_weights(child)).ln().max(0.0), ..Self::default() }
    }

    fn add_layers(&mut self, run: Run, depth: u64) -> Result<(), QualityError> {
        let Run { first, count, parent, child } = run;
        let share = count as f64 / depth as f64;
        if (child.q_heads == 0) != (child.kv_heads == 0) {
            let (q_heads, kv_heads) = (child.q_heads, child.kv_heads);
            return Err(QualityError::HalfAttention { layer: first, q_heads, kv_heads });
        }
        self.ffn += share * width_cut(Axis::Ffn, parent.ffn, child.ffn)?.min(FFN_REMOVED);
        self.q_heads += share * width_cut(Axis::QHeads, parent.q_heads, child.q_heads)?;
        self.kv_heads += share * width_cut(Axis::KvHeads, parent.kv_heads, child.kv_heads)?;
        let ends = u64::from(first == 0) + u64::from(first + count == depth);
        let removed =
            u64::from(parent.ffn > 0 && child.ffn == 0) + u64::from(parent.q_heads > 0 && child.q_heads == 0);
        self.edges += (ends * removed) as f64;
        Ok(())
    }
}

/// Layers of a child of one shape, and the shape they are measured against.
struct Run {
    first: u64,
    count: u64,
    parent: LayerShape,
    child: LayerShape,
}

fn paired_runs(parent: &Architecture, child: &Architecture) -> Vec<Run> {
    if let (Some(parent), Some(shape)) = (parent.uniform_shape(), child.uniform_shape()) {
        return vec![Run { first: 0, count: child.depth(), parent, child: shape }];
    }
    let (parents, children) = (each_layer(parent), each_layer(child));
    let same_depth = parents.len() == children.len();
    let reference = |i: usize, shape: LayerShape| match parents.get(i) {
        Some(&layer) if same_depth => layer,
        _ => mean_beside(&parents, shape),
    };
    (0..)
        .zip(children)
        .map(|(i, shape)| Run { first: i as u64, count: 1, parent: reference(i, shape), child: shape })
        .collect()
}

fn each_layer(a: &Architecture) -> Vec<LayerShape> {
    a.runs().into_iter().flat_map(|(count, shape)| std::iter::repeat_n(shape, count as usize)).collect()
}

/// What a child's layer is measured against when the layers cannot be paired: the parent's mean layer, or the
/// child's own size where it is above the mean but within what the parent has.
fn mean_beside(parents: &[LayerShape], child: LayerShape) -> LayerShape {
    let size = |of: fn(&LayerShape) -> u64| {
        let mean = parents.iter().map(of).sum::<u64>().div_ceil(parents.len().max(1) as u64);
        let largest = parents.iter().map(of).max().unwrap_or(0);
        mean.max(of(&child)).min(largest)
    };
    LayerShape { ffn: size(|l| l.ffn), q_heads: size(|l| l.q_heads), kv_heads: size(|l| l.kv_heads) }
}

/// `ln(parent / child)`; both must be there and the child not larger.
fn log_cut(axis: Axis, parent: u64, child: u64) -> Result<f64, QualityError> {
    match (parent, child) {
        (0, _) | (_, 0) => Err(QualityError::Zero { axis }),
        (p, c) if c > p => Err(QualityError::LargerThanParent { axis, child, parent }),
        (p, c) => Ok((p as f64 / c as f64).ln()),
    }
}

/// As [`log_cut`], where a layer may go without: nothing left counts as half a unit.
fn width_cut(axis: Axis, parent: u64, child: u64) -> Result<f64, QualityError> {
    match (parent, child) {
        (0, 0) => Ok(0.0),
        (0, _) => Err(QualityError::LargerThanParent { axis, child, parent }),
        (p, 0) => Ok((2.0 * p as f64).ln()),
        _ => log_cut(axis, parent, child),
    }
}

fn decoder_weights(a: &Architecture) -> f64 {
    let (hidden, head_dim) = (a.hidden as f64, a.head_dim as f64);
    let layer =
        |s: LayerShape| hidden * (3.0 * s.ffn as f64 + 2.0 * head_dim * (s.q_heads + s.kv_heads) as f64);
    a.runs().into_iter().map(|(count, shape)| count as f64 * layer(shape)).sum()
}
