//! Errors of an estimator in figures: percentage errors, bias, interval coverage.

use serde::{Deserialize, Serialize};

use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::cost::Z90;
use crate::hardware::latency::kernel_model::crossval::{Held, Mix};
use crate::hardware::latency::kernel_model::spread::Spread;
use crate::hardware::latency::percent_errors::PercentErrors;
use crate::units::DType;

/// One prediction against its measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Miss {
    /// `ln(predicted / measured)`.
    pub log_error: f64,
    /// Stated log-normal spread.
    pub log_sigma: f64,
}

impl Miss {
    /// The measurement lies inside the stated 90 % interval.
    pub fn inside(&self) -> bool {
        self.log_error.abs() <= Z90 * self.log_sigma + f64::EPSILON
    }
}

/// Errors over a set of rows; every figure but `n` in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Kernel family.
    pub family: KernelFamily,
    /// Element type; none for all-reduce.
    pub dtype: Option<DType>,
    /// What was kept out: `random`, axes (`n`, `m+n`), or `unseen` rows of a folder (`given` where the profile
    /// does not carry its own rows).
    pub holdout: String,
    /// Rows scored.
    pub n: usize,
    /// Median absolute percentage error.
    pub median_ape: f64,
    /// Mean absolute percentage error.
    pub mean_ape: f64,
    /// 90th percentile of the absolute percentage error.
    pub p90_ape: f64,
    /// Mean signed percentage error (positive: predicted too slow).
    pub bias: f64,
    /// Share of rows inside the stated 90 % interval.
    pub coverage: f64,
}

impl Score {
    /// Scores a set of misses; `None` where there is none.
    pub fn of(family: KernelFamily, dtype: Option<DType>, holdout: &str, misses: &[Miss]) -> Option<Self> {
        if misses.is_empty() {
            return None;
        }
        let errors = PercentErrors::of(misses.iter().map(|m| (m.log_error, m.inside())));
        let PercentErrors { n, median_ape, mean_ape, p90_ape, bias, coverage } = errors;
        Some(Self {
            family,
            dtype,
            holdout: holdout.to_string(),
            n,
            median_ape,
            mean_ape,
            p90_ape,
            bias,
            coverage,
        })
    }
}

/// Mean absolute log error; infinite where there is none.
pub fn mean_absolute(misses: impl Iterator<Item = Miss>) -> f64 {
    let (n, sum) = misses.fold((0.0, 0.0), |(n, sum), m| (n + 1.0, sum + m.log_error.abs()));
    if n > 0.0 { sum / n } else { f64::INFINITY }
}

/// What kept-out rows would have been told, with mix and spread learned from the other folds only.
pub fn cross_fitted(held: &[Held]) -> Vec<Miss> {
    cross_fitted_rows(held).into_iter().map(|(_, miss)| miss).collect()
}

/// The same, each with its row.
pub fn cross_fitted_rows(held: &[Held]) -> Vec<(usize, Miss)> {
    let folds = held.iter().map(|h| h.fold + 1).max().unwrap_or(0);
    (0..folds)
        .flat_map(|fold| {
            let others = || held.iter().filter(move |h| h.fold != fold);
            let mix = Mix::learn(others());
            let spread = Spread::learn(others(), &mix);
            held.iter().filter(move |h| h.fold == fold).map(move |h| {
                let log_error = mix.apply(&h.answers, h.beyond) - h.target;
                (h.row, Miss { log_error, log_sigma: spread.log_sigma(h.disagreement, h.beyond) })
            })
        })
        .collect()
}
