//! Why a report cannot be written or read.

use crate::model::export::ExportError;
use crate::report::chart::render::RenderError;

/// Why a report cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder holds something else.
    #[error(
        "{dir} is not empty and no result of an earlier `{made_by}`: name another folder with --out, or add --force to write there all the same (only files of a result are replaced)"
    )]
    Occupied {
        /// The folder.
        dir: String,
        /// The command whose results may be replaced.
        made_by: &'static str,
    },
    /// The path is a file.
    #[error("{dir} is a file: --out needs a folder")]
    NotAFolder {
        /// The path.
        dir: String,
    },
    /// Something that is no file stands where one has to go.
    #[error("{path} is in the way of a file of the result: move it, or name another folder with --out")]
    Blocked {
        /// What is in the way.
        path: String,
    },
    /// The plan cannot be read.
    #[error("{path}: {reason}; name a plan.json, or the folder that `archplan search … --out DIR` wrote")]
    Unreadable {
        /// The file.
        path: String,
        /// Why it failed.
        reason: std::io::Error,
    },
    /// The file system refuses.
    #[error("{path}: {reason}")]
    Io {
        /// What was read or written.
        path: String,
        /// Why it failed.
        reason: std::io::Error,
    },
    /// The file is no plan.
    #[error(
        "{path}: not a plan of this version of archplan ({reason}); make it anew with `archplan search … --out DIR`"
    )]
    NotAPlan {
        /// The file.
        path: String,
        /// What is wrong, with line and column.
        reason: serde_json::Error,
    },
    /// The plan contradicts itself.
    #[error("{path}: {fault}; make it anew with `archplan search … --out DIR`")]
    Inconsistent {
        /// The file.
        path: String,
        /// The key, and what is wrong with it.
        fault: String,
    },
    /// A table or document cannot be put together.
    #[error("{name}: {reason}")]
    Format {
        /// The file that was to be written.
        name: &'static str,
        /// Why not.
        reason: String,
    },
    /// The picture cannot be drawn.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The chosen shape has no configuration.
    #[error(transparent)]
    Export(#[from] ExportError),
}
