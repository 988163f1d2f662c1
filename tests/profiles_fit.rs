//! `archplan profiles fit`, killed half-way: what was learned is taken up again, and the result is the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::CommandCargoExt;

/// Every fortieth row of two shipped tables.
fn tables(dir: &Path) -> PathBuf {
    let tables = dir.join("tables");
    fs::create_dir(&tables).expect("a folder");
    for name in ["gemm", "attention_decode"] {
        let text = fs::read_to_string(format!("hardware_profiles/a100_sxm/{name}.csv")).expect("a table");
        let rows = text.lines().enumerate().filter(|(i, _)| i % 40 == 0).map(|(_, line)| line);
        fs::write(tables.join(format!("{name}.csv")), rows.collect::<Vec<_>>().join("\n") + "\n")
            .expect("a table");
    }
    tables
}

fn fit(tables: &Path, out: &Path) -> Command {
    let mut command = Command::cargo_bin("archplan").expect("the binary");
    command.args(["profiles", "fit", "a100_sxm", "--rows"]).arg(tables).arg("--out").arg(out);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn files(out: &Path) -> [Vec<u8>; 3] {
    ["gemm.fit.json", "attention_decode.fit.json", "evaluation.csv"]
        .map(|name| fs::read(out.join(name)).expect(name))
}

fn finished(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    stderr
}

#[test]
fn a_killed_fit_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let tables = tables(dir.path());
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    finished(&fit(&tables, &whole).output().expect("a run"));

    let first_part = cut.join(".gemm.bf16.fit.part");
    let mut run = fit(&tables, &cut).spawn().expect("a run");
    let start = Instant::now();
    while !first_part.exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "the first part never came");
        assert!(run.try_wait().expect("a child").is_none(), "the run ended before it could be killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    run.kill().expect("a child to kill");
    run.wait().expect("a child");
    assert!(!cut.join("gemm.fit.json").exists(), "half a result is in place");
    // A part that was damaged is learned anew, not used.
    fs::write(cut.join(".attention_decode.bf16.fit.part"), "half").expect("a file");

    let said = finished(&fit(&tables, &cut).output().expect("a run"));
    assert!(said.contains("taken up: gemm bf16"), "{said}");
    assert!(!said.contains("taken up: attention_decode"), "{said}");
    assert!(files(&cut) == files(&whole), "the resumed fit differs");
    let left = fs::read_dir(&cut).expect("a folder").map(|e| e.expect("an entry").file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().ends_with(".part")), "parts are left behind");
}
