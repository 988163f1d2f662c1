//! `archplan models` as a person runs it.

use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::Value;

fn archplan() -> Command {
    Command::new(assert_cmd::cargo::cargo_bin!("archplan"))
}

#[test]
fn lists_every_built_in_model() {
    let shape = predicate::str::contains("64L d5120 f25600 q64 kv8 hd128");
    archplan().arg("models").assert().success().stdout(shape);
    let output = archplan().args(["models", "list", "--json"]).assert().success().get_output().stdout.clone();
    let models: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(models.as_array().unwrap().len(), 20);
    assert!(models.as_array().unwrap().iter().all(|m| m["source"].as_str().is_some_and(|s| !s.is_empty())));
}

#[test]
fn shows_one_model_by_name_and_by_path() {
    let output = archplan()
        .args(["models", "show", "meta-llama/Llama-3.1-8B", "--json"])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let model: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(model["parameters"], 8_030_261_248_u64);
    assert_eq!(model["kv_bytes_per_token"]["bf16"], 131_072.0);
    assert_eq!(model["shape"]["ffn"], 14336);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/configs/gemma-3-1b.json");
    archplan().args(["models", "show", path]).assert().success().stdout(
        predicate::str::contains("999885952").and(predicate::str::contains("a window of 512 tokens in 22")),
    );
}

#[test]
fn bad_input_ends_with_2_and_one_error() {
    archplan()
        .args(["models", "show", "qwen3-33b"])
        .assert()
        .code(2)
        .stdout("")
        .stderr(predicate::str::contains("did you mean `qwen3-32b`?"));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/configs/mixtral-8x7b.json");
    archplan()
        .args(["models", "show", path])
        .assert()
        .code(2)
        .stdout("")
        .stderr(predicate::str::contains("mixtral-8x7b.json: key `num_local_experts` = 8"));
}
