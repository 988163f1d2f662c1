//! Why a run stopped.

use std::io;
use std::path::PathBuf;

use crate::pipeline::content::ContentError;
use crate::pipeline::stage::StageName;
use crate::pipeline::summary::SummaryError;

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The plan has no such stage.
    #[error("the plan has no stage {0}: it lacks [{0}]")]
    NoStage(StageName),
    /// `--from` lies behind `--until`.
    #[error("--from {from} comes after --until {until}: nothing would run")]
    Nothing {
        /// The first stage that was asked for.
        from: StageName,
        /// The last one.
        until: StageName,
    },
    /// Something a stage reads is not there.
    #[error("stage {stage}: {error}")]
    Input {
        /// The stage.
        stage: StageName,
        /// What is wrong with it.
        error: ContentError,
    },
    /// A stage ended well but has not left what it should have.
    #[error("stage {stage} ended, but what it should have written is not there: {error}")]
    Output {
        /// The stage.
        stage: StageName,
        /// What is wrong with it.
        error: ContentError,
    },
    /// The command of a stage failed, and said why.
    #[error("stage {stage} failed{}", how(*code))]
    Stage {
        /// The stage.
        stage: StageName,
        /// Its exit code; `None` where it was killed.
        code: Option<i32>,
    },
    /// The search would not take its settings, and said why.
    #[error("stage search would fail{}: nothing was run", how(*code))]
    Rehearsal {
        /// Its exit code; `None` where it was killed.
        code: Option<i32>,
    },
    /// The result cannot be summed up.
    #[error("stage report: {0}")]
    Summary(#[from] SummaryError),
    /// The system refuses.
    #[error("stage {stage}: {}: {error}", path.display())]
    Io {
        /// The stage.
        stage: StageName,
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

fn how(code: Option<i32>) -> String {
    code.map_or_else(|| " (killed)".into(), |code| format!(" with exit code {code}"))
}
