//! The shape to prune to, as typed after `--target`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use archplan::model::architecture::Architecture;
use archplan::model::export_config;
use archplan::model::spec::ModelSpec;

use crate::cli::Failure;

/// Where a folder may hold a target: a checkpoint or `target/`, or the folder of a search.
const PLACES: [&str; 3] = ["config.json", "target/config.json", "target.json"];

/// Reads a target for `parent`: a `config.json`, a `target.json` (Model-Optimizer's keys), or a folder with either.
pub fn read(typed: &Path, parent: &ModelSpec) -> Result<Architecture, Failure> {
    let file = find(typed)?;
    let origin = file.display().to_string();
    let text = fs::read_to_string(&file)
        .map_err(|error| Failure::bad_input(format!("--target: cannot read {origin}: {error}")))?;
    let is_config = serde_json::from_str::<Value>(&text)
        .is_ok_and(|value| value.get("architectures").is_some() || value.get("model_type").is_some());
    if !is_config {
        return export_config::read(&text, &origin, parent).map_err(Failure::bad_input);
    }
    let target = ModelSpec::from_config_json(&text, &origin, "target").map_err(Failure::bad_input)?;
    for (what, found, expected) in [
        ("class", target.family.class_name().to_string(), parent.family.class_name().to_string()),
        ("vocab_size", target.vocab_size.to_string(), parent.vocab_size.to_string()),
    ] {
        if found != expected {
            return Err(Failure::bad_input(format!(
                "{origin}: {what} is {found}, the parent's {expected}: a target changes the shape only"
            )));
        }
    }
    Ok(target.architecture)
}

fn find(typed: &Path) -> Result<PathBuf, Failure> {
    if !typed.is_dir() {
        return Ok(typed.to_path_buf());
    }
    let places = PLACES.iter().map(|place| typed.join(place));
    places.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let expected = PLACES.join(", ");
        Failure::bad_input(format!("--target {}: expected one of {expected} in that folder", typed.display()))
    })
}
