//! The shape to prune to, as typed after `--target`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use archplan::model::export_config;
use archplan::model::per_layer::{self, Target};
use archplan::model::spec::{Family, ModelSpec};

use crate::cli::Failure;

/// Where a folder may hold a target: a checkpoint or `target/`, or the folder of a search. Where a search has left two,
/// the one with `parents` says more.
const PLACES: [&str; 3] = ["config.json", "target/config.json", "target.json"];

/// Reads a target for `parent`: a `config.json`, a `target.json` (Model-Optimizer's keys, or a list of layers), or a
/// folder with either.
pub fn read(typed: &Path, parent: &ModelSpec) -> Result<Target, Failure> {
    let file = find(typed)?;
    let (origin, text) = (file.display().to_string(), text(&file)?);
    let object = object(&text);
    let has = |key: &str| object.as_ref().is_some_and(|object| object.contains_key(key));
    if !has("architectures") && !has("model_type") {
        return match object.filter(|object| object.contains_key(per_layer::TARGET_KEY)) {
            Some(object) => Target::read(&object, &origin, parent).map_err(Failure::bad_input),
            None => export_config::read(&text, &origin, parent).map(Target::from).map_err(Failure::bad_input),
        };
    }
    let target = ModelSpec::from_config_json(&text, &origin, "target").map_err(Failure::bad_input)?;
    let blocks = target.family == Family::NemotronNas
        && matches!(parent.family, Family::Llama | Family::Mistral | Family::PanguEmbedded);
    let class = if blocks { parent.family } else { target.family };
    for (what, found, expected) in [
        ("class", class.class_name().to_string(), parent.family.class_name().to_string()),
        ("vocab_size", target.vocab_size.to_string(), parent.vocab_size.to_string()),
    ] {
        if found != expected {
            return Err(Failure::bad_input(format!(
                "{origin}: {what} is {found}, the parent's {expected}: a target changes the shape only"
            )));
        }
    }
    Ok(target.architecture.into())
}

fn text(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file)
        .map_err(|error| Failure::bad_input(format!("--target: cannot read {}: {error}", file.display())))
}

fn object(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).ok()
}

fn find(typed: &Path) -> Result<PathBuf, Failure> {
    if !typed.is_dir() {
        return Ok(typed.to_path_buf());
    }
    let places = || PLACES.iter().map(|place| typed.join(place)).filter(|path| path.is_file());
    let layers = |path: &PathBuf| {
        let object = fs::read_to_string(path).ok().and_then(|text| object(&text));
        object.is_some_and(|object| object.contains_key("parents"))
    };
    places().find(layers).or_else(|| places().next()).ok_or_else(|| {
        let expected = PLACES.join(", ");
        Failure::bad_input(format!("--target {}: expected one of {expected} in that folder", typed.display()))
    })
}
