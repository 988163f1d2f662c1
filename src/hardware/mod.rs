//! Wing 1: what a shape costs on a device.

pub mod collector;
pub mod comparison;
pub mod import;
pub mod kernel;
pub mod latency;
pub mod measure;
pub mod profile;
pub mod transfer;
