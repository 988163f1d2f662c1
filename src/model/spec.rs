//! A dense decoder model: everything but its weights.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::model::architecture::Architecture;
use crate::model::blocks;
use crate::model::config_error::{ConfigError, shown};
use crate::model::family::HeadDimDefault;
use crate::model::fields::Fields;
use crate::model::limits;
use crate::model::per_layer;
use crate::model::refusal;
use crate::model::windows;
use crate::units::DType;

/// Model family: decides tensor names, norms and which HF class reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// `LlamaForCausalLM`.
    Llama,
    /// `MistralForCausalLM`.
    Mistral,
    /// `Qwen2ForCausalLM` (Qwen2 and Qwen2.5).
    Qwen2,
    /// `Qwen3ForCausalLM`.
    Qwen3,
    /// `PanguEmbeddedForCausalLM`.
    PanguEmbedded,
    /// `Gemma2ForCausalLM`.
    Gemma2,
    /// `Gemma3ForCausalLM` (text).
    Gemma3,
    /// `DeciLMForCausalLM` (Nemotron-NAS): a Llama each of whose layers has its own shape.
    NemotronNas,
}

/// Norms of one decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormLayout {
    /// One norm before attention, one before the FFN.
    PreNorm,
    /// A second norm after each of them (sandwich norm, post-norm).
    Sandwich,
}

/// A dense decoder model, read from a Hugging Face `config.json` or a built-in card.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSpec {
    /// Name for people: the card's, or the directory's.
    pub name: String,
    /// Where the numbers come from: a path, or the card's source.
    pub source: String,
    /// Family.
    pub family: Family,
    /// Shape.
    pub architecture: Architecture,
    /// Rows of the embedding.
    pub vocab_size: u64,
    /// The LM head shares the embedding's weights.
    pub tied_embeddings: bool,
    /// RMSNorm on each query and key head (2 x head_dim gains per layer).
    pub qk_norm: bool,
    /// Biases on q, k and v projections.
    pub qkv_bias: bool,
    /// Bias on the attention output projection.
    pub o_bias: bool,
    /// Biases on gate, up and down projections.
    pub mlp_bias: bool,
    /// Norms of a layer.
    pub norms: NormLayout,
    /// Attention window of each layer in tokens (`None` = full), where the family mixes local and global
    /// layers (Gemma 2/3): repeated over the layers. Empty = all full.
    pub window_pattern: Vec<Option<u64>>,
    /// Longest context the model was made for, in tokens.
    pub max_positions: u64,
    /// The configuration it was read from, kept for export.
    #[serde(skip)]
    pub config: Map<String, Value>,
}

impl ModelSpec {
    /// Reads the text of a Hugging Face `config.json`, in transformers 4 (`rope_theta`, `torch_dtype`) or
    /// 5 (`rope_parameters`, `dtype`) spelling. `origin` names the text in errors, `name` the model for people.
    ///
    /// # Errors
    /// A key that is missing, of the wrong kind, out of range, or that does not fit the others; a model that
    /// is not a dense decoder of a known [`Family`].
    pub fn from_config_json(text: &str, origin: &str, name: &str) -> Result<Self, ConfigError> {
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Self::from_config(map, origin, name),
            Ok(other) => Err(ConfigError::NotAnObject { origin: origin.into(), found: shown(&other) }),
            Err(error) => Err(ConfigError::syntax(origin, &error)),
        }
    }

    /// Reads a `config.json` that is parsed already; see [`ModelSpec::from_config_json`].
    pub fn from_config(config: Map<String, Value>, origin: &str, name: &str) -> Result<Self, ConfigError> {
        let fields = &Fields { map: &config, origin };
        refusal::check(fields)?;
        let family = Family::of(fields)?;
        let architecture = architecture(family, fields)?;
        check_rope(fields)?;
        let (qkv_bias, o_bias) = family.attention_biases(fields)?;
        Ok(ModelSpec {
            name: name.into(),
            source: origin.into(),
            family,
            vocab_size: fields.count("vocab_size", limits::LARGEST_VOCABULARY)?,
            tied_embeddings: fields.flag("tie_word_embeddings", family.tied_by_default())?,
            qk_norm: family.qk_norm(),
            qkv_bias,
            o_bias,
            mlp_bias: family.mlp_bias(fields)?,
            norms: family.norms(fields)?,
            window_pattern: windows::pattern(family, fields, architecture.depth())?,
            max_positions: fields.count("max_position_embeddings", limits::MOST_POSITIONS)?,
            architecture,
            config,
        })
    }

    /// Attention window of layer `layer` (from 0) in tokens; `None` = full attention.
    pub fn window(&self, layer: u64) -> Option<u64> {
        let period = self.window_pattern.len() as u64;
        let index = layer.checked_rem(period)?;
        self.window_pattern.get(index as usize).copied().flatten()
    }

    /// Element type the checkpoint is stored in, where its configuration says so in a way this crate knows.
    pub fn checkpoint_dtype(&self) -> Option<DType> {
        let dtype = self.config.get("dtype").or_else(|| self.config.get("torch_dtype"))?;
        dtype.as_str()?.parse().ok()
    }
}

fn architecture(family: Family, fields: &Fields) -> Result<Architecture, ConfigError> {
    let hidden = fields.count("hidden_size", limits::LARGEST_HIDDEN)?;
    let layers = fields.count("num_hidden_layers", limits::MOST_LAYERS)?;
    let q_heads = fields.count("num_attention_heads", limits::MOST_HEADS)?;
    let head_dim = head_dim(family, fields, hidden, q_heads)?;
    let own = match per_layer::read(fields, layers)? {
        None if family == Family::NemotronNas => Some(blocks::read(fields, layers, hidden, q_heads)?),
        own => own,
    };
    let architecture = match own {
        Some(shapes) => Architecture::of_layers(hidden, head_dim, shapes),
        None => uniform(family, fields, (layers, hidden, q_heads, head_dim))?,
    };
    architecture.validate().map_err(|error| ConfigError::Shape { origin: fields.origin.into(), error })?;
    Ok(architecture)
}

fn uniform(
    family: Family,
    fields: &Fields,
    (layers, hidden, q_heads, head_dim): (u64, u64, u64, u64),
) -> Result<Architecture, ConfigError> {
    if fields.get(blocks::KEY).is_some() {
        let advice = "plan from its uniform parent, or as the DeciLMForCausalLM that engines read them with";
        return Err(fields.unsupported(blocks::KEY, "a decoder whose layers differ", advice));
    }
    let ffn = fields.count("intermediate_size", limits::LARGEST_FFN)?;
    let kv_default = match family.kv_heads_default() {
        Some(heads) if !fields.is_null("num_key_value_heads") => heads,
        _ => q_heads,
    };
    let kv_heads = fields.optional_count("num_key_value_heads", limits::MOST_HEADS)?.unwrap_or(kv_default);
    Ok(Architecture::uniform(layers, hidden, ffn, q_heads, kv_heads, head_dim))
}

fn head_dim(family: Family, fields: &Fields, hidden: u64, q_heads: u64) -> Result<u64, ConfigError> {
    if let Some(head_dim) = fields.optional_count("head_dim", limits::LARGEST_HEAD_DIM)? {
        return Ok(head_dim);
    }
    match family.head_dim_default() {
        HeadDimDefault::Constant(_) if fields.is_null("head_dim") => {
            Err(fields.wrong_kind("head_dim", "a positive integer (engines disagree about null)"))
        }
        HeadDimDefault::Constant(head_dim) => Ok(head_dim),
        HeadDimDefault::HiddenPerHead if hidden.is_multiple_of(q_heads) => Ok(hidden / q_heads),
        HeadDimDefault::HiddenPerHead => {
            let expected = format!(
                "the head size, as hidden_size {hidden} is no multiple of num_attention_heads {q_heads}"
            );
            Err(fields.missing("head_dim", &expected, "write it out"))
        }
    }
}

/// Rotary settings are kept for export only, but nonsense in them is refused here, in either spelling:
/// `rope_theta`, or `rope_parameters` flat or per layer type.
fn check_rope(fields: &Fields) -> Result<(), ConfigError> {
    let expected = "a positive rotary base (rope_theta)";
    let good = |theta: &Value| theta.as_f64().is_some_and(|x| x > 0.0);
    if fields.get("rope_theta").is_some_and(|theta| !good(theta)) {
        return Err(fields.wrong_kind("rope_theta", expected));
    }
    let Some(parameters) = fields.get("rope_parameters") else { return Ok(()) };
    let Some(parameters) = parameters.as_object() else {
        return Err(fields.wrong_kind("rope_parameters", "an object"));
    };
    let nested = parameters.values().filter_map(Value::as_object);
    let thetas = nested.chain([parameters]).filter_map(|group| group.get("rope_theta"));
    match thetas.into_iter().all(|theta| theta.is_null() || good(theta)) {
        true => Ok(()),
        false => Err(fields.wrong_kind("rope_parameters", expected)),
    }
}
