//! The vocabulary every wing shares: what a model is, what shape it has, what work it is given.
//!
//! Deliberately absent: anything about hardware (see [`crate::hardware`]) or weights.

pub mod architecture;
pub mod spec;
pub mod workload;
