//! Rules for kernels without rows: few numbers in the manifest, always marked `estimated`.
//!
//! Deliberately absent: their evaluation (see [`crate::hardware::latency`]).

use crate::units::Seconds;

/// Elementwise kernels (norms, activation, rope, embedding, sampling):
/// `launches * launch + bytes / (efficiency * HBM bandwidth)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ElementwiseRule {
    /// Fixed cost of one launch.
    pub launch: Seconds,
    /// Reached share of the peak memory bandwidth, in (0, 1].
    pub efficiency: f64,
    /// The truth is believed (judged, not measured) to lie within this factor either way in 90 % of cases.
    pub interval_factor: f64,
}

/// All-reduce without a table: `latency + 2 (world - 1) / world * bytes / (efficiency * B)`, where `B` is the
/// device's interconnect bandwidth, times `(world - 1) / (full_mesh_devices - 1)` where devices are joined
/// pairwise and a group uses only the links among its members.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AllReduceRule {
    /// Fixed cost of one all-reduce.
    pub latency: Seconds,
    /// Reached share of the interconnect bandwidth, in (0, 1].
    pub efficiency: f64,
    /// Devices of a full mesh (each pair has its own link); `None` behind a switch.
    pub full_mesh_devices: Option<u64>,
    /// The truth is believed (judged, not measured) to lie within this factor either way in 90 % of cases.
    pub interval_factor: f64,
}
