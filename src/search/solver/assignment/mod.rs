//! One choice per group under several limited sums: the multiple-choice knapsack with side constraints, to proven
//! optimality.
//!
//! Choices that another beats go first. A Lagrangian dual prices the capacities; what the prices rule out is fixed; branch
//! and bound with the prices raised again at every node does the rest. Capacities whose weights are whole multiples of one
//! step (parameters, bytes) are rounded down to a multiple, without which the bound would hang between two of them.
//! Everything is deterministic: the search is limited by nodes, not by time, and says how far it came.
//!
//! Deliberately absent: parallelism, and constraints between groups other than runs.

mod branch;
mod exhaust;
pub mod front;
mod graph;
mod heuristic;
mod incumbent;
mod lattice;
pub mod problem;
mod relaxation;
#[cfg(test)]
mod tests;

use crate::search::solver::assignment::branch::{Search, Searched};
use crate::search::solver::assignment::graph::Graph;
use crate::search::solver::assignment::incumbent::Incumbent;
use crate::search::solver::assignment::problem::{
    Assignment, AssignmentError, Outcome, Pick, Problem, Solution,
};

/// How far to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Nodes visited at most.
    pub nodes: u64,
    /// What an assignment may lose beyond the least, in the unit of the loss; 0: nothing but rounding.
    pub tolerance: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 1_000_000, tolerance: 0.0 }
    }
}

/// What is known beforehand; nothing of it changes the loss of the answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Start {
    /// Multipliers of a similar problem, one per capacity.
    pub multipliers: Option<Vec<f64>>,
    /// An assignment that may keep the capacities.
    pub picks: Option<Vec<Pick>>,
    /// Only losses below this matter.
    pub cutoff: Option<f64>,
}

/// Finds the assignment that loses least within the capacities.
///
/// # Errors
/// When the problem makes no sense. That no assignment keeps the capacities is an outcome.
pub fn solve(problem: &Problem, start: &Start, options: &Options) -> Result<Outcome, AssignmentError> {
    solve_until(problem, start, options, &|_| false)
}

/// The same, but ends unproven where `enough`, asked now and then, says so of the best assignment: for callers that learn
/// from a near answer what they would from a proven one.
///
/// # Errors
/// As [`solve`].
pub fn solve_until(
    problem: &Problem,
    start: &Start,
    options: &Options,
    enough: &dyn Fn(&Assignment) -> bool,
) -> Result<Outcome, AssignmentError> {
    problem.check()?;
    let graph = match Graph::of(problem) {
        Ok(graph) => graph,
        Err(short) => return Ok(Outcome::Infeasible(short)),
    };
    let mut incumbent = Incumbent::new(problem, &graph, start.cutoff, options.tolerance);
    if let Some(assignment) = start.picks.clone().and_then(|picks| problem.assignment(picks)) {
        incumbent.offer(assignment);
    }
    let priced = |row: usize| {
        let known = start.multipliers.as_ref().and_then(|m| m.get(graph.constraints[row]));
        known.filter(|price| price.is_finite()).map_or(0.0, |price| price.max(0.0) * graph.units[row])
    };
    let multipliers = (0..graph.rows).map(priced).collect();
    let found = Search::new(&graph, &mut incumbent).run(multipliers, options.nodes, enough);
    Ok(outcome(problem, &graph, incumbent, start, found, options))
}

fn outcome(
    problem: &Problem,
    graph: &Graph,
    incumbent: Incumbent<'_>,
    start: &Start,
    found: Searched,
    options: &Options,
) -> Outcome {
    let Searched { open, nodes, multipliers: rows, root } = found;
    let Some(assignment) = incumbent.best else {
        return match (open.is_finite(), start.cutoff) {
            (true, _) => Outcome::Unknown { bound: open, nodes },
            (false, Some(_)) => Outcome::NoneBetter,
            (false, None) => Outcome::Infeasible(Vec::new()),
        };
    };
    let mut multipliers = vec![0.0; problem.capacities.len()];
    for ((constraint, price), unit) in graph.constraints.iter().zip(rows).zip(&graph.units) {
        multipliers[*constraint] = price / unit;
    }
    // What was cut off lies no deeper than the tolerance below the answer; what is open no deeper than its own bound.
    let loss = assignment.loss;
    let bound = open.min((loss - options.tolerance).max(root.min(loss))).min(loss);
    let proven = open.is_infinite();
    Outcome::Solved(Solution { assignment, bound, gap: loss - bound, nodes, proven, multipliers })
}
