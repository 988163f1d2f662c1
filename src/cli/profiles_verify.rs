//! `archplan profiles verify`: predicts whole decoder stacks from a CPU profile, runs them, and compares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use archplan::compute::threads;
use archplan::files;
use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::latency::lowering::Phase;
use archplan::hardware::latency::percent_errors::PercentErrors;
use archplan::hardware::measure::host::Host;
use archplan::hardware::measure::sentinel::Sentinel;
use archplan::hardware::measure::verify::{self, Range, Stack, Trial};
use archplan::hardware::profile::HardwareProfile;
use archplan::model::read;
use archplan::report::kernels::passes::{self, Pass};
use archplan::units::{self, Bytes, DType};
use serde::Serialize;

use crate::cli::progress::Steps;
use crate::cli::{Failure, Global, output, profiles};

/// Arguments of `archplan profiles verify`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Draws decoder stacks whose hidden size and FFN width nobody measured, predicts a prefill and a decode step of
each, runs them on this machine with random weights, and compares. Only for profiles of this machine's CPU.
Keep the machine idle meanwhile.

Examples:
  archplan profiles verify my_profiles/this_cpu
  archplan profiles verify my_profiles/this_cpu --stacks 30 --seed 7 --out results/this_cpu
  archplan profiles verify my_profiles/this_cpu --model ./parent --model ./child --prompt 128 --batch 4 --context 160"
)]
pub struct Args {
    /// Profile: its folder, or its name where --profile-dir finds it
    profile: String,
    /// Stacks to run
    #[arg(long, default_value_t = 16)]
    stacks: usize,
    /// Widest hidden size
    #[arg(long, default_value_t = 2048)]
    max_hidden: u64,
    /// Most weights of a stack, such as 1GiB
    #[arg(long, default_value = "1GiB", value_parser = units::parse_bytes)]
    max_weights: Bytes,
    /// Seed of the shapes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads that run [default: as many as measured]
    #[arg(long)]
    threads: Option<usize>,
    /// Run the decoder stack of this model instead of drawn ones: config.json or folder; may be given more than once
    #[arg(long, value_name = "DIR|FILE")]
    model: Vec<String>,
    /// Type of the models' weights and caches, f32 or bf16
    #[arg(long, default_value_t = DType::Bf16, requires = "model")]
    dtype: DType,
    /// Prompt tokens of the models' prefill, of one sequence
    #[arg(long, default_value_t = 512, requires = "model", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    prompt: u64,
    /// Sequences of the models' decode step
    #[arg(long, default_value_t = 1, requires = "model", value_parser = clap::value_parser!(u64).range(1..=4096))]
    batch: u64,
    /// Cached tokens of each of them, the new one included
    #[arg(long, default_value_t = 512, requires = "model", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    context: u64,
    /// Folder for verify.csv and verify.svg
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// One pass as it is written.
#[derive(Debug, Serialize)]
struct Line {
    hidden: usize,
    ffn: usize,
    q_heads: usize,
    kv_heads: usize,
    head_dim: usize,
    layers: usize,
    dtype: DType,
    phase: &'static str,
    batch: u64,
    tokens: u64,
    predicted_ms: f64,
    low_ms: f64,
    high_ms: f64,
    measured_ms: f64,
    spread_percent: f64,
    error_percent: f64,
}

#[derive(Serialize)]
struct Printed<'a> {
    passes: &'a [Line],
    summary: BTreeMap<&'static str, Summary>,
}

#[derive(Serialize)]
struct Summary {
    n: usize,
    median_ape_percent: f64,
    mean_ape_percent: f64,
    p90_ape_percent: f64,
    bias_percent: f64,
    coverage_percent: f64,
}

/// Runs `archplan profiles verify`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let profile = profiles::named_or_at(global, &args.profile)?;
    let host = Host::read(args.threads.unwrap_or(profile.device.cores as usize));
    if !profile.device.name.starts_with(&host.cpu) {
        return Err(Failure::bad_input(format!(
            "`{}` is a profile of {}, and this is {}: stacks can only be run on the CPU that was measured",
            profile.name, profile.device.name, host.cpu
        )));
    }
    let pool = threads::pinned(host.threads).map_err(Failure::failed)?;
    let lines = pool.install(|| trials(args, &profile))?;
    if let Some(out) = &args.out {
        write(out, &profile, &lines)?;
    }
    print(&lines, global)
}

/// verify.csv and verify.svg.
fn write(out: &Path, profile: &HardwareProfile, lines: &[Line]) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    lines.iter().try_for_each(|line| writer.serialize(line)).map_err(Failure::failed)?;
    let table = writer.into_inner().map_err(|e| Failure::failed(e.error()))?;
    let pass = |line: &Line| Pass {
        prefill: line.phase == "prefill",
        measured_ms: line.measured_ms,
        predicted_ms: line.predicted_ms,
        low_ms: line.low_ms,
        high_ms: line.high_ms,
    };
    let words = |(name, phase): (&str, Option<&str>)| {
        let s = summary(lines, phase);
        format!(
            "{name}: {} passes, median error {:.1} %, mean {:.1} %, 90th percentile {:.1} %; {:.0} % inside the 90 % interval.",
            s.n, s.median_ape_percent, s.mean_ape_percent, s.p90_ape_percent, s.coverage_percent
        )
    };
    let said = [("Prefill", Some("prefill")), ("Decode", Some("decode"))].map(words).to_vec();
    let title = format!("{}: decoder stacks predicted and run", profile.device.name);
    let picture =
        passes::svg(&title, said, &lines.iter().map(pass).collect::<Vec<_>>()).map_err(Failure::failed)?;
    for (name, bytes) in [("verify.csv", table.as_slice()), ("verify.svg", picture.as_bytes())] {
        let path = out.join(name);
        files::write_atomically(&path, bytes)
            .map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
    }
    Ok(())
}

fn trials(args: &Args, profile: &HardwareProfile) -> Result<Vec<Line>, Failure> {
    let types = [DType::F32, DType::Bf16];
    let costs = KernelModel::open(profile, &types, &types).map_err(Failure::bad_input)?;
    let stacks = if args.model.is_empty() { drawn(args, profile)? } else { typed(args)? };
    let mut sentinel = Sentinel::default();
    let steps = Steps::new(stacks.len() as u64);
    let mut lines = Vec::new();
    for (i, stack) in stacks.iter().enumerate() {
        let trials = verify::run(stack, &costs, &mut sentinel).map_err(Failure::failed)?;
        let mine: Vec<Line> = trials.iter().map(line).collect();
        let errors: Vec<_> = mine.iter().map(|l| format!("{} {:+.1} %", l.phase, l.error_percent)).collect();
        steps.say(&format!("stack {} of {}: {}", i + 1, stacks.len(), errors.join(", ")));
        steps.done();
        lines.extend(mine);
    }
    Ok(lines)
}

fn drawn(args: &Args, profile: &HardwareProfile) -> Result<Vec<Stack>, Failure> {
    let range = Range {
        stacks: args.stacks,
        hidden: args.max_hidden.max(512),
        weights: args.max_weights,
        seed: args.seed,
    };
    let stacks = verify::draw(profile, &range).map_err(Failure::bad_input)?;
    if stacks.len() < args.stacks {
        log::warn!("only {} of {} stacks of unmeasured widths fit the bounds", stacks.len(), args.stacks);
    }
    Ok(stacks)
}

fn typed(args: &Args) -> Result<Vec<Stack>, Failure> {
    let one = |typed: &String| {
        let spec = read::resolve(typed).map_err(Failure::bad_input)?;
        verify::stack_of(&spec, args.dtype, args.prompt, args.batch, args.context).ok_or_else(|| {
            Failure::bad_input(format!(
                "{typed}: layers of unlike shapes cannot be run here; expected a uniform model"
            ))
        })
    };
    args.model.iter().map(one).collect()
}

fn line(trial: &Trial) -> Line {
    let shape = trial.stack.shape;
    let (phase, batch, tokens) = match trial.phase {
        Phase::Prefill { batch, tokens } => ("prefill", batch, tokens),
        Phase::Decode { batch, kv_len } => ("decode", batch, kv_len),
    };
    let (predicted, measured) = (&trial.predicted, trial.measured.median.ms());
    let ms = |seconds: f64| (seconds * 1e6).round() / 1e3;
    let tenths = |percent: f64| (percent * 10.0).round() / 10.0;
    Line {
        hidden: shape.hidden,
        ffn: shape.ffn,
        q_heads: shape.heads.q_heads,
        kv_heads: shape.heads.kv_heads,
        head_dim: shape.heads.head_dim,
        layers: shape.layers,
        dtype: trial.stack.dtype,
        phase,
        batch,
        tokens,
        predicted_ms: ms(predicted.value),
        low_ms: ms(predicted.low),
        high_ms: ms(predicted.high),
        measured_ms: ms(measured / 1e3),
        spread_percent: tenths(trial.measured.spread * 100.0),
        error_percent: tenths((predicted.value * 1e3 / measured - 1.0) * 100.0),
    }
}

fn summary(lines: &[Line], phase: Option<&str>) -> Summary {
    let mine = lines.iter().filter(|line| phase.is_none_or(|phase| line.phase == phase));
    let error = |line: &Line| {
        let inside = (line.low_ms..=line.high_ms).contains(&line.measured_ms);
        ((line.predicted_ms / line.measured_ms).ln(), inside)
    };
    let e = PercentErrors::of(mine.map(error));
    Summary {
        n: e.n,
        median_ape_percent: e.median_ape,
        mean_ape_percent: e.mean_ape,
        p90_ape_percent: e.p90_ape,
        bias_percent: e.bias,
        coverage_percent: e.coverage,
    }
}

fn print(lines: &[Line], global: &Global) -> Result<(), Failure> {
    let summary: BTreeMap<_, _> = [("all", None), ("prefill", Some("prefill")), ("decode", Some("decode"))]
        .into_iter()
        .map(|(name, phase)| (name, summary(lines, phase)))
        .collect();
    if global.json {
        return output::json(&Printed { passes: lines, summary });
    }
    let titles = [
        "hidden",
        "FFN",
        "heads",
        "KV",
        "dim",
        "layers",
        "dtype",
        "pass",
        "batch",
        "tokens",
        "predicted ms",
        "90 % interval",
        "measured ms",
        "spread %",
        "error %",
    ];
    let mut table = output::table(&titles);
    output::align_right(&mut table, (0..6).chain(8..15));
    for l in lines {
        table.add_row([
            l.hidden.to_string(),
            l.ffn.to_string(),
            l.q_heads.to_string(),
            l.kv_heads.to_string(),
            l.head_dim.to_string(),
            l.layers.to_string(),
            l.dtype.to_string(),
            l.phase.to_string(),
            l.batch.to_string(),
            l.tokens.to_string(),
            units::three_digits(l.predicted_ms),
            format!("{} - {}", units::three_digits(l.low_ms), units::three_digits(l.high_ms)),
            units::three_digits(l.measured_ms),
            format!("{:.1}", l.spread_percent),
            format!("{:+.1}", l.error_percent),
        ]);
    }
    println!("{table}\n");
    print_summary(&summary);
    Ok(())
}

fn print_summary(summary: &BTreeMap<&'static str, Summary>) {
    let mut table =
        output::table(&["", "passes", "median APE %", "mean %", "p90 %", "bias %", "inside 90 % interval %"]);
    output::align_right(&mut table, 1..7);
    for (name, s) in summary {
        let percent = |x: f64| format!("{x:.1}");
        let figures =
            [s.median_ape_percent, s.mean_ape_percent, s.p90_ape_percent, s.bias_percent, s.coverage_percent];
        let cells = [name.to_string(), s.n.to_string()].into_iter().chain(figures.map(percent));
        table.add_row(cells.collect::<Vec<_>>());
    }
    println!("{table}");
    println!("\nbias > 0: predicted too slow");
}
