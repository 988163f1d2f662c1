//! Masks: which FFN neurons and KV groups of every layer stay, searched by forward passes of masked parents alone.
//!
//! The walk itself is [`crate::search::solver::masks`]; here units become neurons and groups, masks become sliced layers, and
//! losses are those of text. As published (arXiv 2406.10576) the walk sees no repair: what is kept is repaired by the surgery.
//!
//! Deliberately absent: hidden channels and whole layers, which no mask of inner widths can drop.

pub mod error;
pub mod file;
pub mod layout;
pub mod losses;

#[cfg(test)]
mod tests;
