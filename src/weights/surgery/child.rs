//! The child's configuration.

use serde_json::{Map, Value};

use crate::model::export::child_config;
use crate::model::spec::{Family, ModelSpec, NormLayout};
use crate::weights::surgery::cut::Cut;
use crate::weights::surgery::error::SurgeryError;

/// The child as a model: the parent's configuration with the cut's shape; without post-norms where they are absorbed.
///
/// # Errors
/// A shape that the parent's class cannot say; post-norms that no plain class can do without.
pub fn spec(parent: &ModelSpec, cut: &Cut, absorbed: bool) -> Result<ModelSpec, SurgeryError> {
    let mut base = parent.clone();
    if absorbed {
        base = ModelSpec::from_config(plain_class(parent)?, &parent.source, &parent.name)?;
    }
    let child = child_config(&base, &cut.architecture(parent.architecture.head_dim))?;
    let Value::Object(mut config) = child.config else { return Ok(base) };
    if !parent.window_pattern.is_empty() {
        let kind = |layer: &u64| match parent.window(*layer) {
            Some(_) => "sliding_attention",
            None => "full_attention",
        };
        let kinds: Vec<Value> = cut.layers.iter().map(|layer| kind(&layer.parent).into()).collect();
        config.insert("layer_types".into(), kinds.into());
    }
    Ok(ModelSpec::from_config(config, "the child's config.json", &parent.name)?)
}

/// Whether the post-norms of this model can be absorbed.
///
/// # Errors
/// There are none, or no stock class can say the result.
pub fn check_absorbable(parent: &ModelSpec) -> Result<(), SurgeryError> {
    let class = parent.family.class_name();
    if parent.norms != NormLayout::Sandwich {
        return Err(SurgeryError::NoPostNorms { class });
    }
    plain_class(parent).map(|_| ())
}

/// The configuration of the same model without post-norms: openPangu's layer without them is a Llama's with biases on
/// q, k, v and o.
fn plain_class(parent: &ModelSpec) -> Result<Map<String, Value>, SurgeryError> {
    let class = parent.family.class_name();
    let reason = match parent.family {
        Family::PanguEmbedded => {
            let mut config = parent.config.clone();
            for key in ["auto_map", "bias", "sandwich_norm"] {
                config.shift_remove(key);
            }
            config.insert("architectures".into(), vec![Value::from(Family::Llama.class_name())].into());
            config.insert("model_type".into(), Family::Llama.model_type().into());
            config.insert("attention_bias".into(), (parent.qkv_bias || parent.o_bias).into());
            config.insert("mlp_bias".into(), false.into());
            return Ok(config);
        }
        Family::Gemma2 => "attention and logit soft-capping",
        Family::Gemma3 => "two rotary bases",
        _ => "it has none",
    };
    Err(SurgeryError::NoPlainClass { class, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cards;

    fn sandwich() -> ModelSpec {
        let mut config = cards::find("openpangu-embedded-7b").unwrap().spec().unwrap().config;
        config.insert("sandwich_norm".into(), true.into());
        ModelSpec::from_config(config, "a test", "pangu").unwrap()
    }

    #[test]
    fn an_absorbed_pangu_is_a_llama_with_biases() {
        let parent = sandwich();
        check_absorbable(&parent).unwrap();
        let child = spec(&parent, &Cut::identity(&parent), true).unwrap();
        assert_eq!((child.family, child.norms), (Family::Llama, NormLayout::PreNorm));
        assert!(child.qkv_bias && child.o_bias && !child.mlp_bias);
        assert_eq!(child.architecture, parent.architecture);
    }

    #[test]
    fn what_has_no_post_norms_or_no_plain_class_is_said() {
        let plain = cards::find("qwen3-0.6b").unwrap().spec().unwrap();
        assert!(matches!(check_absorbable(&plain), Err(SurgeryError::NoPostNorms { .. })));
        let gemma =
            cards::all().iter().filter_map(|card| card.spec().ok()).find(|s| s.family == Family::Gemma2);
        if let Some(gemma) = gemma {
            assert!(matches!(check_absorbable(&gemma), Err(SurgeryError::NoPlainClass { .. })));
        }
    }
}
