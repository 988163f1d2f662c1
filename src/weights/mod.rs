//! The engine that turns a checkpoint into the chosen shape (Pangu Light, arXiv 2505.20155).
//!
//! [`checkpoint`] reads and writes Hugging Face directories, [`network`] runs them, [`importance`] says what in them
//! matters, [`surgery`] cuts and repairs.

pub mod checkpoint;
pub mod importance;
pub mod masks;
pub mod network;
pub mod scoring;
pub mod surgery;
