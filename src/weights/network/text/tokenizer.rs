//! A model's tokenizer: text, or a conversation, to token ids.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::weights::checkpoint::fingerprint::hexadecimal;
use crate::weights::network::text::error::TextError;

/// `tokenizer.json` of a model.
pub struct Tokenizer {
    tokenizer: tokenizers::Tokenizer,
    path: PathBuf,
    hash: String,
    /// Tokens the tokenizer puts before every text, such as the one that begins a sequence.
    prefix: Vec<u32>,
    chat_markup: bool,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model directory; none where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, or is no tokenizer.
    pub fn of_model(directory: &Path) -> Result<Option<Self>, TextError> {
        let path = directory.join("tokenizer.json");
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).map_err(|error| TextError::Unreadable { path: path.clone(), error })?;
        let broken = |error: tokenizers::Error| TextError::Tokenizer {
            path: path.clone(),
            message: error.to_string(),
        };
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(&bytes).map_err(broken)?;
        tokenizer.with_truncation(None).map_err(broken)?;
        tokenizer.with_padding(None);
        let with = tokenizer.encode("a", true).map_err(broken)?;
        let without = tokenizer.encode("a", false).map_err(broken)?;
        let prefix = with.get_ids().iter().take_while(|id| without.get_ids().first() != Some(*id));
        let prefix: Vec<u32> = match with.get_ids().len() > without.get_ids().len() {
            true => prefix.copied().collect(),
            false => Vec::new(),
        };
        let chat_markup = tokenizer.token_to_id("<|im_start|>").is_some();
        let hash = hexadecimal(&Sha256::digest(&bytes));
        Ok(Some(Self { tokenizer, path, hash, prefix, chat_markup }))
    }

    /// SHA-256 of the file, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tokens put before every text.
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// Token ids of a text, with what the tokenizer adds to whole texts if `whole`.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn encode(&self, text: &str, whole: bool) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode(text, whole).map_err(|error| error.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    /// A conversation as text. Chat templates are programs and are not run; two plain forms take their place:
    /// `<|im_start|>role\ncontent<|im_end|>\n` a turn where the tokenizer knows `<|im_start|>` (ChatML), else
    /// `role: content\n\n` a turn.
    pub fn render(&self, messages: &[Message]) -> String {
        let turn = |message: &Message| match self.chat_markup {
            true => format!("<|im_start|>{}\n{}<|im_end|>\n", message.role, message.content),
            false => format!("{}: {}\n\n", message.role, message.content),
        };
        messages.iter().map(turn).collect()
    }
}
