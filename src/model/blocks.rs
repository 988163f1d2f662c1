//! `block_configs`, the list by which DeciLM (Nemotron-NAS) models give every layer its own shape.
//!
//! As vLLM reads it (`models/nemotron_nas.py`, 00bd149) and `block_config.py` of Llama-3_3-Nemotron-Super-49B: query heads
//! are the same in every layer that has any, `n_heads_in_group` of them share a KV head; the FFN width comes from
//! `ffn_mult`, or is `intermediate_size` where the block has no `ffn_mult` (that reader takes it, those of mid-2025 do not).

use serde_json::{Map, Value, json};

use crate::model::architecture::{Architecture, LayerShape};
use crate::model::config_error::{ConfigError, shown};
use crate::model::fields::Fields;
use crate::model::limits;
use crate::model::spec::{ModelSpec, NormLayout};

/// The key of the list.
pub const KEY: &str = "block_configs";

/// Where vLLM and transformers find the class of the configuration, beside a `config.json` that this tool has written.
pub const CONFIG_CLASS: &str = "configuration_decilm.DeciLMConfig";

/// Widths that `ffn_mult` can say are multiples of this.
pub const FFN_MULTIPLE: u64 = 256;

/// Parts of a block that are not planned: `(sub-block, key)`, refused unless null or false.
const REFUSED: [(&str, &str); 8] = [
    ("attention", "replace_with_linear"),
    ("attention", "window_length"),
    ("attention", "num_sink_tokens"),
    ("attention", "mamba"),
    ("attention", "llama4"),
    ("ffn", "replace_with_linear"),
    ("ffn", "moe"),
    ("ffn", "parallel_blocks"),
];

/// A shape that `block_configs` cannot say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Query heads differ.
    #[error(
        "layer {layer} has {found} query heads, layers before it {expected}: `{}` has one number of query heads for all layers",
        KEY
    )]
    QueryHeads {
        /// Layer, from 0.
        layer: u64,
        /// Its query heads.
        found: u64,
        /// Those of the layers before it.
        expected: u64,
    },
    /// No layer has attention.
    #[error("none of the {layers} layers has attention: engines ask one of `{}` for its KV heads", KEY)]
    NoAttention {
        /// Number of layers.
        layers: u64,
    },
    /// A part that a Llama's layer does not have.
    #[error("layer {layer} has {part}: `{}` describes layers of a Llama, which have none", KEY)]
    Part {
        /// First layer that has it, from 0.
        layer: u64,
        /// What it is.
        part: &'static str,
    },
}

/// FFN width that `ffn_mult` stands for (`_ffn_mult_to_intermediate_size`): `2 ffn_mult hidden / 3`, cut to an integer
/// and rounded up to a multiple of 256. `None` where that is no width of any model.
pub fn ffn_width(ffn_mult: f64, hidden: u64) -> Option<u64> {
    // `block_config.py` rounds the factor to six digits.
    let rounded = (ffn_mult * 1e6).round() / 1e6;
    let width = 2.0 * rounded * hidden as f64 / 3.0;
    let sensible = width >= 0.0 && width <= limits::LARGEST_FFN as f64;
    sensible.then(|| (width as u64).next_multiple_of(FFN_MULTIPLE)).filter(|width| *width > 0)
}

/// The `ffn_mult` that stands for this width, where there is one.
pub fn ffn_mult(width: u64, hidden: u64) -> Option<f64> {
    let factor = 3.0 * width as f64 / (2.0 * hidden as f64);
    let rounded = (factor * 1e6).round() / 1e6;
    (ffn_width(rounded, hidden) == Some(width)).then_some(rounded)
}

/// Every layer's shape. `layers`, `hidden` and `q_heads` are those of the configuration.
pub(crate) fn read(
    fields: &Fields,
    layers: u64,
    hidden: u64,
    q_heads: u64,
) -> Result<Vec<LayerShape>, ConfigError> {
    let Some(value) = fields.get(KEY) else {
        return Err(fields.missing(KEY, "a list of one block per layer", "add it"));
    };
    let Some(list) = value.as_array() else {
        return Err(fields.wrong_kind(KEY, "a list of one block per layer"));
    };
    if list.len() as u64 != layers {
        let (origin, found) = (fields.origin.into(), list.len());
        return Err(ConfigError::ListLength { origin, key: KEY.into(), expected: layers, found });
    }
    let mut shapes = Vec::new();
    for (layer, block) in (0..).zip(list) {
        let block = Block { fields, block, layer };
        block.refuse()?;
        let kv_heads = block.kv_heads(q_heads)?;
        shapes.push(LayerShape {
            ffn: block.ffn(hidden)?,
            q_heads: if kv_heads == 0 { 0 } else { q_heads },
            kv_heads,
        });
    }
    Ok(shapes)
}

/// One entry of the list.
struct Block<'a> {
    fields: &'a Fields<'a>,
    block: &'a Value,
    layer: u64,
}

impl Block<'_> {
    fn error(&self, part: &str, key: &str, expected: &str, found: Option<&Value>) -> ConfigError {
        let place: Vec<&str> = [KEY, part, key].into_iter().filter(|name| !name.is_empty()).collect();
        ConfigError::Layer {
            origin: self.fields.origin.into(),
            key: place.join("."),
            layer: self.layer,
            expected: expected.into(),
            found: found.map_or_else(|| "nothing".into(), shown),
        }
    }

    fn part(&self, part: &str) -> Result<&Map<String, Value>, ConfigError> {
        let found = self.block.get(part);
        found.and_then(Value::as_object).ok_or_else(|| self.error(part, "", "an object", found))
    }

    fn get(&self, part: &str, key: &str) -> Result<Option<&Value>, ConfigError> {
        Ok(self.part(part)?.get(key).filter(|value| !value.is_null()))
    }

    fn refuse(&self) -> Result<(), ConfigError> {
        for (part, key) in REFUSED {
            match self.get(part, key)? {
                None | Some(Value::Bool(false)) => {}
                found => {
                    let expected = "null or false (nothing else can be planned)";
                    return Err(self.error(part, key, expected, found));
                }
            }
        }
        let usual = self.fields.get("hidden_act").and_then(Value::as_str).unwrap_or("silu");
        match self.get("ffn", "hidden_act")? {
            None => Ok(()),
            Some(Value::String(name)) if name == usual => Ok(()),
            found => {
                Err(self.error("ffn", "hidden_act", &format!("\"{usual}\" as in all other layers"), found))
            }
        }
    }

    fn is_absent(&self, part: &str) -> Result<bool, ConfigError> {
        match self.get(part, "no_op")? {
            None => Ok(false),
            Some(Value::Bool(absent)) => Ok(*absent),
            found => Err(self.error(part, "no_op", "true or false", found)),
        }
    }

    /// KV heads; 0 = no attention.
    fn kv_heads(&self, q_heads: u64) -> Result<u64, ConfigError> {
        if self.is_absent("attention")? {
            return Ok(0);
        }
        let found = self.get("attention", "n_heads_in_group")?;
        let group =
            found.and_then(Value::as_u64).filter(|group| *group > 0 && q_heads.is_multiple_of(*group));
        group.map(|group| q_heads / group).ok_or_else(|| {
            let expected = format!("a number that divides the {q_heads} of num_attention_heads");
            self.error("attention", "n_heads_in_group", &expected, found)
        })
    }

    /// FFN width; 0 = no FFN.
    fn ffn(&self, hidden: u64) -> Result<u64, ConfigError> {
        if self.is_absent("ffn")? {
            return Ok(0);
        }
        let (factor, written) = (self.get("ffn", "ffn_mult")?, self.get("ffn", "intermediate_size")?);
        let width = written.and_then(Value::as_u64).filter(|w| (1..=limits::LARGEST_FFN).contains(w));
        if written.is_some() && width.is_none() {
            let expected = format!("a number from 1 to {}", limits::LARGEST_FFN);
            return Err(self.error("ffn", "intermediate_size", &expected, written));
        }
        let Some(factor) = factor else {
            return width.ok_or_else(|| {
                self.error("ffn", "ffn_mult", "a positive factor, or intermediate_size in its place", None)
            });
        };
        match factor.as_f64().filter(|f| *f > 0.0).and_then(|f| ffn_width(f, hidden)) {
            None => Err(self.error("ffn", "ffn_mult", "a positive factor", Some(factor))),
            Some(meant) if width.is_some_and(|width| width != meant) => {
                let expected = format!("{meant}, which ffn_mult stands for and engines take");
                Err(self.error("ffn", "intermediate_size", &expected, written))
            }
            Some(meant) => Ok(meant),
        }
    }
}

/// The list for a child of this shape, whose layers are else those of `parent`.
///
/// # Errors
/// What the format cannot say, with the layer.
pub fn write(parent: &ModelSpec, child: &Architecture) -> Result<Vec<Value>, BlockError> {
    for (has, part) in [
        (parent.norms == NormLayout::Sandwich, "norms after attention and FFN"),
        (parent.qk_norm, "norms on query and key heads"),
        (parent.qkv_bias != parent.o_bias, "biases on some projections of attention only"),
    ] {
        if has {
            return Err(BlockError::Part { layer: 0, part });
        }
    }
    if let Some(layer) = (0..child.depth()).find(|layer| parent.window(*layer).is_some()) {
        return Err(BlockError::Part { layer, part: "a sliding window" });
    }
    let Some(q_heads) = q_heads(child)? else {
        return Err(BlockError::NoAttention { layers: child.depth() });
    };
    Ok(child.layer_shapes().map(|shape| block(shape, q_heads, child.hidden)).collect())
}

/// The query heads of all layers that have any.
fn q_heads(child: &Architecture) -> Result<Option<u64>, BlockError> {
    let mut heads = None;
    for (layer, shape) in (0..).zip(child.layer_shapes()).filter(|(_, shape)| shape.q_heads > 0) {
        let expected = *heads.get_or_insert(shape.q_heads);
        if shape.q_heads != expected {
            return Err(BlockError::QueryHeads { layer, found: shape.q_heads, expected });
        }
    }
    Ok(heads)
}

fn block(shape: LayerShape, q_heads: u64, hidden: u64) -> Value {
    let group = q_heads.checked_div(shape.kv_heads);
    let attention =
        json!({"n_heads_in_group": group, "no_op": shape.kv_heads == 0, "replace_with_linear": false});
    let mut ffn = json!({"no_op": shape.ffn == 0, "replace_with_linear": false});
    match (shape.ffn, ffn_mult(shape.ffn, hidden)) {
        (0, _) => ffn["ffn_mult"] = Value::Null,
        (_, Some(factor)) => ffn["ffn_mult"] = factor.into(),
        (width, None) => ffn["intermediate_size"] = width.into(),
    }
    json!({"attention": attention, "ffn": ffn})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_stand_for_the_published_widths() {
        // Llama-3_3-Nemotron-Super-49B: the factors of its layers at hidden size 8192.
        for (factor, width) in [(5.25, 28672), (2.625, 14336), (1.3125, 7168), (1.0, 5632), (0.5, 2816)] {
            assert_eq!(ffn_width(factor, 8192), Some(width), "{factor}");
        }
        assert_eq!(ffn_mult(28672, 8192), Some(5.25));
        assert_eq!(ffn_width(f64::NAN, 8192), None);
        assert_eq!(ffn_width(f64::INFINITY, 8192), None);
        assert_eq!(ffn_width(1e300, 8192), None);
        assert_eq!(ffn_width(0.0, 8192), None);
    }

    #[test]
    fn every_multiple_has_a_factor_and_nothing_else_has() {
        for hidden in [16, 96, 1000, 1536, 4096, 5120, 8192, 16384, limits::LARGEST_HIDDEN] {
            for width in (1..40_000).step_by(97).chain((1..200).map(|n| n * FFN_MULTIPLE)) {
                let factor = ffn_mult(width, hidden);
                assert_eq!(factor.is_some(), width % FFN_MULTIPLE == 0, "{width} at {hidden}");
            }
        }
    }
}
