//! `archplan tell`: what tried shapes of a study lost.

use std::io::Read;
use std::path::{Path, PathBuf};

use archplan::quality::study::line::{Line, Told};
use serde_json::json;

use crate::cli::study::StudyFile;
use crate::cli::{Failure, Global, output};

/// Arguments of `archplan tell`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "A line is a JSON object: id, and either loss_increase_nats (with standard_error, if it is known) or failed (why).
Anything else in it is left out. Whatever is measured must be measured alike for all shapes of a study: the loss above the
parent's on the same text, after the same training, if any. Lines are taken all or none.

Examples:
  archplan ask --study run1/study.jsonl --count 4 > asked.jsonl
  archplan try asked.jsonl --model ./parent --importance stats.safetensors --data heldout.jsonl > found.jsonl
  archplan tell found.jsonl --study run1/study.jsonl"
)]
pub struct Args {
    /// Results, one JSON object a line; `-`: standard input
    #[arg(value_name = "FILE", default_value = "-")]
    found: PathBuf,
    /// Study, begun by `archplan search --study`
    #[arg(long, value_name = "FILE")]
    study: PathBuf,
}

/// Runs `archplan tell`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let told: Vec<Told> = lines(&args.found, "id and loss_increase_nats, or id and failed")?;
    if told.is_empty() {
        return Err(Failure::bad_input("nothing was told: expected one JSON object a line"));
    }
    let count = told.len();
    let mut file = StudyFile::open(&args.study)?;
    file.append(told.into_iter().map(Line::Told).collect())?;
    let study = &file.study;
    let best = study.best();
    if global.json {
        return output::json(&json!({
            "told": count,
            "tried": study.tried().len(),
            "pending": study.pending.len(),
            "best": best.map(|(candidate, nats)| json!({ "id": candidate.id, "loss_increase_nats": nats })),
        }));
    }
    let best =
        best.map_or_else(String::new, |(c, nats)| format!("; best {} with {nats:+.4} nats a token", c.id));
    output::line(format_args!(
        "{count} told; {} tried, {} pending{best}",
        study.tried().len(),
        study.pending.len()
    ));
    Ok(())
}

/// JSON lines of a file or of standard input.
pub fn lines<T: serde::de::DeserializeOwned>(path: &Path, expected: &str) -> Result<Vec<T>, Failure> {
    let piped = path == Path::new("-");
    let name = if piped { "standard input".to_string() } else { path.display().to_string() };
    let wrong = |error: &dyn std::fmt::Display| Failure::bad_input(format!("{name}: {error}"));
    let mut text = String::new();
    match piped {
        true => std::io::stdin().lock().read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    }
    .map_err(|error| wrong(&error))?;
    let parse = |(index, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| wrong(&format!("line {}: {error}; expected {expected}", index + 1)))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}
