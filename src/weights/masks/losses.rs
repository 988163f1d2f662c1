//! Losses of masked parents: sliced layers, several masks side by side, every layer loaded once for all of them.

use std::borrow::Cow;

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::compute::storage::SizeError;
use crate::search::solver::masks::Walk;
use crate::weights::masks::error::MasksError;
use crate::weights::masks::layout::{Kept, Layout};
use crate::weights::network::block::heads;
use crate::weights::network::evaluation::compare::{Predictions, SampleSums, compare, mean};
use crate::weights::network::evaluation::{self, EvaluationError, Mean, batches};
use crate::weights::network::forward::forward_layer;
use crate::weights::network::layer::{Attention, Ffn, Layer, Linear};
use crate::weights::network::probe::Blind;
use crate::weights::network::room::Room;
use crate::weights::network::settings::Settings;
use crate::weights::network::source::LayerSource;

/// One sample in so many is kept out of the search, to judge what was found.
pub const JUDGED: usize = 8;

/// A parent and the text masks are searched on, samples of two tokens or more.
pub struct Job<'a> {
    /// The parent.
    pub parent: &'a dyn LayerSource,
    /// Text of the search.
    pub samples: &'a [Vec<u32>],
    /// Samples a step.
    pub batch: usize,
    /// Units.
    pub layout: &'a Layout,
}

/// What masks lose on text that was not searched on, nats a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Samples.
    pub samples: usize,
    /// The parent's own loss.
    pub parent: Mean,
    /// What the mask that was begun with loses above it.
    pub begun: Mean,
    /// What the mask that was found loses above it.
    pub found: Mean,
    /// The latter less the former, by samples.
    pub gained: Mean,
}

/// Judges a mask that was found beside the one that was begun with and the one that keeps all.
///
/// # Errors
/// Weights that cannot be loaded; no text.
pub fn verdict(
    parent: &dyn LayerSource,
    masks: &[Vec<Kept>; 3],
    samples: &[Vec<u32>],
) -> Result<Verdict, EvaluationError> {
    let samples: Vec<&[u32]> = samples.iter().map(Vec::as_slice).filter(|s| s.len() > 1).collect();
    evaluation::check(parent, None, &samples)?;
    let all = sums(parent, masks, &samples)?;
    let of = |which: usize| all.get(which).map(Vec::as_slice).unwrap_or_default();
    let sums: Vec<[SampleSums; 3]> =
        of(0).iter().zip(of(1)).zip(of(2)).map(|((a, b), c)| [*a, *b, *c]).collect();
    let mean = |loss: &dyn Fn(&[SampleSums; 3]) -> f64| mean(&sums, |[parent, ..]| parent.tokens, loss);
    Ok(Verdict {
        samples: sums.len(),
        parent: mean(&|[parent, ..]| parent.nll),
        begun: mean(&|[parent, begun, _]| begun.nll - parent.nll),
        found: mean(&|[parent, _, found]| found.nll - parent.nll),
        gained: mean(&|[_, begun, found]| found.nll - begun.nll),
    })
}

impl Job<'_> {
    /// Whether there is text to search on and, in `judged`, to judge on.
    ///
    /// # Errors
    /// Too few samples, tokens beyond the vocabulary.
    pub fn check(&self, judged: &[Vec<u32>]) -> Result<(), MasksError> {
        if judged.is_empty() {
            return Err(MasksError::Samples { found: self.samples.len(), expected: JUDGED });
        }
        let all: Vec<&[u32]> = self.samples.iter().chain(judged).map(Vec::as_slice).collect();
        Ok(evaluation::check(self.parent, None, &all)?)
    }

    /// One step of a walk: its masks on a part of the text that seed and step decide. The mean loss, nats a token, and the
    /// tokens that were run.
    ///
    /// # Errors
    /// Weights that cannot be loaded.
    pub fn step(&self, walk: &mut Walk) -> Result<(f64, u64), MasksError> {
        let mut random = ChaCha8Rng::seed_from_u64(walk.options.seed ^ u64::MAX);
        random.set_stream(walk.step);
        let count = self.batch.min(self.samples.len());
        let drawn = index::sample(&mut random, self.samples.len(), count);
        let mut drawn: Vec<usize> = drawn.into_iter().collect();
        drawn.sort_unstable();
        let batch: Vec<&[u32]> =
            drawn.iter().filter_map(|i| self.samples.get(*i)).map(Vec::as_slice).collect();
        let masks: Vec<Vec<Kept>> = walk.draw().iter().map(|mask| self.layout.kept(mask)).collect();
        let sums = sums(self.parent, &masks, &batch)?;
        let loss = |sums: &Vec<SampleSums>| {
            let of = |part: fn(&SampleSums) -> f64| sums.iter().map(part).sum::<f64>();
            of(|s| s.nll) / of(|s| s.tokens)
        };
        let losses: Vec<f64> = sums.iter().map(loss).collect();
        walk.learn(&losses)?;
        let tokens = batch.iter().map(|sample| sample.len() as u64).sum::<u64>();
        Ok((losses.iter().sum::<f64>() / losses.len() as f64, tokens * masks.len() as u64))
    }
}

/// Sums of every sample under every mask.
///
/// # Errors
/// Weights that cannot be loaded, or that do not fit each other.
pub fn sums(
    parent: &dyn LayerSource,
    masks: &[Vec<Kept>],
    samples: &[&[u32]],
) -> Result<Vec<Vec<SampleSums>>, EvaluationError> {
    let settings = parent.settings();
    let ends = parent.output_ends()?;
    let mut room = Room::default();
    let mut all: Vec<Vec<SampleSums>> = vec![Vec::new(); masks.len()];
    let mut stream = Vec::new();
    for batch in batches(samples, evaluation::Options::default().batch_tokens) {
        let lengths: Vec<usize> = batch.iter().map(|sample| sample.len()).collect();
        parent.embed(&batch.concat(), &mut stream)?;
        let mut streams = vec![stream.clone(); masks.len()];
        for index in 0..parent.depth() {
            let layer = parent.layer(index)?;
            for (stream, mask) in streams.iter_mut().zip(masks) {
                let nothing = Kept::default();
                let masked = masked(&layer, mask.get(index).unwrap_or(&nothing), settings)?;
                forward_layer(&masked, settings, index, &lengths, stream, &mut room, &mut Blind)?;
            }
        }
        let mut predictions: Vec<Predictions<'_>> =
            masks.iter().map(|_| Predictions::new(settings)).collect();
        for (predictions, stream) in predictions.iter_mut().zip(&mut streams) {
            predictions.end(Cow::Borrowed(&*ends), &lengths, stream)?;
        }
        let mut models: Vec<&mut Predictions<'_>> = predictions.iter_mut().collect();
        let found = compare(&mut models, None, batch)?;
        all.iter_mut().zip(found).for_each(|(all, found)| all.extend(found));
    }
    Ok(all)
}

/// A layer with what is kept of it: the same numbers as with the rest at zero, for less work.
pub(super) fn masked<'l>(
    layer: &'l Layer,
    kept: &Kept,
    settings: &Settings,
) -> Result<Cow<'l, Layer>, SizeError> {
    let groups = layer.attention.as_ref().map(|attention| heads(attention, settings)).transpose()?;
    let whole_attention = groups.is_none_or(|heads| heads.kv_heads == kept.groups.len());
    let whole_ffn = layer.ffn.as_ref().is_none_or(|ffn| ffn.gate.outputs == kept.neurons.len());
    if whole_attention && whole_ffn {
        return Ok(Cow::Borrowed(layer));
    }
    let attention = match (&layer.attention, groups) {
        (Some(attention), Some(_)) if whole_attention => Some(attention.clone()),
        (Some(attention), Some(heads)) if !kept.groups.is_empty() => {
            let size = (heads.q_heads / heads.kv_heads.max(1)) as u32;
            Some(attention_of(attention, &kept.groups, size, heads.head_dim as u32))
        }
        _ => None,
    };
    let ffn = match &layer.ffn {
        Some(ffn) if whole_ffn => Some(ffn.clone()),
        Some(ffn) if !kept.neurons.is_empty() => Some(ffn_of(ffn, &kept.neurons)),
        _ => None,
    };
    Ok(Cow::Owned(Layer { attention, ffn }))
}

fn attention_of(attention: &Attention, groups: &[u32], size: u32, head_dim: u32) -> Attention {
    let wide = |width: u32| -> Vec<u32> { groups.iter().flat_map(|g| g * width..(g + 1) * width).collect() };
    let (queries, keys) = (wide(size * head_dim), wide(head_dim));
    Attention {
        norm: attention.norm.clone(),
        q: attention.q.rows(&queries),
        k: attention.k.rows(&keys),
        v: attention.v.rows(&keys),
        q_norm: attention.q_norm.clone(),
        k_norm: attention.k_norm.clone(),
        o: columns(&attention.o, &queries),
        post_norm: attention.post_norm.clone(),
    }
}

fn ffn_of(ffn: &Ffn, neurons: &[u32]) -> Ffn {
    Ffn {
        norm: ffn.norm.clone(),
        gate: ffn.gate.rows(neurons),
        up: ffn.up.rows(neurons),
        down: columns(&ffn.down, neurons),
        post_norm: ffn.post_norm.clone(),
    }
}

fn columns(linear: &Linear, columns: &[u32]) -> Linear {
    let row = |row: &[f32]| -> Vec<f32> {
        columns.iter().filter_map(|column| row.get(*column as usize).copied()).collect()
    };
    let weight = linear.weight.chunks(linear.inputs.max(1)).flat_map(row).collect();
    Linear { outputs: linear.outputs, inputs: columns.len(), weight, bias: linear.bias.clone() }
}
