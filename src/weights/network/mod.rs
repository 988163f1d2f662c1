//! The runnable transformer: one layer's weights in memory at a time, activations of many sequences at once.
//!
//! f32 throughout, on the CPU kernels of [`crate::compute`]. Deliberately absent: gradients, sampling.

pub mod block;
pub mod evaluation;
pub mod forward;
pub mod layer;
pub mod load;
pub mod probe;
pub mod room;
pub mod rotary;
pub mod settings;
pub mod source;
pub mod text;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use crate::weights::network::tests::model as tiny_model;
