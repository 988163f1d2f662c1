//! Tables and estimates set side by side: errors by size, and two profiles against each other.
//!
//! Deliberately absent: drawing (see [`crate::report::kernels`]).

pub mod difference;
pub mod errors;
pub mod facts;
pub mod grid;
pub mod ratios;
pub mod stretch;
