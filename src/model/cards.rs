//! Built-in model cards: the configuration of well-known models, each with its source.
//!
//! The data is `cards.json` beside this file: Hugging Face configurations, with the parameter count their
//! publisher's safetensors headers add up to where that is known (a test holds [`crate::model::counts`] to it).

use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::config_error::ConfigError;
use crate::model::spec::ModelSpec;
use crate::names::{closest, did_you_mean};

/// A built-in model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Name: `qwen3-32b`.
    pub name: String,
    /// Hugging Face ids it answers to as well: `Qwen/Qwen3-32B`.
    pub ids: Vec<String>,
    /// Where the numbers come from, and which of them are not the publisher's.
    pub source: String,
    /// Number of parameters as published, where it is.
    pub published_parameters: Option<u64>,
    /// The configuration.
    pub config: Map<String, Value>,
}

/// A name that is no card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no built-in model (`archplan models` lists them){suggestion}")]
pub struct UnknownCard {
    /// What was asked for.
    pub name: String,
    /// Did-you-mean, or empty.
    pub suggestion: String,
}

impl Card {
    /// The model the card describes.
    pub fn spec(&self) -> Result<ModelSpec, ConfigError> {
        let origin = format!("built-in card {}", self.name);
        let spec = ModelSpec::from_config(self.config.clone(), &origin, &self.name)?;
        Ok(ModelSpec { source: self.source.clone(), ..spec })
    }

    /// Everything the card answers to: its name, its ids, and its ids without the organisation.
    fn answers_to(&self) -> impl Iterator<Item = &str> {
        let ids = self.ids.iter().map(String::as_str);
        let short = ids.clone().filter_map(|id| id.rsplit('/').next());
        std::iter::once(self.name.as_str()).chain(ids).chain(short)
    }
}

/// Every built-in model, by family and size.
pub fn all() -> &'static [Card] {
    static CARDS: OnceLock<Vec<Card>> = OnceLock::new();
    // A test reads the embedded cards, so that the empty list cannot reach a user.
    CARDS.get_or_init(|| serde_json::from_str(include_str!("cards.json")).unwrap_or_default())
}

/// The card of that name or Hugging Face id; case is ignored.
pub fn find(name: &str) -> Result<&'static Card, UnknownCard> {
    let wanted = name.trim();
    let is_it = |card: &&Card| card.answers_to().any(|n| n.eq_ignore_ascii_case(wanted));
    all().iter().find(is_it).ok_or_else(|| {
        let close = closest(wanted, all().iter().map(|card| card.name.as_str()));
        UnknownCard { name: name.into(), suggestion: did_you_mean(close) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_is_readable_and_answers_to_its_own_names_only() {
        let mut seen = std::collections::BTreeMap::new();
        for card in all() {
            card.spec().unwrap_or_else(|error| panic!("{error}"));
            assert!(!card.source.is_empty());
            for name in card.answers_to() {
                let owner = seen.entry(name.to_lowercase()).or_insert(&card.name);
                assert_eq!(*owner, &card.name, "{name}");
            }
        }
        assert_eq!(all().len(), 20);
    }

    #[test]
    fn finds_by_name_and_by_hugging_face_id() {
        for name in ["qwen3-32b", "Qwen3-32B", "Qwen/Qwen3-32B", " qwen/qwen3-32b "] {
            assert_eq!(find(name).unwrap().name, "qwen3-32b");
        }
        assert_eq!(find("Llama-3.1-8B-Instruct").unwrap().name, "llama-3.1-8b");
    }

    #[test]
    fn suggests_what_was_meant() {
        let message = find("qwen3-33b").unwrap_err().to_string();
        assert!(message.contains("did you mean `qwen3-32b`?"), "{message}");
        assert!(!find("gpt-2").unwrap_err().to_string().contains("did you mean"));
    }
}
