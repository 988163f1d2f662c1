//! Where a folder of tables says what it is of: its path, a licence file near it, flags.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::hardware::import::error::ImportError;
use crate::hardware::import::tree::Tree;
use crate::hardware::import::{NO_LICENCE, Request, version};
use crate::hardware::profile::manifest::Stack;

/// Levels above the source where a licence file counts.
const LICENCE_LEVELS: usize = 7;

/// The CSVs of a source: a folder's, at any depth, or the one file.
pub(super) fn csv_files(source: &Path) -> Result<(Tree, Vec<String>), ImportError> {
    let is_file = source.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) && source.is_file();
    let folder = match (is_file, source.parent()) {
        (true, Some(parent)) if parent.as_os_str().is_empty() => Path::new("."),
        (true, Some(parent)) => parent,
        _ => source,
    };
    let tree = Tree::open(folder)?;
    let files = match is_file {
        true => source.file_name().map(|name| name.to_string_lossy().into_owned()).into_iter().collect(),
        false => tree.files("")?.into_iter().filter(|file| file.ends_with(".csv")).collect(),
    };
    Ok((tree, files))
}

/// Engine and version: the flags, or the end of the source's path (`.../vllm-ascend/0.18.0`).
pub(super) fn stack(request: &Request<'_>, tree: &Tree) -> Result<Stack, ImportError> {
    let real = tree.beside(0).unwrap_or_default();
    let last: Vec<String> =
        real.iter().rev().take(2).map(|part| part.to_string_lossy().into_owned()).collect();
    let from_path = match last.as_slice() {
        [number, engine] if version::is_version(number) && !version::is_version(engine) => {
            Some((engine, number))
        }
        _ => None,
    };
    let needed = |flag| ImportError::FlagNeeded {
        flag,
        reason: "the path does not end in ENGINE/VERSION, such as vllm-ascend/0.18.0".to_string(),
    };
    let engine = request.framework.map(str::to_string).or(from_path.map(|(engine, _)| engine.clone()));
    let number = request.version.map(str::to_string).or(from_path.map(|(_, number)| number.clone()));
    Ok(Stack {
        engine: engine.ok_or_else(|| needed("--framework, such as --framework vllm-ascend"))?,
        engine_version: number.ok_or_else(|| needed("--version, such as --version 0.18.0"))?,
        libraries: BTreeMap::new(),
    })
}

/// The licence: the flag, or the first line of the nearest LICENSE in the source or above it.
pub(super) fn licence(request: &Request<'_>) -> String {
    if let Some(licence) = request.licence {
        return licence.to_string();
    }
    let real = request.source.canonicalize().unwrap_or_else(|_| PathBuf::from(request.source));
    let found = real.ancestors().take(LICENCE_LEVELS).find_map(|folder| {
        let text = fs::read_to_string(folder.join("LICENSE")).ok()?;
        let title = text.lines().map(str::trim).find(|line| !line.is_empty())?.to_string();
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        Some(format!("{title} (LICENSE in {name})"))
    });
    found.unwrap_or_else(|| NO_LICENCE.to_string())
}

/// The last parts of the source's path, which say more than the whole of it.
pub(super) fn place(source: &Path) -> String {
    let real = source.canonicalize().unwrap_or_else(|_| PathBuf::from(source));
    let mut parts: Vec<String> =
        real.iter().rev().take(4).map(|part| part.to_string_lossy().into_owned()).collect();
    parts.reverse();
    parts.retain(|part| part != "/");
    parts.join("/")
}
