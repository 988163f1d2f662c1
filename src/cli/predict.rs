//! `archplan predict`: latency, throughput and memory of one model in one shape on one device group.

use archplan::estimate::Estimate;
use archplan::hardware::latency::forward::PassCost;
use archplan::hardware::latency::memory::Memory;
use archplan::hardware::latency::prediction::{Machine, PredictError, Prediction, predict};
use archplan::hardware::profile::engine::{self, EngineParameters};
use archplan::hardware::profile::registry::Profiles;
use archplan::model::architecture::Architecture;
use archplan::model::read;
use archplan::model::spec::ModelSpec;
use archplan::model::workload::{Deployment, Load, Workload};
use archplan::units::{Bytes, Seconds, three_digits};
use comfy_table::Table;
use serde_json::{Map, Value, json};

use crate::cli::deployment::DeploymentArgs;
use crate::cli::{Failure, Global, costs, output, search_target};

/// Arguments of `archplan predict`.
#[derive(clap::Args, Debug)]
#[command(allow_negative_numbers = true)]
#[command(after_help = "Examples:
  archplan predict --model llama-3.1-70b --profile h200_sxm --tp 2 --dtype fp8 --kv-dtype fp8 \\
      --concurrency 16 --prompt 1024 --output 1024
  archplan predict --model qwen3-32b --profile h100_sxm --tp 4 --batch 64 \\
      --prompt 2048 --output 512 --json
  archplan predict --model ./checkpoint --profile a100_sxm --batch 8 --prompt 512 --output 128 \\
      --layers 40 --ffn 9728                  the same model, pruned

--concurrency: a closed loop of so many requests, continuous batching; gives TTFT and TPOT.
--batch: one static batch; gives the prefill and the mean decode step.
Intervals hold 90 %. Sources: measured, fitted, estimated.")]
pub struct Args {
    /// Built-in model name, config.json or checkpoint directory
    #[arg(long)]
    model: String,
    /// Hardware profile
    #[arg(long)]
    profile: String,
    #[command(flatten)]
    deployment: DeploymentArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Prompt tokens per request
    #[arg(long, value_name = "TOKENS")]
    prompt: u64,
    /// Output tokens per request
    #[arg(long, value_name = "TOKENS")]
    output: u64,
    #[command(flatten)]
    shape: ShapeArgs,
}

#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct LoadArgs {
    /// Requests always in flight (continuous batching)
    #[arg(long, value_name = "N")]
    concurrency: Option<u64>,
    /// Sequences of one static batch
    #[arg(long, value_name = "N")]
    batch: Option<u64>,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Shape (default: the model's own)")]
struct ShapeArgs {
    /// Decoder layers
    #[arg(long)]
    layers: Option<u64>,
    /// Hidden size
    #[arg(long)]
    hidden: Option<u64>,
    /// FFN width
    #[arg(long)]
    ffn: Option<u64>,
    /// Query heads
    #[arg(long)]
    heads: Option<u64>,
    /// KV heads
    #[arg(long)]
    kv_heads: Option<u64>,
}

impl ShapeArgs {
    fn apply(&self, spec: &ModelSpec) -> Result<Architecture, Failure> {
        let parent = &spec.architecture;
        let asked = [self.layers, self.hidden, self.ffn, self.heads, self.kv_heads];
        if asked.iter().all(Option::is_none) {
            return Ok(parent.clone());
        }
        let shape = parent.uniform_shape().ok_or_else(|| {
            Failure::BadInput(format!(
                "{}: its layers differ, so no single shape can be overridden",
                spec.name
            ))
        })?;
        let architecture = Architecture::uniform(
            self.layers.unwrap_or(parent.depth()),
            self.hidden.unwrap_or(parent.hidden),
            self.ffn.unwrap_or(shape.ffn),
            self.heads.unwrap_or(shape.q_heads),
            self.kv_heads.unwrap_or(shape.kv_heads),
            parent.head_dim,
        );
        architecture.validate().map_err(Failure::bad_input)?;
        Ok(architecture)
    }
}

/// Runs `archplan predict`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let spec = read::resolve(&args.model).map_err(Failure::bad_input)?;
    let architecture = args.shape.apply(&spec)?;
    let profiles = Profiles::new(&global.profile_dir).map_err(Failure::bad_input)?;
    let profile = profiles.get(&args.profile).map_err(Failure::bad_input)?;
    let engine_name = args.deployment.engine.as_deref().unwrap_or(engine::default_for(&profile.name));
    if args.deployment.engine.is_none() {
        log::info!("engine: {engine_name} (the default on {}; --engine names another)", profile.name);
    }
    let engine = EngineParameters::built_in(engine_name).map_err(Failure::bad_input)?;
    let load = match (args.load.concurrency, args.load.batch) {
        (Some(n), _) => Load::Concurrency(n),
        (_, Some(n)) => Load::Batch(n),
        (None, None) => return Err(Failure::BadInput("give --concurrency or --batch".into())),
    };
    let workload = Workload { load, prompt: args.prompt, output: args.output };
    let (tp, dtype, kv_dtype) = (args.deployment.tp, args.deployment.dtype, args.deployment.kv_dtype);
    let deployment = Deployment { engine: engine.name.clone(), tp, dtype, kv_dtype };
    let costs = costs::of(&profile, &[dtype], &[kv_dtype])?;
    let machine = Machine { costs: &costs, hbm: profile.device.hbm, engine: &engine };
    let prediction =
        predict(machine, &spec, &architecture, &deployment, &workload).map_err(|error| match error {
            PredictError::DoesNotFit(_) => Failure::Infeasible(error.to_string()),
            _ => Failure::bad_input(error),
        })?;
    let request =
        Request { spec: &spec, architecture: &architecture, profile: &args.profile, deployment, workload };
    if global.json {
        let document = Value::Object(request.to_json(&prediction));
        output::json(&document)?;
    } else {
        request.print(&prediction);
    }
    search_target::warn_beyond_context(&spec, &[workload]);
    warn(&prediction, &workload);
    Ok(())
}

fn warn(prediction: &Prediction, workload: &Workload) {
    let memory = &prediction.memory;
    if let Load::Concurrency(asked) = workload.load
        && prediction.in_flight < asked
    {
        log::warn!(
            "memory holds {} of {asked} requests at once: the others wait for a slot (--tp or a smaller dtype help)",
            prediction.in_flight
        );
    } else if !memory.fits() {
        log::warn!(
            "does not fit: needs {} of {}; at most {} sequences do",
            memory.total(),
            memory.budget,
            memory.max_sequences()
        );
    }
    for (name, pass) in [("prefill", &prediction.prefill), ("decode step", &prediction.decode)] {
        let share = pass.extrapolated_share();
        if share > 0.05 {
            log::warn!("{:.0} % of the {name} lies outside the measured range", share * 100.0);
        }
    }
}

struct Request<'a> {
    spec: &'a ModelSpec,
    architecture: &'a Architecture,
    profile: &'a str,
    deployment: Deployment,
    workload: Workload,
}

type Figure = (&'static str, &'static str, Estimate);

/// Figures by JSON key and by name for people; times in ms, memory in GiB.
fn figures(prediction: &Prediction, load: Load) -> Vec<Figure> {
    let ms = |e: Estimate| e.map(|s| Seconds(s).ms());
    let (first, step) = match load {
        Load::Batch(_) => (("prefill_ms", "prefill (ms)"), ("decode_step_ms", "decode step, mean (ms)")),
        Load::Concurrency(_) => {
            (("ttft_ms", "time to first token (ms)"), ("tpot_ms", "time per output token (ms)"))
        }
    };
    vec![
        (first.0, first.1, ms(prediction.ttft())),
        (step.0, step.1, ms(prediction.tpot())),
        ("latency_ms", "whole request (ms)", ms(prediction.latency())),
        ("output_tokens_per_s", "output (tok/s)", prediction.output_tokens_per_s()),
        ("memory_gib", "memory per device (GiB)", prediction.memory().map(|b| Bytes(b).gib())),
    ]
}

impl Request<'_> {
    fn to_json(&self, prediction: &Prediction) -> Map<String, Value> {
        let mut root = Map::new();
        let (load_key, sequences) = match self.workload.load {
            Load::Batch(n) => ("batch", n),
            Load::Concurrency(n) => ("concurrency", n),
        };
        let echo = [
            ("model", json!(self.spec.name)),
            ("profile", json!(self.profile)),
            ("engine", json!(self.deployment.engine)),
            ("tp", json!(self.deployment.tp)),
            ("dtype", json!(self.deployment.dtype)),
            ("kv_dtype", json!(self.deployment.kv_dtype)),
            (load_key, json!(sequences)),
            ("prompt_tokens", json!(self.workload.prompt)),
            ("output_tokens", json!(self.workload.output)),
            ("architecture", json!(self.architecture)),
        ];
        root.extend(echo.map(|(key, value)| (key.to_string(), value)));
        for (key, _, estimate) in figures(prediction, self.workload.load) {
            root.insert(key.into(), json!(estimate));
        }
        root.insert("in_flight".into(), json!(prediction.in_flight));
        root.insert("fits".into(), json!(prediction.memory.fits()));
        root.insert("breakdown".into(), breakdown(prediction, self.workload.load));
        root
    }

    fn print(&self, prediction: &Prediction) {
        let Deployment { engine, tp, dtype, kv_dtype } = &self.deployment;
        let load = match self.workload.load {
            Load::Batch(n) => format!("batch {n}"),
            Load::Concurrency(n) => format!("concurrency {n}"),
        };
        let Workload { prompt, output, .. } = self.workload;
        println!(
            "{} on {} x{tp}, {engine}, {dtype} (KV {kv_dtype}), {load}, {prompt} + {output} tokens\n",
            self.spec.name, self.profile
        );
        let mut table = titled(&["", "value", "90 % interval", "source"]);
        for (_, name, e) in figures(prediction, self.workload.load) {
            let interval = match e.low == e.high {
                true => "counted".to_string(),
                false => format!("{} - {}", three_digits(e.low), three_digits(e.high)),
            };
            table.add_row([name.to_string(), three_digits(e.value), interval, e.source.to_string()]);
        }
        println!("{table}\n");
        print_parts(prediction, self.workload.load);
        print_pass("Prefill kernels", &prediction.prefill, prediction.prefill_time);
        print_pass("Decode step kernels", &prediction.decode, prediction.decode_time);
        print_memory(&prediction.memory);
    }
}

type Part = (&'static str, Seconds);

/// What the two times are made of.
fn parts(prediction: &Prediction) -> ([Part; 5], [Part; 5]) {
    let (ttft, tpot) = (&prediction.served.ttft, &prediction.served.tpot);
    let first = [
        ("own_prefill_ms", ttft.own_prefill),
        ("prefills_ahead_ms", ttft.prefills_ahead),
        ("decode_steps_ms", ttft.decode_steps),
        ("host_ms", ttft.host),
        ("slot_ms", ttft.slot),
    ];
    let step = [
        ("kernels_ms", tpot.kernels),
        ("slowdown_ms", tpot.slowdown),
        ("host_ms", tpot.host),
        ("prefills_of_others_ms", tpot.prefills_of_others),
        ("shared_steps_ms", tpot.shared_steps),
    ];
    (first, step)
}

fn print_parts(prediction: &Prediction, load: Load) {
    let (first, step) = parts(prediction);
    let names = match load {
        Load::Batch(_) => ["Prefill", "Decode step"],
        Load::Concurrency(_) => ["Time to first token", "Time per output token"],
    };
    for (name, parts) in names.iter().zip([first, step]) {
        let shown = parts.iter().filter(|(_, time)| *time != Seconds::ZERO);
        let named = |(key, time): &Part| format!("{} {time}", key.trim_end_matches("_ms").replace('_', " "));
        println!("{name} = {}", shown.map(named).collect::<Vec<_>>().join(" + "));
    }
    println!();
}

fn breakdown(prediction: &Prediction, load: Load) -> Value {
    let (first, step) = match load {
        Load::Batch(_) => ("prefill_ms", "decode_step_ms"),
        Load::Concurrency(_) => ("ttft_ms", "tpot_ms"),
    };
    let pass = |pass: &PassCost, wall: Seconds| {
        let total = pass.total();
        let ops: Vec<Value> = pass
            .by_op()
            .iter()
            .map(|op| {
                json!({
                    "op": op.op,
                    "family": op.call.family(),
                    "latency_ms": op.latency.ms(),
                    "share": op.latency / total,
                    "source": op.source,
                    "extrapolated": op.extrapolated,
                })
            })
            .collect();
        let layers: Vec<Value> = pass
            .by_layer()
            .iter()
            .map(|(first, layers, latency)| {
                json!({ "first_layer": first, "layers": layers, "latency_ms": latency.ms() })
            })
            .collect();
        json!({
            "kernels_ms": total.ms(),
            "wall_ms": wall.ms(),
            "extrapolated_share": pass.extrapolated_share(),
            "ops": ops,
            "layers": layers,
        })
    };
    let memory = &prediction.memory;
    let object = |parts: [Part; 5]| -> Map<_, _> {
        parts.iter().map(|(key, time)| (key.to_string(), json!(time.ms()))).collect()
    };
    let (ttft, tpot) = parts(prediction);
    json!({
        (first): object(ttft),
        (step): object(tpot),
        "prefill_pass": pass(&prediction.prefill, prediction.prefill_time),
        "decode_pass": pass(&prediction.decode, prediction.decode_time),
        "memory": {
            "weights_gib": memory.weights.gib(),
            "kv_cache_gib": memory.kv_cache.gib(),
            "activations_gib": memory.activations.gib(),
            "reserve_gib": memory.reserve.gib(),
            "budget_gib": memory.budget.gib(),
            "max_sequences": memory.max_sequences(),
        },
    })
}

fn print_pass(title: &str, pass: &PassCost, wall: Seconds) {
    let total = pass.total();
    println!("{title}: {total}, {wall} with the engine's overheads");
    let mut table = titled(&["op", "ms", "share", "source"]);
    let mut ops = pass.by_op();
    ops.sort_by(|a, b| b.latency.0.total_cmp(&a.latency.0));
    for op in ops {
        let source = format!("{}{}", op.source, if op.extrapolated { ", extrapolated" } else { "" });
        let share = format!("{:.1} %", op.latency / total * 100.0);
        table.add_row([op.op.to_string(), three_digits(op.latency.ms()), share, source]);
    }
    println!("{table}\n");
}

fn print_memory(memory: &Memory) {
    println!(
        "Memory per device: weights {}, KV cache {}, activations {}, engine {}; {} may be used{}",
        memory.weights,
        memory.kv_cache,
        memory.activations,
        memory.reserve,
        memory.budget,
        if memory.fits() { "" } else { " - DOES NOT FIT" },
    );
}

fn titled(titles: &[&str]) -> Table {
    let mut table = output::table(titles);
    output::align_right(&mut table, [1, 2]);
    table
}
