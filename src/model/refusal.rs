//! Models that are recognised and refused: experts, latent attention, quantised weights, wrappers.
//!
//! Each check names the key that gives the model away, so that nobody plans a model that is not the one
//! described.

use serde_json::Value;

use crate::model::config_error::ConfigError;
use crate::model::fields::Fields;

/// When a key counts as present.
#[derive(Clone, Copy)]
enum Trigger {
    /// Anything but null.
    Present,
    /// A number above zero, a non-empty list, or any other non-null, non-false value.
    Positive,
    /// A number above one (one expert is a plain FFN).
    AboveOne,
}

const DENSE: &str = "plan a dense decoder";
const MOE: &str = "a mixture of experts";
const MLA: &str = "multi-head latent attention";

/// `(key, trigger, feature, advice)`, most telling first.
const REFUSED: &[(&str, Trigger, &str, &str)] = &[
    (
        "text_config",
        Trigger::Present,
        "a multimodal wrapper",
        "write the object under `text_config` to a config.json of its own, with its text class as `architectures`",
    ),
    ("vision_config", Trigger::Present, "a multimodal model", DENSE),
    ("audio_config", Trigger::Present, "a multimodal model", DENSE),
    ("is_encoder_decoder", Trigger::Positive, "an encoder-decoder", DENSE),
    ("add_cross_attention", Trigger::Positive, "cross attention", DENSE),
    ("quantization_config", Trigger::Present, "a quantised checkpoint", UNQUANTISED),
    ("quantization", Trigger::Present, "a quantised checkpoint", UNQUANTISED),
    ("compression_config", Trigger::Present, "a quantised checkpoint", UNQUANTISED),
    ("kv_lora_rank", Trigger::Positive, MLA, DENSE),
    ("q_lora_rank", Trigger::Positive, MLA, DENSE),
    ("qk_rope_head_dim", Trigger::Positive, MLA, DENSE),
    ("num_experts", Trigger::AboveOne, MOE, DENSE),
    ("num_local_experts", Trigger::AboveOne, MOE, DENSE),
    ("n_routed_experts", Trigger::Positive, MOE, DENSE),
    ("num_experts_per_tok", Trigger::Positive, MOE, DENSE),
    ("moe_intermediate_size", Trigger::Positive, MOE, DENSE),
    ("num_nextn_predict_layers", Trigger::Positive, "multi-token prediction", "drop the extra layers first"),
    ("use_mhc", Trigger::Positive, "a hyper-connected residual stream", DENSE),
    ("param_sink_number", Trigger::Positive, "attention with learned sinks", DENSE),
    ("block_post_layernorm_idx", Trigger::Positive, "a norm after blocks of layers", DENSE),
    ("use_bidirectional_attention", Trigger::Positive, "bidirectional attention", "plan a causal decoder"),
];

const UNQUANTISED: &str = "use the config.json of the unquantised model, and choose the element type of the deployment with --dtype";

/// Refuses what this crate does not plan.
pub(crate) fn check(fields: &Fields) -> Result<(), ConfigError> {
    for &(key, trigger, feature, advice) in REFUSED {
        if fields.get(key).is_some_and(|value| trigger.fires(value)) {
            return Err(fields.unsupported(key, feature, advice));
        }
    }
    Ok(())
}

/// Refuses class names that say what they are, before "unknown" is said of them.
pub(crate) fn check_class_name(fields: &Fields, key: &str, name: &str) -> Result<(), ConfigError> {
    let lower = name.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["moe", "mixtral"]) {
        return Err(fields.unsupported(key, MOE, DENSE));
    }
    if says(&["deepseek"]) {
        return Err(fields.unsupported(key, "multi-head latent attention or a mixture of experts", DENSE));
    }
    if says(&["conditionalgeneration", "imagetext", "vision2seq"]) {
        return Err(fields.unsupported(key, "an encoder-decoder or multimodal model", DENSE));
    }
    Ok(())
}

impl Trigger {
    fn fires(self, value: &Value) -> bool {
        match (self, value) {
            (Trigger::Present, _) => true,
            (_, Value::Null | Value::Bool(false)) => false,
            (Trigger::Positive, Value::Number(number)) => number.as_f64().is_some_and(|x| x > 0.0),
            (Trigger::AboveOne, Value::Number(number)) => number.as_f64().is_some_and(|x| x > 1.0),
            (_, Value::Array(items)) => !items.is_empty(),
            _ => true,
        }
    }
}
