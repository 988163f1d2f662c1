//! Hardware profiles: device facts, measured kernel tables and their provenance.
//!
//! Deliberately absent: any estimate (see [`crate::hardware::latency`]).

pub mod device;
pub mod engine;
pub mod table;
