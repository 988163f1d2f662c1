//! Hugging Face checkpoint directories: validated, memory-mapped, written whole or not at all.
//!
//! Deliberately absent: what a tensor means (see [`crate::model::tensors`]).

pub mod tensor;
