//! Masks against the parent with zeros in it, and walks against all masks there are.

use std::path::Path;

use crate::model::architecture::Architecture;
use crate::quality::scores::TextRecord;
use crate::search::solver::masks::{Baseline, Options, Walk};
use crate::weights::importance::criteria::Criterion;
use crate::weights::masks::error::MasksError;
use crate::weights::masks::file::{FORMAT, Header, MaskFile};
use crate::weights::masks::layout::{Kept, Layout, Scope};
use crate::weights::masks::losses::{Job, sums};
use crate::weights::network::evaluation::{self, evaluate};
use crate::weights::network::layer::Linear;
use crate::weights::network::source::Resident;
use crate::weights::network::tiny_model as model;
use crate::weights::surgery::choice::scores::{LayerScores, Scores};

/// Shape of the tiny models of the network's tests.
fn shape() -> Architecture {
    Architecture::uniform(3, 24, 40, 4, 2, 8)
}

fn scores() -> Scores {
    let layer = |layer: u64| LayerScores {
        ffn: (0..40).map(|neuron| ((neuron * 7 + layer * 3) % 40) as f64).collect(),
        heads: vec![1.0; 4],
        groups: vec![layer as f64, 1.0],
    };
    Scores { layers: (0..3).map(layer).collect(), ..Scores::default() }
}

fn samples() -> Vec<Vec<u32>> {
    (0..6u32).map(|sample| (0..9).map(|at| (sample * 17 + at * at * 5 + 3 * at) % 50).collect()).collect()
}

fn zero_columns(linear: &mut Linear, kept: impl Fn(usize) -> bool) {
    let inputs = linear.inputs;
    linear.weight.iter_mut().enumerate().filter(|(at, _)| !kept(at % inputs)).for_each(|(_, w)| *w = 0.0);
}

fn loss(sums: &[evaluation::compare::SampleSums]) -> f64 {
    sums.iter().map(|s| s.nll).sum::<f64>() / sums.iter().map(|s| s.tokens).sum::<f64>()
}

fn options(steps: u64) -> Options {
    Options { steps, masks: 2, rate: 0.05, baseline: Baseline::Others, seed: 5 }
}

#[test]
fn a_masked_model_is_the_model_with_zeros() {
    // Llama with biases, Qwen3 with QK-norm, Pangu with post-norms, Gemma with windows.
    for which in [0, 4, 5, 6] {
        let parent = model(which);
        let mut zeroed: Resident = parent.clone();
        let mut mask = Vec::new();
        for (index, layer) in zeroed.layers.iter_mut().enumerate() {
            let neurons: Vec<u32> = (0..40).filter(|n| !(n + index as u32).is_multiple_of(3)).collect();
            let groups: Vec<u32> = if index == 1 { vec![0, 1] } else { vec![1] };
            let (attention, ffn) = (layer.attention.as_mut().unwrap(), layer.ffn.as_mut().unwrap());
            zero_columns(&mut attention.o, |column| groups.contains(&(column as u32 / 16)));
            zero_columns(&mut ffn.down, |column| neurons.contains(&(column as u32)));
            mask.push(Kept { neurons, groups });
        }
        let samples = samples();
        let texts: Vec<&[u32]> = samples.iter().map(Vec::as_slice).collect();
        let found = loss(&sums(&parent, &[mask], &texts).unwrap()[0]);
        let expected =
            evaluate(&zeroed, None, &samples, evaluation::Options::default(), &mut |_| {}).unwrap();
        assert!((found - expected.nll.mean).abs() < 1e-6, "{which}: {found} {}", expected.nll.mean);
    }
}

#[test]
fn a_part_of_which_nothing_is_kept_adds_nothing() {
    let parent = model(1);
    let mut without = parent.clone();
    without.layers[0].attention = None;
    without.layers[2].ffn = None;
    let all = Kept { neurons: (0..40).collect(), groups: vec![0, 1] };
    let masks =
        vec![Kept { groups: vec![], ..all.clone() }, all.clone(), Kept { neurons: vec![], ..all.clone() }];
    let samples = samples();
    let texts: Vec<&[u32]> = samples.iter().map(Vec::as_slice).collect();
    let both = sums(&parent, &[masks, vec![all; 3]], &texts).unwrap();
    let run = |model: &Resident| {
        evaluate(model, None, &samples, evaluation::Options::default(), &mut |_| {}).unwrap().nll.mean
    };
    assert!((loss(&both[0]) - run(&without)).abs() < 1e-6);
    assert!((loss(&both[1]) - run(&parent)).abs() < 1e-9);
}

#[test]
fn units_are_runs_of_neurons_in_their_order() {
    let layout = Layout::new(&shape(), &scores(), 10, 20, Scope::Model).unwrap();
    let target = Architecture::uniform(3, 24, 20, 2, 1, 8);
    let pools = layout.pools(&shape(), &target).unwrap();
    assert_eq!(pools.iter().map(|p| (p.units, p.keep)).collect::<Vec<_>>(), [(12, 6), (6, 3)]);
    // Layer 1 has the likeliest unit, but two halves of layer 0 and of layer 2 are likelier together.
    let mut keep = vec![0.0; 18];
    keep[..12].copy_from_slice(&[0.8, 0.7, 0.1, 0.0, 0.9, 0.0, 0.3, 0.2, 0.6, 0.6, 0.5, 0.5]);
    keep[12..].copy_from_slice(&[0.9, 0.8, 0.1, 0.2, 0.0, 0.7]);
    let mask = layout.found(&keep, &pools);
    let kept = layout.kept(&mask);
    assert_eq!(kept.iter().map(|k| k.neurons.len()).collect::<Vec<_>>(), [20, 20, 20]);
    assert_eq!(kept.iter().map(|k| k.groups.clone()).collect::<Vec<_>>(), [vec![0, 1], vec![], vec![1]]);
    let likelier = layout.found(&[&[0.8, 0.7, 0.1, 0.0, 0.9, 0.0, 0.05, 0.0], &keep[8..]].concat(), &pools);
    assert_eq!(
        layout.shape(&shape(), &likelier).layer_shapes().map(|s| s.ffn).collect::<Vec<_>>(),
        [20, 0, 40]
    );
    let best: Vec<u32> = scores().layers[0]
        .ffn
        .iter()
        .enumerate()
        .filter(|(_, s)| **s >= 20.0)
        .map(|(i, _)| i as u32)
        .collect();
    assert_eq!(kept[0].neurons, best);
}

#[test]
fn a_layer_keeps_its_target_where_layers_do_not_compete() {
    let layout = Layout::new(&shape(), &scores(), 1, 1, Scope::Layer).unwrap();
    let target = Architecture::uniform(3, 24, 17, 2, 1, 8);
    let pools = layout.pools(&shape(), &target).unwrap();
    let walk = Walk::new(pools.clone(), &layout.scores(&scores()), options(3)).unwrap();
    let mask = layout.found(&walk.keep, &pools);
    assert_eq!(mask, walk.found());
    assert_eq!(
        layout.shape(&shape(), &mask),
        Architecture::of_layers(24, 8, target.layer_shapes().collect())
    );
}

#[test]
fn what_no_mask_can_be_is_refused() {
    let new = |unit, multiple, scope| Layout::new(&shape(), &scores(), unit, multiple, scope);
    assert!(matches!(new(3, 3, Scope::Layer), Err(MasksError::Multiple { found: 40, of: 3, .. })));
    assert!(matches!(new(4, 10, Scope::Model), Err(MasksError::Multiple { found: 10, of: 4, .. })));
    assert!(matches!(new(0, 0, Scope::Model), Err(MasksError::Multiple { of: 0, .. })));
    let layout = new(4, 8, Scope::Model).unwrap();
    for (target, what) in [
        (Architecture::uniform(2, 24, 40, 4, 2, 8), "layers"),
        (Architecture::uniform(3, 16, 40, 4, 2, 8), "hidden size"),
        (Architecture::uniform(3, 24, 40, 2, 2, 8), "in layer 0 query heads per KV head"),
    ] {
        let refused = layout.pools(&shape(), &target);
        assert!(matches!(refused, Err(MasksError::Axis { what: of, .. }) if of == what));
    }
    let odd = Architecture::of_layers(
        24,
        8,
        [36, 40, 40]
            .map(|ffn| crate::model::architecture::LayerShape { ffn, q_heads: 4, kv_heads: 2 })
            .to_vec(),
    );
    assert!(matches!(layout.pools(&shape(), &odd), Err(MasksError::Multiple { found: 116, of: 8, .. })));
}

/// A walk over half of the FFN and half of the KV groups of a tiny model.
fn walked(parent: &Resident, steps: u64, mut each: impl FnMut(Walk) -> Walk) -> (Layout, Walk) {
    let layout = Layout::new(&shape(), &scores(), 20, 20, Scope::Model).unwrap();
    // Three of six blocks of 20 neurons, three of six groups.
    let target = Architecture::of_layers(
        24,
        8,
        [(20, 1), (20, 1), (20, 1)]
            .map(|(ffn, kv)| crate::model::architecture::LayerShape { ffn, q_heads: 2 * kv, kv_heads: kv })
            .to_vec(),
    );
    let pools = layout.pools(&shape(), &target).unwrap();
    let mut walk = Walk::new(pools, &layout.scores(&scores()), options(steps)).unwrap();
    let samples = samples();
    let job = Job { parent, samples: &samples, batch: 6, layout: &layout };
    while !walk.is_done() {
        job.step(&mut walk).unwrap();
        walk = each(walk);
    }
    (layout, walk)
}

#[test]
fn a_walk_comes_near_the_best_of_all_masks_of_a_model() {
    let parent = model(4);
    let (layout, walk) = walked(&parent, 300, |walk| walk);
    let half = |bits: &u32| bits.count_ones() == 3;
    let masks = (0..64u32).filter(half).flat_map(|ffn| (0..64u32).filter(half).map(move |kv| ffn | kv << 6));
    let masks: Vec<Vec<bool>> =
        masks.map(|bits| (0..12).map(|unit| bits >> unit & 1 == 1).collect()).collect();
    let samples = samples();
    let texts: Vec<&[u32]> = samples.iter().map(Vec::as_slice).collect();
    let kept: Vec<Vec<Kept>> = masks.iter().map(|mask| layout.kept(mask)).collect();
    let losses: Vec<f64> = sums(&parent, &kept, &texts).unwrap().iter().map(|sums| loss(sums)).collect();
    let rank = |mask: &[bool]| {
        let at = masks.iter().position(|other| other == mask).unwrap();
        losses.iter().filter(|loss| **loss < losses[at]).count()
    };
    let begun = Walk::new(walk.pools.clone(), &layout.scores(&scores()), walk.options).unwrap();
    let (begun, found) = (rank(&begun.found()), rank(&layout.found(&walk.keep, &walk.pools)));
    println!("begun {begun} found {found} of {}", masks.len());
    assert!(found <= 20 && begun > 40, "{found} {begun} of {}", masks.len());
}

fn file(layout: &Layout, walk: Walk) -> MaskFile {
    let data = TextRecord { path: "text.jsonl".into(), sha256: "00".into(), samples: 6, seq_len: 9 };
    let header = Header {
        format: FORMAT,
        made_by: "archplan".into(),
        fingerprint: "abc".into(),
        parent: shape(),
        target: Architecture::uniform(3, 24, 20, 2, 1, 8),
        importance_sha256: "11".into(),
        criterion: Criterion::Fasp,
        data,
        batch: 6,
    };
    MaskFile { header, tokens_run: 0, layout: layout.clone(), walk }
}

#[test]
fn a_search_goes_on_from_its_file() {
    let parent = model(4);
    let (layout, whole) = walked(&parent, 12, |walk| walk);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.json");
    let (_, kept) = walked(&parent, 12, |walk| {
        file(&layout, walk).write(&path).unwrap();
        MaskFile::from_bytes(&std::fs::read(&path).unwrap(), &path).unwrap().walk
    });
    assert_eq!(kept, whole);
    let (mine, mut other) = (file(&layout, whole.clone()), file(&layout, whole));
    assert!(mine.same(&other, &path).is_ok());
    other.walk.options.seed += 1;
    assert!(matches!(mine.same(&other, &path), Err(MasksError::Other { what: "the walk", .. })));
    other.header.fingerprint = "def".into();
    assert!(matches!(mine.same(&other, &path), Err(MasksError::Other { what: "the parent", .. })));
}

#[test]
fn what_was_found_is_what_the_surgery_keeps() {
    let (layout, walk) = walked(&model(4), 5, |walk| walk);
    let file = file(&layout, walk);
    let mut ranked = scores();
    file.rank("abc", Path::new("mask.json"), &mut ranked).unwrap();
    let kept = layout.kept(&file.mask());
    for ((layer, kept), shape) in ranked.layers.iter().zip(&kept).zip(file.shape().layer_shapes()) {
        assert_eq!(crate::weights::importance::rankings::top(&layer.ffn, shape.ffn as usize), kept.neurons);
        assert_eq!(
            crate::weights::importance::rankings::top(&layer.groups, shape.kv_heads as usize),
            kept.groups
        );
    }
    let refused = file.rank("def", Path::new("mask.json"), &mut ranked);
    assert!(matches!(refused, Err(MasksError::Other { what: "the parent", .. })));
}

#[test]
fn a_damaged_file_is_refused() {
    let (layout, walk) = walked(&model(4), 2, |walk| walk);
    let path = Path::new("mask.json");
    let whole = serde_json::to_value(file(&layout, walk)).unwrap();
    let read = |value: &serde_json::Value| MaskFile::from_bytes(value.to_string().as_bytes(), path);
    assert!(read(&whole).is_ok());
    for (place, value) in [
        ("/header/format", serde_json::json!(2)),
        ("/layout/unit", serde_json::json!(0)),
        ("/layout/unit", serde_json::json!(10)),
        ("/layout/order/0/0", serde_json::json!(39)),
        ("/layout/groups/0", serde_json::json!(3)),
        ("/walk/keep/0", serde_json::json!(1.5)),
        ("/walk/keep", serde_json::json!([0.5])),
        ("/walk/pools/0/keep", serde_json::json!(4)),
        ("/walk/pools/0/first", serde_json::json!(usize::MAX)),
        ("/walk/options/masks", serde_json::json!(1)),
        ("/header/target/hidden", serde_json::json!(16)),
    ] {
        let mut other = whole.clone();
        *other.pointer_mut(place).unwrap() = value;
        assert!(matches!(read(&other), Err(MasksError::File { .. })), "{place}");
    }
    let text = whole.to_string();
    for cut in (0..text.len()).step_by(97) {
        assert!(MaskFile::from_bytes(&text.as_bytes()[..cut], path).is_err());
    }
}
