//! The Hugging Face configuration of a pruned child.

use serde_json::{Map, Value};

use crate::model::architecture::{Architecture, ArchitectureError, LayerShape};
use crate::model::config_error::ConfigError;
use crate::model::loading::{self, LoadWarning};
use crate::model::spec::ModelSpec;

/// A child's `config.json`, and the engines that will not load it.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildConfig {
    /// The configuration: the parent's, with the shape changed.
    pub config: Value,
    /// Engines known to stumble over the shape.
    pub warnings: Vec<LoadWarning>,
}

/// A shape that has no configuration in the parent's class.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExportError {
    /// Not a shape the parent can be pruned to.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// Layers differ, which stock classes cannot say.
    #[error(
        "layer {layer} differs from layer 0: {class} gives every layer one shape; choose a uniform shape"
    )]
    Ragged {
        /// First layer that differs, from 0.
        layer: u64,
        /// The parent's class.
        class: &'static str,
    },
    /// Layers lack attention or FFN, which stock classes cannot say.
    #[error("{class} has attention and an FFN in every layer: give the layers {missing}")]
    Incomplete {
        /// What the layers lack.
        missing: &'static str,
        /// The parent's class.
        class: &'static str,
    },
    /// The head size differs from the parent's, which the format cannot say.
    #[error("export_config cannot say head_dim: expected the parent's {parent}, found {found}")]
    HeadDim {
        /// The parent's.
        parent: u64,
        /// The child's.
        found: u64,
    },
    /// The configuration would be refused by the reader of this crate.
    #[error("the child's configuration would not be readable: {0}")]
    Unreadable(Box<ConfigError>),
}

/// The parent's configuration with the shape of the child: keys keep their order, `head_dim` is always written,
/// `layer_types` is cut to the depth (the first layers are kept) and `max_window_layers` clamped to it.
///
/// # Errors
/// The shape is not one the parent can be pruned to, or its class cannot say it.
pub fn child_config(parent: &ModelSpec, child: &Architecture) -> Result<ChildConfig, ExportError> {
    let shape = uniform(parent, child)?;
    let mut config = parent.config.clone();
    for (key, value) in [
        ("hidden_size", child.hidden),
        ("intermediate_size", shape.ffn),
        ("num_hidden_layers", child.depth()),
        ("num_attention_heads", shape.q_heads),
        ("num_key_value_heads", shape.kv_heads),
        ("head_dim", child.head_dim),
    ] {
        config.insert(key.into(), value.into());
    }
    cut_to_depth(&mut config, child.depth());
    ModelSpec::from_config(config.clone(), "child", &parent.name)
        .map_err(|error| ExportError::Unreadable(Box::new(error)))?;
    Ok(ChildConfig { config: Value::Object(config), warnings: loading::warnings(parent, child) })
}

/// The one shape of the child's layers, if the parent can be pruned to it and stock classes can say it.
pub(crate) fn uniform(parent: &ModelSpec, child: &Architecture) -> Result<LayerShape, ExportError> {
    child.check(parent)?;
    let class = parent.family.class_name();
    let Some(shape) = child.uniform_shape() else {
        let layer = child.runs().first().map_or(0, |&(count, _)| count);
        return Err(ExportError::Ragged { layer, class });
    };
    match shape {
        LayerShape { q_heads: 0, .. } => Err(ExportError::Incomplete { missing: "attention", class }),
        LayerShape { ffn: 0, .. } => Err(ExportError::Incomplete { missing: "an FFN", class }),
        _ => Ok(shape),
    }
}

fn cut_to_depth(config: &mut Map<String, Value>, depth: u64) {
    if let Some(Value::Array(types)) = config.get_mut("layer_types") {
        types.truncate(depth as usize);
    }
    if let Some(last) = config.get_mut("max_window_layers")
        && last.as_u64().is_some_and(|last| last > depth)
    {
        *last = depth.into();
    }
}
