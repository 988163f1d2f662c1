//! Wing 2: which shape. Objective values reach it as plain numbers by name; it never imports
//! [`crate::hardware`] or [`crate::quality`].

pub mod front;
pub mod solver;
pub mod space;
