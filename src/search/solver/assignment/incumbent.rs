//! The best assignment so far, and the loss that another must stay below to matter.

use crate::search::solver::assignment::graph::Graph;
use crate::search::solver::assignment::problem::{Assignment, Problem};

/// Rounding of bounds, relative to the sum of the largest losses.
const ROUNDING: f64 = 1e-12;

pub(super) struct Incumbent<'a> {
    problem: &'a Problem,
    graph: &'a Graph,
    pub(super) best: Option<Assignment>,
    /// Bounds from here on need no further look.
    pub(super) to_beat: f64,
    margin: f64,
}

impl<'a> Incumbent<'a> {
    /// None yet; only losses below `cutoff` matter. An assignment that is better by no more than `tolerance` need not be
    /// found.
    pub(super) fn new(problem: &'a Problem, graph: &'a Graph, cutoff: Option<f64>, tolerance: f64) -> Self {
        let mut largest = vec![0.0f64; graph.positions];
        for arc in &graph.arcs {
            largest[arc.first] = largest[arc.first].max(arc.loss.abs());
        }
        let magnitude: f64 = largest.iter().sum();
        let margin = tolerance.max(ROUNDING * magnitude);
        // Beyond what any assignment loses: a bound up there proves that there is none.
        let to_beat = cutoff.map_or(magnitude + 1.0 + margin, |cutoff| cutoff - margin);
        Self { problem, graph, best: None, to_beat, margin }
    }

    /// Takes an assignment if it keeps the capacities and beats what is there.
    pub(super) fn offer(&mut self, assignment: Assignment) {
        let better = match &self.best {
            Some(best) => assignment.loss < best.loss,
            None => assignment.loss < self.to_beat + self.margin,
        };
        if better && self.problem.holds(&assignment) {
            self.to_beat = self.to_beat.min(assignment.loss - self.margin);
            self.best = Some(assignment);
        }
    }

    /// [`Self::offer`] of a path with these weights.
    pub(super) fn offer_path(&mut self, path: &[u32], usage: &[f64]) {
        if usage.iter().zip(&self.graph.capacities).all(|(sum, capacity)| sum <= capacity) {
            let picks = path.iter().map(|&arc| self.graph.arcs[arc as usize].pick).collect();
            if let Some(assignment) = self.problem.assignment(picks) {
                self.offer(assignment);
            }
        }
    }
}
