//! A program that measures another machine: which points, and one Python file with everything in it.
//!
//! The Python lies in parts in `python/`, which are joined, in an order in which each uses only what stands before it.
//! What it writes is a profile in the schema of `hardware_profiles/README.md`.
//!
//! Deliberately absent: measuring; reading what was measured (see [`crate::hardware::profile`]).

pub mod datasheet;
pub mod grid;
pub mod point;
pub mod points;
pub mod program;
pub mod target;
