//! The data of `errors.html`: figures of all rows, and of each set a sample of rows with the worst among them.

use serde::Serialize;
use serde_json::{Value, json};

use crate::hardware::comparison::errors::{self, ErrorBin, Size};
use crate::hardware::comparison::stretch;
use crate::hardware::latency::cost::Z90;
use crate::hardware::latency::kernel_model::scored::{ScoredRow, ScoredSet};
use crate::hardware::latency::kernel_model::scores::Score;
use crate::report::error::ReportError;
use crate::report::html::Page;
use crate::report::kernels::errors::{ErrorReport, PAGE_NAME, kept_out, set_name};

/// The page.
pub(crate) const PAGE: Page = Page {
    name: PAGE_NAME,
    kind: "errors of estimates",
    script: concat!(include_str!("../page/kernels.js"), include_str!("../page/errors.js")),
};

/// Rows that a page carries, over all sets.
const MOST_ROWS: usize = 16_000;
/// Rows of the table of the worst, in each set.
const WORST: usize = 50;

#[derive(Serialize)]
struct Data<'a> {
    version: &'static str,
    profile: &'a str,
    device: &'a str,
    stack: &'a str,
    sha256: &'a str,
    command: &'a str,
    z90: f64,
    sets: Vec<Set>,
}

#[derive(Serialize)]
struct Set {
    name: String,
    kept_out: String,
    score: Score,
    /// Names of the dimensions of a call.
    dimensions: Vec<&'static str>,
    sizes: Vec<BySize>,
    /// Rows that state their spread, and the median in percent.
    spread: Option<(usize, f64)>,
    /// The worst rows first, worst of all at the top; how many.
    worst: usize,
    rows: Vec<Value>,
}

#[derive(Serialize)]
struct BySize {
    key: Size,
    label: &'static str,
    bins: Vec<ErrorBin>,
}

/// The page of a report.
pub(crate) fn page(report: &ErrorReport) -> Result<String, ReportError> {
    let each = (MOST_ROWS / report.sets.len().max(1)).max(WORST);
    let sets = report.sets.iter().filter_map(|set| Some(of(set, set.score()?, each)));
    PAGE.with(&Data {
        version: env!("CARGO_PKG_VERSION"),
        profile: &report.profile,
        device: &report.device,
        stack: &report.stack,
        sha256: &report.sha256,
        command: &report.command,
        z90: Z90,
        sets: sets.collect(),
    })
}

fn of(set: &ScoredSet, score: Score, most: usize) -> Set {
    let sizes = Size::of_family(set.family);
    let worst = errors::worst(&set.rows, WORST);
    let mut drawn = worst.clone();
    drawn.extend(stretch::pick(set.rows.len(), most).into_iter().filter(|i| !worst.contains(i)));
    let dimensions = set.rows.first().map(|row| row.call.dimensions()).unwrap_or_default();
    Set {
        name: set_name(set.family, set.dtype),
        kept_out: kept_out(&set.holdout),
        score,
        dimensions: dimensions.into_iter().map(|(name, _)| name).collect(),
        sizes: sizes
            .iter()
            .map(|&key| BySize { key, label: key.label(), bins: errors::by_size(&set.rows, key) })
            .collect(),
        spread: errors::median_spread(set).map(|(n, share)| (n, rounded(share * 100.0))),
        worst: worst.len(),
        rows: drawn.into_iter().filter_map(|i| set.rows.get(i)).map(|row| values(row, sizes)).collect(),
    }
}

/// A row as a list: the call (dimensions, then type or backend), measured and predicted microseconds, stated log-normal
/// spread, spread of the repeats in percent or null, and its sizes but for the first, which is the latency.
fn values(row: &ScoredRow, sizes: &[Size]) -> Value {
    let mut call: Vec<Value> = row.call.dimensions().iter().map(|(_, value)| json!(value)).collect();
    call.extend(row.call.dtype().map(|dtype| json!(dtype)));
    call.extend(row.call.backend().map(|backend| json!(backend)));
    let mut values = vec![
        Value::Array(call),
        json!(rounded(row.measured.us())),
        json!(rounded(row.predicted().us())),
        json!(rounded(row.miss.log_sigma)),
        json!(row.spread.map(|share| rounded(share * 100.0))),
    ];
    let further = sizes.iter().skip(1);
    values.extend(further.map(|size| json!(rounded(size.of(&row.call, row.measured)))));
    Value::Array(values)
}

/// Four significant digits: what a picture shows.
pub(crate) fn rounded(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    // Through text, so that no digits come back.
    format!("{x:.3e}").parse().unwrap_or(x)
}
