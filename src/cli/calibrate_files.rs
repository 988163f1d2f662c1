//! Subcommands of `archplan calibrate` that work on files of statistics, and the summary they all end with.

use std::path::{Path, PathBuf};

use archplan::files;
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::importance::error::StatisticsError;
use archplan::weights::importance::file::Importance;
use archplan::weights::importance::import::{self, HOOK_SCRIPT};
use archplan::weights::importance::merge;
use archplan::weights::importance::summary::{self, Summary};
use comfy_table::Table;

use crate::cli::{Failure, Global, output};

/// A first token this many times as large as the others would rule every sum it is counted in.
const MASSIVE: f64 = 5.0;

/// What to do with files of statistics.
#[derive(clap::Subcommand, Debug)]
pub enum Action {
    /// Add parts that were gathered apart (--shard) to one file
    Merge(MergeArgs),
    /// Take statistics another program gathered: check them against the checkpoint, give them its fingerprint
    Import(ImportArgs),
    /// Print the PyTorch script that gathers the same statistics, for models too large for CPUs
    Script(ScriptArgs),
    /// Show what is in a file of statistics
    Show(ShowArgs),
}

/// Arguments of `archplan calibrate merge`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan calibrate merge stats.safetensors part-0.safetensors part-1.safetensors
  archplan calibrate merge stats.safetensors part-0.safetensors --allow-missing")]
pub struct MergeArgs {
    /// File to write
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Parts of one run, in any order
    #[arg(value_name = "PART", required = true)]
    parts: Vec<PathBuf>,
    /// Merge even where parts are missing
    #[arg(long)]
    allow_missing: bool,
}

/// Arguments of `archplan calibrate import`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan calibrate import hooked.safetensors --model my-model --out stats.safetensors")]
pub struct ImportArgs {
    /// File that another program wrote; docs/formats.md says how
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Checkpoint directory of the model it is of
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Arguments of `archplan calibrate script`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan calibrate script --out hooks.py
  archplan calibrate script > hooks.py

There: python hooks.py MODEL DATA.jsonl SAMPLES SEQ_LEN OUT.safetensors")]
pub struct ScriptArgs {
    /// File to write; `-` for standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

/// Arguments of `archplan calibrate show`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan calibrate show stats.safetensors
  archplan calibrate show stats.safetensors --json")]
pub struct ShowArgs {
    /// File of statistics
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the subcommand.
pub fn run(action: &Action, global: &Global) -> Result<(), Failure> {
    match action {
        Action::Merge(args) => {
            let merged = merge::merge(&args.parts, args.allow_missing).map_err(failure)?;
            let missing = merged.header.missing_parts();
            if !missing.is_empty() {
                log::warn!("parts {missing:?} of {} are missing", merged.header.shards);
            }
            merged.save(&args.out).map_err(failure)?;
            finish(&merged, &args.out, global)
        }
        Action::Import(args) => {
            let checkpoint = Checkpoint::open(&args.model).map_err(Failure::bad_input)?;
            let imported = import::import(&args.file, &checkpoint).map_err(failure)?;
            imported.save(&args.out).map_err(failure)?;
            finish(&imported, &args.out, global)
        }
        Action::Script(args) if args.out.as_os_str() == "-" => {
            println!("{}", HOOK_SCRIPT.trim_end());
            Ok(())
        }
        Action::Script(args) => files::write_atomically(&args.out, HOOK_SCRIPT.as_bytes())
            .map_err(|error| Failure::failed(format!("{}: {error}", args.out.display()))),
        Action::Show(args) => print(&Importance::load(&args.file).map_err(failure)?, global),
    }
}

fn failure(error: StatisticsError) -> Failure {
    match &error {
        StatisticsError::Io { error: io, .. } if io.kind() != std::io::ErrorKind::NotFound => {
            Failure::failed(error)
        }
        _ => Failure::bad_input(error),
    }
}

/// Says what was written, and prints its summary.
pub fn finish(importance: &Importance, out: &Path, global: &Global) -> Result<(), Failure> {
    let (sums, header) = (&importance.sums, &importance.header);
    log::info!("{}: {} samples, {} tokens", out.display(), sums.samples, sums.tokens);
    if header.shards > header.parts.len() as u64 {
        log::info!(
            "{} of {} parts are inside; add the others with `merge`",
            header.parts.len(),
            header.shards
        );
    }
    print(importance, global)
}

fn print(importance: &Importance, global: &Global) -> Result<(), Failure> {
    let summary = summary::summary(importance);
    say_first_tokens(&summary);
    if global.json {
        return output::json(&summary);
    }
    println!("{}", layers(&summary));
    for block in &summary.blocks {
        println!(
            "best {} consecutive layer(s) to cut: {} to {}, angular distance {:.4}",
            block.count,
            block.first,
            block.first + block.count - 1,
            block.angular_distance
        );
    }
    Ok(())
}

fn say_first_tokens(summary: &Summary) {
    let ratios = summary.layers.iter().filter_map(|layer| Some((layer.first_token_ratio?, layer.layer)));
    let Some((ratio, layer)) =
        ratios.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(ratio, _)| *ratio > MASSIVE)
    else {
        return;
    };
    match summary.skip_first {
        0 => log::warn!(
            "first tokens enter layer {layer} {ratio:.0} times as large as the others, and are counted: they rule the \
             sums; leave them out (--skip-first 1)"
        ),
        skipped => log::info!(
            "first tokens enter layer {layer} {ratio:.0} times as large as the others; the first {skipped} of each sample \
             are not counted"
        ),
    }
}

fn layers(summary: &Summary) -> Table {
    let sandwich = summary.layers.iter().any(|layer| layer.ffn_post_norm_cv.is_some());
    let mut titles = vec!["layer", "block influence", "stream norm", "first token x"];
    if sandwich {
        titles.extend(["attention post-norm cv", "FFN post-norm cv"]);
    }
    let mut table = output::table(&titles);
    let figure = |x: Option<f64>| x.map_or_else(|| "-".to_string(), |x| format!("{x:.3}"));
    for layer in &summary.layers {
        let mut row = vec![
            layer.layer.to_string(),
            format!("{:.4}", layer.block_influence),
            format!("{:.3}", layer.stream_norm),
            figure(layer.first_token_ratio),
        ];
        if sandwich {
            row.extend([figure(layer.attention_post_norm_cv), figure(layer.ffn_post_norm_cv)]);
        }
        table.add_row(row);
    }
    output::align_right(&mut table, 0..titles.len());
    table
}
