//! How well devices are predicted from each other: one is taken for unmeasured, and what was measured on it compared.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::latency::cost::Z90;
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::device_model::{self, LEARNED};
use crate::hardware::latency::kernel_model::lattice::Coordinates;
use crate::hardware::latency::percent_errors::PercentErrors;
use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::rules::AllReduceRule;
use crate::hardware::profile::table::Row;
use crate::hardware::transfer::all_reduce_rule;
use crate::hardware::transfer::carry::{CarriedFamily, Types};
use crate::hardware::transfer::constants::{Constants, FamilyConstants};
use crate::hardware::transfer::design;
use crate::hardware::transfer::profile_draft::{self, TransferError};
use crate::units::{Bytes, DType};

/// Errors of one target predicted from one relative with so many measured points of each family and element type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransferScore {
    /// Whose kernels were carried over.
    pub relative: String,
    /// Who was taken for unmeasured.
    pub target: String,
    /// Kernel family.
    pub family: KernelFamily,
    /// Element type; none for all-reduce.
    pub dtype: Option<DType>,
    /// Measured points of the target that were given, of this family and element type.
    pub points: usize,
    /// Rows scored: all others of the target.
    pub n: usize,
    /// Median absolute percentage error.
    pub median_ape_percent: f64,
    /// Mean absolute percentage error.
    pub mean_ape_percent: f64,
    /// 90th percentile of the absolute percentage error.
    pub p90_ape_percent: f64,
    /// Mean signed percentage error (positive: predicted too slow).
    pub bias_percent: f64,
    /// Share of rows inside the stated 90 % interval.
    pub coverage_percent: f64,
    /// Systems whose rows had no part in the constants; empty if the target may have had.
    pub constants_without: Vec<String>,
}

struct Pair<'a> {
    relative: &'a HardwareProfile,
    target: &'a HardwareProfile,
    constants: Constants,
    counts: &'a [usize],
    seed: u64,
}

/// Predicts the target's measured rows from the relative, with each number of points.
///
/// # Errors
/// A defective profile, or a relative that is itself estimated.
pub fn evaluate(
    relative: &HardwareProfile,
    target: &HardwareProfile,
    counts: &[usize],
    seed: u64,
) -> Result<Vec<TransferScore>, TransferError> {
    let constants = Constants::without(&target.name)?;
    let pair = Pair { relative, target, constants, counts, seed };
    let mut scores = Vec::new();
    for family in LEARNED {
        let Some(carried) = profile_draft::carried(relative, family, &target.device, &pair.constants)? else {
            continue;
        };
        if let (Some(constants), true) = (pair.constants.of(family), measured(target, family)) {
            pair.learned(carried, constants, &mut scores)?;
        }
    }
    if measured(target, KernelFamily::AllReduce) && measured(relative, KernelFamily::AllReduce) {
        pair.all_reduce(&mut scores)?;
    }
    Ok(scores)
}

fn measured(profile: &HardwareProfile, family: KernelFamily) -> bool {
    profile.provenance(family) == Some(crate::estimate::Source::Measured)
}

impl Pair<'_> {
    fn learned(
        &self,
        carried: CarriedFamily,
        constants: &FamilyConstants,
        scores: &mut Vec<TransferScore>,
    ) -> Result<(), TransferError> {
        let (family, device) = (carried.family, &self.target.device);
        let types = Types::of(self.relative, family, device).both;
        let mut split = device_model::by_dtype(&self.target.rows(family)?);
        split.retain(|dtype, _| types.contains(dtype));
        let most = self.counts.iter().copied().max().unwrap_or(0);
        let bare = carried.ensembles(device);
        let chosen: design::Chosen = split
            .iter()
            .map(|(dtype, rows)| {
                let at = |row: &Row| axes::coordinates(&row.call).map(|(_, _, at)| at);
                let shapes: Vec<Coordinates> = rows.iter().filter_map(at).collect();
                (*dtype, design::choose(&shapes, (family, *dtype), device, constants, most, self.seed))
            })
            .collect();
        for &points in self.counts {
            let given: BTreeSet<(DType, Coordinates)> = chosen
                .iter()
                .flat_map(|(dtype, shapes)| shapes.iter().take(points).map(|at| (*dtype, *at)))
                .collect();
            let is_given = |row: &&Row| {
                axes::coordinates(&row.call).is_some_and(|(_, dtype, at)| given.contains(&(dtype, at)))
            };
            let rows: Vec<Row> = split.values().flatten().filter(is_given).copied().collect();
            let sharp = carried.clone().with_points(&carried.strays(&bare, &rows)).ensembles(device);
            for (dtype, rows) in &split {
                let Some(ensemble) = sharp.get(dtype) else { continue };
                let others: Vec<&Row> = rows.iter().filter(|row| !is_given(row)).collect();
                let misses: Vec<(f64, f64)> = others
                    .par_iter()
                    .filter_map(|row| {
                        let cost = ensemble.cost(&axes::coordinates(&row.call)?.2);
                        Some(((cost.latency / row.latency).ln(), cost.log_sigma))
                    })
                    .collect();
                scores.push(self.score(family, Some(*dtype), points, &misses));
            }
        }
        Ok(())
    }

    fn all_reduce(&self, scores: &mut Vec<TransferScore>) -> Result<(), TransferError> {
        let family = KernelFamily::AllReduce;
        let (there, here) = (self.relative.rows(family)?, self.target.rows(family)?);
        let mut order: Vec<Row> =
            here.iter().filter(|row| all_reduce_rule::is_captured(row)).copied().collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(self.seed));
        for &points in self.counts {
            let (given, others) = order.split_at(points.min(order.len()));
            let rule = match given.is_empty() {
                true => all_reduce_rule::fit(&there, &self.relative.device).map(all_reduce_rule::carried),
                false => all_reduce_rule::fit(given, &self.target.device),
            };
            let Some(rule) = rule else { continue };
            let misses: Vec<(f64, f64)> = others.iter().filter_map(|row| self.by_rule(&rule, row)).collect();
            scores.push(self.score(family, None, points, &misses));
        }
        Ok(())
    }

    fn by_rule(&self, rule: &AllReduceRule, row: &Row) -> Option<(f64, f64)> {
        let KernelCall::AllReduce { world, bytes, .. } = row.call else { return None };
        let sent = Bytes(2.0 * (world.max(1) - 1) as f64 / world.max(1) as f64 * bytes as f64);
        let predicted = rule.latency + sent / self.target.device.interconnect / rule.efficiency;
        Some(((predicted / row.latency).ln(), rule.interval_factor.ln() / Z90))
    }

    fn score(
        &self,
        family: KernelFamily,
        dtype: Option<DType>,
        points: usize,
        misses: &[(f64, f64)],
    ) -> TransferScore {
        let errors = PercentErrors::of(misses.iter().map(|(e, sigma)| (*e, e.abs() <= Z90 * sigma)));
        TransferScore {
            relative: self.relative.name.clone(),
            target: self.target.name.clone(),
            family,
            dtype,
            points,
            n: errors.n,
            median_ape_percent: errors.median_ape,
            mean_ape_percent: errors.mean_ape,
            p90_ape_percent: errors.p90_ape,
            bias_percent: errors.bias,
            coverage_percent: errors.coverage,
            constants_without: self.constants.without.clone(),
        }
    }
}
