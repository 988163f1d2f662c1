//! The profiles at hand: those of the binary and those of `--profile-dir`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::hardware::kernel::KernelFamily;
use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::defect::Defect;
use crate::hardware::profile::error::ProfileError;
use crate::hardware::profile::folder::{BUILT_IN, Origin};
use crate::names;

/// Names of profiles and where each is; nothing is loaded until asked for.
#[derive(Clone, Debug)]
pub struct Profiles {
    origins: BTreeMap<String, Origin>,
}

impl Profiles {
    /// The built-in profiles and those in `dirs`; each is one profile's folder or a folder of such.
    ///
    /// # Errors
    /// A folder that cannot be read, holds no profile, holds tables without a manifest, or a profile whose name
    /// is taken.
    pub fn new(dirs: &[PathBuf]) -> Result<Self, ProfileError> {
        let built_in = BUILT_IN.dirs().filter(|dir| dir.get_file(dir.path().join("profile.toml")).is_some());
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut origins: BTreeMap<_, _> = built_in.map(|dir| (name(dir.path()), Origin::BuiltIn)).collect();
        for dir in dirs.iter().map(|dir| folders_of(dir)) {
            for folder in dir? {
                if !has_manifest(&folder) {
                    return Err(ProfileError::of(folder.display().to_string(), Defect::MissingManifest));
                }
                let real = folder.canonicalize().map_err(|e| unreadable(&folder, &e))?;
                add(&mut origins, name(&real), folder)?;
            }
        }
        Ok(Self { origins })
    }

    /// Names in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.origins.keys().map(String::as_str)
    }

    /// Loads a profile.
    ///
    /// # Errors
    /// [`Defect::UnknownProfile`] with the closest known name, or the profile's first defect.
    pub fn get(&self, name: &str) -> Result<HardwareProfile, ProfileError> {
        match self.origins.get(name) {
            Some(Origin::BuiltIn) => HardwareProfile::embedded(name),
            Some(Origin::Folder(path)) => HardwareProfile::load(path),
            None => Err(unknown(name, self.names())),
        }
    }
}

pub(super) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> ProfileError {
    let known: Vec<_> = known.collect();
    let closest = names::closest(name, known.iter().copied()).map(str::to_string);
    let defect = Defect::UnknownProfile { name: name.to_string(), closest, known: known.join(", ") };
    ProfileError { place: None, defect }
}

fn add(origins: &mut BTreeMap<String, Origin>, name: String, folder: PathBuf) -> Result<(), ProfileError> {
    let other = match origins.get(&name) {
        None => {
            origins.insert(name, Origin::Folder(folder));
            return Ok(());
        }
        // The same folder given twice is no clash.
        Some(Origin::Folder(other)) if other.canonicalize().ok() == folder.canonicalize().ok() => {
            return Ok(());
        }
        Some(Origin::Folder(other)) => other.display().to_string(),
        Some(Origin::BuiltIn) => "the built-in profiles".to_string(),
    };
    Err(ProfileError::of(folder.display().to_string(), Defect::NameClash { name, other }))
}

/// Folders at a path that are meant to be profiles (they hold a manifest or a table): itself, or those directly
/// below it in the order of their names.
///
/// # Errors
/// A folder that cannot be read, or nothing of the kind.
pub fn folders_of(dir: &Path) -> Result<Vec<PathBuf>, ProfileError> {
    let entries = std::fs::read_dir(dir).map_err(|e| unreadable(dir, &e))?;
    let meant = |path: &Path| has_manifest(path) || has_table(path);
    if meant(dir) {
        return Ok(vec![dir.to_path_buf()]);
    }
    let mut folders: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.retain(|path| meant(path));
    folders.sort();
    if folders.is_empty() {
        return Err(ProfileError::of(dir.display().to_string(), Defect::NoProfiles));
    }
    Ok(folders)
}

fn has_manifest(dir: &Path) -> bool {
    dir.join("profile.toml").exists()
}

fn has_table(dir: &Path) -> bool {
    KernelFamily::TABLES.iter().any(|family| dir.join(format!("{family}.csv")).exists())
}

fn unreadable(path: &Path, e: &std::io::Error) -> ProfileError {
    ProfileError::of(path.display().to_string(), Defect::Unreadable { reason: e.to_string() })
}
