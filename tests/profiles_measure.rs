//! `profiles measure` and `profiles verify`, end to end on small budgets.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use archplan::estimate::Source;
use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::latency::cost::KernelCosts;
use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::measure::sentinel::Sentinel;
use archplan::hardware::measure::verify::{self, Range};
use archplan::hardware::profile::{HardwareProfile, check};
use archplan::units::{Bytes, DType};

const TYPES: [DType; 2] = [DType::F32, DType::Bf16];

fn measure(out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archplan"));
    command.args(["profiles", "measure", "--max-width", "512", "--max-tokens", "64", "--max-cached", "128"]);
    command
        .args(["--threads", "1", "--out"])
        .arg(out)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn journal(out: &Path) -> std::path::PathBuf {
    archplan::hardware::measure::journal::path_of(out)
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_string).collect()
}

#[test]
fn killed_half_way_it_goes_on_and_the_profile_is_sound() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("toy_cpu");
    let mut first = measure(&out, &["--budget", "10m", "--target-error", "0.01%"]).spawn().unwrap();
    for _ in 0..2400 {
        if lines(&journal(&out)).len() > 40 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(!out.exists(), "nothing half-made is left where the profile will be");
    let before = lines(&journal(&out));
    let kept = before.len() - 1;
    assert!(kept >= 39, "{kept} rows");

    let second = measure(&out, &["--budget", "1s", "--target-error", "0.01%", "--json"]).output().unwrap();
    let (told, printed) = (String::from_utf8_lossy(&second.stderr), String::from_utf8_lossy(&second.stdout));
    assert!(second.status.success(), "{told}");
    assert!(told.contains("taken up: "), "{told}");
    assert!(printed.contains("\"target_reached\": false"), "{printed}");
    assert!(!journal(&out).exists());

    assert_eq!(check::check(&out).errors, []);
    let profile = HardwareProfile::load(&out).unwrap();
    let mut rows = 0;
    let model = KernelModel::open(&profile, &TYPES, &TYPES).unwrap();
    for family in [KernelFamily::Gemm, KernelFamily::AttentionPrefill, KernelFamily::AttentionDecode] {
        for row in profile.rows(family).unwrap().iter() {
            rows += 1;
            let cost = model.cost(&row.call).unwrap();
            assert_eq!((cost.latency, cost.source), (row.latency, Source::Measured));
            assert_eq!(
                cost.log_sigma,
                row.spread.unwrap().ln_1p(),
                "a measured row comes back with its spread"
            );
        }
    }
    assert!(rows >= kept, "{rows} rows in the tables, {kept} in the journal");
    let again = measure(&out, &["--budget", "1s"]).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "a profile that is there is not overwritten");
}

#[test]
fn stacks_of_unmeasured_widths_are_predicted_and_run() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("toy_cpu");
    let done = measure(&out, &["--budget", "20s", "--target-error", "40%"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut profile = HardwareProfile::load(&out).unwrap();
    // As if the machine had no cache, so that small stacks will do.
    profile.device.l2 = None;
    let range = Range { stacks: 3, hidden: 512, weights: Bytes::from_mib(64.0), seed: 2 };
    let stacks = verify::draw(&profile, &range).unwrap();
    assert_eq!(stacks.len(), 3);
    assert_eq!(stacks, verify::draw(&profile, &range).unwrap());
    let model = KernelModel::open(&profile, &TYPES, &TYPES).unwrap();
    for stack in &stacks {
        for trial in verify::run(stack, &model, &mut Sentinel::default()).unwrap() {
            let (predicted, measured) = (trial.predicted.value, trial.measured.median.0);
            assert!(predicted > 0.0 && measured > 0.0);
            let total: f64 = trial.cost.lines.iter().map(|line| line.latency.0).sum();
            assert!((total - predicted).abs() < 1e-12 * total);
        }
    }
}

#[test]
fn a_profile_of_another_cpu_is_not_run() {
    let done = Command::new(env!("CARGO_BIN_EXE_archplan"))
        .args(["profiles", "verify", "h200_sxm"])
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("is a profile of NVIDIA H200"));
}
