//! Cross-validation of the ensemble: rows, or whole values of an axis, are kept out of everything.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::interpolator::Interpolator;
use crate::hardware::latency::kernel_model::lattice::Exclusion;
use crate::hardware::latency::kernel_model::members::{
    Answers, Effort, Members, Own, Question, Rows, exclusion,
};
use crate::hardware::latency::kernel_model::regression::{self, Observation};
use crate::hardware::latency::kernel_model::skeleton::Skeleton;
use crate::hardware::profile::device::Device;

/// One row predicted by members that never saw it (nor, in a value pattern, its axis values).
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// The row, as an index into the rows it was kept out of.
    pub row: usize,
    /// Fold in which the row was kept out.
    pub fold: usize,
    /// What was kept out with it: rows of one group err alike. A row by itself is its own group.
    pub group: usize,
    /// What the members said.
    pub answers: Answers,
    /// Spread of the interpolations.
    pub disagreement: f64,
    /// The query lay beyond the remaining rows.
    pub beyond: bool,
    /// The truth: `ln(measured / skeleton)`.
    pub target: f64,
    /// How much the row counts (see [`Rows::weights`]).
    pub weight: f64,
}

/// How much of each member's correction is applied.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Share of the pattern's own correction.
    pub own: f64,
    /// Share of the joint correction.
    pub joint: f64,
    /// Share of the way towards the shape-only member.
    pub global: f64,
}

/// The shares of a pattern: between rows, and beyond them, where interpolations hold an edge constant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// Between rows.
    pub inside: Shares,
    /// Beyond the rows.
    pub beyond: Shares,
}

/// Where the shares start from, and what too few rows leave them at.
const PRIOR: [f64; 3] = [0.25, 0.35, 0.3];
/// Pull towards the prior, relative to the data's own curvature, for 1000 rows.
const PULL: f64 = 0.02;
/// Pull of the shares inside and beyond towards the pattern's common shares.
const PULL_APART: f64 = 0.1;

impl Shares {
    fn learn<'a>(held: impl Iterator<Item = &'a Held>, prior: [f64; 3], pull: impl Fn(f64) -> f64) -> Self {
        let pairs: Vec<Observation> = held
            .map(|h| Observation {
                x: vec![h.answers.own, h.answers.joint, h.answers.global],
                y: h.target - h.answers.base,
                weight: h.weight,
            })
            .collect();
        let w = regression::robust_ridge(&pairs, &prior, pull(pairs.len() as f64));
        let share = |i: usize| w[i].clamp(0.0, 1.0);
        Self { own: share(0), joint: share(1), global: share(2) }
    }
}

impl Mix {
    /// Interpolations only.
    pub const NONE: Mix = Mix { inside: Shares::NONE, beyond: Shares::NONE };

    /// Shares that would have served the kept-out rows best.
    pub fn learn<'a, I: Iterator<Item = &'a Held> + Clone>(held: I) -> Self {
        let all = Shares::learn(held.clone(), PRIOR, |n| PULL * 1000.0 / n.max(50.0));
        let common = [all.own, all.joint, all.global];
        let side =
            |beyond: bool| Shares::learn(held.clone().filter(|h| h.beyond == beyond), common, |_| PULL_APART);
        Self { inside: side(false), beyond: side(true) }
    }

    /// The mixed answer, `ln(t / skeleton)`.
    pub fn apply(&self, a: &Answers, beyond: bool) -> f64 {
        let s = if beyond { self.beyond } else { self.inside };
        a.base + s.own * a.own + s.joint * a.joint + s.global * a.global
    }
}

impl Shares {
    const NONE: Shares = Shares { own: 0.0, joint: 0.0, global: 0.0 };
}

/// How rows are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// So many folds; a value pattern keeps out every so-many-th value of each of its axes.
    Folds(usize),
    /// One whole value of the axis at a time (patterns of one axis); five folds of rows for pattern 0.
    OneValue,
}

/// What is dealt into folds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Rows, by a fixed hash of their coordinates.
    Rows,
    /// Whole values of an axis, in turn.
    Axis(usize),
}

impl Fold {
    /// Fold of every row.
    pub fn deal(self, rows: &Rows, folds: usize) -> Vec<usize> {
        match self {
            Fold::Rows => rows.coordinates.iter().map(|x| scatter(x) % folds).collect(),
            Fold::Axis(axis) => {
                let mut values: Vec<u32> = rows.coordinates.iter().map(|x| x[axis]).collect();
                values.sort_unstable();
                values.dedup();
                let rank = |v: u32| values.partition_point(|&other| other < v);
                rows.coordinates.iter().map(|x| rank(x[axis]) % folds).collect()
            }
        }
    }
}

/// Keeps out folds in the situation of `pattern` and returns every kept-out row's answers.
pub fn hold_out(rows: &Rows, device: &Device, pattern: usize, split: Split, effort: Effort) -> Vec<Held> {
    let mask = axes::patterns(rows.family)[pattern];
    hold_out_together(rows, device, &[pattern], mask, split, effort).pop().unwrap_or_default()
}

/// The same for every pattern that misses several axes, with one training per fold for all of them: the
/// fold's values are kept out on every axis at once, so that each pattern sees fewer rows than it would
/// have to (errors on the safe side).
pub fn hold_out_compound(
    rows: &Rows,
    device: &Device,
    patterns: &[usize],
    folds: usize,
    effort: Effort,
) -> Vec<Vec<Held>> {
    let union = patterns.iter().fold(0, |mask, &p| mask | axes::patterns(rows.family)[p]);
    hold_out_together(rows, device, patterns, union, Split::Folds(folds), effort)
}

fn hold_out_together(
    rows: &Rows,
    device: &Device,
    patterns: &[usize],
    kept_out: u8,
    split: Split,
    effort: Effort,
) -> Vec<Vec<Held>> {
    let Some(&first) = patterns.first() else { return Vec::new() };
    let own = if patterns.len() == 1 { Own::Only(first) } else { Own::None };
    let whole_skeleton = Skeleton::of(rows);
    let whole = rows.interpolator(&rows.skeleton(&whole_skeleton));
    let folds = match split {
        Split::Folds(n) => n,
        Split::OneValue if kept_out.count_ones() == 1 => {
            whole.values(kept_out.trailing_zeros() as usize).len()
        }
        Split::OneValue => 5,
    };
    let on_axis = |axis: usize, i: usize| {
        whole.values(axis).binary_search(&rows.coordinates[i][axis]).map_or(0, |at| at % folds)
    };
    let in_fold = |mask: u8, i: usize, fold: usize| match mask {
        0 => scatter(&rows.coordinates[i]) % folds == fold,
        _ => bits(mask).all(|axis| on_axis(axis, i) == fold),
    };
    let in_training = |i: usize, fold: usize| match kept_out {
        0 => !in_fold(0, i, fold),
        _ => bits(kept_out).all(|axis| on_axis(axis, i) != fold),
    };
    let by_fold: Vec<Vec<Vec<Held>>> = (0..folds)
        .into_par_iter()
        .map(|fold| {
            let training = rows.filter(|i| in_training(i, fold));
            if training.seconds.is_empty() {
                return vec![Vec::new(); patterns.len()];
            }
            let skeleton = Skeleton::of(&training);
            let reference = training.skeleton(&skeleton);
            let anchors = training.interpolator(&reference);
            let members = Members::train(&training, &reference, &anchors, device, effort, own);
            // Interpolate from every row that does not share the query's value, whatever its fold: only
            // that value is missing when a user asks.
            let standing = if kept_out == 0 { anchors } else { rows.interpolator(&rows.skeleton(&skeleton)) };
            let exam =
                Exam { rows, device, members: &members, skeleton: &skeleton, standing: &standing, fold };
            patterns
                .iter()
                .map(|&p| exam.sit(p, |i| in_fold(axes::patterns(rows.family)[p], i, fold)))
                .collect()
        })
        .collect();
    let mut all = vec![Vec::new(); patterns.len()];
    for fold in by_fold {
        for (pattern, held) in all.iter_mut().zip(fold) {
            pattern.extend(held);
        }
    }
    all
}

fn bits(mask: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |a| mask >> a & 1 == 1)
}

struct Exam<'a> {
    rows: &'a Rows,
    device: &'a Device,
    members: &'a Members,
    skeleton: &'a Skeleton,
    standing: &'a Interpolator,
    fold: usize,
}

impl Exam<'_> {
    fn sit(&self, pattern: usize, in_test: impl Fn(usize) -> bool) -> Vec<Held> {
        let rows = self.rows;
        let away = match axes::patterns(rows.family)[pattern] {
            0 => Exclusion::default(),
            mask => exclusion(mask),
        };
        let mut scratch = Vec::new();
        (0..rows.seconds.len())
            .filter(|&i| in_test(i))
            .filter_map(|i| {
                let reference = self.skeleton.seconds(rows.bounds[i]);
                let estimates = self.standing.estimates(&rows.coordinates[i], reference, away)?;
                let question = Question {
                    family: rows.family,
                    dtype: rows.dtype,
                    device: self.device,
                    at: &rows.coordinates[i],
                    pattern,
                    bounds: rows.bounds[i],
                    skeleton: reference,
                };
                Some(Held {
                    row: i,
                    fold: self.fold,
                    group: group(axes::patterns(rows.family)[pattern], &rows.coordinates[i]),
                    answers: self.members.answer(&question, &estimates, &mut scratch),
                    disagreement: estimates.disagreement(),
                    beyond: estimates.beyond(),
                    target: (rows.seconds[i] / reference).ln(),
                    weight: rows.weights[i],
                })
            })
            .collect()
    }
}

/// Rows that miss the same values share a group.
fn group(mask: u8, coordinates: &[u32]) -> usize {
    match mask {
        0 => scatter(coordinates),
        _ => scatter(&bits(mask).map(|axis| coordinates[axis]).collect::<Vec<_>>()),
    }
}

/// A fixed pseudo-random number for a row, from its coordinates alone.
fn scatter(coordinates: &[u32]) -> usize {
    let hash = coordinates.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |h, &c| {
        let mixed = (h ^ u64::from(c)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 29)
    });
    (hash >> 11) as usize
}
