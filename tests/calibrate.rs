//! `archplan calibrate` end to end: interrupted, in parts, on bad input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use archplan::model::spec::ModelSpec;
use archplan::model::tensors;
use archplan::weights::checkpoint::tensor::Tensor;
use archplan::weights::importance::fields::{Numbers, fields};
use archplan::weights::importance::file::Importance;
use archplan::weights::importance::statistics::Sums;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A model directory with random weights, and samples of token ids.
fn scene(samples: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "architectures": ["PanguEmbeddedForCausalLM"], "hidden_size": 48, "num_hidden_layers": 3,
        "intermediate_size": 80, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
        "vocab_size": 60, "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "tie_word_embeddings": false,
        "sandwich_norm": true, "bias": true, "rope_theta": 1e4, "hidden_act": "silu", "dtype": "float32",
    });
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    let spec = ModelSpec::from_config_json(&config.to_string(), "config.json", "tiny").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let made: Vec<Tensor> = tensors::all(&spec)
        .iter()
        .map(|tensor| {
            let shape: Vec<usize> = tensor.shape.iter().map(|n| *n as usize).collect();
            let values: Vec<f32> =
                (0..shape.iter().product::<usize>()).map(|_| rng.random_range(-0.4..0.6)).collect();
            Tensor::from_f32(&tensor.name, Dtype::F32, &shape, &values).unwrap()
        })
        .collect();
    let views = made.iter().map(|t| {
        let view = safetensors::tensor::TensorView::new(t.dtype, t.shape.clone(), &t.data).unwrap();
        (t.name.as_str(), view)
    });
    fs::write(model.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let lines: Vec<String> = (0..samples)
        .map(|_| {
            let tokens: Vec<u32> = (0..rng.random_range(30..90)).map(|_| rng.random_range(0..60)).collect();
            json!({"tokens": tokens}).to_string()
        })
        .collect();
    fs::write(folder.path().join("text.jsonl"), lines.join("\n")).unwrap();
    folder
}

fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archplan"));
    command.current_dir(folder).args(arguments.split_whitespace());
    command
}

fn run(folder: &Path, arguments: &str) -> Output {
    command(folder, arguments).output().unwrap()
}

fn succeed(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

const RUN: &str = "calibrate --model model --data text.jsonl --seq-len 80";

fn assert_close(found: &Sums, expected: &Sums, tolerance: f64) {
    assert_eq!((found.samples, found.tokens), (expected.samples, expected.tokens));
    for ((name, found), (_, expected)) in fields(found).into_iter().zip(fields(expected)) {
        let wide = |numbers: Numbers| -> Vec<f64> {
            match numbers {
                Numbers::F64(values) => values.to_vec(),
                Numbers::F32(values) => values.iter().map(|x| f64::from(*x)).collect(),
            }
        };
        let (found, expected) = (wide(found), wide(expected));
        let scale = expected.iter().fold(0.0f64, |most, x| most.max(x.abs())).max(1e-30);
        for (element, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert!((a - b).abs() <= tolerance * scale, "{name}[{element}]: {a} {b}");
        }
    }
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_bytes() {
    let folder = scene(400);
    let at = |name: &str| folder.path().join(name);
    let arguments = format!("{RUN} --samples 400 --gram --batch-tokens 100 --threads 1 -q");
    succeed(folder.path(), &format!("{arguments} --out whole.safetensors"));
    let mut kills = 0;
    for _ in 0..3 {
        let mut child = command(folder.path(), &format!("{arguments} --out cut.safetensors"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let before = fs::metadata(at("cut.safetensors.partial")).and_then(|m| m.modified()).ok();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none() {
            let now = fs::metadata(at("cut.safetensors.partial")).and_then(|m| m.modified()).ok();
            if now.is_some() && now != before {
                kills += 1;
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills > 0, "the run was over before it could be killed");
    let partial = at("cut.safetensors.partial");
    if partial.exists() {
        let done = Importance::load_unfinished(&partial).unwrap().sums.samples;
        assert!(done > 0 && done < 400);
        assert!(Importance::load(&partial).is_err());
        let other = refused(folder.path(), &arguments.replace("--gram", "--out cut.safetensors"));
        assert!(other.contains("left by an interrupted run whose Gram matrices differs"), "{other}");
        succeed(folder.path(), &format!("{arguments} --out cut.safetensors"));
    }
    assert!(!partial.exists());
    assert_eq!(fs::read(at("whole.safetensors")).unwrap(), fs::read(at("cut.safetensors")).unwrap());
}

#[test]
fn parts_add_up_to_one_run_whatever_batches_and_threads() {
    let folder = scene(11);
    let at = |name: &str| folder.path().join(name);
    let run = format!("{RUN} --samples 11 --gram -q");
    succeed(folder.path(), &format!("{run} --threads 2 --out whole.safetensors"));
    succeed(folder.path(), &format!("{run} --threads 1 --out one.safetensors"));
    assert_eq!(fs::read(at("whole.safetensors")).unwrap(), fs::read(at("one.safetensors")).unwrap());
    for part in 0..3 {
        let batch = 100 * (part + 1);
        succeed(
            folder.path(),
            &format!("{run} --shard {part}/3 --batch-tokens {batch} --out p{part}.safetensors"),
        );
    }
    let missing = refused(folder.path(), "calibrate merge all.safetensors p0.safetensors p2.safetensors");
    assert!(missing.contains("parts [1] of 3 are missing") && !at("all.safetensors").exists());
    succeed(folder.path(), "calibrate merge all.safetensors p2.safetensors p0.safetensors p1.safetensors -q");
    let (all, whole) = (Importance::load(&at("all.safetensors")), Importance::load(&at("whole.safetensors")));
    assert_close(&all.unwrap().sums, &whole.unwrap().sums, 1e-6);
    let twice = refused(folder.path(), "calibrate merge x.safetensors all.safetensors p1.safetensors");
    assert!(twice.contains("both hold part 1"), "{twice}");

    let mut lines = fs::read_to_string(at("text.jsonl")).unwrap();
    lines.push('\n');
    fs::write(at("text.jsonl"), lines).unwrap();
    succeed(folder.path(), &format!("{run} --shard 1/3 --out other.safetensors"));
    let other = refused(folder.path(), "calibrate merge x.safetensors p0.safetensors other.safetensors");
    assert!(other.contains("data (sha256) differs"), "{other}");
}

/// The batch script's own command line, as many processes as the array has tasks.
#[test]
fn the_batch_script_runs_as_an_array() {
    let folder = scene(7);
    let binary = Path::new(env!("CARGO_BIN_EXE_archplan")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/calibrate.sbatch");
    let task = |index: usize| {
        Command::new("bash")
            .arg(script)
            .current_dir(folder.path())
            .envs([("MODEL", "model"), ("DATA", "text.jsonl"), ("OUT", "parts"), ("PARTS", "3")])
            .envs([("SAMPLES", "7"), ("SEQ_LEN", "80"), ("SLURM_CPUS_PER_TASK", "1")])
            .envs([("PATH", path.as_str()), ("SLURM_ARRAY_TASK_ID", &index.to_string())])
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let tasks: Vec<_> = (0..3).map(task).collect();
    for mut task in tasks {
        assert!(task.wait().unwrap().success());
    }
    let parts = (0..3).map(|part| format!("parts/part-{part}.safetensors")).collect::<Vec<_>>().join(" ");
    succeed(folder.path(), &format!("calibrate merge merged.safetensors {parts} -q"));
    succeed(folder.path(), &format!("{RUN} --samples 7 --out whole.safetensors -q"));
    let read = |name: &str| Importance::load(&folder.path().join(name)).unwrap().sums;
    assert_close(&read("merged.safetensors"), &read("whole.safetensors"), 1e-6);
}

/// Words in backticks in the description of the formats.
fn documented(key: &str) -> bool {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/formats.md")).unwrap();
    text.contains(&format!("`{key}`")) || text.contains(&format!(".{key}`"))
}

#[test]
fn the_summary_is_printed_and_documented() {
    let folder = scene(5);
    let table = succeed(folder.path(), &format!("{RUN} --samples 5 --out s.safetensors"));
    assert!(
        table.contains("block influence") && table.contains("FFN post-norm cv") && table.contains("best 1")
    );
    let shown: Value =
        serde_json::from_str(&succeed(folder.path(), "calibrate show s.safetensors --json")).unwrap();
    assert_eq!((&shown["samples"], &shown["grams"]), (&json!(5), &json!(false)));
    assert_eq!(shown["layers"].as_array().unwrap().len(), 3);
    let objects = [&shown, &shown["layers"][0], &shown["blocks"][0]];
    for key in objects.iter().flat_map(|object| object.as_object().unwrap().keys()) {
        assert!(documented(key), "docs/formats.md lacks `{key}`");
    }
    let statistics = Importance::load(&folder.path().join("s.safetensors")).unwrap();
    for (name, _) in fields(&statistics.sums) {
        let last = name.rsplit('.').next().unwrap();
        assert!(documented(last), "docs/formats.md lacks `{last}`");
    }
    let header = serde_json::to_value(&statistics.header).unwrap();
    for key in header.as_object().unwrap().keys().chain(header["model"].as_object().unwrap().keys()) {
        assert!(documented(key), "docs/formats.md lacks `{key}`");
    }
}

#[test]
fn bad_input_gets_one_error_and_writes_nothing() {
    let folder = scene(4);
    let out = |name: &str| -> PathBuf { folder.path().join(name) };
    let tail = "--out s.safetensors";
    for (arguments, expected) in [
        (format!("{RUN} --samples 5 {tail}"), "shorter than needed"),
        (format!("{RUN} --samples 2 --shard 0/3 {tail}"), "some part has none"),
        (format!("{RUN} --samples 2 --shard 2/2 {tail}"), "parts count from 0"),
        (format!("{RUN} --samples 2 --skip-first 80 {tail}"), "no token is counted"),
        (format!("{RUN} --samples 2 --skip-first 79 {tail}"), "lower --skip-first"),
        (format!("calibrate --model nowhere --data text.jsonl {tail}"), "nowhere"),
        (format!("calibrate --model model --data absent.jsonl {tail}"), "absent.jsonl"),
        ("calibrate show text.jsonl".to_string(), "not a safetensors file"),
        ("calibrate show model/model.safetensors".to_string(), "no `archplan_statistics`"),
        ("calibrate merge all.safetensors absent.safetensors".to_string(), "absent.safetensors"),
    ] {
        let error = refused(folder.path(), &arguments);
        assert!(error.contains(expected), "{arguments}: {error}");
        assert!(!out("s.safetensors").exists() && !out("s.safetensors.partial").exists());
    }
}
