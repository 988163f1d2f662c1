//! A shape in the words of NVIDIA Model-Optimizer: the `export_config` of its `mcore_minitron` pruning
//! (`modelopt/torch/prune/plugins/mcore_minitron.py`, `SUPPORTED_HPARAMS`; `--prune_export_config` of
//! `examples/megatron_bridge/prune_minitron.py`, commit a2fbac7).

use serde::Serialize;
use serde_json::{Map, Value};

use crate::model::architecture::{Architecture, ArchitectureError};
use crate::model::config_error::{ConfigError, shown};
use crate::model::export::{self, ExportError};
use crate::model::fields::Fields;
use crate::model::limits;
use crate::model::spec::ModelSpec;
use crate::names::{closest, did_you_mean};

const KEYS: [&str; 5] =
    ["num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "num_query_groups"];

/// A uniform shape as Model-Optimizer takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ExportConfig {
    /// Number of layers.
    pub num_layers: u64,
    /// Hidden size.
    pub hidden_size: u64,
    /// FFN width.
    pub ffn_hidden_size: u64,
    /// Query heads.
    pub num_attention_heads: u64,
    /// KV heads; written only when they differ from the parent's, which Model-Optimizer refuses since 0.41.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_query_groups: Option<u64>,
}

/// An `export_config` that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExportConfigError {
    /// A key of the wrong kind or out of range, or text that is no JSON object.
    #[error(transparent)]
    Value(Box<ConfigError>),
    /// A key that is not known, or that belongs to models this crate does not plan.
    #[error("{origin}: unknown key `{key}`{suggestion}; expected one of {}", KEYS.join(", "))]
    UnknownKey {
        /// Where the text came from.
        origin: String,
        /// The key.
        key: String,
        /// Did-you-mean, or empty.
        suggestion: String,
    },
    /// Not a shape the parent can be pruned to.
    #[error("{origin}: {error}")]
    Architecture {
        /// Where the text came from.
        origin: String,
        /// What is wrong with it.
        error: ArchitectureError,
    },
}

impl From<ConfigError> for ExportConfigError {
    fn from(error: ConfigError) -> Self {
        ExportConfigError::Value(Box::new(error))
    }
}

impl ExportConfig {
    /// The child's shape. Model-Optimizer keeps the parent's head size.
    pub fn new(parent: &ModelSpec, child: &Architecture) -> Result<Self, ExportError> {
        let shape = export::uniform(parent, child)?;
        if child.head_dim != parent.architecture.head_dim {
            return Err(ExportError::HeadDim { parent: parent.architecture.head_dim, found: child.head_dim });
        }
        let parent_groups = parent.architecture.uniform_shape().map(|shape| shape.kv_heads);
        Ok(Self {
            num_layers: child.depth(),
            hidden_size: child.hidden,
            ffn_hidden_size: shape.ffn,
            num_attention_heads: shape.q_heads,
            num_query_groups: Some(shape.kv_heads).filter(|_| parent_groups != Some(shape.kv_heads)),
        })
    }
}

/// Reads an `export_config`, bare or under that key, as a shape of `parent`: what it leaves out stays the parent's.
///
/// # Errors
/// No JSON object, an unknown key, a value that is no positive integer, or a shape that does not fit the parent.
pub fn read(text: &str, origin: &str, parent: &ModelSpec) -> Result<Architecture, ExportConfigError> {
    let object = object(text, origin)?;
    let fields = Fields { map: &object, origin };
    if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let suggestion = did_you_mean(closest(key, KEYS));
        return Err(ExportConfigError::UnknownKey { origin: origin.into(), key: key.clone(), suggestion });
    }
    let own = &parent.architecture;
    let shape = own.runs().first().map(|&(_, shape)| shape).unwrap_or_default();
    let child = Architecture::uniform(
        fields.optional_count("num_layers", limits::MOST_LAYERS)?.unwrap_or(own.depth()),
        fields.optional_count("hidden_size", limits::LARGEST_HIDDEN)?.unwrap_or(own.hidden),
        fields.optional_count("ffn_hidden_size", limits::LARGEST_FFN)?.unwrap_or(shape.ffn),
        fields.optional_count("num_attention_heads", limits::MOST_HEADS)?.unwrap_or(shape.q_heads),
        fields.optional_count("num_query_groups", limits::MOST_HEADS)?.unwrap_or(shape.kv_heads),
        own.head_dim,
    );
    let refused = |error| ExportConfigError::Architecture { origin: origin.into(), error };
    child.check(parent).map_err(refused)?;
    Ok(child)
}

fn object(text: &str, origin: &str) -> Result<Map<String, Value>, ConfigError> {
    let value: Value = serde_json::from_str(text).map_err(|error| ConfigError::syntax(origin, &error))?;
    match value {
        Value::Object(object) => match object.get("export_config") {
            Some(Value::Object(inner)) if object.len() == 1 => Ok(inner.clone()),
            Some(_) if object.len() == 1 => {
                Err(Fields { map: &object, origin }.wrong_kind("export_config", "an object"))
            }
            _ => Ok(object),
        },
        other => Err(ConfigError::NotAnObject { origin: origin.into(), found: shown(&other) }),
    }
}
