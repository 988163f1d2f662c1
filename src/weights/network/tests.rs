//! The decoder against a plain one in double precision, written with loops from the families' formulas.

use std::convert::Infallible;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::compute::activation::Activation;
use crate::model::spec::ModelSpec;
use crate::model::tensors::{self, ModelTensor, Role};
use crate::weights::checkpoint::tensor::Tensor;
use crate::weights::network::forward::{embed, final_normed, forward_layer, logits};
use crate::weights::network::layer::{Attention, Ends, Ffn, Layer, Linear};
use crate::weights::network::load::{LoadError, ends_from, layer_from};
use crate::weights::network::probe::{Blind, Probe, Site};
use crate::weights::network::room::Room;
use crate::weights::network::settings::{Settings, SettingsError};
use crate::weights::network::source::Resident;

/// A tiny model of each family with its own quirks.
fn configs() -> Vec<Value> {
    let base = |class: &str, more: Value| {
        let mut config = json!({
            "architectures": [class], "hidden_size": 24, "num_hidden_layers": 3, "intermediate_size": 40,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 50,
            "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "tie_word_embeddings": false
        });
        let (Value::Object(config), Value::Object(more)) = (&mut config, more) else { unreachable!() };
        config.extend(more);
        Value::Object(config.clone())
    };
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32});
    vec![
        base(
            "LlamaForCausalLM",
            json!({"rope_theta": 500.0, "rope_scaling": llama3, "mlp_bias": true,
            "attention_bias": true}),
        ),
        base("LlamaForCausalLM", json!({"rope_scaling": {"type": "linear", "factor": 4.0}})),
        base(
            "MistralForCausalLM",
            json!({"sliding_window": null, "hidden_act": "gelu",
            "tie_word_embeddings": true}),
        ),
        base("Qwen2ForCausalLM", json!({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}})),
        base(
            "Qwen3ForCausalLM",
            json!({"rope_parameters": {"rope_theta": 1e3, "rope_type": "yarn", "factor": 4.0,
            "original_max_position_embeddings": 16}}),
        ),
        base("PanguEmbeddedForCausalLM", json!({"bias": true, "sandwich_norm": true, "rope_theta": 16e6})),
        base(
            "Gemma2ForCausalLM",
            json!({"sliding_window": 5, "query_pre_attn_scalar": 11,
            "attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0}),
        ),
        base(
            "Gemma3ForCausalLM",
            json!({"sliding_window": 4, "sliding_window_pattern": 2, "rope_theta": 1e5,
            "rope_local_base_freq": 100.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
        ),
    ]
}

fn spec(config: &Value) -> ModelSpec {
    ModelSpec::from_config_json(&config.to_string(), "test", "test").unwrap()
}

fn tensor(tensor: &ModelTensor) -> Tensor<'static> {
    let shape: Vec<usize> = tensor.shape.iter().map(|n| *n as usize).collect();
    let seed = tensor.name.bytes().fold(7u64, |seed, b| seed.wrapping_mul(31).wrapping_add(u64::from(b)));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|_| rng.random_range(-0.6..0.8)).collect();
    Tensor::from_f32(&tensor.name, Dtype::F32, &shape, &values).unwrap()
}

fn fetch(all: Vec<ModelTensor>) -> impl FnMut(Role) -> Result<Option<Tensor<'static>>, Infallible> {
    move |role| Ok(all.iter().find(|t| t.role == role).map(tensor))
}

fn load(spec: &ModelSpec, settings: &Settings) -> (Ends, Vec<Layer>) {
    let ends = [Role::Embedding, Role::FinalNorm, Role::LmHead];
    let ends = ends.into_iter().filter_map(|role| tensors::end(spec, role)).collect();
    let layer = |i| layer_from(fetch(tensors::layer(spec, i)), settings, i).unwrap();
    let layers = (0..spec.architecture.depth()).map(layer).collect();
    (ends_from(fetch(ends), settings).unwrap(), layers)
}

/// A tiny model in memory, of one of the test's configurations.
pub(crate) fn model(which: usize) -> Resident {
    let spec = spec(&configs()[which]);
    let settings = Settings::of(&spec).unwrap();
    let (ends, layers) = load(&spec, &settings);
    Resident { settings, layers, ends }
}

/// The same model as a checkpoint.
pub(super) fn directory(which: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), configs()[which].to_string()).unwrap();
    let all: Vec<Tensor<'static>> = tensors::all(&spec(&configs()[which])).iter().map(tensor).collect();
    let view = |t: &'static Tensor<'static>| TensorView::new(t.dtype, t.shape.clone(), &t.data).unwrap();
    let all: &'static [Tensor<'static>] = all.leak();
    let views = all.iter().map(|t| (t.name.clone(), view(t)));
    safetensors::serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    folder
}

/// Its logits in double precision.
pub(super) fn plain_logits(which: usize, tokens: &[u32]) -> Vec<Vec<f64>> {
    let model = model(which);
    Plain { config: &configs()[which], settings: &model.settings }.logits(&model.ends, &model.layers, tokens)
}

type Rows = Vec<Vec<f64>>;

/// The same model in double precision, one sequence at a time.
struct Plain<'a> {
    config: &'a Value,
    settings: &'a Settings,
}

impl Plain<'_> {
    fn is(&self, class: &str) -> bool {
        self.config["architectures"][0].as_str().unwrap().starts_with(class)
    }

    fn norm(&self, x: &[f64], gain: &[f32]) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        x.iter().zip(gain).map(|(x, g)| x / (mean + 1e-5).sqrt() * f64::from(*g)).collect()
    }

    fn linear(&self, linear: &Linear, x: &[f64]) -> Vec<f64> {
        let row = |o: usize| {
            let weights = &linear.weight[o * linear.inputs..(o + 1) * linear.inputs];
            let product: f64 = weights.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
            product + linear.bias.as_ref().map_or(0.0, |b| f64::from(b[o]))
        };
        (0..linear.outputs).map(row).collect()
    }

    /// Angle per token of pair `i` and the factor on cosines, written out per test model.
    fn angle(&self, layer: usize, i: usize) -> (f64, f64) {
        let power = |base: f64| base.powf(-(2.0 * i as f64) / 8.0);
        let scaling = self.config["rope_scaling"]["rope_type"].as_str();
        if self.is("Gemma3") {
            return (if layer.is_multiple_of(2) { power(100.0) } else { power(1e5) / 8.0 }, 1.0);
        }
        if scaling == Some("llama3") {
            let turns = 32.0 * power(500.0) / std::f64::consts::TAU;
            let blend = ((turns - 1.0) / 3.0).clamp(0.0, 1.0);
            return (power(500.0) * (blend + (1.0 - blend) / 8.0), 1.0);
        }
        if self.config["rope_scaling"]["type"].as_str() == Some("linear") {
            return (power(1e4) / 4.0, 1.0);
        }
        if self.is("Qwen3") {
            let pair = |turns: f64| 8.0 * (16.0 / (turns * std::f64::consts::TAU)).ln() / (2.0 * 1e3f64.ln());
            let (low, high) = (pair(32.0).floor().max(0.0), pair(1.0).ceil().min(7.0));
            let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            return (power(1e3) * (ramp / 4.0 + 1.0 - ramp), 0.1 * 4f64.ln() + 1.0);
        }
        (
            if self.is("Qwen2") {
                power(1e6)
            } else if self.is("Pangu") {
                power(16e6)
            } else {
                power(1e4)
            },
            1.0,
        )
    }

    fn turn(&self, layer: usize, position: usize, head: &[f64]) -> Vec<f64> {
        let pair = |i: usize| {
            let (angle, factor) = self.angle(layer, i % 4);
            let (sin, cos) = (angle * position as f64).sin_cos();
            let sign = if i < 4 { -1.0 } else { 1.0 };
            factor * (head[i] * cos + sign * head[(i + 4) % 8] * sin)
        };
        (0..8).map(pair).collect()
    }

    fn heads(&self, attention: &Attention, layer: usize, normed: &Rows) -> Rows {
        let head = |linear: &Linear, gain: &Option<Vec<f32>>, t: usize, h: usize| {
            let head = self.linear(linear, &normed[t])[h * 8..(h + 1) * 8].to_vec();
            let head = gain.as_ref().map_or(head.clone(), |gain| self.norm(&head, gain));
            self.turn(layer, t, &head)
        };
        let scale = if self.is("Gemma2") {
            1.0 / 11f64.sqrt()
        } else if self.is("Gemma3") {
            1.0 / 16.0
        } else {
            1.0 / 8f64.sqrt()
        };
        let window = match layer % 2 {
            0 if self.is("Gemma2") => 5,
            0 if self.is("Gemma3") => 4,
            _ => usize::MAX,
        };
        let group = attention.q.outputs / attention.k.outputs;
        let one = |t: usize, h: usize| {
            let q = head(&attention.q, &attention.q_norm, t, h);
            let seen: Vec<usize> = (0..=t).filter(|s| t - s < window).collect();
            let score = |s: &usize| {
                let k = head(&attention.k, &attention.k_norm, *s, h / group);
                let score = scale * q.iter().zip(&k).map(|(a, b)| a * b).sum::<f64>();
                if self.is("Gemma2") { 3.0 * (score / 3.0).tanh() } else { score }
            };
            let weights: Vec<f64> = seen.iter().map(|s| score(s).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let values: Rows = seen.iter().map(|s| self.linear(&attention.v, &normed[*s])).collect();
            let channel = |i: usize| {
                let pairs = weights.iter().zip(&values);
                pairs.map(|(w, v)| w * v[h / group * 8 + i]).sum::<f64>() / sum
            };
            (0..8).map(channel).collect::<Vec<f64>>()
        };
        let heads = attention.q.outputs / 8;
        (0..normed.len()).map(|t| (0..heads).flat_map(|h| one(t, h)).collect()).collect()
    }

    fn hidden(&self, ffn: &Ffn, normed: &[f64]) -> Vec<f64> {
        let act = |x: f64| match self.settings.activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        };
        let (gate, up) = (self.linear(&ffn.gate, normed), self.linear(&ffn.up, normed));
        gate.into_iter().zip(up).map(|(g, u)| act(g) * u).collect()
    }

    fn logits(&self, ends: &Ends, layers: &[Layer], tokens: &[u32]) -> Rows {
        let hidden = self.settings.hidden;
        let factor = if self.is("Gemma") { (hidden as f64).sqrt() } else { 1.0 };
        let row = |table: &[f32], i: usize| {
            table[i * hidden..(i + 1) * hidden].iter().map(|x| f64::from(*x)).collect::<Vec<f64>>()
        };
        let embedded = |t: &u32| row(&ends.embedding, *t as usize).iter().map(|x| x * factor).collect();
        let mut stream: Rows = tokens.iter().map(embedded).collect();
        let add = |stream: &mut Rows, updates: Rows, post: &Option<Vec<f32>>| {
            for (x, update) in stream.iter_mut().zip(updates) {
                let update = post.as_ref().map_or(update.clone(), |gain| self.norm(&update, gain));
                x.iter_mut().zip(update).for_each(|(x, u)| *x += u);
            }
        };
        for (index, layer) in layers.iter().enumerate() {
            if let Some(attention) = &layer.attention {
                let normed: Rows = stream.iter().map(|x| self.norm(x, &attention.norm)).collect();
                let heads = self.heads(attention, index, &normed);
                let update = heads.iter().map(|x| self.linear(&attention.o, x)).collect();
                add(&mut stream, update, &attention.post_norm);
            }
            if let Some(ffn) = &layer.ffn {
                let normed = stream.iter().map(|x| self.norm(x, &ffn.norm));
                let update = normed.map(|x| self.linear(&ffn.down, &self.hidden(ffn, &x))).collect();
                add(&mut stream, update, &ffn.post_norm);
            }
        }
        let head = ends.head.as_ref().unwrap_or(&ends.embedding);
        let product = |x: &[f64], v: usize| -> f64 { row(head, v).iter().zip(x).map(|(a, b)| a * b).sum() };
        let cap = |x: f64| if self.is("Gemma2") { 2.0 * (x / 2.0).tanh() } else { x };
        let out = stream.iter().map(|x| self.norm(x, &ends.final_norm));
        out.map(|x| (0..self.settings.vocabulary).map(|v| cap(product(&x, v))).collect()).collect()
    }
}

/// By its series.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..300 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

fn sequences() -> Vec<Vec<u32>> {
    [1usize, 13, 2, 70].iter().map(|len| (0..*len).map(|i| (i * i * 7 + len) as u32 % 50).collect()).collect()
}

fn run(ends: &Ends, layers: &[Layer], settings: &Settings, probe: &mut dyn Probe) -> Vec<f32> {
    let sequences = sequences();
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let (mut stream, mut normed, mut out, mut room) = (Vec::new(), Vec::new(), Vec::new(), Room::default());
    embed(ends, settings, &sequences.concat(), &mut stream).unwrap();
    for (index, layer) in layers.iter().enumerate() {
        forward_layer(layer, settings, index, &lengths, &mut stream, &mut room, probe).unwrap();
    }
    final_normed(ends, settings, &stream, &mut normed).unwrap();
    logits(ends, settings, &normed, &mut out).unwrap();
    out
}

#[test]
fn logits_agree_with_double_precision_in_every_family() {
    for config in configs() {
        let spec = spec(&config);
        let settings = Settings::of(&spec).unwrap();
        let (ends, layers) = load(&spec, &settings);
        let found = run(&ends, &layers, &settings, &mut Blind);
        let plain = Plain { config: &config, settings: &settings };
        let exact: Rows = sequences().iter().flat_map(|s| plain.logits(&ends, &layers, s)).collect();
        assert_eq!(found.len(), exact.len() * 50);
        let worst =
            found.iter().zip(exact.concat()).map(|(f, e)| (f64::from(*f) - e).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-4, "{}: {worst}", config["architectures"][0]);
    }
}

#[test]
fn layers_may_lack_a_part_and_differ_in_heads_and_width() {
    let config = &configs()[4];
    let spec = spec(config);
    let settings = Settings::of(&spec).unwrap();
    let (ends, mut layers) = load(&spec, &settings);
    layers[0].attention = None;
    layers[1].ffn = None;
    let attention = layers[2].attention.as_mut().unwrap();
    attention.q.outputs = 16;
    attention.q.weight.truncate(16 * 24);
    attention.o.weight = attention.o.weight.chunks(32).flat_map(|row| row[..16].to_vec()).collect();
    attention.o.inputs = 16;
    let found = run(&ends, &layers, &settings, &mut Blind);
    let plain = Plain { config, settings: &settings };
    let exact: Vec<f64> =
        sequences().iter().flat_map(|s| plain.logits(&ends, &layers, s)).flatten().collect();
    assert!(found.iter().zip(exact).all(|(f, e)| (f64::from(*f) - e).abs() < 1e-4));
}

#[test]
fn threads_do_not_change_a_bit() {
    let spec = spec(&configs()[7]);
    let settings = Settings::of(&spec).unwrap();
    let (ends, layers) = load(&spec, &settings);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&ends, &layers, &settings, &mut Blind))
    };
    assert!(with(1) == with(3));
}

#[test]
fn a_probe_sees_every_site_in_order() {
    #[derive(Default)]
    struct Seen(Vec<(usize, Site, usize, usize)>);
    impl Probe for Seen {
        fn see(&mut self, layer: usize, site: Site, values: &[f32], width: usize) {
            self.0.push((layer, site, values.len(), width));
        }
    }
    let spec = spec(&configs()[5]);
    let settings = Settings::of(&spec).unwrap();
    let (ends, layers) = load(&spec, &settings);
    let mut seen = Seen::default();
    run(&ends, &layers[..1], &settings, &mut seen);
    use Site::*;
    let expected = [
        (LayerInput, 24),
        (AttentionNorm, 24),
        (HeadOutputs, 32),
        (AttentionOutput, 24),
        (MiddleStream, 24),
        (FfnNorm, 24),
        (FfnHidden, 40),
        (FfnOutput, 24),
        (LayerOutput, 24),
    ];
    assert_eq!(seen.0, expected.map(|(site, width)| (0, site, 86 * width, width)));
}

#[test]
fn bad_weights_are_refused_by_name() {
    let spec = spec(&configs()[0]);
    let settings = Settings::of(&spec).unwrap();
    let change = |role: Role, change: fn(&mut Tensor<'static>)| {
        let mut fetch = fetch(tensors::layer(&spec, 1));
        layer_from(
            |asked| {
                let mut tensor = fetch(asked)?;
                if asked == role
                    && let Some(tensor) = &mut tensor
                {
                    change(tensor);
                }
                Ok::<_, Infallible>(tensor)
            },
            &settings,
            1,
        )
        .unwrap_err()
    };
    let error = change(Role::Up, |tensor| tensor.shape = vec![24, 40]);
    assert_eq!(
        error.to_string(),
        "tensor model.layers.1.mlp.up_proj.weight is of shape [24, 40], expected [40, 24]"
    );
    let error = change(Role::O, |tensor| tensor.data.to_mut()[4..8].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert!(matches!(error, LoadError::Tensor(_)) && error.to_string().contains("o_proj.weight holds NaN"));
    let mut whole = fetch(tensors::layer(&spec, 1));
    let lacking =
        |role| if role == Role::FfnNorm { Ok::<_, Infallible>(None) } else { Ok(whole(role).unwrap()) };
    let error = layer_from(lacking, &settings, 1).unwrap_err();
    assert_eq!(error, LoadError::Missing { place: "layer 1".into(), role: Role::FfnNorm });
}

#[test]
fn settings_that_cannot_be_run_are_refused_by_name() {
    let with = |which: usize, key: &str, value: Value| {
        let mut config = configs()[which].clone();
        config[key] = value;
        Settings::of(&spec(&config)).unwrap_err()
    };
    let error = with(1, "hidden_act", json!("relu2"));
    assert!(matches!(error, SettingsError::Activation { ref found, .. } if found == "relu2"));
    let error = with(1, "rope_scaling", json!({"rope_type": "longrope", "factor": 4.0}));
    assert!(matches!(error, SettingsError::RotaryScaling { ref found, .. } if found == "longrope"));
    assert!(matches!(with(1, "rope_scaling", json!({"rope_type": "linear"})), SettingsError::Rotary { .. }));
    assert!(matches!(with(1, "rms_norm_eps", json!("x")), SettingsError::Number { .. }));
    assert!(matches!(with(1, "partial_rotary_factor", json!(0.5)), SettingsError::Rotary { .. }));
}
