//! The network's logits against those of transformers itself, where Python has it.
//!
//! Set `ARCHPLAN_PYTHON` to an interpreter with the packages of `tests/fixtures/requirements.txt`. Unset, `python3` is
//! tried, and the tests say on stderr that they were skipped where that lacks them. The trained fixtures are also held
//! to logits that lie beside them, which needs no Python.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::network::forward;
use archplan::weights::network::probe::Blind;
use archplan::weights::network::room::Room;
use archplan::weights::network::source::{LayerSource, Streamed};
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// Random models whose configuration the crate refuses by design: every layer of it sees a window only.
const REFUSED: &[&str] = &["mistral-window"];

/// Largest difference allowed between two logits; both sides compute in f32.
const TOLERANCE: f32 = 1e-4;

/// What `reference.py` writes.
struct Reference {
    /// Token ids, sequences of one length.
    sequences: Vec<Vec<u32>>,
    /// `[sequences, length, vocabulary]`.
    logits: Vec<f32>,
}

impl Reference {
    fn read(file: &Path) -> Reference {
        let bytes = fs::read(file).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tokens = tensors.tensor("tokens").unwrap();
        let ids: Vec<u32> = tokens.data().chunks_exact(8).map(|id| token(id.try_into().unwrap())).collect();
        let logits = tensors.tensor("logits").unwrap();
        let values = logits.data().chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().unwrap()));
        Reference {
            sequences: ids.chunks(tokens.shape()[1]).map(<[u32]>::to_vec).collect(),
            logits: values.collect(),
        }
    }
}

fn token(bytes: [u8; 8]) -> u32 {
    i64::from_le_bytes(bytes).try_into().unwrap()
}

/// Past the capture of the test harness.
fn say(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// An interpreter that can compute references, or none, said aloud.
fn python() -> Option<String> {
    let asked = std::env::var("ARCHPLAN_PYTHON").ok();
    let python = asked.clone().unwrap_or_else(|| "python3".into());
    let probe = Command::new(&python).args(["-c", "import torch, transformers, safetensors"]).output();
    if probe.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let reason = probe.map_or_else(|e| e.to_string(), |_| "lacks torch, transformers or safetensors".into());
    assert!(asked.is_none(), "{python}: {reason}");
    say(&format!("SKIPPED comparison of logits with transformers: {python}: {reason}"));
    None
}

/// What the script prints.
fn script(python: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(python).arg(root("tests/fixtures/reference.py")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Logits of the crate's network, `[sequences, length, vocabulary]`.
fn ours(directory: &Path, sequences: &[Vec<u32>]) -> Vec<f32> {
    let checkpoint = Checkpoint::open(directory).unwrap();
    let model = Streamed::new(&checkpoint).unwrap();
    let (settings, ends, mut room) = (model.settings(), model.ends().unwrap(), Room::default());
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let (mut stream, mut normed, mut out) = (Vec::new(), Vec::new(), Vec::new());
    forward::embed(&ends, settings, &sequences.concat(), &mut stream).unwrap();
    for index in 0..model.depth() {
        let layer = model.layer(index).unwrap();
        forward::forward_layer(&layer, settings, index, &lengths, &mut stream, &mut room, &mut Blind)
            .unwrap();
    }
    forward::final_normed(&ends, settings, &stream, &mut normed).unwrap();
    forward::logits(&ends, settings, &normed, &mut out).unwrap();
    out
}

/// The largest difference between our logits and the reference's.
fn difference(directory: &Path, reference: &Reference) -> f32 {
    let ours = ours(directory, &reference.sequences);
    assert_eq!(ours.len(), reference.logits.len(), "{}", directory.display());
    let pairs = ours.iter().zip(&reference.logits);
    pairs
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |most, d| if d.is_nan() { f32::INFINITY } else { most.max(d) })
}

#[test]
fn random_models_of_every_family_have_the_logits_of_transformers() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let printed = script(&python, &["families", scratch.path().to_str().unwrap()]);
    let report: Value = serde_json::from_str(&printed).unwrap();
    let names: Vec<&str> = report["models"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(names.len() >= 20, "{names:?}");
    let mut wrong = Vec::new();
    for name in names {
        let directory = scratch.path().join(name);
        if REFUSED.contains(&name) {
            let refusal = Checkpoint::open(&directory).unwrap_err().to_string();
            assert!(refusal.contains("sliding_window"), "{name}: {refusal}");
            continue;
        }
        let reference = Reference::read(&scratch.path().join(format!("{name}.logits.safetensors")));
        let most = difference(&directory, &reference);
        say(&format!("{name}: logits differ by {most:.1e} at most"));
        if most > TOLERANCE {
            wrong.push(name.to_owned());
        }
    }
    assert!(
        wrong.is_empty(),
        "further from transformers {} than {TOLERANCE}: {wrong:?}",
        report["transformers"]
    );
}

/// The first tokens of held-out samples, as the fixtures' own tokenizer cuts them.
fn heldout(samples: usize, length: usize) -> Vec<Vec<u32>> {
    let tokenizer =
        tokenizers::Tokenizer::from_file(root("tests/data/fixtures/plain/tokenizer.json")).unwrap();
    let text = fs::read_to_string(root("tests/data/fixtures/heldout.jsonl")).unwrap();
    let encode = |line: &str| {
        let sample: Value = serde_json::from_str(line).unwrap();
        let ids = tokenizer.encode(sample["text"].as_str().unwrap(), true).unwrap().get_ids().to_vec();
        ids[..length].to_vec()
    };
    text.lines().take(samples).map(encode).collect()
}

#[test]
fn trained_fixtures_have_the_logits_of_transformers() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let tokens = scratch.path().join("tokens.json");
    fs::write(&tokens, json!(heldout(4, 256)).to_string()).unwrap();
    for name in ["plain", "sandwich"] {
        let directory = root("tests/data/fixtures").join(name);
        let logits = scratch.path().join(format!("{name}.safetensors"));
        let paths = [directory.as_path(), &tokens, &logits].map(|path| path.to_str().unwrap());
        script(&python, &["logits", "--model", paths[0], "--tokens", paths[1], "--out", paths[2]]);
        let most = difference(&directory, &Reference::read(&logits));
        say(&format!("{name}: logits differ by {most:.1e} at most"));
        assert!(most <= TOLERANCE, "{name}: {most}");
    }
}

#[test]
fn trained_fixtures_have_the_logits_that_lie_beside_them() {
    for name in ["plain", "sandwich"] {
        let reference = Reference::read(&root(&format!("tests/data/fixtures/{name}.logits.safetensors")));
        assert_eq!(reference.sequences, heldout(1, 64), "{name}: the tokenizer cuts otherwise");
        let most = difference(&root("tests/data/fixtures").join(name), &reference);
        assert!(most <= TOLERANCE, "{name}: {most}");
    }
}

fn archplan(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_archplan")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn pruned_fixtures_load_in_transformers_with_our_logits() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    fs::write(path("tokens.json"), json!(heldout(2, 128)).to_string()).unwrap();
    let target = json!({"num_layers": 7, "hidden_size": 112, "ffn_hidden_size": 256});
    fs::write(path("target.json"), target.to_string()).unwrap();
    for (name, absorb) in [("plain", "auto"), ("sandwich", "off"), ("sandwich", "on")] {
        let model = root("tests/data/fixtures").join(name).display().to_string();
        let data = root("tests/data/fixtures/calibration-1.jsonl").display().to_string();
        let (stats, child, logits) = (path("stats.safetensors"), path(absorb), path("logits.safetensors"));
        archplan(&[
            "calibrate",
            "--model",
            &model,
            "--data",
            &data,
            "--samples",
            "16",
            "--seq-len",
            "128",
            "--out",
            &stats,
        ]);
        archplan(&[
            "prune",
            "--model",
            &model,
            "--target",
            &path("target.json"),
            "--importance",
            &stats,
            "--out",
            &child,
            "--repair",
            "least-squares",
            "--absorb-post-norm",
            absorb,
        ]);
        script(&python, &["logits", "--model", &child, "--tokens", &path("tokens.json"), "--out", &logits]);
        let most = difference(Path::new(&child), &Reference::read(Path::new(&logits)));
        say(&format!("{name} pruned, post-norms absorbed {absorb}: logits differ by {most:.1e} at most"));
        assert!(most <= TOLERANCE, "{name} {absorb}: {most}");
    }
}

#[test]
fn layers_of_unlike_shapes_have_the_logits_of_llama_layers_of_those_shapes() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    fs::write(path("tokens.json"), json!(heldout(2, 128)).to_string()).unwrap();
    let [whole, narrow] = [320, 256].map(|ffn| json!({"ffn": ffn, "q_heads": 8, "kv_heads": 4}));
    let [no_ffn, no_attention] = [[0, 8, 4], [200, 0, 0]]
        .map(|[ffn, q_heads, kv_heads]| json!({"ffn": ffn, "q_heads": q_heads, "kv_heads": kv_heads}));
    let target = json!({
        "hidden_size": 112,
        "layers": [whole, no_ffn, narrow, no_attention, narrow, {"ffn": 0, "q_heads": 0, "kv_heads": 0}, whole],
        "parents": [0, 1, 2, 4, 5, 6, 7]
    });
    fs::write(path("target.json"), target.to_string()).unwrap();
    let model = root("tests/data/fixtures/plain").display().to_string();
    let data = root("tests/data/fixtures/calibration-1.jsonl").display().to_string();
    let (stats, child, logits) = (path("stats.safetensors"), path("child"), path("logits.safetensors"));
    let calibrate = ["calibrate", "--model", &model, "--data", &data, "--samples", "16", "--seq-len", "128"];
    archplan(&[&calibrate[..], &["--out", &stats]].concat());
    let prune = ["prune", "--model", &model, "--target", &path("target.json"), "--importance", &stats];
    archplan(&[&prune[..], &["--out", &child, "--repair", "least-squares"]].concat());
    script(&python, &["logits", "--model", &child, "--tokens", &path("tokens.json"), "--out", &logits]);
    let most = difference(Path::new(&child), &Reference::read(Path::new(&logits)));
    say(&format!("plain pruned to layers of unlike shapes: logits differ by {most:.1e} at most"));
    assert!(most <= TOLERANCE, "{most}");
}
