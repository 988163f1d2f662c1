//! Fits that may not carry their rows: every second value of each axis stays, as a rounded efficiency.
//!
//! The grid anchors the interpolations; what lies between is left to the forests, which are trained on all
//! rows. The published operator tables of the Ascend 910B may be read but not passed on, hence this.

use rayon::prelude::*;

use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::crossval::{Fold, Held, Mix};
use crate::hardware::latency::kernel_model::ensemble::{Fit, Trial, fastest};
use crate::hardware::latency::kernel_model::interpolator::Interpolator;
use crate::hardware::latency::kernel_model::lattice::{Coordinates, Exclusion};
use crate::hardware::latency::kernel_model::members::{Effort, Members, Own, Question, Rows};
use crate::hardware::latency::kernel_model::skeleton::Skeleton;
use crate::hardware::latency::kernel_model::spread::Spread;
use crate::hardware::profile::device::Device;

/// Significant digits of a grid cell's `t / skeleton`.
const DIGITS: i32 = 2;

/// The cells that stay: coordinates and rounded `t / skeleton`.
pub fn grid(rows: &Rows, skeleton: &[f64]) -> Vec<(Coordinates, f64)> {
    let axes = axes::names(rows.family).len();
    let kept: Vec<Vec<u32>> = (0..axes).map(|axis| every_second(rows, axis)).collect();
    let stays = |x: &Coordinates| (0..axes).all(|axis| kept[axis].contains(&x[axis]));
    let cells = rows.coordinates.iter().zip(&rows.seconds).zip(skeleton);
    cells.filter(|((x, _), _)| stays(x)).map(|((x, t), s)| (*x, round(t / s))).collect()
}

fn every_second(rows: &Rows, axis: usize) -> Vec<u32> {
    let mut values: Vec<u32> = rows.coordinates.iter().map(|x| x[axis]).collect();
    values.sort_unstable();
    values.dedup();
    let last = values.len().saturating_sub(1);
    values.into_iter().enumerate().filter(|(i, _)| i % 2 == 0 || *i == last).map(|(_, v)| v).collect()
}

fn round(x: f64) -> f64 {
    let scale = 10f64.powi(DIGITS - 1 - x.abs().log10().floor() as i32);
    (x * scale).round() / scale
}

struct Trained {
    skeleton: Skeleton,
    members: Members,
    anchors: Interpolator,
    grid: Vec<(Coordinates, f64)>,
}

fn train(rows: &Rows, device: &Device, effort: Effort) -> Trained {
    let skeleton = Skeleton::of(rows);
    let reference = rows.skeleton(&skeleton);
    let grid = grid(rows, &reference);
    let anchors = anchors(rows, &skeleton, &grid, device);
    let members = Members::train(rows, &reference, &anchors, device, effort, Own::None);
    Trained { skeleton, members, anchors, grid }
}

fn anchors(rows: &Rows, skeleton: &Skeleton, grid: &[(Coordinates, f64)], device: &Device) -> Interpolator {
    let cells: Vec<(Coordinates, f64)> = grid.to_vec();
    let stand_in = Rows::new(rows.family, rows.dtype, device, cells);
    let reference = stand_in.skeleton(skeleton);
    let seconds: Vec<f64> = stand_in.seconds.iter().zip(&reference).map(|(ratio, s)| ratio * s).collect();
    Interpolator::new(rows.family, &stand_in.coordinates, &seconds, &reference)
}

/// Keeps out folds (of rows, or of the values of one axis) from grid and forests alike; every kept-out row
/// is then asked in the pattern it meets. Returns `(pattern, answers)`.
pub fn hold_out(
    rows: &Rows,
    device: &Device,
    split: Fold,
    folds: usize,
    effort: Effort,
) -> Vec<(usize, Held)> {
    let number = split.deal(rows, folds);
    let by_fold: Vec<Vec<(usize, Held)>> = (0..folds)
        .into_par_iter()
        .map(|fold| {
            let training = rows.filter(|i| number[i] != fold);
            if training.seconds.is_empty() {
                return Vec::new();
            }
            let trained = train(&training, device, effort);
            let mut scratch = Vec::new();
            (0..rows.seconds.len())
                .filter(|&i| number[i] == fold)
                .filter_map(|i| trained.ask(rows, device, i, (split, fold), &mut scratch))
                .collect()
        })
        .collect();
    by_fold.into_iter().flatten().collect()
}

impl Trained {
    fn ask(
        &self,
        rows: &Rows,
        device: &Device,
        i: usize,
        (split, fold): (Fold, usize),
        scratch: &mut Vec<f32>,
    ) -> Option<(usize, Held)> {
        let at = &rows.coordinates[i];
        let reference = self.skeleton.seconds(rows.bounds[i]);
        let pattern = axes::nearest_pattern(rows.family, self.anchors.missing(at));
        let estimates = self.anchors.estimates(at, reference, Exclusion::default())?;
        let question = Question {
            family: rows.family,
            dtype: rows.dtype,
            device,
            at,
            pattern,
            bounds: rows.bounds[i],
            skeleton: reference,
        };
        let held = Held {
            row: i,
            fold,
            group: match split {
                Fold::Rows => i,
                Fold::Axis(axis) => at[axis] as usize,
            },
            answers: self.members.answer(&question, &estimates, scratch),
            disagreement: estimates.disagreement(),
            beyond: self.anchors.beyond(at) || estimates.beyond(),
            target: (rows.seconds[i] / reference).ln(),
            weight: rows.weights[i],
        };
        Some((pattern, held))
    }
}

/// Learns a fit that carries a coarse grid in place of its rows. The trials keep out whole values of each
/// axis in turn, so that mix and spread are those of widths nobody measured.
pub fn learn(
    rows: &Rows,
    device: &Device,
    effort: Effort,
    folds: usize,
    progress: &(dyn Fn() + Sync),
) -> (Fit, Vec<(Fold, Trial)>) {
    let patterns = axes::patterns(rows.family);
    let mut splits = vec![Fold::Rows];
    splits.extend((0..axes::names(rows.family).len().min(4)).map(Fold::Axis));
    let mut by_pattern: Vec<Vec<Held>> = vec![Vec::new(); patterns.len()];
    let mut trials = Vec::new();
    for split in splits {
        let held = hold_out(rows, device, split, folds, effort);
        for (pattern, h) in &held {
            by_pattern[*pattern].push(*h);
        }
        for (pattern, _) in patterns.iter().enumerate() {
            let mine: Vec<Held> = held.iter().filter(|(p, _)| *p == pattern).map(|(_, h)| *h).collect();
            if !mine.is_empty() {
                trials.push((split, Trial { pattern, held: mine }));
            }
        }
        progress();
    }
    let mixes: Vec<Mix> = by_pattern.iter().map(|held| Mix::learn(held.iter())).collect();
    let spreads = by_pattern.iter().zip(&mixes).map(|(held, mix)| Spread::learn(held.iter(), mix)).collect();
    let trained = train(rows, device, effort);
    let fit = Fit {
        dtype: rows.dtype,
        rows: rows.seconds.len(),
        rows_hash: String::new(),
        skeleton: trained.skeleton,
        members: trained.members,
        mixes,
        spreads,
        fastest: fastest(rows),
        kriging: None,
        grid: trained.grid,
        carried: None,
    };
    progress();
    (fit, trials)
}
