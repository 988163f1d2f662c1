//! What a search with one choice per layer found, as plain data.

use serde::{Deserialize, Serialize};

use crate::estimate::Estimate;
use crate::model::architecture::{Architecture, LayerShape};
use crate::plan::record::Metric;
use crate::plan::record::candidate::Metrics;

/// The best choice for every layer of the parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layerwise {
    /// Position of the menu it is from (one menu per hidden size).
    pub menu: usize,
    /// The child: dropped layers are absent, and it is uniform where all that stay are alike.
    pub architecture: Architecture,
    /// The parent's layer (from 0) that each layer of the child is.
    pub parents: Vec<u64>,
    /// What was chosen for each layer of the parent, first layer first.
    pub picks: Vec<LayerPick>,
    /// Parameters, embeddings included.
    pub params: u64,
    /// Sum of the measured losses, nats per token, with its 90 % interval as if their errors were independent.
    pub loss_increase_nats: Estimate,
    /// One standard deviation of that sum.
    pub loss_sd_nats: f64,
    /// Cost in each scenario, predicted in full.
    pub metrics: Vec<Metrics>,
    /// Every budget in every scenario.
    pub limits: Vec<LimitState>,
    /// What is proven.
    pub search: LayerSearch,
    /// Largest relative difference between the search's own figures and the full prediction, percent.
    pub disagreement_percent: f64,
}

/// The answer of a search per layer beside that of the uniform one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerLayer {
    /// What is to load it.
    pub loadable: String,
    /// The answer.
    pub found: Layerwise,
    /// Its loss with interactions, nats a token.
    pub predicted_loss_nats: Estimate,
    /// Its loss as measured, where it was tried, nats a token.
    pub measured_loss_nats: Option<Estimate>,
    /// It loses less than the uniform shape, and is the target.
    pub preferred: bool,
}

/// What was chosen for one layer of the parent, or for a run of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerPick {
    /// The parent's layer, from 0; the first of a run.
    pub layer: u64,
    /// Layers it stands for: 1, or those of a run that is dropped together.
    pub layers: u64,
    /// Position among the menu's choices of the layer; of a run that is dropped together, among the menu's drops.
    pub choice: usize,
    /// The shape; absent where the layer is dropped.
    pub shape: Option<LayerShape>,
    /// What it loses, nats per token.
    pub loss_nats: f64,
    /// One standard deviation of that.
    pub sd_nats: f64,
}

/// How far the search came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSearch {
    /// No choice within the budgets loses less than this, nats per token.
    pub bound_nats: f64,
    /// What the answer loses beyond the bound.
    pub gap_nats: f64,
    /// The search ended before its limit of nodes.
    pub proven: bool,
    /// Nodes visited, over all problems.
    pub nodes: u64,
    /// Problems solved: hidden sizes, sides of a bend in a figure, and widest layers each make one.
    pub problems: u64,
}

/// How the answer stands to one budget in one scenario, and what the budget costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitState {
    /// What is limited.
    pub metric: Metric,
    /// Index into the scenarios; absent for a limit that needs none.
    pub scenario: Option<usize>,
    /// The limit, in the unit of the metric.
    pub limit: f64,
    /// Share of the budget that is used, 0 to 1; near 1 it binds.
    pub usage: f64,
    /// About what one percent more room would save (the Lagrange multiplier), nats per token. Of limits on one
    /// figure the tightest has it all.
    pub nats_per_percent: f64,
}

/// A budget that cannot be met.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Short {
    /// What is limited.
    pub metric: Metric,
    /// Index into the scenarios; absent for a limit that needs none.
    pub scenario: Option<usize>,
    /// The limit, in the unit of the metric.
    pub limit: f64,
    /// No choice comes nearer than this.
    pub nearest: f64,
    /// Even with no other budget; else beside all the others.
    pub alone: bool,
}
