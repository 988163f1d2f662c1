//! Small checkpoints for tests, written with the reference writer of the format.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use archplan::model::spec::ModelSpec;
use archplan::model::tensors;
use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// A tensor as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Written>;

/// A pre-norm model of two layers.
pub fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 2,
        "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
        "vocab_size": 40, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16"
    })
}

/// The same with a key changed.
pub fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

/// Random finite numbers of a type, small enough for all three.
pub fn random(rng: &mut ChaCha8Rng, dtype: Dtype, count: usize) -> Vec<u8> {
    let values = (0..count).map(|_| rng.random_range(-2.0f32..2.0));
    match dtype {
        Dtype::F16 => values.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
        Dtype::BF16 => values.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
        _ => values.flat_map(f32::to_le_bytes).collect(),
    }
}

/// Random weights of a configuration; `dtypes` are taken in turn.
pub fn weights(config: &Value, dtypes: &[Dtype], seed: u64) -> Tensors {
    let spec = ModelSpec::from_config_json(&config.to_string(), "test", "test").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let all = tensors::all(&spec).into_iter().zip(dtypes.iter().cycle());
    all.map(|(tensor, dtype)| {
        let shape: Vec<usize> = tensor.shape.iter().map(|dim| *dim as usize).collect();
        let bytes = random(&mut rng, *dtype, shape.iter().product());
        (tensor.name, Written { dtype: *dtype, shape, bytes })
    })
    .collect()
}

/// The bytes of one file.
pub fn file(tensors: &Tensors) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, t)| (name.clone(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    let metadata = [("format".to_string(), "pt".to_string())].into_iter().collect();
    safetensors::serialize(views, Some(metadata)).unwrap()
}

/// Writes a checkpoint into `directory`: one file, or shards taken in turn with an index.
pub fn write(directory: &Path, config: &Value, tensors: &Tensors, shards: usize) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    if shards <= 1 {
        fs::write(directory.join("model.safetensors"), file(tensors)).unwrap();
        return;
    }
    let mut map = BTreeMap::new();
    for shard in 0..shards {
        let part: Tensors =
            tensors.iter().skip(shard).step_by(shards).map(|(n, t)| (n.clone(), t.clone())).collect();
        let name = format!("model-{:05}-of-{shards:05}.safetensors", shard + 1);
        fs::write(directory.join(&name), file(&part)).unwrap();
        map.extend(part.into_keys().map(|tensor| (tensor, name.clone())));
    }
    write_index(directory, json!(map));
}

/// Writes an index.
pub fn write_index(directory: &Path, map: Value) {
    let index = json!({ "metadata": { "total_size": 0 }, "weight_map": map });
    fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
}
