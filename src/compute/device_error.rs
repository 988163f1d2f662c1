//! Why a device cannot be had, or a product on it failed.

use crate::units::Bytes;

/// What is wrong with a device, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A word that names no device.
    #[error("`{typed}` is no device{suggestion}; expected cpu, cuda, or cuda:1 for the second GPU")]
    Unknown {
        /// What was typed.
        typed: String,
        /// The end of the sentence, from [`crate::names::did_you_mean`].
        suggestion: String,
    },
    /// The feature is off.
    #[error("this archplan was built without GPU support: cargo build --release --features cuda")]
    NotBuilt,
    /// No library of the driver.
    #[error("no NVIDIA driver was found (libcuda.so.1): install it, or take --device cpu")]
    NoDriver,
    /// No library of cuBLAS.
    #[error(
        "cuBLAS was not found (libcublas.so.11 to .13): install it with the CUDA toolkit and name its folder in \
         LD_LIBRARY_PATH, or take --device cpu"
    )]
    NoCublas,
    /// A library without a function that is needed.
    #[error("{library} has no {function}: it is too old, update it, or take --device cpu")]
    TooOld {
        /// Which library.
        library: &'static str,
        /// Which function.
        function: &'static str,
    },
    /// A driver without a GPU.
    #[error(
        "the NVIDIA driver finds no GPU: see what nvidia-smi and CUDA_VISIBLE_DEVICES say, or take --device cpu"
    )]
    NoDevice,
    /// A number beyond the last GPU.
    #[error("there is no cuda:{ordinal}: GPUs found: {count}, counted from cuda:0")]
    NoSuchDevice {
        /// The number asked for, from 0.
        ordinal: usize,
        /// GPUs there are.
        count: usize,
    },
    /// No memory for a matrix.
    #[error(
        "the GPU has no room for a matrix of {}: fewer --batch-tokens need less, or free its memory",
        Bytes(*bytes as f64)
    )]
    OutOfMemory {
        /// Size of the matrix, bytes.
        bytes: u64,
    },
    /// A side that BLAS cannot count.
    #[error("a matrix has a side beyond 2^31 - 1: too long for the GPU's library")]
    TooLarge,
    /// Slices and sizes that do not go together.
    #[error("the matrices are not of the sizes that were asked for")]
    Sizes,
    /// The driver or cuBLAS says no.
    #[error("the GPU failed ({doing}): {reason}; see nvidia-smi, or take --device cpu")]
    Failed {
        /// The step.
        doing: &'static str,
        /// In the library's words.
        reason: String,
    },
    /// It failed before, in a way that a second try does not mend.
    #[error("the GPU failed before and is not asked again")]
    GivenUp,
    /// A device is chosen once.
    #[error("the device is {device} already: it is chosen once, before any work")]
    AlreadyChosen {
        /// The device in use.
        device: String,
    },
}
