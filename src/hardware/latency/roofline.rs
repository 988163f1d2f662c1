//! The physical bound as a price: launch time plus the larger of compute time and memory time.
//!
//! Deliberately absent: anything learned from measurements. It prices what has no table (norms, activation, rope,
//! sampling), an all-reduce where a profile has none, and serves as the plain second implementation of
//! [`KernelCosts`].

use crate::estimate::Source;
use crate::hardware::kernel::KernelCall;
use crate::hardware::latency::cost::{GapError, KernelCost, KernelCosts};
use crate::hardware::profile::device::Device;
use crate::units::{Bytes, DType, Seconds};

/// Share of the peak a well-written kernel reaches: a rule of thumb, marked `estimated`.
const EFFICIENCY: f64 = 0.8;

/// Time between the starts of two kernels of a captured graph.
const LAUNCH_US: f64 = 2.5;

/// Time of one step of an all-reduce (synchronisation of the devices).
const HOP_US: f64 = 2.0;

/// Relative spread of a rule of thumb: nine in ten measurements within a factor of two.
const LOG_SIGMA: f64 = 0.42;

/// Roofline prices of one device.
#[derive(Clone, Copy, Debug)]
pub struct Roofline<'a> {
    profile: &'a str,
    device: &'a Device,
}

impl<'a> Roofline<'a> {
    /// Prices from the data sheet of `device`, named `profile` in errors.
    pub fn new(profile: &'a str, device: &'a Device) -> Self {
        Self { profile, device }
    }

    fn compute(&self, call: &KernelCall) -> Result<Seconds, GapError> {
        let dtype = match *call {
            KernelCall::Gemm { dtype, .. } => dtype,
            KernelCall::AttentionPrefill { .. } | KernelCall::AttentionDecode { .. } => DType::Bf16,
            KernelCall::AllReduce { .. } | KernelCall::Elementwise { .. } => return Ok(Seconds::ZERO),
        };
        let peak = self.device.peaks.get(&dtype).ok_or_else(|| GapError::NoDType {
            profile: self.profile.to_string(),
            family: call.family(),
            dtype,
            available: self.device.peaks.keys().copied().collect(),
        })?;
        Ok(call.flops() / *peak)
    }

    /// Ring all-reduce: each device sends `2 (world - 1) / world` of the buffer.
    fn all_reduce(&self, world: u64, bytes: u64) -> Seconds {
        let world = world.max(1) as f64;
        let sent = Bytes(bytes as f64 * 2.0 * (world - 1.0) / world);
        sent / self.device.interconnect / EFFICIENCY + Seconds::from_us(HOP_US * (world - 1.0))
    }
}

impl KernelCosts for Roofline<'_> {
    fn cost(&self, call: &KernelCall) -> Result<KernelCost, GapError> {
        let memory = call.bytes() / self.device.hbm_bandwidth;
        let latency = match *call {
            KernelCall::AllReduce { world, bytes, .. } => {
                Seconds::from_us(LAUNCH_US) + self.all_reduce(world, bytes)
            }
            KernelCall::Elementwise { launches, .. } => {
                Seconds::from_us(LAUNCH_US * launches as f64) + memory / EFFICIENCY
            }
            _ => Seconds::from_us(LAUNCH_US) + self.compute(call)?.max(memory) / EFFICIENCY,
        };
        Ok(KernelCost { latency, log_sigma: LOG_SIGMA, source: Source::Estimated, extrapolated: false })
    }
}
