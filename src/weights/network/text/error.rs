//! Every way calibration or evaluation text can be wrong.

use std::io;
use std::path::PathBuf;

/// Text that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file cannot be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file of another kind.
    #[error(
        "{path}: the kind of file is told by its name: expected .jsonl (one JSON object a line) or .txt (plain text)"
    )]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// Bytes that are not text.
    #[error("{path}, line {line}: not UTF-8; convert the file")]
    NotText {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// A line with nothing in it.
    #[error("{path}, line {line}: empty; expected one JSON object a line, so remove the line")]
    EmptyLine {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// A line that is not JSON.
    #[error("{path}, line {line}: not JSON: {message}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the reader said.
        message: String,
    },
    /// An object without any key that is known, or a value of another kind.
    #[error("{path}, line {line}: {found}; expected {expected}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is there.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// A token the model has no row for.
    #[error(
        "{path}, line {line}: token {token} is beyond the vocabulary of {vocabulary}; tokenise for this model"
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// Line, from 1 (of plain text: 1).
        line: usize,
        /// The token.
        token: u64,
        /// Rows of the embedding.
        vocabulary: usize,
    },
    /// A sample too short to predict anything.
    #[error("{path}, line {line}: {found} token(s); a sample needs at least 2, so remove the line")]
    ShortSample {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Tokens there.
        found: usize,
    },
    /// No tokenizer for text.
    #[error(
        "{path} is not there, and {data} holds text: put the model's tokenizer.json beside its weights, or give token ids \
         (`tokens`)"
    )]
    NoTokenizer {
        /// Where it was looked for.
        path: PathBuf,
        /// The text.
        data: PathBuf,
    },
    /// A tokenizer that cannot be used.
    #[error("{path}: not a tokenizer: {message}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        message: String,
    },
    /// Text the tokenizer fails on.
    #[error("{path}, line {line}: the tokenizer fails: {message}")]
    Tokenising {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What it said.
        message: String,
    },
    /// Fewer samples than were asked for.
    #[error(
        "{path} is shorter than needed: {asked} samples of {seq_len} tokens asked, only {found} there; give more text or ask for fewer"
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// Samples asked for.
        asked: usize,
        /// Tokens a sample.
        seq_len: usize,
        /// Samples there.
        found: usize,
    },
    /// No sample at all.
    #[error("{path}: no samples; expected text or token ids")]
    Nothing {
        /// The file.
        path: PathBuf,
    },
    /// Samples that can hold nothing.
    #[error("a sequence length of {found}: expected at least {expected} tokens")]
    SequenceLength {
        /// What was asked for.
        found: usize,
        /// The shortest that makes sense.
        expected: usize,
    },
}
