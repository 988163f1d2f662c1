//! `archplan search`: the shape to prune to, the front around it, and the proof.

use std::path::{Path, PathBuf};

use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::latency::prediction::Machine;
use archplan::model::read;
use archplan::model::spec::ModelSpec;
use archplan::model::workload::Workload;
use archplan::plan::budget::Budget;
use archplan::plan::record::{Metric, Outcome, Plan};
use archplan::plan::request::{self, Request, Target};
use archplan::plan::run;
use archplan::quality::prior::{QualityPrior, Recovery};
use archplan::quality::study::judge::Judge;
use archplan::report::bundle;
use archplan::search::space::options::SpaceOptions;
use archplan::units;

use crate::cli::search_scores::{ScoreArgs, Scored};
use crate::cli::search_target::{Device, TargetArgs};
use crate::cli::{
    Failure, Global, costs, output, profiles, search_layers, search_print, search_scores, search_target,
};

/// Arguments of `archplan search`.
#[derive(clap::Args, Debug)]
#[command(
    allow_negative_numbers = true,
    after_help = "Budgets are AND-combined and must hold on every profile with every workload. The space and its
size are printed first. Exit code 3: no allowed shape meets the budgets; the binding ones are
named with the nearest value any shape reaches.

Examples:
  archplan search --model qwen3-32b --profile ascend_910b --tp 4 --dtype int8 --batch 64 \\
      --prompt 2048 --output 1024 --speedup 1.3x --out run1
  archplan search --model ./checkpoint --profile h200_sxm --dtype fp8 --kv-dtype fp8 \\
      --concurrency 64 --prompt 1024 --output 512 --max-tpot 20ms --max-memory 40GiB \\
      --confidence 0.9 --out run2
  archplan search --model llama-3.1-8b --profile h100_sxm --profile a100_sxm,tp=2 \\
      --workload batch=8,prompt=4096,output=256 --workload concurrency=32,prompt=1024,output=512 \\
      --speedup 1.5x --multiple hidden=128,ffn=256 --skip kv_heads --out run3
  archplan search --model ./checkpoint --profile h200_sxm --batch 16 --prompt 1024 --output 256 \\
      --speedup 1.4x --scores scores.csv --importance stats.safetensors --try 12 --out run4
  archplan search --model qwen3-8b --profile h200_sxm --batch 16 --prompt 1024 --output 256 \\
      --dry-run"
)]
pub struct Args {
    /// Parent: built-in model name, config.json or checkpoint directory
    #[arg(long)]
    model: String,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    space: SpaceArgs,
    #[command(flatten)]
    scores: ScoreArgs,
    /// Tokens of recovery training the accuracy estimate assumes, such as 100B; 0 = none [default: 100B; with
    /// --scores none, since they are measured without]
    #[arg(
        long,
        value_name = "TOKENS",
        allow_hyphen_values = true,
        help_heading = "Quality",
        conflicts_with = "scores"
    )]
    recovery_tokens: Option<String>,
    /// Folder for plan.json, candidates.csv, front.csv, front.svg, front.png, report.html and target/
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Write to a folder that holds other things too; only files of a result are replaced
    #[arg(long, help_heading = "Output")]
    force: bool,
    /// Print the space and stop
    #[arg(long, help_heading = "Output")]
    dry_run: bool,
    /// Seed of the sample that is drawn in the picture
    #[arg(long, default_value_t = 0, help_heading = "Output")]
    seed: u64,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Budgets")]
struct BudgetArgs {
    /// Time to first token at most (of a static batch: its prefill), such as 500ms
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    max_ttft: Option<String>,
    /// Time per output token at most (of a static batch: the mean decode step), such as 20ms
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    max_tpot: Option<String>,
    /// Time of a whole request at most, such as 10s
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    max_latency: Option<String>,
    /// Output throughput of the replica at least, such as 2500tok/s
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    min_throughput: Option<String>,
    /// Parameters at most, embeddings included, such as 6B
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    max_params: Option<String>,
    /// Memory of one device at most, such as 40GiB
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    max_memory: Option<String>,
    /// Output throughput against the parent's at least, such as 1.3x
    #[arg(long, value_name = "RATIO", allow_hyphen_values = true)]
    speedup: Option<String>,
    /// Chance with which each budget on a time or rate must hold, 0.5 to below 1 [default: its best single
    /// value must hold]
    #[arg(long, value_name = "CHANCE")]
    confidence: Option<f64>,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Search space")]
struct SpaceArgs {
    /// Multiples each axis keeps, such as hidden=128,ffn=128 [default: those of the profile]
    #[arg(long, value_name = "AXIS=N,…")]
    multiple: Vec<String>,
    /// Bounds of axes, such as hidden=2048..5120,layers=48
    #[arg(long, value_name = "AXIS=LOW..HIGH,…")]
    bounds: Vec<String>,
    /// Axes to leave as they are: layers, hidden, ffn, q_heads, kv_heads
    #[arg(long, value_name = "AXIS,…")]
    skip: Vec<String>,
    /// Largest share of hidden size, FFN width and heads to prune
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    max_width_prune: f64,
    /// Largest share of the layers to prune
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    max_depth_prune: f64,
    /// Also allow more query heads per KV head than the parent has (KV heads are merged then)
    #[arg(long)]
    merge_kv: bool,
}

impl BudgetArgs {
    fn read(&self) -> Result<Vec<Budget>, Failure> {
        let typed = [
            (Metric::TtftMs, "--max-ttft", &self.max_ttft),
            (Metric::TpotMs, "--max-tpot", &self.max_tpot),
            (Metric::LatencyMs, "--max-latency", &self.max_latency),
            (Metric::OutputTokensPerS, "--min-throughput", &self.min_throughput),
            (Metric::Params, "--max-params", &self.max_params),
            (Metric::MemoryGib, "--max-memory", &self.max_memory),
            (Metric::Speedup, "--speedup", &self.speedup),
        ];
        let given = typed.iter().filter_map(|(metric, flag, text)| Some((*metric, *flag, text.as_ref()?)));
        given
            .map(|(metric, flag, text)| {
                Budget::parse(metric, text).map_err(|e| Failure::bad_input(format!("{flag}: {e}")))
            })
            .collect()
    }
}

impl SpaceArgs {
    fn read(&self, devices: &[Device]) -> Result<SpaceOptions, Failure> {
        let mut options = SpaceOptions {
            max_width_prune: self.max_width_prune,
            max_depth_prune: self.max_depth_prune,
            merge_kv: self.merge_kv,
            ..SpaceOptions::default()
        };
        let liked = devices.iter().map(|device| device.profile.device.granularity);
        if let Some(common) = request::common_granularity(liked) {
            options.multiples.hidden = common.hidden;
            options.multiples.ffn = common.ffn;
        }
        let flagged = |flag: &'static str| move |e| Failure::bad_input(format!("{flag}: {e}"));
        for typed in &self.multiple {
            options.set_multiples(typed).map_err(flagged("--multiple"))?;
        }
        for typed in &self.bounds {
            options.set_bounds(typed).map_err(flagged("--bounds"))?;
        }
        for typed in &self.skip {
            options.set_skip(typed).map_err(flagged("--skip"))?;
        }
        Ok(options)
    }
}

fn recovery(typed: &str) -> Result<Recovery, Failure> {
    if typed.trim() == "0" {
        return Ok(Recovery::ONE_SHOT);
    }
    let tokens =
        units::parse_count(typed).map_err(|e| Failure::bad_input(format!("--recovery-tokens: {e}")))?;
    Recovery::tokens_b(tokens / 1e9).map_err(|e| Failure::bad_input(format!("--recovery-tokens: {e}")))
}

/// What is asked, but for what shapes are judged by.
struct Question<'a> {
    args: &'a Args,
    spec: &'a ModelSpec,
    devices: &'a [Device],
    prices: &'a [KernelModel],
    workloads: Vec<Workload>,
    budgets: Vec<Budget>,
    prior: QualityPrior,
    recovery: Recovery,
    space: SpaceOptions,
}

impl Question<'_> {
    fn request<'q>(&'q self, scores: Option<&'q Judge>) -> Request<'q> {
        Request {
            spec: self.spec,
            targets: self
                .devices
                .iter()
                .zip(self.prices)
                .map(|(device, costs)| target(device, costs))
                .collect(),
            workloads: self.workloads.clone(),
            budgets: self.budgets.clone(),
            confidence: self.args.budget.confidence,
            prior: &self.prior,
            scores,
            recovery: self.recovery,
            space: self.space.clone(),
            seed: self.args.seed,
            command: output::command_line(),
        }
    }
}

impl Question<'_> {
    /// The plan, after what is to be tried has been.
    fn answer(&self, scored: Option<&Scored>, request: &Request<'_>) -> Result<Plan, Failure> {
        let args = &self.args.scores;
        let layered = |judge: &Judge| match args.per_layer {
            true => search_layers::solve(&self.request(Some(judge)), args.loadable.into()),
            false => Ok(None),
        };
        let judge = match scored {
            Some(scored) => {
                scored.fill(request)?;
                let refill = |judge: &Judge| scored.fill(&self.request(Some(judge)));
                let besides = |judge: &Judge| {
                    layered(judge)?.map(|found| search_layers::candidate(&found, judge)).transpose()
                };
                scored.tried(args, Path::new(&self.args.model), &refill, &besides)?;
                Some(scored.judge()?)
            }
            None => None,
        };
        let mut plan = run::search(&self.request(judge.as_ref())).map_err(|e| match e.is_internal() {
            true => Failure::failed(e),
            false => Failure::bad_input(e),
        })?;
        if let Some(judge) = &judge
            && let Some(found) = layered(judge)?
        {
            search_layers::attach(&mut plan, found, judge, args.loadable.into())?;
        }
        Ok(plan)
    }
}

/// Runs `archplan search`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    args.scores.device.with(|| search(args, global))
}

fn search(args: &Args, global: &Global) -> Result<(), Failure> {
    let budgets = args.budget.read()?;
    let recovery = match (&args.recovery_tokens, &args.scores.scores) {
        (Some(typed), _) => recovery(typed)?,
        (None, Some(_)) => Recovery::ONE_SHOT,
        (None, None) => Recovery::STANDARD,
    };
    let workloads: Vec<Workload> = args.target.workloads()?;
    let spec = read::resolve(&args.model).map_err(Failure::bad_input)?;
    let devices = args.target.devices(&profiles::at_hand(global)?)?;
    let space = args.space.read(&devices)?;
    let prices: Vec<KernelModel> = devices
        .iter()
        .map(|d| costs::of(&d.profile, &[d.deployment.dtype], &[d.deployment.kv_dtype]))
        .collect::<Result<_, _>>()?;
    let prior = QualityPrior::shipped().map_err(Failure::failed)?;
    let scored = args.scores.load(&spec, args.out.as_deref())?;
    let judge = scored.as_ref().map(Scored::judge).transpose()?;
    let question = Question {
        args,
        spec: &spec,
        devices: &devices,
        prices: &prices,
        workloads,
        budgets,
        prior,
        recovery,
        space,
    };
    let request = question.request(judge.as_ref());
    let shapes = request.search_space().map_err(Failure::bad_input)?;
    search_target::warn_beyond_context(&spec, &request.workloads);
    search_print::before(&request, &shapes, global)?;
    if args.dry_run {
        return if global.json { search_print::space_json(&request, &shapes) } else { Ok(()) };
    }
    if let Some(dir) = &args.out {
        bundle::check_target(dir, args.force || search_scores::is_ours(dir)).map_err(Failure::bad_input)?;
    }
    let plan = question.answer(scored.as_ref(), &request)?;
    let written = match &args.out {
        Some(dir) => bundle::write(&plan, &spec, dir, args.force || search_scores::is_ours(dir))
            .map_err(Failure::failed)?,
        None => Vec::new(),
    };
    search_print::after(&plan, &written, global)?;
    match &plan.outcome {
        Outcome::Done => Ok(()),
        Outcome::Infeasible { .. } if plan.per_layer.is_some() => {
            log::warn!("no shape with all layers alike meets the budgets; the one layer by layer does");
            Ok(())
        }
        Outcome::Infeasible { binding } => Err(Failure::Infeasible(search_print::infeasible(&plan, binding))),
    }
}

fn target<'a>(device: &'a Device, costs: &'a KernelModel) -> Target<'a> {
    Target {
        profile: request::profile_record(&device.profile),
        machine: Machine { costs, hbm: device.profile.device.hbm, engine: &device.engine },
        deployment: device.deployment.clone(),
    }
}
