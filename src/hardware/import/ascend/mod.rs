//! Operator CSVs of Ascend: what CANN's profiler and vllm-ascend's collectors write, one operator a file, and
//! profiler summaries (`op_summary`, `kernel_details`) with an operator a row.
//!
//! Shapes stand as `1,256;256,256`: tensors by semicolons, dimensions by commas. Latencies are microseconds.

mod hccl;
mod operator;

use std::collections::BTreeMap;

use crate::hardware::import::ascend::operator::{Kind, Operator};
use crate::hardware::import::columns::Columns;
use crate::hardware::import::error::ImportError;
use crate::hardware::import::readings::Readings;
use crate::hardware::import::report::{LeftOut, Report};
use crate::hardware::import::scale::LatencyColumn;
use crate::hardware::import::tree;
use crate::hardware::import::{self, Gathered, Import, Request};
use crate::hardware::import::{delimited, provenance, scale};
use crate::hardware::kernel::KernelFamily;
use crate::hardware::profile::device::Device;

/// Columns of latencies, the most trustworthy first: replayed alone, averaged over a run, single.
const LATENCIES: [&str; 4] =
    ["Average Duration(us)", "Profiling Average Duration(us)", "Duration(us)", "Task Duration(us)"];

/// Imports every operator table of a folder, or one file.
///
/// # Errors
/// See [`ImportError`].
pub(super) fn import(request: &Request<'_>) -> Result<Import, ImportError> {
    let sheet = import::needed_sheet(request)?;
    let (tree, files) = provenance::csv_files(request.source)?;
    let mut taken = Taken { readings: Readings::default(), sources: BTreeMap::new(), left_out: Vec::new() };
    for file in &files {
        let named = tree.path_of(file);
        let table = delimited::read(&named, &tree.read(file)?)?;
        taken.table(file, &table, &sheet.device)?;
    }
    if taken.sources.is_empty() && taken.readings.files.is_empty() {
        return Err(ImportError::NothingThere { path: tree.given, expected: EXPECTED.to_string() });
    }
    let stack = provenance::stack(request, &tree)?;
    let (licence, place) = (provenance::licence(request), provenance::place(request.source));
    let cited = taken.sources.iter().map(|(family, files)| {
        (
            *family,
            format!(
                "operator tables of {} {}: {place}, {}",
                stack.engine,
                stack.engine_version,
                files.join(", ")
            ),
        )
    });
    let gathered = Gathered {
        sheet,
        sources: cited.collect(),
        stack,
        licence,
        copyright: None,
        notes: Vec::new(),
        report: Report { files: Vec::new(), left_out: taken.left_out },
    };
    import::finish(request, taken.readings, gathered)
}

const EXPECTED: &str = "operator tables (MatMulV2.csv, QuantBatchMatmulV3.csv, FusedInferAttentionScore*.csv, \
                        hcom_allReduce_*.csv, or a profiler's op_summary*.csv)";

struct Taken {
    readings: Readings,
    sources: BTreeMap<KernelFamily, Vec<String>>,
    left_out: Vec<LeftOut>,
}

impl Taken {
    fn table(&mut self, file: &str, table: &Columns, device: &Device) -> Result<(), ImportError> {
        let stem = tree::last(file).trim_end_matches(".csv");
        let kinds = operator::kinds_of(stem, table);
        if kinds.is_empty() {
            self.left_out.push(LeftOut { file: file.to_string(), reason: operator::why_not(stem, table) });
            return Ok(());
        }
        for kind in kinds {
            let latency = latency_column(table)?;
            self.readings.file(file, kind.family());
            let operator = Operator { kind, stem, table, latency: latency.name, device };
            operator.add(&mut self.readings)?;
            scale::check(&table.file, latency, device, self.readings.of_last_file())?;
            if self.readings.of_last_file().next().is_some() {
                self.sources.entry(Kind::family(kind)).or_default().push(tree::last(file).to_string());
            }
        }
        Ok(())
    }
}

fn latency_column(table: &Columns) -> Result<LatencyColumn, ImportError> {
    if let Some(name) = LATENCIES.into_iter().find(|name| table.has(name)) {
        return Ok(LatencyColumn { name, unit: "microseconds" });
    }
    match table.header.iter().find(|name| name.contains("Duration")) {
        Some(other) => Err(ImportError::OtherUnit {
            file: table.file.clone(),
            column: other.clone(),
            expected: LATENCIES[0],
            why: "operator tables state microseconds in it; convert the file and rename the column",
        }),
        None => table.get(LATENCIES[0]).map(|_| LatencyColumn { name: LATENCIES[0], unit: "microseconds" }),
    }
}
