//! Counts against published figures, and against a slow list of every tensor by name and shape.

use archplan::model::architecture::{Architecture, LayerShape, Layers};
use archplan::model::cards::{self, Card};
use archplan::model::counts;
use archplan::model::spec::{ModelSpec, NormLayout};
use archplan::units::DType;

fn spec(name: &str) -> ModelSpec {
    cards::find(name).unwrap().spec().unwrap()
}

fn total(card: &Card) -> u64 {
    let spec = card.spec().unwrap();
    counts::parameters(&spec, &spec.architecture).total()
}

/// Every tensor of the checkpoint, as transformers names and shapes them.
fn tensors(spec: &ModelSpec, shape: &Architecture) -> Vec<(String, Vec<u64>)> {
    let (d, hd) = (shape.hidden, shape.head_dim);
    let mut all = vec![("embed_tokens".to_string(), vec![spec.vocab_size, d]), ("norm".to_string(), vec![d])];
    if !spec.tied_embeddings {
        all.push(("lm_head".to_string(), vec![spec.vocab_size, d]));
    }
    for (i, layer) in shape.layer_shapes().enumerate() {
        let mut add = |name: &str, size: &[u64]| all.push((format!("layers.{i}.{name}"), size.to_vec()));
        if layer.q_heads > 0 {
            let (q, kv) = (layer.q_heads * hd, layer.kv_heads * hd);
            for (name, out) in [("q_proj", q), ("k_proj", kv), ("v_proj", kv)] {
                add(name, &[out, d]);
                if spec.qkv_bias {
                    add(&format!("{name}.bias"), &[out]);
                }
            }
            add("o_proj", &[d, q]);
            if spec.o_bias {
                add("o_proj.bias", &[d]);
            }
            if spec.qk_norm {
                add("q_norm", &[hd]);
                add("k_norm", &[hd]);
            }
            add("input_layernorm", &[d]);
            if spec.norms == NormLayout::Sandwich {
                add("post_attention_norm", &[d]);
            }
        }
        if layer.ffn > 0 {
            for (name, out, input) in
                [("gate_proj", layer.ffn, d), ("up_proj", layer.ffn, d), ("down_proj", d, layer.ffn)]
            {
                add(name, &[out, input]);
                if spec.mlp_bias {
                    add(&format!("{name}.bias"), &[out]);
                }
            }
            add("pre_ffn_norm", &[d]);
            if spec.norms == NormLayout::Sandwich {
                add("post_ffn_norm", &[d]);
            }
        }
    }
    all
}

fn elements(tensors: &[(String, Vec<u64>)], pick: impl Fn(&str) -> bool) -> u64 {
    tensors.iter().filter(|(name, _)| pick(name)).map(|(_, shape)| shape.iter().product::<u64>()).sum()
}

fn is_matrix(name: &str) -> bool {
    name.ends_with("_proj")
}

#[test]
fn published_counts() {
    assert_eq!(total(cards::find("llama-3.1-8b").unwrap()), 8_030_261_248);
    assert_eq!(total(cards::find("qwen3-8b").unwrap()), 8_190_735_360);
    assert_eq!(total(cards::find("openpangu-embedded-7b").unwrap()), 8_030_887_936);
    let published: Vec<&Card> = cards::all().iter().filter(|c| c.published_parameters.is_some()).collect();
    assert_eq!(published.len(), 19);
    for card in published {
        assert_eq!(Some(total(card)), card.published_parameters, "{}", card.name);
    }
}

/// openPangu-Embedded-1B is published as "1B without embeddings".
#[test]
fn openpangu_1b_is_one_billion_without_embeddings() {
    let spec = spec("openpangu-embedded-1b");
    let p = counts::parameters(&spec, &spec.architecture);
    assert_eq!(((p.total() - p.embedding) as f64 / 1e9).round(), 1.0);
    assert_eq!(p.lm_head, 0);
}

/// The shapes the next tests walk over: every card, a sandwich norm, all biases, a ragged shape.
fn zoo() -> Vec<(ModelSpec, Architecture)> {
    let mut zoo: Vec<_> = cards::all()
        .iter()
        .map(|card| card.spec().unwrap())
        .map(|spec| {
            let shape = spec.architecture.clone();
            (spec, shape)
        })
        .collect();
    let mut sandwich = spec("openpangu-embedded-7b");
    sandwich.norms = NormLayout::Sandwich;
    sandwich.mlp_bias = true;
    sandwich.qk_norm = true;
    let layers = vec![
        LayerShape { ffn: 512, q_heads: 8, kv_heads: 2 },
        LayerShape { ffn: 0, q_heads: 8, kv_heads: 2 },
        LayerShape { ffn: 256, q_heads: 0, kv_heads: 0 },
        LayerShape { ffn: 768, q_heads: 12, kv_heads: 4 },
    ];
    zoo.push((sandwich, Architecture { hidden: 640, head_dim: 96, layers: Layers::PerLayer(layers) }));
    zoo
}

#[test]
fn counts_agree_with_the_list_of_tensors() {
    for (spec, shape) in zoo() {
        let list = tensors(&spec, &shape);
        let p = counts::parameters(&spec, &shape);
        assert_eq!(p.total(), elements(&list, |_| true), "{}", spec.name);
        assert_eq!(p.layer_matrices(), elements(&list, is_matrix), "{}", spec.name);
        assert_eq!(p.layers.biases, elements(&list, |n| n.ends_with("bias")), "{}", spec.name);
        assert_eq!(p.layers.norms + p.final_norm, elements(&list, |n| n.contains("norm")), "{}", spec.name);
    }
}

#[test]
fn the_largest_valid_shape_does_not_overflow() {
    use archplan::model::limits::*;
    let (spec, _) = zoo().pop().unwrap();
    let spec = ModelSpec { vocab_size: LARGEST_VOCABULARY, tied_embeddings: false, ..spec };
    let (heads, head_dim) = (MOST_HEADS, LARGEST_HEAD_DIM);
    let shape = Architecture::uniform(MOST_LAYERS, LARGEST_HIDDEN, LARGEST_FFN, heads, heads, head_dim);
    assert_eq!(shape.validate(), Ok(()));
    let matrices = 4.0 * (1_u64 << 46) as f64 + 3.0 * (1_u64 << 44) as f64;
    let counted = counts::parameters(&spec, &shape).layer_matrices() as f64;
    assert_eq!(counted, matrices * MOST_LAYERS as f64);
    assert!(counts::kv_bytes_per_token(&shape, DType::F32).0.is_finite());
    assert!(counts::prefill_flops(&spec, &shape, MOST_POSITIONS).0.is_finite());
}

#[test]
fn only_matrices_of_layers_shrink_with_the_element_type() {
    for (spec, shape) in zoo() {
        let list = tensors(&spec, &shape);
        let (matrices, all) = (elements(&list, is_matrix) as f64, elements(&list, |_| true) as f64);
        let bytes = |dtype| counts::weight_bytes(&spec, &shape, dtype).0;
        assert_eq!(bytes(DType::F32), 4.0 * all);
        assert_eq!(bytes(DType::Bf16), 2.0 * all);
        assert_eq!(bytes(DType::Fp8), matrices + 2.0 * (all - matrices));
        assert_eq!(bytes(DType::Int8), bytes(DType::Fp8));
    }
}

/// Bytes in the safetensors index of openPangu-Embedded-7B, less the F32 `inv_freq` buffers (34 x 64).
#[test]
fn openpangu_7b_weighs_what_its_index_says() {
    let spec = spec("openpangu-embedded-7b");
    let bytes = counts::weight_bytes(&spec, &spec.architecture, DType::Bf16).0;
    assert_eq!(bytes, 16_061_784_576.0 - 34.0 * 64.0 * 4.0);
}

#[test]
fn devices_share_matrices_and_replicate_the_rest() {
    let spec = spec("qwen3-32b");
    let shape = &spec.architecture;
    let p = counts::parameters(&spec, shape);
    let device = |tp| counts::weight_bytes_on_device(&spec, shape, DType::Bf16, tp).0 / 2.0;
    let replicated = (p.layers.norms + p.final_norm) as f64;
    let shared = p.total() as f64 - replicated;
    for tp in [1, 2, 4, 8] {
        assert_eq!(device(tp), shared / tp as f64 + replicated, "tp {tp}");
    }
    // 8 KV heads on 16 devices: each holds one, so k and v weigh as much as on 8.
    let kv = (64 * 2 * 8 * 128 * 5120) as f64;
    assert_eq!(device(16), (shared - kv) / 16.0 + kv / 8.0 + replicated);
}

#[test]
fn kv_cache_per_token() {
    let shape = spec("llama-3.1-8b").architecture;
    assert_eq!(counts::kv_bytes_per_token(&shape, DType::Bf16).0, 131_072.0);
    assert_eq!(counts::kv_bytes_per_token(&shape, DType::Fp8).0, 65_536.0);
    let on_device = |tp| counts::kv_bytes_per_token_on_device(&shape, DType::Bf16, tp).0;
    assert_eq!([1, 2, 4, 8, 16].map(on_device), [131_072.0, 65_536.0, 32_768.0, 16_384.0, 16_384.0]);
    assert_eq!(counts::kv_bytes_per_token(&spec("qwen2.5-72b").architecture, DType::Bf16).0, 327_680.0);
}

/// Every query token of every head against every key it sees, one by one.
fn attention_flops_slowly(spec: &ModelSpec, shape: &Architecture, queries: std::ops::Range<u64>) -> f64 {
    let mut multiply_adds = 0;
    for (layer, heads) in (0..).zip(shape.layer_shapes().map(|l| l.q_heads)) {
        for query in queries.clone() {
            let seen = (0..=query).filter(|key| spec.window(layer).is_none_or(|w| query - key < w)).count();
            multiply_adds += 2 * heads * shape.head_dim * seen as u64;
        }
    }
    2.0 * multiply_adds as f64
}

#[test]
fn flops_and_kv_cache_respect_windows() {
    let mut spec = spec("qwen3-0.6b");
    spec.window_pattern = vec![Some(5), Some(5), None];
    let shape = Architecture::uniform(7, 64, 96, 4, 2, 16);
    let p = counts::parameters(&spec, &shape);
    let per_token = 2.0 * p.layer_matrices() as f64;
    let head = 2.0 * (spec.vocab_size * 64) as f64;
    for tokens in [1, 4, 5, 6, 23] {
        let slow = attention_flops_slowly(&spec, &shape, 0..tokens);
        let fast = counts::prefill_flops(&spec, &shape, tokens).0;
        assert_eq!(fast, slow + per_token * tokens as f64 + head, "{tokens} tokens");
        let slow = attention_flops_slowly(&spec, &shape, tokens - 1..tokens);
        assert_eq!(counts::decode_flops(&spec, &shape, tokens).0, slow + per_token + head, "kv {tokens}");
        let kept: u64 = (0..7).map(|l| spec.window(l).map_or(tokens, |w| tokens.min(w))).sum();
        let kv = counts::kv_bytes_on_device(&spec, &shape, tokens, DType::Bf16, 1).0;
        assert_eq!(kv, (kept * 2 * 2 * 16 * 2) as f64);
    }
}
