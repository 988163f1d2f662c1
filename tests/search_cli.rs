//! A plan is what `archplan predict` says of its shape.

use std::path::Path;

use assert_cmd::Command;

const USUAL: &str = "--model qwen3-0.6b --profile a100_sxm --batch 4 --prompt 512 --output 64";

fn run(dir: &Path, arguments: &str) -> (i32, String, String) {
    let output = Command::cargo_bin("archplan")
        .expect("the binary")
        .current_dir(dir)
        .args(arguments.split(' ').map(|word| if word == "''" { "" } else { word }))
        .output()
        .expect("a run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_is_chosen_is_what_predict_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let (code, stdout, stderr) =
        run(dir.path(), &format!("search {USUAL} --speedup 1.3x --confidence 0.9 --out run --json -q"));
    assert_eq!(code, 0, "{stderr}");
    let plan: serde_json::Value = serde_json::from_str(&stdout).expect("a plan");
    let shape = &plan["chosen"]["shape"];
    let n = |key: &str| shape[key].as_u64().expect("a number");
    let arguments = format!(
        "predict {USUAL} --layers {} --hidden {} --ffn {} --heads {} --kv-heads {} --json -q",
        n("layers"),
        n("hidden"),
        n("ffn"),
        n("q_heads"),
        n("kv_heads")
    );
    let (code, stdout, stderr) = run(dir.path(), &arguments);
    assert_eq!(code, 0, "{stderr}");
    let predicted: serde_json::Value = serde_json::from_str(&stdout).expect("a prediction");
    let metrics = &plan["chosen"]["metrics"][0];
    for (key, own) in [("latency_ms", "latency_ms"), ("prefill_ms", "ttft_ms"), ("memory_gib", "memory_gib")]
    {
        let (a, b) = (predicted[key]["value"].as_f64(), metrics[own]["value"].as_f64());
        let (a, b) = (a.expect("a value"), b.expect("a value"));
        assert!((a / b - 1.0).abs() < 1e-9, "{key}: {a} instead of {b}");
    }
    for budget in plan["budgets"].as_array().expect("budgets") {
        for check in budget["checks"].as_array().expect("checks") {
            assert!(check["probability"].as_f64().expect("a chance") >= 0.9, "{budget}");
        }
    }
    let (code, stdout, stderr) = run(dir.path(), "models show run/target --json");
    assert_eq!(code, 0, "{stderr}");
    let params = format!("{}", plan["chosen"]["params"]);
    assert!(stdout.contains(&params), "no {params} in {stdout}");
}

#[test]
fn the_parent_is_as_fast_as_itself_for_certain() {
    let dir = tempfile::tempdir().expect("a folder");
    let (code, stdout, stderr) =
        run(dir.path(), &format!("search {USUAL} --speedup 1.0x --confidence 0.9 --json -q"));
    assert_eq!(code, 0, "{stderr}");
    let plan: serde_json::Value = serde_json::from_str(&stdout).expect("a plan");
    assert_eq!(plan["chosen"]["shape"], plan["parent"]["shape"]);
    assert_eq!(plan["budgets"][0]["checks"][0]["probability"], 1.0);
}
