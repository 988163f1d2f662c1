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

/// Eight layers of the fixture become seven of unlike shapes.
fn uneven(other_heads: bool) -> Value {
    let shape =
        |ffn: u64, q_heads: u64, kv_heads: u64| json!({"ffn": ffn, "q_heads": q_heads, "kv_heads": kv_heads});
    let narrow = if other_heads { shape(256, 4, 2) } else { shape(256, 8, 4) };
    json!({
        "layers": [
            shape(320, 8, 4), shape(0, 8, 4), narrow, shape(256, 0, 0), shape(320, 8, 4), shape(0, 0, 0), shape(256, 8, 4)
        ],
        "parents": [0, 1, 2, 4, 5, 6, 7]
    })
}

#[test]
fn layers_of_unlike_shapes_go_through_every_command() {
    let place = Place::new();
    let (model, stats) = (fixture("plain"), place.calibrate("plain", &[]));
    for (name, other_heads, class, engine) in
        [("blocks", false, "DeciLMForCausalLM", 0), ("listed", true, "LlamaForCausalLM", 3)]
    {
        let target = place.target("target.json", uneven(other_heads));
        let base = ["prune", "--model", &model, "--target", &target, "--importance", &stats];
        let mut losses = vec![loss(Path::new(&model))];
        for repair in ["least-squares", "none"] {
            let out = place.text(&format!("{name}-{repair}"));
            done(&[&base[..], &["--repair", repair, "--out", &out]].concat());
            done(&["verify", &out]);
            losses.push(loss(Path::new(&out)));
        }
        assert!(losses[0] < losses[1] && losses[1] < losses[2], "{losses:?}");
        let child = place.text(&format!("{name}-none"));
        let shown: Value = serde_json::from_str(&done(&["models", "show", &child, "--json"])).unwrap();
        assert_eq!(shown["architecture"], class);
        let layers = uneven(other_heads)["layers"].clone();
        assert_eq!(shown["shape"]["per_layer"], layers);
        assert!(done(&["models", "show", &child]).contains("none"));
        let config: Value =
            serde_json::from_slice(&fs::read(Path::new(&child).join("config.json")).unwrap()).unwrap();
        assert_eq!(config.get("archplan_layers").is_some(), other_heads);
        assert_eq!(Path::new(&child).join("configuration_decilm.py").exists(), !other_heads);
        let record: Value =
            serde_json::from_slice(&fs::read(Path::new(&child).join("archplan.json")).unwrap()).unwrap();
        assert_eq!(record["options"]["depth"], json!({"layers": [3]}));
        let verdict = archplan(&["verify", &child, "--engine", "vllm"]);
        let told = String::from_utf8_lossy(&verdict.stdout).into_owned();
        assert_eq!(verdict.status.code(), Some(engine), "{told}");
        assert_eq!(archplan(&["verify", &child, "--engine", "transformers"]).status.code(), Some(3));
        let predicted = done(&[
            "predict",
            "--json",
            "--model",
            &child,
            "--profile",
            "h200_sxm",
            "--concurrency",
            "4",
            "--prompt",
            "128",
            "--output",
            "32",
        ]);
        let predicted: Value = serde_json::from_str(&predicted).unwrap();
        assert_eq!(predicted["architecture"]["layers"]["per_layer"], layers);
        // The child is a parent in its turn, and its config.json a target of the same depth.
        let (again, data) = (place.text(&format!("{name}.stats")), place.text("text.jsonl"));
        let base = ["calibrate", "--model", &child, "--data", &data, "--samples", "4", "--seq-len", "64"];
        done(&[&base[..], &["--gram", "--out", &again]].concat());
        let same = place.text(&format!("{name}-same"));
        let config = format!("{child}/config.json");
        let base = ["prune", "--model", &child, "--importance", &again, "--out"];
        done(&[&base[..], &[&same, "--target", &config]].concat());
        done(&["verify", &same, "--parent", &child]);
        let narrower = place.text(&format!("{name}-narrower"));
        let mut smaller = uneven(other_heads);
        smaller["hidden_size"] = 112.into();
        smaller["parents"] = json!([0, 1, 2, 3, 4, 5, 6]);
        let smaller = place.target("smaller.json", smaller);
        done(&[&base[..], &[&narrower, "--target", &smaller, "--repair", "least-squares"]].concat());
        done(&["verify", &narrower]);
    }
}

#[test]
fn targets_of_unlike_layers_are_checked_before_anything_is_written() {
    let place = Place::new();
    let (model, stats, out) = (fixture("plain"), place.calibrate("plain", &[]), place.text("out"));
    let with = |target: Value, more: &[&str]| {
        let target = place.target("target.json", target);
        let base = ["prune", "--model", &model, "--target", &target, "--importance", &stats, "--out", &out];
        refused(&[&base[..], more].concat())
    };
    let changed = |key: &str, value: Value| {
        let mut target = uneven(false);
        target[key] = value;
        target
    };
    for (told, expected) in [
        (with(changed("parents", Value::Null), &[]), "`parents` in target.json"),
        (with(changed("parents", json!([0, 1, 2, 4, 5, 6])), &[]), "expected 7 entries"),
        (with(changed("parents", json!([0, 1, 2, 4, 5, 7, 6])), &[]), "layer 6"),
        (with(changed("parent", json!([])), &[]), "did you mean `parents`"),
        (with(changed("layers", json!([{"ffn": 320}])), &[]), "layers.q_heads"),
        (with(uneven(false), &["--depth-method", "2"]), "leaves out 3"),
    ] {
        assert!(told.contains(expected), "expected `{expected}`: {told}");
    }
    assert!(!place.path("out").exists());
}
