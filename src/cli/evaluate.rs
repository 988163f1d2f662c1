//! `archplan evaluate`: loss and perplexity of a checkpoint on text, and how far it is from its parent.

use std::path::PathBuf;
use std::time::Instant;

use archplan::compute::threads;
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::network::evaluation::{Comparison, Evaluation, Mean, Options, Step, evaluate};
use archplan::weights::network::source::{LayerSource, Streamed};
use archplan::weights::network::text::{self, Request, Samples};
use serde_json::{Value, json};

use crate::cli::device::DeviceArgs;
use crate::cli::progress::Steps;
use crate::cli::{Failure, Global, arguments, output};

/// Arguments of `archplan evaluate`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan evaluate --model ./child --data heldout.jsonl
  archplan evaluate --model ./child --parent ./parent --data heldout.txt --samples 64 --seq-len 512
  archplan evaluate --model ./child --data tokens.jsonl --threads 16 --json

--data is .jsonl (one object a line with `text`, `messages` of role and content, or `tokens`; a line is one
sample, cut at --seq-len) or .txt (cut into consecutive samples of --seq-len tokens). Text needs the model's
tokenizer.json; conversations are written as plain turns (ChatML where the tokenizer knows it), not by the chat
template. Everything runs in f32, one layer's weights in memory at a time. Intervals are of 95 %,
over samples.")]
pub struct Args {
    /// Checkpoint directory (config.json, safetensors)
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Text to predict
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Compare with this checkpoint: same most likely token, KL divergence
    #[arg(long, value_name = "DIR")]
    parent: Option<PathBuf>,
    /// How many samples, the first of the file [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    samples: Option<u64>,
    /// Tokens a sample has at most
    #[arg(long, value_name = "TOKENS", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(2..=1 << 20))]
    seq_len: u64,
    /// Tokens run through a layer at a time: bounds memory, not results
    #[arg(long, value_name = "TOKENS", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(1..))]
    batch_tokens: u64,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs `archplan evaluate`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    args.device.with(|| measure(args, global))
}

fn measure(args: &Args, global: &Global) -> Result<(), Failure> {
    let open = |path: &PathBuf| Checkpoint::open(path).map_err(Failure::bad_input);
    let checkpoint = open(&args.model)?;
    let model = Streamed::new(&checkpoint).map_err(Failure::bad_input)?;
    let parent_checkpoint = args.parent.as_ref().map(open).transpose()?;
    let parent = parent_checkpoint.as_ref().map(Streamed::new).transpose().map_err(Failure::bad_input)?;
    let request = Request {
        samples: args.samples.map(|n| n as usize),
        seq_len: args.seq_len as usize,
        vocabulary: model.settings().vocabulary,
    };
    let samples = text::read(&args.data, &args.model, request).map_err(Failure::bad_input)?;
    let count = arguments::threads(args.threads);
    let pool = threads::pinned(count).map_err(Failure::failed)?;
    let options = Options { batch_tokens: args.batch_tokens as usize };
    let mut bar = None;
    let mut progress = |step: Step| {
        let bar = bar.get_or_insert_with(|| Steps::new(step.total as u64));
        bar.done();
    };
    let held: usize = samples.sequences.iter().map(Vec::len).sum();
    log::info!("{} samples, {held} tokens, {count} threads", samples.sequences.len());
    let started = Instant::now();
    let parent = parent.as_ref().map(|parent| parent as &dyn LayerSource);
    // The pool's own thread works: what is not `Send` in the closure stays here.
    let found = evaluate_in(&pool, &model, parent, &samples, options, &mut progress)?;
    drop(bar);
    let seconds = started.elapsed().as_secs_f64();
    let speed = held as f64 / seconds;
    if global.json {
        return output::json(&as_json(args, &samples, &found, seconds, speed, count));
    }
    println!("{}", table(&found));
    println!("{} tokens predicted in {} samples; {speed:.0} tokens/s", found.tokens, found.samples);
    Ok(())
}

fn evaluate_in(
    pool: &rayon::ThreadPool,
    model: &Streamed<'_>,
    parent: Option<&dyn LayerSource>,
    samples: &Samples,
    options: Options,
    progress: &mut (dyn FnMut(Step) + Send),
) -> Result<Evaluation, Failure> {
    let run = || evaluate(model, parent, &samples.sequences, options, progress);
    pool.install(run).map_err(Failure::bad_input)
}

fn table(found: &Evaluation) -> comfy_table::Table {
    let mut table = output::table(&["figure", "value", "95 % interval"]);
    let mut row = |name: &str, mean: &Mean, show: &dyn Fn(f64) -> String| {
        let interval = mean.interval().map(|(low, high)| format!("{} to {}", show(low), show(high)));
        table.add_row([name.to_string(), show(mean.mean), interval.unwrap_or_else(|| "one sample".into())]);
    };
    let nats = |x: f64| format!("{x:.4}");
    row("loss, nats a token", &found.nll, &nats);
    row("perplexity", &found.nll, &|x| format!("{:.3}", x.exp()));
    if let Some(parent) = &found.parent {
        row("loss of the parent", &parent.nll, &nats);
        row("loss above the parent's", &parent.difference, &nats);
        row("same most likely token", &parent.agreement, &|x| format!("{:.2} %", 100.0 * x));
        row("KL from the parent, nats a token", &parent.kl, &nats);
    }
    output::align_right(&mut table, [1, 2]);
    table
}

fn as_json(
    args: &Args,
    samples: &Samples,
    found: &Evaluation,
    seconds: f64,
    speed: f64,
    threads: usize,
) -> Value {
    let mean = |mean: &Mean| {
        json!({
            "mean": mean.mean,
            "standard_error": mean.standard_error,
            "interval_95_percent": mean.interval().map(|(low, high)| [low, high]),
        })
    };
    let against = |parent: &Comparison| {
        json!({
            "directory": args.parent,
            "loss_nats_per_token": mean(&parent.nll),
            "loss_difference_nats_per_token": mean(&parent.difference),
            "top1_agreement": mean(&parent.agreement),
            "kl_nats_per_token": mean(&parent.kl),
        })
    };
    json!({
        "model": args.model,
        "data": args.data,
        "data_sha256": samples.data_hash,
        "tokenizer_sha256": samples.tokenizer_hash,
        "samples": found.samples,
        "predicted_tokens": found.tokens,
        "loss_nats_per_token": mean(&found.nll),
        "perplexity": found.perplexity(),
        "parent": found.parent.as_ref().map(against),
        "threads": threads,
        "seconds": seconds,
        "tokens_per_second": speed,
    })
}
