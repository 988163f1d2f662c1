//! `archplan ablate`: what each step of the surgery is worth, before any training.

use std::path::PathBuf;

use archplan::compute::threads;
use archplan::model::architecture::Architecture;
use archplan::model::per_layer::Target;
use archplan::model::spec::NormLayout;
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::importance::file::Importance;
use archplan::weights::network::evaluation::{Options, evaluate};
use archplan::weights::network::source::{LayerSource, Resident, Streamed};
use archplan::weights::network::text::{self, Request, Samples};
use archplan::weights::surgery::ladder::{self, Rung};
use archplan::weights::surgery::operation::Operation;
use archplan::weights::surgery::options::{DepthMethod, Options as SurgeryOptions};
use archplan::weights::surgery::trial;
use serde_json::json;

use crate::cli::device::DeviceArgs;
use crate::cli::progress::Steps;
use crate::cli::surgery_options::{self, DataArgs, repair_text};
use crate::cli::{Failure, Global, output, prune, prune_target};

/// Arguments of `archplan ablate`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan ablate --model ./parent --target run1 --importance stats.safetensors --heldout heldout.jsonl
  archplan ablate --model ./parent --target width.json --target depth.json --heldout heldout.jsonl \\
      --importance stats-1.safetensors --importance stats-2.safetensors --json

Every child is made in memory, as `archplan prune` would write it, and its loss on held-out text is measured before any training.
Several statistics, of other samples each, show how much is chance: the mean over them is printed, and the range.")]
pub struct Args {
    /// Checkpoint directory to prune
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Shape to prune to, as for `archplan prune`; may be given more than once
    #[arg(long, required = true, value_name = "DIR|FILE")]
    target: Vec<PathBuf>,
    /// Statistics of the model; may be given more than once
    #[arg(long, required = true, value_name = "FILE")]
    importance: Vec<PathBuf>,
    /// Text to measure the loss on
    #[arg(long, value_name = "FILE")]
    heldout: PathBuf,
    /// Which layers go: block-influence, contiguous, or layer numbers from 0
    #[arg(long, value_name = "METHOD", default_value = "contiguous")]
    depth_method: DepthMethod,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Losses of one rung for one target, one per statistics.
struct Row {
    target: String,
    rung: &'static str,
    losses: Vec<f64>,
}

/// Runs `archplan ablate`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    args.device.with(|| ablate(args, global))
}

fn ablate(args: &Args, global: &Global) -> Result<(), Failure> {
    let parent = Checkpoint::open(&args.model).map_err(Failure::bad_input)?;
    let targets: Vec<Target> =
        args.target.iter().map(|typed| prune_target::read(typed, parent.spec())).collect::<Result<_, _>>()?;
    let mut seeds = Vec::new();
    for path in &args.importance {
        let (importance, _) = prune::statistics(path, &parent)?;
        let (_, samples) = repair_text(&args.data, &parent, &args.model, Some(&importance.header))?;
        seeds.push((importance, samples));
    }
    let heldout = Request {
        samples: None,
        seq_len: args.data.seq_len.unwrap_or(1024) as usize,
        vocabulary: parent.spec().vocab_size as usize,
    };
    let heldout = text::read(&args.heldout, &args.model, heldout).map_err(Failure::bad_input)?;
    let sandwich = parent.spec().norms == NormLayout::Sandwich;
    let method = args.depth_method.clone();
    let steps = targets.iter().map(|target| -> Result<Vec<Rung>, Failure> {
        let options = SurgeryOptions { depth: method.clone(), ..SurgeryOptions::default() };
        let options = surgery_options::with_parents(options, target, parent.spec())?;
        Ok(ladder::rungs(&options.depth, sandwich))
    });
    let steps: Vec<Vec<Rung>> = steps.collect::<Result<_, _>>()?;
    let pool = threads::pinned(args.data.threads()).map_err(Failure::failed)?;
    let streamed = Streamed::new(&parent).map_err(Failure::bad_input)?;
    let whole = pool.install(|| loss(&streamed, &heldout))?;
    let bar = Steps::new((steps.iter().map(Vec::len).sum::<usize>() * seeds.len()) as u64);
    let mut rows = Vec::new();
    for (target, rungs) in targets.iter().map(|target| &target.architecture).zip(&steps) {
        for rung in rungs {
            let mut losses = Vec::new();
            for (importance, samples) in &seeds {
                bar.say(&format!("{target}: {}", rung.name));
                losses.push(pool.install(|| trial(&parent, target, rung, importance, samples, &heldout))?);
                bar.done();
            }
            rows.push(Row { target: target.to_string(), rung: rung.name, losses });
        }
    }
    drop(bar);
    report(args, global, whole, &rows)
}

fn trial(
    parent: &Checkpoint,
    target: &Architecture,
    rung: &Rung,
    importance: &Importance,
    samples: &Samples,
    heldout: &Samples,
) -> Result<f64, Failure> {
    let planned = ladder::plan(parent, target, rung, &importance.sums).map_err(Failure::bad_input)?;
    let (options, sums) = (&rung.options, Some(&importance.sums));
    let operation = Operation { parent, planned: &planned, options, sums, samples: &samples.sequences };
    let (child, _): (Resident, _) = trial::in_memory(&operation).map_err(Failure::failed)?;
    loss(&child, heldout)
}

fn loss(model: &dyn LayerSource, heldout: &Samples) -> Result<f64, Failure> {
    let found = evaluate(model, None, &heldout.sequences, Options::default(), &mut |_| ());
    Ok(found.map_err(Failure::bad_input)?.nll.mean)
}

fn report(args: &Args, global: &Global, parent: f64, rows: &[Row]) -> Result<(), Failure> {
    let mean = |row: &Row| row.losses.iter().sum::<f64>() / row.losses.len().max(1) as f64;
    if global.json {
        let row = |row: &Row| json!({"target": row.target, "steps": row.rung, "loss_nats_per_token": mean(row), "losses_nats_per_token": row.losses});
        return output::json(&json!({
            "model": args.model,
            "heldout": args.heldout,
            "importance": args.importance,
            "parent_loss_nats_per_token": parent,
            "rows": rows.iter().map(row).collect::<Vec<_>>(),
        }));
    }
    println!("loss of the parent: {parent:.4} nats a token");
    let mut table = output::table(&["target", "steps", "loss, nats a token", "range", "above the parent"]);
    let mut last = "";
    for row in rows {
        let least = row.losses.iter().copied().fold(f64::INFINITY, f64::min);
        let most = row.losses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let target = if last == row.target { String::new() } else { row.target.clone() };
        last = &row.target;
        table.add_row([
            target,
            row.rung.to_string(),
            format!("{:.4}", mean(row)),
            format!("{least:.4} to {most:.4}"),
            format!("{:+.4}", mean(row) - parent),
        ]);
    }
    output::align_right(&mut table, [2, 3, 4]);
    println!("{table}");
    Ok(())
}
