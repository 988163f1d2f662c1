//! Pictures as SVG and PNG: that of a plan (accuracy against throughput or another cost), and planes for others.

pub mod draw;
pub mod marker;
pub mod panel;
pub mod picture;
pub(crate) mod plane;
pub mod render;
