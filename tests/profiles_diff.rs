//! `archplan profiles diff`: figures worked out by hand on toy profiles, coverage, estimates where there are no rows.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::Value;

const MANIFEST: &str = include_str!("data/good/tiny/profile.toml");
const A: &str = "m,n,k,dtype,latency_us,spread_percent
1,64,64,bf16,10,10
2,64,64,bf16,10,10
5,64,64,bf16,7,
10,64,64,bf16,10,
20,64,64,bf16,100,70
";
const B: &str = "m,n,k,dtype,latency_us,spread_percent
1,64,64,bf16,5,10
2,64,64,bf16,10,10
7,64,64,bf16,7,1
10,64,64,bf16,20,
20,64,64,bf16,400,70
";

/// A profile `tiny` with this gemm table alone, in a folder of its own.
fn profile(root: &Path, folder: &str, engine_version: &str, gemm: &str) -> PathBuf {
    let dir = root.join(folder).join("tiny");
    fs::create_dir_all(&dir).unwrap();
    let (head, tables) = MANIFEST.split_once("[tables.attention_prefill]").unwrap();
    let (_, elementwise) = tables.split_once("[tables.elementwise]").unwrap();
    let manifest = format!("{head}[tables.elementwise]{elementwise}");
    let manifest =
        manifest.replace("engine_version = \"1.0\"", &format!("engine_version = \"{engine_version}\""));
    fs::write(dir.join("profile.toml"), manifest).unwrap();
    fs::write(dir.join("gemm.csv"), gemm).unwrap();
    dir
}

fn archplan(arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("archplan").unwrap().args(arguments).assert()
}

fn json(arguments: &[&str]) -> Value {
    let output = archplan(&[arguments, &["--json", "-q"]].concat()).success();
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

fn near(value: &Value, expected: f64) -> bool {
    value.as_f64().is_some_and(|found| (found - expected).abs() < 1e-9)
}

/// Calls of `a` and `b` and their ratios: (1, 1/2), (2, 1), (10, 2), (20, 4).
#[test]
fn figures_are_those_worked_out_by_hand() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = (profile(root.path(), "old", "1.0", A), profile(root.path(), "new", "1.1", B));
    let found = json(&["profiles", "diff", a.to_str().unwrap(), b.to_str().unwrap()]);
    assert_eq!(found["remarks"], Value::Array(Vec::new()), "one device");
    assert_eq!(found["facts"].as_array().unwrap().len(), 1);
    assert_eq!(found["facts"][0]["key"], "stack.engine_version");
    assert_eq!(
        (found["facts"][0]["a"].as_str(), found["facts"][0]["b"].as_str()),
        (Some("1.0"), Some("1.1"))
    );
    let set = &found["sets"][0];
    assert_eq!(
        [&set["only_a"], &set["only_b"], &set["both"]].map(Value::as_u64),
        [Some(1), Some(1), Some(4)]
    );
    let of = &set["ratios"];
    assert_eq!((of["n"].as_u64(), of["n_with_spread"].as_u64()), (Some(4), Some(3)));
    assert!(
        near(&of["median_ratio"], 1.5) && near(&of["p10_ratio"], 0.65) && near(&of["p90_ratio"], 3.4),
        "{of}"
    );
    assert!(near(&of["geometric_mean_ratio"], 2f64.sqrt()), "{of}");
    // 1: 5.5 below 9. 10: 20 above 10, no spread stated. 20: 400 less 70 % is not above 100 plus 70 %.
    assert!(near(&of["faster_percent"], 25.0) && near(&of["slower_percent"], 25.0), "{of}");
    assert_eq!(set["gained"].as_array().unwrap().len(), 1);
    assert_eq!(set["gained"][0]["call"], "m=1 n=64 k=64 bf16");
    let lost: Vec<f64> =
        set["lost"].as_array().unwrap().iter().map(|c| c["ratio"].as_f64().unwrap()).collect();
    assert!((lost[0] - 4.0).abs() < 1e-9 && (lost[1] - 2.0).abs() < 1e-9 && lost.len() == 2, "{lost:?}");
    let m: Vec<(f64, u64)> = set["by_decade"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|bin| bin["axis"] == "m")
        .map(|bin| (bin["median_ratio"].as_f64().unwrap(), bin["n"].as_u64().unwrap()))
        .collect();
    assert_eq!(m.len(), 2);
    assert!((m[0].0 - 0.75).abs() < 1e-9 && (m[1].0 - 3.0).abs() < 1e-9 && m[0].1 == 2, "{m:?}");
}

#[test]
fn a_profile_does_not_differ_from_itself() {
    let found = json(&["profiles", "diff", "a100_sxm", "a100_sxm"]);
    assert!(found["facts"].as_array().unwrap().is_empty());
    assert_eq!(found["remarks"][0], "both profiles hold the same files");
    for set in found["sets"].as_array().unwrap() {
        let of = &set["ratios"];
        assert_eq!((set["only_a"].as_u64(), set["only_b"].as_u64()), (Some(0), Some(0)));
        assert!(near(&of["median_ratio"], 1.0) && near(&of["p10_ratio"], 1.0) && near(&of["p90_ratio"], 1.0));
        assert!(set["gained"].as_array().unwrap().is_empty() && near(&of["slower_percent"], 0.0));
    }
}

#[test]
fn profiles_without_rows_are_compared_by_estimates_and_that_is_said() {
    let found = json(&["profiles", "diff", "a100_sxm", "ascend_910b"]);
    let set = |family: &str, dtype: &str| {
        let mut sets = found["sets"].as_array().unwrap().iter();
        sets.find(|set| set["family"] == family && set["dtype"].as_str().unwrap_or_default() == dtype)
            .unwrap()
    };
    let gemm = set("gemm", "bf16");
    assert_eq!(gemm["basis"], "estimates of B at 2000 of the 8314 calls A measured");
    assert_eq!((gemm["both"].as_u64(), gemm["ratios"]["n"].as_u64()), (Some(0), Some(2000)));
    assert_eq!(set("gemm", "int8")["basis"], "none: not covered by `a100_sxm`");
    assert!(set("gemm", "int8")["ratios"].is_null());
    assert!(found["remarks"][0].as_str().unwrap().starts_with("two devices, NVIDIA A100"));
    let same = json(&["profiles", "diff", "ascend_910b", "ascend_910b"]);
    assert!(
        same["sets"][0]["basis"].as_str().unwrap().starts_with("estimates of both at a fixed grid: m 1, 16")
    );
    for set in same["sets"].as_array().unwrap() {
        assert!(near(&set["ratios"]["median_ratio"], 1.0) && set["ratios"]["n"].as_u64() > Some(0), "{set}");
    }
}

#[test]
fn a_whole_model_costs_what_predict_says() {
    let batch = ["--model", "qwen3-0.6b", "--batch", "4", "--prompt", "512", "--output", "32"];
    let found = json(&[&["profiles", "diff", "a100_sxm", "h100_sxm"], &batch[..]].concat());
    for (side, name) in [("a", "a100_sxm"), ("b", "h100_sxm")] {
        let alone = json(&[&["predict", "--profile", name, "--engine", "none"], &batch[..]].concat());
        for time in found["model"]["times"].as_array().unwrap() {
            assert_eq!(time[side], alone[time["key"].as_str().unwrap()], "{name}");
        }
    }
    let times = found["model"]["times"].as_array().unwrap();
    assert_eq!(times.len(), 3);
    let of = |side: &str| times[0][side]["value"].as_f64().unwrap();
    assert!(near(&times[0]["ratio"], of("b") / of("a")) && of("b") < of("a"), "an H100 is no slower");
}

#[test]
fn what_is_written_is_whole_and_replaces_the_earlier() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = (profile(root.path(), "old", "1.0", A), profile(root.path(), "new", "1.1", B));
    let out = root.path().join("out");
    let diff = |a: &Path, b: &Path| {
        archplan(&[
            "profiles",
            "diff",
            a.to_str().unwrap(),
            b.to_str().unwrap(),
            "-q",
            "--out",
            out.to_str().unwrap(),
        ])
    };
    diff(&a, &b).success();
    let table = fs::read_to_string(out.join("difference_gemm_bf16.csv")).unwrap();
    assert_eq!(
        table,
        "m,n,k,dtype,a_us,b_us,ratio,spread_a_percent,spread_b_percent,verdict\n\
         1,64,64,bf16,10,5,0.5,10,10,faster\n2,64,64,bf16,10,10,1,10,10,alike\n\
         10,64,64,bf16,10,20,2,,,slower\n20,64,64,bf16,100,400,4,70,70,alike\n"
    );
    let picture = fs::read_to_string(out.join("difference_gemm_bf16.svg")).unwrap();
    for words in ["tiny (B) against tiny (A)", "latency on A (µs)", "stated by both for 3 calls"] {
        assert!(picture.contains(words), "{words}");
    }
    let before = fs::read(out.join("difference.html")).unwrap();
    diff(&a, &b).success();
    assert!(
        fs::read(out.join("difference.html")).unwrap() == before,
        "the same request gives the same bytes"
    );
    // Two that share no family: pictures of the earlier result go.
    let other = profile(root.path(), "other", "1.0", "m,n,k,dtype,latency_us\n1,8,8,fp8,3\n");
    let manifest = fs::read_to_string(other.join("profile.toml")).unwrap();
    fs::write(other.join("profile.toml"), manifest.replace("dtypes = [\"bf16\"]", "dtypes = [\"fp8\"]"))
        .unwrap();
    diff(&a, &other).success();
    let left: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["difference.html"]);
    fs::create_dir(root.path().join("mine")).unwrap();
    fs::write(root.path().join("mine/notes.md"), "").unwrap();
    let mine = root.path().join("mine");
    archplan(&["profiles", "diff", "a100_sxm", "a100_sxm", "--out", mine.to_str().unwrap()])
        .code(2)
        .stderr(predicate::str::contains("no result of an earlier `archplan profiles diff`"));
}

#[test]
fn bad_input_is_one_error() {
    let bad = |arguments: &[&str], say: &str| {
        let run = archplan(&[&["profiles", "diff"], arguments].concat()).code(2);
        run.stderr(predicate::str::contains(say)).stdout("");
    };
    bad(&["h200_smx", "h100_sxm"], "did you mean `h200_sxm`?");
    bad(&["h200_sxm", "./nowhere"], "./nowhere: cannot be read");
    bad(&["h200_sxm", "tests/data/bad/zero_latency"], "gemm.csv:2:14: latency_us is zero");
    bad(&["h200_sxm", "h100_sxm", "--batch", "4"], "--model");
    bad(&["h200_sxm", "h100_sxm", "--model", "qwen3-8"], "did you mean `qwen3-8b`");
    bad(&["h200_sxm", "h100_sxm", "--model", "qwen3-8b", "--batch", "0"], "batch is 0");
    bad(&["h200_sxm", "h100_sxm", "--model", "qwen3-8b", "--dtype", "int8"], "it has bf16, fp8");
    bad(&["h200_sxm", "h100_sxm", "--force"], "--out");
}
