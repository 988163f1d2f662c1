//! Tiny checkpoints of random weights, and their logits.
#![allow(dead_code)]

use std::path::Path;

use archplan::model::spec::ModelSpec;
use archplan::model::tensors::{self, ModelTensor, Role};
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::network::forward::{embed, final_normed, forward_layer, logits};
use archplan::weights::network::load::{ends_from, layer_from};
use archplan::weights::network::probe::{Blind, Probe};
use archplan::weights::network::room::Room;
use archplan::weights::network::settings::Settings;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// A Llama of four layers: hidden 16, FFN 24, 4 query heads on 2 KV heads of 8.
pub fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 8, "vocab_size": 40, "tie_word_embeddings": false, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "torch_dtype": "float32"
    })
}

/// The same as openPangu with post-norms and biases.
pub fn pangu() -> Value {
    with(
        llama(),
        json!({
            "architectures": ["PanguEmbeddedForCausalLM"], "model_type": "PanguEmbedded", "bias": true,
            "sandwich_norm": true
        }),
    )
}

/// The same as Qwen3, with QK-norms and tied embeddings.
pub fn qwen3() -> Value {
    with(
        llama(),
        json!({
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "tie_word_embeddings": true
        }),
    )
}

/// `config` with some keys changed.
pub fn with(mut config: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// Writes a checkpoint of random weights; `edit` may change each tensor.
pub fn write(directory: &Path, config: &Value, seed: u64, mut edit: impl FnMut(&ModelTensor, &mut Vec<f32>)) {
    std::fs::create_dir_all(directory).unwrap();
    let text = serde_json::to_string_pretty(config).unwrap();
    std::fs::write(directory.join("config.json"), &text).unwrap();
    let spec = ModelSpec::from_config_json(&text, "config.json", "tiny").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut stored: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for tensor in tensors::all(&spec) {
        let norm = tensor.name.contains("norm");
        let count = tensor.shape.iter().product::<u64>() as usize;
        let spread = if tensor.role == Role::Embedding { 1.0 } else { 0.3 };
        let mut values: Vec<f32> = (0..count)
            .map(|_| {
                let x = spread * 2.0 * (rng.random::<f32>() - 0.5);
                if norm { 1.0 + x } else { x }
            })
            .collect();
        edit(&tensor, &mut values);
        let shape = tensor.shape.iter().map(|x| *x as usize).collect();
        stored.push((tensor.name, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect()));
    }
    let views = stored.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(directory.join("model.safetensors"), bytes).unwrap();
}

/// Some sequences of tokens.
pub fn sequences(vocabulary: u32, count: usize, length: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| (0..length).map(|_| rng.random_range(0..vocabulary)).collect()).collect()
}

/// Logits of a checkpoint, `[tokens, vocabulary]`, and what `probe` sees.
pub fn run(directory: &Path, sequences: &[Vec<u32>], probe: &mut dyn Probe) -> Vec<f32> {
    let checkpoint = Checkpoint::open(directory).unwrap();
    let settings = Settings::of(checkpoint.spec()).unwrap();
    let ends = ends_from(|role| checkpoint.get(role, None), &settings).unwrap();
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let mut stream = Vec::new();
    embed(&ends, &settings, &sequences.concat(), &mut stream).unwrap();
    let mut room = Room::default();
    for index in 0..checkpoint.spec().architecture.depth() {
        let layer = layer_from(|role| checkpoint.get(role, Some(index)), &settings, index).unwrap();
        forward_layer(&layer, &settings, index as usize, &lengths, &mut stream, &mut room, probe).unwrap();
    }
    let (mut normed, mut out) = (Vec::new(), Vec::new());
    final_normed(&ends, &settings, &stream, &mut normed).unwrap();
    logits(&ends, &settings, &normed, &mut out).unwrap();
    out
}

/// Logits of a checkpoint.
pub fn logits_of(directory: &Path, sequences: &[Vec<u32>]) -> Vec<f32> {
    run(directory, sequences, &mut Blind)
}

/// Largest difference between two sets of logits.
pub fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
