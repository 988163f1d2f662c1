//! Scores that cannot be used.

/// Why scores cannot be read or used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScoresError {
    /// The file is not one of scores.
    #[error("line {line}: {problem}")]
    File {
        /// Line, counted from 1.
        line: u64,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
    /// The file was made by another version.
    #[error(
        "format {found} of scores; this version reads {expected}: score again, or use the version that wrote it"
    )]
    Format {
        /// What was found.
        found: u32,
        /// What is read.
        expected: u32,
    },
    /// Scores of another run cannot be added.
    #[error("part {part} is of another run: its {what} differs; score it again with the same arguments")]
    OtherRun {
        /// The position of the file, from 1.
        part: usize,
        /// What differs.
        what: &'static str,
    },
    /// A part is there twice.
    #[error("part {part} is there twice: expected each once")]
    Twice {
        /// The part.
        part: u64,
    },
    /// Rows are missing.
    #[error("{found} of {expected} scores are there, of parts {parts:?} of {shards}: merge all parts first")]
    Incomplete {
        /// Rows found.
        found: u64,
        /// Rows of a whole set.
        expected: u64,
        /// Parts that are there.
        parts: Vec<u64>,
        /// Of how many.
        shards: u64,
    },
    /// A change that was not scored and lies outside of those that were.
    #[error("no score covers {what}: score it ({hint})")]
    Missing {
        /// What is asked for.
        what: String,
        /// Which option of `archplan score` measures it.
        hint: &'static str,
    },
    /// Too few tried shapes.
    #[error("{found} tried shapes: expected at least {expected} to fit and judge the interaction")]
    TooFewTries {
        /// Tried shapes.
        found: usize,
        /// How many are needed.
        expected: usize,
    },
}
