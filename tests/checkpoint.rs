//! Reading checkpoints: sound ones as they are, every kind of bad file with an error of its own.

mod checkpoint_files;
#[path = "checkpoint_files/properties.rs"]
mod properties;
#[path = "checkpoint_files/verifying.rs"]
mod verifying;
#[path = "checkpoint_files/writing.rs"]
mod writing;

use std::fs;
use std::path::Path;

use archplan::model::tensors::Role;
use archplan::weights::checkpoint::error::CheckpointError;
use archplan::weights::checkpoint::header::HeaderError;
use archplan::weights::checkpoint::tensor::{Tensor, TensorError};
use archplan::weights::checkpoint::{Checkpoint, StrayKind};
use checkpoint_files::{Tensors, Written, file, llama, weights, with, write, write_index};
use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::json;
use tempfile::{TempDir, tempdir};

const MIXED: &[Dtype] = &[Dtype::BF16, Dtype::F32, Dtype::F16];
const SHARD: &str = "model-00001-of-00003.safetensors";

/// A sound checkpoint of three shards in which `change` broke something.
fn broken(change: impl FnOnce(&Path, &mut Tensors)) -> (TempDir, CheckpointError) {
    let directory = tempdir().unwrap();
    let mut tensors = weights(&llama(), MIXED, 1);
    write(directory.path(), &llama(), &tensors, 3);
    change(directory.path(), &mut tensors);
    let error = Checkpoint::open(directory.path()).unwrap_err();
    assert!(!error.to_string().is_empty());
    (directory, error)
}

/// The same in one file, written after the change.
fn broken_single(change: impl FnOnce(&mut Tensors)) -> CheckpointError {
    let directory = tempdir().unwrap();
    let mut tensors = weights(&llama(), MIXED, 1);
    change(&mut tensors);
    write(directory.path(), &llama(), &tensors, 1);
    Checkpoint::open(directory.path()).unwrap_err()
}

/// The same with the header's text changed.
fn broken_header(change: impl FnOnce(String) -> String) -> HeaderError {
    let bytes = file(&weights(&llama(), MIXED, 1));
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = change(String::from_utf8(bytes[8..8 + length].to_vec()).unwrap());
    let mut changed = (text.len() as u64).to_le_bytes().to_vec();
    changed.extend(text.as_bytes());
    changed.extend(&bytes[8 + length..]);
    header_error(&changed)
}

fn header_error(bytes: &[u8]) -> HeaderError {
    let directory = tempdir().unwrap();
    write(directory.path(), &llama(), &Tensors::new(), 1);
    fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
    match Checkpoint::open(directory.path()).unwrap_err() {
        CheckpointError::Header { error, file } => {
            assert!(file.ends_with("model.safetensors"));
            *error
        }
        other => panic!("{other}"),
    }
}

/// A header of tensors `(name, dtype, shape, begin, end)` and so many bytes of data.
fn raw(tensors: &[(&str, &str, &[usize], usize, usize)], data: usize) -> Vec<u8> {
    let entries = tensors.iter().map(|(name, dtype, shape, begin, end)| {
        format!("\"{name}\":{}", json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}))
    });
    let text = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.extend(vec![0; data]);
    bytes
}

#[test]
fn what_was_written_is_read() {
    let (directory, single) = (tempdir().unwrap(), tempdir().unwrap());
    let mut tensors = weights(&llama(), MIXED, 7);
    let frequencies = Written { dtype: Dtype::F32, shape: vec![2], bytes: vec![0; 8] };
    tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), frequencies);
    write(directory.path(), &llama(), &tensors, 3);
    write(single.path(), &llama(), &tensors, 1);
    for path in [directory.path(), single.path()] {
        let checkpoint = Checkpoint::open(path).unwrap();
        assert!(checkpoint.names().eq(tensors.keys().map(String::as_str)));
        for (name, written) in &tensors {
            let tensor = checkpoint.tensor(name).unwrap();
            assert_eq!((tensor.dtype, &tensor.shape), (written.dtype, &written.shape));
            assert_eq!(&*tensor.data, &written.bytes);
            checkpoint.release(&tensor);
            assert_eq!(&*tensor.data, &written.bytes, "released memory comes back");
        }
        let bytes: usize = tensors.values().map(|t| t.bytes.len()).sum();
        assert_eq!(checkpoint.total_bytes(), bytes as u64);
        assert_eq!(checkpoint.spec().architecture.depth(), 2);
        assert_eq!(checkpoint.strays().len(), 1);
        assert_eq!(checkpoint.strays()[0].kind, StrayKind::RotaryCache);
        let down = checkpoint.get(Role::Down, Some(1)).unwrap().unwrap();
        assert_eq!((down.name.as_str(), down.shape), ("model.layers.1.mlp.down_proj.weight", vec![16, 24]));
        assert!(checkpoint.get(Role::Down, Some(2)).unwrap().is_none());
        assert!(checkpoint.get(Role::QBias, Some(0)).unwrap().is_none());
        let mut order = checkpoint.stored_order();
        order.sort_unstable();
        assert!(order.into_iter().eq(checkpoint.names()));
        let error = checkpoint.tensor("model.layers.0.mlp.down_proj.weights").unwrap_err().to_string();
        assert!(error.contains("did you mean `model.layers.0.mlp.down_proj.weight`"), "{error}");
    }
}

#[test]
fn a_tied_head_is_a_known_stray() {
    let directory = tempdir().unwrap();
    let tied = with(llama(), "tie_word_embeddings", json!(true));
    write(directory.path(), &tied, &weights(&llama(), MIXED, 1), 1);
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    assert_eq!(checkpoint.strays()[0].kind, StrayKind::TiedHead);
    assert!(checkpoint.get(Role::LmHead, None).unwrap().is_none());
}

#[test]
fn a_fingerprint_sees_what_changed() {
    let directory = tempdir().unwrap();
    let tensors = weights(&llama(), MIXED, 1);
    let print = |tensors: &Tensors, config: &serde_json::Value, shards| {
        fs::remove_dir_all(directory.path()).unwrap();
        write(directory.path(), config, tensors, shards);
        Checkpoint::open(directory.path()).unwrap().fingerprint()
    };
    let first = print(&tensors, &llama(), 1);
    assert_eq!(first.len(), 64);
    assert_eq!(first, print(&tensors, &llama(), 1));
    assert_ne!(first, print(&tensors, &with(llama(), "rms_norm_eps", json!(1e-6)), 1));
    assert_ne!(first, print(&tensors, &llama(), 2));
    let mut changed = tensors.clone();
    *changed.get_mut("model.norm.weight").unwrap().bytes.last_mut().unwrap() ^= 1;
    assert_ne!(first, print(&changed, &llama(), 1));
}

#[test]
fn what_is_missing_is_named() {
    let (_d, error) = broken(|path, _| fs::remove_file(path.join("config.json")).unwrap());
    assert!(matches!(error, CheckpointError::Config(_)), "{error}");
    let (_d, error) = broken(|path, _| fs::write(path.join("config.json"), "{").unwrap());
    assert!(matches!(error, CheckpointError::Config(_)), "{error}");
    let (_d, error) = broken(|path, _| {
        fs::remove_file(path.join("model.safetensors.index.json")).unwrap();
        fs::write(path.join("pytorch_model.bin"), "").unwrap();
    });
    assert!(matches!(&error, CheckpointError::NoWeights { others, .. } if others.contains("model-00001")));
    let (_d, error) = broken(|path, _| fs::remove_file(path.join(SHARD)).unwrap());
    assert!(matches!(&error, CheckpointError::IndexMissingFile { file, .. } if file == SHARD), "{error}");
    let (directory, _) = broken(|path, _| fs::remove_file(path.join(SHARD)).unwrap());
    let error = Checkpoint::open(&directory.path().join("config.json")).unwrap_err();
    assert!(matches!(error, CheckpointError::NotADirectory { .. }));
    let error = broken_single(|tensors| {
        tensors.remove("model.layers.1.mlp.down_proj.weight");
    });
    assert!(matches!(&error, CheckpointError::Missing { tensor, .. } if tensor.contains("1.mlp.down")));
    let error = broken_single(|tensors| {
        *tensors = tensors.iter().map(|(n, t)| (n.trim_start_matches("model.").into(), t.clone())).collect();
    });
    assert!(error.to_string().contains("(it has `embed_tokens.weight`)"), "{error}");
}

#[test]
fn indexes_that_do_not_fit_are_refused() {
    let index = |path: &Path| path.join("model.safetensors.index.json");
    for text in ["", "[]", "{\"weight_map\": [1]}", "{\"metadata\": {}}", "{\"weight_map\": {\"a\": 1}}"] {
        let (_d, error) = broken(|path, _| fs::write(index(path), text).unwrap());
        assert!(matches!(error, CheckpointError::IndexSyntax { .. }), "{error}");
    }
    for name in ["../model.safetensors", "/etc/passwd", "", "."] {
        let (_d, error) = broken(|path, _| write_index(path, json!({ "lm_head.weight": name })));
        assert!(matches!(error, CheckpointError::IndexFileName { .. }), "{error}");
    }
    let (_d, error) = broken(|path, _| {
        let text = fs::read_to_string(index(path)).unwrap().replace("lm_head.weight", "lm_tail.weight");
        fs::write(index(path), text).unwrap();
    });
    assert!(
        matches!(&error, CheckpointError::IndexMissingTensor { tensor, .. } if tensor == "lm_tail.weight")
    );
    let (_d, error) = broken(|path, _| {
        let mut text: serde_json::Value = serde_json::from_slice(&fs::read(index(path)).unwrap()).unwrap();
        text["weight_map"].as_object_mut().unwrap().remove("lm_head.weight");
        fs::write(index(path), text.to_string()).unwrap();
    });
    assert!(matches!(&error, CheckpointError::NotIndexed { tensor, .. } if tensor == "lm_head.weight"));
    let (_d, error) = broken(|path, tensors| fs::write(path.join(SHARD), file(tensors)).unwrap());
    assert!(matches!(error, CheckpointError::InTwoShards { .. }), "{error}");
    let (_d, error) =
        broken(|path, tensors| fs::write(path.join("model.safetensors"), file(tensors)).unwrap());
    assert!(matches!(error, CheckpointError::Ambiguous { .. }), "{error}");
    let (_d, error) = broken(|path, _| {
        fs::remove_file(path.join(SHARD)).unwrap();
        fs::create_dir(path.join(SHARD)).unwrap();
    });
    assert!(matches!(error, CheckpointError::Unreadable { .. }), "{error}");
}

#[test]
fn other_kinds_of_models_are_refused_by_tensor() {
    let insert = |name: &str, dtype: Dtype| {
        let written = Written { dtype, shape: vec![4], bytes: vec![0; dtype.bitsize() / 2] };
        broken_single(|tensors| drop(tensors.insert(name.into(), written)))
    };
    for name in ["model.layers.0.mlp.up_proj.weight_scale", "model.layers.0.mlp.up_proj.qweight"] {
        let error = insert(name, Dtype::I32);
        assert!(matches!(&error, CheckpointError::Quantised { tensor, .. } if tensor == name), "{error}");
    }
    for name in ["model.layers.0.mlp.experts.0.up_proj.weight", "model.layers.0.block_sparse_moe.gate.weight"]
    {
        let error = insert(name, Dtype::BF16);
        assert!(matches!(&error, CheckpointError::Experts { tensor, .. } if tensor == name), "{error}");
    }
    let error = insert("lm_head.weight", Dtype::F8_E4M3);
    assert!(matches!(&error, CheckpointError::NotFloating { dtype: Dtype::F8_E4M3, .. }), "{error}");
    for name in ["model.layers.2.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias"] {
        let error = insert(name, Dtype::BF16);
        assert!(matches!(&error, CheckpointError::Unexpected { tensor, .. } if tensor == name), "{error}");
    }
    let error = broken_single(|tensors| tensors.get_mut("lm_head.weight").unwrap().shape = vec![16, 40]);
    let CheckpointError::Shape { expected, found, .. } = error else { panic!("{error}") };
    assert_eq!((expected, found), (vec![40, 16], vec![16, 40]));
    let quantised = with(llama(), "quantization_config", json!({ "quant_method": "gptq" }));
    let directory = tempdir().unwrap();
    write(directory.path(), &quantised, &weights(&llama(), MIXED, 1), 1);
    let error = Checkpoint::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("quantization_config"), "{error}");
}

#[test]
fn headers_that_are_not_sound_are_refused() {
    use HeaderError as E;
    assert!(matches!(header_error(&[]), E::TooShort { length: 0 }));
    assert!(matches!(header_error(&[1; 7]), E::TooShort { length: 7 }));
    assert!(matches!(header_error(&[255; 64]), E::TooLong { .. }));
    assert!(matches!(header_error(&[9, 0, 0, 0, 0, 0, 0, 0, b'{']), E::BeyondEnd { header: 9, length: 9 }));
    assert!(matches!(header_error(&[2, 0, 0, 0, 0, 0, 0, 0, b'{', 255]), E::NotText { at: 1 }));
    assert!(matches!(broken_header(|text| text.replacen('{', "[", 1)), E::Syntax { .. }));
    assert!(matches!(broken_header(|text| text.replacen("BF16", "BF17", 1)), E::Syntax { .. }));
    let dropped = broken_header(|text| text.replacen("\"shape\"", "\"form\"", 1));
    assert!(
        matches!(&dropped, E::Syntax { message, .. } if message.contains("proj.weight`") || message.contains("weight`"))
    );
    let negative = broken_header(|text| text.replacen("[40,16]", "[-40,16]", 1));
    assert!(matches!(negative, E::Syntax { .. }));
    let reshaped = broken_header(|text| text.replacen("[40,16]", "[40,17]", 1));
    assert!(matches!(reshaped, E::Size { .. }), "{reshaped}");
    let huge = broken_header(|text| text.replacen("[40,16]", "[4611686018427387904,16]", 1));
    assert!(matches!(huge, E::Overflow { .. }), "{huge}");

    let header = |tensors: &[(&str, &str, &[usize], usize, usize)], data| header_error(&raw(tensors, data));
    let (a, b): (&[usize], &[usize]) = (&[2], &[3]);
    let twice = header(&[("a", "U8", a, 0, 2), ("a", "U8", a, 2, 4)], 4);
    assert!(matches!(&twice, E::Syntax { message, .. } if message.contains("`a` stands twice")), "{twice}");
    assert!(matches!(header(&[("a", "U8", a, 2, 0)], 2), E::Reversed { .. }));
    let overlap = header(&[("a", "U8", a, 0, 2), ("b", "U8", b, 1, 4)], 4);
    assert!(matches!(&overlap, E::Overlap { tensor, other, .. } if tensor == "b" && other == "a"));
    let hole = header(&[("a", "U8", a, 0, 2), ("b", "U8", b, 3, 6)], 6);
    assert!(matches!(&hole, E::Hole { tensor, from: 2, begin: 3 } if tensor == "b"), "{hole}");
    let first = header(&[("a", "U8", a, 1, 3)], 3);
    assert!(matches!(first, E::Hole { from: 0, begin: 1, .. }), "{first}");
    let truncated = header(&[("a", "U8", a, 0, 2), ("b", "U8", b, 2, 5)], 4);
    assert!(matches!(&truncated, E::Truncated { tensor, .. } if tensor == "b"), "{truncated}");
    let trailing = header(&[("a", "U8", a, 0, 2)], 3);
    assert!(matches!(trailing, E::Trailing { .. }), "{trailing}");
    let bits = header(&[("a", "F4", b, 0, 1)], 1);
    assert!(matches!(bits, E::Size { needs: 12, .. }), "{bits}");
}

fn tensor(dtype: Dtype, values: &[f32]) -> Tensor<'static> {
    Tensor::from_f32("w", dtype, &[values.len()], values).unwrap()
}

#[test]
fn numbers_go_to_f32_and_back() {
    let values: Vec<f32> = (0..40_000).map(|i| ((i * 7919) % 20011) as f32 / 97.0 - 100.0).collect();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let narrow = tensor(dtype, &values);
        let wide = narrow.to_f32().unwrap();
        let rounded = |x: f32| match dtype {
            Dtype::F16 => f16::from_f32(x).to_f32(),
            Dtype::BF16 => bf16::from_f32(x).to_f32(),
            _ => x,
        };
        assert!(wide.iter().zip(&values).all(|(w, v)| w.to_bits() == rounded(*v).to_bits()), "{dtype}");
        assert_eq!(tensor(dtype, &wide).data, narrow.data);
        assert_eq!(narrow.check_finite(), Ok(()));
    }
}

#[test]
fn numbers_that_are_none_are_named() {
    for (dtype, bad) in
        [(Dtype::F32, f32::NAN), (Dtype::F16, f32::INFINITY), (Dtype::BF16, f32::NEG_INFINITY)]
    {
        let mut narrow = tensor(dtype, &[1.0; 40_000]);
        let size = dtype.bitsize() / 8;
        let bytes = match dtype {
            Dtype::F32 => bad.to_le_bytes().to_vec(),
            Dtype::F16 => f16::from_f32(bad).to_le_bytes().to_vec(),
            _ => bf16::from_f32(bad).to_le_bytes().to_vec(),
        };
        for at in [39_999, 35_001] {
            narrow.data.to_mut()[at * size..][..size].copy_from_slice(&bytes);
            let errors = [narrow.to_f32().unwrap_err(), narrow.check_finite().unwrap_err()];
            assert!(
                errors.iter().all(|e| matches!(e, TensorError::NotFinite { element, .. } if *element == at))
            );
        }
    }
    let from = |dtype, value| Tensor::from_f32("w", dtype, &[2], &[1.0, value]).unwrap_err();
    assert!(matches!(from(Dtype::F16, 65_520.0), TensorError::TooLarge { element: 1, .. }));
    assert!(matches!(from(Dtype::BF16, f32::MAX), TensorError::TooLarge { .. }));
    assert!(matches!(from(Dtype::BF16, f32::NAN), TensorError::NotFinite { .. }));
    assert!(matches!(from(Dtype::I8, 1.0), TensorError::NotFloating { .. }));
    assert!(matches!(Tensor::from_f32("w", Dtype::F32, &[3], &[1.0]), Err(TensorError::Length { .. })));
}
