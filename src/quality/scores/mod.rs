//! Scores measured on the user's own checkpoint: what a change of one block costs, and what shapes lose by them.
//!
//! Block-wise scores as in Puzzle (arXiv 2411.19146): one block of the parent is replaced, the rest runs as it is. Here
//! the block is what the surgery would make of it, repaired.

pub mod curve;
pub mod error;
pub mod file;
pub mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::architecture::{Architecture, LayerShape};

/// A change of the parent that is scored on its own. Layers count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Change {
    /// One layer has another shape; no FFN, or no heads, is a part removed.
    Layer {
        /// Which layer.
        layer: u64,
        /// Its new shape.
        shape: LayerShape,
    },
    /// Consecutive layers are dropped.
    Drop {
        /// The first of them.
        first: u64,
        /// How many.
        count: u64,
    },
    /// The whole model has another hidden size.
    Hidden {
        /// The hidden size.
        hidden: u64,
    },
}

impl Change {
    /// Kind, as it stands in files.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Layer { .. } => "layer",
            Self::Drop { .. } => "drop",
            Self::Hidden { .. } => "hidden",
        }
    }
}

/// `layer 3: f160 q8 kv4`, `layers 3-4 dropped`, `hidden 96`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Layer { layer, shape } => {
                format!("layer {layer}: f{} q{} kv{}", shape.ffn, shape.q_heads, shape.kv_heads)
            }
            Self::Drop { first, count: 1 } => format!("layer {first} dropped"),
            Self::Drop { first, count } => format!("layers {first}-{} dropped", first + count - 1),
            Self::Hidden { hidden } => format!("hidden {hidden}"),
        };
        f.pad(&text)
    }
}

/// A mean over tokens and its standard error over samples (none for a single sample).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: Option<f64>,
}

/// What a change costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The change.
    pub change: Change,
    /// Loss above the parent's, nats a token.
    pub delta_nll: Measured,
    /// Divergence of the predictions from the parent's, nats a token.
    pub kl: Measured,
    /// `|x' - x|^2 / |x|^2` of the last norm's output, x' with the change; none where the hidden size differs.
    pub hidden_distance: Option<Measured>,
}

/// Text that scores were measured or blocks repaired on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRecord {
    /// File, as it was typed.
    pub path: String,
    /// SHA-256 of it, in hexadecimal.
    pub sha256: String,
    /// Samples taken, the first of the file.
    pub samples: u64,
    /// Tokens a sample has at most.
    pub seq_len: u64,
}

/// What a set of scores belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the format.
    pub format: u32,
    /// Tool and version.
    pub made_by: String,
    /// Fingerprint of the parent's checkpoint.
    pub fingerprint: String,
    /// The parent's shape.
    pub architecture: Architecture,
    /// SHA-256 of the statistics that the surgery chose by.
    pub importance_sha256: String,
    /// Held-out text the loss was measured on.
    pub data: TextRecord,
    /// Text the blocks were repaired on, where they were.
    pub repair_data: Option<TextRecord>,
    /// Steps of the surgery.
    pub surgery: serde_json::Value,
    /// The parent's loss on the text, nats a token.
    pub parent_nll: Measured,
    /// Every change asked for, over all parts.
    pub changes: u64,
    /// Parts the work was cut into.
    pub shards: u64,
    /// Parts that are here, ascending, from 0.
    pub parts: Vec<u64>,
}

/// Scores and what they belong to; rows in the order of their changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// What they belong to.
    pub header: Header,
    /// The scores.
    pub rows: Vec<Score>,
}
