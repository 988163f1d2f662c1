//! Bad input of every kind: one clear error on standard error, the documented exit code, nothing printed as
//! a result, never a panic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use assert_cmd::cargo::CommandCargoExt;
use tempfile::TempDir;

/// A working directory with every kind of bad file.
fn directory() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, contents: &[u8]| fs::write(root.path().join(name), contents).unwrap();
    write("empty", b"");
    write("garbage.bin", &(0..4096u32).map(|i| (i * 37 % 256) as u8).collect::<Vec<_>>());
    write("broken.json", b"{\"model_type\": ");
    write("list.json", b"[]");
    write("object.json", b"{}");
    write("deep.json", "[".repeat(100_000).as_bytes());
    let llama = |figure: &str| {
        format!(
            r#"{{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": {figure},
            "num_hidden_layers": {figure}, "intermediate_size": {figure}, "num_attention_heads": 1,
            "vocab_size": {figure}, "max_position_embeddings": 4096}}"#
        )
    };
    for (name, figure) in [
        ("zero", "0"),
        ("negative", "-1"),
        ("huge", "18446744073709551615"),
        ("infinite", "1e999"),
        ("fraction", "1.5"),
    ] {
        write(&format!("{name}.json"), llama(figure).as_bytes());
    }
    for folder in ["folder", "odd/config.json", "clash/h200_sxm"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    let titles = "model,hardware,engine,precision,tp,concurrency,prompt_len,output_len,ttft_ms,tpot_ms";
    for (name, row) in [
        ("no_runs", ""),
        ("nan", "qwen3-8b,h200_sxm,vllm,bf16,1,8,128,128,nan,5"),
        ("minus", "qwen3-8b,h200_sxm,vllm,bf16,1,8,128,128,10,-5"),
        ("precision", "qwen3-8b,h200_sxm,vllm,int4,1,8,128,128,10,5"),
        ("short", "qwen3-8b,h200_sxm"),
        ("word", "qwen3-8b,h200_sxm,vllm,bf16,x,8,128,128,10,5"),
        ("skipped", "qwen3-8b,h200_sxm,vllm,bf16,3,8,128,128,10,5"),
    ] {
        write(&format!("{name}.csv"), format!("{titles}\n{row}\n").as_bytes());
    }
    root
}

fn archplan(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("archplan").unwrap();
    command.current_dir(directory).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Each line: arguments, then what the message must say.
fn all_are_bad_input(cases: &[(&str, &str)]) {
    let root = directory();
    let before = listing(root.path());
    for (line, say) in cases {
        let arguments: Vec<&str> = line.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
        let output = archplan(root.path(), &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "`{line}`: {said}");
        assert!(said.contains(say), "`{line}` must say `{say}`; it says: {said}");
        assert_eq!(
            said.lines().filter(|l| l.starts_with("error: ")).count(),
            1,
            "`{line}`: one error; it says: {said}"
        );
        assert!(!said.contains("panicked"), "`{line}`: {said}");
        assert_eq!(listing(root.path()), before, "`{line}` left something behind");
    }
}

fn listing(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn models() {
    all_are_bad_input(&[
        ("models show", "required"),
        ("models show ''", "name is empty"),
        ("models show nope", "archplan models"),
        ("models show qwen3-32", "did you mean `qwen3-32b`"),
        ("models show 模型", "`模型`"),
        ("models show missing/config.json", "missing/config.json"),
        ("models show folder", "holds no config.json"),
        ("models show ./folder", "holds no config.json"),
        ("models show ./odd", "cannot read"),
        ("models show ./garbage.bin", "cannot read"),
        ("models show ./empty", "not valid JSON"),
        ("models show /dev/null", "not valid JSON"),
        ("models show broken.json", "broken.json:1:"),
        ("models show deep.json", "not valid JSON"),
        ("models show list.json", "expected a JSON object"),
        ("models show object.json", "`architectures`"),
        ("models show zero.json", "`hidden_size`"),
        ("models show negative.json", "`hidden_size`"),
        ("models show huge.json", "`hidden_size`"),
        ("models show fraction.json", "`hidden_size`"),
        ("models show infinite.json", "out of range"),
        ("models shew", "show"),
        ("models list more", "unexpected argument"),
    ]);
}

#[test]
fn profiles() {
    all_are_bad_input(&[
        ("profiles show ''", "known are"),
        ("profiles show h200", "did you mean `h200_sxm`"),
        ("profiles show ../", "known are"),
        ("profiles check missing", "missing: cannot be read"),
        ("profiles check folder", "no hardware profile here"),
        ("profiles check garbage.bin", "garbage.bin"),
        ("--profile-dir missing profiles", "missing: cannot be read"),
        ("--profile-dir folder profiles", "no hardware profile here"),
        ("--profile-dir garbage.bin profiles", "garbage.bin"),
        ("profiles evaluate nope", "known are"),
        ("profiles evaluate h200_sxm --against missing", "missing"),
        ("profiles evaluate h200_sxm --against folder", "no rows to score"),
        ("profiles evaluate h200_sxm --against garbage.bin", "garbage.bin"),
        ("profiles evaluate h200_sxm --family gem", "'gemm'"),
        ("profiles evaluate h200_sxm --dtype int4", "`int4`"),
        ("profiles evaluate h200_sxm --family gemm --dtype int8", "no rows to score"),
        ("profiles evaluate ascend_910b --holdout random", "--against"),
        ("profiles fit nope --out x", "known are"),
        ("profiles fit h200_sxm", "--out"),
        ("profiles fit ascend_910b --out x", "--rows"),
        ("profiles fit ascend_910b --out x --rows folder", "folder: no tables"),
        ("profiles fit h200_sxm --out garbage.bin/x", "garbage.bin/x"),
    ]);
}

/// `predict` of a request that is sound but for what a case adds.
fn predict(add: &str) -> String {
    let mut line = "predict".to_string();
    let sound = [("--model", "qwen3-8b"), ("--profile", "h200_sxm"), ("--prompt", "128"), ("--output", "16")];
    for (key, value) in sound {
        if !add.split(' ').any(|word| word == key) {
            line = format!("{line} {key} {value}");
        }
    }
    if !add.contains("--batch") && !add.contains("--concurrency") {
        line += " --batch 1";
    }
    format!("{line} {add}")
}

#[test]
fn predictions() {
    let cases = [
        ("--model ''", "name is empty"),
        ("--model ./garbage.bin", "cannot read"),
        ("--profile h200", "did you mean `h200_sxm`"),
        ("--engine vlm", "did you mean `vllm`"),
        ("--tp 0", "give 1 at least"),
        ("--tp 3", "does not divide the 32 query heads"),
        ("--tp 18446744073709551615", "does not divide"),
        ("--dtype int4", "int8"),
        ("--dtype int8", "it has bf16, fp8"),
        ("--kv-dtype f32", "it has bf16, fp8"),
        ("--profile ascend_910b --dtype fp8", "it has bf16, int8"),
        ("--batch 0", "expected 1 to"),
        ("--batch -1", "'-1' for '--batch"),
        ("--batch 1.5", "--batch"),
        ("--batch 18446744073709551615", "expected 1 to"),
        ("--batch 99999999999999999999", "too large"),
        ("--batch 1 --concurrency 1", "cannot be used with"),
        ("--concurrency 0", "expected 1 to"),
        ("--concurrency 18446744073709551615", "expected 1 to"),
        ("--prompt 0", "prompt length is 0"),
        ("--prompt １０", "--prompt"),
        ("--prompt ''", "--prompt"),
        ("--output 0", "output length is 0"),
        ("--output 18446744073709551615", "output length"),
        ("--layers 0", "no layers"),
        ("--layers 18446744073709551615", "at most"),
        ("--hidden 0", "hidden is 0"),
        ("--hidden 18446744073709551615", "at most"),
        ("--ffn 18446744073709551615", "at most"),
        ("--heads 0", "query heads"),
        ("--heads 5", "expected a multiple of 8"),
        ("--kv-heads 3", "expected a multiple of 3"),
        ("--kv-heads 64", "do not divide"),
    ];
    let lines: Vec<(String, &str)> = cases.iter().map(|(add, say)| (predict(add), *say)).collect();
    all_are_bad_input(&lines.iter().map(|(line, say)| (line.as_str(), *say)).collect::<Vec<_>>());
}

#[test]
fn serving_and_quality() {
    all_are_bad_input(&[
        ("evaluate-serving --data missing.csv", "missing.csv"),
        ("evaluate-serving --data folder", "folder"),
        ("evaluate-serving --data garbage.bin", "garbage.bin"),
        ("evaluate-serving --data empty", "no runs"),
        ("evaluate-serving --data no_runs.csv", "no runs"),
        ("evaluate-serving --data nan.csv", "line 2, column ttft_ms"),
        ("evaluate-serving --data minus.csv", "line 2, column tpot_ms"),
        ("evaluate-serving --data precision.csv", "line 2, column precision"),
        ("evaluate-serving --data short.csv", "line: 2"),
        ("evaluate-serving --data word.csv", "line: 2"),
        ("evaluate-serving --data skipped.csv", "every run was skipped"),
        ("evaluate-serving --engine vlm", "did you mean `vllm`"),
        ("evaluate-serving --engine sglang", "no runs of engine `sglang`"),
        ("evaluate-serving --refit --json", "cannot be used with"),
        ("quality extra", "unexpected argument"),
        ("quality --refit --json", "cannot be used with"),
        ("''", "unrecognized subcommand"),
        ("serch", "search"),
    ]);
}

#[test]
fn a_profile_of_a_built_in_name_is_refused() {
    let root = directory();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("hardware_profiles/ascend_910b");
    let copy = root.path().join("clash/ascend_910b");
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(shipped).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    fs::remove_dir_all(root.path().join("clash/h200_sxm")).unwrap();
    let output = archplan(root.path(), &["--profile-dir", "clash", "profiles"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("ascend_910b"), "{said}");
}

#[test]
#[cfg(unix)]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut command = Command::cargo_bin("archplan").unwrap();
    let mut child =
        command.args(["models", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::cargo_bin("archplan").unwrap().arg("models").stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("standard output"), "{said}");
}
