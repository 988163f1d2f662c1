//! Budgets as limits on sums over layers: throughput and speedup become the longest time they allow.

use crate::model::workload::Load;
use crate::plan::budget::Constraint;
use crate::plan::evaluation::{Evaluator, Setting};
use crate::plan::layerwise::forms::Quantity;
use crate::plan::record::Metric;
use crate::units::{Bytes, Seconds};

/// Relative difference that adding up the layers in another order may make to a time; a shape that exceeds a limit by
/// no more is the shape that keeps it.
const ROUNDING: f64 = 1e-9;

/// The tightest limit on one figure in one scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) scenario: usize,
    pub(super) quantity: Quantity,
    /// Seconds, bytes or parameters.
    pub(super) most: f64,
    /// The constraint it is from.
    pub(super) constraint: usize,
}

impl Limit {
    /// The limit with room for rounding.
    pub(super) fn capacity(&self) -> f64 {
        match self.quantity {
            Quantity::Memory | Quantity::Params => self.most,
            _ => self.most * (1.0 + ROUNDING),
        }
    }
}

/// Output tokens of a batch, or of one request in every slot.
fn work(setting: &Setting<'_>) -> f64 {
    let (Load::Batch(sequences) | Load::Concurrency(sequences)) = setting.workload.load;
    sequences as f64 * setting.workload.output as f64
}

/// The figure a constraint looks at, and its limit in seconds, bytes or parameters.
fn limit(constraint: &Constraint, setting: &Setting<'_>) -> (Quantity, f64) {
    let limit = constraint.limit;
    match constraint.metric {
        Metric::TtftMs => (Quantity::Ttft, Seconds::from_ms(limit).0),
        Metric::TpotMs => (Quantity::Tpot, Seconds::from_ms(limit).0),
        Metric::LatencyMs => (Quantity::Latency, Seconds::from_ms(limit).0),
        Metric::OutputTokensPerS => (Quantity::Latency, work(setting) / limit),
        Metric::Speedup => (Quantity::Latency, work(setting) / (limit * setting.parent.output_tokens_per_s)),
        Metric::MemoryGib => (Quantity::Memory, Bytes::from_gib(limit).0),
        Metric::Params => (Quantity::Params, limit),
    }
}

/// A value in seconds, bytes or parameters in the unit of the constraint's metric.
pub(super) fn in_metric(constraint: &Constraint, setting: &Setting<'_>, value: f64) -> f64 {
    match constraint.metric {
        Metric::TtftMs | Metric::TpotMs | Metric::LatencyMs => Seconds(value).ms(),
        Metric::OutputTokensPerS => work(setting) / value,
        Metric::Speedup => work(setting) / (value * setting.parent.output_tokens_per_s),
        Metric::MemoryGib => Bytes(value).gib(),
        Metric::Params => value,
    }
}

/// The limits of every constraint, the tightest of those on one figure in one scenario.
pub(super) fn limits(evaluator: &Evaluator<'_>) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    for (at, constraint) in evaluator.constraints.iter().enumerate() {
        let scenario = constraint.scenario.unwrap_or(0);
        let Some(setting) = evaluator.settings.get(scenario) else { continue };
        let (quantity, most) = limit(constraint, setting);
        match limits.iter_mut().find(|known| (known.scenario, known.quantity) == (scenario, quantity)) {
            Some(known) if known.most <= most => {}
            Some(known) => (known.most, known.constraint) = (most, at),
            None => limits.push(Limit { scenario, quantity, most, constraint: at }),
        }
    }
    limits
}
