//! `archplan mask`: which neurons and KV groups to keep, searched by forward passes alone.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use archplan::compute::threads;
use archplan::files;
use archplan::model::architecture::Architecture;
use archplan::model::per_layer::Target;
use archplan::quality::scores::TextRecord;
use archplan::search::solver::masks::{Baseline, Options, Walk};
use archplan::units::format_count;
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::checkpoint::fingerprint::hexadecimal;
use archplan::weights::importance::criteria::Criterion;
use archplan::weights::masks::error::MasksError;
use archplan::weights::masks::file::{FORMAT, Header, MaskFile};
use archplan::weights::masks::layout::{Layout, Scope};
use archplan::weights::masks::losses::{JUDGED, Job, Verdict, verdict};
use archplan::weights::network::source::{LayerSource, Streamed};
use archplan::weights::network::text::{self, Request};
use archplan::weights::surgery::choice::scores::Scores;
use archplan::weights::surgery::planning;
use clap::ValueEnum;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cli::device::DeviceArgs;
use crate::cli::progress::Steps;
use crate::cli::surgery_options::CriterionArg;
use crate::cli::{Failure, Global, arguments, bench, output, prune, prune_target};

/// Time between two saves.
const SAVING: Duration = Duration::from_secs(5);
/// Name of the file in the folder.
const FILE: &str = "mask.json";

/// Arguments of `archplan mask`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Every FFN neuron and KV group is kept with a probability of its own. Each step draws masks, runs the parent with what they
keep, and moves the probabilities along the estimated gradient of the loss (policy gradient: arXiv 2406.10576). As much is
kept as the target has, in all layers together (--scope model: layers come to differ) or in each (--scope layer).
Nothing is repaired while searching; `archplan prune` repairs what is kept. Interrupted, the same command goes on where it
was.

Examples:
  archplan mask --model ./parent --target run1 --importance stats.safetensors --data text.jsonl --out masks
  archplan prune --model ./parent --target masks --mask masks --importance stats.safetensors --repair least-squares \\
      --out ./child
  archplan mask --model ./parent --target run1 --importance stats.safetensors --data text.jsonl --ffn-unit 1 \\
      --baseline recent --rate 0.002 --steps 15000 --out as-published"
)]
pub struct Args {
    /// Checkpoint directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Shape that says how much stays: the folder of a search, a config.json, or a target.json; hidden size and layers must
    /// be the parent's
    #[arg(long, value_name = "DIR|FILE")]
    target: PathBuf,
    /// Statistics of the model, from `archplan calibrate`
    #[arg(long, value_name = "FILE")]
    importance: PathBuf,
    /// Folder for mask.json and target.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Text to search on: .jsonl or .txt; its last eighth is kept out, to judge what was found
    #[arg(long, value_name = "FILE", help_heading = "Text")]
    data: PathBuf,
    /// How many samples of it, the first of the file [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Text")]
    samples: Option<u64>,
    /// Tokens a sample has at most
    #[arg(long, value_name = "TOKENS", default_value_t = 128, value_parser = clap::value_parser!(u64).range(2..=1 << 20), help_heading = "Text")]
    seq_len: u64,
    /// Samples each mask of a step is run on
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Text")]
    batch: u64,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    units: UnitArgs,
    #[command(flatten)]
    walk: WalkArgs,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
}

/// What is kept or dropped as one.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Units")]
struct UnitArgs {
    /// What competes for a place
    #[arg(long, value_enum, default_value_t = ScopeArg::Model)]
    scope: ScopeArg,
    /// Neurons kept or dropped together, in the order of their importance: few units are learned with few passes; 1 as
    /// published [default: up to 128, and up to a sixteenth of the FFN]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    ffn_unit: Option<u64>,
    /// Multiple of which the FFN widths are, where layers differ [default: as --ffn-unit has by itself, or --ffn-unit where
    /// that is more]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    ffn_multiple: Option<u64>,
    /// What decides the order and where the search begins
    #[arg(long, value_enum, default_value_t = CriterionArg::Fasp)]
    criterion: CriterionArg,
}

/// How it walks.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Walk")]
struct WalkArgs {
    /// Steps
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Masks a step
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(2..=1024))]
    masks: u64,
    /// Change of a probability per unit of gradient, falling to nothing along a cosine [default: 0.02; with --baseline recent
    /// 0.002, as published]
    #[arg(long, value_name = "RATE")]
    rate: Option<f64>,
    /// What a mask's loss is compared with
    #[arg(long, value_enum, default_value_t = BaselineArg::Others)]
    baseline: BaselineArg,
    /// Seed of masks and batches
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScopeArg {
    /// Neurons of all layers, and KV groups of all layers
    Model,
    /// Those of one layer: every layer keeps the target's widths
    Layer,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BaselineArg {
    /// The step's other masks, in units of the usual difference
    Others,
    /// The mean of the last five steps, in nats, as published
    Recent,
}

impl WalkArgs {
    fn options(&self) -> Options {
        let (baseline, rate) = match self.baseline {
            BaselineArg::Others => (Baseline::Others, 0.02),
            BaselineArg::Recent => (Baseline::Recent, 0.002),
        };
        let rate = self.rate.unwrap_or(rate);
        Options { steps: self.steps, masks: self.masks as usize, rate, baseline, seed: self.seed }
    }
}

impl UnitArgs {
    fn layout(
        &self,
        parent: &Architecture,
        target: &Architecture,
        scores: &Scores,
    ) -> Result<Layout, MasksError> {
        let widest = parent.layer_shapes().map(|shape| shape.ffn).max().unwrap_or(0);
        let whole: u64 = target.layer_shapes().map(|shape| shape.ffn).sum();
        let multiples =
            |of: &Architecture, unit: &u64| of.layer_shapes().all(|s| s.ffn.is_multiple_of(*unit));
        let divides = |unit: &u64| {
            let fits = match self.scope {
                ScopeArg::Model => whole.is_multiple_of(*unit),
                ScopeArg::Layer => multiples(target, unit),
            };
            fits && multiples(parent, unit)
        };
        let usual = (1..=(widest / 16).clamp(1, 128)).rev().find(divides).unwrap_or(1);
        let unit = self.ffn_unit.unwrap_or(usual);
        let multiple = self.ffn_multiple.unwrap_or(usual.max(unit));
        let scope = match self.scope {
            ScopeArg::Model => Scope::Model,
            ScopeArg::Layer => Scope::Layer,
        };
        Layout::new(parent, scores, unit, multiple, scope)
    }
}

/// Runs `archplan mask`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    args.device.with(|| work(args, global))
}

fn work(args: &Args, global: &Global) -> Result<(), Failure> {
    let parent = Checkpoint::open(&args.model).map_err(Failure::bad_input)?;
    let spec = parent.spec();
    let target = prune_target::read(&args.target, spec)?;
    let (importance, importance_sha256) = prune::statistics(&args.importance, &parent)?;
    let request = Request {
        samples: args.samples.map(|n| n as usize),
        seq_len: args.seq_len as usize,
        vocabulary: spec.vocab_size as usize,
    };
    let samples = text::read(&args.data, &args.model, request).map_err(Failure::bad_input)?;
    let criterion: Criterion = args.units.criterion.into();
    let scores = planning::scores(&parent, &importance.sums, criterion).map_err(Failure::bad_input)?;
    let layout =
        args.units.layout(&spec.architecture, &target.architecture, &scores).map_err(Failure::bad_input)?;
    let pools = layout.pools(&spec.architecture, &target.architecture).map_err(Failure::bad_input)?;
    let walk = Walk::new(pools, &layout.scores(&scores), args.walk.options()).map_err(Failure::bad_input)?;
    let header = Header {
        format: FORMAT,
        made_by: format!("archplan {}", env!("CARGO_PKG_VERSION")),
        fingerprint: parent.fingerprint(),
        parent: spec.architecture.clone(),
        target: target.architecture,
        importance_sha256,
        criterion,
        data: TextRecord {
            path: args.data.display().to_string(),
            sha256: samples.data_hash.clone(),
            samples: samples.sequences.len() as u64,
            seq_len: args.seq_len,
        },
        batch: args.batch,
    };
    let begun = MaskFile { header, tokens_run: 0, layout, walk };
    let streamed = Streamed::new(&parent).map_err(Failure::bad_input)?;
    let resident = bench::resident(&streamed)?;
    let source: &dyn LayerSource = match &resident {
        Some(resident) => resident,
        None => &streamed,
    };
    let pool = threads::pinned(arguments::threads(args.threads)).map_err(Failure::failed)?;
    let (file, verdict) = pool.install(|| search(&args.out, source, &samples.sequences, begun))?;
    let target = Target::from(file.shape()).to_json();
    let text = format!("{}\n", serde_json::to_string_pretty(&target).map_err(Failure::failed)?);
    let path = args.out.join("target.json");
    files::write_atomically(&path, text.as_bytes())
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    print(args, global, &file, &verdict)
}

/// A finished mask, as typed after `--mask`: what it holds, its path, its SHA-256.
pub fn finished(typed: &Path) -> Result<(MaskFile, PathBuf, String), Failure> {
    let path = if typed.is_dir() { typed.join(FILE) } else { typed.to_path_buf() };
    let (file, bytes) = read(&path)?;
    if !file.walk.is_done() {
        return Err(Failure::bad_input(format!(
            "{}: {} of {} steps were done: run the same `archplan mask` again, it goes on where it was",
            path.display(),
            file.walk.step,
            file.walk.options.steps
        )));
    }
    Ok((file, path, hexadecimal(&Sha256::digest(bytes))))
}

fn read(path: &Path) -> Result<(MaskFile, Vec<u8>), Failure> {
    let bytes =
        std::fs::read(path).map_err(|error| Failure::bad_input(format!("{}: {error}", path.display())))?;
    Ok((MaskFile::from_bytes(&bytes, path).map_err(Failure::bad_input)?, bytes))
}

/// Walks to the end, from where an earlier run stopped, and judges what was found.
fn search(
    out: &Path,
    source: &dyn LayerSource,
    samples: &[Vec<u32>],
    begun: MaskFile,
) -> Result<(MaskFile, Verdict), Failure> {
    let (searched, judged) = samples.split_at(samples.len() - samples.len() / JUDGED);
    let path = out.join(FILE);
    std::fs::create_dir_all(out).map_err(|e| Failure::failed(format!("{}: {e}", out.display())))?;
    let mut file = match path.exists() {
        true => {
            let (known, _) = read(&path)?;
            known.same(&begun, &path).map_err(Failure::bad_input)?;
            log::info!("taken up: {} of {} steps were done", known.walk.step, known.walk.options.steps);
            known
        }
        false => begun.clone(),
    };
    let first = begun.mask();
    let layout = file.layout.clone();
    let job = Job { parent: source, samples: searched, batch: begun.header.batch as usize, layout: &layout };
    job.check(judged).map_err(Failure::bad_input)?;
    let bar = Steps::new(file.walk.options.steps - file.walk.step.min(file.walk.options.steps));
    let mut saved = Instant::now();
    while !file.walk.is_done() {
        let (loss, tokens) = job.step(&mut file.walk).map_err(Failure::bad_input)?;
        file.tokens_run += tokens;
        if file.walk.step % 100 == 0 {
            bar.say(&format!("step {}: masks lose {loss:.4} nats a token", file.walk.step));
        }
        bar.done();
        if saved.elapsed() >= SAVING {
            file.write(&path).map_err(Failure::failed)?;
            saved = Instant::now();
        }
    }
    drop(bar);
    file.write(&path).map_err(Failure::failed)?;
    let whole = vec![true; first.len()];
    let masks = [whole, first, file.mask()].map(|mask| layout.kept(&mask));
    let verdict = verdict(source, &masks, judged).map_err(Failure::bad_input)?;
    Ok((file, verdict))
}

fn print(args: &Args, global: &Global, file: &MaskFile, verdict: &Verdict) -> Result<(), Failure> {
    let shape = file.shape();
    let mean = |mean: &archplan::weights::network::evaluation::Mean| json!({"mean": mean.mean, "standard_error": mean.standard_error});
    if global.json {
        return output::json(&json!({
            "out": args.out,
            "steps": file.walk.step,
            "tokens_run": file.tokens_run,
            "judged_samples": verdict.samples,
            "parent_nll": mean(&verdict.parent),
            "begun_loss_increase_nats": mean(&verdict.begun),
            "found_loss_increase_nats": mean(&verdict.found),
            "found_less_begun_nats": mean(&verdict.gained),
            "target": Target::from(shape).to_json(),
        }));
    }
    let mut table = output::table(&["layers", "FFN", "KV heads"]);
    let layers: Vec<_> = shape.layer_shapes().collect();
    let mut from = 0;
    for group in layers.chunk_by(|a, b| a == b) {
        let to = from + group.len() - 1;
        let name = if from == to { from.to_string() } else { format!("{from}-{to}") };
        let of = group.first().copied().unwrap_or_default();
        table.add_row([name, of.ffn.to_string(), of.kv_heads.to_string()]);
        from = to + 1;
    }
    output::align_right(&mut table, [1, 2]);
    println!("{table}");
    let said = |mean: &archplan::weights::network::evaluation::Mean| match mean.standard_error {
        Some(error) => format!("{:+.4} ± {error:.4}", mean.mean),
        None => format!("{:+.4}", mean.mean),
    };
    println!(
        "{} steps, {} tokens through masked parents. On {} samples that were not searched on, without repair, nats a token (± one \
         standard error):\n  parent {:.4}; begun with {} above it, found {} above it, a difference of {}",
        file.walk.step,
        format_count(file.tokens_run as f64),
        verdict.samples,
        verdict.parent.mean,
        said(&verdict.begun),
        said(&verdict.found),
        said(&verdict.gained),
    );
    if verdict.gained.mean >= 0.0 {
        log::warn!(
            "what was found loses no less than what was begun with: more --steps, or larger --ffn-unit"
        );
    }
    println!("archplan prune --target {0} --mask {0} cuts to it", args.out.display());
    Ok(())
}
