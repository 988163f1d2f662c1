//! Scores that cannot be measured.

use crate::compute::storage::SizeError;
use crate::weights::network::evaluation::EvaluationError;
use crate::weights::network::source::{SourceError, WeightsError};
use crate::weights::surgery::choice::error::ChoiceError;
use crate::weights::surgery::error::SurgeryError;

/// Why scores cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum ScoringError {
    /// Weights of the parent cannot be loaded.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Tokens that cannot be embedded.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Weights that do not fit each other.
    #[error("the model's weights do not fit each other: {0}")]
    Size(#[from] SizeError),
    /// Text that cannot be predicted.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// A surgery that cannot be done.
    #[error("{what}: {error}")]
    Surgery {
        /// The change or shape.
        what: String,
        /// Why.
        error: Box<SurgeryError>,
    },
    /// A change the surgery refuses.
    #[error("{what}: {error}")]
    Choice {
        /// The change.
        what: String,
        /// Why.
        error: Box<ChoiceError>,
    },
    /// A share that keeps nothing, or all.
    #[error("a share of {found} to keep: expected more than 0 and less than 1")]
    Share {
        /// What was given.
        found: f64,
    },
    /// Whoever takes the scores could not.
    #[error("{0}")]
    Taken(String),
}
