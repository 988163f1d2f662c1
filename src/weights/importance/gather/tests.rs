//! The collector against direct evaluation, in double precision and with plain loops.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::model::spec::{ModelSpec, NormLayout};
use crate::weights::importance::fields::{Numbers, fields};
use crate::weights::importance::gather::{Collector, GatherError};
use crate::weights::importance::statistics::{Channels, LayerSums, NormSums, Sums};
use crate::weights::network::forward::{embed, final_normed, forward_layer};
use crate::weights::network::layer::{Attention, Ends, Ffn, Layer, Linear};
use crate::weights::network::probe::{Probe, Site};
use crate::weights::network::room::Room;
use crate::weights::network::settings::Settings;
use crate::weights::network::source::Resident;

const HIDDEN: usize = 24;
const HEAD_DIM: usize = 8;
const SKIP: usize = 2;

fn spec(sandwich: bool) -> ModelSpec {
    let class = if sandwich { "PanguEmbeddedForCausalLM" } else { "LlamaForCausalLM" };
    let config = json!({
        "architectures": [class], "hidden_size": HIDDEN, "num_hidden_layers": 3, "intermediate_size": 40,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": HEAD_DIM, "vocab_size": 50,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-9, "tie_word_embeddings": false,
        "sandwich_norm": sandwich, "bias": false, "attention_bias": false, "rope_theta": 1e4,
    });
    ModelSpec::from_config_json(&config.to_string(), "test", "test").unwrap()
}

fn model(sandwich: bool) -> (ModelSpec, Resident) {
    let spec = spec(sandwich);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut vector = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-0.6..0.8)).collect() };
    let mut layer = || {
        let mut linear =
            |outputs, inputs| Linear { outputs, inputs, weight: vector(outputs * inputs), bias: None };
        let (q, k, v, o) = (linear(32, HIDDEN), linear(16, HIDDEN), linear(16, HIDDEN), linear(HIDDEN, 32));
        let (gate, up, down) = (linear(40, HIDDEN), linear(40, HIDDEN), linear(HIDDEN, 40));
        let mut gain = || vector(HIDDEN);
        let (norm, post_norm) = (gain(), sandwich.then(&mut gain));
        let attention = Attention { norm, q, k, v, q_norm: None, k_norm: None, o, post_norm };
        let (norm, post_norm) = (gain(), sandwich.then(&mut gain));
        Layer { attention: Some(attention), ffn: Some(Ffn { norm, gate, up, down, post_norm }) }
    };
    let layers = vec![layer(), layer(), layer()];
    let ends = Ends { embedding: vector(50 * HIDDEN), final_norm: vector(HIDDEN), head: None };
    let settings = Settings::of(&spec).unwrap();
    (spec, Resident { settings, layers, ends })
}

/// What was seen at each site of one sequence, as rows of f64.
#[derive(Default)]
struct Recorder(std::collections::BTreeMap<(usize, Site), Vec<Vec<f64>>>);

fn rows(values: &[f32], width: usize) -> Vec<Vec<f64>> {
    values.chunks(width).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
}

impl Probe for Recorder {
    fn see(&mut self, layer: usize, site: Site, values: &[f32], width: usize) {
        self.0.insert((layer, site), rows(values, width));
    }
}

/// Runs whole sequences; gives the stream that leaves and the last norm's output.
fn forward(
    model: &Resident,
    sequences: &[Vec<u32>],
    probe: &mut dyn Probe,
    mut before: impl FnMut(&mut dyn Probe, usize),
) -> (Vec<f32>, Vec<f32>) {
    let (mut stream, mut normed, mut room) = (Vec::new(), Vec::new(), Room::default());
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    embed(&model.ends, &model.settings, &sequences.concat(), &mut stream).unwrap();
    for (index, layer) in model.layers.iter().enumerate() {
        before(probe, index);
        forward_layer(layer, &model.settings, index, &lengths, &mut stream, &mut room, probe).unwrap();
    }
    final_normed(&model.ends, &model.settings, &stream, &mut normed).unwrap();
    (stream, normed)
}

fn gathered(spec: &ModelSpec, model: &Resident, batches: &[&[Vec<u32>]]) -> Sums {
    let sandwich = spec.norms == NormLayout::Sandwich;
    let zeros = Sums::zeros(&spec.architecture, sandwich, true);
    let mut collector = Collector::new(zeros, &spec.architecture, SKIP);
    for batch in batches {
        let lengths: Vec<usize> = batch.iter().map(Vec::len).collect();
        collector.begin_batch(&lengths).unwrap();
        let (mut stream, mut normed, mut room) = (Vec::new(), Vec::new(), Room::default());
        embed(&model.ends, &model.settings, &batch.concat(), &mut stream).unwrap();
        for (index, layer) in model.layers.iter().enumerate() {
            collector.prepare(index, layer).unwrap();
            forward_layer(layer, &model.settings, index, &lengths, &mut stream, &mut room, &mut collector)
                .unwrap();
        }
        final_normed(&model.ends, &model.settings, &stream, &mut normed).unwrap();
        collector.see_final(&stream, &normed);
        collector.end_batch().unwrap();
    }
    collector.into_sums()
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn mean_squared(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    (values.iter().sum::<f64>() / values.len() as f64).powi(2)
}

fn add_channels(sums: &mut Channels, rows: &[Vec<f64>]) {
    for channel in 0..sums.sum.len() {
        let column = || rows.iter().map(|row| row[channel]);
        sums.mean_abs_squared[channel] += mean_squared(column().map(f64::abs));
        sums.sum[channel] += column().sum::<f64>();
        sums.sum_squares[channel] += column().map(|x| x * x).sum::<f64>();
    }
}

fn add_norm(sums: &mut NormSums, stream: &[Vec<f64>], normed: &[Vec<f64>]) {
    add_channels(&mut sums.output, normed);
    for row in stream {
        for (energy, x) in sums.energy.iter_mut().zip(row) {
            *energy += x * x / norm(row).powi(2);
        }
    }
}

fn add_gram(gram: &mut [f32], rows: &[Vec<f64>]) {
    let width = rows[0].len();
    for row in rows {
        for i in 0..width {
            for j in 0..width {
                gram[i * width + j] += (row[i] * row[j]) as f32;
            }
        }
    }
}

/// What the heads `channels` of a row add, `|gain W a|`, by forming it.
fn contribution(attention: &Attention, row: &[f64], channels: std::ops::Range<usize>, divisor: f64) -> f64 {
    let added = (0..HIDDEN).map(|out| {
        let sum: f64 = channels.clone().map(|c| f64::from(attention.o.weight[out * 32 + c]) * row[c]).sum();
        sum * attention.post_norm.as_ref().map_or(1.0, |gain| f64::from(gain[out])) / divisor
    });
    added.map(|x| x * x).sum::<f64>().sqrt()
}

fn add_post_norm(
    sums: &mut crate::weights::importance::statistics::PostNormSums,
    rows: &[Vec<f64>],
    gain: &[f32],
) {
    for row in rows {
        let r = norm(row) / (HIDDEN as f64).sqrt();
        let gained: f64 = row.iter().zip(gain).map(|(x, g)| (x * f64::from(*g)).powi(2)).sum();
        sums.rms += r;
        sums.rms_squared += r * r;
        sums.gained_by_rms += gained / r;
        sums.gained += gained;
    }
}

fn add_layer(sums: &mut LayerSums, layer: &Layer, at: impl Fn(Site) -> Vec<Vec<f64>>) {
    let counted = |site| at(site)[SKIP..].to_vec();
    let (attention, ffn) = (layer.attention.as_ref().unwrap(), layer.ffn.as_ref().unwrap());
    add_norm(&mut sums.attention_norm, &counted(Site::LayerInput), &counted(Site::AttentionNorm));
    add_norm(&mut sums.ffn_norm, &counted(Site::MiddleStream), &counted(Site::FfnNorm));
    let outputs = counted(Site::HeadOutputs);
    add_channels(&mut sums.head_outputs, &outputs);
    add_channels(&mut sums.ffn_hidden, &counted(Site::FfnHidden));
    let after = counted(Site::AttentionOutput);
    let divisor = |token: usize| match attention.post_norm {
        Some(_) => norm(&after[token]) / (HIDDEN as f64).sqrt(),
        None => 1.0,
    };
    let tokens = 0..outputs.len();
    for head in 0..4 {
        let own = head * HEAD_DIM..(head + 1) * HEAD_DIM;
        sums.heads[head] += mean_squared(outputs.iter().map(|row| norm(&row[own.clone()])));
        let of = |token: usize| contribution(attention, &outputs[token], own.clone(), divisor(token));
        sums.head_contributions[head] += mean_squared(tokens.clone().map(of));
    }
    for group in 0..2 {
        let own = group * 2 * HEAD_DIM..(group + 1) * 2 * HEAD_DIM;
        let of = |token: usize| contribution(attention, &outputs[token], own.clone(), divisor(token));
        sums.group_contributions[group] += mean_squared(tokens.clone().map(of));
    }
    let (entered, left) = (counted(Site::LayerInput), counted(Site::LayerOutput));
    sums.first_token_norm += norm(&at(Site::LayerInput)[0]);
    for (a, b) in entered.iter().zip(&left) {
        sums.stream_norm += norm(a);
        sums.cosine += a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / norm(a) / norm(b);
    }
    if let (Some(sums), Some(gain)) = (&mut sums.attention_post_norm, &attention.post_norm) {
        add_post_norm(sums, &after, gain);
    }
    if let (Some(sums), Some(gain)) = (&mut sums.ffn_post_norm, &ffn.post_norm) {
        add_post_norm(sums, &counted(Site::FfnOutput), gain);
    }
    let grams = sums.grams.as_mut().unwrap();
    add_gram(&mut grams.attention_norm, &counted(Site::AttentionNorm));
    add_gram(&mut grams.head_outputs, &outputs);
    add_gram(&mut grams.ffn_norm, &counted(Site::FfnNorm));
    add_gram(&mut grams.ffn_hidden, &counted(Site::FfnHidden));
}

fn direct(spec: &ModelSpec, model: &Resident, samples: &[Vec<u32>]) -> Sums {
    let mut sums = Sums::zeros(&spec.architecture, spec.norms == NormLayout::Sandwich, true);
    for sample in samples {
        let mut recorder = Recorder::default();
        let (stream, normed) = forward(model, std::slice::from_ref(sample), &mut recorder, |_, _| {});
        for (index, layer) in model.layers.iter().enumerate() {
            add_layer(&mut sums.layers[index], layer, |site| recorder.0[&(index, site)].clone());
        }
        add_norm(&mut sums.final_norm, &rows(&stream, HIDDEN)[SKIP..], &rows(&normed, HIDDEN)[SKIP..]);
        let counted = sample.len() - SKIP;
        sums.samples += 1;
        sums.tokens += counted as u64;
        let looked_at = counted.div_ceil(64);
        sums.angular_tokens += looked_at as u64;
        for token in (0..looked_at).map(|i| SKIP + (2 * i + 1) * counted / (2 * looked_at)) {
            let boundary = |b: usize| match b {
                3 => recorder.0[&(2, Site::LayerOutput)][token].clone(),
                b => recorder.0[&(b, Site::LayerInput)][token].clone(),
            };
            for (from, to) in (0..4).flat_map(|from| (from + 1..4).map(move |to| (from, to))) {
                let (a, b) = (boundary(from), boundary(to));
                let cosine = a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>() / norm(&a) / norm(&b);
                sums.angular[from * 4 + to] += cosine.acos() / std::f64::consts::PI;
            }
        }
    }
    sums
}

fn assert_close(found: &Sums, expected: &Sums, tolerance: f64) {
    assert_eq!(
        (found.samples, found.tokens, found.angular_tokens),
        (expected.samples, expected.tokens, expected.angular_tokens)
    );
    for ((name, found), (_, expected)) in fields(found).into_iter().zip(fields(expected)) {
        let wide = |numbers: Numbers| -> Vec<f64> {
            match numbers {
                Numbers::F64(values) => values.to_vec(),
                Numbers::F32(values) => values.iter().map(|x| f64::from(*x)).collect(),
            }
        };
        let (found, expected) = (wide(found), wide(expected));
        let scale = expected.iter().fold(0.0f64, |most, x| most.max(x.abs())).max(1e-30);
        for (element, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert!((a - b).abs() <= tolerance * scale, "{name}[{element}]: {a} {b}");
        }
    }
}

fn samples() -> Vec<Vec<u32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    [70, 3, 31, 128, 5].map(|len| (0..len).map(|_| rng.random_range(0..50)).collect()).to_vec()
}

#[test]
fn sums_are_those_of_a_direct_evaluation() {
    for sandwich in [false, true] {
        let (spec, model) = model(sandwich);
        let samples = samples();
        let expected = direct(&spec, &model, &samples);
        assert!(expected.layers[1].head_contributions.iter().all(|x| *x > 0.0));
        assert_close(&gathered(&spec, &model, &[&samples]), &expected, 1e-5);
    }
}

#[test]
fn neither_batches_nor_threads_matter() {
    for sandwich in [false, true] {
        let (spec, model) = model(sandwich);
        let samples = samples();
        let whole = gathered(&spec, &model, &[&samples]);
        assert_close(&gathered(&spec, &model, &[&samples[..2], &samples[2..3], &samples[3..]]), &whole, 1e-6);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| gathered(&spec, &model, &[&samples])), whole, "{threads} threads");
        }
    }
}

#[test]
fn what_cannot_be_counted_is_refused() {
    let (spec, model) = model(true);
    let zeros = Sums::zeros(&spec.architecture, true, false);
    let mut collector = Collector::new(zeros, &spec.architecture, SKIP);
    let short = collector.begin_batch(&[5, 2]).unwrap_err();
    assert_eq!(short, GatherError::TooShort { sample: 1, tokens: 2, skip_first: 2 });

    collector.begin_batch(&[4]).unwrap();
    collector.see(0, Site::FfnHidden, &[0.0; 7], 7);
    assert!(matches!(collector.end_batch(), Err(GatherError::Size { layer: 0, found: 7, .. })));

    collector.begin_batch(&[4]).unwrap();
    collector.prepare(0, &model.layers[0]).unwrap();
    collector.see(0, Site::LayerInput, &[f32::INFINITY; 4 * HIDDEN], HIDDEN);
    let error = collector.end_batch().unwrap_err();
    assert_eq!(error, GatherError::NotFinite { layer: 0, field: "the stream" });
}
