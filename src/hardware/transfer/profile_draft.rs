//! The whole profile of a device from a relative, a data sheet and points.

use std::collections::{BTreeMap, BTreeSet};

use crate::estimate::Source;
use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::device_model::{LEARNED, ModelError};
use crate::hardware::latency::kernel_model::ensemble::Ensemble;
use crate::hardware::latency::kernel_model::fit_file::{FitFile, VERSION};
use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::device::Device;
use crate::hardware::profile::draft::{Draft, DraftFamily};
use crate::hardware::profile::error::ProfileError;
use crate::hardware::profile::manifest::TableInfo;
use crate::hardware::profile::rules::AllReduceRule;
use crate::hardware::profile::table::{LocatedRow, Row};
use crate::hardware::transfer::all_reduce_rule;
use crate::hardware::transfer::carry::{self, CarriedFamily, Types};
use crate::hardware::transfer::constants::{Constants, DamagedConstants};
use crate::hardware::transfer::points::{self, Points, PointsError};
use crate::units::DType;

/// Why a profile cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The relative is itself no measurement.
    #[error("`{relative}` is itself estimated in {family}: name a measured or fitted profile with --like")]
    EstimatedRelative {
        /// The relative.
        relative: String,
        /// The family.
        family: KernelFamily,
    },
    /// Nothing is left to carry over.
    #[error(
        "nothing can be carried over from `{relative}`: it has {has}, the data sheet has peaks for {peaks}"
    )]
    NothingInCommon {
        /// The relative.
        relative: String,
        /// Its element types.
        has: String,
        /// The device's.
        peaks: String,
    },
    /// A point is refused.
    #[error(transparent)]
    Points(#[from] PointsError),
    /// The relative is defective.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The relative is defective.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The binary is defective.
    #[error(transparent)]
    Constants(#[from] DamagedConstants),
    /// A fit has no text.
    #[error("a fit cannot be written: {0}")]
    Text(#[from] serde_json::Error),
}

/// What is to be made.
#[derive(Debug)]
pub struct Request<'a> {
    /// Name of the profile.
    pub name: &'a str,
    /// Measured relative.
    pub relative: &'a HardwareProfile,
    /// Device facts.
    pub device: Device,
    /// Where they come from.
    pub device_source: String,
    /// Measured points.
    pub points: Points,
}

/// What was made, and what the user should know of it.
#[derive(Debug)]
pub struct Outcome {
    /// The profile.
    pub draft: Draft,
    /// Remarks: element types that are absent, rules that are believed less.
    pub remarks: Vec<String>,
    /// Points that count, by family.
    pub points: BTreeMap<KernelFamily, usize>,
}

/// Makes the profile; nothing is written.
///
/// # Errors
/// See [`TransferError`].
pub fn make(request: &Request<'_>) -> Result<Outcome, TransferError> {
    let Request { relative, device, .. } = request;
    let constants = Constants::all()?;
    let mut remarks = Vec::new();
    let mut families = Vec::new();
    let mut counted = BTreeMap::new();
    for family in LEARNED {
        let points = request.points.get(&family).map(Vec::as_slice).unwrap_or_default();
        remarks.extend(remarks_of(relative, family, device));
        match carried(relative, family, device, &constants)? {
            Some(carried) => {
                let (drafted, number) = sharpened(request, carried, points, &mut remarks)?;
                families.push(drafted);
                counted.insert(family, number);
            }
            None => refuse_points(request, family, points)?,
        }
    }
    if families.is_empty() {
        return Err(TransferError::NothingInCommon {
            relative: relative.name.clone(),
            has: list(&mut relative.tables.values().flat_map(|info| info.dtypes.iter().copied())),
            peaks: list(&mut device.peaks.keys().copied()),
        });
    }
    let all_reduce = all_reduce(request)?;
    counted.insert(KernelFamily::AllReduce, request.points.get(&KernelFamily::AllReduce).map_or(0, Vec::len));
    let elementwise = relative.tables.get(&KernelFamily::Elementwise);
    let mut info = elementwise.cloned().unwrap_or_else(|| info(relative, KernelFamily::Elementwise, 0));
    info.note = Some(format!("the rule of {}; interval_factor is a judgement", relative.name));
    let draft = Draft {
        evaluation: None,
        name: request.name.to_string(),
        comment: Some(format!(
            "{}: estimated. Carried over from {} by `archplan profiles new`, see docs/transfer.md.\nKeys and units: hardware_profiles/README.md.",
            device.name, relative.name
        )),
        device: device.clone(),
        device_source: request.device_source.clone(),
        stack: relative.stack.clone(),
        families,
        all_reduce,
        elementwise: (relative.elementwise, info),
    };
    Ok(Outcome { draft, remarks, points: counted })
}

fn list(types: &mut dyn Iterator<Item = DType>) -> String {
    let names: BTreeSet<DType> = types.collect();
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn dtype_of(row: &Row) -> Option<DType> {
    axes::coordinates(&row.call).map(|(_, dtype, _)| dtype)
}

/// A family carried over without points; none where the relative does not cover it or no element type is shared.
///
/// # Errors
/// An estimated or defective relative.
pub fn carried(
    relative: &HardwareProfile,
    family: KernelFamily,
    device: &Device,
    constants: &Constants,
) -> Result<Option<CarriedFamily>, TransferError> {
    if relative.provenance(family) == Some(Source::Estimated) {
        return Err(TransferError::EstimatedRelative { relative: relative.name.clone(), family });
    }
    let Some(constants) = constants.of(family) else { return Ok(None) };
    Ok(carry::carry(relative, family, device, constants)?)
}

fn remarks_of(relative: &HardwareProfile, family: KernelFamily, device: &Device) -> Vec<String> {
    if !relative.tables.contains_key(&family) {
        return vec![format!("{family}: absent, `{}` has none", relative.name)];
    }
    let types = Types::of(relative, family, device);
    let absent =
        |dtype: &DType| format!("{family} {dtype}: absent, `{}` has no figures of it", relative.name);
    let no_peak = |dtype: &DType| format!("{family} {dtype}: absent, the data sheet has no peak of it");
    // The element type of an attention is its cache's, for which fewer engines have kernels than for matrix products.
    let missed = types.without_figures.iter().filter(|_| family == KernelFamily::Gemm);
    missed.map(absent).chain(types.without_peak.iter().map(no_peak)).collect()
}

fn refuse_points(
    request: &Request<'_>,
    family: KernelFamily,
    points: &[LocatedRow],
) -> Result<(), PointsError> {
    let Some(first) = points.first() else { return Ok(()) };
    let covered = request.relative.tables.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let relative = request.relative.name.clone();
    Err(PointsError::NotCarried { place: first.place.clone(), family, dtype: None, relative, has: covered })
}

fn sharpened(
    request: &Request<'_>,
    carried: CarriedFamily,
    points: &[LocatedRow],
    remarks: &mut Vec<String>,
) -> Result<(DraftFamily, usize), TransferError> {
    let Request { relative, device, .. } = request;
    let family = carried.family;
    let dtypes: Vec<DType> = carried.fits.iter().map(|fit| fit.dtype).collect();
    let (kept, other): (Vec<LocatedRow>, Vec<LocatedRow>) =
        points.iter().cloned().partition(|point| dtype_of(&point.row).is_none_or(|d| dtypes.contains(&d)));
    if let Some(first) = other.first() {
        let (file, types) =
            (&first.place.file, list(&mut other.iter().filter_map(|point| dtype_of(&point.row))));
        let number = other.len();
        remarks.push(format!(
            "{file}: {number} {types} points left out, {types} is not carried over from `{}`",
            relative.name
        ));
    }
    let points = if kept.is_empty() { points } else { kept.as_slice() };
    let carried = if points.is_empty() {
        carried
    } else {
        let bare = carried.ensembles(device);
        points::check(family, points, &bare, device, &relative.name)?;
        let rows: Vec<Row> = points.iter().map(|point| point.row).collect();
        let strays = carried.strays(&bare, &rows);
        let carried = carried.with_points(&strays);
        let sharp: BTreeMap<DType, Ensemble> = carried.ensembles(device);
        let left_out = sharp.values().next().and_then(Ensemble::mapping).map(|mapping| mapping.left_out());
        remarks.extend(points::check_among(points, &strays, &left_out.unwrap_or_default())?);
        carried
    };
    let fit = FitFile { version: VERSION, family, fits: carried.fits }.to_text()?;
    let info = TableInfo { dtypes, ..info(relative, family, points.len()) };
    Ok((DraftFamily { family, info, rows: Vec::new(), fit: Some(fit) }, points.len()))
}

/// Provenance of figures that were carried over: the relative's, with what was done to them.
fn info(relative: &HardwareProfile, family: KernelFamily, points: usize) -> TableInfo {
    let of = relative.tables.get(&family);
    let text =
        |get: fn(&TableInfo) -> &String, or: &str| of.map_or_else(|| or.to_string(), |i| get(i).clone());
    let sharpened = match points {
        0 => "no point of this device was measured".to_string(),
        n => format!("sharpened by {n} measured points"),
    };
    let source = format!(
        "carried over from {} by the two data sheets, {sharpened}; there: {}",
        relative.name,
        text(|i| &i.source, "a rule")
    );
    let mut info = TableInfo::new(
        Source::Estimated,
        &source,
        &text(|i| &i.licence, "as the relative's"),
        &text(|i| &i.date, "1970-01-01"),
    );
    info.copyright = of.and_then(|i| i.copyright.clone());
    info.note =
        Some("how far such estimates were off on devices that were left out: docs/transfer.md".to_string());
    info
}

fn all_reduce(request: &Request<'_>) -> Result<Option<(AllReduceRule, TableInfo)>, TransferError> {
    let Request { relative, device, .. } = request;
    let family = KernelFamily::AllReduce;
    let points = request.points.get(&family).map(Vec::as_slice).unwrap_or_default();
    if !points.is_empty() {
        points::check_all_reduce(points, device)?;
        let rows: Vec<Row> = points.iter().map(|point| point.row).collect();
        let rule = all_reduce_rule::fit(&rows, device);
        return Ok(rule.map(|rule| (rule, info(relative, family, points.len()))));
    }
    let rule = match (relative.all_reduce, relative.provenance(family)) {
        (Some(rule), _) => Some(rule),
        (None, Some(Source::Measured)) => all_reduce_rule::fit(&relative.rows(family)?, &relative.device),
        _ => None,
    };
    Ok(rule.map(|rule| (all_reduce_rule::carried(rule), info(relative, family, 0))))
}
