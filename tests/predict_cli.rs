//! `archplan predict` and `archplan evaluate-serving` as a user runs them, and predictions against published figures.

use std::collections::BTreeMap;
use std::process::Output;

use archplan::hardware::latency::accuracy::{Priced, observe};
use archplan::hardware::latency::calibration::log_errors;
use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::latency::validation::{PUBLISHED_FIGURES, Run, published_figures};
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::engine::EngineParameters;
use archplan::units::DType;
use assert_cmd::Command;
use serde_json::Value;

fn archplan(line: &str) -> Output {
    let mut command = Command::cargo_bin("archplan").unwrap();
    command.args(line.split_whitespace()).output().unwrap()
}

fn json(line: &str) -> Value {
    let output = archplan(line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn sum(object: &Value) -> f64 {
    object.as_object().unwrap().values().map(number).sum()
}

fn assert_estimate(estimate: &Value) {
    let [low, value, high] = ["low", "value", "high"].map(|key| number(&estimate[key]));
    assert!(0.0 < low && low <= value && value <= high, "{estimate}");
    assert!(["measured", "fitted", "estimated"].contains(&estimate["source"].as_str().unwrap()));
}

fn assert_same(a: f64, b: f64) {
    assert!((a / b - 1.0).abs() < 1e-9, "{a} {b}");
}

fn assert_pass(pass: &Value) {
    let total = number(&pass["kernels_ms"]);
    for parts in ["ops", "layers"] {
        let sum: f64 = pass[parts].as_array().unwrap().iter().map(|part| number(&part["latency_ms"])).sum();
        assert_same(sum, total);
    }
}

#[test]
fn the_json_contract_of_a_closed_loop() {
    let document = json(
        "predict --model qwen2.5-7b --profile a100_sxm --tp 2 --concurrency 16 --prompt 1024 --output 512 --json",
    );
    for key in ["ttft_ms", "tpot_ms", "latency_ms", "output_tokens_per_s", "memory_gib"] {
        assert_estimate(&document[key]);
    }
    assert_eq!(document["engine"], "vllm", "the default on GPUs");
    let breakdown = &document["breakdown"];
    assert_same(sum(&breakdown["ttft_ms"]), number(&document["ttft_ms"]["value"]));
    assert_same(sum(&breakdown["tpot_ms"]), number(&document["tpot_ms"]["value"]));
    assert_pass(&breakdown["prefill_pass"]);
    assert_pass(&breakdown["decode_pass"]);
    let memory = &breakdown["memory"];
    let parts = ["weights_gib", "kv_cache_gib", "activations_gib", "reserve_gib"].map(|k| number(&memory[k]));
    assert_same(parts.iter().sum(), number(&document["memory_gib"]["value"]));
}

#[test]
fn the_json_contract_of_a_static_batch_and_of_a_pruned_shape() {
    let line = "predict --model qwen3-32b --profile ascend_910b --tp 4 --dtype int8 --batch 64 --prompt 2048 --output 1024";
    let parent = json(&format!("{line} --json"));
    for key in ["prefill_ms", "decode_step_ms", "latency_ms", "output_tokens_per_s", "memory_gib"] {
        assert_estimate(&parent[key]);
    }
    assert_eq!(parent["engine"], "vllm-ascend", "the default on Ascend");
    let child = json(&format!("{line} --layers 48 --ffn 20480 --heads 56 --kv-heads 8 --json"));
    assert_eq!(child["architecture"]["layers"]["uniform"]["count"], 48);
    for key in ["prefill_ms", "decode_step_ms", "memory_gib"] {
        assert!(number(&child[key]["value"]) < number(&parent[key]["value"]), "{key}");
    }
    let steps = number(&parent["decode_step_ms"]["value"]) * 1023.0;
    assert_same(number(&parent["latency_ms"]["value"]), number(&parent["prefill_ms"]["value"]) + steps);
}

#[test]
fn people_get_units_intervals_and_sources() {
    let output =
        archplan("predict --model qwen2.5-7b --profile a100_sxm --batch 1 --prompt 100 --output 100");
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in
        ["prefill (ms)", "decode step, mean (ms)", "90 % interval", "output (tok/s)", "GiB", "gate_up_proj"]
    {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("engine: vllm (the default on a100_sxm"), "{log}");
}

#[test]
fn what_is_wrong_is_named_and_has_its_exit_code() {
    let work = "--batch 1 --prompt 10 --output 10";
    let cases = [
        (format!("predict --model qwen3-33b --profile h200_sxm {work}"), 2, "did you mean `qwen3-32b`"),
        (format!("predict --model qwen3-32b --profile h200 {work}"), 2, "did you mean `h200_sxm`"),
        (
            format!("predict --model qwen3-32b --profile a100_sxm --engine vlm {work}"),
            2,
            "did you mean `vllm`",
        ),
        (format!("predict --model qwen3-32b --profile a100_sxm --dtype fp8 {work}"), 2, "it has bf16"),
        (format!("predict --model qwen3-32b --profile a100_sxm --tp 3 {work}"), 2, "degree 3"),
        (format!("predict --model qwen3-32b --profile a100_sxm --kv-heads 5 {work}"), 2, "divide"),
        (
            "predict --model qwen3-32b --profile a100_sxm --batch 0 --prompt 1 --output 1".into(),
            2,
            "batch is 0",
        ),
        ("predict --model qwen3-32b --profile a100_sxm --prompt 1 --output 1".into(), 2, "--concurrency"),
        (
            "predict --model qwen2.5-72b --profile a100_sxm --concurrency 4 --prompt 10 --output 10".into(),
            3,
            "does not fit",
        ),
        ("evaluate-serving --data no/such.csv".into(), 2, "no/such.csv"),
        ("evaluate-serving --engine tgi".into(), 2, "no engine `tgi`"),
    ];
    for (line, code, message) in cases {
        let output = archplan(&line);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}: {log}");
        assert!(log.contains(message), "{line}: {log}");
        assert!(output.stdout.is_empty(), "{line} printed a result");
    }
}

#[test]
fn runs_of_ones_own_are_scored_and_what_cannot_be_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.csv");
    let header =
        "model,hardware,engine,engine_version,precision,tp,concurrency,prompt_len,output_len,ttft_ms,tpot_ms";
    let rows = [
        "qwen2.5-7b,a100_sxm,vllm,1,bf16,1,4,512,128,80,14",
        "qwen2.5-7b,b900,vllm,1,bf16,1,4,512,128,80,14",
        "gpt-9,a100_sxm,vllm,1,bf16,1,4,512,128,80,14",
        "qwen2.5-7b,a100_sxm,warp,1,bf16,1,4,512,128,80,14",
        "qwen2.5-7b,a100_sxm,vllm,1,fp8,1,4,512,128,80,14",
    ];
    std::fs::write(&path, format!("{header}\n{}\n", rows.join("\n"))).unwrap();
    let report = json(&format!("evaluate-serving --data {} --json", path.display()));
    let scores = report["scores"].as_array().unwrap();
    let tpot = scores.iter().find(|s| s["metric"] == "tpot" && s["engine"] == "vllm").unwrap();
    assert_eq!(tpot["n"], 1);
    assert!(number(&tpot["median_ape"]) < 60.0, "{tpot}");
    let skipped = report["skipped"].as_array().unwrap();
    assert_eq!(skipped.iter().map(|s| number(&s["line"])).collect::<Vec<_>>(), [3.0, 4.0, 5.0, 6.0]);
    for (skipped, reason) in skipped.iter().zip(["b900", "gpt-9", "warp", "fp8"]) {
        assert!(skipped["reason"].as_str().unwrap().contains(reason), "{skipped}");
    }
}

/// Figures that no parameter was fitted to, each cited in `published.csv`: decode of Qwen2.5 on A100 (Qwen's speed
/// benchmark, batch 1) and a prefill of a dense 32B model on two Ascend 910B (arXiv 2505.21411).
/// Prompts longer than any that was measured (16384 tokens) are left to `archplan evaluate-serving`: of those six
/// the worst, 129024 tokens into Qwen2.5-7B, is predicted 15.4 % too fast.
#[test]
fn published_figures_are_met_within_fifteen_percent() {
    let unfitted = |run: &Run| match (run.profile.as_str(), run.model.as_str()) {
        ("a100_sxm", "qwen2.5-7b" | "qwen2.5-32b") => run.workload.prompt <= 16_384,
        ("ascend_910b", _) => run.engine == "mindie" && run.tp == 2,
        _ => false,
    };
    let mut runs = published_figures(PUBLISHED_FIGURES, "published.csv").unwrap();
    runs.retain(unfitted);
    let mut devices = BTreeMap::new();
    for name in ["a100_sxm", "ascend_910b"] {
        let profile = HardwareProfile::builtin(name).unwrap();
        let costs = KernelModel::open(&profile, &[DType::Bf16, DType::Int8], &[DType::Bf16]).unwrap();
        devices.insert(name.to_string(), Priced { costs: Box::new(costs), hbm: profile.device.hbm });
    }
    let (observations, skipped) = observe(&runs, &devices);
    assert_eq!((observations.len(), skipped), (7, vec![]));
    for observation in &observations {
        let engine = EngineParameters::built_in(&observation.run.engine).unwrap();
        for (metric, error) in log_errors(observation, &engine) {
            assert!(error.exp_m1().abs() < 0.15, "{metric:?} of {:?}: {error}", observation.run);
        }
    }
}
