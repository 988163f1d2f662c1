//! Child configurations and `export_config`: what is written is read back as the same shape.

use archplan::model::architecture::{Architecture, ArchitectureError, LayerShape, Layers};
use archplan::model::cards;
use archplan::model::export::{self, ExportError, Form};
use archplan::model::export_config::{self, ExportConfig, ExportConfigError};
use archplan::model::loading;
use archplan::model::spec::ModelSpec;
use proptest::prelude::*;
use serde_json::{Value, json};

fn fixture(file: &str) -> ModelSpec {
    let path = format!("{}/tests/data/configs/{file}", env!("CARGO_MANIFEST_DIR"));
    ModelSpec::from_config_json(&std::fs::read_to_string(path).unwrap(), file, file).unwrap()
}

fn card(name: &str) -> ModelSpec {
    cards::find(name).unwrap().spec().unwrap()
}

fn parents() -> Vec<ModelSpec> {
    let mut parents: Vec<_> = cards::all().iter().map(|card| card.spec().unwrap()).collect();
    for file in [
        "gemma-2-2b.json",
        "gemma-3-1b.json",
        "gemma-3-1b-transformers-5.json",
        "qwen3-8b-transformers-5.json",
        "openpangu-sandwich.json",
    ] {
        parents.push(fixture(file));
    }
    parents
}

fn read_back(config: &Value) -> ModelSpec {
    ModelSpec::from_config_json(&config.to_string(), "child", "child").unwrap()
}

const SHAPE_KEYS: [&str; 8] = [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "layer_types",
    "max_window_layers",
];

/// A pruned shape of `parent`, from six fractions.
fn pruned(parent: &ModelSpec, part: [f64; 6]) -> Architecture {
    let own = &parent.architecture;
    let shape = own.uniform_shape().unwrap();
    let some = |whole: u64, part: f64| ((whole as f64 * part).ceil() as u64).clamp(1, whole);
    let period = parent.window_pattern.len().max(1) as u64;
    let kv_heads = some(shape.kv_heads, part[3]);
    let groups = some(shape.q_heads / kv_heads, part[4]);
    Architecture::uniform(
        some(own.depth(), part[0]).max(period),
        some(own.hidden, part[1]),
        some(shape.ffn, part[2]),
        kv_heads * groups,
        kv_heads,
        2 * some(own.head_dim / 2, part[5]),
    )
}

proptest! {
    #[test]
    fn a_child_is_read_back_and_differs_in_its_shape_only(
        parent in prop::sample::select(parents()),
        part in prop::array::uniform6(0.01f64..1.0),
    ) {
        let shape = pruned(&parent, part);
        let child = export::child_config(&parent, &shape).unwrap().config;
        let spec = read_back(&child);
        prop_assert_eq!(&spec.architecture, &shape);
        prop_assert_eq!(child["head_dim"].as_u64(), Some(shape.head_dim));
        // Everything but the shape is the parent's, in the parent's order.
        let others = |config: &serde_json::Map<String, Value>| -> Vec<(String, Value)> {
            config
                .iter()
                .filter(|(key, _)| !SHAPE_KEYS.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        prop_assert_eq!(others(child.as_object().unwrap()), others(&parent.config));
        let windows = |spec: &ModelSpec| (0..shape.depth()).map(|l| spec.window(l)).collect::<Vec<_>>();
        prop_assert_eq!(windows(&spec), windows(&parent));
    }

    #[test]
    fn an_export_config_is_read_back(
        parent in prop::sample::select(parents()),
        mut part in prop::array::uniform6(0.01f64..1.0),
        wrapped in any::<bool>(),
    ) {
        part[5] = 1.0;
        let shape = pruned(&parent, part);
        let export = serde_json::to_value(ExportConfig::new(&parent, &shape).unwrap()).unwrap();
        let text = if wrapped { json!({ "export_config": export }) } else { export }.to_string();
        prop_assert_eq!(export_config::read(&text, "target.json", &parent), Ok(shape));
    }

    #[test]
    fn reading_an_export_config_never_panics(text in "\\PC*", value in any::<i64>()) {
        let parent = card("qwen3-8b");
        let _ = export_config::read(&text, "t", &parent);
        let _ = export_config::read(&json!({ "num_layers": value }).to_string(), "t", &parent);
        let _ = export_config::read(&json!({ "num_query_groups": value }).to_string(), "t", &parent);
    }
}

#[test]
fn the_parent_itself_only_gains_its_head_size() {
    for parent in parents() {
        let child = export::child_config(&parent, &parent.architecture).unwrap().config;
        let mut expected = parent.config.clone();
        expected.entry("head_dim").or_insert(parent.architecture.head_dim.into());
        assert_eq!(child.to_string(), Value::Object(expected).to_string(), "{}", parent.name);
    }
}

#[test]
fn lists_by_layer_are_cut_to_the_depth() {
    let parent = fixture("gemma-3-1b-transformers-5.json");
    let shape = Architecture {
        layers: Layers::Uniform { count: 13, shape: parent.architecture.uniform_shape().unwrap() },
        ..parent.architecture
    };
    let child = export::child_config(&parent, &shape).unwrap().config;
    let types = child["layer_types"].as_array().unwrap();
    assert_eq!(
        (types.len(), &types[5], &types[12]),
        (13, &json!("full_attention"), &json!("sliding_attention"))
    );
    let parent = card("qwen3-8b");
    let child = |layers| {
        let shape = Architecture::uniform(layers, 4096, 12288, 32, 8, 128);
        export::child_config(&parent, &shape).unwrap().config["max_window_layers"].clone()
    };
    assert_eq!((child(30), child(36)), (json!(30), json!(36)));
}

#[test]
fn shapes_that_stock_classes_cannot_say_are_refused() {
    let parent = card("qwen3-8b");
    let refuse = |shape: &Architecture| ExportConfig::new(&parent, shape).unwrap_err();
    let own_words = |shape: &Architecture| {
        let made = export::child_config(&parent, shape).unwrap();
        assert!(matches!(made.form, Form::PerLayer { .. }));
        assert_eq!(read_back(&made.config).architecture, *shape);
    };
    let layer = |ffn| LayerShape { ffn, q_heads: 32, kv_heads: 8 };
    let ragged = |ffn: &[u64]| Architecture {
        hidden: 4096,
        head_dim: 128,
        layers: Layers::PerLayer(ffn.iter().map(|&ffn| layer(ffn)).collect()),
    };
    assert_eq!(
        refuse(&ragged(&[512, 512, 256])),
        ExportError::Ragged { layer: 2, class: "Qwen3ForCausalLM" }
    );
    own_words(&ragged(&[512, 512, 256]));
    let same = export::child_config(&parent, &ragged(&[512, 512])).unwrap();
    assert_eq!(read_back(&same.config).architecture, Architecture::uniform(2, 4096, 512, 32, 8, 128));
    assert!(matches!(refuse(&Architecture::uniform(2, 4096, 0, 32, 8, 128)), ExportError::Incomplete { .. }));
    assert!(matches!(
        refuse(&Architecture::uniform(2, 4096, 512, 0, 0, 128)),
        ExportError::Incomplete { .. }
    ));
    own_words(&Architecture::uniform(2, 4096, 0, 32, 8, 128));
    own_words(&Architecture::uniform(2, 4096, 512, 0, 0, 128));
    assert!(matches!(
        refuse(&Architecture::uniform(99, 4096, 512, 32, 8, 128)),
        ExportError::Architecture(ArchitectureError::LargerThanParent { .. })
    ));
    let gemma = fixture("gemma-3-1b.json");
    let shallow = Architecture::uniform(5, 1152, 6912, 4, 1, 256);
    assert!(matches!(export::child_config(&gemma, &shallow), Err(ExportError::Unreadable(_))));
}

#[test]
fn engines_that_will_not_load_a_shape_are_named() {
    let engines = |name: &str, shape: Architecture| {
        let warnings = loading::warnings(&card(name), &shape);
        warnings.iter().map(|w| (w.engine, w.versions)).collect::<Vec<_>>()
    };
    assert_eq!(engines("llama-3.1-8b", Architecture::uniform(32, 3072, 9216, 24, 8, 128)), []);
    assert_eq!(
        engines("llama-3.1-8b", Architecture::uniform(32, 3328, 9216, 24, 8, 128)),
        [("transformers", "5.x, seen in 5.23.0")]
    );
    assert_eq!(engines("qwen3-8b", Architecture::uniform(32, 3328, 9216, 24, 8, 128)), []);
    assert_eq!(engines("qwen2.5-7b", Architecture::uniform(28, 3072, 9216, 24, 4, 128)), []);
    assert_eq!(
        engines("qwen2.5-7b", Architecture::uniform(28, 3328, 9216, 24, 4, 128)),
        [("vLLM", "all seen, from 013a279 (early 2025) to 2026"), ("transformers", "before 4.48")]
    );
}

/// Keys of `SUPPORTED_HPARAMS` in Model-Optimizer, plus `num_query_groups` when it was pruned.
#[test]
fn export_config_has_the_keys_of_model_optimizer() {
    let parent = card("qwen3-8b");
    let json =
        |shape: &Architecture| serde_json::to_value(ExportConfig::new(&parent, shape).unwrap()).unwrap();
    assert_eq!(
        json(&Architecture::uniform(32, 3584, 9216, 24, 8, 128)),
        json!({"num_layers": 32, "hidden_size": 3584, "ffn_hidden_size": 9216, "num_attention_heads": 24})
    );
    assert_eq!(json(&Architecture::uniform(32, 3584, 9216, 24, 4, 128))["num_query_groups"], 4);
    assert_eq!(
        ExportConfig::new(&parent, &Architecture::uniform(32, 3584, 9216, 24, 8, 64)),
        Err(ExportError::HeadDim { parent: 128, found: 64 })
    );
}

#[test]
fn a_partial_export_config_keeps_the_rest_of_the_parent() {
    let parent = card("qwen3-8b");
    let read = |text: &str| export_config::read(text, "target.json", &parent);
    assert_eq!(
        read(r#"{"hidden_size": 3584, "ffn_hidden_size": 9216}"#),
        Ok(Architecture::uniform(36, 3584, 9216, 32, 8, 128))
    );
    let message = |text: &str| read(text).unwrap_err().to_string();
    assert!(message(r#"{"hiden_size": 1}"#).contains("did you mean `hidden_size`?"));
    assert!(message(r#"{"hidden_size": "1"}"#).contains("`hidden_size`: expected a positive integer"));
    assert!(message(r#"{"export_config": 3}"#).contains("`export_config`: expected an object"));
    assert!(message(r#"{"export_config": {}, "params": 6e9}"#).contains("unknown key `export_config`"));
    assert!(message("[]").contains("expected a JSON object"));
    assert!(message("{").contains("target.json:1:1: not valid JSON"));
    assert!(matches!(
        read(r#"{"num_attention_heads": 30}"#),
        Err(ExportConfigError::Architecture { error: ArchitectureError::UnequalGroups { .. }, .. })
    ));
}
