//! Every way a checkpoint directory can be wrong.

use std::io;
use std::path::PathBuf;

use safetensors::Dtype;

use crate::model::read::ReadError;
use crate::weights::checkpoint::header::HeaderError;

/// A checkpoint that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not a directory.
    #[error("{path} is no directory: give a Hugging Face checkpoint directory (config.json and safetensors)")]
    NotADirectory {
        /// What was given.
        path: PathBuf,
    },
    /// Its configuration cannot be read or is not of a model that is supported.
    #[error(transparent)]
    Config(Box<ReadError>),
    /// A file cannot be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// No safetensors weights.
    #[error(
        "{directory} holds neither model.safetensors nor model.safetensors.index.json{others}: convert the weights to safetensors (`save_pretrained` of transformers)"
    )]
    NoWeights {
        /// The directory.
        directory: PathBuf,
        /// What else is there.
        others: String,
    },
    /// Both an index and a single file that the index does not know.
    #[error(
        "{directory} holds model.safetensors and an index that does not name it: two checkpoints in one directory; remove one"
    )]
    Ambiguous {
        /// The directory.
        directory: PathBuf,
    },
    /// The index is not one.
    #[error("{index}: not an index ({{\"weight_map\": {{tensor: file}}}}): {message}; fetch the file again")]
    IndexSyntax {
        /// The index.
        index: PathBuf,
        /// What the JSON reader said, with the line.
        message: String,
    },
    /// The index leads out of the directory.
    #[error(
        "{index}: tensor {tensor} is said to be in `{file}`: expected the name of a file in the same directory"
    )]
    IndexFileName {
        /// The index.
        index: PathBuf,
        /// The tensor.
        tensor: String,
        /// What stands there.
        file: String,
    },
    /// The index names a file that is not there.
    #[error(
        "{index}: tensor {tensor} is said to be in {file}, which is missing; fetch the shard, or the index that belongs to these files"
    )]
    IndexMissingFile {
        /// The index.
        index: PathBuf,
        /// First tensor said to be in it.
        tensor: String,
        /// The file.
        file: String,
    },
    /// The index names a tensor that the file lacks.
    #[error(
        "{index}: tensor {tensor} is said to be in {file}, which lacks it; index and shards are of different checkpoints, fetch both again"
    )]
    IndexMissingTensor {
        /// The index.
        index: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
    },
    /// A tensor of the model is in a shard but not in the index.
    #[error(
        "{index}: does not list tensor {tensor}, which is in {file}; engines would not find it, fetch the index again"
    )]
    NotIndexed {
        /// The index.
        index: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
    },
    /// One name in two files.
    #[error(
        "tensor {tensor} is in {first} and in {second}: expected it once; the shards are of different checkpoints, fetch them again"
    )]
    InTwoShards {
        /// The tensor.
        tensor: String,
        /// A file that has it.
        first: String,
        /// The other.
        second: String,
    },
    /// A header that is not sound.
    #[error("{file}: {error}")]
    Header {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        error: Box<HeaderError>,
    },
    /// Quantised weights.
    #[error(
        "{file}: tensor {tensor} belongs to a quantised checkpoint, which is not supported; use the unquantised one (bf16, f16 or f32)"
    )]
    Quantised {
        /// The file.
        file: PathBuf,
        /// The tensor that gives it away.
        tensor: String,
    },
    /// A mixture of experts.
    #[error(
        "{file}: tensor {tensor} belongs to a mixture of experts, which is not supported; use a dense decoder"
    )]
    Experts {
        /// The file.
        file: PathBuf,
        /// The tensor that gives it away.
        tensor: String,
    },
    /// Neither f32 nor f16 nor bf16.
    #[error(
        "{file}: tensor {tensor} is {dtype}: expected F32, F16 or BF16; a quantised checkpoint must be dequantised first"
    )]
    NotFloating {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: Dtype,
    },
    /// A tensor that the configuration asks for is absent.
    #[error(
        "{directory}: tensor {tensor} (shape {shape:?}) is missing{suggestion}: config.json asks for it; fetch the weights that belong to the config"
    )]
    Missing {
        /// The directory.
        directory: PathBuf,
        /// The tensor.
        tensor: String,
        /// Shape that is asked for.
        shape: Vec<u64>,
        /// A name alike that is there, or empty.
        suggestion: String,
    },
    /// A shape that is not the configuration's.
    #[error(
        "{file}: tensor {tensor} has shape {found:?}: config.json asks for {expected:?}; fetch the config that belongs to the weights"
    )]
    Shape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Shape that is asked for.
        expected: Vec<u64>,
        /// Shape in the header.
        found: Vec<usize>,
    },
    /// A weight of a decoder layer that the configured model does not have.
    #[error(
        "{file}: tensor {tensor} has no place in the model that config.json describes (another depth, a bias or a norm it does not mention); fetch the config that belongs to the weights"
    )]
    Unexpected {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// No such tensor was asked for rightly.
    #[error("{directory} has no tensor {tensor}{suggestion}")]
    NoSuchTensor {
        /// The directory.
        directory: PathBuf,
        /// What was asked for.
        tensor: String,
        /// A name alike that is there, or empty.
        suggestion: String,
    },
}

impl From<ReadError> for CheckpointError {
    fn from(error: ReadError) -> Self {
        CheckpointError::Config(Box::new(error))
    }
}
