//! `archplan score`: what each change of one block of a checkpoint costs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use archplan::model::architecture::Architecture;
use archplan::quality::scores::{Change, Header, Score, Scores};
use archplan::units::{self, Bytes};
use archplan::weights::scoring::Bench;
use archplan::weights::scoring::blocks::{self, Work};
use archplan::weights::scoring::changes::Plan;
use archplan::weights::scoring::error::ScoringError;
use archplan::weights::scoring::reference::Reference;
use archplan::weights::scoring::whole;
use archplan::weights::surgery::options::Options;

use crate::cli::bench::BenchArgs;
use crate::cli::device::DeviceArgs;
use crate::cli::progress::Steps;
use crate::cli::score_files::{self, Action};
use crate::cli::surgery_options::SurgeryArgs;
use crate::cli::{Failure, Global, arguments};

/// Time between two saves of what is known so far.
const SAVING: Duration = Duration::from_secs(2);

/// Arguments of `archplan score`.
#[derive(clap::Args, Debug)]
#[command(
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    after_help = "Each change is made by the surgery that `archplan prune` performs, with the same switches, and the loss on held-out
text is measured against the parent's. Only the layers after a change are run again. Interrupted, the same command goes on
where it was (FILE.partial). Parts that ran on different machines are added by `merge`.

Examples:
  archplan score --model ./parent --importance stats.safetensors --data heldout.jsonl --repair least-squares \\
      --out scores.csv
  archplan score --model ./parent --importance stats.safetensors --data heldout.jsonl --repair least-squares \\
      --ffn-keep 75%,50%,25% --runs 4 --shard 0/8 --out scores-0.csv
  archplan score merge scores.csv scores-0.csv scores-1.csv
  archplan score show scores.csv"
)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    run: RunArgs,
}

/// Arguments of a run.
#[derive(clap::Args, Debug)]
struct RunArgs {
    /// Checkpoint directory
    #[arg(long, value_name = "DIR", required = true)]
    model: Option<PathBuf>,
    /// Statistics of the model, from `archplan calibrate`
    #[arg(long, value_name = "FILE", required = true)]
    importance: Option<PathBuf>,
    /// File of scores to write
    #[arg(long, value_name = "FILE", required = true)]
    out: Option<PathBuf>,
    #[command(flatten)]
    changes: ChangeArgs,
    /// Score part I of N of the changes, I from 0 to N - 1
    #[arg(long, value_name = "I/N", default_value = "0/1", value_parser = arguments::shard)]
    shard: (u64, u64),
    /// Memory for children that are run side by side
    #[arg(long, value_name = "BYTES", default_value = "4GiB")]
    memory: String,
    #[command(flatten)]
    text: BenchArgs,
    #[command(flatten)]
    surgery: SurgeryArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Which changes are scored.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Changes")]
struct ChangeArgs {
    /// Shares of the FFN that stay, in one layer
    #[arg(long, value_name = "SHARES", value_delimiter = ',', default_value = "87.5%,75%,62.5%,50%,37.5%,25%,12.5%", value_parser = arguments::share)]
    ffn_keep: Vec<f64>,
    /// FFN widths are multiples of this [default: 128, or a sixteenth of the FFN where that is less]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    ffn_multiple: Option<u64>,
    /// Shares of the KV groups that stay, in one layer
    #[arg(long, value_name = "SHARES", value_delimiter = ',', default_value = "75%,50%,25%", value_parser = arguments::share)]
    kv_keep: Vec<f64>,
    /// Shares of the query heads of every group that stay, in one layer
    #[arg(long, value_name = "SHARES", value_delimiter = ',', default_value = "50%", value_parser = arguments::share)]
    heads_keep: Vec<f64>,
    /// Leave out the removal of attention alone and of the FFN alone
    #[arg(long)]
    whole_parts: bool,
    /// Runs of 1 to so many layers are dropped [default: half of the layers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..))]
    runs: Option<u64>,
    /// Shares of the hidden size that stay, in the whole model
    #[arg(long, value_name = "SHARES", value_delimiter = ',', default_value = "87.5%,75%,62.5%,50%", value_parser = arguments::share)]
    hidden_keep: Vec<f64>,
    /// Hidden sizes are multiples of this [default: 128, or a sixteenth of the hidden size where that is less]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    hidden_multiple: Option<u64>,
}

impl ChangeArgs {
    fn plan(&self, parent: &Architecture) -> Plan {
        let ffn = parent.layer_shapes().map(|shape| shape.ffn).max().unwrap_or(0);
        let multiple = |typed: Option<u64>, whole: u64| typed.unwrap_or((whole / 16).clamp(1, 128));
        Plan {
            ffn: self.ffn_keep.clone(),
            ffn_multiple: multiple(self.ffn_multiple, ffn),
            groups: self.kv_keep.clone(),
            heads: self.heads_keep.clone(),
            parts: !self.whole_parts,
            runs: self.runs.unwrap_or(parent.depth() / 2),
            hidden: self.hidden_keep.clone(),
            hidden_multiple: multiple(self.hidden_multiple, parent.hidden),
        }
    }
}

/// Runs `archplan score`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    match (&args.action, &args.run) {
        (Some(action), _) => score_files::run(action, global),
        (None, RunArgs { model: Some(model), importance: Some(importance), out: Some(out), .. }) => {
            args.run.device.with(|| score(&args.run, model, importance, out, global))
        }
        _ => Err(Failure::bad_input("--model, --importance and --out are needed")),
    }
}

fn score(
    args: &RunArgs,
    model: &Path,
    importance: &Path,
    out: &Path,
    global: &Global,
) -> Result<(), Failure> {
    let options = args.surgery.options();
    let memory: Bytes =
        units::parse_bytes(&args.memory).map_err(|e| Failure::bad_input(format!("--memory: {e}")))?;
    let loaded = args.text.load(model, importance, &options)?;
    let spec = loaded.parent.spec();
    let changes = args.changes.plan(&spec.architecture).changes(spec).map_err(Failure::bad_input)?;
    let (index, of) = args.shard;
    let mine: Vec<Change> = changes.iter().copied().skip(index as usize).step_by(of as usize).collect();
    let work = |bench: &Bench<'_>, reference: &Reference<'_>| {
        let mut header = args.text.header(&loaded, &options, reference)?;
        (header.changes, header.shards, header.parts) = (changes.len() as u64, of, vec![index]);
        let job = Job { out, options: &options, bench, reference, memory: memory.0 as usize };
        job.run(header, &mine)
    };
    let scores = loaded.with(&options, args.text.threads(), work)?;
    score_files::write(&scores, out)?;
    let partial = partial(out);
    if partial.exists() {
        std::fs::remove_file(&partial).map_err(|e| Failure::failed(format!("{}: {e}", partial.display())))?;
    }
    score_files::print(&scores, global)
}

struct Job<'a> {
    out: &'a Path,
    options: &'a Options,
    bench: &'a Bench<'a>,
    reference: &'a Reference<'a>,
    memory: usize,
}

impl Job<'_> {
    fn run(&self, header: Header, mine: &[Change]) -> Result<Scores, Failure> {
        let partial = partial(self.out);
        let mut scores = taken_up(&partial, header)?;
        if !scores.rows.is_empty() {
            log::info!("taken up: {} of {} changes were scored", scores.rows.len(), mine.len());
        }
        let left = |change: &&Change| !scores.rows.iter().any(|row| row.change == **change);
        let left: Vec<Change> = mine.iter().filter(left).copied().collect();
        let bar = Steps::new(left.len() as u64);
        let (started, mut saved) = (Instant::now(), Instant::now());
        let mut take = |score: Score| {
            bar.say(&score.change.to_string());
            bar.done();
            scores.rows.push(score);
            if saved.elapsed() >= SAVING {
                saved = Instant::now();
                score_files::write(&scores, &partial).map_err(|e| ScoringError::Taken(e.to_string()))?;
            }
            Ok(())
        };
        let work = blocks::score(self.bench, self.reference, &left, self.memory, &mut take)
            .map_err(Failure::bad_input)?;
        let of_blocks = started.elapsed().as_secs_f64();
        for change in &left {
            if let Change::Hidden { hidden } = *change {
                take(self.narrowed(*change, hidden)?).map_err(Failure::failed)?;
            }
        }
        drop(bar);
        say(&work, left.len(), of_blocks, started.elapsed().as_secs_f64());
        scores.rows.sort_by_key(|row| row.change);
        Ok(scores)
    }

    fn narrowed(&self, change: Change, hidden: u64) -> Result<Score, Failure> {
        let target = Architecture { hidden, ..self.bench.parent.spec().architecture.clone() };
        let scratch = self.out.with_extension("scratch");
        let bench = Bench { options: self.options, ..*self.bench };
        let cost = whole::measure(&bench, self.reference, &target, &scratch).map_err(Failure::bad_input)?;
        Ok(cost.score(change))
    }
}

fn say(work: &Work, scored: usize, of_blocks: f64, seconds: f64) {
    let Work { layers_run, naive_layers } = *work;
    if naive_layers > 0 {
        let share = 100.0 * layers_run as f64 / naive_layers as f64;
        log::info!(
            "{scored} changes scored in {seconds:.1} s ({:.2} a second); blocks: {layers_run} layers run over the held-out \
             text in {of_blocks:.1} s, {share:.0} % of what whole passes would have been ({naive_layers})",
            scored as f64 / seconds
        );
    }
}

/// What an interrupted run of the same kind left.
fn taken_up(partial: &Path, header: Header) -> Result<Scores, Failure> {
    if !partial.is_file() {
        return Ok(Scores { header, rows: Vec::new() });
    }
    let found = score_files::read(partial)?;
    let same_part = found.header.parts == header.parts;
    match found.header.difference(&header).or((!same_part).then_some("part")) {
        None => Ok(Scores { header, rows: found.rows }),
        Some(what) => Err(Failure::bad_input(format!(
            "{}: left by an interrupted run whose {what} differs; delete it to start over, or name another --out",
            partial.display()
        ))),
    }
}

fn partial(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
