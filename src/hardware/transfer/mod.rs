//! A profile for a device nobody has measured, or measured at a few points: what a measured relative's kernels do,
//! carried over by the two data sheets and corrected by the points. How well that goes stands in docs/transfer.md.
//!
//! Deliberately absent: the arithmetic of the estimate, which fit files need too
//! ([`crate::hardware::latency::kernel_model::carried`]).

pub mod all_reduce_rule;
pub mod carry;
pub mod constants;
pub mod design;
pub mod evaluation;
pub mod points;
pub mod profile_draft;
