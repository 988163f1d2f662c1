//! Exact search over uniform shapes: evaluates every one, in parallel.
//!
//! Feasible when the objective decomposes: [`UniformObjective::slice`] does once per (hidden size, heads) what
//! does not depend on FFN width and depth, and [`UniformObjective::point`] finishes a shape with a few
//! operations. The outcome does not depend on the number of threads: nothing is summed, and every tie is broken
//! by the rank of the shape.
//!
//! Deliberately absent: pruning of the enumeration by bounds (it would need monotone costs, which measured
//! kernels are not).

mod sample;
pub mod shortfall;
mod tally;

use rayon::prelude::*;

use crate::search::front::staircase::Staircase;
use crate::search::solver::enumeration::shortfall::Shortfall;
use crate::search::solver::enumeration::tally::Tally;
use crate::search::space::{AxisCounts, ShapeIndex};

/// What an objective says of one shape. Everything is to be minimised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// First axis of the front, such as seconds per token. Infinite when the shape cannot run at all: it is then
    /// infeasible and on no front.
    pub cost: f64,
    /// Second axis of the front, and what the search minimises, such as the increase of the training loss.
    pub loss: f64,
    /// Prefers one of two shapes of (nearly) the same loss, such as the relative width of its latency interval.
    pub tie: f64,
    /// Largest share of a budget that the shape uses: metric / limit, or limit / metric where more is better.
    /// The shape is feasible when this is at most 1. Zero without budgets; may be infinite.
    pub usage: f64,
}

impl Point {
    /// The shape keeps every budget.
    pub fn is_feasible(&self) -> bool {
        self.usage <= 1.0 && self.can_run()
    }

    /// The shape runs at all.
    pub fn can_run(&self) -> bool {
        self.cost < f64::INFINITY
    }

    fn is_sound(&self) -> bool {
        !self.cost.is_nan() && self.loss.is_finite() && self.tie.is_finite() && !self.usage.is_nan()
    }
}

/// An objective over uniform shapes that does its work per (hidden size, heads) once.
pub trait UniformObjective: Sync {
    /// What is known once hidden size and heads are.
    type Slice;

    /// Work shared by all shapes of one hidden size and pair of head counts (positions on the axes).
    fn slice(&self, hidden: usize, heads: usize) -> Self::Slice;

    /// One shape of the slice (positions on the FFN and depth axes).
    fn point(&self, slice: &Self::Slice, ffn: usize, layers: usize) -> Point;

    /// Number of budgets.
    fn budgets(&self) -> usize;

    /// Share of each budget that one shape uses (see [`Point::usage`], their maximum), into `usages`, which
    /// has [`Self::budgets`] places.
    fn usages(&self, slice: &Self::Slice, ffn: usize, layers: usize, usages: &mut [f64]);
}

/// How to enumerate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Most finalists to return.
    pub finalists: usize,
    /// Losses this close to the smallest feasible one count as equal to it: of those shapes the one with the
    /// smallest tie value is chosen. Zero: the smallest loss alone counts.
    pub loss_tolerance: f64,
    /// Most sampled shapes of each class (feasible, infeasible) to return.
    pub sample: usize,
    /// Seed of the sample.
    pub seed: u64,
}

/// A shape and what the objective says of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The shape.
    pub index: ShapeIndex,
    /// Its objective values.
    pub point: Point,
}

/// Everything learnt by evaluating every shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Enumeration {
    /// Number of shapes evaluated: all of them.
    pub enumerated: u64,
    /// Number that keep every budget.
    pub feasible: u64,
    /// Exact Pareto front of (cost, loss) over all shapes, ascending in cost.
    pub front: Vec<Candidate>,
    /// Exact Pareto front over the feasible shapes, ascending in cost.
    pub feasible_front: Vec<Candidate>,
    /// The chosen shape, then the best feasible shape of each other pair of (hidden size, depth), by loss: no
    /// two finalists share both. Empty when nothing is feasible.
    pub finalists: Vec<Candidate>,
    /// Smallest loss of a feasible shape.
    pub smallest_loss: Option<f64>,
    /// A uniform random sample of feasible and one of infeasible shapes, in order of rank.
    pub sample: Vec<Candidate>,
    /// Why nothing is feasible, if nothing is.
    pub shortfall: Option<Shortfall>,
}

/// The objective is not a number somewhere, or a loss or tie value is infinite.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the objective is not a number at {index:?}: {point:?}")]
pub struct NotANumber {
    /// The first such shape.
    pub index: ShapeIndex,
    /// What the objective said.
    pub point: Point,
}

/// Evaluates every shape. `counts` are the axis lengths the objective was made for.
pub fn enumerate<O: UniformObjective>(
    counts: AxisCounts,
    objective: &O,
    options: &Options,
) -> Result<Enumeration, NotANumber> {
    let tally = for_every_slice(
        counts,
        || Tally::new(counts, options),
        |tally, hidden, heads| {
            tally.visit(objective, hidden, heads);
        },
        Tally::merge,
    );
    let candidate = |rank: u64| {
        let index = counts.at(rank)?;
        Some(Candidate { index, point: evaluate(objective, index) })
    };
    if let Some(Candidate { index, point }) = tally.unsound.and_then(candidate) {
        return Err(NotANumber { index, point });
    }
    let front = |stairs: &Staircase| stairs.entries().iter().filter_map(|e| candidate(e.id)).collect();
    let shortfall = (tally.feasible == 0 && counts.size() > 0).then(|| Shortfall::find(counts, objective));
    Ok(Enumeration {
        enumerated: tally.enumerated,
        feasible: tally.feasible,
        front: front(&tally.front),
        feasible_front: front(&tally.feasible_front),
        finalists: tally.finalists(options).into_iter().filter_map(candidate).collect(),
        smallest_loss: tally.smallest_loss(),
        sample: tally.sampled().into_iter().filter_map(candidate).collect(),
        shortfall,
    })
}

/// The objective at one shape, by the same steps as the enumeration.
pub fn evaluate<O: UniformObjective>(objective: &O, index: ShapeIndex) -> Point {
    objective.point(&objective.slice(index.hidden, index.heads), index.ffn, index.layers)
}

/// Folds all (hidden size, heads) slices in parallel; `merge` must not care about order.
fn for_every_slice<T: Send>(
    counts: AxisCounts,
    empty: impl Fn() -> T + Sync + Send,
    visit: impl Fn(&mut T, usize, usize) + Sync + Send,
    merge: impl Fn(T, T) -> T + Sync + Send,
) -> T {
    let slices = counts.hidden * counts.heads;
    (0..slices)
        .into_par_iter()
        .with_min_len(slices.div_ceil(64).max(1))
        .fold(&empty, |mut tally, slice| {
            visit(&mut tally, slice / counts.heads, slice % counts.heads);
            tally
        })
        .reduce(&empty, merge)
}

#[cfg(test)]
mod tests;
