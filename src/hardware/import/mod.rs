//! Measured tables of others -> a profile: kernel databases, operator tables, our own CSV.
//!
//! A reader turns its format into readings; [`readings`] makes one row a call of them; the rest is a
//! [`Draft`](crate::hardware::profile::draft::Draft), which is written whole or not at all. Every row that is read
//! arrives or is counted with the reason why not ([`report`]).
//!
//! Deliberately absent: estimates (see [`crate::hardware::latency`]) and any figure the source does not state.

mod aiconfigurator;
mod ascend;
mod columns;
mod delimited;
pub mod device;
pub mod error;
mod own_csv;
mod parquet_file;
mod provenance;
mod readings;
pub mod report;
mod scale;
mod tree;
mod version;
mod vidur;

use std::collections::BTreeMap;
use std::path::Path;

use crate::estimate::Source;
use crate::hardware::import::device::GivenFacts;
use crate::hardware::import::error::ImportError;
use crate::hardware::import::readings::Readings;
use crate::hardware::import::report::Report;
use crate::hardware::kernel::KernelFamily;
use crate::hardware::profile::draft::{Draft, DraftFamily};
use crate::hardware::profile::manifest::{DeviceSheet, Stack, TableInfo};

/// Where measured tables come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Kernel database of NVIDIA AIConfigurator.
    Aiconfigurator,
    /// Operator CSVs of CANN's profiler and vllm-ascend's collectors.
    AscendOperators,
    /// Profiles of linear layers by microsoft/vidur.
    Vidur,
    /// `<family>.csv` in our own schema.
    Csv,
}

impl Format {
    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Aiconfigurator => "aiconfigurator",
            Format::AscendOperators => "ascend-operators",
            Format::Vidur => "vidur",
            Format::Csv => "csv",
        }
    }
}

/// What to import.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The format.
    pub format: Format,
    /// A folder or a file.
    pub source: &'a Path,
    /// Name the profile gets.
    pub name: &'a str,
    /// System of a database.
    pub system: Option<&'a str>,
    /// Serving engine that was measured.
    pub framework: Option<&'a str>,
    /// Its version; for databases `latest` where it is left out.
    pub version: Option<&'a str>,
    /// Device whose rows are taken where a table names several.
    pub measured_on: Option<&'a str>,
    /// Kernel that is kept where several measured one call.
    pub prefer_kernel: Option<&'a str>,
    /// Device facts from a sheet, instead of the source's.
    pub sheet: Option<DeviceSheet>,
    /// Single device facts.
    pub facts: GivenFacts,
    /// Licence of the figures, where the source states none.
    pub licence: Option<&'a str>,
    /// Day for which the source is cited, such as `2026-08-21`.
    pub date: &'a str,
}

/// A profile ready to be written, and what became of the source.
#[derive(Debug)]
pub struct Import {
    /// The profile.
    pub draft: Draft,
    /// Rows kept, skipped and left out.
    pub report: Report,
}

/// Reads a source.
///
/// # Errors
/// See [`ImportError`]; nothing is written here.
pub fn import(request: &Request<'_>) -> Result<Import, ImportError> {
    check_flags(request)?;
    match request.format {
        Format::Aiconfigurator => aiconfigurator::import(request),
        Format::AscendOperators => ascend::import(request),
        Format::Vidur => vidur::import(request),
        Format::Csv => own_csv::import(request),
    }
}

/// Refuses flags that would be passed over in silence.
fn check_flags(request: &Request<'_>) -> Result<(), ImportError> {
    let flags = [
        ("--system", request.system.is_some(), "its tables are of one system"),
        ("--measured-on", request.measured_on.is_some(), "its rows name no device"),
        ("--prefer-kernel", request.prefer_kernel.is_some(), "its rows name no kernels to choose from"),
    ];
    let taken: &[&str] = match request.format {
        Format::Aiconfigurator => &["--system", "--measured-on", "--prefer-kernel"],
        Format::Vidur => &["--system"],
        Format::AscendOperators => &["--prefer-kernel"],
        Format::Csv => &[],
    };
    match flags.into_iter().find(|(flag, given, _)| *given && !taken.contains(flag)) {
        Some((flag, _, reason)) => {
            Err(ImportError::FlagUnused { flag, format: request.format.name(), reason })
        }
        None => Ok(()),
    }
}

/// Said where a source states no licence.
const NO_LICENCE: &str = "not stated by the source";

/// Everything a reader knows besides the readings.
struct Gathered {
    sheet: DeviceSheet,
    stack: Stack,
    /// For each family: where its figures come from.
    sources: BTreeMap<KernelFamily, String>,
    licence: String,
    copyright: Option<String>,
    /// For each family: what a reader should know.
    notes: Vec<(KernelFamily, String)>,
    report: Report,
}

/// Decides between readings of one call and makes the profile.
fn finish(
    request: &Request<'_>,
    mut readings: Readings,
    mut gathered: Gathered,
) -> Result<Import, ImportError> {
    let merged = readings.merge(request.prefer_kernel);
    gathered.report.files.append(&mut readings.files);
    if merged.rows.is_empty() {
        let reasons = gathered.report.reasons();
        let reasons: Vec<String> =
            reasons.iter().take(3).map(|(why, rows)| format!("{rows} x {why}")).collect();
        let reasons = if reasons.is_empty() { "no rows at all".to_string() } else { reasons.join("; ") };
        return Err(ImportError::NoRows { path: request.source.display().to_string(), reasons });
    }
    let notes = [merged.notes(), std::mem::take(&mut gathered.notes)].concat();
    let families = merged.rows.into_iter().map(|(family, rows)| {
        let source = gathered.sources.get(&family).map_or("", String::as_str);
        let mut info = TableInfo::new(Source::Measured, source, &gathered.licence, request.date);
        info.copyright = gathered.copyright.clone();
        let of_family = notes.iter().filter(|(f, _)| *f == family).map(|(_, note)| note.as_str());
        let note = of_family.collect::<Vec<_>>().join("; ");
        info.note = Some(note).filter(|note| !note.is_empty());
        DraftFamily { family, info, rows, fit: None }
    });
    let families: Vec<DraftFamily> = families.collect();
    let measured = families.iter().any(|f| f.family == KernelFamily::AllReduce);
    let DeviceSheet { device, device_source, all_reduce, elementwise, .. } = gathered.sheet;
    let draft = Draft {
        evaluation: None,
        name: request.name.to_string(),
        comment: Some(format!("Imported by `archplan profiles import --from {}`.", request.format.name())),
        device,
        device_source,
        stack: gathered.stack,
        families,
        all_reduce: all_reduce.filter(|_| !measured),
        elementwise,
    };
    Ok(Import { draft, report: gathered.report })
}

/// The sheet the user gave, with the single facts he gave besides.
fn given_sheet(request: &Request<'_>) -> Option<DeviceSheet> {
    let mut sheet = request.sheet.clone()?;
    let GivenFacts { cores, tile, l2 } = request.facts;
    if request.facts != GivenFacts::default() {
        sheet.device_source = format!("{}; cores, tile or cache from the command line", sheet.device_source);
    }
    sheet.device.cores = cores.unwrap_or(sheet.device.cores);
    sheet.device.tile = tile.unwrap_or(sheet.device.tile);
    sheet.device.l2 = l2.or(sheet.device.l2);
    Some(sheet)
}

/// The sheet of a format that states no device facts.
fn needed_sheet(request: &Request<'_>) -> Result<DeviceSheet, ImportError> {
    given_sheet(request).ok_or_else(|| ImportError::FlagNeeded {
        flag: "--device-from PROFILE or --device FILE.toml",
        reason: format!(
            "--from {} states no device facts; PROFILE is a profile of the same device (archplan profiles), FILE.toml \
             has the sections [device] and [tables.elementwise] of a profile.toml",
            request.format.name()
        ),
    })
}
