//! What came out, on one page: the chosen shape, its predicted cost, the child's loss beside its parent's.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::estimate::Estimate;
use crate::files;
use crate::pipeline::stages::{CHILD, EVALUATION, PLAN, SEARCH, SUMMARY_JSON, SUMMARY_MD};
use crate::plan::record::Plan;
use crate::plan::record::candidate::{Candidate, Metrics, Shape};
use crate::report::bundle;
use crate::report::error::ReportError;
use crate::units::{format_count, three_digits};

/// A result that cannot be summed up.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// The plan.
    #[error(transparent)]
    Plan(#[from] ReportError),
    /// The plan has no chosen shape.
    #[error("{PLAN} has no chosen shape: no shape meets the budgets")]
    Infeasible,
    /// The evaluation.
    #[error("{}: {reason}; run it again with --from evaluate", path.display())]
    Evaluation {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The disk.
    #[error("cannot write {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// `summary.json`.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    made_by: &'static str,
    parent: Model<'a>,
    child: Model<'a>,
    scenarios: Vec<&'a str>,
    predicted_loss_increase_nats: Estimate,
    loss_difference_nats_per_token: &'a Mean,
    top1_agreement: &'a Mean,
    commands: &'a [String],
}

/// One of the two models.
#[derive(Debug, Serialize)]
struct Model<'a> {
    shape: Shape,
    params: u64,
    metrics: &'a [Metrics],
    loss_nats_per_token: &'a Mean,
}

/// What `archplan evaluate --parent --json` prints, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct Evaluation {
    loss_nats_per_token: Mean,
    parent: Against,
}

#[derive(Debug, Deserialize)]
struct Against {
    loss_nats_per_token: Mean,
    loss_difference_nats_per_token: Mean,
    top1_agreement: Mean,
}

#[derive(Debug, Serialize, Deserialize)]
struct Mean {
    mean: f64,
    standard_error: Option<f64>,
    interval_95_percent: Option<[f64; 2]>,
}

/// Reads the plan and the evaluation in a work directory and writes `summary.json` and `summary.md` there. `commands`: those
/// that led there.
///
/// # Errors
/// A plan or an evaluation that cannot be read; the disk.
pub fn write(work: &Path, commands: &[String]) -> Result<(), SummaryError> {
    let plan = bundle::read(&work.join(PLAN))?;
    let chosen = plan.chosen.as_ref().ok_or(SummaryError::Infeasible)?;
    let path = work.join(EVALUATION);
    let wrong = |reason: String| SummaryError::Evaluation { path: path.clone(), reason };
    let text = fs::read(&path).map_err(|error| wrong(error.to_string()))?;
    let evaluation: Evaluation = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    let summary = Summary {
        made_by: concat!("archplan ", env!("CARGO_PKG_VERSION")),
        parent: model(&plan.parent, &evaluation.parent.loss_nats_per_token),
        child: model(chosen, &evaluation.loss_nats_per_token),
        scenarios: plan.scenarios.iter().map(|scenario| scenario.name.as_str()).collect(),
        predicted_loss_increase_nats: chosen.quality.loss_increase_nats,
        loss_difference_nats_per_token: &evaluation.parent.loss_difference_nats_per_token,
        top1_agreement: &evaluation.parent.top1_agreement,
        commands,
    };
    let json = format!("{:#}\n", serde_json::json!(summary));
    for (name, text) in [(SUMMARY_JSON, json), (SUMMARY_MD, page(&plan, &summary))] {
        let path = work.join(name);
        files::write_atomically(&path, text.as_bytes()).map_err(|error| SummaryError::Io { path, error })?;
    }
    Ok(())
}

fn model<'a>(candidate: &'a Candidate, loss: &'a Mean) -> Model<'a> {
    Model {
        shape: candidate.shape,
        params: candidate.params,
        metrics: &candidate.metrics,
        loss_nats_per_token: loss,
    }
}

/// One of the predicted costs.
type Figure = fn(&Metrics) -> Estimate;

/// The page for people.
fn page(plan: &Plan, summary: &Summary<'_>) -> String {
    let (parent, child) = (&summary.parent, &summary.child);
    let mut rows = vec![
        ["shape".into(), parent.shape.architecture().to_string(), child.shape.architecture().to_string()],
        ["parameters".into(), format_count(parent.params as f64), format_count(child.params as f64)],
        [
            "loss on held-out text, nats per token".into(),
            loss(parent.loss_nats_per_token),
            loss(child.loss_nats_per_token),
        ],
    ];
    for ((name, before), after) in summary.scenarios.iter().zip(parent.metrics).zip(child.metrics) {
        let figures: [(&str, Figure); 5] = [
            ("time to first token, ms", |m| m.ttft_ms),
            ("time per output token, ms", |m| m.tpot_ms),
            ("latency, ms", |m| m.latency_ms),
            ("output tokens per second", |m| m.output_tokens_per_s),
            ("memory per device, GiB", |m| m.memory_gib),
        ];
        for (what, figure) in figures {
            rows.push([format!("{what}: {name}"), estimate(figure(before)), estimate(figure(after))]);
        }
        rows.push([format!("speedup: {name}"), "1".into(), estimate(after.speedup)]);
    }
    let mut text = format!("# {} pruned\n\n| | parent | child |\n|---|---|---|\n", plan.recipe.model.name);
    for [what, before, after] in rows {
        let _ = writeln!(text, "| {what} | {before} | {after} |");
    }
    let _ = writeln!(
        text,
        "\nLoss above the parent's, nats per token: {} measured, {} predicted by the prior. Same most likely token: {:.2} %.\n\n\
         Times and rates are predicted, with intervals of 90 %; losses are measured, with intervals of 95 % over samples. \
         Nothing was trained.\n\n\
         [{SEARCH}/report.html]({SEARCH}/report.html) has the front and every figure; [{CHILD}]({CHILD}) is the checkpoint.\n\n\
         ```sh\n{}\n```",
        loss(summary.loss_difference_nats_per_token),
        estimate(summary.predicted_loss_increase_nats),
        summary.top1_agreement.mean * 100.0,
        summary.commands.join("\n"),
    );
    text
}

fn loss(mean: &Mean) -> String {
    match mean.interval_95_percent {
        Some([low, high]) => format!("{:.4} ({low:.4} to {high:.4})", mean.mean),
        None => format!("{:.4}", mean.mean),
    }
}

fn estimate(estimate: Estimate) -> String {
    let Estimate { value, low, high, .. } = estimate;
    match low == value && high == value {
        true => three_digits(value),
        false => format!("{} ({} to {})", three_digits(value), three_digits(low), three_digits(high)),
    }
}
