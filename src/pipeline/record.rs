//! `stages/NAME.json`: what went into a stage and what came out, and whether that still stands.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files;
use crate::pipeline::content::{ContentError, Contents};
use crate::pipeline::stage::{Stage, StageName, identity};

/// What decides the result of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Version of this tool.
    pub version: String,
    /// The command line, the same wherever the whole lies.
    pub words: Vec<String>,
    /// SHA-256 of each input.
    pub inputs: BTreeMap<String, String>,
}

/// One stage as it was done, or begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The stage.
    pub stage: String,
    /// What decides the result.
    pub key: Key,
    /// SHA-256 of each output; empty until it is finished.
    pub outputs: BTreeMap<String, String>,
    /// When it was finished (UTC); `None`: begun.
    pub finished: Option<String>,
    /// How long it took when it was finished last.
    pub seconds: Option<f64>,
}

/// Why a stage has to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It never did, or its record cannot be read.
    New,
    /// It was broken off.
    Interrupted,
    /// It was asked for with `--from`.
    Asked,
    /// The tool is of another version.
    Version,
    /// The command line is another.
    Command,
    /// This input changed.
    Input(String),
    /// This output changed or is gone.
    Output(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::New => f.write_str("not done yet"),
            Reason::Interrupted => f.write_str("was interrupted"),
            Reason::Asked => f.write_str("asked for"),
            Reason::Version => f.write_str("done by another version of archplan"),
            Reason::Command => f.write_str("its settings changed"),
            Reason::Input(name) => write!(f, "{name} changed"),
            Reason::Output(name) => write!(f, "{name} is gone or changed"),
        }
    }
}

impl Key {
    /// What would decide the result now.
    ///
    /// # Errors
    /// An input that cannot be read.
    pub fn of(stage: &Stage, contents: &mut Contents) -> Result<Self, ContentError> {
        let inputs = stage.inputs.iter().map(|input| Ok((input.place().typed.clone(), contents.of(input)?)));
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").into(),
            words: identity(&stage.words),
            inputs: inputs.collect::<Result<_, ContentError>>()?,
        })
    }
}

impl Record {
    /// Reads the record of a stage, if there is one that can be read.
    pub fn read(stages: &Path, name: StageName) -> Option<Self> {
        serde_json::from_slice(&fs::read(stages.join(format!("{name}.json"))).ok()?).ok()
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self, stages: &Path) -> io::Result<()> {
        let text = format!("{:#}\n", serde_json::json!(self));
        files::write_atomically(&stages.join(format!("{}.json", self.stage)), text.as_bytes())
    }

    /// Why the stage cannot stay as it is; `None` where all is as recorded.
    pub fn outdated(&self, key: &Key, stage: &Stage, contents: &mut Contents) -> Option<Reason> {
        if self.key.version != key.version {
            return Some(Reason::Version);
        }
        if self.key.words != key.words {
            return Some(Reason::Command);
        }
        let changed = |(name, hash): &(&String, &String)| self.key.inputs.get(*name) != Some(*hash);
        if let Some((name, _)) = key.inputs.iter().find(changed) {
            return Some(Reason::Input(name.clone()));
        }
        if self.finished.is_none() {
            return Some(Reason::Interrupted);
        }
        let other = stage
            .outputs
            .iter()
            .find(|output| contents.of(output).ok().as_ref() != self.outputs.get(&output.place().typed));
        other.map(|output| Reason::Output(output.place().typed.clone()))
    }
}
