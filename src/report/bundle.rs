//! The folder a search leaves: every file or none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;
use crate::model::export;
use crate::model::export_config::ExportConfig;
use crate::model::spec::ModelSpec;
use crate::plan::record::Plan;
use crate::report::chart::picture::{Picture, XAxis};
use crate::report::chart::render;
use crate::report::error::ReportError;
use crate::report::html;
use crate::report::tables;

/// The file that marks a folder as a result of ours.
const PLAN: &str = "plan.json";

/// Whether a result may be written to `dir`: it is absent, empty, an earlier result, or `force` is set.
///
/// # Errors
/// [`ReportError::Occupied`], [`ReportError::NotAFolder`], or a folder that cannot be read.
pub fn check_target(dir: &Path, force: bool) -> Result<(), ReportError> {
    let shown = || dir.display().to_string();
    match fs::metadata(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(reason) => Err(ReportError::Io { path: shown(), reason }),
        Ok(found) if !found.is_dir() => Err(ReportError::NotAFolder { dir: shown() }),
        Ok(_) if force || dir.join(PLAN).is_file() => Ok(()),
        Ok(_) => {
            let mut entries =
                fs::read_dir(dir).map_err(|reason| ReportError::Io { path: shown(), reason })?;
            if entries.next().is_some() { Err(ReportError::Occupied { dir: shown() }) } else { Ok(()) }
        }
    }
}

/// Writes `plan.json`, `candidates.csv`, `front.csv`, `front.svg`, `front.png`, `report.html` and, for a chosen
/// shape, `target/config.json` and `target.json` to `dir`, and returns their paths. Everything is made in a
/// folder beside it first and moved in place at the end; what an earlier result left there is replaced.
///
/// # Errors
/// See [`ReportError`]; `dir` is then as it was.
pub fn write(plan: &Plan, parent: &ModelSpec, dir: &Path, force: bool) -> Result<Vec<PathBuf>, ReportError> {
    check_target(dir, force)?;
    let name = dir.file_name().map_or("result".into(), |n| n.to_string_lossy().into_owned());
    let staging = dir.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = stage(plan, parent, &staging).and_then(|names| {
        replace(&staging, dir)
            .map_err(|reason| ReportError::Io { path: dir.display().to_string(), reason })?;
        Ok(names)
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&staging);
    }
    Ok(written?.into_iter().map(|name| dir.join(name)).collect())
}

fn stage(plan: &Plan, parent: &ModelSpec, staging: &Path) -> Result<Vec<&'static str>, ReportError> {
    let picture = Picture::new(plan, XAxis::default_for(plan), 0);
    let svg = render::svg(&picture)?;
    let mut texts = vec![
        (PLAN, compact(plan)?),
        ("candidates.csv", tables::candidates(plan)?),
        ("front.csv", tables::front(plan)?),
        ("front.svg", svg),
        ("report.html", html::page(plan)?),
    ];
    if let Some(chosen) = &plan.chosen {
        let child = chosen.shape.architecture();
        let config = export::child_config(parent, &child)?;
        for warning in &config.warnings {
            log::warn!("target/config.json: {warning}");
        }
        texts.push(("target/config.json", json("target/config.json", &config.config)?));
        let exported = ExportConfig::new(parent, &child)
            .map_err(|e| ReportError::Format { name: "target.json", reason: e.to_string() })?;
        texts.push(("target.json", json("target.json", &exported)?));
    }
    let failed =
        |name: &str, reason| ReportError::Io { path: staging.join(name).display().to_string(), reason };
    for (name, text) in &texts {
        files::write_atomically(&staging.join(name), text.as_bytes()).map_err(|e| failed(name, e))?;
    }
    render::png(&picture, &staging.join("front.png"))?;
    let mut names: Vec<&'static str> = texts.iter().map(|(name, _)| *name).collect();
    names.push("front.png");
    names.sort_unstable();
    Ok(names)
}

/// The plan on one line: indented it would be twice as large.
fn compact(plan: &Plan) -> Result<String, ReportError> {
    let text = serde_json::to_string(plan);
    text.map(|t| t + "\n").map_err(|e| ReportError::Format { name: PLAN, reason: e.to_string() })
}

fn json(name: &'static str, value: &impl serde::Serialize) -> Result<String, ReportError> {
    let text = serde_json::to_string_pretty(value);
    text.map(|t| t + "\n").map_err(|e| ReportError::Format { name, reason: e.to_string() })
}

/// Puts `staging` in the place of `dir`; the old folder is kept until the new one stands.
fn replace(staging: &Path, dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        return fs::rename(staging, dir);
    }
    let old = staging.with_extension("old");
    fs::rename(dir, &old)?;
    match fs::rename(staging, dir) {
        Ok(()) => fs::remove_dir_all(&old),
        Err(e) => fs::rename(&old, dir).and(Err(e)),
    }
}

/// Reads a plan from `plan.json` or the folder that holds it.
///
/// # Errors
/// A file that cannot be read or is no plan.
pub fn read(path: &Path) -> Result<Plan, ReportError> {
    let file = if path.is_dir() { path.join(PLAN) } else { path.to_path_buf() };
    let shown = file.display().to_string();
    let text = fs::read_to_string(&file).map_err(|reason| ReportError::Io { path: shown.clone(), reason })?;
    serde_json::from_str(&text).map_err(|reason| ReportError::NotAPlan { path: shown, reason })
}
