//! What a data sheet says of a device.

use std::collections::BTreeMap;

use crate::units::{Bytes, BytesPerSecond, DType, FlopsPerSecond};

/// Smallest unit of work of the matrix engine, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows.
    pub m: u64,
    /// Output features.
    pub n: u64,
    /// Input features.
    pub k: u64,
}

/// Device facts.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Name for people, such as `NVIDIA H200 SXM 141GB`.
    pub name: String,
    /// Peak dense rate of the matrix engine for each operand type it has.
    pub peaks: BTreeMap<DType, FlopsPerSecond>,
    /// Device memory.
    pub hbm: Bytes,
    /// Peak device-memory bandwidth.
    pub hbm_bandwidth: BytesPerSecond,
    /// Last-level cache, if known.
    pub l2: Option<Bytes>,
    /// Matrix cores working side by side: SMs on GPUs, AI cores (AIC) on Ascend.
    pub cores: u64,
    /// Granularity of one core's matrix engine: typical thread-block tile on GPUs, cube block on Ascend.
    pub tile: Tile,
    /// One-way bandwidth to the other devices of a node, per device.
    pub interconnect: BytesPerSecond,
    /// Multiples pruned shapes should keep on this device.
    pub granularity: Granularity,
}

/// Multiples that pruned axes should keep on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granularity {
    /// Multiple of the hidden size.
    pub hidden: u64,
    /// Multiple of the FFN width.
    pub ffn: u64,
}
