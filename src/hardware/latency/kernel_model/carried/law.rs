//! How the time of a call follows from a data sheet, in eight constants that were fitted to several devices at once.
//!
//! `t = c + ((tc q)^p + tm^p)^(1/p)`: compute time `tc` is stretched by `q` where there are too few tiles for the
//! cores; memory time `tm` goes by the cores' share of cache bandwidth for operands that stay in the last-level cache
//! and by the device memory's for the rest. In attention over a cache it is the memory time that few blocks stretch.
//! Only ratios of such times between two devices are used: what the law gets wrong alike on both drops out.

use serde::{Deserialize, Serialize};

use crate::hardware::kernel::KernelCall;
use crate::hardware::latency::kernel_model::skeleton;
use crate::hardware::profile::device::Device;
use crate::units::Bytes;

/// How sharply operands cease to stay in the cache as they outgrow it.
const RESIDENCE_SHARPNESS: i32 = 3;
/// Area of the tile that [`Law::least_tile`] is a multiple of (64 x 64 outputs).
const TILE_AREA: f64 = 4096.0;
/// Queries of one block in prefill, cached tokens of one block in decode.
const QUERY_BLOCK: f64 = 128.0;
const CACHE_BLOCK: f64 = 256.0;

/// The constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Law {
    /// `c`, the time of an empty call.
    pub launch_us: f64,
    /// Reached share of the peak rate.
    pub compute_efficiency: f64,
    /// Reached share of the device memory's bandwidth.
    pub memory_efficiency: f64,
    /// Bandwidth of the last-level cache for each core, 10⁹ bytes/s.
    pub cache_gbps_per_core: f64,
    /// Share of the last-level cache that operands may fill and stay.
    pub cache_share: f64,
    /// Work of one core below which more cores do not help, in blocks (64 x 64 outputs, 128 queries, 256 cached
    /// tokens).
    pub least_tile: f64,
    /// Sharpness of that limit.
    pub fill_sharpness: f64,
    /// `p - 1`: near 0 compute and memory time add up, large they hide each other.
    pub overlap: f64,
}

impl Law {
    /// Seconds of a call on a device with a last-level cache of `cache`.
    pub fn seconds(&self, call: &KernelCall, device: &Device, cache: Bytes) -> f64 {
        let (compute, _) = skeleton::bounds(call, device);
        let cores = device.cores.max(1) as f64;
        let stretch = (1.0 + (units(call) / cores / self.least_tile).powf(-self.fill_sharpness))
            .powf(1.0 / self.fill_sharpness);
        let moved = call.bytes().0;
        let room = (self.cache_share * cache.0).max(f64::MIN_POSITIVE);
        let stays = 1.0 / (1.0 + (moved / room).powi(RESIDENCE_SHARPNESS));
        let cached = moved / (self.cache_gbps_per_core * 1e9 * cores);
        let fetched = moved / (self.memory_efficiency * device.hbm_bandwidth.0);
        let memory = stays * cached + (1.0 - stays) * fetched;
        let compute = compute / self.compute_efficiency;
        let (compute, memory) = match call {
            KernelCall::AttentionDecode { .. } => (compute, memory * stretch),
            _ => (compute * stretch, memory),
        };
        let (high, low, p) = (compute.max(memory), compute.min(memory), 1.0 + self.overlap);
        let joint = if high > 0.0 { high * (1.0 + (low / high).powf(p)).powf(1.0 / p) } else { 0.0 };
        self.launch_us * 1e-6 + joint
    }

    pub(super) fn values(&self) -> [f64; 8] {
        [
            self.launch_us,
            self.compute_efficiency,
            self.memory_efficiency,
            self.cache_gbps_per_core,
            self.cache_share,
            self.least_tile,
            self.fill_sharpness,
            self.overlap,
        ]
    }
}

/// Blocks of work that cores can take side by side.
fn units(call: &KernelCall) -> f64 {
    match *call {
        KernelCall::Gemm { m, n, .. } => m as f64 * n as f64 / TILE_AREA,
        KernelCall::AttentionPrefill { batch, seq_len, q_heads, .. } => {
            batch as f64 * q_heads as f64 * seq_len as f64 / QUERY_BLOCK
        }
        KernelCall::AttentionDecode { batch, kv_len, kv_heads, .. } => {
            batch as f64 * kv_heads as f64 * (kv_len as f64 / CACHE_BLOCK).max(1.0)
        }
        KernelCall::AllReduce { .. } | KernelCall::Elementwise { .. } => 1.0,
    }
}
