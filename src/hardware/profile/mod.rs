//! Hardware profiles: device facts, measured kernel tables and their provenance.
//!
//! A profile is a folder: `profile.toml`, one CSV per measured family, one fit file per fitted family.
//! The manifest and the set of files are checked on loading; a table is parsed when its rows are first asked
//! for, completely or not at all.
//!
//! Deliberately absent: any estimate (see [`crate::hardware::latency`]).

pub mod check;
pub mod coverage;
pub mod datasheet;
pub mod defect;
pub mod device;
pub mod draft;
pub mod engine;
pub mod error;
mod folder;
pub mod known_devices;
pub mod manifest;
pub mod registry;
pub mod rules;
mod section;
pub mod spelling;
pub mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::estimate::Source;
use crate::hardware::kernel::KernelFamily;
use crate::hardware::profile::defect::Defect;
use crate::hardware::profile::device::Device;
use crate::hardware::profile::error::ProfileError;
pub use crate::hardware::profile::folder::Origin;
use crate::hardware::profile::folder::{BUILT_IN, Folder};
use crate::hardware::profile::manifest::{DeviceSheet, Manifest, Stack, TableInfo};
use crate::hardware::profile::rules::{AllReduceRule, ElementwiseRule};
use crate::hardware::profile::table::Row;

type Cell = OnceLock<Result<Arc<Vec<Row>>, ProfileError>>;

/// A device with what is known of its kernels. Cheap to clone; clones share parsed tables.
#[derive(Clone, Debug)]
pub struct HardwareProfile {
    /// Name, such as `h200_sxm`.
    pub name: String,
    /// Device facts.
    pub device: Device,
    /// Where the device facts come from.
    pub device_source: String,
    /// Software the figures were taken with.
    pub stack: Stack,
    /// Provenance of every family the profile covers.
    pub tables: BTreeMap<KernelFamily, TableInfo>,
    /// The rule for all-reduce, where its provenance is `estimated`.
    pub all_reduce: Option<AllReduceRule>,
    /// The rule for elementwise kernels.
    pub elementwise: ElementwiseRule,
    folder: Arc<Folder>,
    rows: Arc<[Cell; KernelFamily::TABLES.len()]>,
    hash: Arc<OnceLock<String>>,
}

impl HardwareProfile {
    /// Loads the profile of a folder: the manifest and the set of files are checked now, tables when asked for.
    ///
    /// # Errors
    /// The first defect; [`check::check`] lists all.
    pub fn load(dir: &Path) -> Result<Self, ProfileError> {
        Self::from_folder(Folder::on_disk(dir)?).map_err(table::first)
    }

    /// Loads a profile whose folder may have been renamed: the name is the manifest's.
    ///
    /// # Errors
    /// The first defect, of tables too.
    pub fn load_as_named(dir: &Path) -> Result<Self, ProfileError> {
        let mut folder = Folder::on_disk(dir)?;
        let (file, text) = folder.manifest()?;
        folder.name = Manifest::read(&file, text).map_err(table::first)?.name;
        let report = check::check_folder(folder.clone());
        report.errors.into_iter().next().map_or_else(|| Self::from_folder(folder).map_err(table::first), Err)
    }

    /// Loads a profile embedded in the binary.
    ///
    /// # Errors
    /// [`Defect::UnknownProfile`] with the closest known name.
    pub fn builtin(name: &str) -> Result<Self, ProfileError> {
        registry::Profiles::new(&[])?.get(name)
    }

    fn embedded(name: &str) -> Result<Self, ProfileError> {
        let dir = BUILT_IN.get_dir(name).ok_or_else(|| registry::unknown(name, [].into_iter()))?;
        Self::from_folder(Folder::embedded(dir)?).map_err(table::first)
    }

    pub(crate) fn from_folder(folder: Folder) -> Result<Self, Vec<ProfileError>> {
        let manifest = {
            let (file, text) = folder.manifest().map_err(|e| vec![e])?;
            Manifest::read(&file, text)?
        };
        let errors = check::files(&folder, &manifest);
        if !errors.is_empty() {
            return Err(errors);
        }
        let Manifest { name, device, device_source, stack, tables, all_reduce, elementwise, .. } = manifest;
        Ok(Self {
            name,
            device,
            device_source,
            stack,
            tables,
            all_reduce,
            elementwise,
            folder: Arc::new(folder),
            rows: Arc::default(),
            hash: Arc::default(),
        })
    }

    /// Where the profile comes from.
    pub fn origin(&self) -> &Origin {
        &self.folder.origin
    }

    /// How a family's figures came about, if the profile covers it.
    pub fn provenance(&self, family: KernelFamily) -> Option<Source> {
        self.tables.get(&family).map(|info| info.provenance)
    }

    /// Measured rows of a family in the order of the file, parsed on the first call.
    ///
    /// # Errors
    /// [`Defect::NoRows`] for a family that is not measured; otherwise the table's first defect.
    pub fn rows(&self, family: KernelFamily) -> Result<Arc<Vec<Row>>, ProfileError> {
        let index = KernelFamily::TABLES.iter().position(|f| *f == family);
        let info = self.tables.get(&family);
        let cell = index.and_then(|i| self.rows.get(i));
        let (Some(cell), Some(bytes), Some(info)) = (cell, self.folder.table(family), info) else {
            let defect = Defect::NoRows { family, provenance: info.map(|i| i.provenance) };
            return Err(ProfileError::of(self.folder.path(), defect));
        };
        let parse = || {
            let table = check::table(&self.folder, family, info, bytes).map_err(table::first)?;
            Ok(Arc::new(table.rows))
        };
        cell.get_or_init(parse).clone()
    }

    /// The family's fit, as text: always there for a fitted family, sometimes for a measured one.
    pub fn fit_text(&self, family: KernelFamily) -> Option<&str> {
        // Loading has checked that fits are text.
        self.folder.fit(family).ok().flatten()
    }

    /// The stated errors (`evaluation.csv`), as text.
    pub fn evaluation_text(&self) -> Option<&str> {
        self.folder.evaluation().ok().flatten()
    }

    /// The device and its rules, without the kernels that were measured.
    ///
    /// # Errors
    /// Never for a profile that was loaded whole: the elementwise rule is always there.
    pub fn sheet(&self) -> Result<DeviceSheet, ProfileError> {
        let info = |family| self.tables.get(&family).cloned();
        let missing = || {
            ProfileError::of(
                self.folder.path(),
                Defect::NoRows { family: KernelFamily::Elementwise, provenance: None },
            )
        };
        Ok(DeviceSheet {
            device: self.device.clone(),
            device_source: self.device_source.clone(),
            stack: Some(self.stack.clone()),
            all_reduce: self.all_reduce.zip(info(KernelFamily::AllReduce)),
            elementwise: (self.elementwise, info(KernelFamily::Elementwise).ok_or_else(missing)?),
        })
    }

    /// SHA-256 over names and contents of all files of the profile (manifest, tables, fits, evaluation) in the order of
    /// their names, in hexadecimal: two runs with the same hash saw the same numbers.
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| {
            let mut hasher = Sha256::new();
            for (name, bytes) in self.folder.files() {
                for part in [name.as_bytes(), bytes] {
                    hasher.update((part.len() as u64).to_le_bytes());
                    hasher.update(part);
                }
            }
            hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }
}

#[cfg(test)]
mod tests;
