//! `archplan evaluate` as users call it.

use std::fs;
use std::path::Path;

use archplan::model::spec::ModelSpec;
use archplan::model::tensors;
use archplan::weights::checkpoint::tensor::Tensor;
use assert_cmd::Command;
use predicates::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// Writes a tiny Qwen3 with random weights.
fn write_model(directory: &Path, seed: u64, vocabulary: u64) {
    let config = json!({"architectures": ["Qwen3ForCausalLM"], "hidden_size": 32, "num_hidden_layers": 2,
        "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "vocab_size": vocabulary, "max_position_embeddings": 64, "tie_word_embeddings": true});
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let spec = ModelSpec::from_config_json(&config.to_string(), "test", "test").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tensor = |t: &tensors::ModelTensor| {
        let shape: Vec<usize> = t.shape.iter().map(|n| *n as usize).collect();
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-0.5..0.5)).collect();
        Tensor::from_f32(&t.name, Dtype::BF16, &shape, &values).unwrap()
    };
    let all: Vec<Tensor<'_>> = tensors::all(&spec).iter().map(&mut tensor).collect();
    let views =
        all.iter().map(|t| (t.name.clone(), TensorView::new(t.dtype, t.shape.clone(), &t.data).unwrap()));
    safetensors::serialize_to_file(views, None, &directory.join("model.safetensors")).unwrap();
}

fn evaluate(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("archplan").unwrap();
    command.current_dir(folder).args(["evaluate", "--data", "data.jsonl"]).args(arguments);
    command
}

fn folder(data: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_model(&folder.path().join("child"), 1, 40);
    write_model(&folder.path().join("parent"), 2, 40);
    write_model(&folder.path().join("other"), 3, 41);
    fs::write(folder.path().join("data.jsonl"), data).unwrap();
    folder
}

const DATA: &str =
    "{\"tokens\": [1, 2, 3, 4, 5, 6]}\n{\"tokens\": [9, 8, 7]}\n{\"tokens\": [39, 0, 1, 1, 1]}\n";

#[test]
fn a_model_is_compared_with_its_parent() {
    let folder = folder(DATA);
    let run = |arguments: &[&str]| -> Value {
        let output = evaluate(folder.path(), arguments).arg("--json").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let found = run(&["--model", "child", "--parent", "parent", "--seq-len", "5"]);
    assert_eq!((&found["samples"], &found["predicted_tokens"]), (&json!(3), &json!(10)));
    let loss = found["loss_nats_per_token"]["mean"].as_f64().unwrap();
    assert!((1.0..10.0).contains(&loss));
    assert!((found["perplexity"].as_f64().unwrap() - loss.exp()).abs() < 1e-9);
    assert!(found["parent"]["kl_nats_per_token"]["mean"].as_f64().unwrap() > 0.01);
    let twice = run(&["--model", "child", "--parent", "child", "--threads", "1", "--seq-len", "5"]);
    assert_eq!(
        twice["loss_nats_per_token"], found["loss_nats_per_token"],
        "threads and the parent change nothing"
    );
    assert_eq!(twice["parent"]["top1_agreement"]["mean"], 1.0);
    let shown = evaluate(folder.path(), &["--model", "child", "--samples", "2"]).assert().success();
    shown.stdout(
        predicate::str::contains("perplexity").and(predicate::str::contains("7 tokens predicted in 2")),
    );
}

#[test]
fn bad_input_is_told_in_one_line() {
    let folder = folder(&format!("{DATA}\n"));
    let refused = |arguments: &[&str], expected: &str| {
        let error = predicate::str::contains(expected).and(predicate::str::contains("\n").count(1));
        evaluate(folder.path(), arguments).arg("-q").assert().code(2).stdout("").stderr(error);
    };
    refused(&["--model", "child"], "data.jsonl, line 4: empty");
    refused(&["--model", "child", "--samples", "3", "--parent", "other"], "the parent must share it");
    refused(&["--model", "none"], "none is no directory");
    refused(&["--model", "child", "--samples", "9"], "line 4: empty");
}
