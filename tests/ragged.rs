//! Surgery to layers of unlike shapes, against the parent itself with what was cut away set to zero.

mod tiny;

use std::path::Path;

use archplan::model::architecture::{Architecture, LayerShape};
use archplan::model::counts;
use archplan::model::spec::Family;
use archplan::model::tensors::{ModelTensor, Role};
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::checkpoint::writer::SHARD_LIMIT;
use archplan::weights::surgery::child;
use archplan::weights::surgery::choice::error::ChoiceError;
use archplan::weights::surgery::cut::{Cut, LayerCut};
use archplan::weights::surgery::directory::{self, Provenance};
use archplan::weights::surgery::error::SurgeryError;
use archplan::weights::surgery::operation::Operation;
use archplan::weights::surgery::options::{AbsorbPostNorm, DepthMethod, Options, Repair};
use archplan::weights::surgery::planning::{self, Planned};
use serde_json::{Value, json};

/// Head size of the tiny models.
const HEAD: usize = 8;

/// Sets every weight of the parent to zero through which a dropped head, neuron or part reaches the stream.
fn without(cut: &Cut) -> impl FnMut(&ModelTensor, &mut Vec<f32>) {
    move |tensor, values| {
        let Some(of) = tensor.layer else { return };
        let kept: Vec<usize> = match (cut.layers.iter().find(|layer| layer.parent == of), tensor.role) {
            (Some(layer), Role::O) => {
                let heads = layer.groups.iter().flat_map(|group| &group.q_heads);
                heads.flat_map(|head| *head as usize * HEAD..(*head as usize + 1) * HEAD).collect()
            }
            (Some(layer), Role::Down) => layer.ffn.iter().map(|neuron| *neuron as usize).collect(),
            (None, Role::O | Role::Down) => Vec::new(),
            (layer, Role::OBias | Role::DownBias) => {
                let absent = |layer: &LayerCut| match tensor.role {
                    Role::OBias => layer.groups.is_empty(),
                    _ => layer.ffn.is_empty(),
                };
                if layer.is_none_or(absent) {
                    values.fill(0.0);
                }
                return;
            }
            _ => return,
        };
        let width = tensor.shape[1] as usize;
        for (i, x) in values.iter_mut().enumerate() {
            if !kept.contains(&(i % width)) {
                *x = 0.0;
            }
        }
    }
}

/// Six layers: whole; without attention; without FFN; without either; narrower in all; dropped.
fn ragged(cut: &mut Cut) {
    cut.layers[1].groups.clear();
    cut.layers[2].ffn.clear();
    cut.layers[3].groups.clear();
    cut.layers[3].ffn.clear();
    cut.layers[4].ffn = vec![0, 3, 4, 9, 20];
    cut.layers[4].groups.remove(0);
    cut.layers.pop();
    cut.layers[4].dropped = vec![5];
}

fn perform(parent: &Path, out: &Path, cut: &Cut, options: &Options, samples: &[Vec<u32>]) {
    let parent = Checkpoint::open(parent).unwrap();
    cut.check(parent.spec()).unwrap();
    let child = child::spec(parent.spec(), cut, false).unwrap();
    let planned = Planned { cut: cut.clone(), child, absorbed: false, sites: Vec::new() };
    let operation = Operation { parent: &parent, planned: &planned, options, sums: None, samples };
    directory::write(&operation, out, SHARD_LIMIT, Provenance::default(), &mut |_| ()).unwrap();
}

fn six_layers(config: Value) -> Value {
    tiny::with(config, json!({"num_hidden_layers": 6}))
}

fn cut_of(parent: &Path, edit: impl FnOnce(&mut Cut)) -> Cut {
    let mut cut = Cut::identity(Checkpoint::open(parent).unwrap().spec());
    edit(&mut cut);
    cut
}

#[test]
fn what_is_cut_away_is_as_if_it_were_zero() {
    let biased = tiny::with(tiny::llama(), json!({"attention_bias": true, "mlp_bias": true}));
    // In a layer of unlike heads the query heads differ: blocks cannot say that. Post-norms divide by what is left.
    for (config, heads, family) in [
        (tiny::llama(), 4, Family::NemotronNas),
        (biased, 4, Family::NemotronNas),
        (tiny::llama(), 2, Family::Llama),
        (tiny::qwen3(), 2, Family::Qwen3),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        let config = six_layers(config);
        tiny::write(&path("parent"), &config, 31, |_, _| ());
        let cut = cut_of(&path("parent"), |cut| {
            ragged(cut);
            if heads == 4 {
                cut.layers[4].groups =
                    Cut::identity(Checkpoint::open(&path("parent")).unwrap().spec()).layers[4].groups.clone();
            }
        });
        perform(&path("parent"), &path("child"), &cut, &Options::default(), &[]);
        tiny::write(&path("zeroed"), &config, 31, without(&cut));
        let child = Checkpoint::open(&path("child")).unwrap();
        let spec = child.spec();
        assert_eq!(spec.family, family);
        assert_eq!(spec.architecture, cut.architecture(HEAD as u64));
        let stored: usize =
            child.names().map(|name| child.tensor(name).unwrap().shape.iter().product::<usize>()).sum();
        assert_eq!(stored as u64, counts::parameters(spec, &spec.architecture).total());
        assert!(child.names().all(|name| !name.starts_with("model.layers.3.")));
        let tokens = tiny::sequences(40, 3, 17, 32);
        let (ours, theirs) =
            (tiny::logits_of(&path("child"), &tokens), tiny::logits_of(&path("zeroed"), &tokens));
        let apart = tiny::apart(&ours, &theirs);
        assert!(apart < 2e-5, "{} {heads}: {apart}", config["model_type"]);
        let changed = tiny::apart(&ours, &tiny::logits_of(&path("parent"), &tokens));
        assert!(changed > 0.05, "the cut does nothing: {changed}");
    }
}

fn shape(ffn: u64, q_heads: u64, kv_heads: u64) -> LayerShape {
    LayerShape { ffn, q_heads, kv_heads }
}

#[test]
fn whole_parts_go_without_statistics_and_the_layers_are_those_listed() {
    let scratch = tempfile::tempdir().unwrap();
    tiny::write(&scratch.path().join("parent"), &tiny::llama(), 1, |_, _| ());
    let parent = Checkpoint::open(&scratch.path().join("parent")).unwrap();
    let target = |shapes: &[LayerShape]| Architecture::of_layers(16, 8, shapes.to_vec());
    let [whole, no_attention, no_ffn] = [shape(24, 4, 2), shape(24, 0, 0), shape(0, 4, 2)];
    let off = Options { clap: false, absorb: AbsorbPostNorm::Off, ..Options::default() };
    let same_depth = target(&[whole, no_attention, no_ffn, whole]);
    let planned = planning::plan(&parent, &same_depth, &off, None).unwrap();
    assert_eq!(planned.child.architecture, same_depth);
    let shallow = target(&[no_ffn, no_attention]);
    let listed = off.clone().keeping(&[1, 3], 4).unwrap();
    assert_eq!(listed.depth, DepthMethod::Layers(vec![0, 2]));
    let planned = planning::plan(&parent, &shallow, &listed, None).unwrap();
    let parents: Vec<u64> = planned.cut.layers.iter().map(|layer| layer.parent).collect();
    assert_eq!(parents, [1, 3]);
    let narrow = target(&[whole, shape(20, 4, 2), whole, whole]);
    let error = planning::plan(&parent, &narrow, &off, None).unwrap_err();
    assert!(matches!(error, SurgeryError::NoImportance { step: "a cut in width" }), "{error}");
    let other = Options { depth: DepthMethod::Layers(vec![1]), ..off };
    let error = other.keeping(&[0, 1, 2], 4).unwrap_err().to_string();
    assert!(error.contains("drops layers 1") && error.contains("leaves out 3"), "{error}");
}

#[test]
fn which_layers_an_uneven_target_stands_for_must_be_said() {
    let scratch = tempfile::tempdir().unwrap();
    tiny::write(&scratch.path().join("parent"), &tiny::llama(), 1, |_, _| ());
    let parent = Checkpoint::open(&scratch.path().join("parent")).unwrap();
    let sums =
        archplan::weights::importance::statistics::Sums::zeros(&parent.spec().architecture, false, false);
    let target = Architecture::of_layers(16, 8, vec![shape(24, 4, 2), shape(12, 2, 1), shape(0, 4, 2)]);
    let plan = |options: &Options| planning::plan(&parent, &target, options, Some(&sums));
    let error = plan(&Options::default()).unwrap_err();
    let unknown = ChoiceError::UnknownParents { target: 3, depth: 4 };
    assert!(matches!(&error, SurgeryError::Choice(found) if *found == unknown), "{error}");
    let listed = Options::default().keeping(&[0, 1, 3], 4).unwrap();
    let planned = plan(&listed).unwrap();
    assert_eq!(planned.child.architecture, target);
    assert_eq!(planned.cut.layers[1].dropped, [2]);
}

#[test]
fn a_repair_brings_an_uneven_child_nearer() {
    for config in [tiny::llama(), tiny::pangu()] {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        tiny::write(&path("parent"), &six_layers(config), 33, |_, _| ());
        let cut = cut_of(&path("parent"), ragged);
        let samples = tiny::sequences(40, 60, 24, 34);
        let tokens = tiny::sequences(40, 6, 24, 35);
        let parent = tiny::logits_of(&path("parent"), &tokens);
        let mut errors = Vec::new();
        for repair in [Repair::None, Repair::Affine, Repair::LeastSquares] {
            let options = Options { repair, ..Options::default() };
            let name = repair.to_string();
            perform(&path("parent"), &path(&name), &cut, &options, &samples);
            let child = tiny::logits_of(&path(&name), &tokens);
            errors.push(parent.iter().zip(&child).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>());
        }
        let [none, affine, full] = errors[..] else { panic!() };
        assert!(affine < none && full < affine, "{none} {affine} {full}");
    }
}

#[test]
fn an_uneven_checkpoint_is_a_parent_as_others_are() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    tiny::write(&path("parent"), &six_layers(tiny::llama()), 36, |_, _| ());
    let first = cut_of(&path("parent"), ragged);
    perform(&path("parent"), &path("child"), &first, &Options::default(), &[]);
    // Of the child the layer without anything goes, and the attention of the one before it.
    let second = |cut: &mut Cut| {
        cut.layers.remove(3);
        cut.layers[2].groups.clear();
        cut.layers[2].dropped = vec![3];
    };
    let cut = cut_of(&path("child"), second);
    perform(&path("child"), &path("grandchild"), &cut, &Options::default(), &[]);
    // The same at once.
    let at_once = cut_of(&path("parent"), |cut| {
        ragged(cut);
        second(cut);
    });
    perform(&path("parent"), &path("at-once"), &at_once, &Options::default(), &[]);
    let tokens = tiny::sequences(40, 3, 17, 37);
    assert_eq!(tiny::logits_of(&path("grandchild"), &tokens), tiny::logits_of(&path("at-once"), &tokens));
}
