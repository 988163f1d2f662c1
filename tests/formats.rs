//! `docs/formats.md` names every key the tool prints.

use std::collections::BTreeSet;
use std::fs;

use assert_cmd::Command;
use serde_json::Value;

fn archplan(arguments: &str) -> Value {
    let output = Command::cargo_bin("archplan")
        .expect("the binary")
        .args(arguments.split(' '))
        .output()
        .expect("a run");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments}: {e}"))
}

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                found.insert(key.clone());
                keys(inner, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| keys(inner, found)),
        _ => {}
    }
}

/// Words in backticks.
fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string("docs/formats.md").expect("docs/formats.md");
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(|word| word.rsplit('.').next().unwrap_or_default().to_string())
        .collect()
}

fn check(what: &str, found: BTreeSet<String>) {
    // Names of types, profiles and libraries are values that happen to be keys.
    const NAMES: [&str; 8] =
        ["bf16", "fp8", "int8", "f32", "nccl", "gemm", "attention_prefill", "attention_decode"];
    let documented = documented();
    let missing: Vec<&String> = found
        .iter()
        .filter(|key| !documented.contains(*key) && !NAMES.contains(&key.as_str()) && *key != "all_reduce")
        .collect();
    assert!(missing.is_empty(), "{what}: not in docs/formats.md: {missing:?}");
}

#[test]
fn every_key_of_a_pruned_checkpoint_and_of_an_ablation_is_documented() {
    let scratch = tempfile::tempdir().expect("a folder");
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let (model, data) = ("tests/data/fixtures/sandwich", "tests/data/fixtures/heldout.jsonl");
    let (stats, target) = (path("stats.safetensors"), path("target.json"));
    fs::write(&target, r#"{"num_layers": 7, "hidden_size": 120}"#).expect("a target");
    archplan(&format!(
        "calibrate --model {model} --data {data} --samples 4 --seq-len 32 --out {stats} --json -q"
    ));
    let base = format!("--model {model} --target {target} --importance {stats} --seq-len 32 --json -q");
    let mut found = BTreeSet::new();
    keys(&archplan(&format!("prune {base} --repair least-squares --out {}", path("child"))), &mut found);
    keys(&archplan(&format!("prune {base} --dry-run --out {}", path("other")))["kept"], &mut found);
    keys(&archplan(&format!("ablate {base} --heldout {data}")), &mut found);
    keys(&archplan(&format!("verify {} --json", path("child"))), &mut found);
    check("prune, ablate, verify", found);
}

#[test]
fn every_key_of_scores_and_studies_is_documented() {
    let scratch = tempfile::tempdir().expect("a folder");
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let (model, data) = ("tests/data/fixtures/plain", "tests/data/fixtures/heldout.jsonl");
    let (stats, scores, study) = (path("stats.safetensors"), path("scores.csv"), path("study.jsonl"));
    archplan(&format!(
        "calibrate --model {model} --data {data} --samples 4 --seq-len 32 --out {stats} --json -q"
    ));
    let few =
        "--ffn-keep 50% --kv-keep 50% --heads-keep 50% --runs 1 --hidden-keep 50% --samples 2 --seq-len 32";
    let base = format!("--model {model} --importance {stats} --json -q");
    let mut found = BTreeSet::new();
    let scored = archplan(&format!("score {base} --data {data} {few} --out {scores}"));
    keys(&scored, &mut found);
    let scene = "--profile h200_sxm --batch 4 --prompt 64 --output 16 --multiple hidden=64,ffn=160 --bounds layers=7..8";
    let search = format!("search {base} {scene} --scores {scores} --study {study}");
    let mut plan = archplan(&format!("{search} --speedup 1.01x --try 9"));
    for axis in ["multiples", "bounds"] {
        plan["recipe"]["request"][axis].take();
    }
    keys(&plan, &mut found);
    let lines = fs::read_to_string(&study).expect("a study");
    lines.lines().for_each(|line| keys(&serde_json::from_str(line).expect("JSON"), &mut found));
    keys(&archplan(&format!("study {study} --json")), &mut found);
    check("score, search --scores, study", found);
}

#[test]
fn every_key_of_a_mask_is_documented() {
    let scratch = tempfile::tempdir().expect("a folder");
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let (model, data) = ("tests/data/fixtures/plain", "tests/data/fixtures/heldout.jsonl");
    let (stats, target, out) = (path("stats.safetensors"), path("half.json"), path("masks"));
    archplan(&format!(
        "calibrate --model {model} --data {data} --samples 4 --seq-len 32 --out {stats} --json -q"
    ));
    let layer = serde_json::json!({"ffn": 160, "q_heads": 4, "kv_heads": 2});
    fs::write(&target, serde_json::json!({"layers": vec![layer; 8]}).to_string()).expect("a file");
    let base = format!("--model {model} --importance {stats} --json -q");
    let mut found = BTreeSet::new();
    let search = format!(
        "mask {base} --target {target} --data {data} --samples 16 --seq-len 16 --steps 2 --out {out}"
    );
    keys(&archplan(&search), &mut found);
    let file = fs::read_to_string(scratch.path().join("masks/mask.json")).expect("a mask");
    keys(&serde_json::from_str(&file).expect("JSON"), &mut found);
    let child = archplan(&format!("prune {base} --target {out} --mask {out} --out {}", path("child")));
    keys(&child, &mut found);
    check("mask, prune --mask", found);
}

#[test]
fn every_key_of_a_run_is_documented() {
    let scratch = tempfile::tempdir().expect("a folder");
    let work = scratch.path().join("work");
    let run = format!("run docs/examples/fixture.toml --work-dir {} --json -q", work.display());
    let mut found = BTreeSet::new();
    keys(&archplan(&format!("{run} --dry-run")), &mut found);
    keys(&archplan(&run), &mut found);
    let read = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(work.join(name)).expect("a file")).expect("JSON")
    };
    keys(&read("summary.json"), &mut found);
    let mut record = read("stages/prune.json");
    let inputs = record["key"]["inputs"].take();
    assert_eq!(inputs.as_object().map(|inputs| inputs.len()), Some(4), "{inputs}");
    // Their keys are paths.
    record["outputs"].take();
    keys(&record, &mut found);
    check("run", found);
}

#[test]
fn every_key_of_a_carried_profile_is_documented() {
    let scratch = tempfile::tempdir().expect("a folder");
    let out = scratch.path().display();
    let made =
        archplan(&format!("profiles new l40s --like ascend_910b --datasheet l40s --out {out} --json -q"));
    let mut found = BTreeSet::new();
    keys(&made, &mut found);
    let fit = fs::read_to_string(scratch.path().join("l40s/gemm.fit.json")).expect("a fit");
    let fit: Value = serde_json::from_str(&fit).expect("JSON");
    keys(&fit["fits"][0]["carried"], &mut found);
    assert!(found.contains("laws") && found.contains("remarks"));
    check("profiles new", found);
    let lists = format!(
        "profiles new l40s --like ascend_910b --datasheet l40s --suggest-points 5 --out {out}/x --json -q"
    );
    let mut found = BTreeSet::new();
    keys(&archplan(&lists), &mut found);
    check("--suggest-points", found);
}

#[test]
fn every_key_is_documented() {
    let request = "--model qwen3-0.6b --profile a100_sxm --batch 4 --prompt 512 --output 64";
    let commands = [
        format!("predict {request} --json -q"),
        "predict --model qwen3-0.6b --profile a100_sxm --concurrency 4 --prompt 512 --output 64 --json -q"
            .to_string(),
        format!("search {request} --speedup 1.2x --json -q"),
        format!("search {request} --dry-run --json -q"),
        "profiles evaluate a100_sxm --json".to_string(),
        "profiles diff a100_sxm ascend_910b --json -q".to_string(),
        "profiles diff a100_sxm h100_sxm --model qwen3-0.6b --json -q".to_string(),
        "profiles evaluate-transfer a100_sxm ascend_910b h100_sxm --target a100_sxm --points 0 --json -q"
            .to_string(),
        "profiles list --json".to_string(),
        "profiles show a100_sxm --json".to_string(),
        "profiles show ascend_910b --json".to_string(),
        "profiles check hardware_profiles/ascend_910b --json".to_string(),
        "models list --json".to_string(),
        "models show qwen3-0.6b --json".to_string(),
        "quality --json".to_string(),
        "evaluate-serving --json".to_string(),
    ];
    let scratch = tempfile::tempdir().expect("a folder");
    let import = format!(
        "profiles import --from aiconfigurator tests/data/import/database --framework vllm --system l40s --json --out {}",
        scratch.path().join("toy").display()
    );
    for command in commands.into_iter().chain([import]) {
        let mut found = BTreeSet::new();
        keys(&archplan(&command), &mut found);
        assert!(!found.is_empty(), "{command} prints no keys");
        check(&command, found);
    }
}

#[test]
fn every_key_of_a_fit_is_documented() {
    for family in ["gemm", "attention_prefill", "attention_decode"] {
        let path = format!("hardware_profiles/ascend_910b/{family}.fit.json");
        let text = fs::read_to_string(&path).expect("a fit");
        let mut found = BTreeSet::new();
        keys(&serde_json::from_str(&text).expect("JSON"), &mut found);
        assert!(found.contains("fits"), "{path}");
        check(&path, found);
    }
}

#[test]
fn every_column_is_documented() {
    let scratch = tempfile::tempdir().expect("a folder");
    let out = scratch.path().join("run");
    let arguments = format!(
        "search --model qwen3-0.6b --profile a100_sxm --batch 4 --prompt 512 --output 64 --speedup 1.2x --json -q --out {}",
        out.display()
    );
    archplan(&arguments);
    for name in ["front.csv", "candidates.csv"] {
        let mut reader = csv::Reader::from_path(out.join(name)).expect("a table");
        let columns = reader.headers().expect("a header").iter();
        let plain = columns.map(|column| {
            let column = column.strip_prefix("s0_").unwrap_or(column);
            column.trim_end_matches("_low").trim_end_matches("_high").to_string()
        });
        check(name, plain.collect());
    }
    let target: Value =
        serde_json::from_str(&fs::read_to_string(out.join("target.json")).expect("a file")).expect("JSON");
    let mut found = BTreeSet::new();
    keys(&target, &mut found);
    check("target.json", found);
    let evaluation = fs::read_to_string("hardware_profiles/a100_sxm/evaluation.csv").expect("a table");
    check(
        "evaluation.csv",
        evaluation.lines().next().unwrap_or_default().split(',').map(String::from).collect(),
    );
}

#[test]
fn every_column_of_errors_and_differences_is_documented() {
    let scratch = tempfile::tempdir().expect("a folder");
    let out = |name: &str| scratch.path().join(name).display().to_string();
    archplan(&format!("profiles evaluate a100_sxm --family all_reduce --json -q --out {}", out("errors")));
    archplan(&format!("profiles diff a100_sxm h100_sxm --json -q --out {}", out("difference")));
    let tables = ["errors/errors_all_reduce_bytes.csv", "difference/difference_gemm_bf16.csv"];
    for (table, dimension) in tables.into_iter().zip(["backend", "dtype"]) {
        let text = fs::read_to_string(scratch.path().join(table)).expect("a table");
        let header = text.lines().next().expect("a header");
        // What comes before are the columns of the profile's own tables.
        let (_, own) = header.split_once(&format!("{dimension},")).expect("the last column of the call");
        check(table, own.split(',').map(String::from).collect());
    }
}
