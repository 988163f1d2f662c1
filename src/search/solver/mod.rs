//! Solvers: exact enumeration of uniform shapes, exact choice per layer, and annealing for objectives that do not decompose.
//!
//! Deliberately absent: any knowledge of devices or losses. Objectives are plain numbers.

pub mod annealing;
pub mod assignment;
pub mod enumeration;
pub mod masks;
