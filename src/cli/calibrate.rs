//! `archplan calibrate`: what in a checkpoint matters, from its activations on calibration text.

use std::path::PathBuf;
use std::time::Instant;

use archplan::model::spec::NormLayout;
use archplan::units;
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::importance::calibrate::{self, CalibrateError, Run, Step};
use archplan::weights::importance::error::StatisticsError;
use archplan::weights::importance::fields;
use archplan::weights::importance::file::Importance;
use archplan::weights::importance::header::{DataIdentity, Header, ModelIdentity, part_range};
use archplan::weights::network::source::Streamed;
use archplan::weights::network::text::{self, Request};

use crate::cli::calibrate_files::{self, Action};
use crate::cli::device::DeviceArgs;
use crate::cli::progress::Steps;
use crate::cli::{Failure, Global, arguments};

/// Arguments of `archplan calibrate`.
#[derive(clap::Args, Debug)]
#[command(
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    after_help = "The model runs once over the samples, one layer's weights in memory at a time. Interrupted, the same command
goes on where it was (FILE.partial). Parts that ran on different machines are added by `merge`.
docs/calibrate-on-a-cluster.md has a Slurm array and a Kubernetes job.

Examples:
  archplan calibrate --model my-model --data text.jsonl --samples 512 --seq-len 2048 --out stats.safetensors
  archplan calibrate --model my-model --data text.txt --shard 0/8 --out part-0.safetensors
  archplan calibrate merge stats.safetensors part-0.safetensors part-1.safetensors
  archplan calibrate script --out hooks.py                 gather them with PyTorch instead
  archplan calibrate import hooked.safetensors --model my-model --out stats.safetensors
  archplan calibrate show stats.safetensors"
)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    run: Option<RunArgs>,
    /// Not in [`RunArgs`]: clap takes a part with a part in it for absent.
    #[command(flatten)]
    device: DeviceArgs,
}

/// Arguments of a run.
#[derive(clap::Args, Debug)]
struct RunArgs {
    /// Checkpoint directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Calibration text: .jsonl (`text`, `messages` or `tokens` on each line) or .txt
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// File of statistics to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Samples to take, the first of the file
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Tokens a sample has at most [default: 2048, or the model's context where that is shorter]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    seq_len: Option<u32>,
    /// Take part I of N of the samples, I from 0 to N - 1
    #[arg(long, value_name = "I/N", default_value = "0/1", value_parser = arguments::shard)]
    shard: (u64, u64),
    /// Tokens at the start of each sample that are not counted: many models keep enormous values there
    #[arg(long, value_name = "TOKENS", default_value_t = 1)]
    skip_first: u32,
    /// Gather Gram matrices too, for repair by least squares from this file
    #[arg(long)]
    gram: bool,
    /// Tokens run through a layer at a time: more is faster and takes more memory
    #[arg(long, value_name = "TOKENS", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
    batch_tokens: u32,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

/// Runs `archplan calibrate`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    match (&args.action, &args.run) {
        (Some(action), None) => calibrate_files::run(action, global),
        (None, Some(run)) => args.device.with(|| calibrate(run, global)),
        _ => Err(Failure::bad_input("options of a run do not go with a subcommand: leave one out")),
    }
}

fn calibrate(args: &RunArgs, global: &Global) -> Result<(), Failure> {
    let checkpoint = Checkpoint::open(&args.model).map_err(Failure::bad_input)?;
    let source = Streamed::new(&checkpoint).map_err(Failure::bad_input)?;
    let spec = checkpoint.spec();
    let seq_len = args.seq_len.map_or(spec.max_positions.min(2048), u64::from);
    if seq_len > spec.max_positions {
        log::warn!(
            "--seq-len {seq_len} is longer than the {} positions the model was made for",
            spec.max_positions
        );
    }
    let request = Request {
        samples: Some(args.samples as usize),
        seq_len: seq_len as usize,
        vocabulary: spec.vocab_size as usize,
    };
    let (index, of) = args.shard;
    if of > u64::from(args.samples) {
        return Err(Failure::bad_input(format!(
            "--shard {index}/{of} of {} samples: some part has none",
            args.samples
        )));
    }
    let mut text = text::read(&args.data, &args.model, request).map_err(Failure::bad_input)?;
    let range = part_range(index, of, u64::from(args.samples));
    let samples: Vec<Vec<u32>> = text.sequences.drain(range.start as usize..range.end as usize).collect();
    let header = Header {
        made_by: format!("archplan {}", env!("CARGO_PKG_VERSION")),
        model: ModelIdentity {
            fingerprint: checkpoint.fingerprint(),
            architecture: spec.architecture.clone(),
            sandwich: spec.norms == NormLayout::Sandwich,
        },
        data: DataIdentity { path: args.data.display().to_string(), sha256: text.data_hash },
        tokenizer_sha256: text.tokenizer_hash.unwrap_or_default(),
        seq_len,
        skip_first: u64::from(args.skip_first),
        samples: u64::from(args.samples),
        shards: of,
        parts: vec![index],
        grams: args.gram,
    };
    if args.skip_first as u64 >= seq_len {
        let message = format!("--skip-first {} of --seq-len {seq_len}: no token is counted", args.skip_first);
        return Err(Failure::bad_input(message));
    }
    say_size(&header);
    let run = Run {
        source: &source,
        samples: &samples,
        header,
        batch_tokens: args.batch_tokens as usize,
        out: &args.out,
    };
    let importance = with_threads(args.threads, || gather(&run))?;
    calibrate_files::finish(&importance, &args.out, global)
}

fn say_size(header: &Header) {
    let model = &header.model;
    let (sums, squares) = fields::sizes(&model.architecture, model.sandwich, header.grams);
    if header.grams {
        let bytes = units::Bytes((8 * sums + 4 * squares) as f64);
        log::info!("Gram matrices of all layers: {bytes} of memory, and of the file");
    }
}

fn with_threads<T: Send>(
    threads: Option<u16>,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    match threads {
        None => work(),
        Some(threads) => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build();
            pool.map_err(Failure::failed)?.install(work)
        }
    }
}

fn gather(run: &Run<'_>) -> Result<Importance, Failure> {
    let start = Instant::now();
    let mut steps: Option<Steps> = None;
    let (mut taken_up, mut said) = (0, 0);
    let outcome = calibrate::run(run, &mut |step: Step| {
        let Some(steps) = &steps else {
            steps = Some(Steps::new(step.total as u64));
            (taken_up, said) = (step.samples, step.samples);
            if step.samples > 0 {
                log::info!("taken up: {} of {} samples were done", step.samples, step.of);
            }
            return;
        };
        steps.done();
        if step.samples != said {
            said = step.samples;
            let elapsed = start.elapsed().as_secs_f64();
            let left = elapsed * (step.of - said) as f64 / (said - taken_up) as f64;
            steps.say(&format!("{said} of {} samples, about {} left", step.of, units::Seconds(left)));
        }
    });
    outcome.map_err(|error| match &error {
        CalibrateError::Statistics(StatisticsError::Io { .. }) => Failure::failed(error),
        _ => Failure::bad_input(error),
    })
}
