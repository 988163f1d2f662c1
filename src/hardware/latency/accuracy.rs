//! How far predictions stand from measured runs, seen and unseen by the fit.

use std::collections::BTreeMap;

use argmin::core::Error;
use rayon::prelude::*;
use serde::Serialize;

use crate::hardware::latency::calibration::{Observation, fit, log_errors, transfer};
use crate::hardware::latency::cost::{KernelCosts, Z90};
use crate::hardware::latency::percent_errors::PercentErrors;
use crate::hardware::latency::prediction::{Machine, predict};
use crate::hardware::latency::serving::serve;
use crate::hardware::latency::validation::{Metric, Run};
use crate::hardware::profile::engine::EngineParameters;
use crate::model::cards;
use crate::model::workload::{Deployment, Load};
use crate::units::Bytes;

/// A run that cannot be scored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skipped {
    /// Line of the table.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// Prices and memory of one device.
pub struct Priced {
    /// Prices of its kernels.
    pub costs: Box<dyn KernelCosts>,
    /// Its memory.
    pub hbm: Bytes,
}

/// Errors of a group of figures, in percent of the measured value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Engine, or `all`.
    pub engine: String,
    /// Model, or `all`.
    pub model: String,
    /// Hardware profile, or `all`.
    pub profile: String,
    /// Figure: `ttft`, `tpot`, …
    pub metric: &'static str,
    /// Figures in the group.
    pub n: usize,
    /// Median absolute error.
    pub median_ape: f64,
    /// Mean absolute error.
    pub mean_ape: f64,
    /// 90th percentile of the absolute error.
    pub p90_ape: f64,
    /// Mean signed error: positive = predicted too slow a time (too high a rate).
    pub bias: f64,
    /// Figures within the stated 90 % interval.
    pub coverage: f64,
}

/// What is left out of the fit, one value at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// A tensor-parallel degree.
    TensorParallel,
    /// A pair of prompt and output length.
    Lengths,
    /// A concurrency.
    Concurrency,
    /// A whole engine: it is predicted with the parameters of the others.
    Engine,
}

impl LeftOut {
    /// Every scheme.
    pub const ALL: [LeftOut; 4] =
        [LeftOut::TensorParallel, LeftOut::Lengths, LeftOut::Concurrency, LeftOut::Engine];

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            LeftOut::TensorParallel => "one tp",
            LeftOut::Lengths => "one (prompt, output)",
            LeftOut::Concurrency => "one concurrency",
            LeftOut::Engine => "one engine",
        }
    }

    fn key(self, run: &Run) -> String {
        match self {
            LeftOut::TensorParallel => run.tp.to_string(),
            LeftOut::Lengths => format!("{}+{}", run.workload.prompt, run.workload.output),
            LeftOut::Concurrency => format!("{:?}", run.workload.load),
            LeftOut::Engine => run.engine.clone(),
        }
    }
}

/// Prices the passes behind every run, in parallel; a run of an unknown model, device or engine, or that memory
/// or the profile cannot serve, is skipped with the reason.
pub fn observe(runs: &[Run], devices: &BTreeMap<String, Priced>) -> (Vec<Observation>, Vec<Skipped>) {
    let outcomes: Vec<Result<Observation, Skipped>> = runs
        .par_iter()
        .map(|run| observe_one(run, devices).map_err(|reason| Skipped { line: run.line, reason }))
        .collect();
    let mut skipped = Vec::new();
    let keep = |outcome: Result<Observation, Skipped>| outcome.map_err(|s| skipped.push(s)).ok();
    (outcomes.into_iter().filter_map(keep).collect(), skipped)
}

fn observe_one(run: &Run, devices: &BTreeMap<String, Priced>) -> Result<Observation, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let card = cards::find(&run.model).map_err(|e| said(&e))?;
    let spec = card.spec().map_err(|e| said(&e))?;
    let engine = EngineParameters::built_in(&run.engine).map_err(|e| said(&e))?;
    let device = devices.get(&run.profile).ok_or_else(|| format!("no hardware profile `{}`", run.profile))?;
    let machine = Machine { costs: device.costs.as_ref(), hbm: device.hbm, engine: &engine };
    let (tp, dtype, kv_dtype) = (run.tp, run.dtype, run.kv_dtype);
    let deployment = Deployment { engine: engine.name.clone(), tp, dtype, kv_dtype };
    let prediction =
        predict(machine, &spec, &spec.architecture, &deployment, &run.workload).map_err(|e| said(&e))?;
    Ok(Observation { run: run.clone(), steps: prediction.steps, in_flight: prediction.in_flight })
}

/// One figure, predicted.
#[derive(Clone, Debug)]
struct Residual {
    group: [String; 3],
    metric: Metric,
    log_error: f64,
    covered: bool,
}

fn residuals(observation: &Observation, engine: &EngineParameters) -> Vec<Residual> {
    let Observation { run, steps, in_flight } = observation;
    let served = serve(steps, engine, &run.workload, *in_flight);
    let residual = |(metric, log_error): (Metric, f64)| Residual {
        group: [run.engine.clone(), run.model.clone(), run.profile.clone()],
        metric,
        log_error,
        covered: log_error.abs() <= Z90 * metric.log_sigma(&served),
    };
    log_errors(observation, engine).map(residual).collect()
}

/// Errors of each engine, model and device, and of all together.
pub fn scores(observations: &[Observation], engines: &[EngineParameters]) -> Vec<Score> {
    let of = |o: &Observation| engines.iter().find(|e| e.name == o.run.engine).map(|e| residuals(o, e));
    let all: Vec<Residual> = observations.iter().filter_map(of).flatten().collect();
    summarise(&all)
}

/// Errors on runs left out of the fit, one scheme at a time.
///
/// # Errors
/// When the solver fails.
pub fn held_out(
    observations: &[Observation],
    engines: &[EngineParameters],
    scheme: LeftOut,
) -> Result<Vec<Score>, Error> {
    Ok(summarise(&held_out_residuals(observations, engines, scheme)?))
}

fn held_out_residuals(
    observations: &[Observation],
    engines: &[EngineParameters],
    scheme: LeftOut,
) -> Result<Vec<Residual>, Error> {
    let mut folds: BTreeMap<String, Vec<&Observation>> = BTreeMap::new();
    for observation in observations {
        folds.entry(scheme.key(&observation.run)).or_default().push(observation);
    }
    if folds.len() < 2 {
        return Ok(Vec::new());
    }
    let folds: Vec<Vec<&Observation>> = folds.into_values().collect();
    let fold = |left_out: &Vec<&Observation>| -> Result<Vec<Residual>, Error> {
        let key = left_out.first().map(|o| scheme.key(&o.run));
        let seen: Vec<&Observation> =
            observations.iter().filter(|o| Some(scheme.key(&o.run)) != key).collect();
        let fitted = match scheme {
            LeftOut::Engine => transfer(engines, &seen)?,
            _ => fit(engines, &seen)?,
        };
        let of = |o: &&Observation| fitted.iter().find(|e| e.name == o.run.engine).map(|e| residuals(o, e));
        Ok(left_out.iter().filter_map(of).flatten().collect())
    };
    let parts = folds.par_iter().map(fold).collect::<Result<Vec<_>, Error>>()?;
    Ok(parts.into_iter().flatten().collect())
}

/// The engines that have runs.
pub fn with_runs(engines: &[EngineParameters], observations: &[Observation]) -> Vec<EngineParameters> {
    let has_runs = |engine: &&EngineParameters| observations.iter().any(|o| o.run.engine == engine.name);
    engines.iter().filter(has_runs).cloned().collect()
}

/// Absolute logarithmic errors of one figure on runs left out under some schemes.
///
/// # Errors
/// When the solver fails.
pub fn held_out_errors(
    observations: &[Observation],
    engines: &[EngineParameters],
    schemes: &[LeftOut],
    metric: Metric,
) -> Result<Vec<f64>, Error> {
    let mut errors = Vec::new();
    for &scheme in schemes {
        let residuals = held_out_residuals(observations, engines, scheme)?;
        errors.extend(residuals.iter().filter(|r| r.metric == metric).map(|r| r.log_error.abs()));
    }
    Ok(errors)
}

fn summarise(residuals: &[Residual]) -> Vec<Score> {
    let mut groups: BTreeMap<([String; 3], Metric), Vec<&Residual>> = BTreeMap::new();
    let all = || ["all".to_string(), "all".to_string(), "all".to_string()];
    for residual in residuals {
        groups.entry((residual.group.clone(), residual.metric)).or_default().push(residual);
        groups.entry((all(), residual.metric)).or_default().push(residual);
    }
    groups.into_iter().map(|((group, metric), residuals)| score(group, metric, &residuals)).collect()
}

fn score([engine, model, profile]: [String; 3], metric: Metric, residuals: &[&Residual]) -> Score {
    let errors = PercentErrors::of(residuals.iter().map(|r| (r.log_error, r.covered)));
    let PercentErrors { n, median_ape, mean_ape, p90_ape, bias, coverage } = errors;
    let metric = metric.name();
    Score { engine, model, profile, metric, n, median_ape, mean_ape, p90_ape, bias, coverage }
}

/// Quantile with linear interpolation between order statistics; 0 of nothing.
pub fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let position = q * values.len().saturating_sub(1) as f64;
    let (low, high) = (values.get(position.floor() as usize), values.get(position.ceil() as usize));
    match (low, high) {
        (Some(low), Some(high)) => low + (high - low) * position.fract(),
        _ => 0.0,
    }
}

/// Runs that had every sequence decoding at once: the others waited for memory, which says nothing of the engine.
pub fn unconstrained(observations: &[Observation]) -> Vec<Observation> {
    let all_in_flight = |o: &&Observation| match o.run.workload.load {
        Load::Batch(_) => true,
        Load::Concurrency(asked) => o.in_flight == asked,
    };
    observations.iter().filter(all_in_flight).cloned().collect()
}
