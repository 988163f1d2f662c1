//! The data of `difference.html`: the summary, and of each set a sample of calls.

use serde::Serialize;
use serde_json::{Value, json};

use crate::hardware::comparison::difference::PairSet;
use crate::hardware::comparison::errors::Size;
use crate::hardware::comparison::ratios::{self, Pair, RatioSummary};
use crate::hardware::comparison::stretch;
use crate::report::error::ReportError;
use crate::report::html::Page;
use crate::report::kernels::difference::{DifferenceReport, PAGE_NAME, SetSummary, Summary, verdict};
use crate::report::kernels::difference_picture::off_words;
use crate::report::kernels::error_page::rounded;
use crate::report::kernels::errors::set_name;

/// The page.
pub(crate) const PAGE: Page = Page {
    name: PAGE_NAME,
    kind: "difference of profiles",
    script: concat!(include_str!("../page/kernels.js"), include_str!("../page/difference.js")),
};

/// Calls that a page carries, over all sets.
const MOST_CALLS: usize = 16_000;
/// Calls of the table of the largest changes, of each kind and set.
const LARGEST: usize = 25;

#[derive(Serialize)]
struct Data<'a> {
    version: &'static str,
    command: &'a str,
    summary: &'a Summary,
    sets: Vec<Set<'a>>,
}

#[derive(Serialize)]
struct Set<'a> {
    name: String,
    summary: &'a SetSummary,
    /// When a call counts as faster or slower, in words.
    off: String,
    dimensions: Vec<&'static str>,
    sizes: Vec<(Size, &'static str)>,
    /// Those with the largest changes first; how many.
    largest: usize,
    calls: Vec<Value>,
}

/// The page of a report.
pub(crate) fn page(report: &DifferenceReport) -> Result<String, ReportError> {
    let compared = report.difference.sets.iter().filter(|set| !set.pairs.is_empty()).count();
    let each = MOST_CALLS / compared.max(1);
    let sets = report.difference.sets.iter().zip(&report.summary.sets);
    PAGE.with(&Data {
        version: env!("CARGO_PKG_VERSION"),
        command: &report.command,
        summary: &report.summary,
        sets: sets.map(|(set, summary)| of(set, summary, each)).collect(),
    })
}

fn of<'a>(set: &PairSet, summary: &'a SetSummary, most: usize) -> Set<'a> {
    let sizes = Size::of_family(set.family);
    let (mut drawn, lost) = ratios::largest_changes(&set.pairs, LARGEST);
    drawn.extend(lost);
    let largest = drawn.len();
    let sample = stretch::pick(set.pairs.len(), most);
    let further: Vec<usize> = sample.into_iter().filter(|i| !drawn.contains(i)).collect();
    drawn.extend(further);
    let dimensions = set.pairs.first().map(|pair| pair.call.dimensions()).unwrap_or_default();
    Set {
        name: set_name(set.family, set.dtype),
        summary,
        off: off_words(set, &RatioSummary::of(&set.pairs)),
        dimensions: dimensions.into_iter().map(|(name, _)| name).collect(),
        sizes: sizes.iter().map(|size| (*size, size.label())).collect(),
        largest,
        calls: drawn.into_iter().filter_map(|i| set.pairs.get(i)).map(|pair| values(pair, sizes)).collect(),
    }
}

/// A call as a list: the call (dimensions, then type or backend), microseconds on A and on B, spread of the repeats in
/// percent or null on A and on B, the verdict, and its sizes but for the first, which is the latency on A.
fn values(pair: &Pair, sizes: &[Size]) -> Value {
    let mut call: Vec<Value> = pair.call.dimensions().iter().map(|(_, value)| json!(value)).collect();
    call.extend(pair.call.dtype().map(|dtype| json!(dtype)));
    call.extend(pair.call.backend().map(|backend| json!(backend)));
    let percent = |spread: Option<f64>| json!(spread.map(|share| rounded(share * 100.0)));
    let mut values = vec![
        Value::Array(call),
        json!(rounded(pair.a.latency.us())),
        json!(rounded(pair.b.latency.us())),
        percent(pair.a.spread),
        percent(pair.b.spread),
        json!(verdict(pair)),
    ];
    let further = sizes.iter().skip(1);
    values.extend(further.map(|size| json!(rounded(size.of(&pair.call, pair.a.latency)))));
    Value::Array(values)
}
