//! What the model families have in common with nobody else: class names and the defaults of their
//! configuration classes (transformers 5.23, `src/transformers/models/*/configuration_*.py`; openPangu:
//! `configuration_openpangu_dense.py` of openPangu-Embedded-7B; DeciLM: `configuration_decilm.py` of
//! Llama-3_3-Nemotron-Super-49B, a `LlamaConfig`).

use crate::model::config_error::ConfigError;
use crate::model::fields::Fields;
use crate::model::refusal;
use crate::model::spec::{Family, NormLayout};
use crate::names::{closest, did_you_mean};

/// What the head size is when `head_dim` is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadDimDefault {
    /// Hidden size over query heads.
    HiddenPerHead,
    /// A constant of the class; an explicit null is ambiguous there (transformers fails, vLLM divides).
    Constant(u64),
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 8] = [
        Family::Llama,
        Family::Mistral,
        Family::Qwen2,
        Family::Qwen3,
        Family::PanguEmbedded,
        Family::Gemma2,
        Family::Gemma3,
        Family::NemotronNas,
    ];

    /// Class name, as in `architectures`.
    pub fn class_name(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Mistral => "MistralForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
            Family::PanguEmbedded => "PanguEmbeddedForCausalLM",
            Family::Gemma2 => "Gemma2ForCausalLM",
            Family::Gemma3 => "Gemma3ForCausalLM",
            Family::NemotronNas => "DeciLMForCausalLM",
        }
    }

    /// `model_type` of its configuration class.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::PanguEmbedded => "PanguEmbedded",
            Family::Gemma2 => "gemma2",
            Family::Gemma3 => "gemma3_text",
            Family::NemotronNas => "nemotron-nas",
        }
    }

    /// Whether the LM head shares the embedding when `tie_word_embeddings` is absent.
    pub(crate) fn tied_by_default(self) -> bool {
        matches!(self, Family::Gemma2 | Family::Gemma3)
    }

    /// Head size when `head_dim` is absent.
    pub(crate) fn head_dim_default(self) -> HeadDimDefault {
        match self {
            Family::Qwen3 => HeadDimDefault::Constant(128),
            Family::Gemma2 | Family::Gemma3 => HeadDimDefault::Constant(256),
            _ => HeadDimDefault::HiddenPerHead,
        }
    }

    /// KV heads when `num_key_value_heads` is absent (`None` = as many as query heads).
    pub(crate) fn kv_heads_default(self) -> Option<u64> {
        match self {
            Family::Llama | Family::PanguEmbedded | Family::NemotronNas => None,
            Family::Mistral => Some(8),
            Family::Qwen2 | Family::Qwen3 => Some(32),
            Family::Gemma2 | Family::Gemma3 => Some(4),
        }
    }

    /// RMSNorm on each query and key head.
    pub(crate) fn qk_norm(self) -> bool {
        matches!(self, Family::Qwen3 | Family::Gemma3)
    }

    /// Biases on (q, k and v; o).
    pub(crate) fn attention_biases(self, fields: &Fields) -> Result<(bool, bool), ConfigError> {
        match self {
            Family::Mistral => Ok((false, false)),
            Family::Qwen2 => Ok((true, false)),
            Family::PanguEmbedded => fields.flag("bias", true).map(|bias| (bias, bias)),
            Family::Llama | Family::Qwen3 | Family::Gemma2 | Family::Gemma3 | Family::NemotronNas => {
                fields.flag("attention_bias", false).map(|bias| (bias, bias))
            }
        }
    }

    /// Biases on gate, up and down.
    pub(crate) fn mlp_bias(self, fields: &Fields) -> Result<bool, ConfigError> {
        match self {
            Family::Llama | Family::NemotronNas => fields.flag("mlp_bias", false),
            _ => Ok(false),
        }
    }

    /// Norms of a layer. openPangu's `sandwich_norm` is described in vLLM `models/openpangu.py`.
    pub(crate) fn norms(self, fields: &Fields) -> Result<NormLayout, ConfigError> {
        let sandwich = match self {
            Family::Gemma2 | Family::Gemma3 => true,
            Family::PanguEmbedded => fields.flag("sandwich_norm", false)?,
            _ => false,
        };
        Ok(if sandwich { NormLayout::Sandwich } else { NormLayout::PreNorm })
    }

    /// The family that `architectures` and `model_type` name.
    pub(crate) fn of(fields: &Fields) -> Result<Family, ConfigError> {
        let architecture = match fields.texts("architectures")?.as_deref() {
            None => None,
            Some(&[name]) => Some(name),
            Some(_) => return Err(fields.wrong_kind("architectures", "a list of one class name")),
        };
        let model_type = fields.text("model_type")?;
        let Some(class) = architecture else {
            let found = model_type
                .ok_or_else(|| fields.missing("architectures", "a list of one class name", "add it"))?;
            return by_name(fields, "model_type", found, Family::model_type);
        };
        let family = by_name(fields, "architectures", class, Family::class_name)?;
        match model_type {
            Some(found) if found != family.model_type() => Err(ConfigError::Conflict {
                origin: fields.origin.into(),
                architecture: class.into(),
                model_type: found.into(),
                expected: family.model_type().into(),
            }),
            _ => Ok(family),
        }
    }
}

fn by_name(
    fields: &Fields,
    key: &'static str,
    found: &str,
    name: impl Fn(Family) -> &'static str,
) -> Result<Family, ConfigError> {
    if let Some(family) = Family::ALL.into_iter().find(|&family| name(family) == found) {
        return Ok(family);
    }
    refusal::check_class_name(fields, key, found)?;
    let names = Family::ALL.map(name);
    Err(ConfigError::UnknownType {
        origin: fields.origin.into(),
        key,
        found: found.into(),
        suggestion: did_you_mean(closest(found, names)),
        known: names.join(", "),
    })
}
