//! The folder a search leaves: every file or none.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::export;
use crate::model::export_config::ExportConfig;
use crate::model::per_layer::Target;
use crate::model::spec::ModelSpec;
use crate::plan::record::Plan;
use crate::report::chart::picture::{Picture, XAxis};
use crate::report::chart::render;
use crate::report::consistency;
use crate::report::error::ReportError;
use crate::report::folder::{self, PLAN};
use crate::report::html;
use crate::report::tables;

/// Whether a result may be written to `dir`: it is absent, empty, an earlier result, or `force` is set.
///
/// # Errors
/// [`ReportError::Occupied`], [`ReportError::NotAFolder`], [`ReportError::Blocked`], or a folder that cannot be
/// read or made.
pub fn check_target(dir: &Path, force: bool) -> Result<(), ReportError> {
    folder::check_target(&folder::SEARCH, dir, force)
}

/// Writes `plan.json`, `candidates.csv`, `front.csv`, `front.svg`, `front.png`, `report.html` and, for a chosen
/// shape, `target/config.json` and `target.json` to `dir`, and returns their paths. Everything is made in a
/// folder of its own first and moved in place at the end. The files of an earlier result are replaced; other
/// files of `dir` are left alone.
///
/// # Errors
/// See [`ReportError`]; `dir` is then as it was.
pub fn write(plan: &Plan, parent: &ModelSpec, dir: &Path, force: bool) -> Result<Vec<PathBuf>, ReportError> {
    folder::put(&folder::SEARCH, dir, force, |staging| stage(plan, parent, staging))
}

fn stage(plan: &Plan, parent: &ModelSpec, staging: &Path) -> Result<Vec<String>, ReportError> {
    let picture = Picture::new(plan, XAxis::default_for(plan), 0);
    let mut texts = vec![
        (PLAN, compact(plan)?),
        ("candidates.csv", tables::candidates(plan)?),
        ("front.csv", tables::front(plan)?),
        ("front.svg", render::svg(&picture)?),
        ("report.html", html::page(plan)?),
    ];
    if let Some(target) = target(plan) {
        let child = target.architecture.clone();
        let config = export::child_config(parent, &child)?;
        for warning in &config.warnings {
            log::warn!("target/config.json: {warning}");
        }
        texts.push(("target/config.json", json("target/config.json", &config.config)?));
        let text = match &target.parents {
            Some(_) => json("target.json", &target.to_json())?,
            None => {
                let exported = ExportConfig::new(parent, &child)
                    .map_err(|e| ReportError::Format { name: "target.json", reason: e.to_string() })?;
                json("target.json", &exported)?
            }
        };
        texts.push(("target.json", text));
    }
    folder::write_texts(staging, &texts)?;
    render::png(&picture, &staging.join("front.png"))?;
    let mut names: Vec<String> = texts.iter().map(|(name, _)| name.to_string()).collect();
    names.push("front.png".to_string());
    names.sort_unstable();
    Ok(names)
}

/// The shape to prune to; with the layers behind it where the plan says which.
fn target(plan: &Plan) -> Option<Target> {
    if let Some(per_layer) = plan.per_layer.as_ref().filter(|per_layer| per_layer.preferred) {
        let found = &per_layer.found;
        return Some(Target {
            architecture: found.architecture.clone(),
            parents: Some(found.parents.clone()),
        });
    }
    let chosen = plan.chosen.as_ref()?;
    let depth = plan.parent.shape.layers;
    let dropped = &chosen.dropped_layers;
    let kept = || (0..depth).filter(|layer| !dropped.contains(layer)).collect();
    Some(Target { architecture: chosen.shape.architecture(), parents: (!dropped.is_empty()).then(kept) })
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

/// Reads a plan from `plan.json` or the folder that holds it.
///
/// # Errors
/// A file that cannot be read, is no plan, or contradicts itself.
pub fn read(path: &Path) -> Result<Plan, ReportError> {
    let file = if path.is_dir() { path.join(PLAN) } else { path.to_path_buf() };
    let shown = file.display().to_string();
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(reason) => return Err(ReportError::Unreadable { path: shown, reason }),
    };
    let plan: Plan = match serde_json::from_str(&text) {
        Ok(plan) => plan,
        Err(reason) => return Err(ReportError::NotAPlan { path: shown, reason }),
    };
    match consistency::fault(&plan) {
        None => Ok(plan),
        Some(fault) => Err(ReportError::Inconsistent { path: shown, fault }),
    }
}
