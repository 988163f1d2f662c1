//! Masks that cannot be searched, kept or used.

use std::path::PathBuf;

use crate::search::solver::masks::MaskError;
use crate::weights::network::evaluation::EvaluationError;

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum MasksError {
    /// A target that is more than a choice of neurons and KV groups.
    #[error(
        "the target has {what} {found}, the parent {parent}: a mask chooses FFN neurons and KV groups, all else must be the parent's"
    )]
    Axis {
        /// Which axis.
        what: String,
        /// The target's.
        found: u64,
        /// The parent's.
        parent: u64,
    },
    /// Widths that units or multiples do not divide.
    #[error("{what} is {found}: expected a multiple of {of} ({flag})")]
    Multiple {
        /// Which width.
        what: String,
        /// How wide.
        found: u64,
        /// What should divide it.
        of: u64,
        /// The option that says so.
        flag: &'static str,
    },
    /// Not enough text.
    #[error(
        "{found} samples of two tokens or more: expected {expected} at least, some of them are kept out of the search"
    )]
    Samples {
        /// Samples.
        found: usize,
        /// Samples needed.
        expected: usize,
    },
    /// The walk refuses.
    #[error(transparent)]
    Walk(#[from] MaskError),
    /// Text that cannot be predicted.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// The file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file holds something else.
    #[error("{}: {reason}; expected mask.json of `archplan mask`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file belongs to something else.
    #[error("{}: {what} differs: {found} there, {expected} here{advice}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// There.
        found: String,
        /// Here.
        expected: String,
        /// What to do.
        advice: &'static str,
    },
}
