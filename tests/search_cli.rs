//! `archplan search` and `plot` from the command line: what is refused and how, and that a plan is what `predict`
//! says.

use std::fs;
use std::path::Path;

use assert_cmd::Command;

const USUAL: &str = "--model qwen3-0.6b --profile a100_sxm --batch 4 --prompt 512 --output 64";

/// Arguments (split at blanks), exit code, and words that stderr must hold.
type Case = (&'static str, i32, &'static [&'static str]);

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

fn check(dir: &Path, prefix: &str, cases: &[Case]) {
    for (arguments, code, words) in cases {
        let all = format!("{prefix}{arguments}");
        let (found, _, stderr) = run(dir, &all);
        assert_eq!(found, *code, "archplan {all}\n{stderr}");
        assert!(!stderr.contains("panicked"), "archplan {all}\n{stderr}");
        for word in *words {
            assert!(stderr.contains(word), "archplan {all}: no `{word}` in\n{stderr}");
        }
        if *code != 0 {
            assert_eq!(stderr.matches("error:").count(), 1, "archplan {all}\n{stderr}");
        }
    }
}

fn scratch() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, contents: &[u8]| fs::write(dir.path().join(name), contents).expect("a file");
    write("junk.json", b"junk");
    write("binary.json", &[0xff, 0xfe, 0x00, 0x9f]);
    write("truncated.json", b"{\"model_type\":\"qwen3\"");
    write("file", b"x");
    for name in ["empty", "foreign", "broken"] {
        fs::create_dir(dir.path().join(name)).expect("a folder");
    }
    write("foreign/keep", b"mine");
    write("broken/profile.toml", b"name = [");
    dir
}

#[test]
fn models_and_profiles_that_are_none() {
    let dir = scratch();
    let work = "--batch 4 --prompt 512 --output 64";
    let cases: [(String, &[&str]); 10] = [
        (format!("--model nope --profile a100_sxm {work}"), &["nope", "archplan models"]),
        (format!("--model qwen3-32 --profile a100_sxm {work}"), &["did you mean `qwen3-32b`"]),
        (format!("--model junk.json --profile a100_sxm {work}"), &["junk.json:1:1"]),
        (format!("--model binary.json --profile a100_sxm {work}"), &["binary.json", "UTF-8"]),
        (format!("--model truncated.json --profile a100_sxm {work}"), &["truncated.json"]),
        (format!("--model empty --profile a100_sxm {work}"), &["config.json"]),
        (format!("--model qwen3-0.6b --profile h200 {work}"), &["did you mean `h200_sxm`"]),
        (format!("--model qwen3-0.6b --profile '' {work}"), &["no profile"]),
        (format!("--model qwen3-0.6b --profile a100_sxm --engine vlm {work}"), &["did you mean `vllm`"]),
        (format!("--profile-dir broken --model qwen3-0.6b --profile broken {work}"), &["profile.toml:1"]),
    ];
    for (arguments, words) in &cases {
        for command in ["search ", "predict "] {
            let (code, _, stderr) = run(dir.path(), &format!("{command}{arguments}"));
            assert_eq!(code, 2, "{command}{arguments}\n{stderr}");
            for word in *words {
                assert!(stderr.contains(word), "{command}{arguments}: no `{word}` in\n{stderr}");
            }
        }
    }
}

#[test]
fn numbers_and_settings_nobody_means() {
    let dir = scratch();
    let cases: &[Case] = &[
        (" --speedup 0", 2, &["--speedup", "1.3x"]),
        (" --speedup nan", 2, &["--speedup"]),
        (" --speedup 1e400x", 2, &["--speedup"]),
        (" --max-tpot 20", 2, &["--max-tpot", "unit"]),
        (" --max-tpot 20GiB", 2, &["--max-tpot", "20ms"]),
        (" --max-memory 40", 2, &["--max-memory", "40GiB"]),
        (" --confidence 0.2", 2, &["confidence", "0.9"]),
        (" --confidence NaN", 2, &["confidence"]),
        (" --tp 3", 2, &["3", "q_heads"]),
        (" --tp 0", 2, &["at least 1"]),
        (" --dtype fp7", 2, &["bf16"]),
        (" --dtype fp8", 2, &["fp8", "it has bf16"]),
        (" --multiple hidden=0", 2, &["--multiple", "hidden"]),
        (" --multiple hiden=8", 2, &["did you mean `hidden`"]),
        (" --bounds hidden=5..1", 2, &["bounds of hidden", "1024"]),
        (" --bounds hidden=2000..3000", 2, &["1024"]),
        (" --skip width", 2, &["--skip", "layers"]),
        (" --max-width-prune 1.5", 2, &["0.4"]),
        (" --max-width-prune NaN", 2, &["NaN"]),
        (" --recovery-tokens x", 2, &["--recovery-tokens"]),
        (" --workload batch=4", 2, &["prompt is missing"]),
        (" --workload bach=4,prompt=1,output=2", 2, &["did you mean `batch`"]),
        (" --profile a100_sxm", 2, &["twice"]),
        (" --profile h100_sxm,tpp=2", 2, &["did you mean `tp`"]),
        (" --profile h100_sxm,tp=x", 2, &["`x`"]),
    ];
    check(dir.path(), &format!("search {USUAL}"), cases);
    let work: &[Case] = &[
        ("--batch 0 --prompt 1 --output 1", 2, &["at least 1"]),
        ("--batch 4 --prompt 9223372036854775807 --output 1", 2, &["prompt length"]),
        ("--batch 9223372036854775807 --prompt 9 --output 1", 2, &["expected"]),
        ("--prompt 1", 2, &["--batch"]),
        ("--batch 4 --concurrency 4 --prompt 1 --output 1", 2, &["--concurrency"]),
    ];
    check(dir.path(), "search --model qwen3-0.6b --profile a100_sxm ", work);
}

#[test]
fn budgets_out_of_reach_are_named_with_the_nearest_value() {
    let dir = scratch();
    let cases: &[Case] = &[
        (" --speedup 100x", 3, &["speedup", "the nearest is", "L d"]),
        (" --max-params 1", 3, &["parameters", "the nearest is"]),
        (" --max-tpot 1ns --max-memory 1MiB", 3, &["TPOT", "memory"]),
    ];
    check(dir.path(), &format!("search {USUAL}"), cases);
    let fits: &[Case] = &[("", 3, &["does not fit", "GiB", "raise tp"])];
    check(
        dir.path(),
        "predict --model llama-3.1-70b --profile a100_sxm --concurrency 4 --prompt 9 --output 9",
        fits,
    );
}

#[test]
fn places_that_cannot_be_written_stay_as_they_are() {
    let dir = scratch();
    let cases: &[Case] = &[
        (" --out file", 2, &["--out"]),
        (" --out foreign", 2, &["--force"]),
        (" --out file/below", 2, &["file/below"]),
    ];
    check(dir.path(), &format!("search {USUAL}"), cases);
    assert_eq!(fs::read(dir.path().join("foreign/keep")).expect("the file"), b"mine");
    let left: Vec<String> = fs::read_dir(dir.path())
        .expect("the folder")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(".part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn plans_that_are_none() {
    let dir = scratch();
    let cases: &[Case] = &[
        ("junk.json --out x.png", 2, &["junk.json", "plan"]),
        ("nothing --out x.png", 2, &["nothing"]),
        ("empty --out x.svg", 2, &["plan.json"]),
    ];
    check(dir.path(), "plot ", cases);
    assert!(!dir.path().join("x.png").exists());
}

#[test]
fn what_is_chosen_is_what_predict_says() {
    let dir = scratch();
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
