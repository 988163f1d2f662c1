//! Counts and child configurations against transformers itself, where Python has it.
//!
//! Set `ARCHPLAN_PYTHON` to an interpreter with `torch` and `transformers` (4.48 or later). Unset, `python3` is tried,
//! and the test says on stderr that it was skipped where that has neither.

use std::io::Write;
use std::process::Command;

use archplan::model::architecture::Architecture;
use archplan::model::cards;
use archplan::model::counts;
use archplan::model::export;
use archplan::model::spec::{Family, ModelSpec};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Value, json};

/// Pruned shapes tried for each parent.
const SHAPES: usize = 30;

/// What `transformers_counts.py` prints.
#[derive(Deserialize)]
struct Report {
    version: String,
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    name: String,
    parameters: Option<u64>,
    head_dim: Option<u64>,
    error: Option<String>,
}

/// A configuration, what it should come to, and whether transformers 5 is expected to refuse it.
struct Case {
    name: String,
    config: Value,
    parameters: u64,
    head_dim: u64,
    refused_by_5: bool,
}

fn fixture(file: &str) -> ModelSpec {
    let path = format!("{}/tests/data/configs/{file}", env!("CARGO_MANIFEST_DIR"));
    ModelSpec::from_config_json(&std::fs::read_to_string(path).unwrap(), file, file).unwrap()
}

fn parents() -> Vec<ModelSpec> {
    let cards = ["llama-3.1-8b", "mistral-7b", "qwen2.5-0.5b", "qwen3-0.6b", "openpangu-embedded-7b"];
    let files =
        ["openpangu-sandwich.json", "gemma-2-2b.json", "gemma-3-1b.json", "gemma-3-1b-transformers-5.json"];
    let biased = {
        let mut config = cards::find("llama-3.1-8b").unwrap().config.clone();
        config.extend([("attention_bias".into(), true.into()), ("mlp_bias".into(), true.into())]);
        ModelSpec::from_config(config, "biased", "llama with biases").unwrap()
    };
    let cards = cards.iter().map(|name| cards::find(name).unwrap().spec().unwrap());
    cards.chain(files.map(fixture)).chain([biased]).collect()
}

/// A pruned shape: any hidden size, FFN width and (even) head size, any grouping of the heads.
fn pruned(parent: &ModelSpec, rng: &mut ChaCha8Rng) -> Architecture {
    let own = &parent.architecture;
    let shape = own.uniform_shape().unwrap();
    let shallowest = parent.window_pattern.len().max(1) as u64;
    let kv_heads = rng.random_range(1..=shape.kv_heads);
    let groups = rng.random_range(1..=shape.q_heads / kv_heads);
    // openPangu is built as a Llama, whose check it would not pass otherwise; the others may come out either way.
    let multiple = if parent.family == Family::PanguEmbedded { kv_heads * groups } else { 16 };
    Architecture::uniform(
        rng.random_range(shallowest..=own.depth().min(12)),
        rng.random_range(1..=own.hidden / multiple) * multiple,
        rng.random_range(1..=shape.ffn),
        kv_heads * groups,
        kv_heads,
        2 * rng.random_range(1..=own.head_dim / 2),
    )
}

fn case(name: String, parent: &ModelSpec, shape: &Architecture) -> Case {
    let child = export::child_config(parent, shape).unwrap();
    Case {
        name,
        config: child.config,
        parameters: counts::parameters(parent, shape).total(),
        head_dim: shape.head_dim,
        refused_by_5: child
            .warnings
            .iter()
            .any(|w| w.engine == "transformers" && w.versions.starts_with("5.")),
    }
}

fn cases() -> Vec<Case> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut cases: Vec<Case> = cards::all()
        .iter()
        .map(|card| card.spec().unwrap())
        .map(|spec| case(spec.name.clone(), &spec, &spec.architecture))
        .collect();
    for parent in parents() {
        for _ in 0..SHAPES {
            let shape = pruned(&parent, &mut rng);
            cases.push(case(format!("{} as {shape}", parent.name), &parent, &shape));
        }
    }
    cases
}

/// What transformers makes of the cases, or why it cannot be asked.
fn ask(cases: &[Case]) -> Result<Report, String> {
    let python = std::env::var("ARCHPLAN_PYTHON").unwrap_or_else(|_| "python3".into());
    let probe = Command::new(&python).args(["-c", "import torch, transformers"]).output();
    if !probe.map_err(|error| format!("{python}: {error}"))?.status.success() {
        return Err(format!("{python} lacks torch or transformers"));
    }
    let list: Vec<Value> = cases.iter().map(|c| json!({"name": c.name, "config": c.config})).collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cases.json");
    std::fs::write(&file, json!(list).to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transformers_counts.py");
    let output = Command::new(&python).arg(script).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

/// Past the capture of the test harness.
fn say(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

#[test]
fn transformers_builds_every_child_with_the_parameters_counted() {
    let cases = cases();
    let report = match ask(&cases) {
        Ok(report) => report,
        Err(reason) if std::env::var_os("ARCHPLAN_PYTHON").is_some() => panic!("{reason}"),
        Err(reason) => return say(&format!("SKIPPED comparison with transformers: {reason}")),
    };
    let is_5 = report.version.starts_with("5.");
    assert_eq!(report.results.len(), cases.len());
    let mut refused = 0;
    for (case, outcome) in cases.iter().zip(&report.results) {
        assert_eq!(outcome.name, case.name);
        if is_5 && case.refused_by_5 {
            let error = outcome.error.as_deref().unwrap_or("accepted");
            assert!(
                error.contains("is not a multiple of the number of attention heads"),
                "{}: {error}",
                case.name
            );
            refused += 1;
            continue;
        }
        assert_eq!(outcome.error, None, "{}", case.name);
        assert_eq!(outcome.parameters, Some(case.parameters), "{}", case.name);
        assert_eq!(outcome.head_dim, Some(case.head_dim), "{}", case.name);
    }
    let agreed = cases.len() - refused;
    say(&format!("transformers {}: {agreed} counts agree, {refused} refused as warned", report.version));
}
