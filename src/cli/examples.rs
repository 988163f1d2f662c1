//! Test only: every command that a document or a `--help` shows must parse.

use clap::{CommandFactory, Parser};

use crate::cli::Arguments;

/// Commands shown in a text: lines that start with `archplan` or `cargo run --release --`, continued by `\`,
/// ended by a comment or by a gap of three blanks.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim().trim_start_matches("$ ");
        let start =
            ["archplan ", "cargo run --release -- "].iter().find_map(|start| line.strip_prefix(start));
        let Some(start) = start else { continue };
        let mut command = start.to_string();
        while let Some(open) = command.strip_suffix('\\') {
            command = format!("{open} {}", lines.next().unwrap_or_default().trim());
        }
        let end = ["   ", " #", " | ", " > "].iter().filter_map(|gap| command.find(gap)).min();
        found.push(command[..end.unwrap_or(command.len())].trim().to_string());
    }
    found
}

fn parse(command: &str, origin: &str) {
    let words = command.split_whitespace().map(|word| word.trim_matches('\''));
    if let Err(error) = Arguments::try_parse_from(std::iter::once("archplan").chain(words))
        && error.exit_code() != 0
    {
        panic!("{origin}: `archplan {command}` does not parse: {error}");
    }
}

#[test]
fn every_documented_command_parses() {
    let mut documents = vec![std::path::PathBuf::from("README.md"), "hardware_profiles/README.md".into()];
    for folder in ["docs", "results"] {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        documents.extend(
            entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "md")),
        );
    }
    let mut parsed = 0;
    for document in documents {
        let text = std::fs::read_to_string(&document).expect("a document");
        for command in commands(&text) {
            parse(&command, &document.display().to_string());
            parsed += 1;
        }
    }
    assert!(parsed >= 10, "only {parsed} commands found: the documents are no longer read right");
}

#[test]
fn every_help_example_parses() {
    fn walk(command: &clap::Command, parsed: &mut usize) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for example in commands(&help) {
            parse(&example, command.get_name());
            *parsed += 1;
        }
        command.get_subcommands().for_each(|sub| walk(sub, parsed));
    }
    let mut parsed = 0;
    walk(&Arguments::command(), &mut parsed);
    assert!(parsed >= 15, "only {parsed} examples found");
}

#[test]
fn the_command_line_is_sound() {
    Arguments::command().debug_assert();
}
