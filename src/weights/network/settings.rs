//! How a checkpoint is run, beyond its shapes: what its configuration says about norms, activation, attention, angles.
//!
//! Defaults are those of transformers' configuration classes (5.23, `src/transformers/models/*/configuration_*.py`).

use serde_json::Value;

use crate::compute::activation::Activation;
use crate::model::spec::{Family, ModelSpec};
use crate::weights::network::rotary::{Frequencies, frequencies};

/// A configuration that cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// An activation nobody wrote a kernel for.
    #[error(
        "{origin}: {key} is \"{found}\": this activation cannot be run; known are silu, gelu, gelu_pytorch_tanh"
    )]
    Activation {
        /// Where the configuration comes from.
        origin: String,
        /// The key.
        key: &'static str,
        /// What stands there.
        found: String,
    },
    /// A number is missing or makes no sense.
    #[error("{origin}: {key} is {found}: expected {expected}")]
    Number {
        /// Where the configuration comes from.
        origin: String,
        /// The key.
        key: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A rotary parameter is missing or makes no sense.
    #[error("{origin}: {name} of {key} is {found}: expected {expected}")]
    Rotary {
        /// Where the configuration comes from.
        origin: String,
        /// The object it belongs to.
        key: &'static str,
        /// The parameter.
        name: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A rotary scaling that is not known.
    #[error(
        "{origin}: rope_type is \"{found}\": this scaling cannot be run; known are {known} (within the original context, \
         a model with `dynamic` scaling runs as `default`)"
    )]
    RotaryScaling {
        /// Where the configuration comes from.
        origin: String,
        /// What stands there.
        found: String,
        /// What is known.
        known: &'static str,
    },
}

/// What a forward pass needs to know of a model besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Hidden size.
    pub hidden: usize,
    /// Head size, even.
    pub head_dim: usize,
    /// Rows of embedding and LM head.
    pub vocabulary: usize,
    /// Added to the mean square in every norm.
    pub epsilon: f32,
    /// Function on the gate.
    pub activation: Activation,
    /// Added to every stored gain (Gemma: 1).
    pub gain_offset: f32,
    /// Factor on embeddings (Gemma: the square root of the hidden size, in f32 as transformers has it when it runs in f32).
    pub embedding_factor: f32,
    /// Factor on products of queries and keys.
    pub attention_scale: f32,
    /// Attention scores are capped by `cap * tanh(score / cap)`.
    pub attention_cap: Option<f32>,
    /// Logits are capped alike.
    pub logit_cap: Option<f32>,
    /// Window of each layer in tokens, none = full attention; as many as layers.
    pub windows: Vec<Option<usize>>,
    /// Rotary frequencies of layers with full attention.
    pub full_rotary: Frequencies,
    /// Rotary frequencies of layers with a window.
    pub window_rotary: Frequencies,
}

impl Settings {
    /// Reads a model's settings from its configuration, in transformers 4 or 5 spelling.
    ///
    /// # Errors
    /// An activation or a rotary scaling that is not known, a number that makes no sense.
    pub fn of(spec: &ModelSpec) -> Result<Self, SettingsError> {
        let gemma = matches!(spec.family, Family::Gemma2 | Family::Gemma3);
        let head_dim = spec.architecture.head_dim;
        let attended = match gemma {
            true => number(spec, "query_pre_attn_scalar")?.unwrap_or(256.0),
            false => head_dim as f64,
        };
        let gemma2 = spec.family == Family::Gemma2;
        let depth = spec.architecture.depth();
        let full_rotary = frequencies(spec, false)?;
        let windowed = (0..depth).any(|layer| spec.window(layer).is_some());
        Ok(Self {
            hidden: spec.architecture.hidden as usize,
            head_dim: head_dim as usize,
            vocabulary: spec.vocab_size as usize,
            epsilon: epsilon(spec)? as f32,
            activation: activation(spec, gemma)?,
            gain_offset: if gemma { 1.0 } else { 0.0 },
            embedding_factor: if gemma { (spec.architecture.hidden as f64).sqrt() as f32 } else { 1.0 },
            attention_scale: (1.0 / attended.sqrt()) as f32,
            attention_cap: cap(spec, "attn_logit_softcapping", gemma, gemma2.then_some(50.0))?,
            logit_cap: cap(spec, "final_logit_softcapping", gemma, gemma2.then_some(30.0))?,
            windows: (0..depth).map(|layer| spec.window(layer).map(|w| w as usize)).collect(),
            window_rotary: if windowed { frequencies(spec, true)? } else { full_rotary.clone() },
            full_rotary,
        })
    }

    /// Window of a layer in tokens; none = full attention.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.windows.get(layer).copied().flatten()
    }

    /// Rotary frequencies of a layer.
    pub fn rotary(&self, layer: usize) -> &Frequencies {
        if self.window(layer).is_some() { &self.window_rotary } else { &self.full_rotary }
    }
}

/// A positive number, unless absent or null.
fn number(spec: &ModelSpec, key: &'static str) -> Result<Option<f64>, SettingsError> {
    let Some(value) = spec.config.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    match value.as_f64().filter(|x| x.is_finite() && *x > 0.0) {
        Some(number) => Ok(Some(number)),
        None => Err(SettingsError::Number {
            origin: spec.source.clone(),
            key,
            found: value.to_string(),
            expected: "a positive number",
        }),
    }
}

fn epsilon(spec: &ModelSpec) -> Result<f64, SettingsError> {
    match (number(spec, "rms_norm_eps")?, spec.family) {
        (Some(epsilon), _) => Ok(epsilon),
        (None, Family::PanguEmbedded) => Err(SettingsError::Number {
            origin: spec.source.clone(),
            key: "rms_norm_eps",
            found: "not there".into(),
            expected: "it written out, as 1e-5 in openPangu's releases",
        }),
        (None, _) => Ok(1e-6),
    }
}

/// A cap on scores: absent is the class default, null is none.
fn cap(
    spec: &ModelSpec,
    key: &'static str,
    gemma: bool,
    default: Option<f32>,
) -> Result<Option<f32>, SettingsError> {
    match spec.config.contains_key(key) {
        _ if !gemma => Ok(None),
        true => Ok(number(spec, key)?.map(|cap| cap as f32)),
        false => Ok(default),
    }
}

/// Gemma reads `hidden_activation`, the others `hidden_act`; the class defaults are those of all published models.
fn activation(spec: &ModelSpec, gemma: bool) -> Result<Activation, SettingsError> {
    let (key, default) = match gemma {
        true => ("hidden_activation", Activation::GeluTanh),
        false => ("hidden_act", Activation::Silu),
    };
    match spec.config.get(key) {
        None => Ok(default),
        Some(Value::Null) if gemma => Ok(default),
        Some(Value::String(name)) if name == "silu" || name == "swish" => Ok(Activation::Silu),
        Some(Value::String(name)) if name == "gelu" => Ok(Activation::Gelu),
        Some(Value::String(name)) if name == "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        Some(other) => Err(SettingsError::Activation {
            origin: spec.source.clone(),
            key,
            found: other.as_str().map_or_else(|| other.to_string(), Into::into),
        }),
    }
}
