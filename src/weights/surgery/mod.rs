//! Obeys an architecture: cuts width, heads and depth, re-initialises what is left, repairs it.
//!
//! Deliberately absent: why the shape was chosen.
