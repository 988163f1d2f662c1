//! The part of a data sheet that kernel times depend on, as it stands in a fit file, and how unlike two are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hardware::profile::device::{Device, Granularity, Tile};
use crate::units::{Bytes, BytesPerSecond, DType, FlopsPerSecond};

/// A data sheet. Keys and units are those of `profile.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys of [device] in hardware_profiles/README.md")]
pub struct Facts {
    pub peak_tflops: BTreeMap<DType, f64>,
    pub hbm_gbps: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l2_mib: Option<f64>,
    pub cores: u64,
    pub tile_m: u64,
    pub tile_n: u64,
    pub tile_k: u64,
}

impl Facts {
    /// Of a device.
    pub fn of(device: &Device) -> Self {
        Self {
            peak_tflops: device.peaks.iter().map(|(dtype, peak)| (*dtype, peak.tflops())).collect(),
            hbm_gbps: device.hbm_bandwidth.gbps(),
            l2_mib: device.l2.map(Bytes::mib),
            cores: device.cores,
            tile_m: device.tile.m,
            tile_n: device.tile.n,
            tile_k: device.tile.k,
        }
    }

    /// The device as far as kernels are concerned; memory and links, which no kernel time depends on, are nil.
    pub fn device(&self, name: &str) -> Device {
        let peak = |(dtype, peak): (&DType, &f64)| (*dtype, FlopsPerSecond::from_tflops(*peak));
        Device {
            name: name.to_string(),
            peaks: self.peak_tflops.iter().map(peak).collect(),
            hbm: Bytes(0.0),
            hbm_bandwidth: BytesPerSecond::from_gbps(self.hbm_gbps),
            l2: self.l2_mib.map(Bytes::from_mib),
            cores: self.cores,
            tile: Tile { m: self.tile_m, n: self.tile_n, k: self.tile_k },
            interconnect: BytesPerSecond(0.0),
            granularity: Granularity { hidden: 1, ffn: 1 },
        }
    }

    pub(super) fn values(&self) -> Vec<f64> {
        let counts = [self.cores, self.tile_m, self.tile_n, self.tile_k].map(|x| x as f64);
        let rates = self.peak_tflops.values().copied().chain([self.hbm_gbps]).chain(self.l2_mib);
        rates.chain(counts).collect()
    }
}

/// How unlike two devices are: root mean square of the logarithms of the ratios of peak rate, bandwidth, cores and
/// last-level cache (as far as both sheets state them). Zero for the same sheet.
pub fn distance(a: &Device, b: &Device) -> f64 {
    let ratio = |x: f64, y: f64| (x / y).ln().powi(2);
    let peak = a.peaks.iter().find_map(|(dtype, peak)| Some((peak.0, b.peaks.get(dtype)?.0)));
    let bf16 = a.peaks.get(&DType::Bf16).zip(b.peaks.get(&DType::Bf16)).map(|(a, b)| (a.0, b.0));
    let mut squares = vec![
        ratio(a.hbm_bandwidth.0, b.hbm_bandwidth.0),
        ratio(a.cores.max(1) as f64, b.cores.max(1) as f64),
    ];
    squares.extend(bf16.or(peak).map(|(a, b)| ratio(a, b)));
    squares.extend(a.l2.zip(b.l2).map(|(a, b)| ratio(a.0, b.0)));
    (squares.iter().sum::<f64>() / squares.len() as f64).sqrt()
}
