//! `archplan calibrate`, `prune`, `verify`, `evaluate` and `ablate` on the trained fixtures, end to end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn fixture(name: &str) -> String {
    format!("{}/tests/data/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn archplan(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_archplan")).args(arguments).output().unwrap()
}

fn done(arguments: &[&str]) -> String {
    let output = archplan(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The error of a command that must be refused with exit code 2.
fn refused(arguments: &[&str]) -> String {
    let output = archplan(arguments);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(told.contains("error: ") && !told.contains("panicked"), "{told}");
    told
}

struct Place {
    scratch: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { scratch: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn target(&self, name: &str, target: Value) -> String {
        fs::write(self.path(name), target.to_string()).unwrap();
        self.text(name)
    }

    /// Statistics of a fixture, from a copy of some calibration text.
    fn calibrate(&self, model: &str, more: &[&str]) -> String {
        fs::copy(fixture("calibration-1.jsonl"), self.path("text.jsonl")).unwrap();
        let (model, data, out) = (fixture(model), self.text("text.jsonl"), self.text("stats.safetensors"));
        let base = ["calibrate", "--model", &model, "--data", &data, "--samples", "40", "--seq-len", "128"];
        done(&[&base, more, &["--out", &out]].concat());
        out
    }
}

fn loss(model: &Path) -> f64 {
    let (model, data) = (model.display().to_string(), fixture("heldout.jsonl"));
    let printed = done(&[
        "evaluate",
        "--json",
        "--model",
        &model,
        "--data",
        &data,
        "--samples",
        "24",
        "--seq-len",
        "128",
    ]);
    let found: Value = serde_json::from_str(&printed).unwrap();
    found["loss_nats_per_token"]["mean"].as_f64().unwrap()
}

#[test]
fn a_child_is_made_checked_and_better_for_its_repair() {
    let place = Place::new();
    let (model, stats) = (fixture("plain"), place.calibrate("plain", &["--gram"]));
    let target =
        place.target("target.json", json!({"hidden_size": 104, "num_layers": 7, "ffn_hidden_size": 256}));
    let base = ["prune", "--model", &model, "--target", &target, "--importance", &stats];
    let mut losses = Vec::new();
    for repair in ["none", "affine", "least-squares"] {
        let out = place.text(repair);
        done(&[&base[..], &["--repair", repair, "--out", &out]].concat());
        done(&["verify", &out, "--engine", "any"]);
        losses.push(loss(&place.path(repair)));
    }
    let whole = loss(Path::new(&model));
    let [none, affine, full] = losses[..] else { panic!() };
    assert!(whole < full && full < affine && affine < none, "{whole} {full} {affine} {none}");
    assert!(full - whole < 0.5 * (none - whole), "half of the gap is closed: {whole} {full} {none}");

    let child = place.path("least-squares");
    let record: Value = serde_json::from_slice(&fs::read(child.join("archplan.json")).unwrap()).unwrap();
    assert_eq!(record["kept"]["hidden"].as_array().unwrap().len(), 104);
    assert_eq!(record["repair"].as_array().unwrap().len(), 7);
    assert_eq!(record["repair_data"]["samples"], 40);
    assert!(fs::read_to_string(child.join("README.md")).unwrap().contains("--repair least-squares"));
    assert_eq!(
        fs::read(child.join("tokenizer.json")).unwrap(),
        fs::read(Path::new(&model).join("tokenizer.json")).unwrap()
    );
    // Twice the same bytes.
    done(&[&base[..], &["--repair", "least-squares", "--out", &place.text("again")]].concat());
    let weights = |name: &str| fs::read(place.path(name).join("model.safetensors")).unwrap();
    assert!(weights("again") == weights("least-squares"));

    // Without the text the Gram matrices have to do.
    fs::remove_file(place.path("text.jsonl")).unwrap();
    done(&[&base[..], &["--repair", "least-squares", "--out", &place.text("grams")]].concat());
    let grams = loss(&place.path("grams"));
    assert!(full < grams && grams < none, "{full} {grams} {none}");
    // Where nothing is cut there is nothing to repair.
    let same = place.text("same");
    let whole = ["prune", "--model", &model, "--target", &model, "--importance", &stats, "--out", &same];
    done(&[&whole[..], &["--repair", "least-squares"]].concat());
    done(&["verify", &same, "--parent", &model]);
}

#[test]
fn nothing_cut_is_nothing_changed_and_a_dry_run_writes_nothing() {
    let place = Place::new();
    let (model, out) = (fixture("sandwich"), place.text("same"));
    done(&["prune", "--model", &model, "--target", &model, "--out", &out, "--absorb-post-norm", "off"]);
    let told = done(&["verify", &out, "--parent", &model]);
    assert!(told.contains("identical"), "{told}");
    let stats = place.calibrate("sandwich", &[]);
    let target = place.target("target.json", json!({"num_layers": 7}));
    let dry = place.text("dry");
    let printed = done(&[
        "prune",
        "--model",
        &model,
        "--target",
        &target,
        "--importance",
        &stats,
        "--out",
        &dry,
        "--dry-run",
    ]);
    assert!(printed.contains("layers dropped: ") && printed.contains("post-norms are "), "{printed}");
    assert!(!place.path("dry").exists());
}

#[test]
fn absorbed_post_norms_leave_a_plain_llama() {
    let place = Place::new();
    let (model, stats) = (fixture("sandwich"), place.calibrate("sandwich", &[]));
    let out = place.text("plain");
    done(&[
        "prune",
        "--model",
        &model,
        "--target",
        &model,
        "--importance",
        &stats,
        "--out",
        &out,
        "--absorb-post-norm",
        "on",
    ]);
    let config: Value = serde_json::from_slice(&fs::read(place.path("plain/config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"], json!(["LlamaForCausalLM"]));
    assert!(config.get("sandwich_norm").is_none());
    done(&["verify", &out]);
    let (before, after) = (loss(Path::new(&model)), loss(&place.path("plain")));
    assert!(after < before + 0.5, "{before} {after}");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_written() {
    let place = Place::new();
    let (plain, sandwich) = (fixture("plain"), fixture("sandwich"));
    let stats = place.calibrate("plain", &[]);
    let out = place.text("out");
    let narrow = place.target("narrow.json", json!({"hidden_size": 96}));
    let wide = place.target("wide.json", json!({"hidden_size": 4096}));
    let typo = place.target("typo.json", json!({"hiden_size": 96}));
    let groups = place.target("groups.json", json!({"num_query_groups": 1}));
    let with = |model: &str, target: &str, more: &[&str]| {
        let base = ["prune", "--model", model, "--target", target, "--out", &out];
        refused(&[&base[..], more].concat())
    };
    let stats: &[&str] = &["--importance", &stats];
    for (told, expected) in [
        (with(&plain, &narrow, &[]), "archplan calibrate"),
        (with(&plain, &wide, stats), "pruning cannot add"),
        (with(&plain, &typo, stats), "did you mean `hidden_size`"),
        (with(&plain, &groups, stats), "query heads per KV head"),
        (with(&sandwich, &narrow, stats), "stats.safetensors"),
        (with(&plain, &narrow, &[stats, &["--absorb-post-norm", "on"]].concat()), "no post-norms"),
        (with(&plain, &narrow, &[stats, &["--norm", "slpn"]].concat()), "did you mean `slnp`"),
        (with(&plain, &narrow, &[stats, &["--depth-method", "3,99"]].concat()), "no layer 99"),
        (with(&plain, &narrow, &[stats, &["--repair", "bias"]].concat()), "no bias"),
        (with("nowhere", &narrow, stats), "nowhere"),
    ] {
        assert!(told.contains(expected), "expected `{expected}`: {told}");
    }
    assert!(!place.path("out").exists());
    fs::create_dir(place.path("out")).unwrap();
    assert!(with(&plain, &narrow, stats).contains("exists"));
}

#[test]
fn the_ladder_has_a_row_for_every_step() {
    let place = Place::new();
    let (model, stats) = (fixture("plain"), place.calibrate("plain", &[]));
    let target = place.target("target.json", json!({"hidden_size": 112, "num_layers": 7}));
    let heldout = place.text("heldout.jsonl");
    let lines = fs::read_to_string(fixture("heldout.jsonl")).unwrap();
    fs::write(&heldout, lines.lines().take(8).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let printed = done(&[
        "ablate",
        "--json",
        "--model",
        &model,
        "--target",
        &target,
        "--importance",
        &stats,
        "--heldout",
        &heldout,
        "--seq-len",
        "128",
    ]);
    let found: Value = serde_json::from_str(&printed).unwrap();
    let rows = found["rows"].as_array().unwrap();
    let loss = |steps: &str| {
        let row = rows.iter().find(|row| row["steps"] == steps).unwrap();
        row["loss_nats_per_token"].as_f64().unwrap()
    };
    assert!(loss("naive slice") > loss("Minitron-style"));
    assert!(loss("+ least squares") < loss("+ SLNP"));
    assert!(found["parent_loss_nats_per_token"].as_f64().unwrap() < loss("+ least squares"));
}
