//! Where things are in a database, in both of its layouts.
//!
//! Since 0.6: `systems/data/<system>/<family>/<framework>/<version>/<table>.parquet`. Up to 0.5:
//! `systems/data/<system>/<framework>/<version>/<table>.txt`. Device facts: `systems/<system>.yaml`.

use crate::hardware::import::error::ImportError;
use crate::hardware::import::tree::{self, Tree};
use crate::hardware::import::version;

/// Levels below the source at which the folder `systems` may stand.
const DEPTH: usize = 4;

/// What a table is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Gemm,
    Context,
    Generation,
    /// All-reduce by the engine's own kernels.
    Custom,
    /// Collectives by the vendor's library.
    Library,
}

impl Role {
    fn of(stem: &str) -> Option<Self> {
        match stem {
            "gemm_perf" => Some(Role::Gemm),
            "context_attention_perf" => Some(Role::Context),
            "generation_attention_perf" => Some(Role::Generation),
            "custom_allreduce_perf" => Some(Role::Custom),
            "nccl_perf" | "oneccl_perf" => Some(Role::Library),
            _ => None,
        }
    }

    /// A profile is of the engine that these were measured with.
    fn is_engines(self) -> bool {
        matches!(self, Role::Gemm | Role::Context | Role::Generation)
    }
}

/// One table of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Path in the source.
    pub(crate) path: String,
    /// Path below `systems`, for provenance and reports.
    pub(crate) shown: String,
    /// File name without its ending.
    pub(crate) stem: String,
    pub(crate) framework: String,
    pub(crate) version: String,
    pub(crate) role: Option<Role>,
}

/// The libraries whose collectives are measured on their own.
pub(crate) const LIBRARIES: [&str; 2] = ["nccl", "oneccl"];

/// A database and one system of it.
pub(crate) struct System<'a> {
    pub(crate) tree: &'a Tree,
    /// Path of the folder `systems`.
    pub(crate) systems: String,
    pub(crate) name: String,
    pub(crate) entries: Vec<Entry>,
}

impl<'a> System<'a> {
    /// Finds the database in the source and opens one system; without a name the only one.
    ///
    /// # Errors
    /// No database, several, an unknown system, or a choice to make.
    pub(crate) fn open(tree: &'a Tree, name: Option<&str>) -> Result<Self, ImportError> {
        let systems = systems_folder(tree)?;
        let data = join(&systems, "data");
        let prefix = format!("{data}/");
        let files = tree.files(&data)?;
        let below: Vec<&str> = files.iter().filter_map(|file| file.strip_prefix(&prefix)).collect();
        let mut known: Vec<String> = below
            .iter()
            .filter(|file| is_table(file))
            .filter_map(|file| Some(file.split_once('/')?.0.to_string()))
            .collect();
        known.dedup();
        let place = || tree.given.clone();
        let name = match name {
            Some(name) if known.iter().any(|k| k == name) => name.to_string(),
            Some(name) => {
                return Err(ImportError::Unknown {
                    what: "system",
                    found: name.into(),
                    place: place(),
                    known,
                });
            }
            None if known.len() == 1 => known.remove(0),
            None if known.is_empty() => return Err(nothing(tree)),
            None => return Err(ImportError::Choose { flag: "--system", place: place(), known }),
        };
        let of_system = format!("{name}/");
        let entries = below.iter().filter(|file| file.starts_with(&of_system) && is_table(file));
        let entries = entries.filter_map(|file| entry(&data, file)).collect();
        Ok(Self { tree, systems, name, entries })
    }

    /// The framework that is meant: the one named, in whatever case, or the only one.
    ///
    /// # Errors
    /// An unknown one, or a choice to make.
    pub(crate) fn framework(&self, name: Option<&str>) -> Result<String, ImportError> {
        let mut known: Vec<String> = self
            .entries
            .iter()
            .filter(|e| e.role.is_some_and(Role::is_engines))
            .map(|e| e.framework.clone())
            .collect();
        known.sort();
        known.dedup();
        let place = format!("{} of {}", self.name, self.tree.given);
        match name {
            Some(name) => match known.iter().find(|k| k.eq_ignore_ascii_case(name)) {
                Some(found) => Ok(found.clone()),
                None => {
                    Err(ImportError::Unknown { what: "framework", found: name.to_string(), place, known })
                }
            },
            None if known.len() == 1 => Ok(known.remove(0)),
            None if known.is_empty() => Err(nothing(self.tree)),
            None => Err(ImportError::Choose { flag: "--framework", place, known }),
        }
    }

    /// The version that is meant: the one named, or the newest with a table of GEMM or attention.
    ///
    /// # Errors
    /// An unknown one.
    pub(crate) fn version(&self, framework: &str, wanted: &str) -> Result<String, ImportError> {
        let of =
            self.entries.iter().filter(|e| e.framework == framework && e.role.is_some_and(Role::is_engines));
        let mut known: Vec<String> = of.map(|e| e.version.clone()).collect();
        known.sort_by(|a, b| version::compare(a, b));
        known.dedup();
        match (wanted, known.last()) {
            ("latest", Some(newest)) => Ok(newest.clone()),
            _ if known.iter().any(|k| k == wanted) => Ok(wanted.to_string()),
            _ => Err(ImportError::Unknown {
                what: "version",
                found: wanted.to_string(),
                place: format!("{framework} on {} of {}", self.name, self.tree.given),
                known,
            }),
        }
    }

    /// The engine's table of a role: of the newest version that is not after `version`, as the database's own
    /// reader fills gaps.
    pub(crate) fn table(&self, role: Role, framework: &str, version: &str) -> Option<&Entry> {
        let of = self.entries.iter().filter(|e| e.role == Some(role) && e.framework == framework);
        of.filter(|e| version::compare(&e.version, version).is_le())
            .max_by(|a, b| version::compare(&a.version, &b.version))
    }

    /// Tables of the vendor's collectives, the newest first.
    pub(crate) fn libraries(&self) -> Vec<&Entry> {
        let is_library =
            |e: &&Entry| e.role == Some(Role::Library) && LIBRARIES.contains(&e.framework.as_str());
        let mut found: Vec<&Entry> = self.entries.iter().filter(is_library).collect();
        found.sort_by(|a, b| version::compare(&b.version, &a.version));
        found
    }

    /// Path of the system's facts.
    pub(crate) fn yaml(&self) -> String {
        join(&self.systems, &format!("{}.yaml", self.name))
    }
}

fn systems_folder(tree: &Tree) -> Result<String, ImportError> {
    let mut found = tree.folders_named("systems", DEPTH)?;
    found.retain(|folder| tree.has_folder(&join(folder, "data")));
    match found.as_slice() {
        [] => Err(nothing(tree)),
        [one] => Ok(one.clone()),
        _ => Err(ImportError::Several { path: tree.given.clone(), found }),
    }
}

fn nothing(tree: &Tree) -> ImportError {
    ImportError::NothingThere {
        path: tree.given.clone(),
        expected:
            "a kernel database of AIConfigurator (a folder `systems` with `data/<system>/...` below it)"
                .into(),
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") }
}

fn is_table(file: &str) -> bool {
    [".parquet", ".txt", ".csv"].iter().any(|ending| file.ends_with(ending))
}

/// `<system>/[<family>/]<framework>/<version>/<table>`.
fn entry(data: &str, below: &str) -> Option<Entry> {
    let parts: Vec<&str> = below.split('/').collect();
    let (framework, version, file) = match parts.as_slice() {
        [_, framework, version, file] | [_, _, framework, version, file] => (framework, version, file),
        _ => return None,
    };
    let stem = file.rsplit_once('.').map_or(*file, |(stem, _)| stem);
    Some(Entry {
        path: format!("{data}/{below}"),
        shown: format!("systems/data/{below}"),
        stem: stem.to_string(),
        framework: framework.to_string(),
        version: version.to_string(),
        role: Role::of(tree::last(stem)),
    })
}
