//! Measured runs of whole models: what the serving arithmetic is fitted on and scored against.
//!
//! Two schemas. *Serving runs* (closed loop): `model, hardware, engine, engine_version, precision, tp, concurrency,
//! prompt_len, output_len, ttft_ms, tpot_ms`, weights and KV cache in `precision`. *Published figures*: one figure
//! a row, static batch or closed loop, with the KV cache's own precision and a citation.
//! Both shipped tables stand under `hardware_profiles/engines/`.
//!
//! Deliberately absent: opening files.

use std::str::FromStr;

use serde::Deserialize;

use crate::hardware::latency::serving::Served;
use crate::model::workload::{Load, Workload};
use crate::units::DType;

/// Closed-loop runs of aiconfigurator-core 0.12.0 (Apache-2.0, (c) NVIDIA; see NOTICE).
pub const SERVING_RUNS: &str = include_str!("../../../hardware_profiles/engines/serving.csv");

/// Published figures, each with its source.
pub const PUBLISHED_FIGURES: &str = include_str!("../../../hardware_profiles/engines/published.csv");

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Mean time to first token in a closed loop, in ms.
    Ttft,
    /// Mean time per output token (of a static batch: decode step), in ms.
    Tpot,
    /// Prefill of a static batch, in ms.
    Prefill,
    /// Output tokens per second.
    OutputRate,
    /// Prompt and output tokens per second.
    TotalRate,
}

impl Metric {
    /// Name as it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Ttft => "ttft",
            Metric::Tpot => "tpot",
            Metric::Prefill => "prefill",
            Metric::OutputRate => "output_tok_s",
            Metric::TotalRate => "total_tok_s",
        }
    }

    /// What the arithmetic says of it, in the unit of the tables.
    pub fn predicted(self, served: &Served, workload: &Workload) -> f64 {
        let (prompt, output) = (workload.prompt as f64, workload.output as f64);
        match self {
            Metric::Ttft | Metric::Prefill => served.ttft.total().ms(),
            Metric::Tpot => served.tpot.total().ms(),
            Metric::OutputRate => served.output_tokens_per_s,
            Metric::TotalRate => served.output_tokens_per_s * (prompt + output) / output,
        }
    }

    /// Relative spread that the arithmetic states for it.
    pub fn log_sigma(self, served: &Served) -> f64 {
        match self {
            Metric::Ttft | Metric::Prefill => served.ttft_log_sigma,
            Metric::Tpot => served.tpot_log_sigma,
            Metric::OutputRate | Metric::TotalRate => served.latency_log_sigma,
        }
    }
}

/// One measured run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Line of the table.
    pub line: u64,
    /// Model card.
    pub model: String,
    /// Hardware profile.
    pub profile: String,
    /// Engine.
    pub engine: String,
    /// Devices per replica.
    pub tp: u64,
    /// Type of the weights.
    pub dtype: DType,
    /// Type of the KV cache.
    pub kv_dtype: DType,
    /// The work.
    pub workload: Workload,
    /// What was measured, in the unit of the table.
    pub figures: Vec<(Metric, f64)>,
}

/// A table of runs that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RunsError {
    /// Not CSV, a column is missing, or a cell is of the wrong type.
    #[error("{origin}: {message}")]
    Syntax {
        /// Table.
        origin: String,
        /// What the parser says, with the line.
        message: String,
    },
    /// A cell holds something else than expected.
    #[error("{origin}, line {line}, column {column}: found `{found}`, expected {expected}")]
    Cell {
        /// Table.
        origin: String,
        /// Line.
        line: u64,
        /// Column.
        column: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
}

#[derive(Deserialize)]
struct ServingRow {
    model: String,
    hardware: String,
    engine: String,
    precision: String,
    tp: u64,
    concurrency: u64,
    prompt_len: u64,
    output_len: u64,
    ttft_ms: f64,
    tpot_ms: f64,
}

#[derive(Deserialize)]
struct PublishedRow {
    model: String,
    hardware: String,
    engine: String,
    precision: String,
    kv_precision: String,
    tp: u64,
    load: String,
    sequences: u64,
    prompt_len: u64,
    output_len: u64,
    metric: String,
    value: f64,
}

/// One table while it is read.
struct Reader<'a> {
    origin: &'a str,
    line: u64,
}

impl Reader<'_> {
    fn cell(&self, column: &'static str, found: &str, expected: &'static str) -> RunsError {
        RunsError::Cell { origin: self.origin.into(), line: self.line, column, found: found.into(), expected }
    }

    fn dtype(&self, column: &'static str, text: &str) -> Result<DType, RunsError> {
        DType::from_str(text).map_err(|_| self.cell(column, text, "bf16, fp8 or int8"))
    }

    fn positive(&self, column: &'static str, value: f64) -> Result<f64, RunsError> {
        let good = value.is_finite() && value > 0.0;
        good.then_some(value).ok_or_else(|| self.cell(column, &value.to_string(), "a number above 0"))
    }
}

fn rows<R: for<'de> Deserialize<'de>>(
    text: &str,
    origin: &str,
    read: impl Fn(&Reader<'_>, R) -> Result<Run, RunsError>,
) -> Result<Vec<Run>, RunsError> {
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let syntax = |error: csv::Error| RunsError::Syntax { origin: origin.into(), message: error.to_string() };
    let headers = csv.headers().map_err(syntax)?.clone();
    let mut runs = Vec::new();
    for record in csv.records() {
        let record = record.map_err(syntax)?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = record.deserialize(Some(&headers)).map_err(syntax)?;
        runs.push(read(&Reader { origin, line }, row)?);
    }
    Ok(runs)
}

/// Reads a table of serving runs; `origin` names it in errors.
///
/// # Errors
/// The first cell that cannot be read.
pub fn serving_runs(text: &str, origin: &str) -> Result<Vec<Run>, RunsError> {
    rows(text, origin, |reader, row: ServingRow| {
        let dtype = reader.dtype("precision", &row.precision)?;
        Ok(Run {
            line: reader.line,
            model: row.model,
            profile: row.hardware,
            engine: row.engine,
            tp: row.tp,
            dtype,
            // No engine keeps its cache in int8: those runs have a bf16 cache.
            kv_dtype: if dtype == DType::Int8 { DType::Bf16 } else { dtype },
            workload: Workload {
                load: Load::Concurrency(row.concurrency),
                prompt: row.prompt_len,
                output: row.output_len,
            },
            figures: vec![
                (Metric::Ttft, reader.positive("ttft_ms", row.ttft_ms)?),
                (Metric::Tpot, reader.positive("tpot_ms", row.tpot_ms)?),
            ],
        })
    })
}

/// Reads a table of published figures; `origin` names it in errors.
///
/// # Errors
/// The first cell that cannot be read.
pub fn published_figures(text: &str, origin: &str) -> Result<Vec<Run>, RunsError> {
    rows(text, origin, |reader, row: PublishedRow| {
        let load = match row.load.as_str() {
            "batch" => Load::Batch(row.sequences),
            "concurrency" => Load::Concurrency(row.sequences),
            other => return Err(reader.cell("load", other, "batch or concurrency")),
        };
        let metric = match row.metric.as_str() {
            "prefill_ms" => Metric::Prefill,
            "tpot_ms" => Metric::Tpot,
            "output_tok_s" => Metric::OutputRate,
            "total_tok_s" => Metric::TotalRate,
            other => {
                let expected = "prefill_ms, tpot_ms, output_tok_s or total_tok_s";
                return Err(reader.cell("metric", other, expected));
            }
        };
        Ok(Run {
            line: reader.line,
            model: row.model,
            profile: row.hardware,
            engine: row.engine,
            tp: row.tp,
            dtype: reader.dtype("precision", &row.precision)?,
            kv_dtype: reader.dtype("kv_precision", &row.kv_precision)?,
            workload: Workload { load, prompt: row.prompt_len, output: row.output_len },
            figures: vec![(metric, reader.positive("value", row.value)?)],
        })
    })
}
