//! The decoder's f32 forward pass at the shape of SmolLM-135M, against torch on the same cores where there is one.
//!
//! `cargo bench --bench network`; `ARCHPLAN_PYTHON` names a Python with torch and transformers, `ARCHPLAN_THREADS` the
//! threads of both (2). Prints seconds by the clock and of CPU time, the least of the repeats, and the ratios: on a machine
//! that others use only CPU time says something, and only with one thread is it free of threads that wait for others.

use std::process::Command;
use std::time::Instant;

use archplan::compute::attention::Heads;
use archplan::compute::causal::{Packed, Pattern, causal};
use archplan::compute::linear::Shape;
use archplan::compute::product::product;
use archplan::compute::threads;
use archplan::model::spec::ModelSpec;
use archplan::weights::network::forward::{embed, final_normed, forward_layer, logits};
use archplan::weights::network::layer::{Attention, Ends, Ffn, Layer, Linear};
use archplan::weights::network::probe::Blind;
use archplan::weights::network::room::Room;
use archplan::weights::network::settings::Settings;
use archplan::weights::network::source::Resident;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 576, "num_hidden_layers": 30,
    "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "rope_theta": 10000.0}"#;
/// Rows of logits held at a time.
const ROWS: usize = 256;

fn random(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-0.04..0.04)).collect()
}

fn linear(rng: &mut ChaCha8Rng, outputs: usize, inputs: usize) -> Linear {
    Linear { outputs, inputs, weight: random(rng, outputs * inputs), bias: None }
}

fn model() -> Resident {
    let spec = ModelSpec::from_config_json(CONFIG, "bench", "bench").expect("a config");
    let settings = Settings::of(&spec).expect("settings");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let layer = |rng: &mut ChaCha8Rng| Layer {
        attention: Some(Attention {
            norm: vec![1.0; 576],
            q: linear(rng, 576, 576),
            k: linear(rng, 192, 576),
            v: linear(rng, 192, 576),
            q_norm: None,
            k_norm: None,
            o: linear(rng, 576, 576),
            post_norm: None,
        }),
        ffn: Some(Ffn {
            norm: vec![1.0; 576],
            gate: linear(rng, 1536, 576),
            up: linear(rng, 1536, 576),
            down: linear(rng, 576, 1536),
            post_norm: None,
        }),
    };
    let layers = (0..30).map(|_| layer(&mut rng)).collect();
    let ends = Ends { embedding: random(&mut rng, 49152 * 576), final_norm: vec![1.0; 576], head: None };
    Resident { settings, layers, ends }
}

/// Least seconds of some repeats, by the clock and of CPU time of all threads.
#[derive(Clone, Copy)]
struct Seconds {
    clock: f64,
    cpu: f64,
}

impl Seconds {
    fn least(self, other: Self) -> Self {
        Self { clock: self.clock.min(other.clock), cpu: self.cpu.min(other.cpu) }
    }
}

/// CPU time of all threads; 0 where the system does not say.
fn cpu() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let time = |path: std::path::PathBuf| -> Option<f64> {
        std::fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    tasks.flatten().filter_map(|task| time(task.path())).sum::<f64>() / 1e9
}

/// Least times of `repeats` after one to warm up.
fn least(repeats: usize, mut work: impl FnMut()) -> Seconds {
    work();
    let time = |_| {
        let (start, used) = (Instant::now(), cpu());
        work();
        Seconds { clock: start.elapsed().as_secs_f64(), cpu: cpu() - used }
    };
    let none = Seconds { clock: f64::INFINITY, cpu: f64::INFINITY };
    (0..repeats).map(time).fold(none, Seconds::least)
}

#[derive(Default)]
struct Buffers {
    stream: Vec<f32>,
    normed: Vec<f32>,
    logits: Vec<f32>,
    room: Room,
}

fn pass(model: &Resident, lengths: &[usize], buffers: &mut Buffers) {
    let tokens: Vec<u32> = (0..lengths.iter().sum::<usize>()).map(|i| (i * 7919 % 49152) as u32).collect();
    let Buffers { stream, normed, logits: out, room } = buffers;
    embed(&model.ends, &model.settings, &tokens, stream).expect("tokens");
    for (index, layer) in model.layers.iter().enumerate() {
        forward_layer(layer, &model.settings, index, lengths, stream, room, &mut Blind).expect("a layer");
    }
    final_normed(&model.ends, &model.settings, stream, normed).expect("a stream");
    for rows in normed.chunks(ROWS * 576) {
        logits(&model.ends, &model.settings, rows, out).expect("rows");
    }
}

/// What the parts can do: products at the model's sizes, attention.
fn parts() {
    let tokens = 2048;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for (n, k) in [(576, 576), (192, 576), (1536, 576), (576, 1536), (49152, 576)] {
        let m = if n > 10_000 { ROWS } else { tokens };
        let (x, w, mut out) = (random(&mut rng, m * k), random(&mut rng, n * k), vec![0f32; m * n]);
        let shape = Shape { m, n, k };
        let best = least(5, || product(&x, &w, None, &mut out, shape).expect("sizes")).cpu;
        let flops = (2 * m * n * k) as f64;
        println!(
            "product {m} x {k} by {n}: {:7.2} ms of CPU time, {:6.1} GFLOP/s a core",
            best * 1e3,
            flops / best / 1e9
        );
    }
    for length in [256, 512, 2048] {
        let heads = Heads { q_heads: 9, kv_heads: 3, head_dim: 64 };
        let pattern = Pattern { heads, scale: 0.125, window: None, cap: None };
        let (q, k) = (random(&mut rng, tokens * 576), random(&mut rng, tokens * 192));
        let (mut packed, mut out) = (Packed::default(), vec![0f32; tokens * 576]);
        let lengths = vec![length; tokens / length];
        let work = || causal([&q, &k, &k], &lengths, pattern, &mut packed, &mut out).expect("sizes");
        let best = least(5, work).cpu;
        let flops = (2 * tokens * length * 576) as f64;
        println!(
            "attention {} x {length}: {:7.2} ms of CPU time, {:6.1} GFLOP/s a core",
            tokens / length,
            best * 1e3,
            flops / best / 1e9
        );
    }
}

/// Times of torch's repeats, as its program prints them.
fn torch(python: &str, threads: usize, sequences: usize, length: usize) -> Option<Seconds> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/network_torch.py");
    let arguments = [threads, sequences, length].map(|n| n.to_string());
    // Threads that wait shall not burn the CPU time that is measured.
    let waiting = [("OMP_WAIT_POLICY", "PASSIVE"), ("KMP_BLOCKTIME", "0")];
    let run = Command::new(python).arg(script).args(arguments).envs(waiting).output().ok()?;
    if !run.status.success() {
        println!("torch: {}", String::from_utf8_lossy(&run.stderr));
        return None;
    }
    let text = String::from_utf8(run.stdout).ok()?;
    let pair = |line: &str| {
        let (clock, cpu) = line.split_once(' ')?;
        Some(Seconds { clock: clock.parse().ok()?, cpu: cpu.parse().ok()? })
    };
    text.lines().filter_map(pair).reduce(Seconds::least)
}

fn main() {
    let threads = std::env::var("ARCHPLAN_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let python = std::env::var("ARCHPLAN_PYTHON").ok();
    let pool = threads::pinned(threads).expect("threads");
    pool.install(parts);
    let model = model();
    for (sequences, length) in [(4, 512), (1, 2048)] {
        let lengths = vec![length; sequences];
        let mut buffers = Buffers::default();
        let mut ours = || pool.install(|| least(4, || pass(&model, &lengths, &mut buffers)));
        let before = ours();
        let of_torch = python.as_ref().and_then(|python| torch(python, threads, sequences, length));
        let found = before.least(ours());
        println!(
            "{sequences} x {length}, {threads} threads: {:.3} s, {:.3} s of CPU time",
            found.clock, found.cpu
        );
        match of_torch {
            Some(torch) => println!(
                "  torch: {:.3} s, {:.3} s of CPU time; ours / torch {:.2}, {:.2} of CPU time",
                torch.clock,
                torch.cpu,
                found.clock / torch.clock,
                found.cpu / torch.cpu
            ),
            None => {
                println!("  torch not measured: set ARCHPLAN_PYTHON to a Python with torch and transformers")
            }
        }
    }
}
