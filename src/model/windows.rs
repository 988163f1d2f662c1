//! Which layers look through a sliding window.

use crate::model::config_error::ConfigError;
use crate::model::fields::Fields;
use crate::model::limits::MOST_LAYERS;
use crate::model::spec::Family;

const LARGEST_WINDOW: u64 = 1 << 32;

/// Class default of `sliding_window` in `Gemma2Config` and `Gemma3TextConfig`.
const GEMMA_WINDOW: u64 = 4096;

/// The repeating window pattern of a model of `layers` layers: `None` = full attention, `Some(w)` = the
/// last `w` tokens. Empty = all full. Sliding-window-only models are refused.
pub(crate) fn pattern(family: Family, fields: &Fields, layers: u64) -> Result<Vec<Option<u64>>, ConfigError> {
    match family {
        Family::Llama | Family::PanguEmbedded | Family::NemotronNas => all_full(fields, layers),
        Family::Mistral => {
            refuse_mistral_window(fields)?;
            all_full(fields, layers)
        }
        Family::Qwen2 | Family::Qwen3 => {
            if fields.flag("use_sliding_window", false)? {
                let advice = "set it to false if the deployment serves full attention";
                return Err(fields.unsupported("use_sliding_window", "windowed attention in Qwen", advice));
            }
            all_full(fields, layers)
        }
        Family::Gemma2 | Family::Gemma3 => gemma(family, fields, layers),
    }
}

/// `layer_types`, where given, says full attention for every layer.
fn all_full(fields: &Fields, layers: u64) -> Result<Vec<Option<u64>>, ConfigError> {
    let windowed = layer_types(fields, layers)?.unwrap_or_default();
    if windowed.contains(&true) {
        let advice = "this class has full attention in every layer";
        return Err(fields.unsupported("layer_types", "windowed attention", advice));
    }
    Ok(Vec::new())
}

/// `MistralConfig` windows every layer when `sliding_window` is not null, 4096 by default.
fn refuse_mistral_window(fields: &Fields) -> Result<(), ConfigError> {
    if fields.is_null("sliding_window") {
        return Ok(());
    }
    let advice = match fields.get("sliding_window") {
        Some(_) => "write null if the deployment serves full attention (as Mistral v0.2 and later do)",
        None => "the class default is 4096: write `\"sliding_window\": null` for full attention",
    };
    Err(ConfigError::WindowOnly {
        origin: fields.origin.into(),
        key: "sliding_window".into(),
        found: fields.found("sliding_window"),
        advice: advice.into(),
    })
}

fn gemma(family: Family, fields: &Fields, layers: u64) -> Result<Vec<Option<u64>>, ConfigError> {
    let every = match family {
        Family::Gemma3 => fields.optional_count("sliding_window_pattern", MOST_LAYERS)?.unwrap_or(6),
        _ => 2,
    };
    let (key, windowed) = match layer_types(fields, layers)? {
        Some(types) => ("layer_types", types),
        None => ("num_hidden_layers", (1..=layers).map(|layer| layer % every != 0).collect()),
    };
    if !windowed.contains(&true) {
        return Ok(Vec::new());
    }
    if !windowed.contains(&false) {
        return Err(ConfigError::WindowOnly {
            origin: fields.origin.into(),
            key: key.into(),
            found: fields.found(key),
            advice: "give at least one layer full attention".into(),
        });
    }
    let window = match fields.is_null("sliding_window") {
        true => return Err(fields.wrong_kind("sliding_window", "the window of sliding_attention layers")),
        false => fields.optional_count("sliding_window", LARGEST_WINDOW)?.unwrap_or(GEMMA_WINDOW),
    };
    Ok(shortest_period(&windowed).iter().map(|&w| w.then_some(window)).collect())
}

/// `layer_types` as "is windowed" flags, if given.
fn layer_types(fields: &Fields, layers: u64) -> Result<Option<Vec<bool>>, ConfigError> {
    let Some(types) = fields.texts("layer_types")? else { return Ok(None) };
    if types.len() as u64 != layers {
        return Err(ConfigError::ListLength {
            origin: fields.origin.into(),
            key: "layer_types".into(),
            expected: layers,
            found: types.len(),
        });
    }
    types
        .into_iter()
        .map(|layer| match layer {
            "full_attention" => Ok(false),
            "sliding_attention" => Ok(true),
            other => Err(ConfigError::Unsupported {
                origin: fields.origin.into(),
                key: "layer_types".into(),
                found: format!("\"{other}\""),
                feature: "this kind of layer",
                advice: "plan a decoder of full_attention and sliding_attention layers",
            }),
        })
        .collect::<Result<Vec<_>, _>>()
        .map(Some)
}

/// The shortest prefix whose repetition gives `flags` (the last repetition may be cut short).
fn shortest_period(flags: &[bool]) -> &[bool] {
    let repeats = |period: &usize| flags.iter().zip(flags.iter().skip(*period)).all(|(a, b)| a == b);
    let period = (1..flags.len()).find(repeats).unwrap_or(flags.len());
    flags.get(..period).unwrap_or(flags)
}

#[cfg(test)]
mod tests {
    use super::shortest_period;

    #[test]
    fn finds_the_period_of_a_pattern_that_does_not_fill_the_depth() {
        let pattern: Vec<bool> = (1..=26).map(|layer| layer % 6 != 0).collect();
        assert_eq!(shortest_period(&pattern), [true, true, true, true, true, false]);
        assert_eq!(shortest_period(&[true, true, false, false]), [true, true, false, false]);
        assert_eq!(shortest_period(&[true]), [true]);
    }
}
