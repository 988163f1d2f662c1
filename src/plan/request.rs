//! What is asked of a plan: the parent, where it must run, the work, the budgets and the space.

use std::collections::BTreeSet;

use crate::hardware::latency::prediction::Machine;
use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::device::Granularity;
use crate::model::spec::ModelSpec;
use crate::model::workload::{Deployment, Load, Workload};
use crate::plan::budget::Budget;
use crate::plan::error::PlanError;
use crate::plan::record::{Scenario, recipe};
use crate::quality::prior::{QualityPrior, Recovery};
use crate::quality::study::judge::Judge;
use crate::search::space::SearchSpace;
use crate::search::space::options::SpaceOptions;
use crate::search::space::table::AxisSummary;

/// A device group with its engine.
pub struct Target<'a> {
    /// The profile as it stands in the recipe (see [`profile_record`]).
    pub profile: recipe::Profile,
    /// Prices, memory and engine.
    pub machine: Machine<'a>,
    /// Tensor parallelism and element types.
    pub deployment: Deployment,
}

/// What is asked. Every target is given every workload, and every budget must hold in all of these scenarios.
pub struct Request<'a> {
    /// The parent.
    pub spec: &'a ModelSpec,
    /// Where the shape must run.
    pub targets: Vec<Target<'a>>,
    /// The work it is given on each.
    pub workloads: Vec<Workload>,
    /// Limits, all of which must hold.
    pub budgets: Vec<Budget>,
    /// Chance with which each budget on a time, a throughput or a speedup must hold, one-sided (0.5 to below 1);
    /// `None`: the best single value must hold.
    pub confidence: Option<f64>,
    /// What a shape loses, and what losses mean for accuracies.
    pub prior: &'a QualityPrior,
    /// What a shape loses by measurements on the parent; instead of the prior, and before any training.
    pub scores: Option<&'a Judge>,
    /// Recovery training assumed.
    pub recovery: Recovery,
    /// The space; its tensor-parallel degrees are those of the targets, whatever it says itself.
    pub space: SpaceOptions,
    /// Seed of every random choice.
    pub seed: u64,
    /// The command line, or how the library was called.
    pub command: String,
}

impl Request<'_> {
    /// Whether the request makes sense as far as that can be told without pricing anything.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.targets.is_empty() {
            return Err(PlanError::NoTarget);
        }
        if self.workloads.is_empty() {
            return Err(PlanError::NoWorkload);
        }
        let mut names = BTreeSet::new();
        for Scenario { name, .. } in self.scenarios() {
            if !names.insert(name.clone()) {
                return Err(PlanError::RepeatedScenario { name });
            }
        }
        if let Some(found) = self.confidence.filter(|chance| !(0.5..1.0).contains(chance)) {
            return Err(PlanError::Confidence { found });
        }
        let bad = self.budgets.iter().find(|budget| !(budget.limit > 0.0 && budget.limit.is_finite()));
        bad.map_or(Ok(()), |budget| {
            Err(PlanError::Limit { metric: budget.metric.name(), found: budget.limit })
        })
    }

    /// The space that will be searched: for people to look at before it is.
    pub fn search_space(&self) -> Result<SearchSpace, PlanError> {
        self.check()?;
        let tp: BTreeSet<u64> = self.targets.iter().map(|target| target.deployment.tp).collect();
        let options = SpaceOptions { tp: tp.into_iter().collect(), ..self.space.clone() };
        Ok(SearchSpace::build(&self.spec.architecture, &options)?)
    }

    /// The request as it was understood, for the recipe.
    pub fn echo(&self, space: &SearchSpace) -> recipe::Request {
        let target = |Target { profile, deployment, .. }: &Target<'_>| recipe::Target {
            profile: profile.name.clone(),
            engine: deployment.engine.clone(),
            tp: deployment.tp,
            dtype: deployment.dtype,
            kv_dtype: deployment.kv_dtype,
        };
        let workload = |workload: &Workload| {
            let (batch, concurrency) = match workload.load {
                Load::Batch(n) => (Some(n), None),
                Load::Concurrency(n) => (None, Some(n)),
            };
            let (prompt_tokens, output_tokens) = (workload.prompt, workload.output);
            recipe::WorkloadEcho { batch, concurrency, prompt_tokens, output_tokens }
        };
        let axes = space.summary();
        let ends = |axis: &AxisSummary| Some([*axis.values.first()?, *axis.values.last()?]);
        recipe::Request {
            targets: self.targets.iter().map(target).collect(),
            workloads: self.workloads.iter().map(workload).collect(),
            budgets: self.budgets.iter().map(Budget::echo).collect(),
            confidence: self.confidence,
            multiples: axes.iter().map(|a| (a.axis.name().to_string(), a.multiple)).collect(),
            bounds: axes.iter().filter_map(|a| Some((a.axis.name().to_string(), ends(a)?))).collect(),
            skip: self.space.skip.iter().map(|axis| axis.name().to_string()).collect(),
            recovery_tokens: Some(self.recovery.billions() * 1e9),
            scores: self.scores.map(|judge| recipe::ScoresEcho {
                sha256: judge.scores_sha256.clone(),
                tries: judge.estimator.tries() as u64,
            }),
        }
    }

    /// Every target with every workload, targets outermost.
    pub fn scenarios(&self) -> Vec<Scenario> {
        let workloads = self.workloads.len();
        let scenario = |(i, target): (usize, &Target<'_>)| {
            let name = target_name(target);
            let with = move |j: usize, workload: &Workload| Scenario {
                name: format!("{name}, {}", workload_name(workload)),
                target: i,
                workload: j,
            };
            (0..workloads).zip(&self.workloads).map(|(j, w)| with(j, w)).collect::<Vec<_>>()
        };
        self.targets.iter().enumerate().flat_map(scenario).collect()
    }
}

/// `h200_sxm tp4 int8`, with the KV type and the engine where they say more.
fn target_name(target: &Target<'_>) -> String {
    let Deployment { engine, tp, dtype, kv_dtype } = &target.deployment;
    let kv = if kv_dtype == dtype { String::new() } else { format!("/{kv_dtype}") };
    format!("{} tp{tp} {dtype}{kv} {engine}", target.profile.name)
}

fn workload_name(workload: &Workload) -> String {
    let load = match workload.load {
        Load::Batch(n) => format!("batch {n}"),
        Load::Concurrency(n) => format!("concurrency {n}"),
    };
    format!("{load}, {}+{}", workload.prompt, workload.output)
}

/// A profile as it stands in the recipe.
pub fn profile_record(profile: &HardwareProfile) -> recipe::Profile {
    let line = |(family, info): (&_, &crate::hardware::profile::manifest::TableInfo)| {
        format!("{family}: {}, {}", info.provenance, info.source)
    };
    recipe::Profile {
        name: profile.name.clone(),
        device: profile.device.name.clone(),
        sha256: profile.hash().to_string(),
        provenance: profile.tables.iter().map(line).collect(),
    }
}

/// The smallest multiples that several devices all like.
pub fn common_granularity(devices: impl IntoIterator<Item = Granularity>) -> Option<Granularity> {
    devices.into_iter().reduce(|a, b| Granularity {
        hidden: least_common_multiple(a.hidden, b.hidden),
        ffn: least_common_multiple(a.ffn, b.ffn),
    })
}

fn least_common_multiple(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a.checked_div(x).map_or(0, |part| part.saturating_mul(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granularities_meet_in_their_common_multiple() {
        let device = |hidden, ffn| Granularity { hidden, ffn };
        assert_eq!(common_granularity([device(256, 512)]), Some(device(256, 512)));
        assert_eq!(common_granularity([device(256, 512), device(128, 768)]), Some(device(256, 1536)));
        assert_eq!(common_granularity([]), None);
    }
}
