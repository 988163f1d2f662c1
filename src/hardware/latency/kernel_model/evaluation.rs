//! How well a profile's kernels are predicted: cross-validation, unseen rows, and `evaluation.csv`.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::latency::cost::KernelCosts;
use crate::hardware::latency::kernel_model::all_reduce::AllReduceCurves;
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::coarse;
use crate::hardware::latency::kernel_model::crossval::{self, Fold, Split};
use crate::hardware::latency::kernel_model::device_model::KernelModel;
use crate::hardware::latency::kernel_model::ensemble::Fit;
use crate::hardware::latency::kernel_model::kriging;
use crate::hardware::latency::kernel_model::members::{Effort, Rows};
use crate::hardware::latency::kernel_model::scored::{ScoredRow, ScoredSet};
use crate::hardware::latency::kernel_model::scores::{self, Miss, Score};
use crate::hardware::profile::device::Device;
use crate::hardware::profile::table::Row;
use crate::units::{DType, Seconds};

/// Folds of a coarse fit's cross-validation.
const COARSE_FOLDS: usize = 5;

/// The name of what a pattern keeps out: `random` (rows), else its axes joined by `+`.
pub fn holdout_name(family: KernelFamily, pattern: usize) -> String {
    let mask = axes::patterns(family)[pattern];
    let names = axes::names(family).iter().enumerate();
    let missing: Vec<&str> = names.filter(|(axis, _)| mask >> axis & 1 == 1).map(|(_, name)| *name).collect();
    if missing.is_empty() { "random".to_string() } else { missing.join("+") }
}

/// Patterns that `--holdout value` tries: one whole value of a width, head count or length at a time.
pub fn value_patterns(family: KernelFamily) -> Vec<usize> {
    let wanted = |mask: u8| match family {
        KernelFamily::Gemm => matches!(mask, 0b010 | 0b100),
        _ => matches!(mask, 0b0010 | 0b0100 | 0b1000),
    };
    (0..axes::patterns(family).len()).filter(|&p| wanted(axes::patterns(family)[p])).collect()
}

/// Fits rows of one family and type and scores the fit's own cross-validation.
pub fn fit(rows: &Rows, device: &Device, progress: &(dyn Fn() + Sync)) -> (Fit, Vec<Score>) {
    let (fit, trials) = Fit::learn(rows, device, Effort::FULL, progress);
    let score = |pattern: usize, misses: &[Miss]| {
        Score::of(rows.family, Some(rows.dtype), &holdout_name(rows.family, pattern), misses)
    };
    let scores = match surface_trials(&fit, rows) {
        Some(trials) => trials.iter().filter_map(|(pattern, misses)| score(*pattern, misses)).collect(),
        None => trials.iter().filter_map(|t| score(t.pattern, &scores::cross_fitted(&t.held))).collect(),
    };
    (fit, scores)
}

/// Fits a table in a fraction of a second (see [`Fit::quick`]) and scores its kept-out rows.
pub fn fit_quick(rows: &Rows, device: &Device) -> (Fit, Vec<Score>) {
    let fit = Fit::quick(rows, device);
    let trials = surface_trials(&fit, rows).unwrap_or_else(|| vec![(0, fit.rehearse(rows))]);
    let score = |(pattern, misses): &(usize, Vec<Miss>)| {
        Score::of(rows.family, Some(rows.dtype), &holdout_name(rows.family, *pattern), misses)
    };
    let scores = trials.iter().filter_map(score).collect();
    (fit, scores)
}

/// Kept-out rows, and kept-out values of one axis at a time, of a fit that answers by a random surface.
fn surface_trials(fit: &Fit, rows: &Rows) -> Option<Vec<(usize, Vec<Miss>)>> {
    let surface = fit.kriging.as_ref()?.surface(rows, &rows.skeleton(&fit.skeleton))?;
    let trial = |(pattern, mask): (usize, &u8)| match mask.count_ones() {
        0 => Some((pattern, surface.left_out())),
        1 => {
            let axis = mask.trailing_zeros() as usize;
            let values: Vec<u32> = rows.coordinates.iter().map(|x| x[axis]).collect();
            Some((pattern, surface.groups_left_out(&values)))
        }
        _ => None,
    };
    Some(axes::patterns(rows.family).iter().enumerate().filter_map(trial).collect())
}

/// The same for a fit that carries a coarse grid in place of its rows.
pub fn fit_coarse(rows: &Rows, device: &Device, progress: &(dyn Fn() + Sync)) -> (Fit, Vec<Score>) {
    let (fit, trials) = coarse::learn(rows, device, Effort::COARSE, COARSE_FOLDS, progress);
    let mut splits: Vec<Fold> = trials.iter().map(|(split, _)| *split).collect();
    splits.dedup();
    let scores = splits
        .into_iter()
        .filter_map(|split| {
            let name = match split {
                Fold::Rows => "random",
                Fold::Axis(axis) => axes::names(rows.family)[axis],
            };
            let mine = trials.iter().filter(|(s, _)| *s == split);
            let misses: Vec<Miss> = mine.flat_map(|(_, t)| scores::cross_fitted(&t.held)).collect();
            Score::of(rows.family, Some(rows.dtype), name, &misses)
        })
        .collect();
    (fit, scores)
}

/// Cross-validates one pattern with everything trained anew for each kept-out fold or value.
pub fn cross_validate(rows: &Rows, device: &Device, pattern: usize, split: Split) -> ScoredSet {
    let quick = (rows.seconds.len() <= kriging::MOST).then(|| Fit::quick(rows, device));
    let by_surface = quick.and_then(|fit| surface_trials(&fit, rows)).and_then(|trials| {
        let (_, misses) = trials.into_iter().find(|(p, _)| *p == pattern)?;
        Some(misses.into_iter().enumerate().collect())
    });
    let misses: Vec<(usize, Miss)> = by_surface.unwrap_or_else(|| {
        scores::cross_fitted_rows(&crossval::hold_out(rows, device, pattern, split, Effort::FULL))
    });
    let scored = |(row, miss): (usize, Miss)| {
        Some(ScoredRow {
            call: axes::call(rows.family, rows.dtype, rows.coordinates.get(row)?),
            measured: Seconds(*rows.seconds.get(row)?),
            miss,
            spread: None,
        })
    };
    ScoredSet {
        family: rows.family,
        dtype: Some(rows.dtype),
        holdout: holdout_name(rows.family, pattern),
        rows: misses.into_iter().filter_map(scored).collect(),
    }
}

/// Leave-one-out errors of all-reduce curves.
pub fn all_reduce(profile: &str, rows: &[Row]) -> ScoredSet {
    let left_out = AllReduceCurves::new(profile, rows).leave_one_out();
    let scored = left_out.into_iter().map(|l| ScoredRow {
        call: l.call,
        measured: l.measured,
        miss: l.miss,
        spread: None,
    });
    let (family, dtype) = (KernelFamily::AllReduce, None);
    ScoredSet { family, dtype, holdout: "bytes".to_string(), rows: scored.collect() }.with_spreads(rows)
}

/// Rows from elsewhere with what was said of them, and what was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Against {
    /// Rows per family and element type.
    pub sets: Vec<ScoredSet>,
    /// Rows the profile has itself.
    pub seen: usize,
    /// Rows the profile cannot price, with the first reason.
    pub gaps: usize,
    /// The first gap, in words.
    pub first_gap: Option<String>,
}

/// Predicts every row the model's profile does not have (`own`), and compares. A profile that does not carry
/// its rows is scored on all that are given.
pub fn against(model: &KernelModel, own: &[Row], rows: &[Row]) -> Against {
    let seen: HashSet<KernelCall> = own.iter().map(|row| row.call).collect();
    let mut result = Against::default();
    let mut by_kind: BTreeMap<(KernelFamily, Option<DType>), Vec<ScoredRow>> = BTreeMap::new();
    for row in rows {
        if seen.contains(&row.call) {
            result.seen += 1;
            continue;
        }
        match model.cost(&row.call) {
            Ok(cost) => {
                let miss = Miss { log_error: (cost.latency / row.latency).ln(), log_sigma: cost.log_sigma };
                let (call, measured, spread) = (row.call, row.latency, row.spread);
                let scored = ScoredRow { call, measured, miss, spread };
                by_kind.entry((row.call.family(), row.call.dtype())).or_default().push(scored);
            }
            Err(gap) => {
                result.gaps += 1;
                result.first_gap.get_or_insert_with(|| gap.to_string());
            }
        }
    }
    let holdout = if own.is_empty() { "given" } else { "unseen" };
    let set = |((family, dtype), rows)| ScoredSet { family, dtype, holdout: holdout.to_string(), rows };
    result.sets = by_kind.into_iter().map(set).collect();
    result
}

/// `evaluation.csv` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{profile}: evaluation.csv: {reason}; make it anew with `archplan profiles fit {profile}`")]
pub struct EvaluationError {
    profile: String,
    reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    family: KernelFamily,
    dtype: Option<DType>,
    holdout: String,
    n: usize,
    median_ape_percent: f64,
    mean_ape_percent: f64,
    p90_ape_percent: f64,
    bias_percent: f64,
    coverage_percent: f64,
}

/// Scores as the text of `evaluation.csv`.
pub fn to_csv(scores: &[Score]) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let round = |x: f64| (x * 1e3).round() / 1e3;
    for s in scores {
        writer.serialize(Line {
            family: s.family,
            dtype: s.dtype,
            holdout: s.holdout.clone(),
            n: s.n,
            median_ape_percent: round(s.median_ape),
            mean_ape_percent: round(s.mean_ape),
            p90_ape_percent: round(s.p90_ape),
            bias_percent: round(s.bias),
            coverage_percent: round(s.coverage),
        })?;
    }
    let bytes = writer.into_inner().map_err(|e| csv::Error::from(e.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Scores from the text of `evaluation.csv`.
///
/// # Errors
/// Text that is not such a table.
pub fn from_csv(profile: &str, text: &str) -> Result<Vec<Score>, EvaluationError> {
    let of = |line: Line| Score {
        family: line.family,
        dtype: line.dtype,
        holdout: line.holdout,
        n: line.n,
        median_ape: line.median_ape_percent,
        mean_ape: line.mean_ape_percent,
        p90_ape: line.p90_ape_percent,
        bias: line.bias_percent,
        coverage: line.coverage_percent,
    };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let lines: Result<Vec<Line>, csv::Error> = reader.deserialize().collect();
    match lines {
        Ok(lines) => Ok(lines.into_iter().map(of).collect()),
        Err(e) => Err(EvaluationError { profile: profile.to_string(), reason: e.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_counts_what_it_says() {
        let miss =
            |percent: f64, sigma: f64| Miss { log_error: (1.0 + percent / 100.0).ln(), log_sigma: sigma };
        let misses: Vec<Miss> =
            (1..=10).map(|i| miss(f64::from(i), if i <= 4 { 0.1 } else { 0.001 })).collect();
        let score = Score::of(KernelFamily::Gemm, Some(DType::Bf16), "random", &misses).expect("ten rows");
        assert_eq!((score.n, score.coverage), (10, 40.0));
        assert!((score.median_ape - 5.0).abs() < 1e-9 && (score.p90_ape - 9.0).abs() < 1e-9);
        assert!((score.mean_ape - 5.5).abs() < 1e-9 && (score.bias - 5.5).abs() < 1e-9);
        assert_eq!(Score::of(KernelFamily::Gemm, None, "random", &[]), None);
    }

    #[test]
    fn evaluation_csv_round_trips_and_refuses_other_tables() {
        let misses = [Miss { log_error: 0.01, log_sigma: 0.02 }];
        let scores: Vec<Score> = [Some(DType::Fp8), None]
            .iter()
            .filter_map(|d| Score::of(KernelFamily::AllReduce, *d, "bytes", &misses))
            .collect();
        let text = to_csv(&scores).expect("a table");
        let back = from_csv("toy", &text).expect("the same table");
        assert_eq!(to_csv(&back).expect("a table"), text);
        assert!(from_csv("toy", "family,n\ngemm,x\n").is_err());
    }
}
