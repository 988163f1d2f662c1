//! Where a shape must run and the work it is given, as typed.

use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::engine::{self, EngineParameters};
use archplan::hardware::profile::registry::Profiles;
use archplan::model::spec::ModelSpec;
use archplan::model::workload::{Deployment, Load, Workload};
use archplan::names;

use crate::cli::Failure;
use crate::cli::deployment::DeploymentArgs;

/// Where and what.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Where it must run")]
pub struct TargetArgs {
    /// Hardware profile; may be given more than once, each with its own settings: h100_sxm,tp=2,dtype=fp8
    /// (keys: tp, dtype, kv-dtype, engine)
    #[arg(long, required = true, value_name = "NAME[,KEY=VALUE…]")]
    profile: Vec<String>,
    #[command(flatten)]
    deployment: DeploymentArgs,
    /// One workload, such as batch=64,prompt=2048,output=1024 or concurrency=64,prompt=…; may be given more
    /// than once
    #[arg(long, value_name = "KEY=N,…", help_heading = "Work")]
    workload: Vec<String>,
    /// Sequences of one static batch
    #[arg(long, value_name = "N", conflicts_with = "concurrency", help_heading = "Work")]
    batch: Option<u64>,
    /// Requests always in flight (continuous batching)
    #[arg(long, value_name = "N", help_heading = "Work")]
    concurrency: Option<u64>,
    /// Prompt tokens per request
    #[arg(long, value_name = "TOKENS", help_heading = "Work")]
    prompt: Option<u64>,
    /// Output tokens per request
    #[arg(long, value_name = "TOKENS", help_heading = "Work")]
    output: Option<u64>,
}

/// One device group.
pub struct Device {
    /// Its profile.
    pub profile: HardwareProfile,
    /// Its engine.
    pub engine: EngineParameters,
    /// Tensor parallelism and element types.
    pub deployment: Deployment,
}

impl TargetArgs {
    /// The device groups.
    pub fn devices(&self, profiles: &Profiles) -> Result<Vec<Device>, Failure> {
        self.profile.iter().map(|typed| self.device(typed, profiles)).collect()
    }

    fn device(&self, typed: &str, profiles: &Profiles) -> Result<Device, Failure> {
        let mut parts = typed.split(',');
        let name = parts.next().unwrap_or_default().trim();
        let profile = profiles.get(name).map_err(Failure::bad_input)?;
        let mut engine_name = self.deployment.engine.clone();
        let (mut tp, mut dtype, mut kv_dtype) =
            (self.deployment.tp, self.deployment.dtype, self.deployment.kv_dtype);
        for part in parts {
            let wrong = |e: &dyn std::fmt::Display| Failure::bad_input(format!("--profile {typed}: {e}"));
            let Some((key, value)) = part.split_once('=').map(|(k, v)| (k.trim(), v.trim())) else {
                return Err(wrong(&format!("`{part}` is no setting: write key=value, such as tp=2")));
            };
            match key {
                "tp" => {
                    tp = value.parse().map_err(|_| wrong(&format!("`{value}` is no number of devices")))?
                }
                "dtype" => dtype = value.parse().map_err(|e| wrong(&e))?,
                "kv-dtype" | "kv_dtype" => kv_dtype = value.parse().map_err(|e| wrong(&e))?,
                "engine" => engine_name = Some(value.to_string()),
                _ => return Err(wrong(&unknown(key, &["tp", "dtype", "kv-dtype", "engine"]))),
            }
        }
        let engine_name = engine_name.unwrap_or_else(|| engine::default_for(&profile.name).to_string());
        let engine = EngineParameters::built_in(&engine_name).map_err(Failure::bad_input)?;
        let deployment = Deployment { engine: engine.name.clone(), tp, dtype, kv_dtype };
        Ok(Device { profile, engine, deployment })
    }

    /// The workloads: those of `--workload` and the one of the short options.
    pub fn workloads(&self) -> Result<Vec<Workload>, Failure> {
        let mut workloads: Vec<Workload> =
            self.workload.iter().map(|typed| workload(typed)).collect::<Result<_, _>>()?;
        let load = self.batch.map(Load::Batch).or(self.concurrency.map(Load::Concurrency));
        match (load, self.prompt, self.output) {
            (Some(load), Some(prompt), Some(output)) => {
                workloads.insert(0, Workload { load, prompt, output })
            }
            (None, None, None) if !workloads.is_empty() => {}
            _ => {
                return Err(Failure::bad_input(
                    "give the work as --batch or --concurrency with --prompt and --output, or as --workload",
                ));
            }
        }
        let zero = |w: &Workload| {
            matches!(w.load, Load::Batch(0) | Load::Concurrency(0)) || w.prompt == 0 || w.output == 0
        };
        match workloads.iter().any(zero) {
            true => Err(Failure::bad_input("batch, concurrency, prompt and output must be at least 1")),
            false => Ok(workloads),
        }
    }
}

/// Says so when a request is longer than the model was made for.
pub fn warn_beyond_context(spec: &ModelSpec, workloads: &[Workload]) {
    for Workload { prompt, output, .. } in workloads {
        if prompt.saturating_add(*output) > spec.max_positions {
            log::warn!(
                "{prompt} + {output} tokens are more than the context of {}, {} tokens",
                spec.name,
                spec.max_positions
            );
        }
    }
}

fn workload(typed: &str) -> Result<Workload, Failure> {
    let wrong = |e: String| Failure::bad_input(format!("--workload {typed}: {e}"));
    let (mut load, mut prompt, mut output) = (None, None, None);
    for part in typed.split(',') {
        let (key, value) = part.split_once('=').map(|(k, v)| (k.trim(), v.trim())).ok_or_else(|| {
            wrong(format!("`{part}` is no setting: write batch=64,prompt=2048,output=1024"))
        })?;
        let n: u64 = value.parse().map_err(|_| wrong(format!("`{value}` is no number for {key}")))?;
        match key {
            "batch" if load.is_none() => load = Some(Load::Batch(n)),
            "concurrency" if load.is_none() => load = Some(Load::Concurrency(n)),
            "prompt" if prompt.is_none() => prompt = Some(n),
            "output" if output.is_none() => output = Some(n),
            "batch" | "concurrency" | "prompt" | "output" => {
                return Err(wrong(format!("{key} is given twice, or batch beside concurrency")));
            }
            _ => return Err(wrong(unknown(key, &["batch", "concurrency", "prompt", "output"]))),
        }
    }
    match (load, prompt, output) {
        (Some(load), Some(prompt), Some(output)) => Ok(Workload { load, prompt, output }),
        (None, ..) => Err(wrong("batch or concurrency is missing".to_string())),
        (_, None, _) => Err(wrong("prompt is missing".to_string())),
        _ => Err(wrong("output is missing".to_string())),
    }
}

fn unknown(key: &str, known: &[&'static str]) -> String {
    let hint = names::did_you_mean(names::closest(key, known.iter().copied()));
    format!("unknown key `{key}`; known: {}{hint}", known.join(", "))
}
