//! The shape of a dense decoder: hidden size, depth, FFN width, query heads, KV heads, head size.

use serde::{Deserialize, Serialize};

/// Shape of one decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
