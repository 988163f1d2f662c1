//! A fit carried over from a measured relative: its own estimates, times what the two data sheets make of the
//! difference ([`law`]), times what a few measured points say of the rest ([`correction`]).

pub mod correction;
pub mod facts;
pub mod law;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::carried::correction::{Correction, Prior, Site};
use crate::hardware::latency::kernel_model::carried::facts::Facts;
use crate::hardware::latency::kernel_model::carried::law::Law;
use crate::hardware::latency::kernel_model::lattice::Coordinates;
use crate::hardware::profile::device::Device;
use crate::units::{Bytes, DType};

/// What a fit needs beside the relative's own to speak of another device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// Name of the relative's profile.
    pub relative: String,
    /// The relative's data sheet, on which the grid's ratios stand.
    pub facts: Facts,
    /// The grid's cells are measured rows of the relative.
    pub measured: bool,
    /// How times follow from a data sheet, by element type.
    pub laws: BTreeMap<DType, Law>,
    /// How far devices are known to stray from the laws.
    pub prior: Prior,
    /// Points measured on the new device, of any element type of the family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point>,
}

/// One measured point of the new device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Element type.
    pub dtype: DType,
    /// Coordinates.
    pub at: Coordinates,
    /// `ln(measured / carried over)`.
    pub log_ratio: f64,
    /// Log-normal spread of the measurement.
    pub log_sigma: f64,
}

/// Degrees of freedom the scale of the strays is known with before any point: the devices it was learned from, less one.
pub const DEGREES: f64 = 5.0;

impl Carried {
    /// What is wrong with it, if anything.
    pub fn defect(&self, family: KernelFamily) -> Option<&'static str> {
        let axes = axes::names(family).len();
        let laws = self.laws.values().flat_map(Law::values);
        let positive = laws.chain(self.prior.values()).chain(self.facts.values());
        if self.prior.inverse_lengths.len() != axes {
            return Some("the lengths of the prior do not fit the family");
        }
        if !positive.into_iter().all(|x| x.is_finite() && x > 0.0) || self.prior.between_types > 1.0 {
            return Some("a constant of what was carried over is not a positive number");
        }
        let sound = |p: &Point| {
            let used = p.at.get(..axes).is_some_and(|at| at.iter().all(|&x| x > 0));
            used && self.laws.contains_key(&p.dtype) && p.log_ratio.is_finite() && p.log_sigma >= 0.0
        };
        if !self.points.iter().all(sound) { Some("a calibration point is not usable") } else { None }
    }
}

/// From the relative's estimates to the new device's, ready to be asked.
#[derive(Debug)]
pub struct Mapping {
    family: KernelFamily,
    dtype: DType,
    carried: Carried,
    relative: Device,
    device: Device,
    /// Last-level caches of the relative and the new device; one whose size is not known is taken to be the other's.
    caches: (Bytes, Bytes),
    correction: Correction,
}

impl Mapping {
    /// For one element type of `family` on `device`.
    pub fn new(carried: Carried, family: KernelFamily, dtype: DType, device: &Device) -> Self {
        let relative = carried.facts.device(&carried.relative);
        let either = relative.l2.or(device.l2).unwrap_or(Bytes(0.0));
        let caches = (relative.l2.unwrap_or(either), device.l2.unwrap_or(either));
        let scale = carried.prior.scale(facts::distance(&relative, device));
        let mut mapping = Self {
            family,
            dtype,
            relative,
            device: device.clone(),
            caches,
            correction: Correction::new(&carried.prior, scale, &[]),
            carried,
        };
        let points: Vec<(Site, f64, f64)> = (mapping.carried.points.iter())
            .filter_map(|p| Some((mapping.site(p.dtype, &p.at)?, p.log_ratio, p.log_sigma)))
            .collect();
        if !points.is_empty() {
            mapping.correction = Correction::new(&mapping.carried.prior, scale, &points);
        }
        mapping
    }

    /// The relative, as far as its kernels go.
    pub fn relative(&self) -> &Device {
        &self.relative
    }

    /// `ln(new device / relative)` by the law alone: what is carried over without any point.
    pub fn log_ratio(&self, at: &Coordinates) -> f64 {
        let call = axes::call(self.family, self.dtype, at);
        let Some(law) = self.carried.laws.get(&self.dtype) else { return 0.0 };
        let there = law.seconds(&call, &self.device, self.caches.1);
        (there / law.seconds(&call, &self.relative, self.caches.0)).ln()
    }

    /// `ln(new device / relative)` and its log-normal spread.
    pub fn answer(&self, at: &Coordinates) -> (f64, f64) {
        let correction = self.site(self.dtype, at).map(|site| self.correction.at(&site));
        let (mean, sigma) = correction.unwrap_or((0.0, f64::INFINITY));
        (self.log_ratio(at) + mean, sigma)
    }

    /// What remains of each point when all others are believed, in its own standard deviations, with its log error.
    pub fn left_out(&self) -> Vec<(f64, f64)> {
        self.correction.left_out()
    }

    fn site(&self, dtype: DType, at: &Coordinates) -> Option<Site> {
        let law = self.carried.laws.get(&dtype)?;
        let call: KernelCall = axes::call(self.family, dtype, at);
        Some(Site::new(dtype, at, &call, law, &self.device, self.caches.1))
    }
}
