//! The files of one profile, read once: from the binary or from a folder.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use crate::hardware::kernel::KernelFamily;
use crate::hardware::profile::defect::Defect;
use crate::hardware::profile::error::{self, Lines, ProfileError};
use crate::names;

/// Every shipped profile.
pub(crate) static BUILT_IN: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/hardware_profiles");

/// Where a profile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Embedded in the binary.
    BuiltIn,
    /// A folder.
    Folder(PathBuf),
}

/// Names and contents of the files that matter to a profile.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) origin: Origin,
    /// Last component of the path: the name the profile must have.
    pub(crate) name: String,
    files: BTreeMap<String, Cow<'static, [u8]>>,
}

pub(super) const MANIFEST: &str = "profile.toml";
pub(super) const EVALUATION: &str = "evaluation.csv";

impl Folder {
    /// A folder of the binary.
    pub(crate) fn embedded(dir: &'static Dir<'static>) -> Result<Self, ProfileError> {
        let base = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = base(dir.path());
        let files = dir.files().map(|file| (base(file.path()), Cow::Borrowed(file.contents())));
        Self::of(Origin::BuiltIn, name, files.collect())
    }

    /// Reads a folder on disk: all files a profile may have, and no other.
    pub(crate) fn on_disk(dir: &Path) -> Result<Self, ProfileError> {
        let failed = |path: &Path, e: std::io::Error| {
            ProfileError::of(path.display().to_string(), Defect::Unreadable { reason: e.to_string() })
        };
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(|e| failed(dir, e))? {
            let path = entry.map_err(|e| failed(dir, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_data(&name) && path.is_file() {
                let bytes = std::fs::read(&path).map_err(|e| failed(&path, e))?;
                files.insert(name, Cow::Owned(bytes));
            }
        }
        // `dir` may be `.` or end in `..`: the name that counts is the real one.
        let real = dir.canonicalize().map_err(|e| failed(dir, e))?;
        let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::of(Origin::Folder(dir.to_path_buf()), name, files)
    }

    /// Files already in memory, as if they stood in folder `path`.
    pub(crate) fn in_memory(path: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<Self, ProfileError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files = files.iter().map(|(name, bytes)| (name.clone(), Cow::Owned(bytes.clone())));
        Self::of(Origin::Folder(path.to_path_buf()), name, files.collect())
    }

    /// Whether a file of that name is part of a profile; others beside it are left alone.
    pub(crate) fn owns(name: &str) -> bool {
        is_data(name)
    }

    fn of(
        origin: Origin,
        name: String,
        files: BTreeMap<String, Cow<'static, [u8]>>,
    ) -> Result<Self, ProfileError> {
        let files = files.into_iter().filter(|(name, _)| is_data(name)).collect();
        let folder = Self { origin, name, files };
        match folder.files.keys().find_map(|name| Some((name, family_of(name).err()?))) {
            Some((name, defect)) => Err(ProfileError::of(folder.path_of(name), defect)),
            None => Ok(folder),
        }
    }

    /// The folder as a person would name it.
    pub(crate) fn path(&self) -> String {
        match &self.origin {
            Origin::BuiltIn => format!("built-in/{}", self.name),
            Origin::Folder(path) => path.display().to_string(),
        }
    }

    /// One of its files as a person would name it.
    pub(crate) fn path_of(&self, file: &str) -> String {
        match &self.origin {
            Origin::BuiltIn => format!("built-in/{}/{file}", self.name),
            Origin::Folder(path) => path.join(file).display().to_string(),
        }
    }

    /// Path and text of the manifest, without a byte-order mark.
    pub(crate) fn manifest(&self) -> Result<(String, &str), ProfileError> {
        if !self.files.contains_key(MANIFEST) {
            return Err(ProfileError::of(self.path(), Defect::MissingManifest));
        }
        let text = self.text(MANIFEST)?.unwrap_or_default();
        Ok((self.path_of(MANIFEST), text))
    }

    /// The family's table.
    pub(crate) fn table(&self, family: KernelFamily) -> Option<&[u8]> {
        self.files.get(&format!("{family}.csv")).map(AsRef::as_ref)
    }

    /// The family's fit.
    pub(crate) fn fit(&self, family: KernelFamily) -> Result<Option<&str>, ProfileError> {
        self.text(&format!("{family}.fit.json"))
    }

    /// The stated errors.
    pub(crate) fn evaluation(&self) -> Result<Option<&str>, ProfileError> {
        self.text(EVALUATION)
    }

    /// Files in the order of their names.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_ref()))
    }

    /// Files of kernel families in the order of their names.
    pub(crate) fn family_files(&self) -> impl Iterator<Item = (&str, KernelFamily)> {
        self.files.keys().filter_map(|name| Some((name.as_str(), family_of(name).ok()??)))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, ProfileError> {
        let Some(bytes) = self.files.get(name) else { return Ok(None) };
        let bytes = error::without_bom(bytes);
        std::str::from_utf8(bytes).map(Some).map_err(|e| {
            let place = Lines::of(bytes).place(&self.path_of(name), e.valid_up_to());
            ProfileError::at(place, Defect::NotUtf8)
        })
    }
}

/// Files a profile is made of; others (a README, say) are left alone.
fn is_data(name: &str) -> bool {
    name == MANIFEST || (!name.starts_with('.') && (name.ends_with(".csv") || name.ends_with(".fit.json")))
}

/// The family a file belongs to; `None` for the manifest and the evaluation.
fn family_of(name: &str) -> Result<Option<KernelFamily>, Defect> {
    if matches!(name, MANIFEST | EVALUATION) {
        return Ok(None);
    }
    let stem = name.strip_suffix(".csv").or(name.strip_suffix(".fit.json")).unwrap_or(name);
    let family = KernelFamily::TABLES.into_iter().find(|f| f.name() == stem);
    family.map(Some).ok_or_else(|| {
        let closest = names::closest(stem, KernelFamily::TABLES.map(KernelFamily::name));
        Defect::UnknownFile { found: stem.to_string(), closest }
    })
}
