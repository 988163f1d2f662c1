//! What a kernel call, a layer, a model costs: estimates with intervals, sources and breakdown.
//!
//! Deliberately absent: opening files (see [`crate::hardware::profile`]) and any notion of quality.

pub mod accuracy;
pub mod calibration;
pub mod cost;
pub mod forward;
pub mod kernel_model;
pub mod lowering;
pub mod memo;
pub mod memory;
pub mod percent_errors;
pub mod prediction;
pub mod refit;
pub mod roofline;
pub mod serving;
pub mod static_batch;
pub mod uniform_tables;
pub mod validation;
