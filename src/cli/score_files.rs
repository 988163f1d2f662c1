//! Subcommands of `archplan score` that work on files of scores, and the summary they all end with.

use std::path::{Path, PathBuf};

use archplan::files;
use archplan::quality::scores::{Change, Score, Scores};

use crate::cli::{Failure, Global, output};

/// What to do with files of scores.
#[derive(clap::Subcommand, Debug)]
pub enum Action {
    /// Add parts that were scored apart (--shard) to one file
    Merge(MergeArgs),
    /// Show what is in a file of scores
    Show(ShowArgs),
}

/// Arguments of `archplan score merge`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan score merge scores.csv scores-0.csv scores-1.csv")]
pub struct MergeArgs {
    /// File to write
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Parts of one run, in any order
    #[arg(value_name = "PART", required = true)]
    parts: Vec<PathBuf>,
}

/// Arguments of `archplan score show`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan score show scores.csv
  archplan score show scores.csv --json")]
pub struct ShowArgs {
    /// File of scores
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the subcommand.
pub fn run(action: &Action, global: &Global) -> Result<(), Failure> {
    match action {
        Action::Merge(args) => {
            let mut parts = args.parts.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
            let first = parts.remove(0);
            let merged = Scores::merge(first, parts).map_err(Failure::bad_input)?;
            write(&merged, &args.out)?;
            print(&merged, global)
        }
        Action::Show(args) => print(&read(&args.file)?, global),
    }
}

/// Reads a file of scores.
pub fn read(path: &Path) -> Result<Scores, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::bad_input(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    Scores::from_csv(&text).map_err(|error| wrong(&error))
}

/// Writes a file of scores, whole or not at all.
pub fn write(scores: &Scores, path: &Path) -> Result<(), Failure> {
    let text = scores.to_csv().map_err(Failure::failed)?;
    files::write_atomically(path, text.as_bytes())
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

/// Prints scores, the cheapest change of each kind first.
pub fn print(scores: &Scores, global: &Global) -> Result<(), Failure> {
    let header = &scores.header;
    if let Err(error) = scores.check_complete() {
        log::warn!("{error}");
    }
    if global.json {
        return output::json(&serde_json::json!({"header": header, "scores": scores.rows}));
    }
    let mut table = output::table(&[
        "change",
        "loss above the parent's, nats",
        "s.e.",
        "KL, nats",
        "distance of the last hidden state",
    ]);
    let mut rows: Vec<&Score> = scores.rows.iter().collect();
    rows.sort_by(|a, b| group(a).cmp(&group(b)).then(a.delta_nll.mean.total_cmp(&b.delta_nll.mean)));
    for score in rows {
        let error = score.delta_nll.standard_error.map_or_else(|| "-".into(), |e| format!("{e:.4}"));
        let distance =
            score.hidden_distance.map_or_else(|| "-".into(), |d| format!("{:.2} %", 100.0 * d.mean));
        table.add_row([
            score.change.to_string(),
            format!("{:+.4}", score.delta_nll.mean),
            error,
            format!("{:.4}", score.kl.mean),
            distance,
        ]);
    }
    output::align_right(&mut table, 1..5);
    println!("{table}");
    println!(
        "parent: {}, loss {:.4} nats a token; {} of {} changes",
        header.architecture,
        header.parent_nll.mean,
        scores.rows.len(),
        header.changes
    );
    Ok(())
}

/// Single layers one after the other, then dropped runs by length, then hidden sizes.
fn group(score: &Score) -> (u8, u64) {
    match score.change {
        Change::Layer { layer, .. } => (0, layer),
        Change::Drop { count, .. } => (1, count),
        Change::Hidden { .. } => (2, 0),
    }
}
