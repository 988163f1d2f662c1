//! docs/formats.md names, in the section it belongs to, what the runs of `tests/formats.rs` do not write: infeasible
//! plans, several scenarios, pruned KV heads, findings, skipped runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use archplan::model::cards;
use archplan::plan::record::Plan;
use archplan::report::{bundle, tables};
use assert_cmd::Command;
use serde_json::Value;

/// Objects whose keys are names of something (an axis, a benchmark) rather than a vocabulary.
const NAMED: [&str; 3] = ["multiples", "bounds", "benchmarks"];

/// Words in back quotes in the opening and in one section; `a.b` counts as both.
fn documented(section: &str) -> BTreeSet<String> {
    let text = fs::read_to_string("docs/formats.md").unwrap();
    let mut sections = text.split("\n## ");
    let opening = sections.next().unwrap();
    let found = sections.find(|s| s.lines().next() == Some(section));
    let body = found.unwrap_or_else(|| panic!("docs/formats.md has no section `{section}`"));
    let words = |text: &str| -> Vec<String> {
        let prose: Vec<&str> = text.split("```").step_by(2).collect();
        let quoted = prose.join(" ");
        let quoted: Vec<&str> = quoted.split('`').skip(1).step_by(2).collect();
        quoted.iter().flat_map(|word| word.split('.')).map(String::from).collect()
    };
    words(opening).into_iter().chain(words(body)).collect()
}

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        Value::Object(entries) => {
            for (key, inner) in entries {
                found.insert(key.clone());
                match inner {
                    Value::Object(named) if NAMED.contains(&key.as_str()) => {
                        named.values().for_each(|v| keys(v, found));
                    }
                    _ => keys(inner, found),
                }
            }
        }
        _ => {}
    }
}

fn assert_documented(value: &Value, section: &str) {
    let (mut found, documented) = (BTreeSet::new(), documented(section));
    keys(value, &mut found);
    assert!(!found.is_empty(), "{section}: nothing to document");
    let missing: Vec<_> = found.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/formats.md, section `{section}`, does not name {missing:?}");
}

fn printed(command: &str) -> Value {
    let output = Command::cargo_bin("archplan").unwrap().args(command.split_whitespace()).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("{command}: {e}\n{}", String::from_utf8_lossy(&output.stderr));
    })
}

fn plan(name: &str) -> Plan {
    bundle::read(&Path::new("tests/data/plans").join(name)).unwrap()
}

#[test]
fn keys_of_a_plan() {
    for name in ["two_targets.json", "infeasible.json"] {
        assert_documented(&serde_json::to_value(plan(name)).unwrap(), "plan.json");
    }
}

#[test]
fn columns_of_the_tables() {
    let plan = plan("two_targets.json");
    let tables = [("front.csv", tables::front(&plan)), ("candidates.csv", tables::candidates(&plan))];
    for (section, table) in tables {
        let table = table.unwrap();
        let documented = documented(section);
        for column in table.lines().next().unwrap().split(',') {
            let name = ["s0_", "s1_"].iter().find_map(|s| column.strip_prefix(s)).unwrap_or(column);
            let name = name.strip_suffix("_low").or(name.strip_suffix("_high")).unwrap_or(name);
            assert!(
                documented.contains(name),
                "docs/formats.md, section `{section}`, does not name {column}"
            );
        }
    }
}

#[test]
fn keys_of_a_target() {
    let scratch = tempfile::tempdir().unwrap();
    let mut plan = plan("two_targets.json");
    // With fewer KV heads than the parent every key is written.
    plan.chosen.as_mut().unwrap().shape.kv_heads = 4;
    let parent = cards::find("qwen3-8b").unwrap().spec().unwrap();
    bundle::write(&plan, &parent, scratch.path(), false).unwrap();
    let text = fs::read_to_string(scratch.path().join("target.json")).unwrap();
    let target: Value = serde_json::from_str(&text).unwrap();
    assert!(target.get("num_query_groups").is_some());
    assert_documented(&target, "target.json");
}

#[test]
fn keys_of_findings() {
    let found = printed("profiles check tests/data/bad/column_unit --json");
    assert!(found[0]["errors"][0]["line"].is_u64(), "{found}");
    assert_documented(&found, "profiles check --json");
}

#[test]
fn keys_of_serving_scores() {
    // Two runs, one of a model that is not known: every key but those of the left-out scores, which are the same.
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("runs.csv");
    let runs = "model,hardware,engine,precision,tp,concurrency,prompt_len,output_len,ttft_ms,tpot_ms\n\
                llama-3.1-8b,h200_sxm,vllm,bf16,1,8,1024,512,90,6\n\
                no-such-model,h200_sxm,vllm,bf16,1,8,1024,512,90,6\n";
    fs::write(&path, runs).unwrap();
    let printed = printed(&format!("evaluate-serving --data {} --json", path.display()));
    assert_eq!(printed["skipped"].as_array().unwrap().len(), 1);
    assert_documented(&printed, "evaluate-serving --json");
}
