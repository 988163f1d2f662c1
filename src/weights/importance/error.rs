//! What can be wrong with a file of statistics.

use std::path::PathBuf;

/// Two things that must be the same and are not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} differs: {expected} in the one, {found} in the other")]
pub struct Mismatch {
    /// What differs.
    pub what: &'static str,
    /// Value in the first.
    pub expected: String,
    /// Value in the second.
    pub found: String,
}

/// A file of statistics that cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum StatisticsError {
    /// The system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not a whole safetensors file.
    #[error("{}: not a safetensors file, or a damaged one ({reason}); gather the statistics again", path.display())]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// What its reader says.
        reason: String,
    },
    /// A safetensors file of something else.
    #[error(
        "{}: no `archplan_statistics` in its metadata: expected a file that `archplan calibrate` or its hook script wrote",
        path.display()
    )]
    NotStatistics {
        /// The file.
        path: PathBuf,
    },
    /// A format this version does not know.
    #[error(
        "{}: format {found}: expected {expected}; gather the statistics again with this version of archplan",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What is known.
        expected: u64,
    },
    /// The header cannot be.
    #[error("{}: header of the statistics: {reason}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor is not there.
    #[error("{}: tensor {tensor} is missing: expected {expected}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Type and shape.
        expected: String,
    },
    /// A tensor that has no business there.
    #[error("{}: tensor {tensor} belongs to no model of this shape; take it out", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor of another type or shape.
    #[error("{}: tensor {tensor} is {found}: expected {expected}", path.display())]
    Misshaped {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Type and shape in the file.
        found: String,
        /// Type and shape of the model.
        expected: String,
    },
    /// NaN, infinite, or negative where it cannot be.
    #[error(
        "{}: tensor {tensor} holds {found} at element {element}: expected finite sums (of squares: not negative)",
        path.display()
    )]
    BadNumber {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The number.
        found: f64,
        /// Where, row-major.
        element: usize,
    },
    /// Fewer or more bytes than a model of the stated shape has sums.
    #[error("{}: {found} bytes of numbers: expected {expected} for a model of shape {shape}", path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// Bytes in the file.
        found: u128,
        /// Bytes of such a model.
        expected: u128,
        /// The shape.
        shape: String,
    },
    /// A run that was cut short.
    #[error(
        "{}: {done} of {expected} samples: the run is not finished; start the same `archplan calibrate` again, it goes on",
        path.display()
    )]
    Unfinished {
        /// The file.
        path: PathBuf,
        /// Samples inside.
        done: u64,
        /// Samples it must have.
        expected: u64,
    },
    /// Parts of different runs.
    #[error("{} and {}: {mismatch}; only parts of one run can be merged", first.display(), second.display())]
    DifferentRuns {
        /// A part.
        first: PathBuf,
        /// The part that does not fit it.
        second: PathBuf,
        /// What differs.
        mismatch: Mismatch,
    },
    /// Samples that would count twice.
    #[error("{} and {} both hold part {part}: leave one out", first.display(), second.display())]
    Overlap {
        /// A file.
        first: PathBuf,
        /// Another.
        second: PathBuf,
        /// The part.
        part: u64,
    },
    /// Parts are missing.
    #[error(
        "parts {missing:?} of {shards} are missing: gather them (--shard i/{shards}), or merge without them (--allow-missing)"
    )]
    MissingParts {
        /// Those that are missing.
        missing: Vec<u64>,
        /// Number of parts of the run.
        shards: u64,
    },
    /// Nothing to merge.
    #[error("no parts to merge: name one file at least")]
    NoParts,
    /// Statistics of another model.
    #[error("{}: {mismatch}; the statistics are of another model", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// What differs.
        mismatch: Mismatch,
    },
}
