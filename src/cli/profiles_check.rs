//! `archplan profiles check PATH`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::profile::check::{self, Report};
use archplan::hardware::profile::error::Place;
use archplan::hardware::profile::registry;
use serde::Serialize;

use crate::cli::{Failure, Global, output};

/// Findings of one kind and profile that are printed for people; JSON holds all.
const PRINTED: usize = 50;

/// Arguments of `archplan profiles check`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan profiles check hardware_profiles            every profile in a folder
  archplan profiles check my_profiles/l40s --json      findings with file, line and column")]
pub struct Args {
    /// A profile's folder, its profile.toml, or a folder of profiles
    path: PathBuf,
}

#[derive(Serialize)]
struct Checked {
    path: String,
    name: Option<String>,
    rows: BTreeMap<KernelFamily, usize>,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    file: Option<String>,
    line: Option<u32>,
    column: Option<u32>,
    message: String,
}

impl Finding {
    fn at(place: Option<&Place>, message: String) -> Self {
        let position = place.and_then(|p| p.position);
        Self {
            file: place.map(|p| p.file.clone()),
            line: position.map(|p| p.line),
            column: position.map(|p| p.column),
            message,
        }
    }
}

/// Runs `archplan profiles check`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let named = args.path.file_name().is_some_and(|name| name == "profile.toml");
    let parent = args.path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    let path = parent.filter(|_| named).unwrap_or(&args.path);
    let folders = registry::folders_of(path).map_err(Failure::bad_input)?;
    let checked: Vec<_> = folders.iter().map(|folder| (folder, check::check(folder))).collect();
    if global.json {
        output::json(&checked.iter().map(|(folder, report)| as_json(folder, report)).collect::<Vec<_>>())?;
    } else {
        checked.iter().for_each(|(folder, report)| print(folder, report));
    }
    match checked.iter().map(|(_, report)| report.errors.len()).sum() {
        0 => Ok(()),
        1 => Err(Failure::bad_input(format!("1 defect in {}", path.display()))),
        n => Err(Failure::bad_input(format!("{n} defects in {}", path.display()))),
    }
}

fn as_json(folder: &Path, report: &Report) -> Checked {
    let error = report.errors.iter().map(|e| Finding::at(e.place.as_ref(), e.defect.to_string()));
    let warning = report.warnings.iter().map(|w| Finding::at(Some(&w.place), w.message()));
    Checked {
        path: folder.display().to_string(),
        name: report.name.clone(),
        rows: report.rows.clone(),
        errors: error.collect(),
        warnings: warning.collect(),
    }
}

fn print(folder: &Path, report: &Report) {
    for (kind, findings) in [
        ("error", report.errors.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ("warning", report.warnings.iter().map(ToString::to_string).collect()),
    ] {
        for finding in findings.iter().take(PRINTED) {
            println!("{kind}: {finding}");
        }
        if findings.len() > PRINTED {
            println!("{kind}: and {} more (see --json)", findings.len() - PRINTED);
        }
    }
    if report.errors.is_empty() {
        let rows: Vec<_> = report.rows.iter().map(|(family, n)| format!("{family} {n} rows")).collect();
        println!(
            "{}: sound; {}",
            folder.display(),
            if rows.is_empty() { "no tables".to_string() } else { rows.join(", ") }
        );
    }
}
