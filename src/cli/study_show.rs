//! `archplan study`: what was tried, and how well scores foretold it.

use std::path::PathBuf;

use archplan::quality::study::Study;
use archplan::quality::study::validation::{self, Agreement, Validation};
use serde_json::json;

use crate::cli::{Failure, Global, output, study};

/// Arguments of `archplan study`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Each tried shape is predicted from all others; rank correlations and errors are those of these predictions, beside those of
sums of scores and of size alone.

Examples:
  archplan study run1/study.jsonl
  archplan study run1/study.jsonl --json"
)]
pub struct Args {
    /// Study, begun by `archplan search --study`
    #[arg(value_name = "FILE")]
    study: PathBuf,
}

/// Runs `archplan study`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let study = study::read(&args.study)?;
    let validation = validation::validate(&study);
    if global.json {
        return output::json(&json!({
            "study": study.header,
            "candidates": study.candidates.len(),
            "told": study.told.len(),
            "pending": study.pending,
            "failed": study.told.values().filter(|told| told.failed.is_some()).collect::<Vec<_>>(),
            "best": study.best().map(|(candidate, nats)| json!({ "id": candidate.id, "loss_increase_nats": nats })),
            "validation": validation.ok(),
        }));
    }
    counts(&study);
    match validation {
        Ok(validation) => show(&validation),
        Err(error) => output::line(format_args!("not judged yet: {error}")),
    }
    Ok(())
}

fn counts(study: &Study) {
    let failed = study.told.values().filter(|told| told.failed.is_some()).count();
    output::line(format_args!(
        "parent {}; {} candidates, {} tried, {failed} failed, {} pending",
        study.header.parent,
        study.candidates.len(),
        study.tried().len(),
        study.pending.len()
    ));
    if let Some((candidate, nats)) = study.best() {
        output::line(format_args!("least loss: {nats:+.4} nats a token, {}\n", candidate.id));
    }
}

fn show(validation: &Validation) {
    let mut shapes = output::table(&["tried", "measured", "predicted without it", "sum of scores", "params"]);
    let mut order: Vec<_> = validation.shapes.iter().collect();
    order.sort_by(|a, b| a.measured_nats.total_cmp(&b.measured_nats));
    for shape in order {
        shapes.add_row([
            shape.id.clone(),
            format!("{:+.4}", shape.measured_nats),
            format!("{:+.4} ± {:.4}", shape.predicted_nats, shape.deviation_nats),
            format!("{:+.4}", shape.scores_nats),
            shape.params.to_string(),
        ]);
    }
    output::align_right(&mut shapes, 1..5);
    output::line(format_args!("{shapes}\n"));
    let mut table =
        output::table(&["left out in turn", "Spearman", "Kendall", "mean error, nats", "median error"]);
    for (name, of) in [
        ("scores and other tries", &validation.estimator),
        ("sum of scores", &validation.scores),
        ("size alone", &validation.size),
    ] {
        table.add_row(row(name, of));
    }
    output::align_right(&mut table, 1..5);
    output::line(format_args!(
        "{table}\n{:.0} % of {} measured losses lie in their 90 % interval; losses in nats a token above the parent's",
        validation.coverage_percent, validation.tried
    ));
}

fn row(name: &str, of: &Agreement) -> [String; 5] {
    let number = |x: Option<f64>, digits: usize| x.map_or_else(|| "-".into(), |x| format!("{x:.digits$}"));
    let percent = of.median_error_percent.map_or_else(|| "-".into(), |x| format!("{x:.1} %"));
    [name.into(), number(of.spearman, 3), number(of.kendall, 3), number(of.mean_error_nats, 4), percent]
}
