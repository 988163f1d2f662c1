//! The prices of one device: measured rows as measured, everything else from the fits and rules of its profile.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::estimate::Source;
use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::latency::cost::{GapError, KernelCost, KernelCosts, Z90};
use crate::hardware::latency::kernel_model::all_reduce::AllReduceCurves;
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::ensemble::{Ensemble, Fit};
use crate::hardware::latency::kernel_model::fit_file::{FitError, FitFile};
use crate::hardware::latency::kernel_model::members::Rows;
use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::error::ProfileError;
use crate::hardware::profile::rules::{AllReduceRule, ElementwiseRule};
use crate::hardware::profile::table::Row;
use crate::units::{Bytes, DType, Seconds};

/// Families that are learned from a grid.
pub const LEARNED: [KernelFamily; 3] =
    [KernelFamily::Gemm, KernelFamily::AttentionPrefill, KernelFamily::AttentionDecode];

/// Why a profile cannot price kernels.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// A table of the profile is defective.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A fit of the profile is defective or stale.
    #[error(transparent)]
    Fit(#[from] FitError),
}

/// Prices of a device.
#[derive(Debug)]
pub struct KernelModel {
    profile: HardwareProfile,
    ensembles: BTreeMap<(KernelFamily, DType), Ensemble>,
    all_reduce: AllReduceCurves,
}

impl KernelModel {
    /// Reads what deployments with these GEMM and KV-cache types need, and no more: tables are parsed and
    /// interpolators built for those alone.
    ///
    /// # Errors
    /// A defective table or fit. Families and types the profile does not have are no error here: asking for
    /// their price is.
    pub fn open(profile: &HardwareProfile, gemm: &[DType], kv_cache: &[DType]) -> Result<Self, ModelError> {
        let ensembles: Vec<Vec<((KernelFamily, DType), Ensemble)>> = LEARNED
            .into_par_iter()
            .map(|family| match family {
                KernelFamily::Gemm => ensembles(profile, family, gemm),
                _ => ensembles(profile, family, kv_cache),
            })
            .collect::<Result<_, _>>()?;
        let rows = match profile.provenance(KernelFamily::AllReduce) {
            Some(Source::Measured) => profile.rows(KernelFamily::AllReduce)?.to_vec(),
            _ => Vec::new(),
        };
        let all_reduce = AllReduceCurves::new(&profile.name, &rows);
        Ok(Self {
            profile: profile.clone(),
            ensembles: ensembles.into_iter().flatten().collect(),
            all_reduce,
        })
    }

    /// The profile these prices are of.
    pub fn profile(&self) -> &HardwareProfile {
        &self.profile
    }

    /// Distance of a call from the measured rows in octaves on its worst axis; zero where it cannot be told.
    pub fn distance(&self, call: &KernelCall) -> f64 {
        axes::coordinates(call)
            .and_then(|(family, dtype, at)| Some(self.ensembles.get(&(family, dtype))?.distance(&at)))
            .unwrap_or(0.0)
    }

    fn gap(&self, family: KernelFamily, dtype: DType) -> GapError {
        let available: Vec<DType> = match self.profile.tables.get(&family) {
            Some(info) => info.dtypes.clone(),
            None => Vec::new(),
        };
        let profile = self.profile.name.clone();
        match available.is_empty() {
            true => GapError::NoTable { profile, family },
            false => GapError::NoDType { profile, family, dtype, available },
        }
    }
}

impl KernelCosts for KernelModel {
    fn cost(&self, call: &KernelCall) -> Result<KernelCost, GapError> {
        match *call {
            KernelCall::AllReduce { world, bytes, backend } => match &self.profile.all_reduce {
                Some(rule) => Ok(by_rule(rule, &self.profile, world, bytes)),
                None => self.all_reduce.cost(world, bytes, backend),
            },
            KernelCall::Elementwise { bytes, launches } => {
                Ok(elementwise(&self.profile.elementwise, &self.profile, bytes, launches))
            }
            _ => {
                let too_large = || GapError::TooLarge { call: *call };
                let (family, dtype, at) = axes::coordinates(call).ok_or_else(too_large)?;
                let ensemble = self.ensembles.get(&(family, dtype)).ok_or_else(|| self.gap(family, dtype))?;
                Ok(ensemble.cost(&at))
            }
        }
    }
}

/// Rows of a family by element type, in the order of the table.
pub fn by_dtype(rows: &[Row]) -> BTreeMap<DType, Vec<Row>> {
    let mut split: BTreeMap<DType, Vec<Row>> = BTreeMap::new();
    for row in rows {
        if let Some((_, dtype, _)) = axes::coordinates(&row.call) {
            split.entry(dtype).or_default().push(*row);
        }
    }
    split
}

type Entry = ((KernelFamily, DType), Ensemble);

fn ensembles(
    profile: &HardwareProfile,
    family: KernelFamily,
    wanted: &[DType],
) -> Result<Vec<Entry>, ModelError> {
    let device = &profile.device;
    let build = |(fit, table): FitOnRows| {
        let key = (family, fit.dtype);
        let ensemble = match table {
            Some(table) => {
                let rows = Rows::measured(family, fit.dtype, device, &table);
                Ensemble::from_rows(fit, &rows, device).with_spreads(&table)
            }
            None => Ensemble::from_grid(fit, family, device),
        };
        (key, ensemble)
    };
    Ok(fits(profile, family, wanted)?.into_iter().map(build).collect())
}

/// A fit with the measured rows it stands on, if it does.
pub type FitOnRows = (Fit, Option<Vec<Row>>);

/// The fits of a family for some of its element types. Measured
/// types without a fit get a quick one.
///
/// # Errors
/// A defective table or fit.
pub fn fits(
    profile: &HardwareProfile,
    family: KernelFamily,
    wanted: &[DType],
) -> Result<Vec<FitOnRows>, ModelError> {
    let Some(info) = profile.tables.get(&family) else { return Ok(Vec::new()) };
    if !wanted.iter().any(|dtype| info.dtypes.contains(dtype)) {
        return Ok(Vec::new());
    }
    let file = profile.fit_text(family).map(|text| FitFile::read(&profile.name, family, text)).transpose()?;
    let fits = file.map(|file| file.fits).unwrap_or_default().into_iter();
    let mut fits: BTreeMap<DType, Fit> = fits.map(|fit| (fit.dtype, fit)).collect();
    if info.provenance != Source::Measured {
        return Ok(fits
            .into_values()
            .filter(|fit| wanted.contains(&fit.dtype))
            .map(|fit| (fit, None))
            .collect());
    }
    let mut split = by_dtype(&profile.rows(family)?);
    split.retain(|dtype, _| wanted.contains(dtype));
    let beside = |(dtype, table): (DType, Vec<Row>)| {
        let rows = Rows::measured(family, dtype, &profile.device, &table);
        let fit = match fits.remove(&dtype) {
            Some(fit) if fit.rows_hash == rows.hash() => fit,
            Some(_) => return Err(FitError::OtherRows { profile: profile.name.clone(), family }.into()),
            None => {
                log::info!(
                    "{}: no fit for {family} {dtype}, interpolating only (sharper: `archplan profiles fit {}`)",
                    profile.name,
                    profile.name
                );
                Fit::quick(&rows, &profile.device)
            }
        };
        Ok((fit, Some(table)))
    };
    split.into_iter().map(beside).collect()
}

fn estimated(seconds: Seconds, interval_factor: f64) -> KernelCost {
    let log_sigma = interval_factor.max(1.0).ln() / Z90;
    KernelCost { latency: seconds, log_sigma, source: Source::Estimated, extrapolated: false }
}

fn elementwise(rule: &ElementwiseRule, profile: &HardwareProfile, bytes: u64, launches: u64) -> KernelCost {
    let moved = Bytes(bytes as f64) / profile.device.hbm_bandwidth / rule.efficiency;
    estimated(rule.launch * launches as f64 + moved, rule.interval_factor)
}

fn by_rule(rule: &AllReduceRule, profile: &HardwareProfile, world: u64, bytes: u64) -> KernelCost {
    let world = world.max(1) as f64;
    let sent = Bytes(bytes as f64 * 2.0 * (world - 1.0) / world);
    let links = rule.full_mesh_devices.map_or(1.0, |n| (world - 1.0) / (n.max(2) - 1) as f64);
    let moved = sent / profile.device.interconnect / (rule.efficiency * links.max(f64::MIN_POSITIVE));
    estimated(rule.latency + moved, rule.interval_factor)
}
