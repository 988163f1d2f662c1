//! Scores as a table that any shape between the scored ones can be looked up in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::architecture::{Architecture, LayerShape, Layers};
use crate::quality::scores::curve::{Curve, Nats};
use crate::quality::scores::error::ScoresError;
use crate::quality::scores::{Change, Scores};

/// A child as the surgery will make it: its shape, and the parent's layer behind each of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its shape.
    pub architecture: Architecture,
    /// The parent's layer behind each layer of the child, ascending, from 0.
    pub kept: Vec<u64>,
}

impl Child {
    /// Layers of a parent of `depth` layers that are dropped.
    pub fn dropped(&self, depth: u64) -> Vec<u64> {
        (0..depth).filter(|layer| !self.kept.contains(layer)).collect()
    }
}

/// What one layer of a child loses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerPart {
    /// The parent's layer.
    pub layer: u64,
    /// By its attention.
    pub attention: Nats,
    /// By its FFN.
    pub ffn: Nats,
}

/// What a child loses when its changes are added, by axis. Nats a token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    /// By a smaller hidden size.
    pub hidden: Nats,
    /// By dropped layers.
    pub depth: Nats,
    /// By its layers' attention and FFN.
    pub layers: Vec<LayerPart>,
}

/// Names of the axes of [`Parts::axes`].
pub const AXES: [&str; 4] = ["hidden", "depth", "attention", "ffn"];

impl Parts {
    /// By axis, in the order of [`AXES`].
    pub fn axes(&self) -> [Nats; 4] {
        let attention = self.layers.iter().map(|layer| layer.attention).sum();
        [self.hidden, self.depth, attention, self.layers.iter().map(|layer| layer.ffn).sum()]
    }

    /// All of it.
    pub fn total(&self) -> Nats {
        self.axes().into_iter().sum()
    }
}

struct Layer {
    ffn: Curve,
    /// By KV heads, each with all its query heads.
    groups: Curve,
    /// By query heads of a group.
    heads: Curve,
}

/// Scores by layer and axis.
pub struct Table {
    parent: Architecture,
    layers: Vec<Layer>,
    /// By (number of layers, first of them).
    runs: BTreeMap<(u64, u64), Nats>,
    hidden: Curve,
}

impl Table {
    /// Of a complete set of scores.
    ///
    /// # Errors
    /// A set that misses parts.
    pub fn of(scores: &Scores) -> Result<Self, ScoresError> {
        scores.check_complete()?;
        let parent = scores.header.architecture.clone();
        let rows = || scores.rows.iter().map(|row| (row.change, Nats::from(row.delta_nll)));
        let layer = |(index, own): (usize, LayerShape)| {
            let mine = || {
                rows().filter_map(move |(change, nats)| match change {
                    Change::Layer { layer, shape } if layer == index as u64 => Some((shape, nats)),
                    _ => None,
                })
            };
            let size = |shape: LayerShape| shape.q_heads.checked_div(shape.kv_heads).unwrap_or(0);
            let heads = move |s: &LayerShape| s.ffn == own.ffn;
            Layer {
                ffn: Curve::through(
                    own.ffn,
                    mine()
                        .filter(|(s, _)| LayerShape { ffn: own.ffn, ..*s } == own)
                        .map(|(s, nats)| (s.ffn, nats)),
                ),
                groups: Curve::through(
                    own.kv_heads,
                    mine()
                        .filter(|(s, _)| heads(s) && (s.kv_heads == 0 || size(*s) == size(own)))
                        .map(|(s, nats)| (s.kv_heads, nats)),
                ),
                heads: Curve::through(
                    size(own),
                    mine()
                        .filter(|(s, _)| heads(s) && s.kv_heads == own.kv_heads)
                        .map(|(s, nats)| (size(s), nats)),
                ),
            }
        };
        let layers = parent.layer_shapes().enumerate().map(layer).collect();
        let run = |(change, nats)| match change {
            Change::Drop { first, count } => Some(((count, first), nats)),
            _ => None,
        };
        let narrow = |(change, nats)| match change {
            Change::Hidden { hidden } => Some((hidden, nats)),
            _ => None,
        };
        let hidden = Curve::through(parent.hidden, rows().filter_map(narrow));
        Ok(Self { layers, runs: rows().filter_map(run).collect(), hidden, parent })
    }

    /// The parent's shape.
    pub fn parent(&self) -> &Architecture {
        &self.parent
    }

    /// What the hidden size loses.
    ///
    /// # Errors
    /// A size outside of those scored.
    pub fn hidden(&self, hidden: u64) -> Result<Nats, ScoresError> {
        self.hidden.at(hidden).ok_or_else(|| missing(format!("hidden size {hidden}"), "--hidden-keep"))
    }

    /// What a layer loses in another shape.
    ///
    /// # Errors
    /// A shape outside of those scored.
    pub fn layer(&self, layer: u64, shape: LayerShape) -> Result<LayerPart, ScoresError> {
        let known = self.layers.get(layer as usize);
        let of = known.ok_or_else(|| missing(format!("layer {layer}"), "the parent has fewer layers"))?;
        let at = |curve: &Curve, size: u64, what: &str, hint: &'static str| {
            curve.at(size).ok_or_else(|| missing(format!("{size} {what} in layer {layer}"), hint))
        };
        let ffn = at(&of.ffn, shape.ffn, "FFN neurons", "--ffn-keep, and no --whole-parts for none")?;
        let hint = "--kv-keep, and no --whole-parts for none";
        let groups = at(&of.groups, shape.kv_heads, "KV heads", hint)?;
        let heads = match shape.q_heads.checked_div(shape.kv_heads) {
            Some(size) => at(&of.heads, size, "query heads per KV head", "--heads-keep")?,
            None => Nats::default(),
        };
        Ok(LayerPart { layer, attention: [groups, heads].into_iter().sum(), ffn })
    }

    /// Hidden sizes that were scored, and the parent's, ascending.
    pub fn hidden_sizes(&self) -> impl Iterator<Item = u64> + '_ {
        self.hidden.sizes()
    }

    /// Shapes of a layer whose parts were scored, each with each: FFN widths, KV heads, query heads per KV head, and none;
    /// the parent's own among them. A layer without any part is not.
    pub fn scored_shapes(&self, layer: u64) -> Vec<LayerShape> {
        let Some(of) = self.layers.get(layer as usize) else { return Vec::new() };
        let mut shapes = Vec::new();
        for ffn in of.ffn.sizes() {
            for kv_heads in of.groups.sizes() {
                let of_groups = of.heads.sizes().filter(|size| (*size == 0) == (kv_heads == 0));
                let sizes: Vec<u64> = if kv_heads == 0 { vec![0] } else { of_groups.collect() };
                shapes.extend(sizes.into_iter().map(|size| LayerShape {
                    ffn,
                    q_heads: kv_heads * size,
                    kv_heads,
                }));
            }
        }
        shapes.retain(|shape| *shape != LayerShape::default());
        shapes
    }

    /// What a dropped run of layers loses.
    ///
    /// # Errors
    /// A run that was not scored.
    pub fn run(&self, first: u64, count: u64) -> Result<Nats, ScoresError> {
        let known = self.runs.get(&(count, first)).copied();
        known.ok_or_else(|| missing(format!("{count} layers dropped from {first} on"), "--runs"))
    }

    /// Runs that were scored: (first, number of layers, loss).
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64, Nats)> + '_ {
        self.runs.iter().map(|((count, first), nats)| (*first, *count, *nats))
    }

    /// The parent's layers that stay when `layers` do: all but the run of that length that loses least.
    ///
    /// # Errors
    /// No run of that length was scored.
    pub fn kept(&self, layers: u64) -> Result<Vec<u64>, ScoresError> {
        let depth = self.parent.depth();
        let gone = depth.saturating_sub(layers);
        let first = match gone {
            0 => depth,
            _ => {
                let of_length = self.runs.range((gone, 0)..=(gone, u64::MAX));
                let best = of_length.min_by(|a, b| a.1.mean.total_cmp(&b.1.mean));
                best.ok_or_else(|| missing(format!("{gone} layers dropped"), "--runs"))?.0.1
            }
        };
        Ok((0..depth).filter(|layer| !(first..first + gone).contains(layer)).collect())
    }

    /// A uniform child, without the layers that are missed least.
    ///
    /// # Errors
    /// As [`Table::kept`].
    pub fn child(&self, architecture: &Architecture) -> Result<Child, ScoresError> {
        Ok(Child { architecture: architecture.clone(), kept: self.kept(architecture.depth())? })
    }

    /// What a child loses, by axis and layer: the scores of its changes.
    ///
    /// # Errors
    /// A change outside of those scored.
    pub fn parts(&self, child: &Child) -> Result<Parts, ScoresError> {
        let shapes: Vec<LayerShape> = match &child.architecture.layers {
            Layers::Uniform { shape, .. } => vec![*shape; child.kept.len()],
            Layers::PerLayer(shapes) => shapes.clone(),
        };
        let layers = child.kept.iter().zip(shapes).map(|(layer, shape)| self.layer(*layer, shape));
        Ok(Parts {
            hidden: self.hidden(child.architecture.hidden)?,
            depth: self.depth(child)?,
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// What the dropped layers of a child lose, run by run.
    ///
    /// # Errors
    /// A run that was not scored.
    pub fn depth(&self, child: &Child) -> Result<Nats, ScoresError> {
        self.dropped_runs(child).into_iter().map(|(first, count)| self.run(first, count)).sum()
    }

    /// The runs of dropped layers, as long as they can be.
    fn dropped_runs(&self, child: &Child) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for layer in child.dropped(self.parent.depth()) {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == layer => *count += 1,
                _ => runs.push((layer, 1)),
            }
        }
        runs
    }
}

fn missing(what: String, hint: &'static str) -> ScoresError {
    ScoresError::Missing { what, hint }
}
