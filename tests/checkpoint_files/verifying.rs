//! `archplan verify`: exit codes and what is said.

use std::path::Path;

use archplan::model::counts;
use archplan::model::spec::ModelSpec;
use archplan::weights::surgery::cut::Cut;
use archplan::weights::surgery::options::Options;
use archplan::weights::surgery::record::{FORMAT, ParentRecord, Record};
use assert_cmd::Command;
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::checkpoint_files::{Tensors, llama, weights, with, write};

fn verify(directory: &Path, more: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("archplan"));
    let output = command.arg("verify").arg(directory).args(more).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn tensors() -> Tensors {
    weights(&llama(), &[Dtype::BF16], 5)
}

#[test]
fn a_sound_checkpoint_ends_with_0() {
    let root = tempdir().unwrap();
    let (a, b) = (root.path().join("a"), root.path().join("b"));
    write(&a, &llama(), &tensors(), 2);
    write(&b, &llama(), &tensors(), 1);
    let (code, out, err) =
        verify(&a, &["--engine", "transformers", "--tp", "2", "--parent", b.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("every weight is finite") && out.contains("21 tensors byte-identical"), "{out}");
    let (code, out, _) = verify(&a, &["--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &report["sound"], &report["loadable"], &report["tensors"]),
        (0, &json!(true), &json!(true), &json!(21))
    );
    assert_eq!(report["fingerprint"].as_str().unwrap().len(), 64);
}

#[test]
fn damage_and_bad_input_end_with_2() {
    let root = tempdir().unwrap();
    let mut damaged = tensors();
    damaged.get_mut("model.norm.weight").unwrap().bytes[2..4].copy_from_slice(&[0xc0, 0x7f]);
    write(root.path(), &llama(), &damaged, 1);
    let (code, out, err) = verify(root.path(), &[]);
    assert!(out.contains("damaged:") && out.contains("model.norm.weight holds NaN at element 1"), "{out}");
    assert!(code == 2 && err.contains("is damaged: 1 defect"), "{err}");
    let file = root.path().join("model.safetensors");
    let length = std::fs::metadata(&file).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 1).unwrap();
    let (code, out, err) = verify(root.path(), &[]);
    assert!(code == 2 && out.is_empty() && err.contains("truncated: tensor "), "{err}");
    assert_eq!(verify(&root.path().join("nowhere"), &[]).0, 2);
    assert_eq!(verify(root.path(), &["--engine", "vlm"]).0, 2);
}

#[test]
fn what_an_engine_does_not_load_ends_with_3() {
    let root = tempdir().unwrap();
    let odd = with(llama(), "hidden_size", json!(18));
    write(&root.path().join("odd"), &odd, &weights(&odd, &[Dtype::F32], 1), 1);
    let odd = root.path().join("odd");
    let (code, out, err) = verify(&odd, &["--engine", "transformers"]);
    assert!(code == 3 && out.contains("not loadable: transformers") && err.contains("1 rule"), "{out}{err}");
    assert_eq!(verify(&odd, &["--engine", "vllm"]).0, 0);
    let (code, out, _) = verify(&odd, &[]);
    assert!(code == 0 && out.contains("note: transformers"), "{out}");
    assert_eq!(verify(&odd, &["--tp", "3"]).0, 3);

    let (a, b) = (root.path().join("a"), root.path().join("b"));
    let mut changed = tensors();
    changed.get_mut("lm_head.weight").unwrap().bytes[0] ^= 1;
    write(&a, &llama(), &tensors(), 1);
    write(&b, &llama(), &changed, 1);
    let (code, out, err) = verify(&a, &["--parent", b.to_str().unwrap()]);
    assert!(code == 3 && out.contains("other bytes: 1 tensor\n  lm_head.weight"), "{out}{err}");
}

#[test]
fn a_record_that_lies_is_found() {
    let root = tempdir().unwrap();
    let spec = ModelSpec::from_config_json(&llama().to_string(), "test", "test").unwrap();
    write(root.path(), &llama(), &tensors(), 1);
    let shape = spec.architecture.clone();
    let parameters = counts::parameters(&spec, &shape).total();
    let parent =
        ParentRecord { name: "p".into(), fingerprint: "f".into(), architecture: shape.clone(), parameters };
    let mut record = Record {
        format: FORMAT,
        made_by: "test".into(),
        command: "test".into(),
        parent,
        architecture: shape,
        parameters,
        options: Options::default(),
        absorbed_post_norms: false,
        post_norms: vec![],
        importance_sha256: None,
        mask_sha256: None,
        repair_data: None,
        repair: vec![],
        kept: Cut::identity(&spec),
        dropped_tensors: vec![],
        dropped_files: vec![],
    };
    let path = root.path().join("archplan.json");
    std::fs::write(&path, json!(record).to_string()).unwrap();
    assert_eq!(verify(root.path(), &[]).0, 0);
    let (code, out, _) = verify(root.path(), &["--parent", root.path().to_str().unwrap()]);
    assert!(code == 0 && out.contains("note:") && out.contains("made from another p"), "{out}");
    record.kept.layers[1].ffn.pop();
    std::fs::write(&path, json!(record).to_string()).unwrap();
    let (code, out, err) = verify(root.path(), &[]);
    assert!(
        code == 2 && out.contains("keeps indices for the shape") && err.contains("1 defect"),
        "{out}{err}"
    );
    std::fs::write(&path, "{}").unwrap();
    let (code, out, _) = verify(root.path(), &[]);
    assert!(code == 2 && out.contains("no record of a surgery: missing field"), "{out}");
}
