//! Calibration and evaluation text: files to samples of token ids.
//!
//! `.jsonl`: one object a line, with `text`, `messages` (objects of `role` and `content`), or `tokens` / `input_ids`; each
//! line is one sample, cut at the sequence length, and may be shorter (2 tokens at least). `.txt`: plain text, cut into
//! consecutive samples of exactly the sequence length; what is left over at the end is a sample only if there is no
//! other. What a tokenizer puts before a text (a token that begins a sequence) stands before every sample of text, within
//! its length. The first samples of a file are taken, in their order.

pub mod error;
mod line;
pub mod tokenizer;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::weights::checkpoint::fingerprint::hexadecimal;
use crate::weights::network::text::error::TextError;
use crate::weights::network::text::line::Content;
use crate::weights::network::text::tokenizer::Tokenizer;

/// Bytes of plain text tokenised at a time, to the end of a line.
const PIECE: usize = 1 << 16;

/// Which samples are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How many; none = all there are.
    pub samples: Option<usize>,
    /// Tokens a sample has at most.
    pub seq_len: usize,
    /// Rows of the model's embedding.
    pub vocabulary: usize,
}

/// Samples of token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// The samples, in the order of the file.
    pub sequences: Vec<Vec<u32>>,
    /// SHA-256 of the whole data file, in hexadecimal.
    pub data_hash: String,
    /// SHA-256 of the tokenizer, in hexadecimal; none where the file holds token ids.
    pub tokenizer_hash: Option<String>,
}

/// Reads samples from `data`, tokenised by `tokenizer.json` of the directory `model`.
///
/// # Errors
/// See [`TextError`]; each says the file, and the line where there is one.
pub fn read(data: &Path, model: &Path, request: Request) -> Result<Samples, TextError> {
    let kind = data.extension().map(|e| e.to_ascii_lowercase());
    let lines = match kind.as_ref().and_then(|e| e.to_str()) {
        Some("jsonl") => true,
        Some("txt") => false,
        _ => return Err(TextError::Kind { path: data.into() }),
    };
    let mut reader = Reader::open(data, model, request)?;
    let sequences = if lines { reader.samples_of_lines()? } else { reader.samples_of_text()? };
    let found = sequences.len();
    match request.samples {
        Some(asked) if found < asked => {
            return Err(TextError::Short { path: data.into(), asked, seq_len: request.seq_len, found });
        }
        None if found == 0 => return Err(TextError::Nothing { path: data.into() }),
        _ => {}
    }
    let data_hash = reader.rest_of_hash()?;
    Ok(Samples { sequences, data_hash, tokenizer_hash: reader.tokenizer.map(|t| t.hash().into()) })
}

struct Reader {
    file: BufReader<File>,
    hash: Sha256,
    path: PathBuf,
    model: PathBuf,
    /// Read when the first text is met.
    tokenizer: Option<Tokenizer>,
    request: Request,
    /// Line that was read last, from 1.
    line: usize,
}

impl Reader {
    fn open(data: &Path, model: &Path, request: Request) -> Result<Self, TextError> {
        if request.seq_len < 2 {
            return Err(TextError::SequenceLength { found: request.seq_len, expected: 2 });
        }
        let file = File::open(data).map_err(|error| TextError::Unreadable { path: data.into(), error })?;
        Ok(Self {
            file: BufReader::new(file),
            hash: Sha256::new(),
            path: data.into(),
            model: model.into(),
            tokenizer: None,
            request,
            line: 0,
        })
    }

    /// The next line with its end, as text; none at the end of the file.
    fn next_line(&mut self) -> Result<Option<String>, TextError> {
        let mut bytes = Vec::new();
        let read = self.file.read_until(b'\n', &mut bytes);
        read.map_err(|error| TextError::Unreadable { path: self.path.clone(), error })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        self.hash.update(&bytes);
        let not_text = |_| TextError::NotText { path: self.path.clone(), line: self.line };
        String::from_utf8(bytes).map(Some).map_err(not_text)
    }

    /// Hash of the whole file, of which the first lines are read.
    fn rest_of_hash(&mut self) -> Result<String, TextError> {
        loop {
            let part = self.file.fill_buf();
            let part = part.map_err(|error| TextError::Unreadable { path: self.path.clone(), error })?;
            if part.is_empty() {
                return Ok(hexadecimal(&std::mem::take(&mut self.hash).finalize()));
            }
            self.hash.update(part);
            let read = part.len();
            self.file.consume(read);
        }
    }

    fn enough(&self, found: usize) -> bool {
        self.request.samples.is_some_and(|asked| found >= asked)
    }

    fn samples_of_lines(&mut self) -> Result<Vec<Vec<u32>>, TextError> {
        let mut samples = Vec::new();
        while !self.enough(samples.len()) {
            let Some(text) = self.next_line()? else { break };
            let mut sample = match line::read(&self.path, self.line, text.trim())? {
                Content::Tokens(tokens) => self.checked(&tokens)?,
                Content::Text(text) => self.encode(&text, true)?,
                Content::Messages(messages) => {
                    let text = self.tokenizer()?.render(&messages);
                    self.encode(&text, true)?
                }
            };
            sample.truncate(self.request.seq_len);
            if sample.len() < 2 {
                let path = self.path.clone();
                return Err(TextError::ShortSample { path, line: self.line, found: sample.len() });
            }
            samples.push(sample);
        }
        Ok(samples)
    }

    fn samples_of_text(&mut self) -> Result<Vec<Vec<u32>>, TextError> {
        let prefix = self.tokenizer()?.prefix().to_vec();
        let room = self.request.seq_len.saturating_sub(prefix.len());
        if room < 1 {
            let (found, expected) = (self.request.seq_len, prefix.len() + 1);
            return Err(TextError::SequenceLength { found, expected });
        }
        let (mut samples, mut tokens, mut piece) = (Vec::new(), Vec::new(), String::new());
        loop {
            let line = self.next_line()?;
            let ended = line.is_none();
            piece.push_str(&line.unwrap_or_default());
            if piece.len() >= PIECE || (ended && !piece.is_empty()) {
                tokens.extend(self.encode(&piece, false)?);
                piece.clear();
            }
            let whole = tokens.len() / room * room;
            let windows = tokens.get(..whole).unwrap_or(&[]).chunks_exact(room);
            samples.extend(windows.map(|window| [&prefix, window].concat()));
            tokens.drain(..whole);
            if self.enough(samples.len()) || ended {
                break;
            }
        }
        if samples.is_empty() && prefix.len() + tokens.len() >= 2 {
            samples.push([prefix, tokens].concat());
        }
        samples.truncate(self.request.samples.unwrap_or(usize::MAX));
        Ok(samples)
    }

    fn tokenizer(&mut self) -> Result<&Tokenizer, TextError> {
        let read = match self.tokenizer.take() {
            Some(tokenizer) => Some(tokenizer),
            None => Tokenizer::of_model(&self.model)?,
        };
        self.tokenizer = read;
        self.tokenizer.as_ref().ok_or_else(|| TextError::NoTokenizer {
            path: self.model.join("tokenizer.json"),
            data: self.path.clone(),
        })
    }

    fn encode(&mut self, text: &str, whole: bool) -> Result<Vec<u32>, TextError> {
        let tokens = self.tokenizer()?.encode(text, whole);
        let failed = |message| TextError::Tokenising { path: self.path.clone(), line: self.line, message };
        let tokens: Vec<u64> = tokens.map_err(failed)?.into_iter().map(u64::from).collect();
        self.checked(&tokens)
    }

    /// Token ids that the model has rows for.
    fn checked(&self, tokens: &[u64]) -> Result<Vec<u32>, TextError> {
        let vocabulary = self.request.vocabulary;
        let check = |&token: &u64| match u32::try_from(token) {
            Ok(id) if (id as usize) < vocabulary => Ok(id),
            _ => Err(TextError::Token { path: self.path.clone(), line: self.line, token, vocabulary }),
        };
        tokens.iter().map(check).collect()
    }
}

#[cfg(test)]
mod tests;
