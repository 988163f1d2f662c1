//! Reading a model from disk, or finding it among the built-in cards: the one place of `model` that opens files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::cards::{self, UnknownCard};
use crate::model::config_error::ConfigError;
use crate::model::spec::ModelSpec;

/// A model that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be opened or is not UTF-8.
    #[error("cannot read {path}: {error}; give a config.json, a checkpoint directory or a built-in model")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The directory holds no `config.json`.
    #[error("{path} holds no config.json: give a Hugging Face checkpoint directory")]
    NoConfig {
        /// The directory.
        path: PathBuf,
    },
    /// The configuration is not one that can be planned.
    #[error(transparent)]
    Config(Box<ConfigError>),
    /// Nothing was typed.
    #[error("the model's name is empty: give a config.json, a checkpoint directory or a built-in model")]
    Empty,
    /// Neither a path nor a built-in model.
    #[error("there is no file {name}, and {unknown}")]
    Unknown {
        /// What was typed.
        name: String,
        /// What the cards said.
        unknown: UnknownCard,
    },
}

impl From<ConfigError> for ReadError {
    fn from(error: ConfigError) -> Self {
        ReadError::Config(Box::new(error))
    }
}

/// Reads a `config.json`, or that of a checkpoint directory. The model is named after the directory.
pub fn read(path: &Path) -> Result<ModelSpec, ReadError> {
    let file = if path.is_dir() { path.join("config.json") } else { path.to_path_buf() };
    if path.is_dir() && !file.exists() {
        return Err(ReadError::NoConfig { path: path.into() });
    }
    let text = fs::read_to_string(&file).map_err(|error| ReadError::Io { path: file.clone(), error })?;
    Ok(ModelSpec::from_config_json(&text, &file.display().to_string(), &name(&file))?)
}

/// What a person typed after `--model`: a file or a checkpoint directory is read, anything else is the name of a
/// card (even where a directory without a `config.json` has the same name).
pub fn resolve(model: &str) -> Result<ModelSpec, ReadError> {
    if model.trim().is_empty() {
        return Err(ReadError::Empty);
    }
    let path = Path::new(model);
    // A pipe, such as a shell's `<(command)`, is no regular file but can be read.
    let is_file = path.exists() && !path.is_dir();
    if is_file || path.join("config.json").exists() || model.ends_with(".json") {
        return read(path);
    }
    match cards::find(model) {
        Ok(card) => Ok(card.spec()?),
        Err(_) if path.is_dir() => read(path),
        Err(unknown) => Err(ReadError::Unknown { name: model.into(), unknown }),
    }
}

/// The name of the directory a configuration lies in, or of the file if it has another name than `config.json`.
fn name(file: &Path) -> String {
    let stem = file.file_stem().filter(|stem| *stem != "config");
    let directory = || fs::canonicalize(file).ok()?.parent()?.file_name().map(ToOwned::to_owned);
    let name = stem.map(ToOwned::to_owned).or_else(directory);
    name.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_files_and_directories_and_names_them() {
        let card = cards::find("qwen3-8b").unwrap();
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("Qwen3-8B-mine");
        fs::create_dir(&directory).unwrap();
        let text = serde_json::to_string(&card.config).unwrap();
        fs::write(directory.join("config.json"), &text).unwrap();
        fs::write(root.path().join("other.json"), &text).unwrap();
        let from_directory = read(&directory).unwrap();
        assert_eq!(from_directory.name, "Qwen3-8B-mine");
        assert_eq!(from_directory.architecture, card.spec().unwrap().architecture);
        assert!(from_directory.source.ends_with("config.json"));
        assert_eq!(read(&directory.join("config.json")).unwrap(), from_directory);
        assert_eq!(read(&root.path().join("other.json")).unwrap().name, "other");
        assert_eq!(resolve(&directory.display().to_string()).unwrap(), from_directory);
    }

    #[test]
    fn says_what_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(read(root.path()), Err(ReadError::NoConfig { .. })));
        assert!(matches!(read(&root.path().join("config.json")), Err(ReadError::Io { .. })));
        assert!(matches!(resolve("nowhere/config.json"), Err(ReadError::Io { .. })));
        assert!(matches!(resolve(&root.path().display().to_string()), Err(ReadError::NoConfig { .. })));
        assert!(matches!(resolve(""), Err(ReadError::Empty)));
        let message = resolve("qwen3-8bb").unwrap_err().to_string();
        assert!(message.contains("no file qwen3-8bb") && message.contains("`qwen3-8b`"), "{message}");
        fs::write(root.path().join("config.json"), "{").unwrap();
        let Err(ReadError::Config(error)) = read(root.path()) else { panic!("broken JSON was read") };
        assert!(matches!(*error, ConfigError::Syntax { .. }));
    }
}
