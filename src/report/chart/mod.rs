//! The picture of a plan: accuracy against throughput (or another cost), as SVG and as PNG.

pub mod draw;
pub mod marker;
pub mod panel;
pub mod picture;
pub mod render;
