//! The hook script for PyTorch against our own calibration, where Python has transformers.
//!
//! Set `ARCHPLAN_PYTHON` to an interpreter with `torch`, `transformers` 5 and `safetensors`. Unset, `python3` is tried, and the
//! test says on stderr that it was skipped where that lacks one.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use archplan::weights::importance::fields::{Numbers, fields};
use archplan::weights::importance::file::Importance;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const MODELS: [&str; 5] = ["llama-biases", "qwen3", "gemma2", "gemma3", "pangu-sandwich"];
const SAMPLES: usize = 4;
const SEQ_LEN: usize = 100;
const VOCABULARY: u32 = 128;

/// Runs the hook script with openPangu's classes at hand.
const WITH_PANGU: &str = "import sys, runpy; sys.path.insert(0, sys.argv[1]); import pangu; del sys.argv[:2]; \
                          runpy.run_path(sys.argv[0], run_name='__main__')";

fn python() -> Result<String, String> {
    let python = std::env::var("ARCHPLAN_PYTHON").unwrap_or_else(|_| "python3".into());
    let probe = Command::new(&python).args(["-c", "import torch, transformers, safetensors"]).output();
    match probe.map_err(|error| format!("{python}: {error}"))?.status.success() {
        true => Ok(python),
        false => Err(format!("{python} lacks torch, transformers or safetensors")),
    }
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn archplan(folder: &Path, arguments: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archplan"));
    succeed(command.current_dir(folder).args(arguments.split(' ')));
}

/// Largest difference of a field's numbers, relative to the field's largest.
fn difference(ours: Numbers, theirs: Numbers) -> f64 {
    let (Numbers::F64(ours), Numbers::F64(theirs)) = (ours, theirs) else { panic!("no Gram matrices here") };
    let scale = ours.iter().fold(1e-30f64, |most, x| most.max(x.abs()));
    ours.iter().zip(theirs).fold(0.0f64, |most, (a, b)| most.max((a - b).abs())) / scale
}

#[test]
fn the_hook_script_gathers_the_same_sums() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) if std::env::var_os("ARCHPLAN_PYTHON").is_some() => panic!("{reason}"),
        // Past the capture of the test harness.
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED comparison with the hook script: {reason}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    succeed(
        Command::new(&python)
            .arg(format!("{fixtures}/reference.py"))
            .arg("families")
            .arg(folder)
            .args(MODELS),
    );
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let lines = (0..SAMPLES).map(|sample| {
        let tokens: Vec<u32> = (0..20 + 40 * sample).map(|_| rng.random_range(0..VOCABULARY)).collect();
        json!({"tokens": tokens}).to_string()
    });
    std::fs::write(folder.join("text.jsonl"), lines.collect::<Vec<_>>().join("\n")).unwrap();
    archplan(folder, "calibrate script --out hooks.py");
    for model in MODELS {
        let hooked = Command::new(&python)
            .current_dir(folder)
            .args(["-c", WITH_PANGU, fixtures, "hooks.py", model, "text.jsonl"])
            .args([&SAMPLES.to_string(), &SEQ_LEN.to_string(), "hooked.safetensors"])
            .env("CUDA_VISIBLE_DEVICES", "")
            .output()
            .unwrap();
        assert!(hooked.status.success(), "{model}: {}", String::from_utf8_lossy(&hooked.stderr));
        archplan(
            folder,
            &format!("calibrate import hooked.safetensors --model {model} --out theirs.safetensors -q"),
        );
        let run =
            format!("calibrate --model {model} --data text.jsonl --samples {SAMPLES} --seq-len {SEQ_LEN}");
        archplan(folder, &format!("{run} --out ours.safetensors -q"));
        let ours = Importance::load(&folder.join("ours.safetensors")).unwrap();
        let theirs = Importance::load(&folder.join("theirs.safetensors")).unwrap();
        assert_eq!(ours.header.model, theirs.header.model);
        assert_eq!(ours.header.data.sha256, theirs.header.data.sha256);
        let counts = |i: &Importance| (i.sums.samples, i.sums.tokens, i.sums.angular_tokens);
        assert_eq!(counts(&ours), counts(&theirs));
        for ((name, ours), (_, theirs)) in fields(&ours.sums).into_iter().zip(fields(&theirs.sums)) {
            let found = difference(ours, theirs);
            assert!(found <= 1e-4, "{model}: {name} differs by {found:.1e}");
        }
    }
}
