//! `archplan run` on the trained fixture: all stages, none of them again, some of them again, after kill -9.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const STAGES: [&str; 6] = ["calibrate", "search", "prune", "evaluate", "verify", "report"];

/// A folder with the shipped example in it, its paths made absolute.
struct Place {
    scratch: tempfile::TempDir,
}

impl Place {
    /// Until no stage is at work any more and the statistics are there.
    fn wait(&self) {
        let start = Instant::now();
        while !self.output(&["-q", "--until", "calibrate"]).status.success() {
            assert!(start.elapsed() < Duration::from_secs(120), "the stage never ended");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn new() -> Self {
        Self::of("fixture.toml")
    }

    fn of(example: &str) -> Self {
        let place = Self { scratch: tempfile::tempdir().unwrap() };
        let data = format!("{}/tests/data", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(format!("docs/examples/{example}"))
            .unwrap()
            .replace("../../tests/data", &data);
        fs::write(place.path("fixture.toml"), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("fixture.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(self.path("fixture.toml"), text.replace(from, to)).unwrap();
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_archplan"));
        command.current_dir(self.scratch.path()).args(["run", "fixture.toml"]).args(more);
        command
    }

    fn output(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    /// Runs to the end; the stages that were done, not left as they were.
    fn done(&self, more: &[&str]) -> Vec<String> {
        let output = self.output(&[&["--json", "-q"], more].concat());
        assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(printed["failed"], Value::Null);
        let stages = printed["stages"].as_array().unwrap();
        let done = stages.iter().filter(|stage| stage["status"] == "done");
        done.map(|stage| stage["stage"].as_str().unwrap().to_string()).collect()
    }

    /// Starts it in a process group of its own and waits until something that it writes on the way is there.
    fn started(&self, sign: impl Fn(&Path) -> bool) -> Child {
        let mut command = self.command(&["-q"]);
        command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let start = Instant::now();
        let seen = || {
            let entries = fs::read_dir(self.path("fixture.run")).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).any(|path| sign(&path))
        };
        while !seen() {
            assert!(start.elapsed() < Duration::from_secs(120), "it never came so far");
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    }

    /// The bytes of statistics and child.
    fn result(&self) -> BTreeMap<String, Vec<u8>> {
        let work = self.path("fixture.run");
        let child = fs::read_dir(work.join("child")).unwrap().map(|entry| entry.unwrap().path());
        let files = child.chain([work.join("stats.safetensors"), work.join("search/target/config.json")]);
        files.map(|file| (file.display().to_string(), fs::read(&file).unwrap())).map(named(&work)).collect()
    }
}

/// Names from the work directory on.
fn named(work: &Path) -> impl Fn((String, Vec<u8>)) -> (String, Vec<u8>) {
    let work = work.display().to_string();
    move |(name, bytes)| (name.replace(&work, ""), bytes)
}

fn kill(target: &str) {
    assert!(Command::new("kill").args(["-9", "--", target]).status().unwrap().success());
}

#[test]
fn stages_run_once_and_again_where_something_changed() {
    let place = Place::new();
    let planned = place.output(&["--dry-run"]);
    let commands = String::from_utf8(planned.stdout).unwrap();
    assert!(commands.lines().count() == 6 && commands.lines().all(|line| line.starts_with("archplan ")));
    assert!(!place.path("fixture.run").exists(), "a dry run writes nothing");
    assert_eq!(place.done(&[]), STAGES);
    let first = place.result();
    assert!(place.done(&[]).is_empty());

    let told = place.output(&[]);
    let (page, said) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(said.contains("[2/6] search: unchanged, from 20"), "{said}");
    assert!(
        page.contains("| shape | 8L d128 f320 q8 kv4 hd16 | ") && page.contains("\narchplan prune "),
        "{page}"
    );

    let summary: Value =
        serde_json::from_slice(&fs::read(place.path("fixture.run/summary.json")).unwrap()).unwrap();
    let plan: Value =
        serde_json::from_slice(&fs::read(place.path("fixture.run/search/plan.json")).unwrap()).unwrap();
    assert_eq!(summary["child"]["shape"], plan["chosen"]["shape"]);
    let loss = |model: &str| summary[model]["loss_nats_per_token"]["mean"].as_f64().unwrap();
    let above = summary["loss_difference_nats_per_token"]["mean"].as_f64().unwrap();
    assert!(above > 0.0 && (loss("child") - loss("parent") - above).abs() < 1e-9);

    // A budget that another shape meets, then one that the same shape meets.
    place.edit("speedup = \"1.1x\"", "speedup = \"1.3x\"");
    assert_eq!(place.done(&[]), STAGES[1..]);
    assert_ne!(place.result(), first);
    place.edit("speedup = \"1.3x\"", "speedup = \"1.31x\"");
    assert_eq!(place.done(&[]), ["search", "report"], "the shape is the same");
    assert_eq!(place.done(&["--from", "prune"]), STAGES[2..]);
    assert_eq!(place.done(&["--from", "calibrate", "--until", "search"]), STAGES[..2]);
    // What was written is guarded too.
    fs::write(place.path("fixture.run/child/tokenizer.json"), "{}").unwrap();
    assert_eq!(place.done(&["--until", "prune"]), ["prune"]);
    fs::remove_file(place.path("fixture.run/evaluation.json")).unwrap();
    assert_eq!(place.done(&[]), ["evaluate", "report"]);
    // Back to where it began; the whole folder may move.
    place.edit("speedup = \"1.31x\"", "speedup = \"1.1x\"");
    place.done(&[]);
    assert_eq!(place.result(), first);
    place.edit("work_dir = \"fixture.run\"", "work_dir = \"moved.run\"");
    fs::rename(place.path("fixture.run"), place.path("moved.run")).unwrap();
    assert!(place.done(&[]).is_empty());
}

#[test]
fn what_is_wrong_stops_it_at_once() {
    let place = Place::new();
    let refused = |more: &[&str], code: i32, expected: &str| {
        let output = place.output(&[&["-q"], more].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(expected) && !told.contains("panicked"), "{told}");
        assert!(!place.path("fixture.run/stats.safetensors").exists(), "nothing was calibrated");
    };
    refused(&["--from", "prun"], 2, "did you mean `prune`?");
    refused(&["--from", "score"], 2, "the plan has no stage score");
    refused(&["--from", "prune", "--until", "search"], 2, "nothing would run");
    fs::create_dir(place.path("mine")).unwrap();
    fs::write(place.path("mine/thesis.tex"), "").unwrap();
    refused(&["--work-dir", "mine"], 2, "expected a new or empty folder");
    place.edit("samples = 64", "smaples = 64");
    refused(&[], 2, "fixture.toml:10:1: unknown field `smaples`");
    place.edit("smaples", "samples");
    place.edit("h200_sxm", "h300_sxm");
    refused(&[], 2, "stage search would fail with exit code 2: nothing was run");
    place.edit("h300_sxm", "h200_sxm");
    place.edit("calibration-1.jsonl", "calibration-9.jsonl");
    refused(&[], 2, "calibration-9.jsonl");
}

#[test]
fn a_stage_that_fails_gives_its_exit_code_and_the_run_goes_on_from_there() {
    let place = Place::new();
    place.edit("speedup = \"1.1x\"", "speedup = \"9x\"");
    let output = place.output(&["--json"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("`archplan run fixture.toml` goes on from there"), "{told}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&printed["failed"]["stage"], &printed["failed"]["exit_code"]), (&"search".into(), &3.into()));
    place.edit("speedup = \"9x\"", "speedup = \"1.1x\"");
    assert_eq!(place.done(&[]), STAGES[1..]);
}

#[test]
fn shapes_are_scored_and_tried_and_another_budget_keeps_the_tries() {
    let place = Place::of("fixture-scores.toml");
    place.edit("work_dir = \"fixture-scores.run\"", "work_dir = \"fixture.run\"");
    assert_eq!(place.done(&[]), ["calibrate", "score", "search", "prune", "evaluate", "verify", "report"]);
    let tried = || {
        let study = fs::read_to_string(place.path("fixture.run/study.jsonl")).unwrap();
        study.lines().filter(|line| line.starts_with("{\"told\"")).count()
    };
    assert_eq!(tried(), 3);
    // The plan's chosen shape is the best of those measured, and the child has it.
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(place.path(name)).unwrap()).unwrap()
    };
    let plan = read("fixture.run/search/plan.json");
    assert_eq!(plan["chosen"]["quality"]["loss_increase_nats"]["source"], "measured");
    let child = read("fixture.run/child/config.json");
    assert_eq!(child["num_hidden_layers"], plan["chosen"]["shape"]["layers"]);
    assert_eq!(child["hidden_size"], plan["chosen"]["shape"]["hidden"]);
    place.edit("speedup = \"1.1x\"", "speedup = \"1.09x\"");
    let again = place.done(&[]);
    assert!(again.starts_with(&["search".to_string()]), "{again:?}");
    assert_eq!(tried(), 3, "tries that keep the new budget count for it");
}

#[test]
fn killed_in_the_middle_it_ends_in_the_same_bytes() {
    let slow = |place: &Place| {
        place.edit("samples = 64\nseq_len = 128", "samples = 96\nseq_len = 256\nbatch_tokens = 256")
    };
    let straight = Place::new();
    slow(&straight);
    straight.done(&[]);
    let expected = straight.result();

    let place = Place::new();
    slow(&place);
    // The whole group, as when a machine goes down, while the statistics are gathered.
    let partial = place.path("fixture.run/stats.safetensors.partial");
    let mut run = place.started(|path| path == partial);
    kill(&format!("-{}", run.id()));
    run.wait().unwrap();
    assert!(!place.path("fixture.run/stats.safetensors").exists());
    // The run alone: its stage goes on for a while and keeps others out.
    let saved = || fs::metadata(&partial).and_then(|file| file.modified()).ok();
    let before = saved();
    let mut run = place.started(|path| path == partial && saved() > before);
    kill(&run.id().to_string());
    run.wait().unwrap();
    let output = place.output(&["-q"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("still at work"), "{told}");
    place.wait();
    let mut run = place.started(|path| path.display().to_string().contains("/.child.part-"));
    kill(&format!("-{}", run.id()));
    run.wait().unwrap();
    assert!(!place.path("fixture.run/child").exists());
    // A killed stage may hold the folder until the system has cleared it away.
    place.wait();
    assert_eq!(place.done(&[]), STAGES[2..]);
    assert!(place.result() == expected, "other bytes than without interruption");
    let left = fs::read_dir(place.path("fixture.run")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<String> = left.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.ends_with(".partial") || name.contains("child.part")), "{left:?}");
}
