//! `--device` as users type it: refusals that come before any work, and what a build without GPU support says.

use std::process::{Command, Output, Stdio};

use assert_cmd::cargo::CommandCargoExt;

/// Every command that runs a network, with files that are not there.
const COMMANDS: [&str; 7] = [
    "evaluate --model none --data none",
    "calibrate --model none --data none --out none/out",
    "prune --model none --target none --out none/out",
    "ablate --model none --target none --importance none --heldout none",
    "score --model none --importance none --data none --out none/out",
    "try none --model none --importance none --data none",
    "search --model none --profile none --batch 1 --prompt 8 --output 8 --speedup 1.1x",
];

fn archplan(command: &str, device: &str) -> (i32, String) {
    let mut archplan = Command::cargo_bin("archplan").unwrap();
    archplan.args(command.split(' ')).args(["--device", device]).stdin(Stdio::null());
    let Output { status, stdout, stderr } = archplan.output().unwrap();
    assert!(stdout.is_empty(), "nothing is printed as a result");
    let message = String::from_utf8(stderr).unwrap();
    assert!(!message.contains("panicked"), "{message}");
    (status.code().unwrap(), message)
}

#[test]
fn a_device_that_does_not_exist_is_refused_with_what_was_meant() {
    for command in COMMANDS {
        let (code, message) = archplan(command, "cdua");
        assert_eq!(code, 2, "{message}");
        assert!(
            message.contains("`cdua` is no device; did you mean `cuda`?; expected cpu, cuda"),
            "{message}"
        );
    }
}

#[test]
fn the_cpu_is_always_there() {
    for command in COMMANDS {
        let (code, message) = archplan(command, "cpu");
        assert_eq!(code, 2, "{message}");
        assert!(message.contains("none"), "the missing file is what is wrong: {message}");
    }
}

/// Before the files are looked for.
#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_gpu_support_says_how_to_get_it() {
    for command in COMMANDS {
        for device in ["cuda", "cuda:1"] {
            let expected =
                "error: this archplan was built without GPU support: cargo build --release --features cuda\n";
            assert_eq!(archplan(command, device), (2, expected.into()), "{command}");
        }
    }
}

/// No machine has 4096 GPUs; one without any lacks the driver first.
#[cfg(feature = "cuda")]
#[test]
fn a_gpu_that_is_not_there_is_refused_before_the_files_are_looked_for() {
    let reasons =
        ["no NVIDIA driver was found", "cuBLAS was not found", "finds no GPU", "there is no cuda:4095"];
    for command in COMMANDS {
        let (code, message) = archplan(command, "cuda:4095");
        assert_eq!(code, 2, "{message}");
        assert!(reasons.iter().any(|reason| message.contains(reason)), "{message}");
    }
}
