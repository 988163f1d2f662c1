//! Everything that is wrong, or odd, with a profile.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::estimate::Source;
use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::defect::Defect;
use crate::hardware::profile::device::Device;
use crate::hardware::profile::error::{self, Lines, Place, ProfileError};
use crate::hardware::profile::folder::Folder;
use crate::hardware::profile::manifest::{Manifest, TableInfo};
use crate::hardware::profile::table::{self, Table};
use crate::units::{self, Bytes, DType, FlopsPerSecond, Seconds};

/// A row this many times faster than the data sheet allows is remarked upon. Some real rows are faster
/// than the sheet: operands left in the cache by an earlier repeat.
pub(crate) const BELOW_BOUND: f64 = 4.0;

/// Something odd that is no error.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    /// The row.
    pub place: Place,
    /// Its latency.
    pub latency: Seconds,
    /// What peak rate and bandwidth allow.
    pub bound: Seconds,
}

impl Warning {
    /// What is odd, without the place.
    pub fn message(&self) -> String {
        let (latency, bound) = (self.latency, self.bound);
        let times = units::three_digits(bound / latency);
        format!("{latency} is {times} times faster than the data sheet allows ({bound}): is the row sound?")
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message())
    }
}

/// Outcome of a check.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The profile's name, if its manifest could be read.
    pub name: Option<String>,
    /// Rows of each table that is sound.
    pub rows: BTreeMap<KernelFamily, usize>,
    /// All defects.
    pub errors: Vec<ProfileError>,
    /// Oddities.
    pub warnings: Vec<Warning>,
}

/// Checks a profile's folder completely: manifest, set of files, every row.
pub fn check(dir: &Path) -> Report {
    match Folder::on_disk(dir) {
        Ok(folder) => check_folder(folder),
        Err(e) => Report { errors: vec![e], ..Report::default() },
    }
}

/// Checks a profile that is already loaded.
pub fn check_loaded(profile: &HardwareProfile) -> Report {
    check_folder(profile.folder.as_ref().clone())
}

pub(crate) fn check_folder(folder: Folder) -> Report {
    let mut report = Report::default();
    let manifest =
        match folder.manifest().map_err(|e| vec![e]).and_then(|(file, text)| Manifest::read(&file, text)) {
            Ok(manifest) => Some(manifest),
            Err(errors) => {
                report.errors = errors;
                None
            }
        };
    if let Some(manifest) = &manifest {
        report.name = Some(manifest.name.clone());
        report.errors.extend(files(&folder, manifest));
    }
    for family in KernelFamily::TABLES {
        let Some(bytes) = folder.table(family) else { continue };
        // Without a manifest rows can still be checked, except against what it declares.
        let info = manifest.as_ref().and_then(|m| m.tables.get(&family));
        let parsed = match info {
            Some(info) => table(&folder, family, info, bytes),
            None => table::parse_located(&folder.path_of(&format!("{family}.csv")), bytes, family, None),
        };
        match parsed {
            Ok(table) => {
                report.rows.insert(family, table.rows.len());
                if let Some(manifest) = &manifest {
                    report.warnings.extend(below_bound(&folder, family, &table, &manifest.device, bytes));
                }
            }
            Err(errors) => report.errors.extend(errors),
        }
    }
    report
}

/// What is wrong with the set of files of a folder, given its manifest.
pub(super) fn files(folder: &Folder, manifest: &Manifest) -> Vec<ProfileError> {
    let mut errors = Vec::new();
    if manifest.name != folder.name {
        let defect = Defect::NameMismatch { found: manifest.name.clone(), expected: folder.name.clone() };
        errors.push(ProfileError::at(manifest.name_place.clone(), defect));
    }
    for (family, info) in &manifest.tables {
        let family = *family;
        let missing = match info.provenance {
            Source::Measured if folder.table(family).is_none() => Some(Defect::MissingTable { family }),
            provenance if by_fit(family, provenance) && matches!(folder.fit(family), Ok(None)) => {
                Some(Defect::MissingFit { family, provenance })
            }
            _ => None,
        };
        errors.extend(missing.map(|defect| ProfileError::at(info.place.clone(), defect)));
    }
    for (name, family) in folder.family_files() {
        let csv = name.ends_with(".csv");
        let defect = match manifest.tables.get(&family).map(|info| info.provenance) {
            None => Defect::UndeclaredFile { family },
            Some(Source::Measured) => continue,
            Some(provenance) if by_fit(family, provenance) && !csv => continue,
            Some(provenance) => Defect::UnexpectedFile { family, provenance },
        };
        errors.push(ProfileError::of(folder.path_of(name), defect));
    }
    let texts = KernelFamily::TABLES.into_iter().map(|family| folder.fit(family));
    errors.extend(texts.chain([folder.evaluation()]).filter_map(Result::err));
    errors
}

/// Whether a family's figures come from a fit file alone. An estimated all-reduce is a rule in the manifest.
fn by_fit(family: KernelFamily, provenance: Source) -> bool {
    match provenance {
        Source::Fitted => true,
        Source::Estimated => family != KernelFamily::AllReduce && family != KernelFamily::Elementwise,
        _ => false,
    }
}

/// Reads a declared table and checks it against its declaration.
pub(super) fn table(
    folder: &Folder,
    family: KernelFamily,
    info: &TableInfo,
    bytes: &[u8],
) -> Result<Table, Vec<ProfileError>> {
    let file = folder.path_of(&format!("{family}.csv"));
    let declared = (family != KernelFamily::AllReduce).then_some(info.dtypes.as_slice());
    let table = table::parse_located(&file, bytes, family, declared)?;
    let lacking = |dtype: &&DType| !table.rows.iter().any(|row| dtype_of(&row.call) == Some(**dtype));
    let errors: Vec<_> = info
        .dtypes
        .iter()
        .filter(lacking)
        .map(|dtype| Defect::DTypeWithoutRows { dtype: *dtype, family })
        .map(|defect| ProfileError::at(info.dtypes_place.clone(), defect))
        .collect();
    if errors.is_empty() { Ok(table) } else { Err(errors) }
}

fn below_bound(
    folder: &Folder,
    family: KernelFamily,
    table: &Table,
    device: &Device,
    bytes: &[u8],
) -> Vec<Warning> {
    let lines = Lines::of(error::without_bom(bytes));
    let file = folder.path_of(&format!("{family}.csv"));
    let rows = table.rows.iter().zip(&table.starts);
    rows.map(|(row, start)| (row, start, bound(&row.call, device)))
        .filter(|(row, _, bound)| row.latency * BELOW_BOUND < *bound)
        .map(|(row, start, bound)| Warning { place: lines.place(&file, *start), latency: row.latency, bound })
        .collect()
}

/// Least time the data sheet allows: operations at peak rate, bytes at peak bandwidth.
pub(crate) fn bound(call: &KernelCall, device: &Device) -> Seconds {
    if let KernelCall::AllReduce { world, bytes, .. } = *call {
        // Each device sends and receives this much in any algorithm that reduces on the devices;
        // switches that reduce halve it.
        let moved = (world - 1) as f64 / world as f64 * bytes as f64;
        return Bytes(moved) / device.interconnect;
    }
    let dtype = match *call {
        // Attention computes in bf16; its element type is the cache's.
        KernelCall::Gemm { dtype, .. } => dtype,
        _ => DType::Bf16,
    };
    let peak = device.peaks.get(&dtype).copied().unwrap_or(FlopsPerSecond(f64::INFINITY));
    (call.flops() / peak).max(call.bytes() / device.hbm_bandwidth)
}

fn dtype_of(call: &KernelCall) -> Option<DType> {
    match *call {
        KernelCall::Gemm { dtype, .. }
        | KernelCall::AttentionPrefill { dtype, .. }
        | KernelCall::AttentionDecode { dtype, .. } => Some(dtype),
        KernelCall::AllReduce { .. } | KernelCall::Elementwise { .. } => None,
    }
}
