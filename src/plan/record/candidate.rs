//! Shapes with what they cost and what they lose.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::estimate::Estimate;
use crate::model::architecture::Architecture;

/// The shape of a uniform decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Decoder layers.
    pub layers: u64,
    /// Hidden size.
    pub hidden: u64,
    /// FFN width.
    pub ffn: u64,
    /// Query heads.
    pub q_heads: u64,
    /// KV heads.
    pub kv_heads: u64,
    /// Head size.
    pub head_dim: u64,
}

impl Shape {
    /// The shape of a decoder whose layers are all alike; `None` for others.
    pub fn of(architecture: &Architecture) -> Option<Self> {
        let layer = architecture.uniform_shape()?;
        Some(Self {
            layers: architecture.depth(),
            hidden: architecture.hidden,
            ffn: layer.ffn,
            q_heads: layer.q_heads,
            kv_heads: layer.kv_heads,
            head_dim: architecture.head_dim,
        })
    }

    /// As an architecture.
    pub fn architecture(self) -> Architecture {
        Architecture::uniform(self.layers, self.hidden, self.ffn, self.q_heads, self.kv_heads, self.head_dim)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layers, hidden, ffn, q_heads, kv_heads, head_dim } = self;
        write!(f, "{layers} layers, hidden {hidden}, FFN {ffn}, heads {q_heads}/{kv_heads} × {head_dim}")
    }
}

/// A shape with what it costs and what it loses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The shape.
    pub shape: Shape,
    /// Parameters, embeddings included.
    pub params: u64,
    /// It meets every budget.
    pub feasible: bool,
    /// Cost in each scenario, in the order of `scenarios`.
    pub metrics: Vec<Metrics>,
    /// What it loses against the parent.
    pub quality: Quality,
    /// The parent's layers that are dropped, from 0, where scores say which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped_layers: Vec<u64>,
    /// Time by op; given for the parent and the chosen shape, empty for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breakdown: Vec<Contribution>,
}

impl Candidate {
    /// Output throughput against the parent's in the scenario where that is least.
    pub fn worst_speedup(&self) -> Option<Estimate> {
        self.metrics.iter().map(|m| m.speedup).min_by(|a, b| a.value.total_cmp(&b.value))
    }
}

/// Cost of a shape in one scenario.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Time to first token.
    pub ttft_ms: Estimate,
    /// Time per output token after the first.
    pub tpot_ms: Estimate,
    /// Time of one request, first to last.
    pub latency_ms: Estimate,
    /// Output tokens per second of the whole replica.
    pub output_tokens_per_s: Estimate,
    /// Memory of one device.
    pub memory_gib: Estimate,
    /// Output throughput against the parent's (1 = as fast).
    pub speedup: Estimate,
}

/// What a shape loses against its parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Increase of the language-modelling loss, nats per token.
    pub loss_increase_nats: Estimate,
    /// Benchmark accuracy against the parent's, in percent of it.
    pub accuracy_retained_percent: Estimate,
    /// Predicted score on each benchmark at hand, percent.
    pub benchmarks: BTreeMap<String, Estimate>,
    /// Scores by axis, nats a token, where there are any; interactions come on top.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores_nats: BTreeMap<String, f64>,
    /// Scores of each layer that is kept; given for the chosen shape.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerScores>,
}

/// What a change of one layer was scored at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerScores {
    /// The parent's layer, from 0.
    pub layer: u64,
    /// Of its attention, nats a token.
    pub attention_nats: f64,
    /// Of its FFN, nats a token.
    pub ffn_nats: f64,
}

/// A shape that was really pruned to and measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriedShape {
    /// The shape; its loss is the measured one.
    pub candidate: Candidate,
    /// Loss increase predicted before it was tried, nats a token; `None` where nobody asked for it.
    pub predicted_loss_nats: Option<Estimate>,
}

/// Share of one op in the time of one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contribution {
    /// Index into `scenarios`.
    pub scenario: usize,
    /// `prefill` or `decode`.
    pub phase: String,
    /// Op, such as `ffn_down`.
    pub op: String,
    /// Its time in one request, all layers and steps.
    pub latency_ms: Estimate,
}

/// One shape of the space as the search saw it: single values, no intervals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// The shape.
    pub shape: Shape,
    /// Parameters.
    pub params: u64,
    /// It meets every budget.
    pub feasible: bool,
    /// Benchmark accuracy against the parent's, in percent of it.
    pub accuracy_retained_percent: f64,
    /// Cost in each scenario, in the order of `scenarios`.
    pub metrics: Vec<PointMetrics>,
}

impl Point {
    /// Output throughput against the parent's in the scenario where that is least.
    pub fn worst_speedup(&self, parent: &Candidate) -> Option<f64> {
        let pairs = self.metrics.iter().zip(&parent.metrics);
        let ratios = pairs.map(|(own, parents)| own.output_tokens_per_s / parents.output_tokens_per_s.value);
        ratios.min_by(f64::total_cmp)
    }
}

/// Cost of a sampled shape in one scenario.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointMetrics {
    /// Time to first token.
    pub ttft_ms: f64,
    /// Time per output token after the first.
    pub tpot_ms: f64,
    /// Time of one request, first to last.
    pub latency_ms: f64,
    /// Output tokens per second of the whole replica.
    pub output_tokens_per_s: f64,
    /// Memory of one device.
    pub memory_gib: f64,
}
