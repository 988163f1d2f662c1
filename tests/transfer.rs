//! Profiles carried over from a relative: what comes back, what points change, what is refused.

use std::fs;
use std::path::Path;

use archplan::estimate::Source;
use archplan::hardware::kernel::{KernelCall, KernelFamily};
use archplan::hardware::latency::cost::{GapError, KernelCosts, Z90};
use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::table::Row;
use archplan::hardware::transfer::evaluation;
use archplan::units::DType;
use assert_cmd::Command;
use tempfile::TempDir;

const BF16: [DType; 1] = [DType::Bf16];
const A100: &str = "bf16=312,hbm_gib=80,hbm_gbps=2039,l2_mib=40,cores=108,interconnect_gbps=300";

fn archplan(arguments: &[&str]) -> (i32, String, String) {
    let out = Command::cargo_bin("archplan").unwrap().args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

/// Makes `name` like a relative and returns it.
fn made(scratch: &TempDir, name: &str, like: &str, sheet: &str, more: &[&str]) -> HardwareProfile {
    let out = scratch.path().to_str().unwrap();
    let mut arguments = vec!["profiles", "new", name, "--like", like, "--datasheet", sheet, "--out", out];
    arguments.extend(more);
    let (code, _, errors) = archplan(&arguments);
    assert_eq!(code, 0, "{errors}");
    HardwareProfile::load(&scratch.path().join(name)).unwrap()
}

fn model(profile: &HardwareProfile) -> KernelModel {
    KernelModel::open(profile, &BF16, &BF16).unwrap()
}

/// Every so-manieth bf16 row of a family.
fn rows(profile: &str, family: KernelFamily, step: usize) -> Vec<Row> {
    let rows = HardwareProfile::builtin(profile).unwrap().rows(family).unwrap().to_vec();
    let bf16 = |row: &Row| match row.call {
        KernelCall::Gemm { dtype, .. } => dtype == DType::Bf16,
        _ => true,
    };
    rows.into_iter().filter(bf16).step_by(step).collect()
}

fn write_gemm(path: &Path, rows: &[Row], us: impl Fn(usize, f64) -> f64) {
    let mut text = "m,n,k,dtype,latency_us\n".to_string();
    for (i, row) in rows.iter().enumerate() {
        if let KernelCall::Gemm { m, n, k, dtype } = row.call {
            text.push_str(&format!("{m},{n},{k},{dtype},{}\n", us(i, row.latency.us())));
        }
    }
    fs::write(path, text).unwrap();
}

#[test]
fn the_same_data_sheet_gives_the_relative_back() {
    let scratch = tempfile::tempdir().unwrap();
    let twin = made(&scratch, "twin", "a100_sxm", "a100_sxm", &[]);
    assert_eq!(twin.provenance(KernelFamily::Gemm), Some(Source::Estimated));
    let (there, here) = (model(&HardwareProfile::builtin("a100_sxm").unwrap()), model(&twin));
    let mut calls: Vec<KernelCall> =
        rows("a100_sxm", KernelFamily::Gemm, 97).iter().map(|row| row.call).collect();
    calls.push(KernelCall::Gemm { m: 37, n: 5000, k: 3000, dtype: DType::Bf16 });
    calls.push(KernelCall::AttentionDecode {
        batch: 7,
        kv_len: 900,
        q_heads: 24,
        kv_heads: 8,
        head_dim: 128,
        dtype: DType::Bf16,
    });
    for call in calls {
        let (a, b) = (there.cost(&call).unwrap(), here.cost(&call).unwrap());
        assert!((a.latency / b.latency).ln().abs() < 1e-3, "{call:?}: {} {}", a.latency, b.latency);
        // The same sheet is not the same device.
        assert!(b.source == Source::Estimated && b.log_sigma > a.log_sigma, "{call:?}");
    }
}

#[test]
fn points_sharpen_and_intervals_hold() {
    let (relative, target) =
        (HardwareProfile::builtin("h100_sxm").unwrap(), HardwareProfile::builtin("a100_sxm").unwrap());
    let scores = evaluation::evaluate(&relative, &target, &[0, 30], 1).unwrap();
    for family in [KernelFamily::Gemm, KernelFamily::AttentionPrefill, KernelFamily::AttentionDecode] {
        let of = |points| scores.iter().find(|s| s.family == family && s.points == points).unwrap();
        let (bare, sharp) = (of(0), of(30));
        assert_eq!(bare.n, sharp.n + 30);
        assert!(sharp.median_ape_percent < 0.75 * bare.median_ape_percent, "{family}: {bare:?} {sharp:?}");
        assert!(sharp.bias_percent.abs() < bare.bias_percent.abs(), "{family}: {bare:?} {sharp:?}");
        assert!(
            sharp.coverage_percent > 80.0 && bare.coverage_percent > 80.0,
            "{family}: {bare:?} {sharp:?}"
        );
        assert!(bare.constants_without.contains(&"a100_sxm".to_string()));
    }
}

#[test]
fn measured_points_come_back() {
    let scratch = tempfile::tempdir().unwrap();
    let points = rows("a100_sxm", KernelFamily::Gemm, 400);
    let file = scratch.path().join("few.csv");
    write_gemm(&file, &points, |_, us| us);
    let profile = made(&scratch, "a100", "h100_sxm", A100, &["--calibrate", file.to_str().unwrap()]);
    let sharp = model(&profile);
    for row in &points {
        let cost = sharp.cost(&row.call).unwrap();
        let error = (cost.latency / row.latency).ln().abs();
        assert!(
            error < 0.02 && error < 1.5 * Z90 * cost.log_sigma,
            "{:?}: {error} {}",
            row.call,
            cost.log_sigma
        );
        assert_eq!(cost.source, Source::Estimated);
    }
}

#[test]
fn intervals_widen_with_the_distance_of_the_devices_and_narrow_with_points() {
    let scratch = tempfile::tempdir().unwrap();
    let sheet = |scale: f64| {
        format!("bf16={},hbm_gib=80,hbm_gbps={},l2_mib=40,cores=108", 312.0 * scale, 2039.0 * scale)
    };
    let call = KernelCall::Gemm { m: 100, n: 4096, k: 5000, dtype: DType::Bf16 };
    let mut widths = Vec::new();
    for (name, scale) in [("one", 1.0), ("two", 2.0), ("eight", 8.0)] {
        let profile = made(&scratch, name, "a100_sxm", &sheet(scale), &[]);
        widths.push(model(&profile).cost(&call).unwrap().log_sigma);
    }
    assert!(widths.is_sorted() && widths[2] > 1.5 * widths[0], "{widths:?}");
    let file = scratch.path().join("gemm.csv");
    write_gemm(&file, &rows("a100_sxm", KernelFamily::Gemm, 80), |_, us| us / 2.0);
    let sharp = made(&scratch, "sharp", "a100_sxm", &sheet(2.0), &["--calibrate", file.to_str().unwrap()]);
    assert!(model(&sharp).cost(&call).unwrap().log_sigma < 0.8 * widths[1]);
}

#[test]
fn what_the_relative_or_the_sheet_lacks_is_a_gap() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().to_str().unwrap();
    let (code, shown, errors) =
        archplan(&["profiles", "new", "l40s", "--like", "a100_sxm", "--datasheet", "l40s", "--out", out]);
    assert_eq!(code, 0, "{errors}");
    assert!(shown.contains("estimated, carried over from a100_sxm"), "{shown}");
    assert!(errors.contains("gemm fp8: absent, `a100_sxm` has no figures of it"), "{errors}");
    let profile = HardwareProfile::load(&scratch.path().join("l40s")).unwrap();
    // Points of it are said to be left out; those of bf16 beside them count.
    let file = scratch.path().join("gemm.csv");
    write_gemm(&file, &rows("a100_sxm", KernelFamily::Gemm, 400), |_, us| us);
    fs::write(&file, fs::read_to_string(&file).unwrap() + "64,4096,4096,fp8,30\n").unwrap();
    let calibrate =
        ["profiles", "new", "y", "--like", "a100_sxm", "--datasheet", "l40s", "--out", out, "--calibrate"];
    let (code, shown, errors) = archplan(&[&calibrate[..], &[file.to_str().unwrap()]].concat());
    assert!(code == 0 && errors.contains("1 fp8 points left out"), "{errors}");
    assert!(shown.contains("21 measured points"), "{shown}");
    let model = KernelModel::open(&profile, &[DType::Fp8], &BF16).unwrap();
    let gap = model.cost(&KernelCall::Gemm { m: 64, n: 4096, k: 4096, dtype: DType::Fp8 });
    assert!(matches!(gap, Err(GapError::NoDType { dtype: DType::Fp8, .. })), "{gap:?}");
}

#[test]
fn a_made_profile_predicts_and_searches_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    made(&scratch, "l40s", "a100_sxm", "l40s", &[]);
    let dir = scratch.path().to_str().unwrap();
    let (code, shown, errors) =
        archplan(&["profiles", "check", scratch.path().join("l40s").to_str().unwrap()]);
    assert_eq!(code, 0, "{shown}{errors}");
    let deployment =
        ["--model", "qwen3-0.6b", "--profile", "l40s", "--batch", "4", "--prompt", "512", "--output", "64"];
    let with = |command: &str, more: &[&str]| {
        let mut arguments = vec!["--profile-dir", dir, command];
        arguments.extend(deployment);
        arguments.extend(more);
        arguments.extend(["--json", "-q"]);
        archplan(&arguments)
    };
    let (code, json, errors) = with("predict", &[]);
    assert_eq!(code, 0, "{errors}");
    let prediction: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(prediction["prefill_ms"]["source"], "estimated");
    let (code, json, errors) = with("search", &["--speedup", "1.1x"]);
    assert_eq!(code, 0, "{errors}");
    assert!(json.contains("\"estimated\""));
    // What was carried over is no relative itself, and its folder is not written over.
    let again = [
        "--profile-dir",
        dir,
        "profiles",
        "new",
        "b200",
        "--like",
        "l40s",
        "--datasheet",
        "b200_sxm",
        "--out",
        dir,
    ];
    let (code, _, errors) = archplan(&again);
    assert!(code == 2 && errors.contains("`l40s` is itself estimated in gemm"), "{errors}");
    let over = ["profiles", "new", "l40s", "--like", "a100_sxm", "--datasheet", "l40s", "--out", dir];
    let (code, _, errors) = archplan(&over);
    assert!(code == 2 && errors.contains("--force"), "{errors}");
}

/// Runs `profiles new` with a gemm.csv of changed A100 rows and returns what it says; nothing may be written.
fn refused(step: usize, us: impl Fn(usize, f64) -> f64) -> String {
    refused_with(step, us, "")
}

fn refused_with(step: usize, us: impl Fn(usize, f64) -> f64, more: &str) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("gemm.csv");
    write_gemm(&file, &rows("a100_sxm", KernelFamily::Gemm, step), us);
    fs::write(&file, fs::read_to_string(&file).unwrap() + more).unwrap();
    let out = scratch.path().join("x");
    let (file, out) = (file.to_str().unwrap(), out.to_str().unwrap());
    let (code, _, errors) = archplan(&[
        "profiles",
        "new",
        "x",
        "--like",
        "h100_sxm",
        "--datasheet",
        A100,
        "--calibrate",
        file,
        "--out",
        out,
    ]);
    assert_eq!(code, 2, "{errors}");
    assert!(!Path::new(out).exists() && fs::read_dir(scratch.path()).unwrap().count() == 1);
    errors
}

#[test]
fn points_that_cannot_be_are_refused() {
    let milliseconds = refused(400, |_, us| us / 1000.0);
    assert!(milliseconds.contains("look like milliseconds: multiply them by 1000"), "{milliseconds}");
    let nanoseconds = refused(400, |_, us| us * 1000.0);
    assert!(nanoseconds.contains("look like nanoseconds: divide them by 1000"), "{nanoseconds}");
    let few = refused(5000, |_, us| us);
    assert!(few.contains("2 gemm points are too few") && few.contains("at least 3"), "{few}");
    let one = refused(400, |i, us| if i == 7 { us * 60.0 } else { us });
    assert!(one.contains("gemm.csv:9:1") && one.contains("contradicts the other points"), "{one}");
    let first = rows("a100_sxm", KernelFamily::Gemm, 400)[5];
    let KernelCall::Gemm { m, n, k, .. } = first.call else { panic!("a gemm") };
    let beside = format!("{m},{n},{},bf16,{}\n", k + 1, first.latency.us() * 10.0);
    let beside = refused_with(400, |_, us| us, &beside);
    assert!(beside.contains("gemm.csv:7:1") && beside.contains("a shape beside it"), "{beside}");
    let slow = refused(400, |i, us| if i == 7 { us * 900.0 } else { us });
    assert!(slow.contains("gemm.csv:9:1") && slow.contains("times slower"), "{slow}");
    let fast = refused(400, |i, us| if i == 20 { us / 50.0 } else { us });
    assert!(fast.contains("gemm.csv:22:1"), "{fast}");
}

#[test]
fn sheets_and_relatives_that_will_not_do_are_refused() {
    let says = |name: &str, like: &str, sheet: &str| {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("x");
        let (code, _, errors) = archplan(&[
            "profiles",
            "new",
            name,
            "--like",
            like,
            "--datasheet",
            sheet,
            "--out",
            out.to_str().unwrap(),
        ]);
        assert_eq!(code, 2, "{errors}");
        assert!(!out.exists());
        errors
    };
    let missing = says("x", "h100_sxm", "fp8=733,hbm_gib=45");
    assert!(["peak_tflops.bf16", "hbm_gbps", "cores"].iter().all(|key| missing.contains(key)), "{missing}");
    assert!(says("x", "h100_sxm", "l40").contains("did you mean `l40s`?"));
    assert!(says("x", "h101", "l40s").contains("did you mean `h100_sxm`?"));
    assert!(says("X-1", "h100_sxm", "l40s").contains("X-1"));
}

#[test]
fn suggested_points_are_shapes_of_the_tables() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().to_str().unwrap();
    let suggest = [
        "profiles",
        "new",
        "x",
        "--like",
        "a100_sxm",
        "--datasheet",
        A100,
        "--suggest-points",
        "12",
        "--out",
        out,
    ];
    let (code, shown, errors) = archplan(&suggest);
    assert!(code == 0 && shown.contains("12 points to measure"), "{errors}");
    let text = fs::read_to_string(scratch.path().join("gemm.csv")).unwrap();
    let known: Vec<String> = rows("a100_sxm", KernelFamily::Gemm, 1)
        .iter()
        .filter_map(|row| match row.call {
            KernelCall::Gemm { m, n, k, dtype } => Some(format!("{m},{n},{k},{dtype},")),
            _ => None,
        })
        .collect();
    assert_eq!(text.lines().count(), 13);
    assert!(text.lines().skip(1).all(|line| known.iter().any(|k| k == line)), "{text}");
    let (code, _, errors) = archplan(&suggest);
    assert!(code == 2 && errors.contains("exists"), "{errors}");
    // Not yet measured.
    let out = scratch.path().join("y");
    let (code, _, errors) = archplan(&[
        "profiles",
        "new",
        "x",
        "--like",
        "a100_sxm",
        "--datasheet",
        A100,
        "--calibrate",
        scratch.path().to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(
        code == 2 && errors.contains("attention_decode.csv:2") || errors.contains("gemm.csv:2"),
        "{errors}"
    );
}
