//! Layers of unlike shapes in a `config.json`: what is written is read back, what cannot be said names the layer, and no
//! text makes the reader panic.

use archplan::model::architecture::{Architecture, LayerShape};
use archplan::model::blocks::BlockError;
use archplan::model::cards;
use archplan::model::config_error::ConfigError;
use archplan::model::counts;
use archplan::model::export::{self, Form, FormReason};
use archplan::model::loading;
use archplan::model::per_layer::Target;
use archplan::model::spec::{Family, ModelSpec};
use archplan::model::tensors;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn card(name: &str) -> ModelSpec {
    cards::find(name).unwrap().spec().unwrap()
}

fn read(config: &Value) -> Result<ModelSpec, ConfigError> {
    ModelSpec::from_config_json(&config.to_string(), "config.json", "model")
}

fn layer(ffn: u64, q_heads: u64, kv_heads: u64) -> LayerShape {
    LayerShape { ffn, q_heads, kv_heads }
}

/// Three layers as Llama-3_3-Nemotron-Super-49B-v1 has them: whole, without attention, with a narrow FFN.
fn nemotron() -> Value {
    let block = |group: Value, factor: f64| {
        json!({
            "attention": {
                "n_heads_in_group": group, "no_op": group.is_null(), "num_sink_tokens": null, "replace_with_linear": false,
                "sparsify": null, "unshifted_sink": false, "use_prefill_window_in_sink_attention": false, "window_length": null
            },
            "ffn": {"ffn_mult": factor, "no_op": false, "replace_with_linear": false, "sparsify": null}
        })
    };
    json!({
        "architectures": ["DeciLMForCausalLM"], "attention_bias": false, "model_type": "nemotron-nas",
        "auto_map": {"AutoConfig": "configuration_decilm.DeciLMConfig", "AutoModelForCausalLM": "modeling_decilm.DeciLMForCausalLM"},
        "block_configs": [block(json!(8), 5.25), block(Value::Null, 1.3125), block(json!(16), 0.5)],
        "hidden_act": "silu", "hidden_size": 8192, "intermediate_size": null, "max_position_embeddings": 131072,
        "mlp_bias": false, "num_attention_heads": 64, "num_hidden_layers": 3, "num_key_value_heads": null,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": false, "vocab_size": 128256
    })
}

/// Parameters of the checkpoint, added up tensor by tensor.
fn stored(spec: &ModelSpec) -> u64 {
    tensors::all(spec).iter().map(|tensor| tensor.shape.iter().product::<u64>()).sum()
}

#[test]
fn a_published_list_is_read_as_its_engines_read_it() {
    let spec = read(&nemotron()).unwrap();
    assert_eq!(spec.family, Family::NemotronNas);
    let expected = vec![layer(28672, 64, 8), layer(7168, 0, 0), layer(2816, 64, 4)];
    assert_eq!(spec.architecture, Architecture::of_layers(8192, 128, expected));
    let names: Vec<String> = tensors::layer(&spec, 1).into_iter().map(|tensor| tensor.name).collect();
    let of = |name: &str| format!("model.layers.1.{name}.weight");
    let expected = ["post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"].map(of);
    assert_eq!(names, expected);
    assert_eq!(stored(&spec), counts::parameters(&spec, &spec.architecture).total());
    assert_eq!(loading::warnings(&spec, &spec.architecture), []);
}

#[test]
fn what_a_block_cannot_say_names_the_layer() {
    let with = |part: &str, key: &str, value: Value| {
        let mut config = nemotron();
        config["block_configs"][1]["attention"]["no_op"] = false.into();
        config["block_configs"][1]["attention"]["n_heads_in_group"] = 8.into();
        config["block_configs"][1][part][key] = value;
        read(&config).unwrap_err().to_string()
    };
    for (part, key, value) in [
        ("attention", "n_heads_in_group", json!(7)),
        ("attention", "n_heads_in_group", json!(0)),
        ("attention", "n_heads_in_group", json!(-8)),
        ("attention", "no_op", json!("no")),
        ("attention", "replace_with_linear", json!(true)),
        ("attention", "window_length", json!(8192)),
        ("ffn", "ffn_mult", json!(-1.0)),
        ("ffn", "ffn_mult", json!(1e300)),
        ("ffn", "ffn_mult", Value::Null),
        ("ffn", "intermediate_size", json!(100)),
        ("ffn", "hidden_act", json!("relu")),
        ("ffn", "moe", json!({"num_local_experts": 8})),
    ] {
        let told = with(part, key, value);
        assert!(told.contains("layer 1") && told.contains(&format!("`block_configs.{part}.")), "{told}");
    }
    let mut short = nemotron();
    short["num_hidden_layers"] = 4.into();
    assert!(matches!(read(&short), Err(ConfigError::ListLength { expected: 4, found: 3, .. })));
    let mut other = json!(card("llama-3.1-8b").config);
    other["block_configs"] = json!([]);
    assert!(read(&other).unwrap_err().to_string().contains("layers differ"));
}

#[test]
fn shapes_beyond_blocks_are_written_in_words_of_our_own_with_the_reason() {
    let form = |name: &str, shapes: &[LayerShape]| {
        let parent = card(name);
        let own = &parent.architecture;
        let child = Architecture::of_layers(own.hidden, own.head_dim, shapes.to_vec());
        let made = export::child_config(&parent, &child).unwrap();
        let spec = read(&made.config).unwrap();
        assert_eq!(spec.architecture, child);
        assert_eq!(stored(&spec), counts::parameters(&parent, &child).total());
        (made.form, spec)
    };
    let blocks = |reason| Form::PerLayer { reason: FormReason::Blocks(reason) };
    let [whole, few] = [layer(14336, 32, 8), layer(14336, 16, 8)];
    let (made, spec) = form("llama-3.1-8b", &[whole, layer(512, 0, 0), few]);
    assert_eq!(made, blocks(BlockError::QueryHeads { layer: 2, found: 16, expected: 32 }));
    assert_eq!((spec.family, spec.config["intermediate_size"].as_u64()), (Family::Llama, Some(14336)));
    let engines: Vec<&str> =
        loading::warnings(&spec, &spec.architecture).iter().map(|warning| warning.engine).collect();
    assert_eq!(engines, ["transformers", "vLLM"]);
    let (made, _) = form("llama-3.1-8b", &[layer(512, 0, 0), layer(256, 0, 0)]);
    assert_eq!(made, blocks(BlockError::NoAttention { layers: 2 }));
    let (made, _) = form("qwen3-8b", &[layer(12288, 32, 8), layer(0, 32, 4)]);
    assert_eq!(made, Form::PerLayer { reason: FormReason::Class { class: "Qwen3ForCausalLM" } });
    // Back to one shape, and nothing is left of the list.
    let (_, ragged) = form("qwen3-8b", &[layer(12288, 32, 8), layer(0, 32, 4)]);
    let again = export::child_config(&ragged, &Architecture::uniform(2, 4096, 512, 32, 4, 128)).unwrap();
    assert_eq!((again.form, again.config.get("archplan_layers")), (Form::Uniform, None));
}

#[test]
fn readers_of_blocks_that_fail_are_named() {
    let parent = card("llama-3.1-8b");
    let told = |shapes: &[LayerShape]| -> Vec<String> {
        let child = Architecture::of_layers(4096, 128, shapes.to_vec());
        let made = export::child_config(&parent, &child).unwrap();
        assert_eq!(made.form, Form::Blocks);
        made.warnings.iter().filter(|warning| warning.engine == "vLLM").map(ToString::to_string).collect()
    };
    let whole = layer(14336, 32, 8);
    assert_eq!(
        told(&[whole, layer(512, 32, 2), layer(0, 32, 8), layer(1024, 0, 0), layer(0, 0, 0)]),
        [""; 0]
    );
    assert_eq!(told(&[layer(0, 0, 0), whole]), [""; 0]);
    assert!(told(&[layer(0, 0, 0), layer(512, 0, 0), whole])[0].contains("layer 1"));
    assert!(told(&[whole, layer(500, 32, 8)])[0].contains("layer 1"));
}

#[test]
fn a_list_of_layers_is_checked_layer_by_layer() {
    let with = |layers: Value| {
        let mut config = json!(card("qwen3-0.6b").config);
        config["num_hidden_layers"] = 2.into();
        config["archplan_layers"] = layers;
        read(&config)
    };
    let good = json!({"ffn": 512, "q_heads": 16, "kv_heads": 8});
    assert_eq!(with(json!([good, good])).unwrap().architecture.depth(), 2);
    for (second, key) in [
        (json!({"ffn": -1, "q_heads": 16, "kv_heads": 8}), "archplan_layers.ffn"),
        (json!({"ffn": 512, "q_heads": 16}), "archplan_layers.kv_heads"),
        (json!({"ffn": 512, "q_heads": 16, "kv_heads": 8, "heads": 8}), "archplan_layers"),
        (json!(3), "archplan_layers"),
    ] {
        let told = with(json!([good, second])).unwrap_err().to_string();
        assert!(told.contains("layer 1") && told.contains(&format!("`{key}`")), "{told}");
    }
    let uneven = json!({"ffn": 512, "q_heads": 16, "kv_heads": 7});
    assert!(with(json!([good, uneven])).unwrap_err().to_string().contains("layer 1"));
    assert!(matches!(with(json!([good])), Err(ConfigError::ListLength { found: 1, .. })));
    assert!(matches!(with(json!({})), Err(ConfigError::WrongKind { .. })));
}

#[test]
fn a_target_says_where_its_layers_come_from() {
    let parent = card("qwen3-0.6b");
    let read = |target: Value| Target::read(target.as_object().unwrap(), "target.json", &parent);
    let shapes = vec![layer(512, 16, 8), layer(0, 8, 4), layer(3072, 0, 0)];
    let target =
        Target { architecture: Architecture::of_layers(512, 128, shapes), parents: Some(vec![0, 5, 27]) };
    assert_eq!(read(target.to_json()), Ok(target.clone()));
    let with = |key: &str, value: Value| {
        let mut json = target.to_json();
        json[key] = value;
        read(json).unwrap_err().to_string()
    };
    assert!(with("parents", json!([0, 5])).contains("expected 3 entries"));
    assert!(with("parents", json!([0, 5, 28])).contains("layer 2"));
    assert!(with("parents", json!([0, 5, 5])).contains("layer 2"));
    assert!(with("parents", json!(3)).contains("`parents`"));
    assert!(with("hidden_size", json!(4096)).contains("pruning cannot add"));
    assert!(with("parent", json!([])).contains("did you mean `parents`?"));
}

/// Any JSON that is not too large.
fn anything() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "attention",
        "ffn",
        "n_heads_in_group",
        "no_op",
        "replace_with_linear",
        "ffn_mult",
        "intermediate_size",
        "q_heads",
        "kv_heads",
        "other",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0u64..64).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| pairs
                .into_iter()
                .map(|(key, value)| (key.to_string(), value))
                .collect::<Value>()),
        ]
    })
}

fn any_layer() -> impl Strategy<Value = (bool, bool, u64, u64)> {
    (any::<bool>(), any::<bool>(), 1u64..=14336, 0u64..4)
}

proptest! {
    #[test]
    fn no_text_makes_the_readers_panic(value in anything(), second in anything()) {
        for key in ["block_configs", "archplan_layers"] {
            for list in [value.clone(), json!([value, second]), json!([{"attention": value, "ffn": second}, {}])] {
                let mut config = nemotron();
                config["num_hidden_layers"] = 2.into();
                config[key] = list.clone();
                let _ = read(&config);
                let target: Map<String, Value> =
                    [("layers".to_string(), list), ("parents".to_string(), value.clone())].into_iter().collect();
                let _ = Target::read(&target, "t", &card("qwen3-0.6b"));
            }
        }
    }

    #[test]
    fn a_child_of_unlike_layers_is_read_back(
        name in prop::sample::select(vec!["llama-3.1-8b", "llama-2-7b", "qwen3-8b"]),
        layers in prop::collection::vec(any_layer(), 1..9),
        multiples in any::<bool>(),
    ) {
        let parent = card(name);
        let own = parent.architecture.uniform_shape().unwrap();
        let shape = |&(attention, ffn, width, halvings): &(bool, bool, u64, u64)| {
            let width = width.min(own.ffn / 256 * 256);
            LayerShape {
                ffn: if !ffn { 0 } else if multiples { width.next_multiple_of(256) } else { width },
                q_heads: if attention { own.q_heads } else { 0 },
                kv_heads: if attention { own.kv_heads >> halvings.min(3) } else { 0 },
            }
        };
        let shapes: Vec<LayerShape> = layers.iter().map(shape).collect();
        let child = Architecture::of_layers(parent.architecture.hidden, 128, shapes);
        let made = export::child_config(&parent, &child).unwrap();
        let spec = read(&made.config).unwrap();
        prop_assert_eq!(&spec.architecture, &child);
        prop_assert_eq!(stored(&spec), counts::parameters(&parent, &child).total());
        let attention = child.largest_layer().q_heads > 0;
        let blocks = parent.family == Family::Llama && attention;
        prop_assert_eq!(spec.family == Family::NemotronNas, blocks && made.form == Form::Blocks);
        prop_assert!(made.form != Form::Uniform || child.uniform_shape().is_some_and(|s| s.ffn > 0 && s.q_heads > 0));
        // A child of the child is as good a parent.
        let again = export::child_config(&spec, &child).unwrap();
        prop_assert_eq!(again.config, made.config);
    }
}
