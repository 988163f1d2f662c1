//! Every way a Hugging Face `config.json` can be wrong, or describe a model this crate does not plan.

use serde_json::Value;

use crate::model::architecture::ArchitectureError;

/// A `config.json` that cannot become a [`crate::model::spec::ModelSpec`].
/// `origin` is the file (or card) the text came from.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON.
    #[error("{origin}:{line}:{column}: not valid JSON: {message}")]
    Syntax {
        /// Where the text came from.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the JSON reader found.
        message: String,
    },
    /// JSON, but not an object.
    #[error("{origin}: expected a JSON object (a Hugging Face config.json), found {found}")]
    NotAnObject {
        /// Where the text came from.
        origin: String,
        /// What was found instead.
        found: String,
    },
    /// A required key is absent.
    #[error("{origin}: key `{key}` is missing: expected {expected}; {advice}")]
    Missing {
        /// Where the text came from.
        origin: String,
        /// The key.
        key: String,
        /// What should stand there.
        expected: String,
        /// What to do.
        advice: String,
    },
    /// A value of the wrong kind (a string for a number, a fraction, null, …).
    #[error("{origin}: key `{key}`: expected {expected}, found {found}; correct the value")]
    WrongKind {
        /// Where the text came from.
        origin: String,
        /// The key.
        key: String,
        /// What should stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A number of the right kind that no model has.
    #[error("{origin}: key `{key}`: expected a number from 1 to {limit}, found {found}; correct the value")]
    OutOfRange {
        /// Where the text came from.
        origin: String,
        /// The key.
        key: String,
        /// Largest value accepted.
        limit: u64,
        /// What stands there.
        found: String,
    },
    /// An architecture or model type that is not known.
    #[error(
        "{origin}: key `{key}`: `{found}` is not a model this tool plans{suggestion}; expected one of {known}"
    )]
    UnknownType {
        /// Where the text came from.
        origin: String,
        /// `architectures` or `model_type`.
        key: &'static str,
        /// What stands there.
        found: String,
        /// Did-you-mean, or empty.
        suggestion: String,
        /// What is known.
        known: String,
    },
    /// `architectures` and `model_type` name different models.
    #[error(
        "{origin}: `architectures` says {architecture} but `model_type` says {model_type}; expected `model_type` {expected}: correct one of them"
    )]
    Conflict {
        /// Where the text came from.
        origin: String,
        /// Class named by `architectures`.
        architecture: String,
        /// What `model_type` says.
        model_type: String,
        /// What it should say.
        expected: String,
    },
    /// The model has a part that is not planned (experts, latent attention, quantised weights, …).
    #[error("{origin}: key `{key}` = {found}: {feature} is not supported; {advice}")]
    Unsupported {
        /// Where the text came from.
        origin: String,
        /// The key that gives it away.
        key: String,
        /// What stands there.
        found: String,
        /// The part.
        feature: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// Every layer looks through a window only.
    #[error(
        "{origin}: key `{key}` = {found}: sliding-window-only attention is not supported; expected full attention in some layers at least; {advice}"
    )]
    WindowOnly {
        /// Where the text came from.
        origin: String,
        /// The key that says so.
        key: String,
        /// What stands there.
        found: String,
        /// What to do.
        advice: String,
    },
    /// A list with one entry per layer has another length.
    #[error(
        "{origin}: key `{key}`: expected {expected} entries, one for each layer, found {found}; correct the list"
    )]
    ListLength {
        /// Where the text came from.
        origin: String,
        /// The list.
        key: String,
        /// Number of layers.
        expected: u64,
        /// Number of entries.
        found: usize,
    },
    /// A key that a target does not have.
    #[error("{origin}: unknown key `{key}`{suggestion}; expected one of {known}")]
    UnknownKey {
        /// Where the text came from.
        origin: String,
        /// The key.
        key: String,
        /// Did-you-mean, or empty.
        suggestion: String,
        /// What is known.
        known: String,
    },
    /// What a list says of one layer is wrong.
    #[error("{origin}: key `{key}`, layer {layer}: expected {expected}, found {found}; correct the value")]
    Layer {
        /// Where the text came from.
        origin: String,
        /// The key, with those around it.
        key: String,
        /// Layer, from 0.
        layer: u64,
        /// What should stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The numbers do not fit each other.
    #[error("{origin}: {error}")]
    Shape {
        /// Where the text came from.
        origin: String,
        /// What does not fit.
        error: ArchitectureError,
    },
}

impl ConfigError {
    /// What the JSON reader said, with its place.
    pub(crate) fn syntax(origin: &str, error: &serde_json::Error) -> Self {
        ConfigError::Syntax {
            origin: origin.into(),
            line: error.line(),
            column: error.column(),
            message: error.to_string(),
        }
    }
}

/// `value` as JSON, cut to a length fit for a message.
pub(crate) fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
