//! Shapes that differ from layer to layer, in words of our own: `archplan_layers` in a `config.json` whose class has one
//! shape for all layers, and targets of such shapes.
//!
//! No engine reads `archplan_layers`. It holds the place until a class can say the shape, so that a child can be run,
//! measured and pruned further by this tool.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::model::architecture::{Architecture, LayerShape};
use crate::model::config_error::{ConfigError, shown};
use crate::model::fields::Fields;
use crate::model::limits;
use crate::model::spec::ModelSpec;
use crate::names::{closest, did_you_mean};

/// The key of the list in a `config.json`.
pub const KEY: &str = "archplan_layers";

/// The key of the list in a target.
pub const TARGET_KEY: &str = "layers";

const AXES: [&str; 3] = ["ffn", "q_heads", "kv_heads"];
const TARGET_KEYS: [&str; 3] = ["hidden_size", TARGET_KEY, "parents"];

/// The layers of a configuration that lists them; `None` where it does not.
pub(crate) fn read(fields: &Fields, layers: u64) -> Result<Option<Vec<LayerShape>>, ConfigError> {
    if fields.get(KEY).is_none() {
        return Ok(None);
    }
    let shapes = shapes(fields, KEY)?;
    if shapes.len() as u64 != layers {
        let (origin, found) = (fields.origin.into(), shapes.len());
        return Err(ConfigError::ListLength { origin, key: KEY.into(), expected: layers, found });
    }
    Ok(Some(shapes))
}

/// Writes a shape into a configuration: the list, and the sizes of its largest layers under the usual keys.
pub(crate) fn write(config: &mut Map<String, Value>, child: &Architecture) {
    let LayerShape { ffn, q_heads, kv_heads } = child.largest_layer();
    let sizes =
        [("intermediate_size", ffn), ("num_attention_heads", q_heads), ("num_key_value_heads", kv_heads)];
    // A size of none is no size that readers accept; the parent's stays.
    for (key, size) in sizes.into_iter().filter(|(_, size)| *size > 0) {
        config.insert(key.into(), size.into());
    }
    config.insert(KEY.into(), list(child));
}

fn list(child: &Architecture) -> Value {
    child.layer_shapes().map(|shape| json!(shape)).collect()
}

fn shapes(fields: &Fields, key: &str) -> Result<Vec<LayerShape>, ConfigError> {
    let expected = "a list of objects with ffn, q_heads and kv_heads";
    let Some(list) = fields.get(key).and_then(Value::as_array) else {
        return Err(fields.wrong_kind(key, expected));
    };
    (0..).zip(list).map(|(layer, value)| shape(fields, key, layer, value)).collect()
}

fn shape(fields: &Fields, key: &str, layer: u64, value: &Value) -> Result<LayerShape, ConfigError> {
    let error = |place: String, expected: &str, found: String| ConfigError::Layer {
        origin: fields.origin.into(),
        key: place,
        layer,
        expected: expected.into(),
        found,
    };
    let Some(object) = value.as_object() else {
        return Err(error(key.into(), "an object with ffn, q_heads and kv_heads", shown(value)));
    };
    if let Some(unknown) = object.keys().find(|name| !AXES.contains(&name.as_str())) {
        return Err(error(key.into(), "ffn, q_heads and kv_heads only", format!("`{unknown}`")));
    }
    let size = |name: &str, limit: u64| {
        let found = object.get(name);
        found.and_then(Value::as_u64).filter(|size| *size <= limit).ok_or_else(|| {
            let expected = format!("a number from 0 (= the layer has none) to {limit}");
            error(format!("{key}.{name}"), &expected, found.map_or_else(|| "nothing".into(), shown))
        })
    };
    Ok(LayerShape {
        ffn: size("ffn", limits::LARGEST_FFN)?,
        q_heads: size("q_heads", limits::MOST_HEADS)?,
        kv_heads: size("kv_heads", limits::MOST_HEADS)?,
    })
}

/// What to prune to: a shape, and which layer of the parent each layer comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The shape.
    pub architecture: Architecture,
    /// For each layer of the target the layer of the parent, from 0, ascending; none where that is left to the surgery.
    pub parents: Option<Vec<u64>>,
}

impl From<Architecture> for Target {
    fn from(architecture: Architecture) -> Self {
        Self { architecture, parents: None }
    }
}

impl Target {
    /// As `target.json`: `hidden_size`, `layers` (each with `ffn`, `q_heads`, `kv_heads`) and `parents`.
    pub fn to_json(&self) -> Value {
        let mut target =
            json!({"hidden_size": self.architecture.hidden, TARGET_KEY: list(&self.architecture)});
        if let Some(parents) = &self.parents {
            target["parents"] = json!(parents);
        }
        target
    }

    /// Reads what [`Target::to_json`] writes, as a shape of `parent`, whose hidden size is taken where none stands there.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong kind, a shape that does not fit the parent, `parents` that are not ascending
    /// layers of it, one for each layer.
    pub fn read(object: &Map<String, Value>, origin: &str, parent: &ModelSpec) -> Result<Self, ConfigError> {
        let fields = &Fields { map: object, origin };
        if let Some(key) = object.keys().find(|key| !TARGET_KEYS.contains(&key.as_str())) {
            return Err(ConfigError::UnknownKey {
                origin: origin.into(),
                key: key.clone(),
                suggestion: did_you_mean(closest(key, TARGET_KEYS)),
                known: TARGET_KEYS.join(", "),
            });
        }
        let own = &parent.architecture;
        let hidden = fields.optional_count("hidden_size", limits::LARGEST_HIDDEN)?.unwrap_or(own.hidden);
        let architecture = Architecture::of_layers(hidden, own.head_dim, shapes(fields, TARGET_KEY)?);
        let refused = |error| ConfigError::Shape { origin: origin.into(), error };
        architecture.check(parent).map_err(refused)?;
        let parents = match fields.get("parents") {
            None => None,
            Some(_) => Some(parents(fields, architecture.depth(), own.depth())?),
        };
        Ok(Self { architecture, parents })
    }
}

/// Ascending layers of the parent, `layers` of them.
fn parents(fields: &Fields, layers: u64, depth: u64) -> Result<Vec<u64>, ConfigError> {
    const KEY: &str = "parents";
    let Some(list) = fields.get(KEY).and_then(Value::as_array) else {
        return Err(fields.wrong_kind(KEY, "a list of layers of the parent"));
    };
    if list.len() as u64 != layers {
        let (origin, found) = (fields.origin.into(), list.len());
        return Err(ConfigError::ListLength { origin, key: KEY.into(), expected: layers, found });
    }
    let mut next = 0;
    let mut parents = Vec::new();
    for (layer, value) in (0..).zip(list) {
        let Some(parent) = value.as_u64().filter(|parent| (next..depth).contains(parent)) else {
            return Err(ConfigError::Layer {
                origin: fields.origin.into(),
                key: KEY.into(),
                layer,
                expected: format!(
                    "a layer of the parent from {next} to {}, ascending",
                    depth.saturating_sub(1)
                ),
                found: shown(value),
            });
        };
        next = parent + 1;
        parents.push(parent);
    }
    Ok(parents)
}
