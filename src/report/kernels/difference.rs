//! What `archplan profiles diff --out` leaves: a page, and a picture and a table of each set of calls compared.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::estimate::{Estimate, Source};
use crate::hardware::comparison::difference::{Difference, PairSet};
use crate::hardware::comparison::facts::Fact;
use crate::hardware::comparison::ratios::{self, Pair, RatioBin, RatioSummary};
use crate::hardware::kernel::KernelFamily;
use crate::report::error::ReportError;
use crate::report::folder::{self, Kind};
use crate::report::kernels::difference_page::{self, PAGE};
use crate::report::kernels::difference_picture;
use crate::report::kernels::errors::{call_cells, call_columns, spread_cell};
use crate::report::tables::{self, significant};
use crate::units::DType;

/// Largest gains and losses that a summary lists, of each.
const LARGEST: usize = 10;

/// Two profiles compared, in figures: what `archplan profiles diff --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The first profile.
    pub a: Named,
    /// The second profile.
    pub b: Named,
    /// Which devices, and what follows from it.
    pub remarks: Vec<String>,
    /// Statements that differ.
    pub facts: Vec<Fact>,
    /// Per family and element type.
    pub sets: Vec<SetSummary>,
    /// A whole model on both, where one was named.
    pub model: Option<Effect>,
}

/// One of the two profiles.
#[derive(Clone, Debug, Serialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// `built-in`, or its folder.
    pub origin: String,
    /// Its device.
    pub device: String,
    /// Engine and version.
    pub stack: String,
    /// SHA-256 of its files.
    pub sha256: String,
}

/// One family and element type.
#[derive(Clone, Debug, Serialize)]
pub struct SetSummary {
    /// Kernel family.
    pub family: KernelFamily,
    /// Element type; none for all-reduce.
    pub dtype: Option<DType>,
    /// How A came by its figures; `null` where it does not cover the calls.
    pub provenance_a: Option<Source>,
    /// The same of B.
    pub provenance_b: Option<Source>,
    /// Calls measured in A only.
    pub only_a: usize,
    /// Calls measured in B only.
    pub only_b: usize,
    /// Calls measured in both.
    pub both: usize,
    /// What is compared, in words.
    pub basis: String,
    /// Ratios B / A; `null` where nothing can be compared.
    pub ratios: Option<RatioSummary>,
    /// Calls on which B gained most.
    pub gained: Vec<Change>,
    /// Calls on which B lost most.
    pub lost: Vec<Change>,
    /// Ratios by decade of each axis.
    pub by_decade: Vec<RatioBin>,
}

/// One call on both profiles.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// The call, in words.
    pub call: String,
    /// Latency on A.
    pub a_us: f64,
    /// Latency on B.
    pub b_us: f64,
    /// B / A.
    pub ratio: f64,
    /// Spread of A's repeats, where stated.
    pub spread_a_percent: Option<f64>,
    /// Spread of B's repeats, where stated.
    pub spread_b_percent: Option<f64>,
}

/// A whole model on both profiles.
#[derive(Clone, Debug, Serialize)]
pub struct Effect {
    /// Name of the model.
    pub model: String,
    /// The deployment and the work, in words.
    pub deployment: String,
    /// Times, first to last as a request meets them.
    pub times: Vec<EffectTime>,
}

/// One time on both profiles.
#[derive(Clone, Debug, Serialize)]
pub struct EffectTime {
    /// Which: `prefill_ms`, `decode_step_ms`, `latency_ms`.
    pub key: &'static str,
    /// On A, in milliseconds.
    pub a: Estimate,
    /// On B, in milliseconds.
    pub b: Estimate,
    /// B / A.
    pub ratio: f64,
}

impl SetSummary {
    /// A set in figures.
    pub fn of(set: &PairSet) -> Self {
        let (gained, lost) = ratios::largest_changes(&set.pairs, LARGEST);
        let changes = |indices: Vec<usize>| {
            indices.into_iter().filter_map(|i| set.pairs.get(i)).map(Change::of).collect::<Vec<_>>()
        };
        Self {
            family: set.family,
            dtype: set.dtype,
            provenance_a: set.provenance_a,
            provenance_b: set.provenance_b,
            only_a: set.only_a,
            only_b: set.only_b,
            both: set.both,
            basis: set.basis.clone(),
            ratios: (!set.pairs.is_empty()).then(|| RatioSummary::of(&set.pairs)),
            gained: changes(gained),
            lost: changes(lost),
            by_decade: ratios::by_decade(&set.pairs),
        }
    }
}

impl Change {
    fn of(pair: &Pair) -> Self {
        let percent = |spread: Option<f64>| spread.map(|share| share * 100.0);
        Self {
            call: pair.call.to_string(),
            a_us: pair.a.latency.us(),
            b_us: pair.b.latency.us(),
            ratio: pair.ratio(),
            spread_a_percent: percent(pair.a.spread),
            spread_b_percent: percent(pair.b.spread),
        }
    }
}

/// What goes into the folder.
#[derive(Clone, Debug)]
pub struct DifferenceReport {
    /// In figures.
    pub summary: Summary,
    /// Call by call.
    pub difference: Difference,
    /// The command as typed.
    pub command: String,
}

/// Files of such a result.
const KIND: Kind = Kind {
    made_by: "archplan profiles diff",
    files: &[PAGE_NAME],
    series: Some("difference_"),
    is_result: |dir| PAGE.is_in(dir),
};

/// The page.
pub(crate) const PAGE_NAME: &str = "difference.html";

/// Whether a result may be written to `dir`: it is absent, empty, an earlier result, or `force` is set.
///
/// # Errors
/// A folder that holds something else, is a file, or cannot be read or made.
pub fn check_target(dir: &Path, force: bool) -> Result<(), ReportError> {
    folder::check_target(&KIND, dir, force)
}

/// Writes `difference.html` and, for each set of compared calls, `difference_<family>_<dtype>.svg` and `.csv` to `dir`,
/// all or none, and returns their paths. An earlier result is replaced; other files are left alone.
///
/// # Errors
/// See [`ReportError`]; `dir` is then as it was.
pub fn write(report: &DifferenceReport, dir: &Path, force: bool) -> Result<Vec<PathBuf>, ReportError> {
    folder::put(&KIND, dir, force, |staging| {
        let mut texts = vec![(PAGE_NAME.to_string(), difference_page::page(report)?)];
        for set in report.difference.sets.iter().filter(|set| !set.pairs.is_empty()) {
            let dtype = set.dtype.map(|dtype| format!("_{dtype}")).unwrap_or_default();
            let stem = format!("difference_{}{dtype}", set.family);
            texts.push((format!("{stem}.svg"), difference_picture::svg(report, set)?));
            texts.push((format!("{stem}.csv"), table(set)?));
        }
        folder::write_texts(staging, &texts)?;
        Ok(texts.into_iter().map(|(name, _)| name).collect())
    })
}

/// Every call compared.
///
/// # Errors
/// None that calls could cause.
pub fn table(set: &PairSet) -> Result<String, ReportError> {
    let mut header = call_columns(set.family);
    header.extend(["a_us", "b_us", "ratio", "spread_a_percent", "spread_b_percent", "verdict"]);
    let rows = set.pairs.iter().map(|pair| {
        let mut cells = call_cells(&pair.call);
        cells.extend([pair.a.latency, pair.b.latency].map(|time| significant(time.us(), 7)));
        cells.push(significant(pair.ratio(), 5));
        cells.extend([pair.a.spread, pair.b.spread].map(spread_cell));
        cells.push(verdict(pair).to_string());
        cells
    });
    tables::write("difference_*.csv", &header, rows)
}

/// Whether B is `faster` or `slower` by more than both may be off, or neither.
pub(crate) fn verdict(pair: &Pair) -> &'static str {
    match (pair.faster(), pair.slower()) {
        (true, _) => "faster",
        (_, true) => "slower",
        _ => "alike",
    }
}
