//! The CPU kernels of the tool's own transformer, and a stack of them.
//!
//! Plain slices in, plain slices out; activations are f32, weights and KV cache f32 or bf16 (widened as they are
//! read, arithmetic is f32). Every output is summed in a fixed order, so that the number of threads does not change
//! it. Threads are those of the rayon pool the call is made in. Large products run on a GPU where one was chosen
//! (`device`); their last bits are that GPU's.
//!
//! Deliberately absent: files, checkpoints, timing.

pub mod activation;
pub mod attention;
pub mod causal;
pub mod column_major;
#[cfg(feature = "cuda")]
mod cuda;
pub mod decoder;
pub mod device;
pub mod device_error;
mod dot;
pub mod elementwise;
mod exponential;
pub mod linear;
pub mod loss;
mod offload;
pub mod product;
pub mod storage;
pub mod threads;
