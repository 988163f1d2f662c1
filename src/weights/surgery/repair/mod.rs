//! Refits what is left so that the child does what the parent did on calibration text, layer by layer, each layer on the
//! inputs that the layers before it, repaired already, hand it.

pub mod alternating;
pub mod ends;
pub mod grams;
pub mod layer;
pub mod lockstep;
pub mod moments;
pub mod ridge;
