//! What is needed to get the same plan again: version, data and the request as it was understood.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::record::Metric;
use crate::units::DType;

/// What is needed to get the same plan again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of archplan.
    pub version: String,
    /// The command line, or how the library was called.
    pub command: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// The parent.
    pub model: Model,
    /// The hardware profiles, in the order of the targets, each once.
    pub profiles: Vec<Profile>,
    /// The request as it was understood, defaults filled in.
    pub request: Request,
}

/// The parent model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Name for people.
    pub name: String,
    /// Where its numbers come from.
    pub source: String,
    /// Family, as in [`crate::model::spec::Family`].
    pub family: String,
}

/// A hardware profile and the fingerprint of its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Name, as given to `--profile`.
    pub name: String,
    /// Device, for people.
    pub device: String,
    /// SHA-256 of the profile's files, hexadecimal.
    pub sha256: String,
    /// One line per table: family, provenance, source.
    pub provenance: Vec<String>,
}

/// The request as it was understood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Where the shape must run.
    pub targets: Vec<Target>,
    /// The work it is given on each target.
    pub workloads: Vec<WorkloadEcho>,
    /// Budgets as typed and in SI units.
    pub budgets: Vec<BudgetEcho>,
    /// Chance with which each latency budget must hold; `None` = its best single value must hold.
    pub confidence: Option<f64>,
    /// Multiple that each axis keeps.
    pub multiples: BTreeMap<String, u64>,
    /// Lowest and highest value of each axis.
    pub bounds: BTreeMap<String, [u64; 2]>,
    /// Axes left as they are in the parent.
    pub skip: Vec<String>,
    /// Tokens of recovery training assumed by the quality estimate.
    pub recovery_tokens: Option<f64>,
    /// Scores that losses come from; `None`: they come from the prior.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<ScoresEcho>,
}

/// Scores that losses come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoresEcho {
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Shapes tried that the estimate has learned from.
    pub tries: u64,
}

/// A device group with its engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Hardware profile.
    pub profile: String,
    /// Serving engine (`none` = kernels only).
    pub engine: String,
    /// Tensor-parallel degree.
    pub tp: u64,
    /// Type of weights and GEMM operands.
    pub dtype: DType,
    /// Type of the KV cache.
    pub kv_dtype: DType,
}

/// The work: exactly one of `batch` and `concurrency` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadEcho {
    /// Sequences of one static batch.
    pub batch: Option<u64>,
    /// Requests always in flight.
    pub concurrency: Option<u64>,
    /// Prompt tokens per request.
    pub prompt_tokens: u64,
    /// Generated tokens per request.
    pub output_tokens: u64,
}

/// A budget as typed and in SI units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetEcho {
    /// What is limited.
    pub metric: Metric,
    /// What was typed, such as `20ms`.
    pub typed: String,
    /// The same in SI units (seconds, bytes, tokens per second; counts and ratios as they are).
    pub value_si: f64,
    /// The SI unit: `s`, `B`, `tok/s`, `parameters` or `x`.
    pub unit_si: String,
}
