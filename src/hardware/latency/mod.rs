//! What a kernel call, a layer, a model costs: estimates with intervals, sources and breakdown.
//!
//! Deliberately absent: opening files (see [`crate::hardware::profile`]) and any notion of quality.

pub mod cost;
