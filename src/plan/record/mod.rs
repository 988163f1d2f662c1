//! The record of one search, as it stands in `plan.json`: the result with its recipe.
//!
//! Every field is written and read back, so a plan can be drawn again later from its file alone. The same
//! input, seed and version give the same bytes but for [`Search::elapsed_s`], the only clock in the record.
//! Keys are documented in `docs/formats.md`.
//!
//! Deliberately absent: how any number comes about (see [`crate::hardware`], [`crate::quality`],
//! [`crate::search`]) and any file access (see [`crate::report`]).

pub mod candidate;
pub mod layerwise;
pub mod recipe;

use serde::{Deserialize, Serialize};

use crate::estimate::Estimate;
use crate::plan::record::candidate::{Candidate, Point, Shape, TriedShape};
use crate::plan::record::layerwise::PerLayer;
use crate::plan::record::recipe::Recipe;
use crate::units::{self, Bytes, Seconds};

/// One search: recipe, space, outcome and candidates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What was asked, of which version, with which data.
    pub recipe: Recipe,
    /// The deployments the shape must hold on: every target with every workload, targets outermost.
    pub scenarios: Vec<Scenario>,
    /// What was searched.
    pub space: Space,
    /// How it was searched.
    pub search: Search,
    /// How it ended.
    pub outcome: Outcome,
    /// The unpruned model.
    pub parent: Candidate,
    /// The shape to prune to; `None` when infeasible.
    pub chosen: Option<Candidate>,
    /// Each budget with its verdict on the chosen shape.
    pub budgets: Vec<Budget>,
    /// Where the front bends most: the best trade without a budget.
    pub knee: Option<Candidate>,
    /// Accuracy-throughput Pareto front of the whole space, fastest first. Throughput is the least
    /// speedup over the scenarios.
    pub front: Vec<Candidate>,
    /// Best feasible shapes, evaluated again on the slow path; best first.
    pub finalists: Vec<Finalist>,
    /// Shapes that were really pruned to and measured, in the order of the study.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<TriedShape>,
    /// A shape for each layer, where that was asked for and one keeps the budgets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_layer: Option<Box<PerLayer>>,
    /// A sample of the rest of the space, for the picture.
    pub sample: Vec<Point>,
}

/// One target with one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Short name, unique in the plan: `h200_sxm tp4 int8, batch 64, 2048+1024`.
    pub name: String,
    /// Index into `recipe.request.targets`.
    pub target: usize,
    /// Index into `recipe.request.workloads`.
    pub workload: usize,
}

/// The search space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// Number of allowed shapes.
    pub size: u64,
    /// The axes.
    pub axes: Vec<Axis>,
    /// Rules between axes, such as divisibility by the tensor-parallel degree, in words.
    pub rules: Vec<String>,
}

/// One axis of the search space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// `layers`, `hidden`, `ffn`, `q_heads` or `kv_heads`.
    pub name: String,
    /// The parent's value.
    pub parent: u64,
    /// Allowed values, ascending.
    pub values: Vec<u64>,
    /// The multiple they keep.
    pub multiple: u64,
}

/// How the space was searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Wall-clock time of the search. The only value of a plan that differs between two equal runs.
    pub elapsed_s: f64,
    /// How, such as `exact enumeration over per-axis tables`.
    pub method: String,
    /// Shapes evaluated.
    pub enumerated: u64,
    /// Shapes that meet every budget.
    pub feasible: u64,
    /// What is proven, such as `proven by enumeration of 5242880 shapes`.
    pub optimality: String,
}

/// How the search ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// A shape was chosen.
    Done,
    /// No allowed shape meets every budget.
    Infeasible {
        /// The budgets that bind, hardest first.
        binding: Vec<Binding>,
    },
}

/// A budget that no allowed shape meets, alone or together with the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// What is limited.
    pub metric: Metric,
    /// The scenario it fails on; `None` for a limit that needs none.
    pub scenario: Option<usize>,
    /// The limit, in the unit of the metric.
    pub limit: f64,
    /// The nearest value any allowed shape reaches (with the other budgets met, where any shape meets them).
    pub nearest: f64,
    /// The shape that reaches it.
    pub shape: Shape,
}

/// What a budget limits, and the unit of its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Time to first token, at most.
    TtftMs,
    /// Time per output token, at most.
    TpotMs,
    /// Time of a whole request, at most.
    LatencyMs,
    /// Throughput of the replica, at least.
    OutputTokensPerS,
    /// Parameters, at most.
    Params,
    /// Memory of one device, at most.
    MemoryGib,
    /// Output throughput against the parent's in the same scenario, at least.
    Speedup,
}

impl Metric {
    /// Every metric, in the order they are listed to people.
    pub const ALL: [Metric; 7] = [
        Metric::TtftMs,
        Metric::TpotMs,
        Metric::LatencyMs,
        Metric::OutputTokensPerS,
        Metric::Params,
        Metric::MemoryGib,
        Metric::Speedup,
    ];

    /// Key in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Metric::TtftMs => "ttft_ms",
            Metric::TpotMs => "tpot_ms",
            Metric::LatencyMs => "latency_ms",
            Metric::OutputTokensPerS => "output_tokens_per_s",
            Metric::Params => "params",
            Metric::MemoryGib => "memory_gib",
            Metric::Speedup => "speedup",
        }
    }

    /// The limit is a lower one.
    pub fn at_least(self) -> bool {
        matches!(self, Metric::OutputTokensPerS | Metric::Speedup)
    }

    /// Name for people.
    pub fn label(self) -> &'static str {
        match self {
            Metric::TtftMs => "TTFT",
            Metric::TpotMs => "TPOT",
            Metric::LatencyMs => "latency",
            Metric::OutputTokensPerS => "throughput",
            Metric::Params => "parameters",
            Metric::MemoryGib => "memory per device",
            Metric::Speedup => "speedup",
        }
    }

    /// A value of this metric with its unit, for people.
    pub fn format(self, value: f64) -> String {
        match self {
            Metric::TtftMs | Metric::TpotMs | Metric::LatencyMs => Seconds::from_ms(value).to_string(),
            Metric::OutputTokensPerS => units::format_tokens_per_second(value),
            Metric::Params => units::format_count(value),
            Metric::MemoryGib => Bytes::from_gib(value).to_string(),
            Metric::Speedup => format!("{value:.3}×"),
        }
    }

    /// A limit in words: `TPOT ≤ 20 ms`.
    pub fn limit(self, limit: f64) -> String {
        let relation = if self.at_least() { "≥" } else { "≤" };
        format!("{} {relation} {}", self.label(), self.format(limit))
    }
}

/// A budget and how the chosen shape stands to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What is limited.
    pub metric: Metric,
    /// The limit, in the unit of the metric.
    pub limit: f64,
    /// What was typed.
    pub typed: String,
    /// The chosen shape against the limit, one per scenario (one in all for `params`); empty when infeasible.
    pub checks: Vec<Check>,
}

/// The chosen shape against one budget in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Index into `scenarios`; `None` for a limit that needs none.
    pub scenario: Option<usize>,
    /// The chosen shape's value, in the unit of the metric.
    pub value: Estimate,
    /// Chance that the budget holds, 0 to 1, from the estimate's interval.
    pub probability: f64,
}

/// A shape evaluated again on the slow path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finalist {
    /// The shape with its slow-path values.
    pub candidate: Candidate,
    /// Slow-path throughput against the search's own figure, percent; worst scenario.
    pub disagreement_percent: f64,
    /// Share of its time that comes from calls outside the range of the measured rows, percent; worst scenario.
    pub extrapolated_percent: f64,
    /// Chance that all budgets hold together, 0 to 1 (the least over budgets and scenarios).
    pub probability: f64,
}
