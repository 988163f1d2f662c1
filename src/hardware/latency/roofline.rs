//! The physical bound as a price: launch time plus the larger of compute time and memory time.
//!
//! It prices what has no table by the rules of the profile ([`elementwise`]: norms, activation, rope, sampling;
//! [`all_reduce`] where no group of devices was measured), and serves as the plain second implementation of
//! [`KernelCosts`].
//!
//! Deliberately absent: anything learned from measurements.

use crate::estimate::Source;
use crate::hardware::kernel::KernelCall;
use crate::hardware::latency::cost::{GapError, KernelCost, KernelCosts, Z90};
use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::device::Device;
use crate::hardware::profile::rules::{AllReduceRule, ElementwiseRule};
use crate::units::{Bytes, DType, Seconds};

/// Rules assumed for a bare device; a profile brings its own. Efficiency 0.8 is what well-written kernels reach.
const ELEMENTWISE: ElementwiseRule =
    ElementwiseRule { launch: Seconds(2.5e-6), efficiency: 0.8, interval_factor: 2.0 };

/// See [`ELEMENTWISE`].
const ALL_REDUCE: AllReduceRule =
    AllReduceRule { latency: Seconds(10e-6), efficiency: 0.8, full_mesh_devices: None, interval_factor: 2.0 };

/// Roofline prices of one device.
#[derive(Clone, Copy, Debug)]
pub struct Roofline<'a> {
    profile: &'a str,
    device: &'a Device,
    elementwise: ElementwiseRule,
    all_reduce: AllReduceRule,
}

/// Price of a memory-bound kernel by a rule.
pub fn elementwise(rule: &ElementwiseRule, device: &Device, bytes: Bytes, launches: u64) -> KernelCost {
    let latency = rule.launch * launches as f64 + bytes / device.hbm_bandwidth / rule.efficiency;
    estimated(latency, rule.interval_factor)
}

/// Price of an all-reduce of `bytes` over `world` devices by a rule.
pub fn all_reduce(rule: &AllReduceRule, device: &Device, world: u64, bytes: Bytes) -> KernelCost {
    let peers = world.saturating_sub(1) as f64;
    let links =
        rule.full_mesh_devices.map_or(1.0, |all| (peers / all.saturating_sub(1).max(1) as f64).min(1.0));
    let sent = if world > 1 { bytes * (2.0 * peers / world as f64 / links) } else { Bytes::ZERO };
    estimated(rule.latency + sent / device.interconnect / rule.efficiency, rule.interval_factor)
}

/// `factor`: the truth is believed to lie within it either way in 90 % of cases.
fn estimated(latency: Seconds, factor: f64) -> KernelCost {
    let log_sigma = factor.max(1.0).ln() / Z90;
    KernelCost { latency, log_sigma, source: Source::Estimated, extrapolated: false }
}

impl<'a> Roofline<'a> {
    /// Prices from the data sheet of `device`, named `profile` in errors.
    pub fn new(profile: &'a str, device: &'a Device) -> Self {
        Self { profile, device, elementwise: ELEMENTWISE, all_reduce: ALL_REDUCE }
    }

    /// Prices from the device facts and rules of a profile; its tables are not read.
    pub fn of(profile: &'a HardwareProfile) -> Self {
        Self {
            elementwise: profile.elementwise,
            all_reduce: profile.all_reduce.unwrap_or(ALL_REDUCE),
            ..Self::new(&profile.name, &profile.device)
        }
    }

    fn compute(&self, call: &KernelCall) -> Result<Seconds, GapError> {
        let dtype = match *call {
            KernelCall::Gemm { dtype, .. } => dtype,
            _ => DType::Bf16,
        };
        let peak = self.device.peaks.get(&dtype).ok_or_else(|| GapError::NoDType {
            profile: self.profile.to_string(),
            family: call.family(),
            dtype,
            available: self.device.peaks.keys().copied().collect(),
        })?;
        Ok(call.flops() / *peak)
    }
}

impl KernelCosts for Roofline<'_> {
    fn cost(&self, call: &KernelCall) -> Result<KernelCost, GapError> {
        match *call {
            KernelCall::AllReduce { world, .. } => {
                Ok(all_reduce(&self.all_reduce, self.device, world, call.bytes()))
            }
            KernelCall::Elementwise { launches, .. } => {
                Ok(elementwise(&self.elementwise, self.device, call.bytes(), launches))
            }
            _ => {
                let memory = call.bytes() / self.device.hbm_bandwidth;
                let bound = self.compute(call)?.max(memory) / self.elementwise.efficiency;
                Ok(estimated(self.elementwise.launch + bound, self.elementwise.interval_factor))
            }
        }
    }
}
