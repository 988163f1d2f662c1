//! Typed access to the keys of a `config.json`; each refusal says file, key, found and expected.

use serde_json::{Map, Value};

use crate::model::config_error::{ConfigError, shown};

/// The keys of one `config.json`.
pub(crate) struct Fields<'a> {
    /// The object.
    pub map: &'a Map<String, Value>,
    /// Where it came from.
    pub origin: &'a str,
}

impl<'a> Fields<'a> {
    /// The value of a key, unless absent or null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key stands there as null.
    pub fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// A positive integer up to `limit`; absent or null is an error.
    pub fn count(&self, key: &str, limit: u64) -> Result<u64, ConfigError> {
        let advice = "every size must be written out: class defaults are not assumed";
        match self.optional_count(key, limit)? {
            Some(count) => Ok(count),
            None if self.is_null(key) => Err(self.wrong_kind(key, "a positive integer")),
            None => Err(self.missing(key, "a positive integer", advice)),
        }
    }

    /// A positive integer up to `limit`, unless absent or null.
    pub fn optional_count(&self, key: &str, limit: u64) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        if !value.is_i64() && !value.is_u64() {
            return Err(self.wrong_kind(key, "a positive integer"));
        }
        match value.as_u64() {
            Some(count) if (1..=limit).contains(&count) => Ok(Some(count)),
            _ => Err(ConfigError::OutOfRange {
                origin: self.origin.into(),
                key: key.into(),
                limit,
                found: shown(value),
            }),
        }
    }

    /// True or false; absent means `default`.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.map.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong_kind(key, "true or false")),
        }
    }

    /// A string, unless absent or null.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong_kind(key, "a string")),
        }
    }

    /// A list of strings, unless absent or null.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value
            .as_array()
            .and_then(|items| items.iter().map(Value::as_str).collect())
            .map(Some)
            .ok_or_else(|| self.wrong_kind(key, "a list of strings"))
    }

    /// The value of `key` as it would be shown in a message.
    pub fn found(&self, key: &str) -> String {
        self.map.get(key).map_or_else(|| "nothing".into(), shown)
    }

    /// `key` is absent.
    pub fn missing(&self, key: &str, expected: &str, advice: &str) -> ConfigError {
        ConfigError::Missing {
            origin: self.origin.into(),
            key: key.into(),
            expected: expected.into(),
            advice: advice.into(),
        }
    }

    /// `key` holds a value of the wrong kind.
    pub fn wrong_kind(&self, key: &str, expected: &str) -> ConfigError {
        ConfigError::WrongKind {
            origin: self.origin.into(),
            key: key.into(),
            expected: expected.into(),
            found: self.found(key),
        }
    }

    /// `key` gives away a part that is not planned.
    pub fn unsupported(&self, key: &str, feature: &'static str, advice: &'static str) -> ConfigError {
        ConfigError::Unsupported {
            origin: self.origin.into(),
            key: key.into(),
            found: self.found(key),
            feature,
            advice,
        }
    }
}
