//! Carries the fits of a relative over to another device.

use std::collections::BTreeMap;

use crate::estimate::Source;
use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::carried::facts::Facts;
use crate::hardware::latency::kernel_model::carried::law::Law;
use crate::hardware::latency::kernel_model::carried::{Carried, Point};
use crate::hardware::latency::kernel_model::device_model::{self, FitOnRows, ModelError};
use crate::hardware::latency::kernel_model::ensemble::{Ensemble, Fit};
use crate::hardware::latency::kernel_model::lattice::Coordinates;
use crate::hardware::latency::kernel_model::members::Rows;
use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::device::Device;
use crate::hardware::profile::table::Row;
use crate::hardware::transfer::constants::FamilyConstants;
use crate::units::DType;

/// Spread taken for a measured point that does not state its own: what repeats on one machine differ by.
const UNSTATED_SPREAD: f64 = 0.01;
/// Significant digits of a grid cell's `t / skeleton`.
const DIGITS: usize = 5;

/// The fits of one family, as they stand for a device.
#[derive(Clone, Debug)]
pub struct CarriedFamily {
    /// The family.
    pub family: KernelFamily,
    /// A fit for each element type that the relative has and the device has a peak for.
    pub fits: Vec<Fit>,
}

/// Element types of a family as they fall out between two devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Types {
    /// Carried over.
    pub both: Vec<DType>,
    /// The relative has figures, the device no peak.
    pub without_peak: Vec<DType>,
    /// The device has a peak, the relative no figures.
    pub without_figures: Vec<DType>,
}

impl Types {
    /// Of a family the relative covers.
    pub fn of(relative: &HardwareProfile, family: KernelFamily, device: &Device) -> Self {
        let has = relative.tables.get(&family).map(|info| info.dtypes.clone()).unwrap_or_default();
        let (both, without_peak) = has.iter().partition(|dtype| device.peaks.contains_key(dtype));
        let without_figures = device.peaks.keys().filter(|dtype| !has.contains(dtype)).copied().collect();
        Self { both, without_peak, without_figures }
    }
}

/// Carries a family over without any measured point. The relative's rows become a grid of efficiencies on its own
/// sheet; its forests come along. None for a family it does not cover or whose element types have no peak.
///
/// # Errors
/// A defective table or fit of the relative.
pub fn carry(
    relative: &HardwareProfile,
    family: KernelFamily,
    device: &Device,
    constants: &FamilyConstants,
) -> Result<Option<CarriedFamily>, ModelError> {
    let types = Types::of(relative, family, device);
    let laws: BTreeMap<DType, Law> =
        types.both.iter().filter_map(|dtype| Some((*dtype, constants.law(*dtype)?))).collect();
    let measured = relative.provenance(family) == Some(Source::Measured);
    let carried = Carried {
        relative: relative.name.clone(),
        facts: Facts::of(&relative.device),
        measured,
        laws,
        prior: constants.prior.clone(),
        points: Vec::new(),
    };
    let fits = device_model::fits(relative, family, &types.both)?;
    let over = |(mut fit, table): FitOnRows| {
        if let Some(table) = table {
            fit.grid = grid(&fit, &Rows::measured(family, fit.dtype, &relative.device, &table));
        }
        fit.rows_hash.clear();
        fit.carried = Some(carried.clone());
        fit
    };
    let fits: Vec<Fit> = fits.into_iter().map(over).collect();
    Ok((!fits.is_empty()).then_some(CarriedFamily { family, fits }))
}

fn grid(fit: &Fit, rows: &Rows) -> Vec<(Coordinates, f64)> {
    let skeleton = rows.skeleton(&fit.skeleton);
    let round = |x: f64| format!("{x:.*e}", DIGITS - 1).parse().unwrap_or(x);
    let ratios = rows.seconds.iter().zip(&skeleton).map(|(t, s)| round(t / s));
    rows.coordinates.iter().copied().zip(ratios).collect()
}

impl CarriedFamily {
    /// The estimators, by element type.
    pub fn ensembles(&self, device: &Device) -> BTreeMap<DType, Ensemble> {
        let of = |fit: &Fit| (fit.dtype, Ensemble::from_grid(fit.clone(), self.family, device));
        self.fits.iter().map(of).collect()
    }

    /// Points of this family as strays from what was carried over without any; `bare` are the estimators of that.
    /// Rows of other families and of element types that were not carried over are left out.
    pub fn strays(&self, bare: &BTreeMap<DType, Ensemble>, rows: &[Row]) -> Vec<Point> {
        let stray = |row: &Row| {
            let (family, dtype, at) = axes::coordinates(&row.call)?;
            let estimate = bare.get(&dtype).filter(|_| family == self.family)?.cost(&at);
            let log_sigma = row.spread.unwrap_or(UNSTATED_SPREAD).ln_1p();
            Some(Point { dtype, at, log_ratio: (row.latency / estimate.latency).ln(), log_sigma })
        };
        rows.iter().filter_map(stray).collect()
    }

    /// The same fits sharpened by points; those of one element type inform the others too.
    pub fn with_points(mut self, points: &[Point]) -> Self {
        for carried in self.fits.iter_mut().filter_map(|fit| fit.carried.as_mut()) {
            carried.points = points.to_vec();
        }
        self
    }
}
