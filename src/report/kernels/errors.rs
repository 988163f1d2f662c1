//! What `archplan profiles evaluate --out` leaves: a page, and a picture and a table of each set of scored rows.

use std::path::{Path, PathBuf};

use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::kernel_model::scored::{ScoredRow, ScoredSet};
use crate::hardware::latency::kernel_model::scores::Score;
use crate::report::error::ReportError;
use crate::report::folder::{self, Kind};
use crate::report::kernels::error_page::{self, PAGE};
use crate::report::kernels::error_picture;
use crate::report::tables::{self, significant};

/// Sets of scored rows with what they are of.
#[derive(Clone, Debug)]
pub struct ErrorReport {
    /// Name of the profile.
    pub profile: String,
    /// Its device.
    pub device: String,
    /// Engine and version whose kernels were measured.
    pub stack: String,
    /// SHA-256 of the profile's files.
    pub sha256: String,
    /// The command as typed.
    pub command: String,
    /// The rows, at least one set of at least one row.
    pub sets: Vec<ScoredSet>,
}

/// Files of such a result.
const KIND: Kind = Kind {
    made_by: "archplan profiles evaluate",
    files: &[PAGE_NAME],
    series: Some("errors_"),
    is_result: |dir| PAGE.is_in(dir),
};

/// The page.
pub(crate) const PAGE_NAME: &str = "errors.html";

/// Whether a result may be written to `dir`: it is absent, empty, an earlier result, or `force` is set.
///
/// # Errors
/// A folder that holds something else, is a file, or cannot be read or made.
pub fn check_target(dir: &Path, force: bool) -> Result<(), ReportError> {
    folder::check_target(&KIND, dir, force)
}

/// Writes `errors.html` and, for each set, `errors_<family>_<dtype>_<kept out>.svg` and `.csv` to `dir`, all or none,
/// and returns their paths. An earlier result is replaced; other files are left alone.
///
/// # Errors
/// See [`ReportError`]; `dir` is then as it was.
pub fn write(report: &ErrorReport, dir: &Path, force: bool) -> Result<Vec<PathBuf>, ReportError> {
    folder::put(&KIND, dir, force, |staging| {
        let mut texts = vec![(PAGE_NAME.to_string(), error_page::page(report)?)];
        for set in &report.sets {
            if let Some(score) = set.score() {
                let stem = stem(set);
                texts.push((format!("{stem}.svg"), error_picture::svg(report, set, &score)?));
                texts.push((format!("{stem}.csv"), table(set)?));
            }
        }
        folder::write_texts(staging, &texts)?;
        Ok(texts.into_iter().map(|(name, _)| name).collect())
    })
}

fn stem(set: &ScoredSet) -> String {
    let dtype = set.dtype.map(|dtype| format!("_{dtype}")).unwrap_or_default();
    format!("errors_{}{dtype}_{}", set.family, set.holdout.replace('+', "_"))
}

/// Every row of a set.
///
/// # Errors
/// None that rows could cause.
pub fn table(set: &ScoredSet) -> Result<String, ReportError> {
    let mut header = call_columns(set.family);
    header.extend([
        "measured_us",
        "predicted_us",
        "low_us",
        "high_us",
        "error_percent",
        "inside",
        "spread_percent",
    ]);
    tables::write("errors_*.csv", &header, set.rows.iter().map(cells))
}

/// Columns that say which call a row is of.
pub(crate) fn call_columns(family: KernelFamily) -> Vec<&'static str> {
    let columns = crate::hardware::profile::table::columns(family);
    columns.iter().copied().filter(|name| *name != "latency_us").collect()
}

fn cells(row: &ScoredRow) -> Vec<String> {
    let (low, high) = row.interval();
    let mut cells = call_cells(&row.call);
    cells.push(significant(row.measured.us(), 7));
    cells.extend([row.predicted(), low, high].map(|time| significant(time.us(), 5)));
    cells.push(significant(row.error_percent(), 4));
    cells.push(row.miss.inside().to_string());
    cells.push(spread_cell(row.spread));
    cells
}

/// A call under [`call_columns`].
pub(crate) fn call_cells(call: &crate::hardware::kernel::KernelCall) -> Vec<String> {
    let mut cells: Vec<String> = call.dimensions().iter().map(|(_, value)| value.to_string()).collect();
    cells.extend(call.dtype().map(|dtype| dtype.to_string()));
    cells.extend(call.backend().map(|backend| backend.name().to_string()));
    cells
}

/// A share in percent; nothing where it is not known.
pub(crate) fn spread_cell(spread: Option<f64>) -> String {
    spread.map(|share| significant(share * 100.0, 4)).unwrap_or_default()
}

/// How the rows of a set were kept from the estimators, in words.
pub fn kept_out(holdout: &str) -> String {
    match holdout {
        "random" => "rows at random: a fifth at a time, from small tables one at a time".to_string(),
        "bytes" => "each inner point of a curve, in turn".to_string(),
        "unseen" => "nothing: the rows are not in the profile".to_string(),
        "given" => {
            "nothing: the profile carries no rows, so it may have been fitted to the rows given".to_string()
        }
        axes => format!("whole values of {}, one at a time", axes.replace('+', " and ")),
    }
}

/// Such as `gemm bf16`.
pub(crate) fn set_name(family: KernelFamily, dtype: Option<crate::units::DType>) -> String {
    let dtype = dtype.map(|dtype| format!(" {dtype}")).unwrap_or_default();
    format!("{}{dtype}", family.name().replace('_', " "))
}

/// A score in a line.
pub(crate) fn score_words(score: &Score) -> String {
    format!(
        "{} rows. Absolute error: median {:.1} %, mean {:.1} %, 90th percentile {:.1} %; bias {:+.2} %; {:.0} % inside their 90 % interval.",
        crate::units::group_digits(score.n as u64, crate::units::THIN_SPACE),
        score.median_ape,
        score.mean_ape,
        score.p90_ape,
        score.bias,
        score.coverage
    )
}
