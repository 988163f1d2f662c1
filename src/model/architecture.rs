//! The shape of a dense decoder: hidden size, depth, FFN width, query heads, KV heads, head size.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::limits;
use crate::model::spec::ModelSpec;

/// Shape of one decoder layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerShape {
    /// FFN width (intermediate size of the gated MLP); 0 = the layer has no FFN.
    pub ffn: u64,
    /// Query heads; 0 = the layer has no attention.
    pub q_heads: u64,
    /// KV heads (groups); divides `q_heads`.
    pub kv_heads: u64,
}

/// The layers of a decoder: all alike, or each its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layers {
    /// `count` layers of one shape.
    Uniform {
        /// Number of layers.
        count: u64,
        /// The shape they share.
        shape: LayerShape,
    },
    /// One shape per layer, first layer first.
    PerLayer(Vec<LayerShape>),
}

/// The shape of a decoder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Architecture {
    /// Hidden size (width of the residual stream).
    pub hidden: u64,
    /// Size of one attention head.
    pub head_dim: u64,
    /// The decoder layers.
    pub layers: Layers,
}

impl Architecture {
    /// A decoder whose layers are all alike.
    pub fn uniform(layers: u64, hidden: u64, ffn: u64, q_heads: u64, kv_heads: u64, head_dim: u64) -> Self {
        Self {
            hidden,
            head_dim,
            layers: Layers::Uniform { count: layers, shape: LayerShape { ffn, q_heads, kv_heads } },
        }
    }

    /// A decoder of these layers, first layer first; uniform where they are alike.
    pub fn of_layers(hidden: u64, head_dim: u64, shapes: Vec<LayerShape>) -> Self {
        let layers = match shapes.first() {
            Some(&shape) if shapes.iter().all(|s| *s == shape) => {
                Layers::Uniform { count: shapes.len() as u64, shape }
            }
            _ => Layers::PerLayer(shapes),
        };
        Self { hidden, head_dim, layers }
    }

    /// Number of decoder layers.
    pub fn depth(&self) -> u64 {
        match &self.layers {
            Layers::Uniform { count, .. } => *count,
            Layers::PerLayer(shapes) => shapes.len() as u64,
        }
    }

    /// The layers as runs of one shape: `(number of layers, shape)`, first layer first.
    /// A uniform decoder is one run.
    pub fn runs(&self) -> Vec<(u64, LayerShape)> {
        match &self.layers {
            Layers::Uniform { count, shape } => vec![(*count, *shape)],
            Layers::PerLayer(shapes) => {
                let mut runs: Vec<(u64, LayerShape)> = Vec::new();
                for &shape in shapes {
                    match runs.last_mut() {
                        Some((n, last)) if *last == shape => *n += 1,
                        _ => runs.push((1, shape)),
                    }
                }
                runs
            }
        }
    }

    /// The shape all layers share, if they do.
    pub fn uniform_shape(&self) -> Option<LayerShape> {
        match self.runs().as_slice() {
            [(_, shape)] => Some(*shape),
            _ => None,
        }
    }
}

/// A shape that no decoder has, or that its parent cannot be pruned to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchitectureError {
    /// There are no layers.
    #[error("the shape has no layers: give it one at least")]
    NoLayers,
    /// A size is zero.
    #[error("{axis} is 0: expected 1 at least")]
    Zero {
        /// The axis.
        axis: Axis,
    },
    /// A size is larger than any model's.
    #[error("{axis} is {found}: expected {limit} at most")]
    TooLarge {
        /// The axis.
        axis: Axis,
        /// What was found.
        found: u64,
        /// Largest value accepted.
        limit: u64,
    },
    /// Rotary embeddings turn pairs of dimensions.
    #[error("head_dim is {found}: expected an even number (rotary embeddings turn pairs of dimensions)")]
    OddHeadDim {
        /// What was found.
        found: u64,
    },
    /// A layer has query heads without KV heads, or the other way round.
    #[error("layer {layer}: {q_heads} query heads with {kv_heads} KV heads: expected both or neither")]
    HalfAnAttention {
        /// Layer, from 0.
        layer: u64,
        /// Query heads.
        q_heads: u64,
        /// KV heads.
        kv_heads: u64,
    },
    /// Query heads do not fall into equal groups.
    #[error(
        "layer {layer}: {q_heads} query heads do not divide into {kv_heads} KV heads: expected a multiple of {kv_heads}"
    )]
    UnequalGroups {
        /// Layer, from 0.
        layer: u64,
        /// Query heads.
        q_heads: u64,
        /// KV heads.
        kv_heads: u64,
    },
    /// Pruning takes away, it does not add.
    #[error("{axis} is {found}, but the parent has {parent}: pruning cannot add, lower it")]
    LargerThanParent {
        /// The axis.
        axis: Axis,
        /// What was found.
        found: u64,
        /// What the parent has (its largest layer).
        parent: u64,
    },
}

/// An axis of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Number of layers.
    Layers,
    /// Hidden size.
    Hidden,
    /// FFN width.
    Ffn,
    /// Query heads.
    QHeads,
    /// KV heads.
    KvHeads,
    /// Head size.
    HeadDim,
}

impl Axis {
    /// Name as it stands in messages and data files.
    pub fn name(self) -> &'static str {
        match self {
            Axis::Layers => "layers",
            Axis::Hidden => "hidden",
            Axis::Ffn => "ffn",
            Axis::QHeads => "q_heads",
            Axis::KvHeads => "kv_heads",
            Axis::HeadDim => "head_dim",
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Architecture {
    /// Whether any decoder can have this shape: sizes within [`crate::model::limits`], an even head size,
    /// query heads in equal groups. A layer may lack attention or FFN. Counts of a valid shape never overflow.
    pub fn validate(&self) -> Result<(), ArchitectureError> {
        if self.depth() == 0 {
            return Err(ArchitectureError::NoLayers);
        }
        within(Axis::Layers, self.depth(), limits::MOST_LAYERS)?;
        for (axis, found, limit) in [
            (Axis::Hidden, self.hidden, limits::LARGEST_HIDDEN),
            (Axis::HeadDim, self.head_dim, limits::LARGEST_HEAD_DIM),
        ] {
            if found == 0 {
                return Err(ArchitectureError::Zero { axis });
            }
            within(axis, found, limit)?;
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ArchitectureError::OddHeadDim { found: self.head_dim });
        }
        let mut layer = 0;
        for (count, shape) in self.runs() {
            shape.validate(layer)?;
            layer += count;
        }
        Ok(())
    }

    /// Whether `parent` can be pruned to this shape: valid, and no axis larger than the parent's.
    pub fn check(&self, parent: &ModelSpec) -> Result<(), ArchitectureError> {
        self.validate()?;
        let parent = &parent.architecture;
        for (axis, found, parent) in [
            (Axis::Layers, self.depth(), parent.depth()),
            (Axis::Hidden, self.hidden, parent.hidden),
            (Axis::HeadDim, self.head_dim, parent.head_dim),
            (Axis::Ffn, self.largest(|l| l.ffn), parent.largest(|l| l.ffn)),
            (Axis::QHeads, self.largest(|l| l.q_heads), parent.largest(|l| l.q_heads)),
            (Axis::KvHeads, self.largest(|l| l.kv_heads), parent.largest(|l| l.kv_heads)),
        ] {
            if found > parent {
                return Err(ArchitectureError::LargerThanParent { axis, found, parent });
            }
        }
        Ok(())
    }

    /// The largest FFN width, query heads and KV heads of any layer.
    pub fn largest_layer(&self) -> LayerShape {
        LayerShape {
            ffn: self.largest(|l| l.ffn),
            q_heads: self.largest(|l| l.q_heads),
            kv_heads: self.largest(|l| l.kv_heads),
        }
    }

    /// Every layer's shape, first layer first.
    pub fn layer_shapes(&self) -> impl Iterator<Item = LayerShape> {
        self.runs().into_iter().flat_map(|(count, shape)| (0..count).map(move |_| shape))
    }

    fn largest(&self, of: impl Fn(&LayerShape) -> u64) -> u64 {
        self.runs().iter().map(|(_, shape)| of(shape)).max().unwrap_or(0)
    }

    fn smallest(&self, of: impl Fn(&LayerShape) -> u64) -> u64 {
        self.runs().iter().map(|(_, shape)| of(shape)).min().unwrap_or(0)
    }
}

impl LayerShape {
    fn validate(&self, layer: u64) -> Result<(), ArchitectureError> {
        let &LayerShape { ffn, q_heads, kv_heads } = self;
        within(Axis::Ffn, ffn, limits::LARGEST_FFN)?;
        within(Axis::QHeads, q_heads, limits::MOST_HEADS)?;
        within(Axis::KvHeads, kv_heads, limits::MOST_HEADS)?;
        match (q_heads, kv_heads) {
            (0, 0) => Ok(()),
            (0, _) | (_, 0) => Err(ArchitectureError::HalfAnAttention { layer, q_heads, kv_heads }),
            _ if !q_heads.is_multiple_of(kv_heads) => {
                Err(ArchitectureError::UnequalGroups { layer, q_heads, kv_heads })
            }
            _ => Ok(()),
        }
    }
}

fn within(axis: Axis, found: u64, limit: u64) -> Result<(), ArchitectureError> {
    if found > limit {
        return Err(ArchitectureError::TooLarge { axis, found, limit });
    }
    Ok(())
}

/// `48L d4096 f12800 q40 kv8 hd128`; an axis that differs from layer to layer shows its range (`f9728..12800`).
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |of: fn(&LayerShape) -> u64| {
            let (low, high) = (self.smallest(of), self.largest(of));
            if low == high { high.to_string() } else { format!("{low}..{high}") }
        };
        let text = format!(
            "{}L d{} f{} q{} kv{} hd{}",
            self.depth(),
            self.hidden,
            range(|l| l.ffn),
            range(|l| l.q_heads),
            range(|l| l.kv_heads),
            self.head_dim
        );
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(ffn: u64, q_heads: u64, kv_heads: u64) -> LayerShape {
        LayerShape { ffn, q_heads, kv_heads }
    }

    #[test]
    fn shows_uniform_and_ragged_shapes() {
        assert_eq!(
            Architecture::uniform(48, 4096, 12800, 40, 8, 128).to_string(),
            "48L d4096 f12800 q40 kv8 hd128"
        );
        let layers = Layers::PerLayer(vec![layer(12800, 40, 8), layer(9728, 40, 8), layer(9728, 32, 8)]);
        let ragged = Architecture { hidden: 4096, head_dim: 128, layers };
        assert_eq!(ragged.to_string(), "3L d4096 f9728..12800 q32..40 kv8 hd128");
        assert_eq!(ragged.layer_shapes().count(), 3);
    }

    #[test]
    fn names_the_layer_and_the_axis_at_fault() {
        let uniform = |l, d, f, q, kv, hd| Architecture::uniform(l, d, f, q, kv, hd).validate();
        assert_eq!(uniform(2, 64, 128, 4, 2, 16), Ok(()));
        assert_eq!(uniform(2, 64, 0, 4, 2, 16), Ok(()));
        assert_eq!(uniform(2, 64, 128, 0, 0, 16), Ok(()));
        assert_eq!(uniform(0, 64, 128, 4, 2, 16), Err(ArchitectureError::NoLayers));
        assert_eq!(uniform(2, 0, 128, 4, 2, 16), Err(ArchitectureError::Zero { axis: Axis::Hidden }));
        assert_eq!(uniform(2, 64, 128, 4, 2, 0), Err(ArchitectureError::Zero { axis: Axis::HeadDim }));
        assert_eq!(uniform(2, 64, 128, 4, 2, 15), Err(ArchitectureError::OddHeadDim { found: 15 }));
        assert_eq!(
            uniform(2, 64, 128, 4, 0, 16),
            Err(ArchitectureError::HalfAnAttention { layer: 0, q_heads: 4, kv_heads: 0 })
        );
        let huge = limits::MOST_LAYERS + 1;
        assert!(matches!(uniform(huge, 64, 128, 4, 2, 16), Err(ArchitectureError::TooLarge { .. })));
        let layers = Layers::PerLayer(vec![layer(128, 4, 2), layer(128, 4, 3)]);
        assert_eq!(
            Architecture { hidden: 64, head_dim: 16, layers }.validate(),
            Err(ArchitectureError::UnequalGroups { layer: 1, q_heads: 4, kv_heads: 3 })
        );
    }
}
