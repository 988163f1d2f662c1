//! What in a checkpoint matters, from its activations on calibration text: sums that add over samples, so that parts
//! gathered apart can be merged.

pub mod calibrate;
pub mod criteria;
pub mod error;
pub mod fields;
pub mod file;
pub mod gather;
pub mod header;
pub mod import;
pub mod merge;
pub mod rankings;
pub mod statistics;
pub mod summary;
#[cfg(test)]
mod tests;
