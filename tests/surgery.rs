//! The surgery, on tiny models for which the right answer is known.

mod tiny;

use std::collections::BTreeMap;
use std::path::Path;

use archplan::model::counts;
use archplan::model::tensors::Role;
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::checkpoint::writer::SHARD_LIMIT;
use archplan::weights::importance::statistics::{LayerSums, PostNormSums, Sums};
use archplan::weights::network::source::Resident;
use archplan::weights::surgery::child;
use archplan::weights::surgery::cut::Cut;
use archplan::weights::surgery::directory::{self, Provenance};
use archplan::weights::surgery::operation::Operation;
use archplan::weights::surgery::options::{NormInit, Options, Repair};
use archplan::weights::surgery::planning::{self, Planned};
use archplan::weights::surgery::trial;
use serde_json::json;

fn options(norm: NormInit, repair: Repair) -> Options {
    Options { norm, repair, ..Options::default() }
}

/// Prunes with a given cut.
fn prune(parent: &Path, out: &Path, cut: impl FnOnce(&mut Cut), options: &Options, samples: &[Vec<u32>]) {
    let parent = Checkpoint::open(parent).unwrap();
    let mut kept = Cut::identity(parent.spec());
    cut(&mut kept);
    kept.check(parent.spec()).unwrap();
    let child = child::spec(parent.spec(), &kept, false).unwrap();
    let planned = Planned { cut: kept, child, absorbed: false, sites: Vec::new() };
    let operation = Operation { parent: &parent, planned: &planned, options, sums: None, samples };
    let (record, _) =
        directory::write(&operation, out, SHARD_LIMIT, Provenance::default(), &mut |_| ()).unwrap();
    let child = Checkpoint::open(out).unwrap();
    let stored: usize =
        child.names().map(|name| child.tensor(name).unwrap().shape.iter().product::<usize>()).sum();
    assert_eq!(stored as u64, counts::parameters(child.spec(), &child.spec().architecture).total());
    assert_eq!(record.parameters, stored as u64);
    assert_eq!(child.spec().architecture, planned.cut.architecture(8));
}

fn bytes(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let checkpoint = Checkpoint::open(directory).unwrap();
    checkpoint
        .names()
        .map(|name| (name.to_string(), checkpoint.tensor(name).unwrap().data.to_vec()))
        .collect()
}

/// Removes the layers from 1 on whose groups then stand in layer 0.
fn merge_into_first(cut: &mut Cut, groups: &[(u64, u32)]) {
    let rest = cut.layers.split_off(1);
    let all = || rest.iter().chain(&cut.layers);
    let chosen = groups.iter().map(|(layer, kv_head)| {
        let of = all().find(|of| of.parent == *layer).unwrap();
        of.groups[*kv_head as usize].clone()
    });
    let chosen = chosen.collect();
    cut.layers[0].dropped = rest.iter().map(|layer| layer.parent).collect();
    cut.layers[0].groups = chosen;
}

#[test]
fn without_a_cut_every_tensor_keeps_its_bytes() {
    for (config, repair) in
        [(tiny::llama(), Repair::None), (tiny::pangu(), Repair::LeastSquares), (tiny::qwen3(), Repair::None)]
    {
        let scratch = tempfile::tempdir().unwrap();
        let (parent, out) = (scratch.path().join("parent"), scratch.path().join("child"));
        tiny::write(&parent, &config, 1, |_, _| ());
        prune(&parent, &out, |_| (), &options(NormInit::Slnp, repair), &[]);
        assert_eq!(bytes(&parent), bytes(&out));
    }
}

#[test]
fn channels_that_carry_nothing_are_cut_without_a_trace() {
    let scratch = tempfile::tempdir().unwrap();
    let (parent, out) = (scratch.path().join("parent"), scratch.path().join("child"));
    let dead = |channel: usize| channel % 3 == 1;
    tiny::write(&parent, &tiny::llama(), 2, |tensor, values| match tensor.role {
        Role::Embedding => {
            values.iter_mut().enumerate().filter(|(i, _)| dead(i % 16)).for_each(|(_, x)| *x = 0.0);
        }
        Role::O | Role::Down => {
            let width = values.len() / 16;
            values.iter_mut().enumerate().filter(|(i, _)| dead(i / width)).for_each(|(_, x)| *x = 0.0);
        }
        Role::AttentionNorm | Role::FfnNorm | Role::FinalNorm => values.fill(1.25),
        _ => {}
    });
    let live: Vec<u32> = (0..16).filter(|channel| !dead(*channel as usize)).collect();
    prune(&parent, &out, |cut| cut.hidden = live, &options(NormInit::Slnp, Repair::None), &[]);
    let tokens = tiny::sequences(40, 3, 11, 5);
    let apart = tiny::apart(&tiny::logits_of(&parent, &tokens), &tiny::logits_of(&out, &tokens));
    assert!(apart < 2e-5, "{apart}");
}

#[test]
fn groups_that_move_between_layers_do_there_what_they_did() {
    // Only the attention of the second layer writes; the two layers' norms differ.
    let scratch = tempfile::tempdir().unwrap();
    let (parent, out) = (scratch.path().join("parent"), scratch.path().join("child"));
    let config = tiny::with(tiny::llama(), json!({"num_hidden_layers": 2}));
    tiny::write(&parent, &config, 3, |tensor, values| match (tensor.role, tensor.layer) {
        (Role::Down, _) | (Role::O, Some(0)) => values.fill(0.0),
        _ => {}
    });
    let cut = |cut: &mut Cut| merge_into_first(cut, &[(1, 0), (1, 1)]);
    prune(&parent, &out, cut, &Options::default(), &[]);
    let tokens = tiny::sequences(40, 3, 9, 5);
    let apart = tiny::apart(&tiny::logits_of(&parent, &tokens), &tiny::logits_of(&out, &tokens));
    assert!(apart < 5e-5, "{apart}");
}

/// Operates with statistics; the child's tensors by role and layer, in f32.
fn operate(
    parent: &Path,
    sums: &Sums,
    options: &Options,
    absorbed: bool,
    cut: impl FnOnce(&mut Cut),
) -> Resident {
    let parent = Checkpoint::open(parent).unwrap();
    let mut kept = Cut::identity(parent.spec());
    cut(&mut kept);
    let child = child::spec(parent.spec(), &kept, absorbed).unwrap();
    let planned = Planned { cut: kept, child, absorbed, sites: Vec::new() };
    let operation = Operation { parent: &parent, planned: &planned, options, sums: Some(sums), samples: &[] };
    trial::in_memory(&operation).unwrap().0
}

/// Sums of one token for every layer, as `set` makes them.
fn sums(layers: usize, set: impl Fn(usize, &mut LayerSums)) -> Sums {
    let mut sums = Sums { samples: 1, tokens: 1, ..Sums::default() };
    for index in 0..layers {
        let mut of = LayerSums::default();
        set(index, &mut of);
        sums.layers.push(of);
    }
    sums
}

#[test]
fn groups_that_move_behind_another_post_norm_are_scaled_to_it() {
    let scratch = tempfile::tempdir().unwrap();
    let parent = scratch.path().join("parent");
    tiny::write(&parent, &tiny::with(tiny::pangu(), json!({"num_hidden_layers": 2})), 5, |_, _| ());
    let constants = [0.5, 2.0];
    let sums = sums(2, |index, of| {
        of.attention_post_norm =
            Some(PostNormSums { rms: 1.0, rms_squared: 1.0, gained_by_rms: constants[index], gained: 1.0 });
    });
    let cut = |cut: &mut Cut| merge_into_first(cut, &[(0, 0), (1, 1)]);
    let child = operate(&parent, &sums, &Options::default(), false, cut);
    let parent = Checkpoint::open(&parent).unwrap();
    let numbers = |role, layer| parent.get(role, Some(layer)).unwrap().unwrap().to_f32().unwrap();
    let (gains, o) =
        ([0, 1].map(|l| numbers(Role::AttentionPostNorm, l)), [0, 1].map(|l| numbers(Role::O, l)));
    let (biases, made) =
        ([0, 1].map(|l| numbers(Role::OBias, l)), child.layers[0].attention.as_ref().unwrap());
    for row in 0..16 {
        let ratio = gains[1][row] / gains[0][row] * 4.0;
        for column in 0..16 {
            assert_eq!(made.o.weight[row * 32 + column], o[0][row * 32 + column]);
            let moved = o[1][row * 32 + 16 + column] * ratio;
            assert!((made.o.weight[row * 32 + 16 + column] - moved).abs() <= 1e-5 * moved.abs());
        }
        let bias = biases[0][row] + biases[1][row] * ratio;
        assert!((made.o.bias.as_ref().unwrap()[row] - bias).abs() <= 1e-5 * bias.abs().max(0.1));
    }
}

#[test]
fn an_absorbed_post_norm_is_its_gain_times_the_constant() {
    let scratch = tempfile::tempdir().unwrap();
    let parent = scratch.path().join("parent");
    tiny::write(&parent, &tiny::pangu(), 5, |_, _| ());
    let of = PostNormSums { rms: 1.0, rms_squared: 1.0, gained_by_rms: 0.75, gained: 1.5 };
    let sums = sums(4, |_, sums| (sums.attention_post_norm, sums.ffn_post_norm) = (Some(of), Some(of)));
    let child = operate(&parent, &sums, &Options::default(), true, |_| ());
    let parent = Checkpoint::open(&parent).unwrap();
    let numbers = |role| parent.get(role, Some(2)).unwrap().unwrap().to_f32().unwrap();
    let (attention, ffn) =
        (child.layers[2].attention.as_ref().unwrap(), child.layers[2].ffn.as_ref().unwrap());
    assert!(attention.post_norm.is_none() && ffn.post_norm.is_none());
    for (gain, before, after) in [
        (Role::AttentionPostNorm, Role::O, &attention.o.weight),
        (Role::AttentionPostNorm, Role::OBias, attention.o.bias.as_ref().unwrap()),
        (Role::FfnPostNorm, Role::Down, &ffn.down.weight),
    ] {
        let (gain, before) = (numbers(gain), numbers(before));
        let width = before.len() / 16;
        for (i, (before, after)) in before.iter().zip(after).enumerate() {
            assert!((before * gain[i / width] * 0.5 - after).abs() <= 1e-6, "{before} {after}");
        }
    }
}

#[test]
fn the_bias_takes_over_the_mean_of_what_was_dropped() {
    let scratch = tempfile::tempdir().unwrap();
    let parent = scratch.path().join("parent");
    tiny::write(
        &parent,
        &tiny::with(tiny::llama(), json!({"attention_bias": true, "mlp_bias": true})),
        5,
        |_, _| (),
    );
    let mean = |i: usize| (i as f64 * 0.7).sin();
    let sums = sums(4, |_, of| {
        of.head_outputs.sum = (0..32).map(mean).collect();
        of.ffn_hidden.sum = (0..24).map(mean).collect();
    });
    let cut = |cut: &mut Cut| {
        for layer in &mut cut.layers {
            layer.ffn.truncate(20);
            layer.groups.truncate(1);
        }
    };
    let bias = Options { repair: Repair::Bias, ..Options::default() };
    let child = operate(&parent, &sums, &bias, false, cut);
    let parent = Checkpoint::open(&parent).unwrap();
    let numbers = |role| parent.get(role, Some(1)).unwrap().unwrap().to_f32().unwrap();
    let (attention, ffn) =
        (child.layers[1].attention.as_ref().unwrap(), child.layers[1].ffn.as_ref().unwrap());
    for (weight, bias, made, kept) in [
        (Role::O, Role::OBias, attention.o.bias.as_ref().unwrap(), 16),
        (Role::Down, Role::DownBias, ffn.down.bias.as_ref().unwrap(), 20),
    ] {
        let (weight, bias) = (numbers(weight), numbers(bias));
        let width = weight.len() / 16;
        for row in 0..16 {
            let lost: f64 = (kept..width).map(|i| f64::from(weight[row * width + i]) * mean(i)).sum();
            let wanted = f64::from(bias[row]) + lost;
            assert!((f64::from(made[row]) - wanted).abs() < 1e-5, "{} {wanted}", made[row]);
        }
    }
}

#[test]
fn renumbering_the_channels_changes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let turned = |channel: usize| (channel * 5 + 3) % 16;
    tiny::write(&path("parent"), &tiny::llama(), 4, |_, _| ());
    tiny::write(&path("turned"), &tiny::llama(), 4, |tensor, values| {
        let old = values.clone();
        let rows = matches!(tensor.role, Role::O | Role::Down);
        let whole = matches!(tensor.role, Role::AttentionNorm | Role::FfnNorm | Role::FinalNorm);
        let width = if rows { values.len() / 16 } else { 16 };
        for (i, x) in old.into_iter().enumerate() {
            let to = match (rows, whole) {
                (true, _) => turned(i / width) * width + i % width,
                _ => i / 16 * 16 + turned(i % 16),
            };
            values[to] = x;
        }
    });
    let kept: Vec<u32> = vec![0, 2, 3, 7, 8, 9, 11, 13, 14, 15];
    let mut kept_turned: Vec<u32> = kept.iter().map(|k| turned(*k as usize) as u32).collect();
    kept_turned.sort_unstable();
    let slnp = options(NormInit::Slnp, Repair::None);
    prune(&path("parent"), &path("a"), |cut| cut.hidden = kept, &slnp, &[]);
    prune(&path("turned"), &path("b"), |cut| cut.hidden = kept_turned, &slnp, &[]);
    let tokens = tiny::sequences(40, 2, 12, 6);
    let apart = tiny::apart(&tiny::logits_of(&path("a"), &tokens), &tiny::logits_of(&path("b"), &tokens));
    assert!(apart < 2e-5, "{apart}");
}

#[test]
fn what_the_rest_can_say_least_squares_recovers() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    // Neurons 12.. are copies of 0.. with other output weights, heads 1 and 3 of 0 and 2.
    tiny::write(&path("parent"), &tiny::llama(), 8, |tensor, values| match tensor.role {
        Role::Gate | Role::Up => values.copy_within(0..12 * 16, 12 * 16),
        Role::Q => {
            values.copy_within(0..8 * 16, 8 * 16);
            values.copy_within(16 * 16..24 * 16, 24 * 16);
        }
        _ => {}
    });
    let cut = |cut: &mut Cut| {
        for layer in &mut cut.layers {
            layer.ffn.truncate(12);
            layer.groups.iter_mut().for_each(|group| group.q_heads.truncate(1));
        }
    };
    let samples = tiny::sequences(40, 40, 24, 9);
    prune(&path("parent"), &path("sliced"), cut, &options(NormInit::Slnp, Repair::None), &[]);
    prune(&path("parent"), &path("repaired"), cut, &options(NormInit::Slnp, Repair::LeastSquares), &samples);
    let tokens = tiny::sequences(40, 4, 24, 10);
    let parent = tiny::logits_of(&path("parent"), &tokens);
    let sliced = tiny::apart(&parent, &tiny::logits_of(&path("sliced"), &tokens));
    let repaired = tiny::apart(&parent, &tiny::logits_of(&path("repaired"), &tokens));
    assert!(sliced > 0.3 && repaired < 0.02, "sliced {sliced}, repaired {repaired}");
}

#[test]
fn up_and_down_in_turn_recover_what_down_alone_cannot() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    // Neurons 12.. have the gates of 0.. and write in their directions, with up projections of their own: twelve neurons
    // with other up projections do the same, with other output weights alone they do not.
    tiny::write(&path("parent"), &tiny::llama(), 8, |tensor, values| match tensor.role {
        Role::Gate => values.copy_within(0..12 * 16, 12 * 16),
        Role::Down => values.chunks_mut(24).for_each(|row| {
            let (kept, gone) = row.split_at_mut(12);
            gone.iter_mut().zip(kept).for_each(|(gone, kept)| *gone = 0.8 * *kept);
        }),
        _ => {}
    });
    let cut = |cut: &mut Cut| cut.layers.iter_mut().for_each(|layer| layer.ffn.truncate(12));
    let samples = tiny::sequences(40, 40, 24, 9);
    let tokens = tiny::sequences(40, 4, 24, 10);
    let parent = tiny::logits_of(&path("parent"), &tokens);
    let [sliced, down, both] = [Repair::None, Repair::LeastSquares, Repair::Spap].map(|repair| {
        let name = repair.to_string();
        prune(&path("parent"), &path(&name), cut, &options(NormInit::Slnp, repair), &samples);
        tiny::apart(&parent, &tiny::logits_of(&path(&name), &tokens))
    });
    assert!(both < 0.2 * down.min(sliced), "sliced {sliced}, down {down}, both {both}");
}

#[test]
fn a_repair_of_a_narrow_stream_brings_the_logits_nearer() {
    for config in [tiny::llama(), tiny::qwen3(), tiny::pangu()] {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        // Four channels are mixtures of the others.
        let mix = |row: &mut [f32]| {
            for k in 0..4 {
                row[12 + k] = 0.6 * row[3 * k] - 0.5 * row[3 * k + 1] + 0.4 * row[3 * k + 2];
            }
        };
        tiny::write(&path("parent"), &config, 12, |tensor, values| match tensor.role {
            Role::Embedding => values.chunks_mut(16).for_each(mix),
            Role::O | Role::Down => {
                let width = values.len() / 16;
                for column in 0..width {
                    let mut of: Vec<f32> = (0..16).map(|row| values[row * width + column]).collect();
                    mix(&mut of);
                    (0..16).for_each(|row| values[row * width + column] = of[row]);
                }
            }
            Role::OBias => mix(values),
            _ => {}
        });
        let cut = |cut: &mut Cut| cut.hidden.truncate(12);
        let samples = tiny::sequences(40, 60, 24, 13);
        let tokens = tiny::sequences(40, 6, 24, 14);
        let parent = tiny::logits_of(&path("parent"), &tokens);
        let mean = |name: &str| {
            let child = tiny::logits_of(&path(name), &tokens);
            parent.iter().zip(&child).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
        };
        let mut errors = Vec::new();
        for repair in [Repair::None, Repair::Affine, Repair::LeastSquares] {
            let name = repair.to_string();
            prune(&path("parent"), &path(&name), cut, &options(NormInit::Slnp, repair), &samples);
            errors.push(mean(&name));
        }
        let [none, affine, full] = errors[..] else { panic!() };
        assert!(affine < none && full < 0.5 * none, "{} {none} {affine} {full}", config["model_type"]);
    }
}

#[test]
fn the_repair_does_not_depend_on_the_number_of_threads() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    tiny::write(&path("parent"), &tiny::pangu(), 21, |_, _| ());
    let samples = tiny::sequences(40, 12, 20, 22);
    let mut made = Vec::new();
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let name = format!("of{threads}");
        let cut = |cut: &mut Cut| cut.hidden.truncate(10);
        let all = options(NormInit::Slnp, Repair::LeastSquares);
        pool.install(|| prune(&path("parent"), &path(&name), cut, &all, &samples));
        made.push(bytes(&path(&name)));
    }
    assert!(made[0] == made[1]);
}

#[test]
fn what_lacks_its_statistics_is_said() {
    let scratch = tempfile::tempdir().unwrap();
    tiny::write(&scratch.path().join("parent"), &tiny::llama(), 1, |_, _| ());
    let parent = Checkpoint::open(&scratch.path().join("parent")).unwrap();
    let mut target = parent.spec().architecture.clone();
    planning::plan(&parent, &target, &Options::default(), None).unwrap();
    target.hidden = 8;
    let error = planning::plan(&parent, &target, &Options::default(), None).unwrap_err();
    assert!(error.to_string().contains("archplan calibrate"), "{error}");
    target.hidden = 32;
    let error = planning::plan(&parent, &target, &Options::default(), None).unwrap_err();
    assert!(error.to_string().contains("pruning cannot add"), "{error}");
}
