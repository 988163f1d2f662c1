//! The Hugging Face configuration of a pruned child.

use serde_json::{Map, Value};

use crate::model::architecture::{Architecture, ArchitectureError, LayerShape};
use crate::model::blocks::{self, BlockError};
use crate::model::config_error::ConfigError;
use crate::model::loading::{self, LoadWarning};
use crate::model::per_layer;
use crate::model::spec::{Family, ModelSpec};

/// A child's `config.json`, and the engines that will not load it.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildConfig {
    /// The configuration: the parent's, with the shape changed.
    pub config: Value,
    /// How it says the shape.
    pub form: Form,
    /// Engines known to stumble over the shape.
    pub warnings: Vec<LoadWarning>,
}

/// How a configuration says a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// The parent's class, one shape for all layers.
    Uniform,
    /// `DeciLMForCausalLM` with one block per layer.
    Blocks,
    /// `archplan_layers`, which no engine reads.
    PerLayer {
        /// Why there are no blocks.
        reason: FormReason,
    },
}

/// Why a shape cannot be said with blocks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormReason {
    /// The parent's layers are not those of a Llama.
    #[error("only layers of Llama and Mistral can be written as DeciLMForCausalLM, not those of {class}")]
    Class {
        /// The parent's class.
        class: &'static str,
    },
    /// The shape, or a part of the layers.
    #[error(transparent)]
    Blocks(#[from] BlockError),
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
/// Where layers differ, or lack attention or FFN, a child of a Llama becomes a `DeciLMForCausalLM` with
/// `block_configs`; what those cannot say stays in the parent's class with `archplan_layers`, which no engine reads.
///
/// # Errors
/// The shape is not one the parent can be pruned to.
pub fn child_config(parent: &ModelSpec, child: &Architecture) -> Result<ChildConfig, ExportError> {
    child.check(parent)?;
    let mut config = parent.config.clone();
    for (key, value) in
        [("hidden_size", child.hidden), ("num_hidden_layers", child.depth()), ("head_dim", child.head_dim)]
    {
        config.insert(key.into(), value.into());
    }
    cut_to_depth(&mut config, child.depth());
    let form = match (uniform(parent, child), parent.family) {
        (Ok(shape), family) if family != Family::NemotronNas => {
            config.shift_remove(per_layer::KEY);
            for (key, value) in [
                ("intermediate_size", shape.ffn),
                ("num_attention_heads", shape.q_heads),
                ("num_key_value_heads", shape.kv_heads),
            ] {
                config.insert(key.into(), value.into());
            }
            Form::Uniform
        }
        _ => match block_list(parent, child) {
            Ok(list) => {
                write_blocks(&mut config, child, list);
                Form::Blocks
            }
            Err(reason) => {
                config.shift_remove(blocks::KEY);
                per_layer::write(&mut config, child);
                Form::PerLayer { reason }
            }
        },
    };
    let spec = ModelSpec::from_config(config.clone(), "child", &parent.name)
        .map_err(|error| ExportError::Unreadable(Box::new(error)))?;
    let warnings = loading::warnings(&spec, &spec.architecture);
    Ok(ChildConfig { config: Value::Object(config), form, warnings })
}

fn block_list(parent: &ModelSpec, child: &Architecture) -> Result<Vec<Value>, FormReason> {
    match parent.family {
        Family::Llama | Family::Mistral | Family::NemotronNas => Ok(blocks::write(parent, child)?),
        family => Err(FormReason::Class { class: family.class_name() }),
    }
}

/// Turns a Llama's configuration into that of a DeciLM. Remote code of the same class stays where it is.
fn write_blocks(config: &mut Map<String, Value>, child: &Architecture, list: Vec<Value>) {
    let family = Family::NemotronNas;
    if config.get("model_type").and_then(Value::as_str) != Some(family.model_type()) {
        config.insert("auto_map".into(), serde_json::json!({"AutoConfig": blocks::CONFIG_CLASS}));
    }
    config.insert("architectures".into(), vec![Value::from(family.class_name())].into());
    config.insert("model_type".into(), family.model_type().into());
    config.insert("num_attention_heads".into(), child.largest_layer().q_heads.into());
    for key in ["intermediate_size", "num_key_value_heads", "sliding_window", per_layer::KEY] {
        config.shift_remove(key);
    }
    config.insert(blocks::KEY.into(), list.into());
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
