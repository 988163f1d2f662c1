//! One stage: a command line of this tool, what it reads and what it writes.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::names::{closest, did_you_mean};

/// The stages, in the order they run. Another one (trying the best shapes, say) takes its place here and in
/// [`crate::pipeline::stages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StageName {
    /// Statistics of the parent's activations.
    Calibrate,
    /// What single cuts cost, measured.
    Score,
    /// The shape.
    Search,
    /// The child.
    Prune,
    /// Its loss on held-out text, beside its parent's.
    Evaluate,
    /// Whether it is sound and loads.
    Verify,
    /// What came out, on one page.
    Report,
}

const NAMES: [(&str, StageName); 7] = [
    ("calibrate", StageName::Calibrate),
    ("score", StageName::Score),
    ("search", StageName::Search),
    ("prune", StageName::Prune),
    ("evaluate", StageName::Evaluate),
    ("verify", StageName::Verify),
    ("report", StageName::Report),
];

impl StageName {
    /// Such as `calibrate`.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, stage)| *stage == self).map_or("", |(name, _)| name)
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for StageName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, stage)| *stage).ok_or_else(|| {
            let suggestion = did_you_mean(closest(text, known.iter().copied()));
            format!("no such stage{suggestion} (expected {})", known.join(", "))
        })
    }
}

/// A file or folder under two names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// As in the plan file, or for what a run writes from the work directory, `WORK/…`: the same wherever the whole lies.
    pub typed: String,
    /// As this process opens it.
    pub path: PathBuf,
}

/// One word of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// As it is.
    Text(String),
    /// A path.
    Place(Place),
    /// As it is, but without influence on the result, such as a number of threads.
    Aside(String),
}

/// Something on disk, and how its content is told from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Artefact {
    /// A file, by all its bytes.
    File(Place),
    /// A checkpoint directory, by its fingerprint and the other files in it.
    Checkpoint(Place),
    /// A folder, by all the files in it.
    Folder(Place),
}

impl Artefact {
    /// Where it is.
    pub fn place(&self) -> &Place {
        match self {
            Artefact::File(place) | Artefact::Checkpoint(place) | Artefact::Folder(place) => place,
        }
    }
}

/// How a stage is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// By a command; what it prints goes to the file, if there is one.
    Command(Option<Place>),
    /// By [`crate::pipeline::summary`].
    Summary,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name.
    pub name: StageName,
    /// The command line after `archplan`.
    pub words: Vec<Word>,
    /// How it is done.
    pub action: Action,
    /// What it reads.
    pub inputs: Vec<Artefact>,
    /// What it writes that others read.
    pub outputs: Vec<Artefact>,
    /// Files and folders that are cleared away before it starts.
    pub written: Vec<PathBuf>,
    /// What an interrupted run leaves and the same command takes up.
    pub unfinished: Option<PathBuf>,
}

/// Words of a command line as a process takes them.
pub fn arguments(words: &[Word]) -> Vec<OsString> {
    let argument = |word: &Word| match word {
        Word::Text(text) | Word::Aside(text) => text.into(),
        Word::Place(place) => place.path.clone().into(),
    };
    words.iter().map(argument).collect()
}

/// Words of a command line, as this process would type them.
pub fn typed(words: &[Word]) -> Vec<String> {
    let text = |word: &Word| match word {
        Word::Text(text) | Word::Aside(text) => text.clone(),
        Word::Place(place) => place.path.display().to_string(),
    };
    words.iter().map(text).collect()
}

/// Words of a command line that decide the result, the same wherever the whole lies.
pub fn identity(words: &[Word]) -> Vec<String> {
    let text = |word: &Word| match word {
        Word::Text(text) => Some(text.clone()),
        Word::Place(place) => Some(place.typed.clone()),
        Word::Aside(_) => None,
    };
    words.iter().filter_map(text).collect()
}

/// The command line of a stage for a shell.
pub fn shell(stage: &Stage) -> String {
    let mut line = shell_words(&typed(&stage.words));
    if let Action::Command(Some(printed)) = &stage.action {
        line.push_str(&format!(" > {}", quoted(&printed.path.display().to_string())));
    }
    line
}

/// Words as a shell takes them, after `archplan`.
pub fn shell_words(words: &[String]) -> String {
    let words = words.iter().map(|word| quoted(word));
    std::iter::once("archplan".to_string()).chain(words).collect::<Vec<_>>().join(" ")
}

/// One word, quoted where a shell would need it.
pub fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_.,=/:+".contains(c));
    if plain { word.to_string() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// A path joined to the folder it is meant from.
pub fn place(typed: &str, folder: &Path) -> Place {
    Place { typed: typed.to_string(), path: folder.join(typed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_have_names_and_an_order() {
        for (name, stage) in NAMES {
            assert_eq!((name.parse(), stage.to_string().as_str()), (Ok(stage), name));
        }
        assert!(NAMES.is_sorted_by_key(|(_, stage)| *stage));
        assert!("prun".parse::<StageName>().unwrap_err().contains("did you mean `prune`?"));
    }

    #[test]
    fn a_command_has_a_form_to_type_and_one_to_compare() {
        let words = [
            Word::Text("evaluate".into()),
            Word::Place(place("my model", Path::new("a"))),
            Word::Aside("--threads".into()),
        ];
        assert_eq!(identity(&words), ["evaluate", "my model"]);
        assert_eq!(shell_words(&typed(&words)), "archplan evaluate 'a/my model' --threads");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
