//! Files of statistics, merging, and criteria against direct evaluation.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::model::architecture::Architecture;
use crate::weights::importance::criteria::{self, Criterion};
use crate::weights::importance::error::StatisticsError;
use crate::weights::importance::fields::{NumbersMut, fields_mut};
use crate::weights::importance::file::Importance;
use crate::weights::importance::header::{DataIdentity, Header, ModelIdentity, part_range};
use crate::weights::importance::merge::merge;
use crate::weights::importance::statistics::{Channels, LayerSums, Sums};
use crate::weights::network::layer::{Attention, Ffn, Linear};

const SAMPLES: u64 = 7;

fn header(part: u64, of: u64) -> Header {
    Header {
        made_by: "archplan test".into(),
        model: ModelIdentity {
            fingerprint: "abc".into(),
            architecture: Architecture::uniform(2, 4, 6, 4, 2, 2),
            sandwich: true,
        },
        data: DataIdentity { path: "text.jsonl".into(), sha256: "d".into() },
        tokenizer_sha256: "t".into(),
        seq_len: 9,
        skip_first: 1,
        samples: SAMPLES,
        shards: of,
        parts: vec![part],
        grams: true,
    }
}

fn part(index: u64, of: u64, seed: u64) -> Importance {
    let header = header(index, of);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut sums = Sums::zeros(&header.model.architecture, true, true);
    for (_, numbers) in fields_mut(&mut sums) {
        match numbers {
            NumbersMut::F64(values) => values.iter_mut().for_each(|x| *x = rng.random()),
            NumbersMut::F32(values) => values.iter_mut().for_each(|x| *x = rng.random()),
        }
    }
    let range = part_range(index, of, SAMPLES);
    sums.samples = range.end - range.start;
    sums.tokens = 8 * sums.samples;
    sums.angular_tokens = sums.samples;
    Importance { header, sums }
}

fn refusal(bytes: &[u8]) -> String {
    Importance::from_bytes(bytes, Path::new("s.safetensors")).unwrap_err().to_string()
}

#[test]
fn a_file_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stats.safetensors");
    let written = part(0, 1, 1);
    written.save(&path).unwrap();
    assert_eq!(Importance::load(&path).unwrap(), written);
    assert_eq!(written.to_bytes(&path).unwrap(), std::fs::read(&path).unwrap());
    assert!(written.check_model("abc", &written.header.model.architecture, true).is_ok());
    let other = written.check_model("abd", &written.header.model.architecture, true).unwrap_err();
    assert_eq!(other.what, "model fingerprint");
    let wide = Architecture::uniform(2, 8, 6, 4, 2, 2);
    assert_eq!(written.check_model("abc", &wide, true).unwrap_err().what, "model shape");
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let path = Path::new("s.safetensors");
    let good = part(0, 1, 1);
    assert!(matches!(Importance::load(Path::new("/no/such")), Err(StatisticsError::Io { .. })));
    let bytes = good.to_bytes(path).unwrap();
    assert!(refusal(&bytes[..bytes.len() - 9]).contains("not a safetensors file"));
    assert!(refusal(b"").contains("not a safetensors file"));

    let mut nan = good.clone();
    nan.sums.layers[1].cosine = f64::NAN;
    assert!(nan.to_bytes(path).unwrap_err().to_string().contains("layers.1.cosine holds NaN at element 0"));
    let mut damaged = bytes.clone();
    let at = damaged.len() - 4;
    damaged[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(refusal(&damaged).contains("grams.head_outputs holds NaN at element 63"));

    let mut short = good.clone();
    short.header.samples += 1;
    let bytes = short.to_bytes(path).unwrap();
    assert!(Importance::from_bytes(&bytes, path).is_ok(), "a run that is not finished can go on");
    let folder = tempfile::tempdir().unwrap();
    short.save(&folder.path().join("x")).unwrap();
    let error = Importance::load(&folder.path().join("x")).unwrap_err();
    assert!(matches!(error, StatisticsError::Unfinished { done: 7, expected: 8, .. }));

    let mut wide = good.clone();
    wide.header.model.architecture = Architecture::uniform(2, 8, 6, 4, 2, 2);
    assert!(wide.to_bytes(path).is_err());
}

fn with_header(edit: impl Fn(String) -> String) -> String {
    let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::F64, vec![1], &[0; 8]).unwrap();
    let bytes = part(0, 1, 1).to_bytes(Path::new("x")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let text = metadata.metadata().as_ref().unwrap()["archplan_statistics"].clone();
    let map = [("archplan_statistics".to_string(), edit(text))].into_iter().collect();
    refusal(&safetensors::serialize([("layers.0.cosine", tensor)], Some(map)).unwrap())
}

#[test]
fn headers_are_read_strictly() {
    let replaced = |from: &'static str, to: &'static str| with_header(move |text| text.replacen(from, to, 1));
    assert!(replaced("\"format\":1", "\"format\":2").contains("format 2: expected 1"));
    assert!(replaced("\"format\":1,", "").contains("format null: expected 1"));
    assert!(replaced("{", "[").contains("header"));
    assert!(replaced("\"seq_len\"", "\"sequence\"").contains("unknown field"));
    assert!(replaced("\"skip_first\":1", "\"skip_first\":9").contains("seq_len 9"));
    assert!(replaced("\"parts\":[0]", "\"parts\":[]").contains("parts []"));
    assert!(replaced("\"parts\":[0]", "\"parts\":[1]").contains("parts [1] of 1"));
    assert!(replaced("\"samples\":7", "\"samples\":0").contains("1 parts of 0"));
    assert!(replaced("\"hidden\":4", "\"hidden\":1048576").contains("tensor layers.1.cosine is missing"));
    assert!(replaced("\"count\":2", "\"count\":0").contains("no layers"));
}

#[test]
fn parts_add_up_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let at = |index: u64| folder.path().join(format!("part-{index}"));
    for index in 0..3 {
        part(index, 3, index).save(&at(index)).unwrap();
    }
    let merged = merge(&[at(0), at(1), at(2)], false).unwrap();
    let again = merge(&[at(2), at(0), at(1)], false).unwrap();
    assert_eq!(merged, again);
    assert_eq!((merged.header.parts.as_slice(), merged.sums.samples), ([0, 1, 2].as_slice(), SAMPLES));
    let cosine: f64 = (0..3).map(|index| part(index, 3, index).sums.layers[1].cosine).sum();
    assert!((merged.sums.layers[1].cosine - cosine).abs() < 1e-12);

    let missing = merge(&[at(0), at(2)], false).unwrap_err();
    assert!(matches!(&missing, StatisticsError::MissingParts { missing, shards: 3 } if missing == &[1]));
    let partial = merge(&[at(0), at(2)], true).unwrap();
    assert_eq!(partial.header.parts, [0, 2]);
    partial.save(&at(10)).unwrap();
    assert_eq!(merge(&[at(1), at(10)], false).unwrap().header.parts, [0, 1, 2]);
    let twice = merge(&[at(1), at(0), at(10)], false).unwrap_err();
    assert!(matches!(twice, StatisticsError::Overlap { part: 0, .. }));
    assert!(matches!(merge(&[], false), Err(StatisticsError::NoParts)));
}

#[test]
fn parts_of_different_runs_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    part(0, 2, 0).save(&path("0")).unwrap();
    type Edit = (&'static str, fn(&mut Header));
    let edits: [Edit; 6] = [
        ("model fingerprint", |h| h.model.fingerprint = "other".into()),
        ("data", |h| h.data.sha256 = "other".into()),
        ("tokenizer", |h| h.tokenizer_sha256 = "other".into()),
        ("version", |h| h.made_by = "other".into()),
        ("seq_len", |h| h.seq_len = 10),
        ("skip_first", |h| h.skip_first = 0),
    ];
    for (name, edit) in edits {
        let mut second = part(1, 2, 1);
        edit(&mut second.header);
        second.save(&path("1")).unwrap();
        let error = merge(&[path("0"), path("1")], false).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("differs"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_never_panic(changes in prop::collection::vec((0.0..1.0f64, any::<u8>()), 1..6), cut in 0.5..1.0f64) {
        let path = Path::new("x");
        let mut bytes = part(0, 1, 1).to_bytes(path).unwrap();
        // Most changes go into the header: the numbers are the longer part.
        for (index, (at, byte)) in changes.into_iter().enumerate() {
            let span = if index % 2 == 0 { 1200 } else { bytes.len() };
            let at = (at * span as f64) as usize;
            bytes[at] = byte;
        }
        if cut < 0.6 {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }
        if let Ok(read) = Importance::from_bytes(&bytes, path) {
            prop_assert!(read.to_bytes(path).is_ok());
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Importance::from_bytes(&bytes, Path::new("x")).is_err());
    }
}

/// A random layer and its inputs `[tokens][channels]`, with sums of those inputs.
struct Case {
    ffn: Ffn,
    attention: Attention,
    sums: LayerSums,
    neurons: Vec<Vec<f64>>,
    channels: Vec<Vec<f64>>,
}

const TOKENS: usize = 13;
const HEAD_DIM: usize = 2;

fn case() -> Case {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (hidden, ffn, q, kv) = (4, 6, 8, 4);
    let mut linear = |outputs, inputs| Linear {
        outputs,
        inputs,
        weight: (0..outputs * inputs).map(|_| rng.random_range(-1.0..1.0)).collect(),
        bias: None,
    };
    let norm = vec![1.0; hidden];
    let attention = Attention {
        norm: norm.clone(),
        q: linear(q, hidden),
        k: linear(kv, hidden),
        v: linear(kv, hidden),
        q_norm: None,
        k_norm: None,
        o: linear(hidden, q),
        post_norm: None,
    };
    let block = Ffn {
        norm,
        gate: linear(ffn, hidden),
        up: linear(ffn, hidden),
        down: linear(hidden, ffn),
        post_norm: None,
    };
    let mut inputs = |width: usize| -> Vec<Vec<f64>> {
        (0..TOKENS).map(|_| (0..width).map(|c| rng.random_range(-1.0..1.0 + c as f64)).collect()).collect()
    };
    let (neurons, channels) = (inputs(ffn), inputs(q));
    let sums =
        LayerSums { ffn_hidden: sums_of(&neurons), head_outputs: sums_of(&channels), ..LayerSums::default() };
    Case { ffn: block, attention, sums, neurons, channels }
}

fn column(inputs: &[Vec<f64>], channel: usize) -> Vec<f64> {
    inputs.iter().map(|row| row[channel]).collect()
}

fn sums_of(inputs: &[Vec<f64>]) -> Channels {
    let width = inputs[0].len();
    let over = |of: &dyn Fn(f64) -> f64| -> Vec<f64> {
        (0..width).map(|c| column(inputs, c).into_iter().map(of).sum()).collect()
    };
    Channels {
        mean_abs_squared: over(&f64::abs).iter().map(|x| (x / TOKENS as f64).powi(2)).collect(),
        sum: over(&|x| x),
        sum_squares: over(&|x| x * x),
    }
}

fn weight(linear: &Linear, row: usize, column: usize) -> f64 {
    f64::from(linear.weight[row * linear.inputs + column])
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-10 * b.abs().max(1.0), "{found:?} {expected:?}");
    }
}

/// `Var(x_j) |W_:j|^2`, the variance by two passes, standardised by two passes.
fn direct_flap(linear: &Linear, inputs: &[Vec<f64>]) -> Vec<f64> {
    let n = TOKENS as f64;
    let raw: Vec<f64> = (0..linear.inputs)
        .map(|j| {
            let x = column(inputs, j);
            let mean = x.iter().sum::<f64>() / n;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            variance * (0..linear.outputs).map(|i| weight(linear, i, j).powi(2)).sum::<f64>()
        })
        .collect();
    let mean = raw.iter().sum::<f64>() / raw.len() as f64;
    let spread = raw.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (raw.len() - 1) as f64;
    raw.iter().map(|x| (x - mean) / spread.sqrt()).collect()
}

fn direct_fasp(linear: &Linear, inputs: &[Vec<f64>]) -> Vec<f64> {
    let score = |j: usize| {
        let norm = column(inputs, j).iter().map(|x| x * x).sum::<f64>().sqrt();
        (0..linear.outputs).map(|i| weight(linear, i, j).abs() * norm).sum()
    };
    (0..linear.inputs).map(score).collect()
}

#[test]
fn criteria_of_neurons_are_their_formulas() {
    let Case { ffn, sums, neurons, .. } = case();
    let scores = |criterion| criteria::neurons(criterion, &sums, TOKENS as u64, &ffn);
    let minitron: Vec<f64> =
        (0..6).map(|j| column(&neurons, j).iter().map(|x| x.abs()).sum::<f64>() / TOKENS as f64).collect();
    assert_close(&scores(Criterion::Minitron), &minitron);
    assert_close(&scores(Criterion::Fasp), &direct_fasp(&ffn.down, &neurons));
    assert_close(&scores(Criterion::Flap), &direct_flap(&ffn.down, &neurons));
    let magnitude: Vec<f64> = (0..6)
        .map(|j| {
            let rows = (0..4).map(|i| weight(&ffn.gate, j, i).powi(2) + weight(&ffn.up, j, i).powi(2));
            let columns = (0..4).map(|i| weight(&ffn.down, i, j).powi(2));
            rows.chain(columns).sum::<f64>().sqrt()
        })
        .collect();
    assert_close(&scores(Criterion::Magnitude), &magnitude);
}

#[test]
fn criteria_of_heads_are_their_formulas() {
    let Case { attention, sums, channels, .. } = case();
    let scores = |criterion| criteria::heads(criterion, &sums, TOKENS as u64, &attention, HEAD_DIM);
    let pooled =
        |channels: Vec<f64>| -> Vec<f64> { channels.chunks(2).map(|pair| pair[0] + pair[1]).collect() };
    assert_close(&scores(Criterion::Fasp), &pooled(direct_fasp(&attention.o, &channels)));
    let flap: Vec<f64> = pooled(direct_flap(&attention.o, &channels)).iter().map(|x| x / 2.0).collect();
    assert_close(&scores(Criterion::Flap), &flap);
    let magnitude: Vec<f64> = (0..4)
        .map(|head| {
            let own = [2 * head, 2 * head + 1];
            let squares = own.iter().flat_map(|c| {
                (0..4).map(|i| weight(&attention.o, i, *c).powi(2) + weight(&attention.q, *c, i).powi(2))
            });
            squares.sum::<f64>().sqrt()
        })
        .collect();
    assert_close(&scores(Criterion::Magnitude), &magnitude);
}
