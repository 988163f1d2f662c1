//! Every way writing a checkpoint can fail.

use std::io;
use std::path::PathBuf;

use safetensors::Dtype;

/// A checkpoint that cannot be written. The target is untouched, whatever the error.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Something is there already.
    #[error("{path} exists and is not an empty directory: give another place, or remove it first")]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// A target without a name, such as `/`.
    #[error("{path} names no directory that could be made: give a path that ends in a name")]
    NoName {
        /// The target.
        path: PathBuf,
    },
    /// Another writer is at it.
    #[error(
        "{path} is in use: another run is writing the same checkpoint; wait for it or give another place"
    )]
    InUse {
        /// Its temporary directory.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot write {path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// No tensors.
    #[error("a checkpoint of no tensors was planned: expected one at least")]
    NothingPlanned,
    /// One name twice, or the name of the header's own entry.
    #[error("tensor {tensor} is planned twice or is no name for a tensor: expected each name once")]
    PlannedTwice {
        /// Its name.
        tensor: String,
    },
    /// A size that cannot be counted in bytes.
    #[error("tensor {tensor} ({dtype} {shape:?}) has no size in whole bytes")]
    NoSize {
        /// Its name.
        tensor: String,
        /// Element type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Another tensor than the plan's next.
    #[error("tensor {found} was given where the plan has {expected}")]
    OutOfTurn {
        /// The plan's next; a remark where all are written.
        expected: String,
        /// What was given.
        found: String,
    },
    /// Another element type or shape than planned.
    #[error("tensor {tensor} was given as {found}: planned as {planned}")]
    Differs {
        /// Its name.
        tensor: String,
        /// Element type and shape in the plan.
        planned: String,
        /// Element type and shape given.
        found: String,
    },
    /// Bytes that do not fill the shape.
    #[error("tensor {tensor} has {found} bytes: its shape needs {expected}")]
    Length {
        /// Its name.
        tensor: String,
        /// Bytes of its shape.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// Finished before all was written.
    #[error("{missing} planned tensors were not written, {next} first")]
    Unfinished {
        /// The plan's next.
        next: String,
        /// How many are missing.
        missing: usize,
    },
    /// A file name that leads elsewhere.
    #[error("`{name}` is no name of a file inside a checkpoint")]
    FileName {
        /// The name.
        name: String,
    },
    /// A file that is there already.
    #[error("file {name} was added twice, or is one of the weight files")]
    AddedTwice {
        /// The name.
        name: String,
    },
}
