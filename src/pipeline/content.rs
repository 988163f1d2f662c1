//! What a file, a folder or a checkpoint holds, as a SHA-256.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::pipeline::stage::Artefact;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::checkpoint::error::CheckpointError;
use crate::weights::checkpoint::fingerprint::hexadecimal;

/// Files of a checkpoint directory beyond this are told apart by name and size only: they are weights in formats that
/// this tool does not read.
const WHOLE: u64 = 64 << 20;

/// Something that should be there and is not, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// A file or folder.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Hashes that were computed already; one run asks for the parent's three times.
#[derive(Debug, Default)]
pub struct Contents(BTreeMap<PathBuf, String>);

impl Contents {
    /// The hash of what is there now, or was when it was asked first.
    ///
    /// # Errors
    /// Something that cannot be read, or no checkpoint where there should be one.
    pub fn of(&mut self, artefact: &Artefact) -> Result<String, ContentError> {
        let path = &artefact.place().path;
        if let Some(known) = self.0.get(path) {
            return Ok(known.clone());
        }
        let mut hash = Sha256::new();
        match artefact {
            Artefact::File(_) => file(path, &mut hash)?,
            Artefact::Folder(_) => folder(path, Path::new(""), &mut hash)?,
            Artefact::Checkpoint(_) => checkpoint(path, &mut hash)?,
        }
        let hash = hexadecimal(&hash.finalize());
        self.0.insert(path.clone(), hash.clone());
        Ok(hash)
    }

    /// Forgets what is about to change.
    pub fn forget(&mut self, artefact: &Artefact) {
        self.0.remove(&artefact.place().path);
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> ContentError {
    move |error| ContentError::Io { path: path.into(), error }
}

fn file(path: &Path, hash: &mut Sha256) -> Result<(), ContentError> {
    let mut file = fs::File::open(path).map_err(failed(path))?;
    io::copy(&mut file, hash).map_err(failed(path))?;
    Ok(())
}

/// The entries of a folder, by name; hidden ones are left out.
fn entries(path: &Path) -> Result<Vec<(String, PathBuf)>, ContentError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed(path))? {
        let entry = entry.map_err(failed(path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn folder(path: &Path, inside: &Path, hash: &mut Sha256) -> Result<(), ContentError> {
    for (name, entry) in entries(path)? {
        let inside = inside.join(&name);
        if entry.is_dir() {
            folder(&entry, &inside, hash)?;
        } else {
            named(&inside.display().to_string(), &entry, hash)?;
        }
    }
    Ok(())
}

/// Name, length and bytes: without the length two files could pass for one.
fn named(name: &str, path: &Path, hash: &mut Sha256) -> Result<(), ContentError> {
    let size = fs::metadata(path).map_err(failed(path))?.len();
    hash.update(format!("{name}\n{size}\n"));
    file(path, hash)
}

fn checkpoint(path: &Path, hash: &mut Sha256) -> Result<(), ContentError> {
    let opened = Checkpoint::open(path)?;
    hash.update(opened.fingerprint());
    let weights: Vec<&str> = opened.files().collect();
    for (name, entry) in entries(path)? {
        let size = fs::metadata(&entry).map_err(failed(&entry))?.len();
        if entry.is_dir() || weights.contains(&name.as_str()) {
            continue;
        }
        match size > WHOLE {
            true => hash.update(format!("{name}\n{size}\n")),
            false => named(&name, &entry, hash)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::stage::place;

    fn now(artefact: &Artefact) -> String {
        Contents::default().of(artefact).unwrap()
    }

    #[test]
    fn files_and_folders_are_told_apart_by_every_byte_and_name() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Artefact::Folder(place("", scratch.path()));
        let file = Artefact::File(place("a", scratch.path()));
        assert!(Contents::default().of(&file).is_err());
        fs::write(scratch.path().join("a"), "abc").unwrap();
        fs::create_dir(scratch.path().join("sub")).unwrap();
        fs::write(scratch.path().join("sub/b"), "").unwrap();
        // `printf abc | sha256sum`
        assert_eq!(now(&file), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let whole = now(&folder);
        assert_eq!(now(&folder), whole);
        fs::rename(scratch.path().join("sub/b"), scratch.path().join("sub/c")).unwrap();
        let renamed = now(&folder);
        fs::write(scratch.path().join("a"), "abd").unwrap();
        assert!(renamed != whole && now(&folder) != renamed);
    }

    #[test]
    fn a_checkpoint_changes_with_its_tokenizer_too() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::copy(format!("tests/data/fixtures/plain/{name}"), scratch.path().join(name)).unwrap();
        }
        let artefact = Artefact::Checkpoint(place("", scratch.path()));
        let mut contents = Contents::default();
        let before = contents.of(&artefact).unwrap();
        fs::write(scratch.path().join("tokenizer.json"), "{}").unwrap();
        assert_eq!(contents.of(&artefact).unwrap(), before, "asked twice, read once");
        contents.forget(&artefact);
        assert_ne!(contents.of(&artefact).unwrap(), before);
        fs::remove_file(scratch.path().join("config.json")).unwrap();
        assert!(matches!(Contents::default().of(&artefact), Err(ContentError::Checkpoint(_))));
    }
}
