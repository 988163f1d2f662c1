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

/// `search` of a request that is sound but for what a case adds.
fn search(add: &str) -> String {
    let mut line = "search --model qwen3-0.6b".to_string();
    for (key, value) in [("--profile", "a100_sxm"), ("--batch", "4"), ("--prompt", "512"), ("--output", "64")]
    {
        if !add.split(' ').any(|word| word == key || (word == "--workload" && key != "--profile")) {
            line = format!("{line} {key} {value}");
        }
    }
    format!("{line} {add}")
}

#[test]
fn searches() {
    let cases = [
        ("--profile a100_sxm,tp=", "no number of devices"),
        ("--profile a100_sxm,tp=3", "does not divide the parent's q_heads = 16"),
        ("--profile a100_sxm,dtyp=fp8", "did you mean `dtype`"),
        ("--profile a100_sxm,engine=vlm", "did you mean `vllm`"),
        ("--profile a100_sxm --profile a100_sxm,tp=1", "asked for twice"),
        ("--tp 32", "degrees that do: [1, 2, 4, 8, 16]"),
        ("--tp 16", "it has [2, 4, 8]"),
        ("--dtype fp8", "it has bf16"),
        ("--profile h100_sxm --profile a100_sxm --dtype fp8", "`a100_sxm` has no gemm rows for dtype fp8"),
        ("--workload batch", "is no setting"),
        ("--workload batch=0,prompt=1,output=1", "at least 1"),
        ("--workload batch=1,prompt=1", "output is missing"),
        ("--workload batch=1,promt=1,output=1", "did you mean `prompt`"),
        ("--workload batch=1,batch=1,prompt=1,output=1", "given twice"),
        ("--workload batch=1,prompt=1e9,output=1", "`1e9` is no number"),
        ("--workload batch=1,prompt=18446744073709551615,output=1", "expected 1 to 16777216"),
        ("--prompt 16777216 --batch 65536", "tokens of all sequences"),
        ("--max-tpot 20", "such as 20ms"),
        ("--max-tpot 20GiB", "such as 20ms"),
        ("--max-tpot -1ms", "`-1ms` is not a positive duration"),
        ("--max-tpot 1e308s", "between"),
        ("--max-tpot 1e-320s", "between"),
        ("--max-tpot 1ms --max-tpot 2ms", "multiple times"),
        ("--max-memory 6", "such as 40GiB"),
        ("--min-throughput 2500", "such as 2500tok/s"),
        ("--max-params nan", "such as 6B"),
        ("--speedup 0", "such as 1.3x"),
        ("--speedup 1e400", "such as 1.3x"),
        ("--confidence 0.2", "from 0.5 to below 1"),
        ("--confidence 1", "from 0.5 to below 1"),
        ("--confidence nan", "from 0.5 to below 1"),
        ("--confidence -0.9", "from 0.5 to below 1"),
        ("--max-width-prune 1.5", "--max-width-prune is 1.5"),
        ("--max-depth-prune -1", "--max-depth-prune is -1"),
        ("--max-width-prune nan", "--max-width-prune is NaN"),
        ("--multiple hidden=0", "the multiple of hidden is 0"),
        ("--multiple hidn=8", "did you mean `hidden`"),
        ("--multiple hidden=18446744073709551616", "such as hidden=128"),
        ("--bounds hidden=2048..4096", "<= 1024 (the parent's)"),
        ("--bounds hidden=5..1", "low <= high"),
        ("--bounds hidden=100..101", "widen --bounds or lower --multiple"),
        ("--bounds kv_heads=3", "no query heads"),
        ("--skip width", "the axes are layers"),
        ("--skip layers --bounds layers=20", "drop one of"),
        ("--recovery-tokens -1", "such as 6B"),
        ("--seed -1", "--seed"),
        ("--speedup 1.1x --out empty", "is a file"),
        ("--speedup 1.1x --out empty --force", "is a file"),
        ("--speedup 1.1x --out empty/sub", "empty/sub"),
        ("--speedup 1.1x --out odd", "odd is not empty"),
        ("--speedup 1.1x --out .", ". is not empty"),
        ("--out ''", "--out"),
    ];
    let lines: Vec<(String, &str)> = cases.iter().map(|(add, say)| (search(add), *say)).collect();
    all_are_bad_input(&lines.iter().map(|(line, say)| (line.as_str(), *say)).collect::<Vec<_>>());
}

#[test]
fn budgets_that_no_shape_meets_are_named_with_the_nearest_value() {
    let root = directory();
    for (add, say) in [
        ("--max-tpot 1ns", &["TPOT ≤ 1.00 ns", "the nearest is", "ms (14L"][..]),
        ("--speedup 1000x", &["speedup ≥ 1000.000×", "the nearest is 2."]),
        ("--max-params 1", &["parameters ≤ 1", "the nearest is 133M"]),
        ("--max-memory 1B --max-ttft 1ms", &["memory per device ≤ 1 B", "TTFT ≤ 1.00 ms"]),
        ("--prompt 4096 --batch 65536", &["memory per device ≤ 72.0 GiB", "GiB (14L"]),
        ("--skip layers,hidden,ffn,q_heads,kv_heads --speedup 1.1x", &["the nearest is 1.000×"]),
    ] {
        let line = search(add);
        let output = archplan(root.path(), &line.split(' ').collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "`{line}`: {said}");
        for words in say {
            assert!(said.contains(words), "`{line}` must say `{words}`; it says: {said}");
        }
    }
}

#[test]
fn what_a_person_keeps_in_a_folder_stays() {
    let root = directory();
    let run = |add: &str| archplan(root.path(), &search(add).split(' ').collect::<Vec<_>>());
    let entry = |name: &str| root.path().join(name);
    assert_eq!(run("--speedup 1.1x --out a/b/run").status.code(), Some(0), "missing parents are made");
    fs::write(entry("a/b/run/notes.txt"), "mine").unwrap();
    assert_eq!(run("--speedup 1.2x --out a/b/run").status.code(), Some(0), "an earlier result is replaced");
    assert_eq!(fs::read_to_string(entry("a/b/run/notes.txt")).unwrap(), "mine");
    assert_eq!(listing(&entry("a/b")), [entry("a/b/run")], "nothing is left beside the result");
    fs::create_dir(entry("other")).unwrap();
    fs::write(entry("other/plan.json"), "{\"of\": \"another tool\"}").unwrap();
    let output = run("--speedup 1.1x --out other");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("other is not empty") && said.contains("--force"), "{said}");
    assert_eq!(listing(&entry("other")), [entry("other/plan.json")]);
    assert_eq!(run("--speedup 1.1x --out other --force").status.code(), Some(0));
    assert!(entry("other/report.html").is_file());
}

#[test]
fn plots() {
    let root = directory();
    let run = |line: &str| archplan(root.path(), &line.split(' ').collect::<Vec<_>>());
    assert_eq!(run(&search("--speedup 1.1x --out run")).status.code(), Some(0));
    let plan = fs::read_to_string(root.path().join("run/plan.json")).unwrap();
    fs::write(root.path().join("cut.json"), &plan[..plan.len() / 2]).unwrap();
    fs::write(root.path().join("newer.json"), plan.replacen('{', "{\"later\": 1,", 1)).unwrap();
    let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    fs::write(root.path().join("older.json"), plan.replacen(&version, "\"version\":\"0.0.1\"", 1)).unwrap();
    fs::create_dir(root.path().join("folder.png")).unwrap();
    let before = listing(root.path());
    for (line, code, say) in [
        ("plot missing --out a.svg", 2, "missing: No such file"),
        ("plot folder --out a.svg", 2, "folder/plan.json"),
        ("plot object.json --out a.svg", 2, "missing field"),
        ("plot garbage.bin --out a.svg", 2, "garbage.bin"),
        ("plot cut.json --out a.svg", 2, "not a plan of this version"),
        ("plot newer.json --out a.svg", 2, "unknown field `later`"),
        ("plot run --out a.pdf", 2, ".svg or .png"),
        ("plot run --out run", 2, ".svg or .png"),
        ("plot run --out a.svg --x lat", 2, "did you mean `latency`"),
        ("plot run --out a.svg --scenario 0", 2, "the plan has 1"),
        ("plot run --out a.svg --scenario 2", 2, "the plan has 1"),
        ("plot run --out empty/a.svg", 1, "empty/a.svg: "),
        ("plot run --out empty/a.png", 1, "empty/a.png: "),
        ("plot run --out folder.png", 1, "folder.png: Is a directory"),
    ] {
        let output = run(line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "`{line}`: {said}");
        assert!(said.contains(say), "`{line}` must say `{say}`; it says: {said}");
        assert_eq!(listing(root.path()), before, "`{line}` left something behind");
    }
    let output = run("plot older.json --out new/folder/a.png");
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("made by archplan 0.0.1"));
    assert!(root.path().join("new/folder/a.png").is_file());
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
