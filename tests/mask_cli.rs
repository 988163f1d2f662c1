//! `archplan mask` and `prune --mask` on the trained fixture.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

fn fixture(name: &str) -> String {
    format!("{}/tests/data/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn command(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archplan"));
    command.args(arguments.split_whitespace());
    command
}

fn archplan(arguments: &str) -> Output {
    command(arguments).output().unwrap()
}

fn done(arguments: &str) -> String {
    let output = archplan(arguments);
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The error of a command that must be refused with exit code 2.
fn refused(arguments: &str) -> String {
    let output = archplan(arguments);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments}: {told}");
    assert!(told.contains("error: ") && !told.contains("panicked"), "{told}");
    told
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn read(path: &Path) -> Value {
    json(&fs::read_to_string(path).unwrap())
}

/// Statistics, and a target of half of the FFN and three of four KV heads.
fn begun(folder: &Path) -> String {
    let (stats, target) = (folder.join("stats.safetensors"), folder.join("target.json"));
    let (model, data) = (fixture("plain"), fixture("calibration-1.jsonl"));
    done(&format!(
        "calibrate -q --gram --model {model} --data {data} --samples 16 --seq-len 64 --out {}",
        stats.display()
    ));
    let layer = json!({"ffn": 160, "q_heads": 6, "kv_heads": 3});
    fs::write(&target, json!({"layers": vec![layer; 8]}).to_string()).unwrap();
    format!("--model {model} --importance {} --target {}", stats.display(), target.display())
}

fn search(bench: &str) -> String {
    format!("mask {bench} --data {} --samples 32 --seq-len 32 --batch 4", fixture("calibration-2.jsonl"))
}

#[test]
fn what_a_mask_keeps_is_what_prune_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let bench = begun(folder.path());
    let (out, child) = (folder.path().join("masks"), folder.path().join("child"));
    let found = json(&done(&format!("{} --steps 20 --json --out {}", search(&bench), out.display())));
    let layers = found["target"]["layers"].as_array().unwrap();
    let sum = |axis: &str| layers.iter().map(|layer| layer[axis].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("ffn"), sum("kv_heads"), sum("q_heads")), (8 * 160, 8 * 3, 8 * 6));
    assert_eq!(found["target"], read(&out.join("target.json")));
    // 20 steps of two masks on four samples of 32 tokens.
    assert_eq!((&found["steps"], &found["tokens_run"]), (&json!(20), &json!(20 * 2 * 4 * 32)));
    assert_eq!(found["judged_samples"], 4);
    let parts = ["begun_loss_increase_nats", "found_loss_increase_nats", "found_less_begun_nats"];
    let [begun, after, gained] = parts.map(|key| found[key]["mean"].as_f64().unwrap());
    assert!((after - begun - gained).abs() < 1e-9);

    done(
        &format!("prune -q {bench} --target {0} --mask {0} --out {1}", out.display(), child.display())
            .replacen(&format!("--target {} ", folder.path().join("target.json").display()), "", 1),
    );
    let (mask, record) = (read(&out.join("mask.json")), read(&child.join("archplan.json")));
    assert_eq!(record["mask_sha256"].as_str().unwrap().len(), 64);
    for (layer, kept) in record["kept"]["layers"].as_array().unwrap().iter().enumerate() {
        let width = layers[layer]["ffn"].as_u64().unwrap() as usize;
        let neurons: Vec<u64> = kept["ffn"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        assert_eq!(neurons.len(), width);
        // Whole units: neurons that stand together in the order of importance.
        let unit = mask["layout"]["unit"].as_u64().unwrap() as usize;
        let order: Vec<u64> =
            mask["layout"]["order"][layer].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        let whole =
            order.chunks(unit).filter(|unit| unit.iter().all(|neuron| neurons.contains(neuron))).count();
        assert_eq!(whole * unit, width, "layer {layer}");
    }
}

#[test]
fn a_killed_search_goes_on_to_the_same_mask() {
    let folder = tempfile::tempdir().unwrap();
    let bench = begun(folder.path());
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let arguments =
        |out: &Path| format!("{} -q --steps 400 --threads 2 --out {}", search(&bench), out.display());
    done(&arguments(&whole));
    let mut child = command(&arguments(&killed)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !killed.join("mask.json").exists() && child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(120), "nothing was saved");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let saved = read(&killed.join("mask.json"))["walk"]["step"].as_u64().unwrap();
    if saved < 400 {
        let told = refused(&format!(
            "prune -q {bench} --mask {} --out {}",
            killed.display(),
            folder.path().join("c").display()
        ));
        assert!(told.contains("of 400 steps were done: run the same `archplan mask` again"), "{told}");
    }
    // Threads change nothing either.
    done(&arguments(&killed).replace("--threads 2", "--threads 1"));
    for name in ["mask.json", "target.json"] {
        assert_eq!(
            fs::read(whole.join(name)).unwrap(),
            fs::read(killed.join(name)).unwrap(),
            "{name} after {saved} steps"
        );
    }
    let told = refused(&format!("{} --seed 7", arguments(&killed)));
    assert!(
        told.contains("the walk differs")
            && told.contains("seed 0 there")
            && told.contains("remove the file"),
        "{told}"
    );
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bench = begun(folder.path());
    let out = folder.path().join("masks");
    let search = |more: &str| format!("{} --steps 2 --out {} {more}", search(&bench), out.display());
    let target = |layers: Value| {
        let path = folder.path().join("other.json");
        fs::write(&path, layers.to_string()).unwrap();
        search("").replace("target.json", "other.json")
    };
    let layer = json!({"ffn": 320, "q_heads": 8, "kv_heads": 4});
    let told = refused(&target(json!({"hidden_size": 96, "layers": vec![layer.clone(); 8]})));
    assert!(told.contains("hidden size 96, the parent 128"), "{told}");
    let told = refused(&target(json!({"layers": vec![layer; 6], "parents": [0, 1, 2, 3, 4, 5]})));
    assert!(told.contains("layers 6, the parent 8"), "{told}");
    let told = refused(&search("--ffn-unit 48"));
    assert!(told.contains("is 320: expected a multiple of 48 (--ffn-multiple)"), "{told}");
    let told = refused(&search("").replace("--samples 32", "--samples 1"));
    assert!(told.contains("samples of two tokens or more: expected 8 at least"), "{told}");
    assert!(!out.join("mask.json").exists());
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("mask.json"), "{").unwrap();
    let told = refused(&search(""));
    assert!(told.contains("mask.json") && told.contains("expected mask.json of `archplan mask`"), "{told}");
}
