//! `archplan profiles evaluate --out`: rows scored are the rows of the table, and the files hold what they say.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use archplan::hardware::kernel::{KernelCall, KernelFamily};
use archplan::hardware::latency::cost::Z90;
use archplan::hardware::latency::kernel_model::crossval::Split;
use archplan::hardware::latency::kernel_model::evaluation;
use archplan::hardware::latency::kernel_model::members::Rows;
use archplan::hardware::latency::kernel_model::scored::{ScoredRow, ScoredSet};
use archplan::hardware::latency::kernel_model::scores::Miss;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::table::Row;
use archplan::report::kernels::errors::{self, ErrorReport};
use archplan::units::{DType, Seconds};
use assert_cmd::Command;
use predicates::prelude::*;

fn row(m: u64, us: f64, percent: f64, spread: Option<f64>) -> ScoredRow {
    let call = KernelCall::Gemm { m, n: 64, k: 128, dtype: DType::Bf16 };
    let miss = Miss { log_error: (1.0 + percent / 100.0).ln(), log_sigma: 1.1f64.ln() / Z90 };
    ScoredRow { call, measured: Seconds::from_us(us), miss, spread }
}

fn set(rows: Vec<ScoredRow>) -> ScoredSet {
    ScoredSet { family: KernelFamily::Gemm, dtype: Some(DType::Bf16), holdout: "random".to_string(), rows }
}

fn report(sets: Vec<ScoredSet>) -> ErrorReport {
    ErrorReport {
        profile: "toy".to_string(),
        device: "Toy </script>".to_string(),
        stack: "none 1".to_string(),
        sha256: "0".repeat(64),
        command: "archplan profiles evaluate toy".to_string(),
        sets,
    }
}

#[test]
fn the_table_holds_every_row_as_worked_out_by_hand() {
    let set = set(vec![row(1, 10.0, 20.0, None), row(2, 200.0, -5.0, Some(0.0125))]);
    // 12 / 1.1, 12 x 1.1; 190 / 1.1, 190 x 1.1.
    assert_eq!(
        errors::table(&set).unwrap(),
        "m,n,k,dtype,measured_us,predicted_us,low_us,high_us,error_percent,inside,spread_percent\n\
         1,64,128,bf16,10,12,10.909,13.2,20,false,\n2,64,128,bf16,200,190,172.73,209,-5,true,1.25\n"
    );
}

/// Sizes a profile of 100 000 rows comes to, and the same bytes every time.
#[test]
fn many_rows_are_thinned_the_same_way_every_time() {
    let many = |n: u64| {
        (0..n)
            .map(|m| row(m + 1, 1.0 + (m * 7919 % 50_000) as f64, ((m * 31) % 61) as f64 - 30.0, Some(0.01)))
    };
    let sets = || {
        (0..3).map(|i| ScoredSet {
            holdout: ["random", "n", "k"][i].to_string(),
            ..set(many(35_000).collect())
        })
    };
    let scratch = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let dir = scratch.path().join(name);
        let written = errors::write(&report(sets().collect()), &dir, false).unwrap();
        written
            .into_iter()
            .map(|path| (path.file_name().unwrap().to_owned(), fs::read(path).unwrap()))
            .collect()
    };
    let first: BTreeMap<_, Vec<u8>> = write("a");
    assert!(first == write("b"), "two runs differ");
    assert_eq!(first.len(), 7);
    for (name, bytes) in &first {
        let name = name.to_string_lossy();
        assert!(bytes.len() < 2_500_000, "{name}: {} bytes", bytes.len());
        match name.ends_with(".csv") {
            true => assert_eq!(bytes.iter().filter(|b| **b == b'\n').count(), 35_001, "{name}"),
            false => assert!(bytes.len() < 2_000_000, "{name}: {} bytes", bytes.len()),
        }
    }
    let text = |name: &str| String::from_utf8(first[std::ffi::OsStr::new(name)].clone()).unwrap();
    let picture = text("errors_gemm_bf16_n.svg");
    for words in [
        "of 35\u{202f}000 rows, by a fixed hash",
        "whole values of n, one at a time",
        "measured latency (µs)",
        "1.00 % either way",
    ] {
        assert!(picture.contains(words), "{words}");
    }
    let page = text("errors.html");
    assert_eq!(page.matches("</script>").count(), 1, "data does not close the script");
}

#[test]
fn cross_validation_scores_rows_of_the_table_each_once() {
    let profile = HardwareProfile::builtin("a100_sxm").unwrap();
    let table: Vec<Row> =
        profile.rows(KernelFamily::AttentionDecode).unwrap().iter().step_by(16).copied().collect();
    let rows = Rows::measured(KernelFamily::AttentionDecode, DType::Bf16, &profile.device, &table);
    let scored = evaluation::cross_validate(&rows, &profile.device, 0, Split::Folds(5));
    let measured: BTreeMap<KernelCall, Seconds> = table.iter().map(|row| (row.call, row.latency)).collect();
    let mut seen: Vec<KernelCall> = scored.rows.iter().map(|row| row.call).collect();
    assert!(scored.rows.iter().all(|row| measured[&row.call] == row.measured));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), scored.rows.len()), (table.len(), table.len()));
    let score = scored.score().unwrap();
    let inside = scored
        .rows
        .iter()
        .filter(|row| row.interval().0.0 <= row.measured.0 && row.measured.0 <= row.interval().1.0);
    assert!((score.coverage - 100.0 * inside.count() as f64 / table.len() as f64).abs() < 0.5);
    assert_eq!(score.n, table.len());
}

fn evaluate(arguments: &[&str], out: &Path) -> assert_cmd::assert::Assert {
    let mut command = Command::cargo_bin("archplan").unwrap();
    command.args(["profiles", "evaluate", "a100_sxm"]).args(arguments).arg("--out").arg(out).assert()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_command_draws_held_out_and_unseen_rows() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    evaluate(&["--family", "all_reduce"], &out)
        .success()
        .stderr(
            predicate::str::contains("keeping out rows at random")
                .and(predicate::str::contains("errors.html")),
        )
        .stdout(predicate::str::contains("all_reduce"));
    assert_eq!(names(&out), ["errors.html", "errors_all_reduce_bytes.csv", "errors_all_reduce_bytes.svg"]);
    let tables = scratch.path().join("tables");
    fs::create_dir(&tables).unwrap();
    let seen = fs::read_to_string("hardware_profiles/a100_sxm/gemm.csv").unwrap();
    let seen = seen.lines().nth(1).unwrap();
    let table = format!(
        "m,n,k,dtype,latency_us,spread_percent\n{seen},1\n17,1000,1000,bf16,9.5,2.5\n33,999,77,bf16,6,\n"
    );
    fs::write(tables.join("gemm.csv"), table).unwrap();
    evaluate(&["--against", tables.to_str().unwrap()], &out)
        .success()
        .stderr(predicate::str::contains("1 rows of"));
    assert_eq!(names(&out), ["errors.html", "errors_gemm_bf16_unseen.csv", "errors_gemm_bf16_unseen.svg"]);
    let rows = fs::read_to_string(out.join("errors_gemm_bf16_unseen.csv")).unwrap();
    let ends: Vec<&str> = rows.lines().skip(1).map(|line| line.rsplit(',').next().unwrap()).collect();
    assert_eq!(ends, ["2.5", ""], "{rows}");
}

#[test]
fn a_folder_in_the_way_is_refused_before_the_work() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("notes.md"), "").unwrap();
    evaluate(&[], scratch.path()).code(2).stderr(predicate::str::contains("archplan profiles evaluate"));
    assert_eq!(names(scratch.path()), ["notes.md"]);
    evaluate(&["--family", "all_reduce", "--force"], scratch.path()).success();
    assert_eq!(names(scratch.path()).len(), 4);
}
