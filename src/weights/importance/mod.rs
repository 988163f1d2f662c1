//! What in a checkpoint matters, from its activations on calibration text: sums that add over samples, so that parts
//! gathered apart can be merged.

pub mod statistics;
