//! Scores of single changes of a parent, and of whole shapes: what the surgery makes of them, measured on held-out text.
//!
//! Deliberately absent: what the scores say of shapes that were not tried.

pub mod blocks;
pub mod changes;
pub mod error;
pub mod reference;
pub mod whole;

use crate::quality::scores::Measured;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::importance::statistics::Sums;
use crate::weights::network::evaluation::Mean;
use crate::weights::network::source::LayerSource;
use crate::weights::surgery::options::Options;

/// What scores are measured with.
pub struct Bench<'a> {
    /// The parent.
    pub parent: &'a Checkpoint,
    /// Its weights, as they are run: streamed, or in memory.
    pub source: &'a dyn LayerSource,
    /// Statistics of the parent, by which the surgery chooses.
    pub sums: &'a Sums,
    /// Steps of the surgery. Post-norms stay where blocks are scored on their own.
    pub options: &'a Options,
    /// Text to repair on, token ids.
    pub repair_samples: &'a [Vec<u32>],
}

impl From<Mean> for Measured {
    fn from(mean: Mean) -> Self {
        Self { mean: mean.mean, standard_error: mean.standard_error }
    }
}
