//! A checkpoint read and written again, tensor by tensor, against `cp` of the same files in the same run.
//!
//! `ARCHPLAN_BENCH_GIB` (default 1) sizes the generated checkpoint, `ARCHPLAN_BENCH_DIR` (default: the system's folder for
//! temporary files) says where; three times that size must be free. Prints seconds, their ratio and the peak resident
//! memory (Linux). Each way is taken `ARCHPLAN_BENCH_ROUNDS` times (default 3), in turn; medians count. `cp` does not wait
//! for the disk, the writer does, so both are also timed with a `sync` of the copy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use archplan::model::spec::ModelSpec;
use archplan::model::tensors;
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::checkpoint::layout::TensorInfo;
use archplan::weights::checkpoint::tensor::Tensor;
use archplan::weights::checkpoint::writer::{CheckpointWriter, SHARD_LIMIT};
use safetensors::Dtype;
use serde_json::json;

fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A decoder of the widths of an 8B model, with as many layers as fill `gib`.
fn config(gib: f64) -> (serde_json::Value, ModelSpec) {
    let describe = |layers: u64| {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
            "num_hidden_layers": layers, "intermediate_size": 14336, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 16384, "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "torch_dtype": "bfloat16"
        });
        let spec = ModelSpec::from_config_json(&config.to_string(), "bench", "bench").expect("a config");
        (config, spec)
    };
    let bytes = |layers| {
        tensors::all(&describe(layers).1).iter().map(|t| 2 * t.shape.iter().product::<u64>()).sum::<u64>()
    };
    let layers = (1..200).find(|layers| bytes(*layers) as f64 >= gib * 1024f64.powi(3)).unwrap_or(200);
    describe(layers)
}

fn generate(directory: &Path, gib: f64) {
    let (config, spec) = config(gib);
    let all = tensors::all(&spec);
    let shape = |dims: &[u64]| dims.iter().map(|dim| *dim as usize).collect::<Vec<_>>();
    let plan =
        all.iter().map(|t| TensorInfo { name: t.name.clone(), dtype: Dtype::BF16, shape: shape(&t.shape) });
    let mut writer = CheckpointWriter::create(directory, plan.collect(), SHARD_LIMIT).expect("a writer");
    let mut state = 1u32;
    for tensor in all {
        let shape = shape(&tensor.shape);
        let mut bytes = vec![0u8; 2 * shape.iter().product::<usize>()];
        for word in bytes.as_chunks_mut::<4>().0 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Exponents of both halves stay small: finite numbers.
            *word = (state & 0xbf7f_bf7f).to_le_bytes();
        }
        let tensor = Tensor { name: tensor.name, dtype: Dtype::BF16, shape, data: bytes.into() };
        writer.write(&tensor).expect("written");
    }
    writer.add_file("config.json", config.to_string().as_bytes()).expect("written");
    writer.finish().expect("finished");
}

/// What a prune that changes nothing does.
fn rewrite(from: &Path, to: &Path) {
    let parent = Checkpoint::open(from).expect("a checkpoint");
    let names = parent.stored_order();
    let plan = names.iter().map(|name| TensorInfo::of(&parent.tensor(name).expect("a tensor"))).collect();
    let mut writer = CheckpointWriter::create(to, plan, SHARD_LIMIT).expect("a writer");
    for name in names {
        let tensor = parent.tensor(name).expect("a tensor");
        writer.copy(&parent, &tensor).expect("written");
        parent.release(&tensor);
    }
    writer.add_file("config.json", parent.config()).expect("written");
    writer.finish().expect("finished");
}

fn cp(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").args([from, to]).status().expect("cp").success());
}

fn sync(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        fs::File::open(entry.path()).and_then(|file| file.sync_all()).expect("synced");
    }
}

/// Seconds of `run`, and of it with a sync of what it made.
fn timed(run: impl FnOnce(), made: &Path) -> (f64, f64) {
    let begin = Instant::now();
    run();
    let alone = begin.elapsed().as_secs_f64();
    sync(made);
    let synced = begin.elapsed().as_secs_f64();
    fs::remove_dir_all(made).expect("removed");
    (alone, synced)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn peak_resident() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().to_string())
}

fn main() {
    let (gib, rounds) = (setting("ARCHPLAN_BENCH_GIB", 1.0), setting("ARCHPLAN_BENCH_ROUNDS", 3.0) as usize);
    let root = std::env::var_os("ARCHPLAN_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let root = root.join(format!("archplan-bench-{}", std::process::id()));
    let (parent, copy) = (root.join("parent"), root.join("copy"));
    generate(&parent, gib);
    let bytes = Checkpoint::open(&parent).expect("a checkpoint").total_bytes() as f64;
    // Writing 5 sets the peak back to what is resident now.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for round in 0..rounds.max(1) {
        theirs.push(timed(|| cp(&parent, &copy), &copy));
        ours.push(timed(|| rewrite(&parent, &copy), &copy));
        if let (Some(cp), Some(we)) = (theirs.last(), ours.last()) {
            println!(
                "round {round}: cp {:.2} s, synced {:.2} s; rewrite {:.2} s, synced {:.2} s",
                cp.0, cp.1, we.0, we.1
            );
        }
    }
    let of = |times: &[(f64, f64)], synced: bool| {
        median(times.iter().map(|t| if synced { t.1 } else { t.0 }).collect())
    };
    let (cp, cp_synced) = (of(&theirs, false), of(&theirs, true));
    let (we, we_synced) = (of(&ours, false), of(&ours, true));
    println!("checkpoint: {:.2} GiB", bytes / 1024f64.powi(3));
    println!("cp: {cp:.2} s, synced {cp_synced:.2} s ({:.2} GB/s)", bytes / 1e9 / cp_synced);
    println!("rewrite: {we:.2} s, synced {we_synced:.2} s ({:.2} GB/s)", bytes / 1e9 / we_synced);
    println!("rewrite / cp: {:.2}; both on disk: {:.2}", we / cp, we_synced / cp_synced);
    println!("peak resident memory: {}", peak_resident().unwrap_or_else(|| "not known".into()));
    fs::remove_dir_all(&root).expect("removed");
}
