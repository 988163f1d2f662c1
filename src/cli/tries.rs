//! `archplan try`: shapes that were asked for are pruned for real and measured.

use std::path::{Path, PathBuf};

use archplan::quality::scores::table::Child;
use archplan::quality::study::line::Told;
use archplan::weights::scoring::Bench;
use archplan::weights::scoring::reference::Reference;
use archplan::weights::scoring::whole;
use archplan::weights::surgery::options::{DepthMethod, Options};
use serde::Deserialize;

use crate::cli::bench::BenchArgs;
use crate::cli::device::DeviceArgs;
use crate::cli::progress::Steps;
use crate::cli::surgery_options::SurgeryArgs;
use crate::cli::{Failure, Global, output, tell};

/// Arguments of `archplan try`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Reads JSON lines as `archplan ask` prints them; writes lines as `archplan tell` reads them, each as soon as it is known.
Children of up to 537 million parameters are made in memory, larger ones in --scratch.

Examples:
  archplan ask --study run1/study.jsonl --count 4 > asked.jsonl
  archplan try asked.jsonl --model ./parent --importance stats.safetensors --data heldout.jsonl --repair least-squares > found.jsonl
  archplan tell found.jsonl --study run1/study.jsonl"
)]
pub struct Args {
    /// Shapes to try, one JSON object a line; `-`: standard input
    #[arg(value_name = "FILE", default_value = "-")]
    asked: PathBuf,
    /// Checkpoint directory of the parent
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Statistics of the parent, from `archplan calibrate`
    #[arg(long, value_name = "FILE")]
    importance: PathBuf,
    /// Folder for children that do not fit into memory; made and removed [default: archplan-try-PID in the temporary folder]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    text: BenchArgs,
    #[command(flatten)]
    surgery: SurgeryArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What is read of a line; the rest is for others.
#[derive(Deserialize)]
struct Asked {
    id: String,
    #[serde(flatten)]
    child: Child,
}

/// Runs `archplan try`.
pub fn run(args: &Args, _global: &Global) -> Result<(), Failure> {
    args.device.with(|| try_all(args))
}

fn try_all(args: &Args) -> Result<(), Failure> {
    let asked: Vec<Asked> = tell::lines(&args.asked, "a line of `archplan ask`")?;
    let options = args.surgery.options();
    let loaded = args.text.load(&args.model, &args.importance, &options)?;
    let scratch = args.scratch.clone().unwrap_or_else(scratch);
    loaded.with(&options, args.text.threads(), |bench, reference| {
        let bar = Steps::new(asked.len() as u64);
        for Asked { id, child } in &asked {
            bar.say(id);
            let told = measure(bench, reference, id, child, &scratch);
            if let Some(problem) = &told.failed {
                log::warn!("{id}: {problem}");
            }
            output::line(format_args!("{}", serde_json::to_string(&told).map_err(Failure::failed)?));
            bar.done();
        }
        Ok(())
    })
}

/// Where children are written that do not fit into memory.
pub fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("archplan-try-{}", std::process::id()))
}

/// Prunes the parent to a child and measures it; what goes wrong is told, too.
pub fn measure(
    bench: &Bench<'_>,
    reference: &Reference<'_>,
    id: &str,
    child: &Child,
    scratch: &Path,
) -> Told {
    let dropped = child.dropped(bench.parent.spec().architecture.depth());
    // Without dropped layers the method does not matter.
    let depth = if dropped.is_empty() { bench.options.depth.clone() } else { DepthMethod::Layers(dropped) };
    let options = Options { depth, ..bench.options.clone() };
    let measured =
        whole::measure(&Bench { options: &options, ..*bench }, reference, &child.architecture, scratch);
    let mut told = Told {
        id: id.to_string(),
        loss_increase_nats: None,
        standard_error: None,
        failed: None,
        measured_by: Some(format!("archplan {} try", env!("CARGO_PKG_VERSION"))),
    };
    match measured {
        Ok(cost) => {
            told.loss_increase_nats = Some(cost.delta_nll.mean);
            told.standard_error = cost.delta_nll.standard_error;
        }
        Err(error) => told.failed = Some(error.to_string()),
    }
    told
}
