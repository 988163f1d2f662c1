//! Plans, errors of estimates and differences of profiles as JSON, CSV, SVG, PNG and HTML; read-only, computes no new physics.

pub mod bundle;
pub mod chart;
mod consistency;
pub mod error;
mod folder;
pub mod html;
pub mod kernels;
pub mod tables;
