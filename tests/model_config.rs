//! Reading `config.json`: what is understood, and how everything else is refused.

use archplan::model::architecture::{Architecture, ArchitectureError};
use archplan::model::cards;
use archplan::model::config_error::ConfigError;
use archplan::model::counts;
use archplan::model::spec::{Family, ModelSpec, NormLayout};
use archplan::units::DType;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn read(file: &str) -> Result<ModelSpec, ConfigError> {
    let path = format!("{}/tests/data/configs/{file}", env!("CARGO_MANIFEST_DIR"));
    ModelSpec::from_config_json(&std::fs::read_to_string(path).unwrap(), file, file)
}

/// The configuration of a card with some keys set (null by `Value::Null`) and some removed.
fn patched(card: &str, set: Value, remove: &[&str]) -> Result<ModelSpec, ConfigError> {
    let mut config = cards::find(card).unwrap().config.clone();
    config.extend(set.as_object().unwrap().clone());
    for key in remove {
        config.shift_remove(*key).unwrap();
    }
    ModelSpec::from_config(config, "config.json", card)
}

fn total(spec: &ModelSpec) -> u64 {
    counts::parameters(spec, &spec.architecture).total()
}

/// Published counts: google/gemma-2-2b and google/gemma-3-1b-it on huggingface.co.
#[test]
fn gemma_has_two_more_norms_and_windows() {
    let gemma2 = read("gemma-2-2b.json").unwrap();
    assert_eq!((gemma2.family, total(&gemma2)), (Family::Gemma2, 2_614_341_888));
    assert_eq!(gemma2.window_pattern, [Some(4096), None]);
    assert!(gemma2.tied_embeddings && !gemma2.qk_norm);
    let gemma3 = read("gemma-3-1b.json").unwrap();
    assert_eq!((gemma3.family, total(&gemma3)), (Family::Gemma3, 999_885_952));
    assert_eq!(gemma3.norms, NormLayout::Sandwich);
    assert_eq!(gemma3.window_pattern, [vec![Some(512); 5], vec![None]].concat());
    assert_eq!((gemma3.window(4), gemma3.window(5), gemma3.window(6)), (Some(512), None, Some(512)));
}

#[test]
fn both_spellings_of_transformers_are_read_alike() {
    for (old, new) in [
        (read("gemma-3-1b.json").unwrap(), read("gemma-3-1b-transformers-5.json").unwrap()),
        (cards::find("qwen3-8b").unwrap().spec().unwrap(), read("qwen3-8b-transformers-5.json").unwrap()),
    ] {
        assert_eq!(old.checkpoint_dtype(), Some(DType::Bf16));
        assert_eq!(new.checkpoint_dtype(), Some(DType::Bf16));
        let same = ModelSpec {
            name: old.name.clone(),
            source: old.source.clone(),
            config: old.config.clone(),
            ..new
        };
        assert_eq!(same, old);
    }
}

#[test]
fn biases_and_norms_follow_the_family() {
    let qwen2 = cards::find("qwen2.5-7b").unwrap().spec().unwrap();
    assert!(qwen2.qkv_bias && !qwen2.o_bias && !qwen2.qk_norm);
    let pangu = read("openpangu-sandwich.json").unwrap();
    assert!(pangu.qkv_bias && pangu.o_bias && !pangu.mlp_bias);
    assert_eq!(pangu.norms, NormLayout::Sandwich);
    let bare = patched("openpangu-embedded-7b", json!({"bias": false}), &[]).unwrap();
    assert!(!bare.qkv_bias && !bare.o_bias && bare.norms == NormLayout::PreNorm);
    let llama = patched("llama-3.1-8b", json!({"attention_bias": true, "mlp_bias": true}), &[]).unwrap();
    assert!(llama.qkv_bias && llama.o_bias && llama.mlp_bias);
    let qwen3 = patched("qwen3-8b", json!({"attention_bias": true}), &[]).unwrap();
    assert!(qwen3.qkv_bias && qwen3.o_bias && qwen3.qk_norm);
}

#[test]
fn what_is_left_out_takes_the_class_default() {
    let heads = |spec: ModelSpec| {
        let shape = spec.architecture.uniform_shape().unwrap();
        (shape.q_heads, shape.kv_heads, spec.architecture.head_dim)
    };
    let kv = ["num_key_value_heads"];
    assert_eq!(heads(patched("llama-2-70b", json!({}), &kv).unwrap()), (64, 64, 128));
    assert_eq!(
        heads(patched("llama-2-70b", json!({"num_key_value_heads": null}), &[]).unwrap()),
        (64, 64, 128)
    );
    assert_eq!(heads(patched("mistral-7b", json!({}), &kv).unwrap()), (32, 8, 128));
    assert_eq!(heads(patched("qwen3-32b", json!({}), &kv).unwrap()), (64, 32, 128));
    assert_eq!(
        heads(patched("qwen3-32b", json!({"num_key_value_heads": null}), &[]).unwrap()),
        (64, 64, 128)
    );
    assert_eq!(heads(patched("qwen3-0.6b", json!({}), &["head_dim"]).unwrap()), (16, 8, 128));
    assert_eq!(heads(patched("qwen2.5-0.5b", json!({"head_dim": 32}), &[]).unwrap()), (14, 2, 32));
    let tied = |card| patched(card, json!({}), &["tie_word_embeddings"]).unwrap().tied_embeddings;
    assert!(!tied("qwen3-0.6b") && !tied("qwen2.5-0.5b") && !tied("llama-2-7b") && !tied("mistral-7b"));
    let typed = patched("qwen3-8b", json!({}), &["architectures"]).unwrap();
    assert_eq!(typed.family, Family::Qwen3);
    assert_eq!(patched("qwen3-8b", json!({}), &["model_type"]).unwrap().family, Family::Qwen3);
}

#[test]
fn other_kinds_of_model_are_refused_by_the_field_that_gives_them_away() {
    for (file, field) in [
        ("mixtral-8x7b.json", "num_local_experts"),
        ("deepseek-v3.json", "kv_lora_rank"),
        ("gemma-3-4b.json", "text_config"),
        ("qwen3-32b-fp8.json", "quantization_config"),
        ("t5-small.json", "is_encoder_decoder"),
    ] {
        match read(file) {
            Err(ConfigError::Unsupported { origin, key, .. }) => assert_eq!((&*origin, &*key), (file, field)),
            other => panic!("{file}: {other:?}"),
        }
    }
    assert!(matches!(read("mistral-7b-v0.1.json"), Err(ConfigError::WindowOnly { .. })));
}

#[test]
fn unknown_names_get_a_suggestion() {
    let message = |set| patched("qwen3-8b", set, &[]).unwrap_err().to_string();
    let text = message(json!({"architectures": ["Qwen3ForCausualLM"]}));
    assert!(text.contains("did you mean `Qwen3ForCausalLM`?"), "{text}");
    let text = message(json!({"architectures": null, "model_type": "qwen-3"}));
    assert!(text.contains("`model_type`") && text.contains("did you mean `qwen3`?"), "{text}");
    let text = message(json!({"architectures": ["GPT2LMHeadModel"]}));
    assert!(!text.contains("did you mean") && text.contains("LlamaForCausalLM"), "{text}");
    let text = message(json!({"architectures": ["Qwen3MoeForCausalLM"]}));
    assert!(text.contains("mixture of experts"), "{text}");
}

/// `(card, keys to set, keys to remove, words the message must have)`.
fn defects() -> Vec<(&'static str, Value, Vec<&'static str>, [&'static str; 2])> {
    vec![
        ("qwen3-8b", json!({}), vec!["hidden_size"], ["`hidden_size` is missing", "positive integer"]),
        ("qwen3-8b", json!({}), vec!["vocab_size"], ["`vocab_size` is missing", "not assumed"]),
        ("qwen3-8b", json!({"hidden_size": null}), vec![], ["`hidden_size`", "found null"]),
        ("qwen3-8b", json!({"hidden_size": "4096"}), vec![], ["`hidden_size`", "found \"4096\""]),
        ("qwen3-8b", json!({"hidden_size": 4096.5}), vec![], ["`hidden_size`", "found 4096.5"]),
        ("qwen3-8b", json!({"hidden_size": -1}), vec![], ["from 1 to", "found -1"]),
        ("qwen3-8b", json!({"num_hidden_layers": 0}), vec![], ["`num_hidden_layers`", "found 0"]),
        ("qwen3-8b", json!({"vocab_size": u64::MAX}), vec![], ["`vocab_size`", "from 1 to"]),
        ("qwen3-8b", json!({"intermediate_size": [1, 2]}), vec![], ["`intermediate_size`", "found [1,2]"]),
        ("qwen3-8b", json!({"num_attention_heads": 30}), vec![], ["30 query heads", "8 KV heads"]),
        ("qwen3-8b", json!({"head_dim": 127}), vec![], ["head_dim is 127", "even"]),
        ("qwen3-8b", json!({"head_dim": null}), vec![], ["`head_dim`", "found null"]),
        ("qwen3-8b", json!({"use_sliding_window": true}), vec![], ["`use_sliding_window`", "windowed"]),
        (
            "qwen3-8b",
            json!({"tie_word_embeddings": null}),
            vec![],
            ["`tie_word_embeddings`", "true or false"],
        ),
        ("qwen3-8b", json!({"layer_types": ["full_attention"]}), vec![], ["36 entries", "found 1"]),
        (
            "qwen3-8b",
            json!({"layer_types": vec!["linear_attention"; 36]}),
            vec![],
            ["linear_attention", "layer"],
        ),
        (
            "qwen3-8b",
            json!({"layer_types": vec!["sliding_attention"; 36]}),
            vec![],
            ["`layer_types`", "windowed"],
        ),
        ("qwen3-8b", json!({"rope_theta": -1.0}), vec![], ["`rope_theta`", "positive"]),
        (
            "qwen3-8b",
            json!({"rope_parameters": {"rope_theta": "x"}}),
            vec![],
            ["`rope_parameters`", "positive"],
        ),
        ("qwen3-8b", json!({"rope_parameters": 3}), vec![], ["`rope_parameters`", "an object"]),
        ("qwen3-8b", json!({"architectures": "Qwen3ForCausalLM"}), vec![], ["`architectures`", "list"]),
        ("qwen3-8b", json!({"architectures": []}), vec![], ["`architectures`", "one class name"]),
        ("qwen3-8b", json!({"model_type": "llama"}), vec![], ["Qwen3ForCausalLM", "`model_type` says llama"]),
        ("qwen3-8b", json!({"model_type": 3}), vec![], ["`model_type`", "a string"]),
        (
            "qwen3-8b",
            json!({}),
            vec!["model_type", "architectures"],
            ["`architectures` is missing", "add it"],
        ),
        ("qwen3-8b", json!({"num_experts": 8}), vec![], ["`num_experts` = 8", "mixture of experts"]),
        ("qwen3-8b", json!({"block_configs": [{}]}), vec![], ["`block_configs`", "layers differ"]),
        ("mistral-7b", json!({}), vec!["sliding_window"], ["sliding-window-only", "default is 4096"]),
        ("qwen2.5-7b", json!({"num_attention_heads": 24}), vec![], ["`head_dim` is missing", "no multiple"]),
        ("openpangu-embedded-7b", json!({"param_sink_number": 4}), vec![], ["`param_sink_number`", "sinks"]),
    ]
}

#[test]
fn every_defect_names_file_key_found_and_expected() {
    for (card, set, remove, words) in defects() {
        let case = format!("{set} {remove:?}");
        let message = patched(card, set, &remove).expect_err(&case).to_string();
        assert!(message.starts_with("config.json"), "{message}");
        for word in words {
            assert!(message.contains(word), "{case}: `{word}` is not in: {message}");
        }
    }
}

#[test]
fn gemma_windows_must_leave_some_layer_full() {
    let gemma = |set: Value| {
        let mut config = read("gemma-3-1b.json").unwrap().config;
        config.extend(set.as_object().unwrap().clone());
        ModelSpec::from_config(config, "config.json", "gemma")
    };
    assert!(matches!(gemma(json!({"num_hidden_layers": 5})), Err(ConfigError::WindowOnly { .. })));
    assert!(matches!(gemma(json!({"sliding_window": null})), Err(ConfigError::WrongKind { .. })));
    assert!(gemma(json!({"sliding_window_pattern": 1})).unwrap().window_pattern.is_empty());
    let full = gemma(json!({"layer_types": vec!["full_attention"; 26], "sliding_window": null})).unwrap();
    assert!(full.window_pattern.is_empty());
}

#[test]
fn text_that_is_no_object_is_placed() {
    let read = |text| ModelSpec::from_config_json(text, "config.json", "m");
    let Err(ConfigError::Syntax { line, column, .. }) = read("{\n  \"a\": }") else { panic!() };
    assert_eq!((line, column), (2, 8));
    assert!(matches!(read("[1]"), Err(ConfigError::NotAnObject { .. })));
    assert!(matches!(read(""), Err(ConfigError::Syntax { .. })));
    assert!(matches!(read("{\"hidden_size\": NaN}"), Err(ConfigError::Syntax { .. })));
}

#[test]
fn a_shape_larger_than_its_parent_is_refused() {
    let parent = cards::find("qwen3-8b").unwrap().spec().unwrap();
    assert_eq!(parent.architecture.check(&parent), Ok(()));
    for wide in [
        Architecture::uniform(37, 4096, 12288, 32, 8, 128),
        Architecture::uniform(36, 4352, 12288, 32, 8, 128),
        Architecture::uniform(36, 4096, 12800, 32, 8, 128),
        Architecture::uniform(36, 4096, 12288, 40, 8, 128),
        Architecture::uniform(36, 4096, 12288, 32, 16, 128),
        Architecture::uniform(36, 4096, 12288, 32, 8, 130),
    ] {
        assert!(matches!(wide.check(&parent), Err(ArchitectureError::LargerThanParent { .. })), "{wide}");
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0u64..9000).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::collection::vec("full_attention|sliding_attention|x", 0..40).prop_map(Value::from),
        Just(json!({"rope_theta": -1, "full_attention": {"rope_theta": null}})),
    ]
}

/// The configurations of every family.
fn parents() -> Vec<Map<String, Value>> {
    let mut parents: Vec<_> = cards::all().iter().map(|card| card.config.clone()).collect();
    for file in ["gemma-2-2b.json", "gemma-3-1b-transformers-5.json", "openpangu-sandwich.json"] {
        parents.push(read(file).unwrap().config);
    }
    parents
}

const KEYS: [&str; 20] = [
    "architectures",
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "tie_word_embeddings",
    "layer_types",
    "sliding_window",
    "sliding_window_pattern",
    "use_sliding_window",
    "attention_bias",
    "bias",
    "rope_theta",
    "rope_parameters",
    "num_experts",
];

proptest! {
    #[test]
    fn mutated_configurations_never_panic(
        parent in prop::sample::select(parents()),
        changes in prop::collection::vec((prop::sample::select(KEYS.to_vec()), prop::option::of(any_value())), 1..5),
    ) {
        let mut config = parent;
        for (key, value) in changes {
            match value {
                Some(value) => { config.insert(key.into(), value); }
                None => { config.shift_remove(key); }
            }
        }
        if let Ok(spec) = ModelSpec::from_config(config, "config.json", "m") {
            // What is read can be counted, up to the largest sizes accepted.
            prop_assert!(total(&spec) > 0);
            prop_assert!(counts::prefill_flops(&spec, &spec.architecture, 4096).0.is_finite());
        }
    }

    #[test]
    fn text_never_panics(text in "\\PC*", cut in 0usize..900) {
        let _ = ModelSpec::from_config_json(&text, "t", "t");
        let config = serde_json::to_string(&cards::find("qwen3-8b").unwrap().config).unwrap();
        let _ = ModelSpec::from_config_json(config.get(..cut).unwrap_or(&config), "t", "t");
    }
}
