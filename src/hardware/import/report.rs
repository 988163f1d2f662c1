//! What an import took, what it left and why: every row of every file it read is counted.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::hardware::kernel::KernelFamily;

/// What became of a source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Files whose rows were read.
    pub files: Vec<FileReport>,
    /// Files of the same system that were not read, and why.
    pub left_out: Vec<LeftOut>,
}

/// One file: `rows` is the sum of `kept` and `skipped`.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// The file, below the source.
    pub file: String,
    /// Its kernel family.
    pub family: KernelFamily,
    /// Rows of the file (for files with several kernels a row: kernels).
    pub rows: usize,
    /// Rows of the profile's table that it gave, by element type, or by backend for all-reduce.
    pub kept: BTreeMap<String, usize>,
    /// Rows that are not in the profile, by reason; in JSON a list of `reason` and `rows`.
    #[serde(serialize_with = "as_list")]
    pub skipped: BTreeMap<String, usize>,
}

fn as_list<S: Serializer>(skipped: &BTreeMap<String, usize>, out: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Skipped<'a> {
        reason: &'a str,
        rows: usize,
    }
    out.collect_seq(skipped.iter().map(|(reason, rows)| Skipped { reason, rows: *rows }))
}

impl FileReport {
    pub(crate) fn new(file: &str, family: KernelFamily) -> Self {
        Self { file: file.to_string(), family, rows: 0, kept: BTreeMap::new(), skipped: BTreeMap::new() }
    }
}

/// A file that was not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The file, below the source.
    pub file: String,
    /// Why.
    pub reason: String,
}

impl Report {
    /// Rows of a family's table, by element type or backend.
    pub fn kept(&self, family: KernelFamily) -> BTreeMap<String, usize> {
        let mut sum = BTreeMap::new();
        for file in self.files.iter().filter(|file| file.family == family) {
            for (kind, rows) in &file.kept {
                *sum.entry(kind.clone()).or_default() += rows;
            }
        }
        sum
    }

    /// Rows read and not kept, by reason, the most frequent first.
    pub fn reasons(&self) -> Vec<(String, usize)> {
        let mut sum: BTreeMap<&str, usize> = BTreeMap::new();
        for (reason, rows) in self.files.iter().flat_map(|file| &file.skipped) {
            *sum.entry(reason).or_default() += rows;
        }
        let mut reasons: Vec<_> = sum.into_iter().map(|(reason, rows)| (reason.to_string(), rows)).collect();
        reasons.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        reasons
    }
}
