//! What can be wrong with a plan file, and where.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::hardware::profile::error::Lines;
use crate::names::{closest, did_you_mean};

/// A plan file that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}; give a plan file, such as plan.toml (docs/run.md)", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{file}:{line}:{column}: {reason}")]
    Wrong {
        /// The file.
        file: String,
        /// Line, from 1.
        line: u32,
        /// Column in characters, from 1.
        column: u32,
        /// What is wrong there.
        reason: String,
    },
}

impl PlanError {
    /// Something wrong at a range of bytes of the file's text.
    pub(crate) fn at(path: &Path, text: &str, span: Range<usize>, reason: String) -> Self {
        let place = Lines::of(text.as_bytes()).at(span.start);
        Self::Wrong { file: path.display().to_string(), line: place.line, column: place.column, reason }
    }

    /// What the reader of TOML refused.
    pub(crate) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        let suggestion = did_you_mean(meant(&message));
        Self::at(path, text, error.span().unwrap_or(0..0), format!("{message}{suggestion}"))
    }
}

/// The known name that was meant by an unknown key or value: serde names the one found first and then those it knows, all
/// in backticks.
fn meant(message: &str) -> Option<&str> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let found = quoted.next()?;
    closest(found, quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_meant_is_found_in_the_message() {
        assert_eq!(meant("unknown field `smaples`, expected one of `data`, `samples`"), Some("samples"));
        assert_eq!(meant("unknown field `xyz`, expected `data`"), None);
        assert_eq!(meant("missing field `data`"), None);
    }
}
