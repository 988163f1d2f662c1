//! Holds the house rules of ARCHITECTURE.md: who may import whom, sizes, doc comments, no panics.
//!
//! Reads the sources as text, and the import table from ARCHITECTURE.md itself. Every offence is printed as
//! `file:line: rule`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Vocabulary that every module may use.
const VOCABULARY: &[&str] = &["estimate", "names", "units"];

/// The only modules that open files.
const OPENS_FILES: &[&str] = &[
    "cli",
    "files",
    "hardware::import",
    "hardware::measure",
    "hardware::profile",
    "model::read",
    "pipeline",
    "report",
    "weights::checkpoint",
    "weights::importance",
    "weights::network::text",
];

const MOST_LINES: usize = 600;
const MEDIAN_LINES: usize = 150;
const MOST_FUNCTION_LINES: usize = 60;

/// Names that say nothing of what a module is about.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "misc"];

/// Ways to panic on purpose. Macros may be called with any kind of bracket.
const PANICS: &[&str] = &[
    ".unwrap()",
    ".unwrap_err()",
    ".expect(",
    ".expect_err(",
    "panic!",
    "todo!",
    "unimplemented!",
    "unreachable!",
    "dbg!",
];

/// One source file; comments are blanked, and so is what only tests see.
struct Source {
    path: PathBuf,
    /// Such as `hardware::latency::lowering`.
    module: String,
    text: String,
    /// Lines of code outside tests, numbered from 1.
    code: Vec<(usize, String)>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    files.iter().map(|path| Source::read(&root, path)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

impl Source {
    fn read(root: &Path, path: &Path) -> Source {
        let relative = path.strip_prefix(root).unwrap().with_extension("");
        let parts: Vec<String> =
            relative.iter().map(|part| part.to_string_lossy().into_owned()).filter(|p| p != "mod").collect();
        let text = fs::read_to_string(path).unwrap();
        let code = if is_test_file(path) { Vec::new() } else { without_tests(&text) };
        let path = Path::new("src").join(path.strip_prefix(root).unwrap());
        Source { path, module: parts.join("::"), text, code }
    }

    fn offence(&self, line: usize, rule: impl std::fmt::Display) -> String {
        format!("{}:{line}: {rule}", self.path.display())
    }

    fn is_in(&self, module: &str) -> bool {
        within(&self.module, module)
    }
}

/// Files declared `#[cfg(test)] mod name;` by their parent.
fn is_test_file(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy();
    let parent = path.with_file_name("mod.rs");
    fs::read_to_string(parent).is_ok_and(|text| text.contains(&format!("#[cfg(test)]\nmod {name};")))
}

/// Numbered lines without comments and without items under `#[cfg(test)]`.
fn without_tests(text: &str) -> Vec<(usize, String)> {
    let mut code = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let indent = &line[..line.len() - line.trim_start().len()];
            skip_item(indent, lines.by_ref().map(|(_, line)| line));
            continue;
        }
        code.push((number + 1, without_comment(line)));
    }
    code
}

/// Passes over one item and the attributes and comments before it. rustfmt closes an item of several lines at
/// the indentation it was opened with.
fn skip_item<'a>(indent: &str, lines: impl Iterator<Item = &'a str>) {
    let mut item = lines.skip_while(|line| line.trim_start().starts_with(['#', '/']));
    let one_line = item.next().is_none_or(|first| first.trim_end().ends_with([';', ',', '}']));
    if !one_line {
        item.find(|line| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with('}')));
    }
}

/// A line up to its comment; `//` inside a string literal is no comment.
fn without_comment(line: &str) -> String {
    let mut quoted = false;
    let mut previous = ' ';
    for (at, letter) in line.char_indices() {
        match letter {
            '"' if previous != '\\' && previous != '\'' => quoted = !quoted,
            '/' if previous == '/' && !quoted => return line[..at - 1].to_string(),
            _ => {}
        }
        previous = if previous == '\\' { ' ' } else { letter };
    }
    line.to_string()
}

fn within(module: &str, ancestor: &str) -> bool {
    module == ancestor || module.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with("::"))
}

/// Whether a line holds a word, as `fs` in `use std::{fs, io};` and not in `offset`.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|part| part == word)
}

/// Paths that follow `crate::` or `archplan::` in a line, such as `hardware::kernel::KernelCall`.
fn paths<'a>(line: &'a str, start: &str) -> Vec<&'a str> {
    let ends = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
    line.match_indices(start)
        .filter(|(at, _)| !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$'))
        .map(|(at, _)| &line[at + start.len()..])
        .map(|rest| &rest[..rest.find(ends).unwrap_or(rest.len())])
        .collect()
}

fn assert_none(offences: &[String]) {
    assert!(offences.is_empty(), "{} offences:\n{}", offences.len(), offences.join("\n"));
}

/// The table of rooms in ARCHITECTURE.md: what each may import besides itself and the vocabulary. The last
/// column names rooms in backticks.
fn import_table() -> BTreeMap<String, Vec<String>> {
    let document = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let mut table = BTreeMap::new();
    let rows = document.lines().skip_while(|line| !line.ends_with("| may import |")).skip(2);
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let rooms = |cell: &str| {
            let quoted = cell.split('`').skip(1).step_by(2);
            quoted.map(str::to_string).collect::<Vec<_>>()
        };
        let (home, allowed) = (rooms(cells[0]), rooms(cells[cells.len() - 1]));
        assert_eq!((cells.len(), home.len()), (4, 1), "not a row of the table of rooms: {row}");
        table.insert(home[0].clone(), allowed);
    }
    table
}

/// The room a module belongs to: the innermost that holds it.
fn room<'a>(table: &'a BTreeMap<String, Vec<String>>, module: &str) -> Option<(&'a str, &'a [String])> {
    let holds = table.iter().filter(|(room, _)| within(module, room));
    holds.max_by_key(|(room, _)| room.len()).map(|(room, allowed)| (room.as_str(), allowed.as_slice()))
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let table = import_table();
    let mut offences = Vec::new();
    for source in sources().iter().filter(|s| !s.is_in("cli") && s.module != "main" && s.module != "lib") {
        let Some((home, allowed)) = room(&table, &source.module) else {
            // A folder that only holds rooms, such as `hardware`, imports nothing.
            if !table.keys().any(|home| within(home, &source.module)) {
                offences
                    .push(source.offence(1, format!("`{}` is no room of ARCHITECTURE.md", source.module)));
            }
            continue;
        };
        for (number, line) in &source.code {
            for path in paths(line, "crate::") {
                let vocabulary = !VOCABULARY.contains(&home) && VOCABULARY.iter().any(|v| within(path, v));
                if !vocabulary && !within(path, home) && !allowed.iter().any(|a| within(path, a)) {
                    let rule = format!("`{home}` may not import `crate::{path}`; it may {allowed:?}");
                    offences.push(source.offence(*number, rule));
                }
            }
            if !paths(line, "super::").is_empty() {
                offences.push(source.offence(*number, "import by the full path, `crate::…`"));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn the_binary_uses_the_library_from_outside() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|s| s.is_in("cli")) {
        for (number, line) in &source.code {
            for path in paths(line, "crate::").into_iter().filter(|path| !within(path, "cli")) {
                offences.push(source.offence(*number, format!("`cli` may not import `crate::{path}`")));
            }
            for call in ["eprintln!", "eprint!", " print!"].iter().filter(|call| line.contains(**call)) {
                let rule = format!("`{}` panics on a closed pipe; see `cli::output`", call.trim());
                offences.push(source.offence(*number, rule));
            }
        }
    }
    for source in sources().iter().filter(|s| !s.is_in("cli") && s.module != "main") {
        for (number, line) in &source.code {
            for call in ["println!(", "print!(", "eprintln!(", "eprint!(", "process::exit("] {
                if line.contains(call) {
                    offences
                        .push(source.offence(*number, format!("`{call}…)`: only `cli` talks to the user")));
                }
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn only_some_modules_open_files() {
    let mut offences = Vec::new();
    let sources = sources();
    for source in sources.iter().filter(|s| !OPENS_FILES.iter().any(|home| s.is_in(home))) {
        for (number, line) in &source.code {
            if has_word(line, "fs") || !paths(line, "File::").is_empty() {
                let rule = format!("`{}` may not open files; only {OPENS_FILES:?} may", source.module);
                offences.push(source.offence(*number, rule));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn files_are_short() {
    let sources = sources();
    let mut sizes: Vec<usize> =
        sources.iter().filter(|s| !s.code.is_empty()).map(|s| s.text.lines().count()).collect();
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2];
    let p90 = sizes[sizes.len() * 9 / 10];
    println!("{} files, lines: median {median}, p90 {p90}, most {}", sizes.len(), sizes[sizes.len() - 1]);
    let long = |s: &&Source| s.text.lines().count() > MOST_LINES;
    let offences: Vec<String> = sources
        .iter()
        .filter(long)
        .map(|s| s.offence(s.text.lines().count(), format!("longer than {MOST_LINES} lines")))
        .collect();
    assert_none(&offences);
    assert!(median <= MEDIAN_LINES, "the median file has {median} lines; at most {MEDIAN_LINES} are allowed");
}

#[test]
fn functions_are_short() {
    let mut offences = Vec::new();
    for source in sources() {
        let mut open: Option<(usize, String)> = None;
        for (number, line) in &source.code {
            let indent = line.len() - line.trim_start().len();
            let end = format!("{}}}", " ".repeat(indent));
            let starts = ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn ", "const fn ", "pub const fn "];
            if starts.iter().any(|start| line.trim_start().starts_with(start)) && open.is_none() {
                open = Some((*number, end.clone()));
            }
            if let Some((start, closes)) = &open
                && (line == closes || (number == start && line.trim_end().ends_with(['}', ';'])))
            {
                if number - start >= MOST_FUNCTION_LINES {
                    let rule =
                        format!("a function of {} lines; at most {MOST_FUNCTION_LINES}", number - start + 1);
                    offences.push(source.offence(*start, rule));
                }
                open = None;
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn modules_say_what_they_are() {
    let mut offences = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            offences.push(source.offence(1, "a module opens with a `//!` comment"));
        }
        if source.module.split("::").any(|part| EMPTY_NAMES.contains(&part)) {
            offences.push(source.offence(1, "a name that says nothing; use the field's own nouns"));
        }
    }
    assert_none(&offences);
}

#[test]
fn nothing_panics_on_purpose() {
    let mut offences = Vec::new();
    for source in sources() {
        for (number, line) in &source.code {
            for call in PANICS.iter().filter(|call| line.contains(**call)) {
                offences.push(source.offence(*number, format!("`{call}` outside tests: return an error")));
            }
        }
    }
    assert_none(&offences);
}

/// Their order differs from run to run: a value that depends on it is not deterministic. These uses look up,
/// insert or count.
#[test]
fn hash_maps_are_few_and_never_iterated() {
    const LOOKED_AT: &[&str] = &[
        "hardware::latency::kernel_model::evaluation",
        "hardware::latency::kernel_model::spread",
        "hardware::latency::memo",
        "hardware::profile::table::order",
    ];
    let mut offences = Vec::new();
    for source in sources().iter().filter(|s| !LOOKED_AT.contains(&s.module.as_str())) {
        for (number, line) in &source.code {
            if line.contains("HashMap") || line.contains("HashSet") {
                let rule = "a hash map: take BTreeMap, or show that its order is never used and list it here";
                offences.push(source.offence(*number, rule));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn sources_are_read_right() {
    assert_eq!(without_comment(r#"a("http://x") // b"#), r#"a("http://x") "#);
    assert_eq!(without_comment("/// crate::plan"), "");
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    x.unwrap();\n}\nfn b() {}\n#[cfg(test)]\nmod t;\nfn c() {}";
    let kept: Vec<usize> = without_tests(text).into_iter().map(|(number, _)| number).collect();
    assert_eq!(kept, [1, 6, 9]);
    let text = "#[cfg(test)]\nuse a::{\n    b,\n};\nfn c() {}\n#[cfg(test)]\n#[path = \"t.rs\"]\n/// T.\nmod t;\nfn d() {}";
    let kept: Vec<usize> = without_tests(text).into_iter().map(|(number, _)| number).collect();
    assert_eq!(kept, [5, 10], "an item of several lines, attributes, a comment");
    assert!(has_word("use std::{fs, io};", "fs") && !has_word("offset: usize, // fs_", "fs"));
    assert_eq!(paths("use super::{a}; use super::*; pub(super) fn b()", "super::").len(), 2);
    assert_eq!(paths("use crate::a::b::{C}; $crate::d", "crate::"), ["a::b::"]);
    assert!(within("plan::record", "plan") && !within("planner", "plan"));
    assert!(sources().len() > 80, "the sources were not found");
    let table = import_table();
    assert!(table.len() >= 16, "the table of rooms was not found: {table:?}");
    assert_eq!(room(&table, "plan::record::recipe").unwrap().0, "plan::record");
}

#[test]
fn every_crate_of_the_manifest_is_used() {
    let manifest = fs::read_to_string("Cargo.toml").unwrap();
    let section = manifest.split("[dependencies]").nth(1).and_then(|s| s.split("\n[").next()).unwrap();
    let names = section.lines().filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_")));
    let all: String = sources().into_iter().map(|s| s.text).collect();
    // The traits of argmin-math are used through argmin.
    let unused: Vec<String> =
        names.filter(|name| name != "argmin_math" && !all.contains(&format!("{name}::"))).collect();
    assert!(unused.is_empty(), "crates of Cargo.toml that nobody uses: {unused:?}");
}
