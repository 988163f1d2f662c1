//! Which budgets stand in the way when no choice keeps them all.

use crate::plan::layerwise::error::LayerwiseError;
use crate::plan::layerwise::limits::{Limit, in_metric};
use crate::plan::layerwise::problem::{Node, Scene};
use crate::plan::record::layerwise::Short;
use crate::search::solver::assignment::problem::{AssignmentError, Outcome};
use crate::search::solver::assignment::{Options, Start, solve};

/// Budgets that cannot be met even alone; where each can, those that cannot be met beside all the others. None when
/// several must give way together.
///
/// # Errors
/// When the solver refuses a problem.
pub(super) fn shortfall(
    scene: &Scene<'_>,
    limits: &[Limit],
    options: Options,
) -> Result<Vec<Short>, LayerwiseError> {
    for alone in [true, false] {
        let mut short = Vec::new();
        for (at, limit) in limits.iter().enumerate() {
            let nearest = nearest(scene, limits, at, alone, options)?;
            if nearest > limit.capacity() && nearest.is_finite() {
                short.push(record(scene, limit, nearest, alone));
            }
        }
        if !short.is_empty() {
            return Ok(short);
        }
    }
    Ok(Vec::new())
}

fn record(scene: &Scene<'_>, limit: &Limit, nearest: f64, alone: bool) -> Short {
    let constraint = &scene.evaluator.constraints[limit.constraint];
    let nearest = in_metric(constraint, &scene.evaluator.settings[limit.scenario], nearest);
    Short {
        metric: constraint.metric,
        scenario: constraint.scenario,
        limit: constraint.limit,
        nearest,
        alone,
    }
}

/// The least value of a limited figure, or a bound of it: alone, or where all other limits are kept.
fn nearest(
    scene: &Scene<'_>,
    limits: &[Limit],
    at: usize,
    alone: bool,
    options: Options,
) -> Result<f64, LayerwiseError> {
    let mut nearest = f64::INFINITY;
    for offer in 0..scene.offers.len() {
        for node in scene.roots(offer, limits) {
            nearest = nearest.min(of_node(scene, &node, limits, at, alone, options)?);
        }
    }
    Ok(nearest)
}

/// The figure is the largest of its rows, hence no less than the least of each.
fn of_node(
    scene: &Scene<'_>,
    node: &Node,
    limits: &[Limit],
    at: usize,
    alone: bool,
    options: Options,
) -> Result<f64, LayerwiseError> {
    let whole = scene.build(node, limits);
    let mut most = f64::NEG_INFINITY;
    for row in (0..whole.limits.len()).filter(|&row| whole.limits[row] == at) {
        let mut built = scene.build(node, limits);
        built.minimise(row);
        for other in (0..whole.limits.len()).filter(|&other| alone || whole.limits[other] == at) {
            built.free(other);
        }
        built.free_slack();
        let least = match solve(&built.problem, &Start::default(), &options) {
            Ok(Outcome::Solved(solution)) => solution.bound,
            Ok(Outcome::Unknown { bound, .. }) => bound,
            Ok(Outcome::Infeasible(_) | Outcome::NoneBetter) | Err(AssignmentError::Uncovered { .. }) => {
                f64::INFINITY
            }
            Err(error) => return Err(error.into()),
        };
        most = most.max(least + whole.constants[row]);
    }
    Ok(most)
}
