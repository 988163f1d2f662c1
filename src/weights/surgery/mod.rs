//! Obeys an architecture: cuts width, heads and depth, re-initialises what is left, repairs it.
//!
//! Deliberately absent: why the shape was chosen.

pub mod absorb;
pub mod card;
pub mod child;
pub mod choice;
pub mod clap;
pub mod consistency;
pub mod cut;
pub mod directory;
pub mod error;
pub mod ladder;
pub mod norms;
pub mod operation;
pub mod options;
pub mod parts;
pub mod planning;
pub mod record;
pub mod repair;
pub mod slice;
pub mod trial;
