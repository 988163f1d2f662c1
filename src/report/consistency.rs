//! Whether the parts of a plan that was read from a file fit together.

use crate::estimate::Estimate;
use crate::plan::record::candidate::{Candidate, Metrics, Point};
use crate::plan::record::{Outcome, Plan};

/// No time, rate or size of a plan comes near this, in any unit; a picture could not be laid out beyond it.
const LARGEST: f64 = 1e15;

/// The first part that contradicts another one: its key and what is wrong with it.
pub fn fault(plan: &Plan) -> Option<String> {
    let scenarios = plan.scenarios.len();
    if scenarios == 0 {
        return Some("scenarios: there are none".to_string());
    }
    let done = matches!(plan.outcome, Outcome::Done);
    if done != plan.chosen.is_some() {
        return Some(format!("chosen: {} with this outcome", if done { "missing" } else { "not expected" }));
    }
    let named = [Some(("parent", &plan.parent)), plan.chosen.as_ref().map(|c| ("chosen", c))];
    let named = named.into_iter().flatten().chain(plan.knee.as_ref().map(|c| ("knee", c)));
    let named = named.map(|(key, c)| (key.to_string(), c));
    let front = plan.front.iter().enumerate().map(|(i, c)| (format!("front[{i}]"), c));
    let finalists = plan.finalists.iter().enumerate();
    let finalists = finalists.map(|(i, f)| (format!("finalists[{i}].candidate"), &f.candidate));
    let mut candidates = named.chain(front).chain(finalists);
    candidates
        .find_map(|(key, c)| of_candidate(c, scenarios).map(|what| format!("{key}: {what}")))
        .or_else(|| of_sample(plan))
        .or_else(|| of_budgets(plan))
}

fn of_candidate(candidate: &Candidate, scenarios: usize) -> Option<String> {
    let found = candidate.metrics.len();
    if found != scenarios {
        return Some(format!("metrics: {found} entries for {scenarios} scenarios"));
    }
    if let Some(c) = candidate.breakdown.iter().find(|c| c.scenario >= scenarios) {
        return Some(format!("breakdown: scenario {} of {scenarios} (counted from 0)", c.scenario));
    }
    let quality = &candidate.quality;
    let estimates = [quality.loss_increase_nats, quality.accuracy_retained_percent];
    let all = estimates.into_iter().chain(candidate.metrics.iter().flat_map(every));
    all.into_iter().find_map(of_estimate)
}

fn of_estimate(e: Estimate) -> Option<String> {
    let Estimate { value, low, high, .. } = e;
    if let Some(beyond) = [value, low, high].into_iter().find(|v| v.abs() > LARGEST) {
        return Some(format!("{beyond:e} is no possible value"));
    }
    let crossed = low > value || value > high;
    crossed.then(|| format!("an interval does not hold its value: {value} in {low}–{high}"))
}

fn every(m: &Metrics) -> [Estimate; 6] {
    [m.ttft_ms, m.tpot_ms, m.latency_ms, m.output_tokens_per_s, m.memory_gib, m.speedup]
}

fn of_sample(plan: &Plan) -> Option<String> {
    plan.sample.iter().enumerate().find_map(|(i, p)| Some(format!("sample[{i}]: {}", of_point(p, plan)?)))
}

fn of_point(point: &Point, plan: &Plan) -> Option<String> {
    let (found, scenarios) = (point.metrics.len(), plan.scenarios.len());
    if found != scenarios {
        return Some(format!("metrics: {found} entries for {scenarios} scenarios"));
    }
    let metrics = point
        .metrics
        .iter()
        .flat_map(|m| [m.ttft_ms, m.tpot_ms, m.latency_ms, m.output_tokens_per_s, m.memory_gib]);
    let beyond = metrics.chain([point.accuracy_retained_percent]).find(|v| v.abs() > LARGEST)?;
    Some(format!("{beyond:e} is no possible value"))
}

fn of_budgets(plan: &Plan) -> Option<String> {
    let scenarios = plan.scenarios.len();
    let checks = plan.budgets.iter().flat_map(|b| &b.checks).map(|c| c.scenario);
    let binding = match &plan.outcome {
        Outcome::Done => &[][..],
        Outcome::Infeasible { binding } => binding,
    };
    let outside =
        checks.chain(binding.iter().map(|b| b.scenario)).flatten().find(|&index| index >= scenarios)?;
    Some(format!("budgets: scenario {outside} of {scenarios} (counted from 0)"))
}
