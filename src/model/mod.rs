//! The vocabulary every wing shares: what a model is, what shape it has, what work it is given.
//!
//! Deliberately absent: anything about hardware (see [`crate::hardware`]) or weights.

pub mod architecture;
pub mod blocks;
pub mod cards;
pub mod config_error;
pub mod counts;
pub mod export;
pub mod export_config;
mod family;
mod fields;
pub mod limits;
pub mod loading;
pub mod per_layer;
pub mod read;
mod refusal;
pub mod spec;
pub mod tensor_parallel;
pub mod tensors;
mod windows;
pub mod workload;
