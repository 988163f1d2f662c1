//! `<family>.csv` in our own schema: a profile's folder, or tables with a device sheet from elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use crate::estimate::Source;
use crate::hardware::import::error::ImportError;
use crate::hardware::import::report::{FileReport, Report};
use crate::hardware::import::tree::Tree;
use crate::hardware::import::{self, Import, Request};
use crate::hardware::import::{provenance, readings};
use crate::hardware::kernel::KernelFamily;
use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::draft::{Draft, DraftFamily};
use crate::hardware::profile::manifest::{DeviceSheet, TableInfo};
use crate::hardware::profile::table;

/// Imports a folder.
///
/// # Errors
/// See [`ImportError`]; a table is taken whole or refused with its first defect.
pub(super) fn import(request: &Request<'_>) -> Result<Import, ImportError> {
    let families = match request.source.join("profile.toml").exists() {
        true => return of_profile(request),
        false => table::read_folder(request.source)?,
    };
    if families.is_empty() {
        return Err(ImportError::NothingThere {
            path: request.source.display().to_string(),
            expected: "a folder with gemm.csv, attention_prefill.csv, attention_decode.csv or all_reduce.csv"
                .into(),
        });
    }
    let sheet = import::needed_sheet(request)?;
    let stack = provenance::stack(request, &Tree::open(request.source)?)?;
    let (licence, place) = (provenance::licence(request), provenance::place(request.source));
    let families = families.into_iter().map(|(family, rows)| {
        let source = format!("{place}/{family}.csv");
        let info = TableInfo::new(Source::Measured, &source, &licence, request.date);
        DraftFamily { family, info, rows, fit: None }
    });
    let families: Vec<DraftFamily> = families.collect();
    let DeviceSheet { device, device_source, all_reduce, elementwise, .. } = sheet;
    let measured = families.iter().any(|f| f.family == KernelFamily::AllReduce);
    let all_reduce = all_reduce.filter(|_| !measured);
    let draft = Draft {
        evaluation: None,
        name: request.name.to_string(),
        comment: Some("Imported by `archplan profiles import --from csv`.".to_string()),
        device,
        device_source,
        stack,
        families,
        all_reduce,
        elementwise,
    };
    Ok(with_report(draft))
}

/// A folder with a manifest keeps all that it says, under the new name.
fn of_profile(request: &Request<'_>) -> Result<Import, ImportError> {
    let profile = HardwareProfile::load_as_named(request.source)?;
    let mut stack = profile.stack.clone();
    stack.engine = request.framework.map_or(stack.engine, str::to_string);
    stack.engine_version = request.version.map_or(stack.engine_version, str::to_string);
    let sheet = match import::given_sheet(request) {
        Some(sheet) => sheet,
        None => {
            let own = Request { sheet: Some(profile.sheet()?), ..request.clone() };
            import::needed_sheet(&own)?
        }
    };
    let mut families = Vec::new();
    for family in KernelFamily::TABLES {
        let info = profile.tables.get(&family).filter(|info| info.provenance != Source::Estimated);
        let Some(mut info) = info.cloned() else { continue };
        info.licence = request.licence.map_or(info.licence, str::to_string);
        let rows = match info.provenance {
            Source::Measured => profile.rows(family)?.to_vec(),
            _ => Vec::new(),
        };
        families.push(DraftFamily { family, info, rows, fit: profile.fit_text(family).map(str::to_string) });
    }
    let measured = families.iter().any(|f| f.family == KernelFamily::AllReduce);
    let draft = Draft {
        evaluation: None,
        name: request.name.to_string(),
        comment: Some("Imported by `archplan profiles import --from csv`.".to_string()),
        device: sheet.device,
        device_source: sheet.device_source,
        stack,
        families,
        all_reduce: sheet.all_reduce.filter(|_| !measured),
        elementwise: sheet.elementwise,
    };
    Ok(with_report(draft))
}

fn with_report(draft: Draft) -> Import {
    let report = |family: &DraftFamily| {
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        family.rows.iter().for_each(|row| *kept.entry(readings::kind(&row.call)).or_default() += 1);
        let file = Path::new(family.family.name()).with_extension("csv").display().to_string();
        FileReport { rows: family.rows.len(), kept, ..FileReport::new(&file, family.family) }
    };
    let files = draft.families.iter().filter(|family| !family.rows.is_empty()).map(report).collect();
    Import { draft, report: Report { files, left_out: Vec::new() } }
}
