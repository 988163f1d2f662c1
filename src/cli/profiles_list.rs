//! `archplan profiles list`.

use std::collections::BTreeSet;

use archplan::estimate::Source;
use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::Origin;
use archplan::hardware::profile::error::ProfileError;
use archplan::hardware::profile::manifest::TableInfo;
use archplan::units::DType;
use serde::Serialize;

use crate::cli::profiles::at_hand;
use crate::cli::{Failure, Global, output};

#[derive(Serialize)]
struct Listed {
    name: String,
    /// Absent for a profile that cannot be loaded.
    device: Option<String>,
    origin: String,
    dtypes: BTreeSet<DType>,
    tables: Vec<Table>,
    /// Licences of the measured and fitted figures.
    licences: BTreeSet<String>,
    /// Why the profile cannot be loaded.
    error: Option<String>,
}

#[derive(Serialize)]
struct Table {
    family: KernelFamily,
    provenance: &'static str,
    /// Measured rows; absent where there are none to count.
    rows: Option<usize>,
}

/// Runs `archplan profiles list`.
pub fn run(global: &Global) -> Result<(), Failure> {
    let profiles = at_hand(global)?;
    let listed: Vec<_> = profiles.names().map(|name| listed(name, profiles.get(name))).collect();
    match global.json {
        true => output::json(&listed)?,
        false => print_table(&listed),
    }
    for broken in &listed {
        if let Some(error) = &broken.error {
            log::warn!("profile `{}` cannot be used: {error}", broken.name);
        }
    }
    Ok(())
}

fn listed(name: &str, loaded: Result<HardwareProfile, ProfileError>) -> Listed {
    let read = loaded.and_then(|profile| tables(&profile).map(|tables| (profile, tables)));
    match read {
        Ok((profile, tables)) => Listed {
            name: name.to_string(),
            device: Some(profile.device.name.clone()),
            origin: origin(&profile),
            dtypes: profile.tables.values().flat_map(|info| info.dtypes.iter().copied()).collect(),
            tables,
            licences: licences(&profile),
            error: None,
        },
        Err(error) => Listed {
            name: name.to_string(),
            device: None,
            origin: String::new(),
            dtypes: BTreeSet::new(),
            tables: Vec::new(),
            licences: BTreeSet::new(),
            error: Some(error.to_string()),
        },
    }
}

fn licences(profile: &HardwareProfile) -> BTreeSet<String> {
    let ruled = |info: &&TableInfo| info.provenance != Source::Estimated;
    profile.tables.values().filter(ruled).map(|info| info.licence.clone()).collect()
}

fn tables(profile: &HardwareProfile) -> Result<Vec<Table>, ProfileError> {
    let table = |family: &KernelFamily| {
        let Some(info) = profile.tables.get(family) else { return Ok(None) };
        let measured = info.provenance == Source::Measured;
        let rows = if measured { Some(profile.rows(*family)?.len()) } else { None };
        Ok(Some(Table { family: *family, provenance: info.provenance.name(), rows }))
    };
    profile.tables.keys().filter_map(|family| table(family).transpose()).collect()
}

/// `built-in`, or the profile's folder.
pub fn origin(profile: &HardwareProfile) -> String {
    match profile.origin() {
        Origin::BuiltIn => "built-in".to_string(),
        Origin::Folder(path) => path.display().to_string(),
    }
}

fn print_table(listed: &[Listed]) {
    let families = KernelFamily::TABLES;
    let mut titles = vec!["name", "device", "dtypes"];
    titles.extend(families.iter().map(|family| family.name()));
    titles.extend(["licence", "from"]);
    let mut table = output::table(&titles);
    for profile in listed {
        let dtypes: Vec<_> = profile.dtypes.iter().map(|dtype| dtype.name()).collect();
        let mut row = vec![profile.name.clone()];
        row.push(profile.device.clone().unwrap_or_else(|| "cannot be loaded".to_string()));
        row.push(dtypes.join(" "));
        row.extend(families.iter().map(|family| cell(profile, *family)));
        row.push(profile.licences.iter().map(String::as_str).collect::<Vec<_>>().join("; "));
        row.push(profile.origin.clone());
        table.add_row(row);
    }
    println!("{table}");
    println!("\nNumbers are measured rows. Sources, coverage, rules: archplan profiles show NAME");
}

fn cell(profile: &Listed, family: KernelFamily) -> String {
    match profile.tables.iter().find(|table| table.family == family) {
        Some(Table { rows: Some(rows), .. }) => rows.to_string(),
        Some(table) => table.provenance.to_string(),
        None => "-".to_string(),
    }
}
