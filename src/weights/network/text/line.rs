//! One line of a `.jsonl` file.

use std::path::Path;

use serde_json::{Map, Value};

use crate::weights::network::text::error::TextError;
use crate::weights::network::text::tokenizer::Message;

const KEYS: &str = "a key `text`, `messages`, `tokens` or `input_ids`";
const MESSAGES: &str = "`messages`: a list of objects with texts `role` and `content`";

/// What a line holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Text(String),
    Messages(Vec<Message>),
    Tokens(Vec<u64>),
}

/// Reads line number `line`.
pub(super) fn read(path: &Path, line: usize, text: &str) -> Result<Content, TextError> {
    if text.is_empty() {
        return Err(TextError::EmptyLine { path: path.into(), line });
    }
    let wrong = |found: String, expected: &'static str| {
        Err(TextError::Shape { path: path.into(), line, found, expected })
    };
    let object = match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        Ok(other) => return wrong(kind(&other).into(), "a JSON object"),
        Err(error) => {
            return Err(TextError::Json { path: path.into(), line, message: error.to_string() });
        }
    };
    for key in ["tokens", "input_ids"] {
        if let Some(value) = object.get(key) {
            let tokens = value.as_array().and_then(|a| a.iter().map(Value::as_u64).collect());
            return match tokens {
                Some(tokens) => Ok(Content::Tokens(tokens)),
                None => wrong(format!("`{key}` is not that"), "a list of token ids, integers from 0"),
            };
        }
    }
    if let Some(value) = object.get("text") {
        return match value {
            Value::String(text) => Ok(Content::Text(text.clone())),
            other => wrong(format!("`text` is {}", kind(other)), "a string"),
        };
    }
    if let Some(value) = object.get("messages") {
        let read = value.as_array().and_then(|list| list.iter().map(message).collect());
        return match read {
            Some(messages) => Ok(Content::Messages(messages)),
            None => wrong("`messages` is not that".into(), MESSAGES),
        };
    }
    wrong(keys(&object), KEYS)
}

fn message(value: &Value) -> Option<Message> {
    let text = |key: &str| value.get(key)?.as_str().map(String::from);
    Some(Message { role: text("role")?, content: text("content")? })
}

fn keys(object: &Map<String, Value>) -> String {
    match object.is_empty() {
        true => "an object without keys".into(),
        false => format!("keys {}", object.keys().cloned().collect::<Vec<_>>().join(", ")),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
