//! The estimator of one kernel family and element type: skeleton, interpolations, members, mix, spread.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::estimate::Source;
use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::cost::KernelCost;
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::carried::{Carried, Mapping};
use crate::hardware::latency::kernel_model::crossval::{self, Held, Mix, Split};
use crate::hardware::latency::kernel_model::interpolator::Interpolator;
use crate::hardware::latency::kernel_model::kriging::{Kriging, Surface};
use crate::hardware::latency::kernel_model::lattice::{Coordinates, Exclusion};
use crate::hardware::latency::kernel_model::members::{Effort, Members, Own, Question, Rows};
use crate::hardware::latency::kernel_model::scores::{self, Miss};
use crate::hardware::latency::kernel_model::skeleton::{self, Skeleton};
use crate::hardware::latency::kernel_model::spread::Spread;
use crate::hardware::profile::device::Device;
use crate::hardware::profile::table::Row;
use crate::units::{DType, Seconds};

/// Folds of the cross-validation that a fit learns its mix and spread from.
const FOLDS: usize = 5;
/// An estimate may fall this far below the fastest measured share of the physical bound, not further.
const FLOOR_SLACK: f64 = 0.9;

/// What a fit learned, as it is kept beside the tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// Element type.
    pub dtype: DType,
    /// Rows it was learned from.
    pub rows: usize,
    /// SHA-256 of those rows; empty where they do not ship.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rows_hash: String,
    /// Physical skeleton.
    pub skeleton: Skeleton,
    /// Members.
    pub members: Members,
    /// Mix of each pattern of [`axes::patterns`].
    pub mixes: Vec<Mix>,
    /// Spread of each pattern.
    pub spreads: Vec<Spread>,
    /// Smallest measured `t / max(compute bound, memory bound)`.
    pub fastest: f64,
    /// Parameters of the random surface that answers in place of all the above: for small tables whose kept-out
    /// rows it predicts better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kriging: Option<Kriging>,
    /// The coarse grid that stands in for rows that may not ship: coordinates and `t / skeleton`, rounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grid: Vec<(Coordinates, f64)>,
    /// For a fit that was carried over from another device: from that device to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
}

/// Kept-out rows of one pattern, for the error report.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Index into [`axes::patterns`].
    pub pattern: usize,
    /// Kept-out rows.
    pub held: Vec<Held>,
}

impl Fit {
    /// Learns everything from `rows`; `progress` is told after each of the returned trials.
    pub fn learn(
        rows: &Rows,
        device: &Device,
        effort: Effort,
        progress: &(dyn Fn() + Sync),
    ) -> (Self, Vec<Trial>) {
        let patterns = axes::patterns(rows.family);
        let (simple, compound): (Vec<usize>, Vec<usize>) =
            (0..patterns.len()).partition(|&p| patterns[p].count_ones() <= 1);
        let mut trials: Vec<Trial> = simple
            .iter()
            .map(|&pattern| {
                let held = crossval::hold_out(rows, device, pattern, Split::Folds(FOLDS), effort);
                progress();
                Trial { pattern, held }
            })
            .collect();
        let together = crossval::hold_out_compound(rows, device, &compound, FOLDS, effort);
        progress();
        trials.extend(compound.iter().zip(together).map(|(&pattern, held)| Trial { pattern, held }));
        trials.sort_by_key(|t| t.pattern);
        let mixes: Vec<Mix> = trials.par_iter().map(|t| Mix::learn(t.held.iter())).collect();
        let spreads = trials.iter().zip(&mixes).map(|(t, mix)| Spread::learn(t.held.iter(), mix)).collect();
        let skeleton = Skeleton::of(rows);
        let reference = rows.skeleton(&skeleton);
        let anchors = rows.interpolator(&reference);
        let members = Members::train(rows, &reference, &anchors, device, effort, Own::Simple);
        progress();
        let others = scores::mean_absolute(
            trials.iter().filter(|t| t.pattern == 0).flat_map(|t| scores::cross_fitted(&t.held)),
        );
        (Self::beside(rows, skeleton, members, mixes, spreads).or_surface(rows, others), trials)
    }

    /// A fit in a fraction of a second: interpolations only, no forests. Its spread comes from asking rows
    /// as if they, or their axis values, had not been measured.
    pub fn quick(rows: &Rows, device: &Device) -> Self {
        let skeleton = Skeleton::of(rows);
        let reference = rows.skeleton(&skeleton);
        let anchors = rows.interpolator(&reference);
        let members = Members::train(rows, &reference, &anchors, device, Effort::QUICK, Own::None);
        let mixes = vec![Mix::NONE; axes::patterns(rows.family).len()];
        let rehearsed: Vec<Vec<Held>> =
            (0..mixes.len()).map(|p| members.rehearse(rows, &reference, &anchors, p)).collect();
        let spreads = rehearsed.iter().map(|held| Spread::learn(held.iter(), &Mix::NONE)).collect();
        let others =
            scores::mean_absolute(rehearsed.iter().take(1).flat_map(|held| scores::cross_fitted(held)));
        Self::beside(rows, skeleton, members, mixes, spreads).or_surface(rows, others)
    }

    /// Rows asked as if each had not been measured, answered by the interpolations alone.
    pub fn rehearse(&self, rows: &Rows) -> Vec<Miss> {
        let reference = rows.skeleton(&self.skeleton);
        scores::cross_fitted(&self.members.rehearse(rows, &reference, &rows.interpolator(&reference), 0))
    }

    /// With a random surface if that misses kept-out rows by less than `others`, the mean absolute log error of the
    /// ensemble.
    fn or_surface(mut self, rows: &Rows, others: f64) -> Self {
        let reference = rows.skeleton(&self.skeleton);
        let found = Kriging::fit(rows, &reference).and_then(|kriging| {
            let misses = kriging.surface(rows, &reference)?.left_out();
            (scores::mean_absolute(misses.into_iter()) < others).then_some(kriging)
        });
        self.kriging = found;
        self
    }

    /// A fit that stands beside its rows and is tied to them.
    fn beside(
        rows: &Rows,
        skeleton: Skeleton,
        members: Members,
        mixes: Vec<Mix>,
        spreads: Vec<Spread>,
    ) -> Self {
        Self {
            dtype: rows.dtype,
            rows: rows.seconds.len(),
            rows_hash: rows.hash(),
            skeleton,
            members,
            mixes,
            spreads,
            fastest: fastest(rows),
            kriging: None,
            grid: Vec::new(),
            carried: None,
        }
    }

    /// Number of times [`Fit::learn`] reports progress.
    pub fn steps(family: KernelFamily) -> usize {
        axes::patterns(family).iter().filter(|p| p.count_ones() <= 1).count() + 2
    }
}

/// Smallest measured share of the physical bound; caches can bring it below one.
pub fn fastest(rows: &Rows) -> f64 {
    rows.seconds
        .iter()
        .zip(&rows.bounds)
        .map(|(t, b)| t / b.0.max(b.1))
        .fold(f64::INFINITY, f64::min)
        .min(1.0)
}

/// The estimator, ready to be asked.
#[derive(Debug)]
pub struct Ensemble {
    family: KernelFamily,
    device: Device,
    fit: Fit,
    anchors: Interpolator,
    /// The anchors are measured rows, not a fitted grid.
    measured: bool,
    /// Answers in place of anchors and members.
    surface: Option<Surface>,
    /// Spread of the repeats of measured rows, where it is known: log sigma by coordinates.
    spreads: BTreeMap<Coordinates, f64>,
    /// The fit is another device's, and this leads from there to here.
    mapping: Option<Mapping>,
}

impl Ensemble {
    /// From a fit and the rows it was learned from.
    pub fn from_rows(fit: Fit, rows: &Rows, device: &Device) -> Self {
        let reference = rows.skeleton(&fit.skeleton);
        let anchors = rows.interpolator(&reference);
        let surface = fit.kriging.as_ref().and_then(|kriging| kriging.surface(rows, &reference));
        let (family, device, spreads) = (rows.family, device.clone(), BTreeMap::new());
        Self { family, device, fit, anchors, measured: true, surface, spreads, mapping: None }
    }

    /// With the spread of repeats that the rows state.
    pub fn with_spreads(mut self, rows: &[Row]) -> Self {
        let known = |row: &Row| Some((axes::coordinates(&row.call)?.2, row.spread?.ln_1p()));
        self.spreads = rows.iter().filter_map(known).collect();
        self
    }

    /// From a fit that carries a grid in place of rows: its own, or that of the device it was carried over from.
    pub fn from_grid(mut fit: Fit, family: KernelFamily, device: &Device) -> Self {
        let measured = fit.carried.as_ref().is_some_and(|carried| carried.measured);
        let mapping = fit.carried.take().map(|carried| Mapping::new(carried, family, fit.dtype, device));
        let device = mapping.as_ref().map_or(device, Mapping::relative).clone();
        let (coordinates, ratios): (Vec<Coordinates>, Vec<f64>) = fit.grid.iter().copied().unzip();
        let reference: Vec<f64> = coordinates
            .iter()
            .map(|x| fit.skeleton.seconds(skeleton::bounds(&axes::call(family, fit.dtype, x), &device)))
            .collect();
        let seconds: Vec<f64> = ratios.iter().zip(&reference).map(|(r, s)| r * s).collect();
        let anchors = Interpolator::new(family, &coordinates, &seconds, &reference);
        let rows = coordinates.into_iter().zip(seconds).collect();
        let rows = Rows::new(family, fit.dtype, &device, rows);
        let surface = fit.kriging.as_ref().and_then(|kriging| kriging.surface(&rows, &reference));
        Self { family, device, fit, anchors, measured, surface, spreads: BTreeMap::new(), mapping }
    }

    /// Octaves from `at` to the nearest measured value on the worst axis.
    pub fn distance(&self, at: &Coordinates) -> f64 {
        self.anchors.distance(at)
    }

    /// From the device whose rows these are to the one that is asked, where they differ.
    pub fn mapping(&self) -> Option<&Mapping> {
        self.mapping.as_ref()
    }

    /// Cost of the call at `at`.
    pub fn cost(&self, at: &Coordinates) -> KernelCost {
        let cost = self.own_cost(at);
        let Some(mapping) = &self.mapping else { return cost };
        let (log_ratio, log_sigma) = mapping.answer(at);
        KernelCost {
            latency: cost.latency * log_ratio.exp(),
            log_sigma: cost.log_sigma.hypot(log_sigma),
            source: Source::Estimated,
            extrapolated: cost.extrapolated,
        }
    }

    /// Cost on the device whose rows these are.
    fn own_cost(&self, at: &Coordinates) -> KernelCost {
        let extrapolated = self.anchors.beyond(at);
        if let (Some(seconds), true) = (self.anchors.exact(at), self.measured) {
            return KernelCost {
                latency: Seconds(seconds),
                log_sigma: self.spreads.get(at).copied().unwrap_or(0.0),
                source: Source::Measured,
                extrapolated: false,
            };
        }
        let call = axes::call(self.family, self.fit.dtype, at);
        let bounds = skeleton::bounds(&call, &self.device);
        let skeleton = self.fit.skeleton.seconds(bounds);
        let floor = bounds.0.max(bounds.1) * self.fit.fastest * FLOOR_SLACK;
        let priced = |log_ratio: f64, log_sigma: f64| {
            let seconds = (skeleton * log_ratio.exp()).max(floor);
            KernelCost { latency: Seconds(seconds), log_sigma, source: Source::Fitted, extrapolated }
        };
        if let Some(surface) = &self.surface {
            let (log_ratio, log_sigma) = surface.at(at);
            return priced(log_ratio, log_sigma);
        }
        let missing = self.anchors.missing(at);
        let pattern = axes::nearest_pattern(self.family, missing);
        let question = Question {
            family: self.family,
            dtype: self.fit.dtype,
            device: &self.device,
            at,
            pattern,
            bounds,
            skeleton,
        };
        let (log_ratio, log_sigma) = match self.anchors.estimates(at, skeleton, Exclusion::default()) {
            Some(estimates) => {
                let answers = self.fit.members.answer(&question, &estimates, &mut Vec::new());
                let beyond = extrapolated || estimates.beyond();
                let sigma = self.fit.spreads[pattern].log_sigma(estimates.disagreement(), beyond);
                let octaves = if extrapolated { self.anchors.distance(at) } else { 0.0 };
                (self.fit.mixes[pattern].apply(&answers, beyond), sigma * (1.0 + octaves))
            }
            None => (0.0, self.fit.spreads[pattern].log_sigma(f64::INFINITY, true)),
        };
        priced(log_ratio, log_sigma)
    }
}
