//! How a shape stands to the budgets, and which budgets bind when no shape meets them.

use crate::plan::budget::Constraint;
use crate::plan::evaluation::{Evaluated, Evaluator, counted};
use crate::plan::objective::Objective;
use crate::plan::record::candidate::{Candidate, Metrics, Shape};
use crate::plan::record::{Binding, Budget, Check, Metric};
use crate::search::solver::enumeration::UniformObjective;
use crate::search::solver::enumeration::shortfall::{Reach, Shortfall, Usage};
use crate::search::space::{SearchSpace, ShapeIndex};

/// A shape against one constraint.
fn check(evaluator: &Evaluator<'_>, constraint: &Constraint, evaluated: &Evaluated) -> Option<Check> {
    let candidate = &evaluated.candidate;
    let figure = evaluator.figure(constraint, &evaluated.predictions, candidate.params)?;
    let value = match constraint.scenario {
        Some(scenario) => estimate(constraint.metric, candidate.metrics.get(scenario)?, candidate),
        None => counted(candidate.params),
    };
    Some(Check { scenario: constraint.scenario, value, probability: constraint.probability(figure) })
}

fn estimate(metric: Metric, metrics: &Metrics, candidate: &Candidate) -> crate::estimate::Estimate {
    match metric {
        Metric::TtftMs => metrics.ttft_ms,
        Metric::TpotMs => metrics.tpot_ms,
        Metric::LatencyMs => metrics.latency_ms,
        Metric::OutputTokensPerS => metrics.output_tokens_per_s,
        Metric::Params => counted(candidate.params),
        Metric::MemoryGib => metrics.memory_gib,
        Metric::Speedup => metrics.speedup,
    }
}

/// Fills in how a shape stands to each budget.
pub(super) fn with_checks(
    evaluator: &Evaluator<'_>,
    mut budgets: Vec<Budget>,
    evaluated: &Evaluated,
) -> Vec<Budget> {
    for constraint in &evaluator.constraints {
        if let Some(budget) = budgets.get_mut(constraint.budget) {
            budget.checks.extend(check(evaluator, constraint, evaluated));
        }
    }
    budgets
}

/// Chance that all budgets hold: that of the least likely one, since their errors come together.
pub(super) fn probability(evaluator: &Evaluator<'_>, evaluated: &Evaluated) -> f64 {
    let checks = evaluator.constraints.iter().filter_map(|c| check(evaluator, c, evaluated));
    checks.map(|check| check.probability).fold(1.0, f64::min)
}

/// The budgets that keep every shape from being feasible, hardest first: those that no shape meets alone, and those
/// that alone stand in the way of shapes that meet all others. Where several must give way together, those that the
/// nearest shape exceeds.
pub(super) fn binding(
    space: &SearchSpace,
    objective: &Objective<'_>,
    constraints: &[Constraint],
    shortfall: &Shortfall,
) -> Vec<Binding> {
    let named = |c: &Constraint, usage: Usage| Some((*c, usage.share, shape_at(space, usage.index)?));
    let mut found: Vec<(Constraint, f64, Shape)> = constraints
        .iter()
        .zip(&shortfall.budgets)
        .filter_map(|(c, Reach { alone, beside_others })| {
            let hopeless = alone.filter(|usage| usage.share > 1.0);
            named(c, beside_others.or(hopeless)?)
        })
        .collect();
    if let (true, Some(nearest)) = (found.is_empty(), shortfall.nearest) {
        let index = nearest.index;
        let mut usages = vec![0.0; constraints.len()];
        let slice = objective.slice(index.hidden, index.heads);
        objective.usages(&slice, index.ffn, index.layers, &mut usages);
        let exceeded = constraints.iter().zip(usages).filter(|(_, share)| *share > 1.0);
        found = exceeded.filter_map(|(c, share)| named(c, Usage { share, index })).collect();
    }
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    let binding = |(c, share, shape): (Constraint, f64, Shape)| Binding {
        metric: c.metric,
        scenario: c.scenario,
        limit: c.limit,
        nearest: c.nearest(share),
        shape,
    };
    found.into_iter().map(binding).collect()
}

/// The shape at an index of the space.
pub(super) fn shape_at(space: &SearchSpace, index: ShapeIndex) -> Option<Shape> {
    Shape::of(&space.architecture(index)?)
}
