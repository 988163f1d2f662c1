//! The members of the ensemble and how they are trained.
//!
//! Every row is asked as if it, or all rows that share its value on some axes, had not been measured. The
//! interpolations' answers to such questions are what the members learn to correct, so that they are
//! trained on the situation they will meet: a width nobody measured.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::boosting::{Forest, Growth};
use crate::hardware::latency::kernel_model::crossval::Held;
use crate::hardware::latency::kernel_model::features;
use crate::hardware::latency::kernel_model::interpolator::{Estimates, Interpolator};
use crate::hardware::latency::kernel_model::lattice::{Coordinates, Exclusion};
use crate::hardware::latency::kernel_model::regression::{self, Observation};
use crate::hardware::latency::kernel_model::skeleton::{self, Skeleton};
use crate::hardware::profile::device::Device;
use crate::hardware::profile::table::Row;
use crate::units::DType;

/// Measured rows of one family and element type, with their physical skeleton.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Family.
    pub family: KernelFamily,
    /// Element type.
    pub dtype: DType,
    /// Coordinates of each row.
    pub coordinates: Vec<Coordinates>,
    /// Measured seconds of each row.
    pub seconds: Vec<f64>,
    /// Compute and memory bound of each row, in seconds.
    pub bounds: Vec<(f64, f64)>,
    /// How much each row counts in a fit: `1 / (1 + (spread / 2 %)^2)`, where 2 % is what a good estimator
    /// misses sound rows by; 1 where the spread of repeats is not known.
    pub weights: Vec<f64>,
}

impl Rows {
    /// See [`Self::weights`].
    pub const MODEL_ERROR: f64 = 0.02;

    /// From coordinates and seconds.
    pub fn new(family: KernelFamily, dtype: DType, device: &Device, rows: Vec<(Coordinates, f64)>) -> Self {
        let bounds =
            rows.iter().map(|(x, _)| skeleton::bounds(&axes::call(family, dtype, x), device)).collect();
        let weights = vec![1.0; rows.len()];
        let (coordinates, seconds) = rows.into_iter().unzip();
        Self { family, dtype, coordinates, seconds, bounds, weights }
    }

    /// From rows of a table; those that are no calls of the family and element type are left out.
    pub fn measured(family: KernelFamily, dtype: DType, device: &Device, rows: &[Row]) -> Self {
        let at = |row: &Row| match axes::coordinates(&row.call) {
            Some((f, d, at)) if (f, d) == (family, dtype) => Some(at),
            _ => None,
        };
        let kept: Vec<(Coordinates, &Row)> = rows.iter().filter_map(|row| Some((at(row)?, row))).collect();
        let weight = |spread: f64| 1.0 / (1.0 + (spread / Self::MODEL_ERROR).powi(2));
        let weights = kept.iter().map(|(_, row)| row.spread.map_or(1.0, weight)).collect();
        let pairs = kept.iter().map(|(at, row)| (*at, row.latency.0)).collect();
        Self { weights, ..Self::new(family, dtype, device, pairs) }
    }

    /// The rows for which `keep` holds.
    pub fn filter(&self, keep: impl Fn(usize) -> bool) -> Self {
        let index: Vec<usize> = (0..self.seconds.len()).filter(|&i| keep(i)).collect();
        Self {
            family: self.family,
            dtype: self.dtype,
            coordinates: index.iter().map(|&i| self.coordinates[i]).collect(),
            seconds: index.iter().map(|&i| self.seconds[i]).collect(),
            bounds: index.iter().map(|&i| self.bounds[i]).collect(),
            weights: index.iter().map(|&i| self.weights[i]).collect(),
        }
    }

    /// SHA-256 over coordinates, latencies and, where spreads are known, weights, in the order of the rows.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for ((x, t), w) in self.coordinates.iter().zip(&self.seconds).zip(&self.weights) {
            x.iter().for_each(|c| hasher.update(c.to_le_bytes()));
            hasher.update(t.to_le_bytes());
            if *w < 1.0 {
                hasher.update(w.to_le_bytes());
            }
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Seconds of the skeleton at each row.
    pub fn skeleton(&self, skeleton: &Skeleton) -> Vec<f64> {
        self.bounds.iter().map(|&b| skeleton.seconds(b)).collect()
    }

    /// Interpolator over all rows.
    pub fn interpolator(&self, skeleton: &[f64]) -> Interpolator {
        Interpolator::new(self.family, &self.coordinates, &self.seconds, skeleton)
    }
}

/// How much work a fit may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Samples for a pattern's own residual.
    pub own_samples: usize,
    /// Samples for the residual all patterns share.
    pub joint_samples: usize,
    /// Samples for the shape-only model.
    pub global_samples: usize,
    /// Trees of each member.
    pub trees: usize,
    /// Most leaves of a tree.
    pub leaves: usize,
    /// Fewest samples of a leaf; a set of more than 400 times as many asks for more.
    pub smallest_leaf: usize,
}

impl Effort {
    /// What shipped profiles are fitted with.
    pub const FULL: Effort = Effort {
        own_samples: 30_000,
        joint_samples: 60_000,
        global_samples: 30_000,
        trees: 150,
        leaves: 32,
        smallest_leaf: 6,
    };

    /// What fits without rows are made with: small tables, small forests.
    pub const COARSE: Effort = Effort {
        own_samples: 0,
        joint_samples: 40_000,
        global_samples: 30_000,
        trees: 300,
        leaves: 16,
        smallest_leaf: 4,
    };

    /// Interpolations only.
    pub const QUICK: Effort = Effort {
        own_samples: 0,
        joint_samples: 40_000,
        global_samples: 0,
        trees: 0,
        leaves: 2,
        smallest_leaf: 1,
    };

    fn growth(&self, samples: usize, huber: f64) -> Growth {
        Growth {
            trees: self.trees,
            leaves: self.leaves,
            leaf_samples: (samples / 400).clamp(self.smallest_leaf, 60),
            learning_rate: 0.08,
            l2: 3.0,
            huber,
        }
    }
}

/// Residuals beyond this log error pull with constant force.
const HUBER: f64 = 0.1;
/// The same for the shape-only member, which starts from the skeleton alone.
const HUBER_GLOBAL: f64 = 0.3;
/// Pull of the interpolations' weights towards their plain mean.
const STACK_PULL: f64 = 1e-3;

/// Everything learned from rows except how to mix it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Members {
    /// Weights of the interpolations, per pattern of [`axes::patterns`]; sums to one.
    pub stacks: Vec<Vec<f64>>,
    /// Residual learned for one pattern alone.
    pub own: Vec<Option<Forest>>,
    /// Residual learned over all patterns.
    pub joint: Forest,
    /// Skeleton residual from the shape alone, without interpolation.
    pub global: Forest,
}

/// The answers of the members to one query, as `ln(t / skeleton)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    /// Weighted interpolations.
    pub base: f64,
    /// Correction by the pattern's own forest.
    pub own: f64,
    /// Correction by the joint forest.
    pub joint: f64,
    /// Correction towards the shape-only forest.
    pub global: f64,
}

/// One question: where, in which pattern, and what the physics says there.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Family.
    pub family: KernelFamily,
    /// Element type.
    pub dtype: DType,
    /// Device.
    pub device: &'a Device,
    /// Coordinates.
    pub at: &'a Coordinates,
    /// Index into [`axes::patterns`].
    pub pattern: usize,
    /// Compute and memory bound in seconds.
    pub bounds: (f64, f64),
    /// Skeleton in seconds.
    pub skeleton: f64,
}

impl Question<'_> {
    fn shape_features(&self, out: &mut Vec<f32>) {
        features::push(&axes::call(self.family, self.dtype, self.at), self.device, out);
        out.push((self.bounds.0 / self.bounds.1).ln() as f32);
        out.push((self.skeleton * 1e6).ln() as f32);
    }

    fn features(&self, estimates: &Estimates, base: f64, out: &mut Vec<f32>) {
        self.shape_features(out);
        out.extend(estimates.values.iter().map(|e| (e - base) as f32));
        let mask = axes::patterns(self.family)[self.pattern];
        out.extend((0..4).map(|axis| f32::from(mask >> axis & 1)));
        out.extend([estimates.most_held as f32, estimates.least_held as f32, base as f32]);
    }
}

/// What pattern `mask` keeps out when it is played on a row that is in the table.
pub fn exclusion(mask: u8) -> Exclusion {
    Exclusion { axes: mask, row: mask == 0 }
}

/// Which forests to train beside the shared ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// For every pattern that misses at most one axis.
    Simple,
    /// For one pattern only (index into [`axes::patterns`]).
    Only(usize),
    /// For none.
    None,
}

impl Own {
    fn wants(self, family: KernelFamily, pattern: usize) -> bool {
        match self {
            Own::Simple => axes::patterns(family)[pattern].count_ones() <= 1,
            Own::Only(one) => one == pattern && Own::Simple.wants(family, pattern),
            Own::None => false,
        }
    }
}

impl Members {
    /// Trains all members on `rows`; interpolations stand on `anchors` (the rows themselves, or the coarse
    /// grid that stands in for them).
    pub fn train(
        rows: &Rows,
        skeleton: &[f64],
        anchors: &Interpolator,
        device: &Device,
        effort: Effort,
        own: Own,
    ) -> Members {
        let patterns = axes::patterns(rows.family);
        let lesson = Lesson { rows, skeleton, anchors, device, effort };
        let mut joint = Samples::default();
        let (stacks, own) = (0..patterns.len())
            .map(|pattern| lesson.teach(pattern, own.wants(rows.family, pattern), &mut joint))
            .unzip();
        Members { stacks, own, joint: joint.fit(effort, HUBER), global: lesson.shape_only() }
    }

    /// Some tree reads a feature that questions of the family do not have (a damaged fit file).
    pub fn asks_beyond(&self, family: KernelFamily) -> bool {
        let shape = features::count(family) + 2;
        let all = shape + Interpolator::width(family) + 7;
        let within = |forest: &Forest, width: usize| forest.widest().is_none_or(|f| usize::from(f) < width);
        let forests = self.own.iter().flatten().chain([&self.joint]);
        !(within(&self.global, shape) && forests.into_iter().all(|forest| within(forest, all)))
    }

    /// Rows asked in a pattern as if they had not been measured, answered by the interpolations alone.
    pub fn rehearse(
        &self,
        rows: &Rows,
        skeleton: &[f64],
        anchors: &Interpolator,
        pattern: usize,
    ) -> Vec<Held> {
        const MOST: usize = 4_000;
        let asked = ask(rows, skeleton, anchors, axes::patterns(rows.family)[pattern], MOST);
        let held = asked.into_iter().map(|(i, estimates)| Held {
            row: i,
            fold: 0,
            group: i,
            answers: Answers {
                base: regression::dot(&estimates.values, &self.stacks[pattern]),
                ..Answers::default()
            },
            disagreement: estimates.disagreement(),
            beyond: estimates.beyond(),
            target: (rows.seconds[i] / skeleton[i]).ln(),
            weight: rows.weights[i],
        });
        held.collect()
    }

    /// The members' answers to a question.
    pub fn answer(&self, question: &Question, estimates: &Estimates, scratch: &mut Vec<f32>) -> Answers {
        let base = regression::dot(&estimates.values, &self.stacks[question.pattern]);
        scratch.clear();
        question.features(estimates, base, scratch);
        let joint = self.joint.predict(scratch);
        let own = self.own[question.pattern].as_ref().map_or(joint, |forest| forest.predict(scratch));
        // The shape features come first, so the shape-only forest reads the same vector.
        let global = self.global.predict(scratch) - base;
        Answers { base, own, joint, global }
    }
}

/// What members are trained on.
struct Lesson<'a> {
    rows: &'a Rows,
    skeleton: &'a [f64],
    anchors: &'a Interpolator,
    device: &'a Device,
    effort: Effort,
}

impl Lesson<'_> {
    fn question(&self, i: usize, pattern: usize) -> Question<'_> {
        Question {
            family: self.rows.family,
            dtype: self.rows.dtype,
            device: self.device,
            at: &self.rows.coordinates[i],
            pattern,
            bounds: self.rows.bounds[i],
            skeleton: self.skeleton[i],
        }
    }

    fn target(&self, i: usize) -> f64 {
        (self.rows.seconds[i] / self.skeleton[i]).ln()
    }

    /// Weighs the interpolations for one pattern and, where it is to have one, fits its own forest. An even
    /// share of the answers goes to `joint`.
    fn teach(&self, pattern: usize, wants_own: bool, joint: &mut Samples) -> (Vec<f64>, Option<Forest>) {
        let patterns = axes::patterns(self.rows.family);
        let quota = self.effort.joint_samples / patterns.len();
        let most = if wants_own { self.effort.own_samples } else { quota };
        let asked = ask(self.rows, self.skeleton, self.anchors, patterns[pattern], most);
        let weight = |i: usize| self.rows.weights[i];
        let pair = |(i, e): &(usize, Estimates)| Observation {
            x: e.values.clone(),
            y: self.target(*i),
            weight: weight(*i),
        };
        let pairs: Vec<Observation> = asked.iter().map(pair).collect();
        let stack = regression::robust_mean(&pairs, Interpolator::width(self.rows.family), STACK_PULL);
        let mut mine = Samples::default();
        let stride = (asked.len() as f64 / quota.max(1) as f64).max(1.0);
        let mut next = 0.0;
        for (at, (i, estimates)) in asked.iter().enumerate() {
            let base = regression::dot(&estimates.values, &stack);
            let shared = at as f64 >= next;
            if !(wants_own || shared) {
                continue;
            }
            let mut features = Vec::new();
            self.question(*i, pattern).features(estimates, base, &mut features);
            if shared {
                next += stride;
                joint.push(&features, self.target(*i) - base, weight(*i));
            }
            if wants_own {
                mine.push(&features, self.target(*i) - base, weight(*i));
            }
        }
        (stack, wants_own.then(|| mine.fit(self.effort, HUBER)))
    }

    /// The forest that starts from the skeleton alone.
    fn shape_only(&self) -> Forest {
        let mut shapes = Samples::default();
        for i in strided(self.rows.seconds.len(), self.effort.global_samples) {
            let mut features = Vec::new();
            self.question(i, 0).shape_features(&mut features);
            shapes.push(&features, self.target(i), self.rows.weights[i]);
        }
        shapes.fit(self.effort, HUBER_GLOBAL)
    }
}

/// Asks up to `most` rows, evenly spread, in the pattern `mask`. A row whose value on an axis is not among
/// the anchors' anyway is only asked in patterns that miss that axis.
fn ask(
    rows: &Rows,
    skeleton: &[f64],
    anchors: &Interpolator,
    mask: u8,
    most: usize,
) -> Vec<(usize, Estimates)> {
    let eligible: Vec<usize> =
        (0..rows.seconds.len()).filter(|&i| anchors.missing(&rows.coordinates[i]) & !mask == 0).collect();
    strided(eligible.len(), most)
        .filter_map(|j| {
            let i = eligible[j];
            Some((i, anchors.estimates(&rows.coordinates[i], skeleton[i], exclusion(mask))?))
        })
        .collect()
}

fn strided(len: usize, most: usize) -> impl Iterator<Item = usize> {
    let step = (len as f64 / most.max(1) as f64).max(1.0);
    (0..).map(move |j| (j as f64 * step) as usize).take_while(move |&i| i < len)
}

#[derive(Default)]
struct Samples {
    features: Vec<f32>,
    targets: Vec<f32>,
    weights: Vec<f32>,
}

impl Samples {
    fn push(&mut self, features: &[f32], target: f64, weight: f64) {
        self.features.extend_from_slice(features);
        self.targets.push(target as f32);
        self.weights.push(weight as f32);
    }

    fn fit(&self, effort: Effort, huber: f64) -> Forest {
        if self.targets.is_empty() {
            return Forest::default();
        }
        let width = self.features.len() / self.targets.len();
        let growth = effort.growth(self.targets.len(), huber);
        Forest::fit(&self.features, width, &self.targets, &self.weights, growth)
    }
}
