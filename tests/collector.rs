//! The program of `archplan profiles collector`: what it lists, that it runs, is killed, goes on, and that what it
//! writes is a profile.
//!
//! Set `ARCHPLAN_PYTHON` to an interpreter with `torch`. Unset, `python3` is tried; the tests that measure say on
//! stderr that they were skipped where it has none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use archplan::hardware::kernel::{KernelCall, KernelFamily};
use archplan::hardware::latency::cost::KernelCosts;
use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::check;
use archplan::units::DType;
use predicates::prelude::*;

/// Small shapes, of every family.
const POINTS: &str = "copy,65536\ncopy,4194304\nnorm,16,1024\nnorm,512,1024\n\
gemm,1,512,512,bf16\ngemm,32,512,512,bf16\ngemm,1,1024,512,bf16\ngemm,32,1024,512,bf16\ngemm,32,512,512,f32\n\
attention_prefill,1,32,8,2,64,bf16\nattention_prefill,1,128,8,2,64,bf16\n\
attention_decode,1,64,8,2,64,bf16\nattention_decode,4,256,8,2,64,bf16\nall_reduce,4096\n";

fn python() -> PathBuf {
    std::env::var_os("ARCHPLAN_PYTHON").unwrap_or_else(|| "python3".into()).into()
}

/// Whether tests that measure can run here; says so where they cannot.
fn has_torch(test: &str) -> bool {
    let found = Command::new(python()).args(["-c", "import torch"]).output();
    let has = found.is_ok_and(|out| out.status.success());
    if !has {
        eprintln!(
            "SKIPPED {test}: {} has no torch; name one that has in ARCHPLAN_PYTHON",
            python().display()
        );
    }
    has
}

fn archplan(arguments: &[&str]) -> assert_cmd::assert::Assert {
    assert_cmd::Command::cargo_bin("archplan").unwrap().args(arguments).assert()
}

/// The program with these arguments of `profiles collector`, in a folder of its own.
fn program(arguments: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("collector.py");
    let out = file.display().to_string();
    archplan(&[&["-q", "profiles", "collector", "--out", &out], arguments].concat()).success();
    (scratch, file)
}

fn with_points(points: &str) -> (tempfile::TempDir, PathBuf) {
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(list.path(), points).unwrap();
    program(&["--device", "cpu", "--points", &list.path().display().to_string()])
}

fn run(file: &Path, arguments: &[&str]) -> Output {
    Command::new(python()).arg(file).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_program_compiles_and_lists_its_points_without_torch() {
    for device in ["cuda", "npu", "cpu"] {
        let (_scratch, file) = program(&["--device", device, "--model", "qwen3-0.6b", "--tp", "1,2"]);
        let path = file.display().to_string();
        let compiled = Command::new(python()).args(["-m", "py_compile", &path]).output().unwrap();
        assert!(compiled.status.success(), "{}", text(&compiled.stderr));
        // -S and -I: no installed package can be imported.
        let bare = |flag| Command::new(python()).args(["-I", "-S", &path, flag]).output().unwrap();
        assert!(text(&bare("--help").stdout).contains("--budget"));
        let listed = bare("--list-points");
        assert!(listed.status.success(), "{}", text(&listed.stderr));
        let lines: Vec<String> = text(&listed.stdout).lines().map(str::to_string).collect();
        assert!(lines.len() > 1000 && lines[0].starts_with("copy,"), "{}", lines.len());
        assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), lines.len(), "a point comes twice");
        let json = archplan(&[
            "profiles",
            "collector",
            "--device",
            device,
            "--model",
            "qwen3-0.6b",
            "--tp",
            "1,2",
            "--json",
        ]);
        let json: Vec<serde_json::Value> = serde_json::from_slice(&json.get_output().stdout).unwrap();
        assert_eq!(json.len(), lines.len(), "the program lists what --json lists");
    }
}

/// Python refuses syntax newer than the version it is asked to accept (as far as its parser can tell).
#[test]
fn the_program_is_python_3_9() {
    let (_scratch, file) = program(&["--device", "cuda", "--most-points", "5"]);
    let check = "import ast,sys; ast.parse(open(sys.argv[1]).read(), feature_version=(3, 9)); \
                 assert sys.version_info >= (3, 9)";
    let parsed = Command::new(python()).args(["-c", check]).arg(&file).output().unwrap();
    assert!(parsed.status.success(), "{}", text(&parsed.stderr));
    let source = fs::read_to_string(&file).unwrap();
    let imports =
        source.lines().map(str::trim).filter(|l| l.starts_with("import ") || l.starts_with("from "));
    let foreign =
        imports.filter(|line| line.contains("numpy") || line.contains("pandas") || line.contains("yaml"));
    assert_eq!(foreign.count(), 0);
}

#[test]
fn bad_input_is_one_precise_error() {
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(list.path(), "copy,8\ngemm,1,0,8,bf16\n").unwrap();
    let path = list.path().display().to_string();
    let bad = |arguments: &[&str], message: &str| {
        let all = [&["profiles", "collector", "--device", "cpu"], arguments].concat();
        archplan(&all).code(2).stderr(predicate::str::contains(message.to_string())).stdout("");
    };
    bad(&["--points", &path], "point 2: `0` is not a whole number");
    bad(&["--points", "nowhere.csv"], "nowhere.csv");
    bad(&["--model", "qwen3-06b"], "did you mean");
    bad(&["--budget", "30"], "--budget: `30`");
    bad(&["--tp", "0"], "--tp");
    bad(&["--multiple-ffn", "0"], "--multiple-ffn is 0");
    let (scratch, file) = with_points(POINTS);
    for (arguments, message) in [
        (vec!["--points", path.as_str()], "point 2: n is '0'"),
        (vec!["--budget", "soon"], "no time with its unit"),
        (vec!["--out", "My-Device"], "lower-case letters"),
        (vec!["--datasheet", "hbm=3"], "hbm_gbps=NUMBER"),
        (vec!["--repeats", "2"], "5 at least"),
    ] {
        let out = Command::new(python()).current_dir(&scratch).arg(&file).args(&arguments).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{arguments:?}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains(message), "{arguments:?}: {}", text(&out.stderr));
    }
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 1, "something was written");
}

#[test]
fn control_flow_holds_on_a_made_up_accelerator() {
    if !has_torch("control_flow_holds_on_a_made_up_accelerator") {
        return;
    }
    let (_scratch, file) = program(&["--device", "cuda", "--most-points", "5"]);
    let out = Command::new(python()).arg("tests/collector_device.py").arg(&file).output().unwrap();
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
    assert!(text(&out.stdout).lines().count() >= 12);
}

/// Measured rows in the journal; the last line may be half written.
fn rows_in(journal: &Path) -> Vec<String> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    text.lines()
        .filter(|line| line.contains("latency_us") && line.ends_with('}'))
        .map(str::to_string)
        .collect()
}

/// Starts the program and kills it (SIGKILL) once it has measured a few points.
fn kill_half_way(file: &Path, out: &Path) -> Vec<String> {
    let journal = out.join("collector.jsonl");
    let mut child = Command::new(python())
        .arg(file)
        .args(["--threads", "1", "--out"])
        .arg(out)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while rows_in(&journal).len() < 4 {
        assert!(start.elapsed() < Duration::from_secs(180), "nothing was measured in three minutes");
        if let Some(status) = child.try_wait().unwrap() {
            panic!("ended by itself: {status}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    rows_in(&journal)
}

#[test]
fn a_killed_run_goes_on_and_its_profile_prices_calls() {
    if !has_torch("a_killed_run_goes_on_and_its_profile_prices_calls") {
        return;
    }
    let (scratch, file) = with_points(POINTS);
    let out = scratch.path().join("this_host");
    let before = kill_half_way(&file, &out);
    assert!(before.len() >= 4 && before.len() < 13, "killed too late: {} rows", before.len());
    assert!(!out.join("profile.toml").exists());
    let journal = out.join("collector.jsonl");
    let mut torn = fs::read(&journal).unwrap();
    torn.extend_from_slice(b"{\"point\": [\"gemm\", 1, 5");
    fs::write(&journal, torn).unwrap();

    let place = out.display().to_string();
    let ended = run(&file, &["--threads", "1", "--budget", "60s", "--out", &place]);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("13 of 13 points measured (100 %)"), "{}", text(&ended.stderr));
    let after = rows_in(&journal);
    assert_eq!(after.len(), 13);
    assert_eq!(after[..before.len()], before[..], "what was measured before is not measured again");

    let report = check::check(&out);
    assert_eq!(report.errors, []);
    assert_eq!(report.rows[&KernelFamily::Gemm], 5);
    let profile = HardwareProfile::load(&out).unwrap();
    assert!(profile.rows(KernelFamily::Gemm).unwrap().iter().all(|row| row.spread.is_some()));
    assert!(profile.elementwise.launch.0 > 0.0 && profile.device_source.contains("MEASURED"));
    let costs = KernelModel::open(&profile, &[DType::Bf16, DType::F32], &[DType::Bf16]).unwrap();
    for call in [
        KernelCall::Gemm { m: 32, n: 512, k: 512, dtype: DType::Bf16 },
        KernelCall::Gemm { m: 8, n: 768, k: 512, dtype: DType::Bf16 },
        KernelCall::AttentionDecode {
            batch: 2,
            kv_len: 128,
            q_heads: 8,
            kv_heads: 2,
            head_dim: 64,
            dtype: DType::Bf16,
        },
        KernelCall::Elementwise { bytes: 1 << 20, launches: 1 },
    ] {
        let us = costs.cost(&call).unwrap().latency.us();
        assert!(us.is_finite() && us > 0.0 && us < 1e7, "{call:?}: {us} us");
    }
    archplan(&["profiles", "check", &place]).success();
    let predict = "predict --model qwen3-0.6b --profile this_host --engine none --batch 1 --prompt 64 --output 8 -q --json";
    let arguments: Vec<&str> = ["--profile-dir", &place].into_iter().chain(predict.split(' ')).collect();
    archplan(&arguments).success();

    // Nothing is left to do: the tables stay as they are.
    let table = fs::read(out.join("gemm.csv")).unwrap();
    assert!(run(&file, &["--threads", "1", "--out", &place]).status.success());
    assert_eq!(fs::read(out.join("gemm.csv")).unwrap(), table);
    // Another machine's measurements do not mix with these: the number of threads is part of the device.
    let other = run(&file, &["--threads", "2", "--out", &place]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("--restart"), "{}", text(&other.stderr));
}

#[test]
fn a_budget_is_kept_and_its_share_is_said() {
    if !has_torch("a_budget_is_kept_and_its_share_is_said") {
        return;
    }
    let (scratch, file) = program(&["--device", "cpu", "--budget", "4s"]);
    let out = scratch.path().join("short").display().to_string();
    let start = Instant::now();
    let ended = run(&file, &["--threads", "1", "--out", &out]);
    let spent = start.elapsed();
    let said = text(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("left for want of time") && !said.contains("(100 %)"), "{said}");
    // Starting Python and PyTorch is not in the budget.
    assert!(spent < Duration::from_secs(90), "{spent:?}");
    assert_eq!(check::check(Path::new(&out)).errors, []);
}
