//! `archplan profiles` as a user meets it: tables, JSON keys, exit codes.

use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::Value;

fn archplan(arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("archplan").unwrap().args(arguments).assert()
}

fn json(arguments: &[&str]) -> Value {
    let output = archplan(&[arguments, &["--json"]].concat()).get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

#[test]
fn lists_built_in_and_own_profiles() {
    archplan(&["profiles"]).success().stdout(predicate::str::contains("NVIDIA H200 SXM 141GB"));
    let listed = json(&["profiles", "list", "--profile-dir", "tests/data/good/tiny"]);
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a100_sxm", "ascend_910b", "h100_sxm", "h200_sxm", "tiny"]);
    assert_eq!(listed[4]["origin"], "tests/data/good/tiny");
    assert_eq!(listed[3]["tables"][0]["rows"], 64_352);
}

#[test]
fn a_broken_profile_is_listed_with_its_defect() {
    let listed = json(&["profiles", "--profile-dir", "tests/data/bad/zero_latency"]);
    let broken = listed.as_array().unwrap().iter().find(|p| p["name"] == "zero_latency").unwrap();
    assert!(broken["error"].as_str().unwrap().contains("gemm.csv:2:14: latency_us is zero"));
}

#[test]
fn shows_facts_under_keys_with_units() {
    let shown = json(&["profiles", "show", "h200_sxm"]);
    assert_eq!(shown["device"]["hbm_gbps"], 4800.0);
    assert_eq!(shown["device"]["peak_tflops"]["fp8"], 1978.0);
    assert_eq!(shown["tables"][0]["axes"][0]["name"], "m");
    assert_eq!(shown["tables"][0]["licence"], "Apache-2.0");
    assert_eq!(shown["sha256"].as_str().unwrap().len(), 64);
    archplan(&["profiles", "show", "h200_sxm"]).success().stdout(predicate::str::contains("4800 GB/s"));
}

#[test]
fn shows_stated_errors() {
    let shown = json(&["profiles", "show", "tiny", "--profile-dir", "tests/data/good"]);
    assert_eq!(shown["evaluation"][0]["median_ape_percent"], 3.5);
}

#[test]
fn an_unknown_name_is_bad_input() {
    archplan(&["profiles", "show", "h20_sxm"])
        .code(2)
        .stderr(predicate::str::contains("did you mean `h200_sxm`?"));
}

#[test]
fn checks_report_every_defect_and_end_with_2() {
    let checked = archplan(&["profiles", "check", "tests/data/bad/several"]).code(2);
    let checked = checked.stderr(predicate::str::contains("9 defects in tests/data/bad/several"));
    let lines = String::from_utf8(checked.get_output().stdout.clone()).unwrap();
    assert_eq!(lines.lines().filter(|line| line.starts_with("error: ")).count(), 9);
    let found = json(&["profiles", "check", "tests/data/bad/several"]);
    assert_eq!(found[0]["errors"][1]["line"], 7);
    assert_eq!(found[0]["errors"][1]["column"], 1);
}

#[test]
fn checks_of_sound_profiles_end_with_0() {
    archplan(&["profiles", "check", "tests/data/good"])
        .success()
        .stdout(predicate::str::contains("tiny: sound"));
    archplan(&["profiles", "check", "tests/data/good/tiny/profile.toml"]).success();
}

#[test]
fn a_path_without_profiles_is_bad_input() {
    archplan(&["profiles", "check", "tests/data/none"])
        .code(2)
        .stderr(predicate::str::contains("cannot be read"));
    archplan(&["profiles", "check", "tests/data/bad/no_profiles"]).code(2);
}
