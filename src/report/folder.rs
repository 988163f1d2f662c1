//! The folder of a result: what may be written there, and putting files in place all together or not at all.
//!
//! Only the files of a result are ever touched: whatever else stands in the folder stays as it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::files;
use crate::report::error::ReportError;

/// The file that marks a folder as the result of a search.
pub const PLAN: &str = "plan.json";

/// A kind of result: which files it may hold, and how a folder of it is told from others.
pub struct Kind {
    /// The command that leaves it.
    pub made_by: &'static str,
    /// Files it can hold.
    pub files: &'static [&'static str],
    /// Start of the names of further files, as many as needed.
    pub series: Option<&'static str>,
    /// Whether a folder holds such a result.
    pub is_result: fn(&Path) -> bool,
}

/// What `archplan search` leaves.
pub const SEARCH: Kind = Kind {
    made_by: "archplan search",
    files: &[
        "candidates.csv",
        "front.csv",
        "front.png",
        "front.svg",
        PLAN,
        "report.html",
        "target.json",
        "target/config.json",
    ],
    series: None,
    is_result: is_plan,
};

impl Kind {
    /// Some of its files stand in a folder `target`.
    fn has_target(&self) -> bool {
        self.files.iter().any(|name| name.starts_with("target/"))
    }

    /// Files of this kind that stand in `dir`, or things of their names.
    fn present(&self, dir: &Path) -> io::Result<Vec<String>> {
        let fixed = self.files.iter().filter(|name| dir.join(name).symlink_metadata().is_ok());
        let mut found: Vec<String> = fixed.map(ToString::to_string).collect();
        if let Some(start) = self.series
            && dir.is_dir()
        {
            for entry in fs::read_dir(dir)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let further = name.starts_with(start) && (name.ends_with(".svg") || name.ends_with(".csv"));
                if further && !self.files.contains(&name.as_str()) {
                    found.push(name);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Start of the name of a folder in which files wait to be put in place.
const STAGING: &str = ".archplan.";

/// Whether a result may be written to `dir`: it is absent, empty, an earlier result, or `force` is set.
///
/// # Errors
/// [`ReportError::Occupied`], [`ReportError::NotAFolder`], [`ReportError::Blocked`], or a folder that cannot be
/// read.
pub fn check_target(kind: &Kind, dir: &Path, force: bool) -> Result<(), ReportError> {
    let io = |reason| ReportError::Io { path: dir.display().to_string(), reason };
    match fs::metadata(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return can_be_made(dir).map_err(io),
        Err(reason) => return Err(io(reason)),
        Ok(found) if !found.is_dir() => {
            return Err(ReportError::NotAFolder { dir: dir.display().to_string() });
        }
        Ok(_) => {}
    }
    if !force && !is_empty(dir).map_err(io)? && !(kind.is_result)(dir) {
        return Err(ReportError::Occupied { dir: dir.display().to_string(), made_by: kind.made_by });
    }
    let is_in_the_way = |path: &PathBuf| path.symlink_metadata().is_ok_and(|found| !found.is_file());
    let target = dir.join("target");
    let blocked = match target.metadata() {
        Ok(found) if kind.has_target() && !found.is_dir() => Some(target),
        _ => kind.present(dir).map_err(io)?.iter().map(|name| dir.join(name)).find(is_in_the_way),
    };
    blocked.map_or(Ok(()), |path| Err(ReportError::Blocked { path: path.display().to_string() }))
}

/// Whether `dir` can be made: the nearest folder above it that exists takes a new one. Better known before a search
/// than after it.
fn can_be_made(dir: &Path) -> io::Result<()> {
    let above = dir.ancestors().skip(1).map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    let Some(parent) = above.into_iter().find(|p| p.exists()) else { return Ok(()) };
    let probe = parent.join(format!("{STAGING}{}.probe", std::process::id()));
    fs::create_dir(&probe)?;
    fs::remove_dir(&probe)
}

/// Nothing stands there but what an interrupted run may have left.
fn is_empty(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if !entry?.file_name().to_string_lossy().starts_with(STAGING) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What tells a plan of ours, of any version, from another file of that name.
#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "recipe")]
    _recipe: RecipeMarker,
    #[serde(rename = "front")]
    _front: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct RecipeMarker {
    #[serde(rename = "version")]
    _version: String,
}

fn is_plan(dir: &Path) -> bool {
    let text = fs::read_to_string(dir.join(PLAN));
    text.is_ok_and(|text| serde_json::from_str::<Marker>(&text).is_ok())
}

/// A place on the file system of `dir` where its files can wait: inside it where it exists (it may be a mount
/// point or `.`), else beside it.
fn staging(dir: &Path) -> PathBuf {
    let name = format!("{STAGING}{}.part", std::process::id());
    if dir.is_dir() { dir.join(name) } else { dir.with_file_name(name) }
}

/// Puts a result in place: `stage` makes its files in a folder of their own and names them, and they are moved to
/// `dir` at the end; files of an earlier result of this kind go, others are left alone.
///
/// # Errors
/// Those of [`check_target`] and of `stage`, or a file that cannot be moved; `dir` is then as it was.
pub fn put(
    kind: &Kind,
    dir: &Path,
    force: bool,
    stage: impl FnOnce(&Path) -> Result<Vec<String>, ReportError>,
) -> Result<Vec<PathBuf>, ReportError> {
    check_target(kind, dir, force)?;
    let staging = staging(dir);
    let _ = fs::remove_dir_all(&staging);
    let written = stage(&staging).and_then(|names| {
        install(kind, &staging, dir, &names)
            .map_err(|reason| ReportError::Io { path: dir.display().to_string(), reason })?;
        Ok(names)
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&staging);
    }
    Ok(written?.into_iter().map(|name| dir.join(name)).collect())
}

/// Writes the texts of a result to the folder in which it waits.
///
/// # Errors
/// The file that cannot be written.
pub fn write_texts<N: AsRef<str>>(staging: &Path, texts: &[(N, String)]) -> Result<(), ReportError> {
    texts.iter().try_for_each(|(name, text)| {
        let path = staging.join(name.as_ref());
        let failed = |reason| ReportError::Io { path: path.display().to_string(), reason };
        files::write_atomically(&path, text.as_bytes()).map_err(failed)
    })
}

/// Moves `names`, all of them in `staging`, to `dir`; files of an earlier result that are not among them go.
/// After an error `dir` is as it was.
fn install(kind: &Kind, staging: &Path, dir: &Path, names: &[String]) -> io::Result<()> {
    if !dir.exists() {
        return fs::rename(staging, dir);
    }
    let old = staging.join("old");
    let mut undo: Vec<(PathBuf, PathBuf)> = Vec::new();
    let done = exchange(kind, (staging, dir, &old), names, &mut undo);
    if done.is_err() {
        for (from, to) in undo.iter().rev() {
            let _ = fs::rename(to, from);
        }
        remove_empty_target(kind, dir);
        return done;
    }
    remove_empty_target(kind, dir);
    let _ = fs::remove_dir_all(staging);
    Ok(())
}

/// Goes only where the new result has no target and nobody put anything there.
fn remove_empty_target(kind: &Kind, dir: &Path) {
    if kind.has_target() {
        let _ = fs::remove_dir(dir.join("target"));
    }
}

fn exchange(
    kind: &Kind,
    (staging, dir, old): (&Path, &Path, &Path),
    names: &[String],
    undo: &mut Vec<(PathBuf, PathBuf)>,
) -> io::Result<()> {
    let mut rename = |from: PathBuf, to: PathBuf| {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(&from, &to)?;
        undo.push((from, to));
        Ok::<(), io::Error>(())
    };
    for name in kind.present(dir)? {
        rename(dir.join(&name), old.join(&name))?;
    }
    names.iter().try_for_each(|name| rename(staging.join(name), dir.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_fails_half_way_is_undone() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("run");
        for name in [PLAN, "front.csv", "notes.md", "target/weights.bin"] {
            write(dir.join(name), "old");
        }
        let staging = staging(&dir);
        write(staging.join(PLAN), "new");
        write(staging.join("target/config.json"), "new");
        // The last one was never made, so that its move fails after the others.
        let names = [PLAN, "target/config.json", "report.html"].map(String::from);
        assert!(install(&SEARCH, &staging, &dir, &names).is_err());
        for name in [PLAN, "front.csv", "notes.md", "target/weights.bin"] {
            assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), "old", "{name}");
        }
        assert!(!dir.join("target/config.json").exists() && !dir.join("report.html").exists());
    }

    #[test]
    fn an_earlier_result_goes_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("run");
        for name in ["target.json", "target/config.json", "front.csv", "notes.md"] {
            write(dir.join(name), "old");
        }
        let staging = staging(&dir);
        write(staging.join("front.csv"), "new");
        install(&SEARCH, &staging, &dir, &["front.csv".to_string()]).unwrap();
        assert_eq!(fs::read_to_string(dir.join("front.csv")).unwrap(), "new");
        let mut left: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["front.csv", "notes.md"]);
    }

    #[test]
    fn a_series_of_an_earlier_result_goes_too() {
        let kind = Kind { files: &["a.html"], series: Some("a_"), is_result: |_| true, ..SEARCH };
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("run");
        for name in ["a.html", "a_x.svg", "a_y.csv", "a_z.txt", "b_x.svg"] {
            write(dir.join(name), "old");
        }
        fs::create_dir(dir.join("target")).unwrap();
        let stage = |staging: &Path| {
            write_texts(staging, &[("a_n.svg", "new".to_string())])?;
            Ok(vec!["a_n.svg".to_string()])
        };
        put(&kind, &dir, false, stage).unwrap();
        let mut left: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a_n.svg", "a_z.txt", "b_x.svg", "target"]);
    }
}
