//! The files of a source: a folder, or a Python wheel read without unpacking it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use zip::ZipArchive;

use crate::hardware::import::error::ImportError;

/// Largest file taken out of a wheel: what a damaged header claims is not believed.
const MOST_BYTES: u64 = 1 << 30;

/// Deepest folder that is looked into.
const DEEPEST: usize = 8;

/// Files under one root, by their paths with `/` between the parts.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The source as it was given.
    pub(crate) given: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder(PathBuf),
    Wheel(Box<RefCell<ZipArchive<fs::File>>>, BTreeSet<String>),
}

impl Tree {
    /// Opens a folder or a wheel.
    ///
    /// # Errors
    /// A path that is not there, or a file that is no whole zip archive.
    pub(crate) fn open(path: &Path) -> Result<Self, ImportError> {
        let given = path.display().to_string();
        let failed =
            |e: std::io::Error| ImportError::Unreadable { path: given.clone(), reason: e.to_string() };
        if fs::metadata(path).map_err(failed)?.is_dir() {
            return Ok(Self { given, kind: Kind::Folder(path.to_path_buf()) });
        }
        let file = fs::File::open(path).map_err(failed)?;
        let archive = ZipArchive::new(file).map_err(|e| ImportError::Malformed {
            file: given.clone(),
            reason: format!("neither a folder nor a whole wheel: {e}"),
        })?;
        let names =
            archive.file_names().flatten().filter(|name| !name.ends_with('/')).map(Into::into).collect();
        Ok(Self { given, kind: Kind::Wheel(Box::new(RefCell::new(archive)), names) })
    }

    /// Folders whose last part is `name`, down to `depth` levels; the root is the empty path.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(crate) fn folders_named(&self, name: &str, depth: usize) -> Result<Vec<String>, ImportError> {
        let mut found = BTreeSet::new();
        match &self.kind {
            Kind::Folder(root) => {
                if root.canonicalize().is_ok_and(|real| real.ends_with(name)) {
                    found.insert(String::new());
                }
                let mut level = vec![String::new()];
                for _ in 0..depth {
                    let mut next = Vec::new();
                    for folder in &level {
                        next.extend(
                            self.list(root, folder)?.into_iter().filter(|(_, dir)| *dir).map(|(p, _)| p),
                        );
                    }
                    found.extend(next.iter().filter(|path| last(path) == name).cloned());
                    level = next;
                }
            }
            Kind::Wheel(_, names) => {
                for path in names {
                    let parts: Vec<&str> = path.split('/').collect();
                    let folders = parts.len().saturating_sub(1).min(depth);
                    let at = (0..folders).find(|i| parts.get(*i) == Some(&name));
                    found.extend(at.map(|i| parts.get(..=i).unwrap_or_default().join("/")));
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Whether a folder is there.
    pub(crate) fn has_folder(&self, folder: &str) -> bool {
        match &self.kind {
            Kind::Folder(root) => root.join(folder).is_dir(),
            Kind::Wheel(_, names) => {
                let prefix = format!("{folder}/");
                names.range(prefix.clone()..).next().is_some_and(|name| name.starts_with(&prefix))
            }
        }
    }

    /// All files under a folder, in the order of their paths.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(crate) fn files(&self, under: &str) -> Result<Vec<String>, ImportError> {
        let prefix = if under.is_empty() { String::new() } else { format!("{under}/") };
        match &self.kind {
            Kind::Wheel(_, names) => {
                Ok(names.iter().filter(|name| name.starts_with(&prefix)).cloned().collect())
            }
            Kind::Folder(root) => {
                let (mut files, mut folders) = (BTreeSet::new(), vec![(under.to_string(), 0)]);
                while let Some((folder, depth)) = folders.pop() {
                    for (path, is_folder) in self.list(root, &folder)? {
                        match is_folder {
                            true if depth < DEEPEST => folders.push((path, depth + 1)),
                            true => {}
                            false => {
                                files.insert(path);
                            }
                        }
                    }
                }
                Ok(files.into_iter().collect())
            }
        }
    }

    /// Names of what stands directly in a folder; whether each is a folder.
    fn list(&self, root: &Path, folder: &str) -> Result<Vec<(String, bool)>, ImportError> {
        let path = root.join(folder);
        let failed = |e: std::io::Error| ImportError::Unreadable {
            path: path.display().to_string(),
            reason: e.to_string(),
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                let joined = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                found.push((joined, entry.path().is_dir()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// A file's contents.
    ///
    /// # Errors
    /// A file that is not there, cannot be read, or does not match its checksum.
    pub(crate) fn read(&self, file: &str) -> Result<Vec<u8>, ImportError> {
        let failed = |reason: String| ImportError::Unreadable { path: self.path_of(file), reason };
        match &self.kind {
            Kind::Folder(root) => fs::read(root.join(file)).map_err(|e| failed(e.to_string())),
            Kind::Wheel(archive, _) => {
                let mut archive = archive.borrow_mut();
                let entry = archive.by_name(file).map_err(|e| failed(e.to_string()))?;
                let mut bytes = Vec::new();
                entry.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
                Ok(bytes)
            }
        }
    }

    /// A file's contents as text.
    ///
    /// # Errors
    /// As [`Self::read`], and text that is not UTF-8.
    pub(crate) fn text(&self, file: &str) -> Result<String, ImportError> {
        String::from_utf8(self.read(file)?)
            .map_err(|_| ImportError::Malformed { file: self.path_of(file), reason: "not UTF-8".to_string() })
    }

    /// A file as a person would name it.
    pub(crate) fn path_of(&self, file: &str) -> String {
        match &self.kind {
            Kind::Folder(root) => root.join(file).display().to_string(),
            Kind::Wheel(..) => format!("{}: {file}", self.given),
        }
    }

    /// The folder the source stands in, for what lies beside it (the metadata of an installed package).
    pub(crate) fn beside(&self, levels: usize) -> Option<PathBuf> {
        match &self.kind {
            Kind::Folder(root) => {
                let real = root.canonicalize().ok()?;
                real.ancestors().nth(levels).map(Path::to_path_buf)
            }
            Kind::Wheel(..) => None,
        }
    }
}

/// The last part of a path.
pub(crate) fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
