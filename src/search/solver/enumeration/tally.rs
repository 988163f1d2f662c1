//! What one thread has learnt from its slices; tallies merge in any order to the same whole.

use std::cmp::Ordering;

use crate::search::front::staircase::{Entry, Staircase};
use crate::search::solver::enumeration::sample::Sample;
use crate::search::solver::enumeration::{Options, Point, UniformObjective};
use crate::search::space::{AxisCounts, ShapeIndex};

/// A feasible shape in the order of preference: loss, tie value, rank.
#[derive(Clone, Copy, Debug)]
struct Preferred {
    loss: f64,
    tie: f64,
    rank: u64,
}

impl Preferred {
    fn order(&self, other: &Self) -> Ordering {
        let (a, b) = (self, other);
        a.loss.total_cmp(&b.loss).then(a.tie.total_cmp(&b.tie)).then(a.rank.cmp(&b.rank))
    }
}

pub(super) struct Tally {
    counts: AxisCounts,
    tolerance: f64,
    pub(super) enumerated: u64,
    pub(super) feasible: u64,
    pub(super) front: Staircase,
    pub(super) feasible_front: Staircase,
    /// Front of (loss, tie value) over feasible shapes: holds the choice for any tolerance.
    choice: Staircase,
    /// Best feasible shape of each (hidden size, depth).
    best: Vec<Option<Preferred>>,
    feasible_sample: Sample,
    infeasible_sample: Sample,
    /// Smallest rank whose objective is not a number.
    pub(super) unsound: Option<u64>,
}

impl Tally {
    pub(super) fn new(counts: AxisCounts, options: &Options) -> Self {
        let sample = Sample::new(options.sample, options.seed);
        Self {
            counts,
            tolerance: options.loss_tolerance.max(0.0),
            enumerated: 0,
            feasible: 0,
            front: Staircase::new(),
            feasible_front: Staircase::new(),
            choice: Staircase::new(),
            best: vec![None; counts.hidden * counts.layers],
            feasible_sample: sample.clone(),
            infeasible_sample: sample,
            unsound: None,
        }
    }

    /// Evaluates every shape of one slice.
    pub(super) fn visit<O: UniformObjective>(&mut self, objective: &O, hidden: usize, heads: usize) {
        let slice = objective.slice(hidden, heads);
        let first = self.counts.rank(ShapeIndex { hidden, heads, ffn: 0, layers: 0 });
        let mut rank = first;
        for ffn in 0..self.counts.ffn {
            for layers in 0..self.counts.layers {
                let point = objective.point(&slice, ffn, layers);
                if point.is_sound() {
                    self.count(point, rank, hidden * self.counts.layers + layers);
                } else if self.unsound.is_none_or(|earlier| rank < earlier) {
                    self.unsound = Some(rank);
                }
                rank += 1;
            }
        }
        self.enumerated += rank - first;
    }

    #[inline]
    fn count(&mut self, point: Point, rank: u64, pair: usize) {
        if !point.can_run() {
            return;
        }
        let entry = Entry { x: point.cost, y: point.loss, tie: point.tie, id: rank };
        self.front.offer(entry);
        if !point.is_feasible() {
            self.infeasible_sample.offer(rank);
            return;
        }
        self.feasible += 1;
        self.feasible_front.offer(entry);
        self.feasible_sample.offer(rank);
        let preferred = Preferred { loss: point.loss, tie: point.tie, rank };
        if let Some(best) = self.best.get_mut(pair)
            && best.is_none_or(|best| preferred.order(&best).is_lt())
        {
            *best = Some(preferred);
        }
        if self.smallest_loss().is_none_or(|least| point.loss <= least + self.tolerance) {
            self.choice.offer(Entry { x: point.loss, y: point.tie, tie: 0.0, id: rank });
        }
    }

    /// What both have learnt.
    pub(super) fn merge(mut self, other: Tally) -> Tally {
        self.enumerated += other.enumerated;
        self.feasible += other.feasible;
        self.front.merge(other.front);
        self.feasible_front.merge(other.feasible_front);
        self.choice.merge(other.choice);
        for (mine, theirs) in self.best.iter_mut().zip(other.best) {
            if theirs.is_some_and(|theirs| mine.is_none_or(|mine| theirs.order(&mine).is_lt())) {
                *mine = theirs;
            }
        }
        self.feasible_sample.merge(other.feasible_sample);
        self.infeasible_sample.merge(other.infeasible_sample);
        self.unsound = self.unsound.into_iter().chain(other.unsound).min();
        self
    }

    /// Smallest loss of a feasible shape.
    #[inline]
    pub(super) fn smallest_loss(&self) -> Option<f64> {
        self.choice.entries().first().map(|entry| entry.x)
    }

    /// Ranks of the finalists: the chosen shape, then the best of each other (hidden size, depth).
    pub(super) fn finalists(&self, options: &Options) -> Vec<u64> {
        let Some(least) = self.smallest_loss() else { return Vec::new() };
        // Tie values fall along the staircase, so the last of the near-equal losses has the smallest.
        let near = self.choice.entries().iter().take_while(|entry| entry.x <= least + self.tolerance);
        let Some(chosen) = near.last().map(|entry| entry.id) else { return Vec::new() };
        let pair = |rank: u64| self.counts.at(rank).map(|index| (index.hidden, index.layers));
        let mut others: Vec<Preferred> = self.best.iter().flatten().copied().collect();
        others.retain(|other| pair(other.rank) != pair(chosen));
        others.sort_by(Preferred::order);
        std::iter::once(chosen).chain(others.iter().map(|p| p.rank)).take(options.finalists).collect()
    }

    /// Ranks of the sampled shapes, ascending.
    pub(super) fn sampled(&self) -> Vec<u64> {
        let mut ranks: Vec<u64> =
            self.feasible_sample.members().chain(self.infeasible_sample.members()).collect();
        ranks.sort_unstable();
        ranks
    }
}
