//! How good the prior is, on children and parents it has not seen, and against looking at size alone.

use std::collections::BTreeSet;

use rayon::prelude::*;
use serde::Serialize;

use crate::model::architecture::Architecture;

use crate::quality::benchmark::Benchmark;
use crate::quality::cuts::Cuts;
use crate::quality::error::QualityError;
use crate::quality::fit::{self, Observation};
use crate::quality::interval::{self, IntervalScales};
use crate::quality::law::{self, Law};
use crate::quality::table::{self, Belief, Coefficient, Fitted, Ranking, Sample, Use};

/// What the estimate is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The law over the axes.
    Axes,
    /// The same law and the same fit, told only the ratio of decoder weights.
    SizeOnly,
}

impl Method {
    /// The cuts this method sees.
    pub fn cuts(self, parent: &Architecture, child: &Architecture) -> Result<Cuts, QualityError> {
        match self {
            Method::Axes => Cuts::between(parent, child),
            Method::SizeOnly => Ok(Cuts::size_only(parent, child)),
        }
    }

    fn observations(self, samples: &[Sample], usage: Use) -> Result<Vec<Observation>, QualityError> {
        let chosen = samples.iter().filter(|s| s.usage == usage);
        fit::observations(chosen, |s| self.cuts(&s.parent_shape, &s.child_shape))
    }
}

/// What is left out at a time when the law is refitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// One child with all its figures.
    Child,
    /// One parent with all its children.
    Parent,
    /// Rows never used in any fit.
    HeldOut,
}

/// An unseen figure and what was predicted of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Unseen {
    /// The figure.
    pub row: Observation,
    /// What was predicted, in percent.
    pub predicted_percent: f64,
}

impl Unseen {
    /// Predicted minus published, in points.
    pub fn error_points(&self) -> f64 {
        self.predicted_percent - self.row.child_percent
    }
    /// The error in the interval's units.
    pub fn relative_error(&self) -> f64 {
        self.error_points().abs() / interval::unit_points(self.row.parent_percent, self.predicted_percent)
    }
}

/// Every figure of the fit's table, predicted by a law fitted without its child or parent; or the held-out rows.
pub fn unseen(
    method: Method,
    left_out: LeftOut,
    samples: &[Sample],
    beliefs: &[Belief],
) -> Result<Vec<Unseen>, QualityError> {
    let rows = method.observations(samples, Use::Fit)?;
    let predict = |law: &Law, row: &Observation| Unseen {
        row: row.clone(),
        predicted_percent: row.predicted_percent(law),
    };
    if left_out == LeftOut::HeldOut {
        let law = fit::fit(&rows, beliefs)?.law;
        let held = method.observations(samples, Use::HeldOut)?;
        return Ok(held.iter().map(|row| predict(&law, row)).collect());
    }
    let group = |row: &Observation| match left_out {
        LeftOut::Parent => row.parent.clone(),
        _ => format!("{}/{}", row.parent, row.child),
    };
    let groups: Vec<String> = rows.iter().map(group).collect::<BTreeSet<_>>().into_iter().collect();
    let folds: Vec<Vec<Unseen>> = groups
        .par_iter()
        .map(|name| {
            let (out, kept): (Vec<_>, Vec<_>) = rows.iter().cloned().partition(|row| group(row) == *name);
            let law = fit::fit(&kept, beliefs)?.law;
            Ok(out.iter().map(|row| predict(&law, row)).collect())
        })
        .collect::<Result<_, QualityError>>()?;
    Ok(folds.into_iter().flatten().collect())
}

/// The intervals that would have covered the unseen figures.
pub fn interval_scales(unseen: &[Unseen]) -> IntervalScales {
    let errors: Vec<(f64, f64)> = unseen.iter().map(|u| (u.row.tokens_b, u.relative_error())).collect();
    IntervalScales::covering(&errors)
}

/// Fits the shipped table anew: what the file of coefficients is made by.
pub fn refit() -> Result<Fitted, QualityError> {
    let (samples, beliefs) = (table::samples()?, table::beliefs()?);
    let rows = Method::Axes.observations(&samples, Use::Fit)?;
    let fit = fit::fit(&rows, &beliefs)?;
    let parents_out = unseen(Method::Axes, LeftOut::Parent, &samples, &beliefs)?;
    let coefficient = law::NAMES
        .iter()
        .zip(fit.law.values)
        .zip(fit.from_table)
        .map(|((name, value), from_table)| Coefficient { name: name.to_string(), value, from_table })
        .collect();
    Ok(Fitted { rows: rows.len(), interval_scale: interval_scales(&parents_out), coefficient })
}

/// Which figures a score is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// Every figure.
    All,
    /// Children retrained on [`interval::RETRAINED_FROM_B`] or more: what a plan assumes unless told otherwise.
    Retrained,
    /// Children retrained less or not at all.
    BarelyRetrained,
}

impl Regime {
    fn holds(self, row: &Observation) -> bool {
        match self {
            Regime::All => true,
            Regime::Retrained => row.tokens_b >= interval::RETRAINED_FROM_B,
            Regime::BarelyRetrained => row.tokens_b < interval::RETRAINED_FROM_B,
        }
    }
}

/// Errors over one benchmark (`None` = all).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// What the estimate was made from.
    pub method: Method,
    /// What was left out.
    pub left_out: LeftOut,
    /// Which figures it is over.
    pub regime: Regime,
    /// The benchmark.
    pub benchmark: Option<Benchmark>,
    /// Figures.
    pub n: usize,
    /// Mean absolute error in points.
    pub mean_abs_error_points: f64,
    /// Median absolute error in points.
    pub median_abs_error_points: f64,
    /// Mean error in points (positive = too hopeful).
    pub bias_points: f64,
    /// Spearman rank correlation of predicted with published accuracy retained; `None` below three figures.
    pub spearman: Option<f64>,
    /// Share of the figures inside the interval, in percent.
    pub coverage_percent: f64,
}

/// Scores of one method on unseen figures: per benchmark, per regime and over all.
pub fn scores(method: Method, left_out: LeftOut, unseen: &[Unseen], scales: &IntervalScales) -> Vec<Score> {
    let of_benchmarks = Benchmark::ALL.into_iter().map(|b| (Regime::All, Some(b)));
    let of_regimes = [Regime::BarelyRetrained, Regime::Retrained, Regime::All].into_iter().map(|r| (r, None));
    of_benchmarks
        .chain(of_regimes)
        .filter_map(|(regime, benchmark)| {
            let wanted = |u: &&Unseen| regime.holds(&u.row) && benchmark.is_none_or(|b| b == u.row.benchmark);
            let rows: Vec<&Unseen> = unseen.iter().filter(wanted).collect();
            (!rows.is_empty()).then(|| Score { method, left_out, regime, benchmark, ..score(&rows, scales) })
        })
        .collect()
}

fn score(rows: &[&Unseen], scales: &IntervalScales) -> Score {
    let n = rows.len();
    let mut errors: Vec<f64> = rows.iter().map(|u| u.error_points().abs()).collect();
    errors.sort_by(f64::total_cmp);
    let median = match (errors.get(n / 2), errors.get(n.saturating_sub(1) / 2)) {
        (Some(a), Some(b)) => 0.5 * (a + b),
        _ => f64::NAN,
    };
    let retained = |percent: fn(&Unseen) -> f64| -> Vec<f64> {
        rows.iter().map(|u| percent(u) / u.row.parent_percent).collect()
    };
    let inside = rows.iter().filter(|u| u.relative_error() <= scales.after(u.row.tokens_b)).count();
    Score {
        method: Method::Axes,
        left_out: LeftOut::Child,
        regime: Regime::All,
        benchmark: None,
        n,
        mean_abs_error_points: errors.iter().sum::<f64>() / n as f64,
        median_abs_error_points: median,
        bias_points: rows.iter().map(|u| u.error_points()).sum::<f64>() / n as f64,
        spearman: spearman(&retained(|u| u.predicted_percent), &retained(|u| u.row.child_percent)),
        coverage_percent: 100.0 * inside as f64 / n as f64,
    }
}

/// How well a method ranks published candidates of about one size, scored without retraining. The lists set no
/// coefficient, but the form of the law was chosen with them in sight (docs/quality-prior.md).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RankingScore {
    /// Name of the list.
    pub list: String,
    /// Where it was published, and what it leaves out.
    pub source: String,
    /// Candidates.
    pub n: usize,
    /// Spearman rank correlation of the prior with the published scores, predicted without recovery.
    pub axes_spearman: Option<f64>,
    /// The same for the prior's default recovery, as a search uses it.
    pub recovered_spearman: Option<f64>,
    /// The same for decoder weights alone.
    pub decoder_weights_spearman: Option<f64>,
    /// The same for the published number of parameters.
    pub published_size_spearman: Option<f64>,
    /// Place of the prior's favourite in the published order, 1 = best.
    pub favourite_place: Option<usize>,
}

/// Ranks a published list of candidates.
pub fn ranking_score(
    law: &Law,
    list: &Ranking,
    recovered_tokens_b: f64,
) -> Result<RankingScore, QualityError> {
    let scores: Vec<f64> = list.candidates.iter().map(|(_, _, score)| *score).collect();
    let hopes = |tokens_b: f64, method: Method| -> Result<Vec<f64>, QualityError> {
        let hope = |child| {
            Ok(-law
                .axis_nats(&method.cuts(&list.parent, child)?, tokens_b, Benchmark::Mmlu)
                .iter()
                .sum::<f64>())
        };
        list.candidates.iter().map(|(child, _, _)| hope(child)).collect()
    };
    let axes = hopes(0.0, Method::Axes)?;
    let favourite = axes.iter().zip(&scores).max_by(|a, b| a.0.total_cmp(b.0)).map(|(_, score)| *score);
    let sizes: Vec<f64> = list.candidates.iter().map(|(_, size, _)| *size).collect();
    Ok(RankingScore {
        list: list.name.clone(),
        source: list.source.clone(),
        n: scores.len(),
        axes_spearman: spearman(&axes, &scores),
        recovered_spearman: spearman(&hopes(recovered_tokens_b, Method::Axes)?, &scores),
        decoder_weights_spearman: spearman(&hopes(0.0, Method::SizeOnly)?, &scores),
        published_size_spearman: spearman(&sizes, &scores),
        favourite_place: favourite.map(|best| 1 + scores.iter().filter(|s| **s > best).count()),
    })
}

/// Spearman rank correlation, ties sharing their mean rank; `None` below three pairs or without variation.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (ranks(a), ranks(b));
    let n = a.len().min(b.len());
    if n < 3 {
        return None;
    }
    let mean = (n as f64 + 1.0) / 2.0;
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let norm = (dot(&a, &a) * dot(&b, &b)).sqrt();
    (norm > 0.0).then(|| dot(&a, &b) / norm)
}

/// Kendall's tau-b: concordant less discordant pairs, corrected for ties; `None` without variation.
pub fn kendall(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len().min(b.len());
    let (mut balance, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for i in 0..n {
        for j in 0..i {
            let sign = |x: &[f64]| x[i].total_cmp(&x[j]) as i8;
            let (a, b) = (f64::from(sign(a)), f64::from(sign(b)));
            (balance, of_a, of_b) = (balance + a * b, of_a + a * a, of_b + b * b);
        }
    }
    let norm = f64::sqrt(of_a * of_b);
    (norm > 0.0).then(|| balance / norm)
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |v: &f64| {
        let below = values.iter().filter(|x| *x < v).count() as f64;
        let equal = values.iter().filter(|x| *x == v).count() as f64;
        below + (equal + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kendall_counts_pairs_and_ties() {
        // Of ten pairs of 2 1 4 3 5 two are out of order.
        assert!(
            (kendall(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 4.0, 3.0, 5.0]).unwrap() - 0.6).abs() < 1e-12
        );
        // scipy.stats.kendalltau([1, 1, 2, 3], [1, 2, 3, 3]): 4 / sqrt(5 x 5).
        assert!((kendall(&[1.0, 1.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 3.0]).unwrap() - 0.8).abs() < 1e-12);
        assert_eq!(kendall(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn spearman_sees_order_only_and_shares_ties() {
        assert_eq!(spearman(&[1.0, 2.0, 9.0], &[0.1, 0.2, 0.3]), Some(1.0));
        assert_eq!(spearman(&[3.0, 2.0, 1.0, 0.0], &[1.0, 2.0, 30.0, 40.0]), Some(-1.0));
        // 1 - 6 sum d^2 / (n (n^2 - 1)) for the order 2 1 4 3 5
        let rho = spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 4.0, 3.0, 5.0]).unwrap();
        assert!((rho - (1.0 - 6.0 * 4.0 / 120.0)).abs() < 1e-12);
        let tied = spearman(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0]).unwrap();
        assert!((tied - 0.75_f64.sqrt()).abs() < 1e-12);
        assert_eq!(spearman(&[7.0, 7.0, 7.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(spearman(&[1.0, 2.0], &[1.0, 2.0]), None);
    }
}
