//! One capacity swept over a range: the exact least loss at each, every solve starting where the last one ended.

use crate::search::solver::assignment::problem::{AssignmentError, Outcome, Problem, Solution};
use crate::search::solver::assignment::{Options, Start, solve};

/// The answer at one capacity.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontPoint {
    /// The capacity of the swept constraint.
    pub capacity: f64,
    /// The answer.
    pub outcome: Outcome,
}

/// Solves `problem` at each capacity of one constraint; answers are in the order asked.
///
/// From the loosest to the tightest: an answer that keeps the next capacity too is the answer there, and where one is
/// infeasible all tighter ones are.
///
/// # Errors
/// When the problem makes no sense or lacks the constraint.
pub fn front(
    problem: &Problem,
    constraint: usize,
    capacities: &[f64],
    options: &Options,
) -> Result<Vec<FrontPoint>, AssignmentError> {
    let constraints = problem.capacities.len();
    if constraint >= constraints {
        return Err(AssignmentError::NoConstraint { constraint, constraints });
    }
    let mut order: Vec<usize> = (0..capacities.len()).collect();
    order.sort_by(|&a, &b| capacities[b].total_cmp(&capacities[a]).then(a.cmp(&b)));
    let mut problem = problem.clone();
    let mut points: Vec<Option<FrontPoint>> = vec![None; capacities.len()];
    let mut last: Option<Outcome> = None;
    for at in order {
        problem.capacities[constraint] = capacities[at];
        let outcome = match last {
            Some(Outcome::Solved(known)) if problem.holds(&known.assignment) => Outcome::Solved(known),
            Some(Outcome::Infeasible(short)) if short.is_empty() => Outcome::Infeasible(short),
            known => solve(&problem, &after(known), options)?,
        };
        points[at] = Some(FrontPoint { capacity: capacities[at], outcome: outcome.clone() });
        last = Some(outcome);
    }
    Ok(points.into_iter().flatten().collect())
}

fn after(known: Option<Outcome>) -> Start {
    match known {
        Some(Outcome::Solved(Solution { multipliers, .. })) => {
            Start { multipliers: Some(multipliers), ..Start::default() }
        }
        _ => Start::default(),
    }
}
