//! Holds the house: who may import whom, how long files may be, what every file opens with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that stand on nothing of ours and may be imported by anyone.
const LEAVES: [&str; 3] = ["estimate", "names", "units"];

/// `(room, rooms it may import)`; the longest matching prefix of a file's module path decides.
const IMPORTS: [(&str, &[&str]); 15] = [
    ("units", &[]),
    ("estimate", &[]),
    ("names", &[]),
    ("files", &[]),
    ("model", &["model"]),
    ("hardware::kernel", &["hardware::kernel"]),
    ("hardware::profile", &["hardware::profile", "hardware::kernel", "files"]),
    ("hardware::latency", &["hardware::latency", "hardware::profile", "hardware::kernel", "model"]),
    ("quality", &["quality", "model"]),
    ("search::space", &["search::space", "model"]),
    ("search::solver", &["search"]),
    ("search::front", &["search::front"]),
    ("plan::record", &["plan::record", "model::architecture"]),
    ("plan", &["plan", "model", "hardware", "quality", "search"]),
    ("report", &["report", "plan::record", "model", "files"]),
];

const MOST_LINES: usize = 600;
const MEDIAN_LINES: usize = 150;
const VAGUE: [&str; 6] = ["util", "utils", "common", "helpers", "manager", "misc"];
const PANICS: [&str; 6] = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "dbg!("];

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Module path: `src/hardware/profile/mod.rs` is `hardware::profile`.
    fn module(&self) -> String {
        let inside = self.path.strip_prefix("src").expect("a file of src").with_extension("");
        let parts: Vec<String> = inside.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        parts.into_iter().filter(|p| p != "mod").collect::<Vec<_>>().join("::")
    }

    /// Lines outside `#[cfg(test)] mod tests { … }` blocks (which close the file) and outside test files.
    fn code(&self) -> Vec<(usize, &str)> {
        let name = self.path.file_stem().unwrap_or_default().to_string_lossy();
        if name == "tests" || name == "examples" {
            return Vec::new();
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let end = (0..lines.len())
            .find(|&i| {
                lines[i].trim() == "#[cfg(test)]"
                    && lines.get(i + 1).is_some_and(|l| l.contains("mod tests {"))
            })
            .unwrap_or(lines.len());
        lines[..end].iter().enumerate().map(|(i, line)| (i + 1, *line)).collect()
    }
}

fn sources() -> Vec<Source> {
    fn walk(dir: &Path, found: &mut Vec<Source>) {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(dir).expect("a folder of src").map(|e| e.expect("an entry").path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                found.push(Source { path, text });
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("src"), &mut found);
    assert!(found.len() > 50, "only {} files of src were read", found.len());
    found
}

fn is_in(module: &str, room: &str) -> bool {
    module == room || module.strip_prefix(room).is_some_and(|rest| rest.starts_with("::"))
}

/// Every `crate::a::b` path of a line.
fn paths<'a>(line: &'a str, root: &str) -> Vec<&'a str> {
    let starts = line.match_indices(root).map(|(i, _)| &line[i + root.len()..]);
    starts
        .map(|rest| {
            let end =
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
            rest[..end].trim_end_matches(':')
        })
        .collect()
}

fn report(rule: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

#[test]
fn imports_follow_the_table() {
    let mut offences = Vec::new();
    for source in sources() {
        let module = source.module();
        let rule = IMPORTS.iter().filter(|(room, _)| is_in(&module, room)).max_by_key(|(room, _)| room.len());
        let Some((_, allowed)) = rule else { continue };
        for (number, line) in source.code() {
            let code = line.split("//").next().unwrap_or_default();
            for path in paths(code, "crate::") {
                let fine = LEAVES.iter().chain(allowed.iter()).any(|room| is_in(path, room));
                if !fine {
                    offences.push(format!("{}:{number}: {module} imports {path}", source.path.display()));
                }
            }
        }
    }
    report("imports that the table in this file (and in ARCHITECTURE.md) does not allow", offences);
}

#[test]
fn the_binary_uses_the_public_library_only() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|s| is_in(&s.module(), "cli") || s.module() == "main") {
        for (number, line) in source.code() {
            let foreign = paths(line, "crate::").into_iter().filter(|path| !is_in(path, "cli"));
            offences.extend(foreign.map(|path| format!("{}:{number}: crate::{path}", source.path.display())));
        }
    }
    report("the command line reaches past the public library", offences);
}

#[test]
fn the_table_stands_in_the_architecture_document() {
    let document = fs::read_to_string("ARCHITECTURE.md").expect("ARCHITECTURE.md");
    let missing =
        IMPORTS.iter().map(|(room, _)| *room).filter(|room| !document.contains(&format!("`{room}`")));
    report("rooms that ARCHITECTURE.md does not name", missing.map(str::to_string).collect());
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let sources = sources();
    let mut lengths: Vec<usize> = sources.iter().map(|s| s.text.lines().count()).collect();
    let long = sources.iter().filter(|s| s.text.lines().count() > MOST_LINES);
    report("files of more than 600 lines", long.map(|s| s.path.display().to_string()).collect());
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= MEDIAN_LINES, "the median file has {median} lines, more than {MEDIAN_LINES}");
    let silent = sources.iter().filter(|s| !s.text.starts_with("//! "));
    report(
        "files that do not open with a doc comment",
        silent.map(|s| s.path.display().to_string()).collect(),
    );
}

#[test]
fn rooms_have_names_of_their_own() {
    let vague = |s: &Source| s.module().split("::").any(|part| VAGUE.contains(&part));
    let found = sources().into_iter().filter(vague).map(|s| s.path.display().to_string());
    report("names that say nothing", found.collect());
}

#[test]
fn nothing_outside_tests_can_panic_by_itself() {
    let mut offences = Vec::new();
    for source in sources() {
        for (number, line) in source.code() {
            let code = line.split("//").next().unwrap_or_default();
            if PANICS.iter().any(|call| code.contains(call)) {
                offences.push(format!("{}:{number}: {}", source.path.display(), line.trim()));
            }
        }
    }
    report("calls that panic", offences);
}

#[test]
fn every_crate_of_the_manifest_is_used() {
    let manifest = fs::read_to_string("Cargo.toml").expect("Cargo.toml");
    let section =
        manifest.split("[dependencies]").nth(1).and_then(|s| s.split("\n[").next()).expect("dependencies");
    let names = section.lines().filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_")));
    let all: String = sources().into_iter().map(|s| s.text).collect();
    let build = fs::read_to_string("build.rs").unwrap_or_default();
    // The traits of argmin-math are used through argmin.
    let unused: BTreeSet<String> = names
        .filter(|n| n != "argmin_math" && !all.contains(&format!("{n}::")) && !build.contains(n.as_str()))
        .collect();
    report("crates nobody uses", unused.into_iter().collect());
}
