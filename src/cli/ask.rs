//! `archplan ask`: which shapes of a study to try next.

use std::path::PathBuf;

use archplan::quality::study::ask::{self, Choice};
use archplan::quality::study::line::Line;
use serde_json::json;

use crate::cli::study::StudyFile;
use crate::cli::{Failure, Global, output};

/// Arguments of `archplan ask`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Prints one JSON object a line: id, architecture, kept (the parent's layer behind each of the child's), what is predicted.
Each shape is handed out once, so that many workers may ask at the same time; --again hands out what was asked for and never
told. Whoever tries it answers with `archplan tell`.

Examples:
  archplan ask --study run1/study.jsonl
  archplan ask --study run1/study.jsonl --count 8 --worker node3
  archplan ask --study run1/study.jsonl --count 48 --spread"
)]
pub struct Args {
    /// Study, begun by `archplan search --study`
    #[arg(long, value_name = "FILE")]
    study: PathBuf,
    /// Shapes to ask for
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    count: u64,
    /// Shapes spread over the space, budgets or not, to learn from and to judge the scores on
    #[arg(long)]
    spread: bool,
    /// Forget what was asked for and never told
    #[arg(long)]
    again: bool,
    /// Name of who asks
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
}

/// Runs `archplan ask`.
pub fn run(args: &Args, _global: &Global) -> Result<(), Failure> {
    let mut file = StudyFile::open(&args.study)?;
    if args.again {
        file.study.pending.clear();
    }
    let count = args.count as usize;
    let choices = if args.spread { ask::spread(&file.study, count) } else { ask::next(&file.study, count) };
    if choices.is_empty() {
        return Err(Failure::Infeasible(format!(
            "{}: every candidate has been tried or asked for ({} told, {} pending; --again hands out the pending ones)",
            args.study.display(),
            file.study.told.len(),
            file.study.pending.len()
        )));
    }
    let lines: Vec<String> = choices
        .iter()
        .map(|choice| serde_json::to_string(&record(choice)))
        .collect::<Result<_, _>>()
        .map_err(Failure::failed)?;
    let asked = |choice: &Choice<'_>| Line::Asked(choice.asked(args.worker.clone()));
    let asked = choices.iter().map(asked).collect();
    // Noted before it is handed out: who is killed in between costs a shape that --again brings back.
    file.append(asked)?;
    for line in lines {
        output::line(format_args!("{line}"));
    }
    Ok(())
}

fn record(choice: &Choice<'_>) -> serde_json::Value {
    let Choice { candidate, predicted, expected_improvement } = choice;
    json!({
        "id": candidate.id,
        "architecture": candidate.child.architecture,
        "kept": candidate.child.kept,
        "params": candidate.params,
        "predicted": {
            "loss_increase_nats": predicted.mean,
            "standard_deviation": predicted.deviation,
            "expected_improvement_nats": expected_improvement,
            "source": "scores",
        },
    })
}
