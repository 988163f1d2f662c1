//! Studies that cannot be read or go on.

use crate::names::{closest, did_you_mean};

/// Why a study cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StudyError {
    /// The file does not begin as one.
    #[error("no study: expected a file that `archplan search --study FILE` began")]
    NoStudy,
    /// A line that is none.
    #[error("line {line}: {problem}")]
    Line {
        /// Line, counted from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// It was made by another version.
    #[error("format {found} of a study; this version reads {expected}: begin a new one")]
    Format {
        /// What was found.
        found: u32,
        /// What is read.
        expected: u32,
    },
    /// A header after the first line.
    #[error("a second header: expected one study per file")]
    SecondHeader,
    /// A candidate that is not in the study.
    #[error("`{id}` is no candidate of this study{suggestion}; expected the id that `archplan ask` printed")]
    Unknown {
        /// What was given.
        id: String,
        /// The closest known.
        suggestion: String,
    },
    /// A candidate whose parts do not fit together.
    #[error("candidate `{id}`: {problem}")]
    Candidate {
        /// Its name.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// A result that is none.
    #[error("`{id}`: {problem}")]
    Result {
        /// The candidate.
        id: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// It belongs to other scores or another parent.
    #[error("the study belongs to another {what}; name another --study, or delete it to begin anew")]
    Other {
        /// What differs.
        what: &'static str,
    },
    /// Too few tried shapes.
    #[error("{found} tried shapes: expected at least {expected}; try more of them (archplan ask, try, tell)")]
    TooFew {
        /// Tried shapes.
        found: usize,
        /// How many are needed.
        expected: usize,
    },
}

impl StudyError {
    /// Of a name that no candidate has.
    pub fn unknown<'a>(id: &str, known: impl Iterator<Item = &'a str>) -> Self {
        Self::Unknown { id: id.to_string(), suggestion: did_you_mean(closest(id, known)) }
    }
}
