//! A profile being made: plain values, written as a folder that is sound, all of it or nothing.
//!
//! Deliberately absent: where the values come from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;
use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::check;
use crate::hardware::profile::defect::Defect;
use crate::hardware::profile::device::Device;
use crate::hardware::profile::error::ProfileError;
use crate::hardware::profile::folder::{BUILT_IN, EVALUATION, Folder, MANIFEST};
use crate::hardware::profile::manifest::{Stack, TableInfo, is_name};
use crate::hardware::profile::rules::{AllReduceRule, ElementwiseRule};
use crate::hardware::profile::spelling;
use crate::hardware::profile::table::{self, Row};
use crate::units::DType;

/// One family of a draft: rows, a fit, or both.
#[derive(Clone, Debug)]
pub struct DraftFamily {
    /// The family.
    pub family: KernelFamily,
    /// Provenance. Where there are rows, the element types are theirs, whatever stands here.
    pub info: TableInfo,
    /// Measured rows, in any order.
    pub rows: Vec<Row>,
    /// Text of `<family>.fit.json`.
    pub fit: Option<String>,
}

/// Everything a profile's folder says.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Name; the folder's last component must be the same.
    pub name: String,
    /// Lines for the head of the manifest, without `#`.
    pub comment: Option<String>,
    /// Device facts.
    pub device: Device,
    /// Where they come from.
    pub device_source: String,
    /// Software.
    pub stack: Stack,
    /// Families with rows or fits.
    pub families: Vec<DraftFamily>,
    /// The rule for all-reduce where it is estimated.
    pub all_reduce: Option<(AllReduceRule, TableInfo)>,
    /// Text of `evaluation.csv`.
    pub evaluation: Option<String>,
    /// The rule for elementwise kernels.
    pub elementwise: (ElementwiseRule, TableInfo),
}

/// Why a draft was not written.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// The folder is there.
    #[error("{dir} exists: choose another folder, or replace the profile in it with --force")]
    Exists {
        /// The folder.
        dir: String,
    },
    /// The name of a built-in profile.
    #[error("{dir}: `{name}` is the name of a built-in profile; choose another, such as {dir}_own")]
    BuiltIn {
        /// The folder.
        dir: String,
        /// The name.
        name: String,
    },
    /// What is there is no profile.
    #[error("{dir} exists and is no hardware profile (no {MANIFEST} in it): choose another folder")]
    NotAProfile {
        /// The folder.
        dir: String,
    },
    /// What would be written is no sound profile.
    #[error("nothing was written: {0}")]
    Unsound(ProfileError),
    /// The folder cannot be written.
    #[error("{path}: {reason}")]
    Io {
        /// The file or folder.
        path: String,
        /// Why.
        reason: io::Error,
    },
}

/// The name a profile in `dir` must have: its last component.
pub fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a profile may be written to `dir`: nothing is there, or an empty folder, or a profile and `force`.
///
/// # Errors
/// [`DraftError::Exists`], [`DraftError::NotAProfile`], or a folder that cannot be read.
fn check_target(dir: &Path, force: bool) -> Result<(), DraftError> {
    let shown = || dir.display().to_string();
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(reason) => return Err(DraftError::Io { path: shown(), reason }),
    };
    match (entries.next().is_none(), dir.join(MANIFEST).exists(), force) {
        (true, ..) | (_, true, true) => Ok(()),
        (_, true, false) => Err(DraftError::Exists { dir: shown() }),
        (_, false, _) => Err(DraftError::NotAProfile { dir: shown() }),
    }
}

/// Whether a new profile of one's own may be written to `dir`; returns its name. Better known before long work than
/// after it.
///
/// # Errors
/// Those of [`check_target`], a name no profile may have, or that of a built-in one, beside which it could never be
/// used.
pub fn check_new(dir: &Path, force: bool) -> Result<String, DraftError> {
    let name = name_of(dir);
    if !is_name(&name) {
        let defect = Defect::InvalidName { found: name };
        return Err(DraftError::Unsound(ProfileError::of(dir.display().to_string(), defect)));
    }
    if BUILT_IN.get_dir(&name).is_some() {
        return Err(DraftError::BuiltIn { dir: dir.display().to_string(), name });
    }
    check_target(dir, force).map(|()| name)
}

impl Draft {
    /// Names and contents of the files.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut draft = self.clone();
        let mut files = BTreeMap::new();
        for family in &mut draft.families {
            if !family.rows.is_empty() {
                family.info.dtypes = dtypes(&family.rows);
                let name = format!("{}.csv", family.family);
                files.insert(name, spelling::table(family.family, &family.rows).into_bytes());
            }
            if let Some(fit) = &family.fit {
                files.insert(format!("{}.fit.json", family.family), fit.clone().into_bytes());
            }
        }
        if let Some(evaluation) = &self.evaluation {
            files.insert(EVALUATION.to_string(), evaluation.clone().into_bytes());
        }
        files.insert(MANIFEST.to_string(), spelling::manifest(&draft).into_bytes());
        files
    }

    /// The profile without writing it, as if it stood in `dir`.
    ///
    /// # Errors
    /// The first defect of what would be written.
    pub fn profile(&self, dir: &Path) -> Result<HardwareProfile, ProfileError> {
        let folder = Folder::in_memory(dir, &self.files())?;
        let report = check::check_folder(folder.clone());
        match report.errors.into_iter().next() {
            Some(defect) => Err(defect),
            None => HardwareProfile::from_folder(folder).map_err(table::first),
        }
    }

    /// Writes the profile to `dir` if it is sound. With `force` it takes the place of a profile that is there; files
    /// beside that profile's own stay.
    ///
    /// # Errors
    /// See [`DraftError`]; `dir` is as it was then.
    pub fn write(&self, dir: &Path, force: bool) -> Result<HardwareProfile, DraftError> {
        check_target(dir, force)?;
        let profile = self.profile(dir).map_err(DraftError::Unsound)?;
        let io = |path: &Path| {
            let path = path.display().to_string();
            move |reason| DraftError::Io { path, reason }
        };
        let staging = beside(dir, "part");
        let written = fs::create_dir_all(&staging).and_then(|()| {
            self.files()
                .iter()
                .try_for_each(|(name, bytes)| files::write_atomically(&staging.join(name), bytes))
        });
        let done = written.and_then(|()| exchange(&staging, dir));
        if done.is_err() {
            let _ = fs::remove_dir_all(&staging);
        }
        done.map_err(io(dir))?;
        Ok(profile)
    }
}

fn dtypes(rows: &[Row]) -> Vec<DType> {
    let of = |row: &Row| match row.call {
        KernelCall::Gemm { dtype, .. }
        | KernelCall::AttentionPrefill { dtype, .. }
        | KernelCall::AttentionDecode { dtype, .. } => Some(dtype),
        KernelCall::AllReduce { .. } | KernelCall::Elementwise { .. } => None,
    };
    let set: BTreeSet<DType> = rows.iter().filter_map(of).collect();
    set.into_iter().collect()
}

/// A hidden folder on the same file system.
fn beside(dir: &Path, what: &str) -> PathBuf {
    dir.with_file_name(format!(".{}.{}.{what}", name_of(dir), std::process::id()))
}

/// Puts `staging` in the place of `dir`; what stands in `dir` and is no part of a profile moves along.
fn exchange(staging: &Path, dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        return fs::rename(staging, dir);
    }
    let old = beside(dir, "old");
    fs::rename(dir, &old)?;
    if let Err(e) = fs::rename(staging, dir) {
        fs::rename(&old, dir)?;
        return Err(e);
    }
    for entry in fs::read_dir(&old)? {
        let entry = entry?;
        let name = entry.file_name();
        if !Folder::owns(&name.to_string_lossy()) {
            fs::rename(entry.path(), dir.join(name))?;
        }
    }
    fs::remove_dir_all(&old)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A built-in profile as a draft.
    fn draft(name: &str) -> Draft {
        let profile = HardwareProfile::builtin(name).unwrap();
        let info = |family| profile.tables.get(&family).cloned().unwrap();
        let family = |family: KernelFamily| DraftFamily {
            family,
            info: info(family),
            rows: profile.rows(family).map(|rows| rows.to_vec()).unwrap_or_default(),
            fit: profile.fit_text(family).map(str::to_string),
        };
        Draft {
            name: name.to_string(),
            comment: Some("written\nby a test".to_string()),
            device: profile.device.clone(),
            device_source: profile.device_source.clone(),
            stack: profile.stack.clone(),
            families: [KernelFamily::Gemm, KernelFamily::AttentionPrefill, KernelFamily::AttentionDecode]
                .map(family)
                .to_vec(),
            all_reduce: profile.all_reduce.map(|rule| (rule, info(KernelFamily::AllReduce))),
            evaluation: profile.evaluation_text().map(str::to_string),
            elementwise: (profile.elementwise, info(KernelFamily::Elementwise)),
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for name in ["ascend_910b", "a100_sxm"] {
            let scratch = tempfile::tempdir().unwrap();
            let dir = scratch.path().join(name);
            draft(name).write(&dir, false).unwrap();
            let (old, new) = (HardwareProfile::builtin(name).unwrap(), HardwareProfile::load(&dir).unwrap());
            assert_eq!(
                (&new.device, &new.stack, new.elementwise),
                (&old.device, &old.stack, old.elementwise)
            );
            for family in [KernelFamily::Gemm, KernelFamily::AttentionDecode] {
                assert_eq!(new.fit_text(family), old.fit_text(family));
                assert_eq!(new.rows(family).ok(), old.rows(family).ok());
            }
        }
    }

    #[test]
    fn spreads_survive_and_unsound_drafts_leave_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("a100_sxm");
        let mut one = draft("a100_sxm");
        one.families.iter_mut().for_each(|family| family.fit = None);
        one.families[0].rows[7].spread = Some(0.0125);
        one.write(&dir, false).unwrap();
        let rows = HardwareProfile::load(&dir).unwrap().rows(KernelFamily::Gemm).unwrap();
        assert_eq!(rows.iter().filter_map(|row| row.spread).collect::<Vec<_>>(), [0.0125]);
        assert!(matches!(one.write(&dir, false), Err(DraftError::Exists { .. })));
        fs::write(dir.join("README.md"), "mine").unwrap();
        let twice = one.families[0].rows[0];
        one.families[0].rows.push(twice);
        let kept = fs::read_to_string(dir.join("gemm.csv")).unwrap();
        assert!(matches!(one.write(&dir, true), Err(DraftError::Unsound(_))));
        assert_eq!(fs::read_to_string(dir.join("gemm.csv")).unwrap(), kept);
        one.families[0].rows.pop();
        one.families.truncate(1);
        one.write(&dir, true).unwrap();
        assert!(dir.join("README.md").exists() && !dir.join("attention_decode.csv").exists());
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }
}
