//! Parent and child side by side on the same text.
//!
//! Both streams of all tokens are held; layers are visited once. Every linear layer of the child is refitted to what its
//! counterpart gives on the *parent's* inputs, from the inputs it has in the *child*. Output and down projections aim at the parent's
//! stream itself, so that what earlier layers missed, and what dropped layers added, is made up for where it can be.

use std::ops::Range;

use crate::compute::storage::SizeError;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::network::block::rms_norm;
use crate::weights::network::forward::{attention_update, embed, ffn_update, forward_layer};
use crate::weights::network::layer::{Ends, Layer, Linear};
use crate::weights::network::load::layer_from;
use crate::weights::network::probe::Blind;
use crate::weights::network::room::Room;
use crate::weights::network::settings::Settings;
use crate::weights::surgery::cut::LayerCut;
use crate::weights::surgery::error::SurgeryError;
use crate::weights::surgery::repair::moments::{Inputs, Targets};
use crate::weights::surgery::repair::ridge::{Evidence, Freedom, Outcome, refit};

/// Every so manieth sequence is kept out to judge a fit.
const KEPT_OUT: usize = 5;
/// Tokens that go through a layer at a time.
const CHUNK: usize = 4096;

/// Some whole sequences.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) tokens: Range<usize>,
    pub(super) lengths: Vec<usize>,
    pub(super) kept_out: bool,
}

/// Both models' streams on the calibration text.
pub struct Lockstep<'a> {
    parent: &'a Checkpoint,
    pub(super) settings: [&'a Settings; 2],
    pub(super) kept: &'a [u32],
    pub(super) chunks: Vec<Chunk>,
    pub(super) streams: [Vec<f32>; 2],
    pub(super) freedom: Freedom,
    pub(super) room: Room,
}

/// What the parent did in a kept layer and the dropped ones that go with it.
pub(super) struct ParentRun {
    /// Outputs of the attention norm of every layer that groups come from, `[tokens, hidden]`.
    pub(super) normed: Vec<(u64, Vec<f32>)>,
    /// The kept layer's stream between attention and FFN, `[tokens, hidden]`.
    pub(super) middle: Vec<f32>,
    /// Attention updates of dropped layers whose groups moved in, `[tokens, kept hidden]`; empty where none did.
    pub(super) moved: Vec<f32>,
    /// The kept layer.
    pub(super) own: Layer,
    /// The other layers that groups come from.
    pub(super) others: Vec<(u64, Layer)>,
}

/// Sums for one fit: of the sequences fitted on, and of those kept out.
#[derive(Clone, Debug)]
pub struct Sides {
    pub(super) inputs: [Inputs; 2],
    pub(in crate::weights::surgery) targets: [Targets; 2],
}

impl Sides {
    pub(super) fn new(inputs: usize, outputs: usize) -> Self {
        let targets = || Targets::new(outputs, inputs);
        Self { inputs: [Inputs::new(inputs), Inputs::new(inputs)], targets: [targets(), targets()] }
    }

    pub(super) fn add(&mut self, kept_out: bool, t: &[f32], x: &[f32]) -> Result<(), SizeError> {
        let side = usize::from(kept_out);
        if let (Some(inputs), Some(targets)) = (self.inputs.get_mut(side), self.targets.get_mut(side)) {
            inputs.add(x)?;
            targets.add(t, x, inputs.width)?;
        }
        Ok(())
    }

    /// The same with some of the inputs.
    pub fn select(&self, kept: &[u32]) -> Self {
        let width = self.inputs[0].width;
        Self {
            inputs: self.inputs.each_ref().map(|inputs| inputs.select(kept)),
            targets: self.targets.each_ref().map(|targets| targets.select(width, kept)),
        }
    }

    /// Refits a layer with these inputs.
    pub(in crate::weights::surgery) fn refit(
        &self,
        linear: &mut Linear,
        targets: &[Targets; 2],
        freedom: Freedom,
    ) -> Outcome {
        let [inputs, kept_out] = &self.inputs;
        let [fitted, kept_out_targets] = targets;
        refit(linear, &Evidence { inputs, targets: fitted, kept_out, kept_out_targets }, freedom)
    }
}

impl<'a> Lockstep<'a> {
    /// Starts both models on `samples`.
    ///
    /// # Errors
    /// Fewer than two sequences; a token beyond the vocabulary.
    pub fn new(
        parent: &'a Checkpoint,
        settings: [&'a Settings; 2],
        ends: [&Ends; 2],
        kept: &'a [u32],
        samples: &[Vec<u32>],
        freedom: Freedom,
    ) -> Result<Self, SurgeryError> {
        if samples.len() < 2 {
            return Err(SurgeryError::TooFewSamples { found: samples.len() });
        }
        let every = KEPT_OUT.min(samples.len());
        let kept_out = |index: &usize| index % every == every - 1;
        let order = (0..samples.len()).filter(|i| !kept_out(i)).chain((0..samples.len()).filter(kept_out));
        let sequences: Vec<(bool, &[u32])> =
            order.filter_map(|i| Some((kept_out(&i), samples.get(i)?.as_slice()))).collect();
        let tokens: Vec<u32> = sequences.iter().flat_map(|(_, tokens)| tokens.iter().copied()).collect();
        let mut streams = [Vec::new(), Vec::new()];
        for ((stream, ends), settings) in streams.iter_mut().zip(ends).zip(settings) {
            embed(ends, settings, &tokens, stream)?;
        }
        let chunks = chunks(&sequences);
        Ok(Self { parent, settings, kept, chunks, streams, freedom, room: Room::default() })
    }

    /// Both models as the parent is here: what stands before was not cut.
    pub fn fork(&self) -> Self {
        let [parent, _] = &self.streams;
        Self {
            parent: self.parent,
            settings: self.settings,
            kept: self.kept,
            chunks: self.chunks.clone(),
            streams: [parent.clone(), parent.clone()],
            freedom: self.freedom,
            room: Room::default(),
        }
    }

    /// Moves the parent past one of its layers.
    ///
    /// # Errors
    /// Sizes that do not fit each other.
    pub fn pass(&mut self, layer: &Layer, index: usize) -> Result<(), SizeError> {
        let settings = self.settings[0];
        for chunk in &self.chunks {
            let range = Self::part(&self.streams[0], chunk, settings.hidden);
            let Some(stream) = self.streams[0].get_mut(range) else { continue };
            forward_layer(layer, settings, index, &chunk.lengths, stream, &mut self.room, &mut Blind)?;
        }
        Ok(())
    }

    /// Numbers of `values`, `width` a token, that belong to a chunk.
    pub(super) fn part(values: &[f32], chunk: &Chunk, width: usize) -> Range<usize> {
        let end = (chunk.tokens.end * width).min(values.len());
        (chunk.tokens.start * width).min(end)..end
    }

    /// Runs the parent through a kept layer and the dropped ones around it.
    pub(super) fn run_parent(&mut self, cut: &LayerCut) -> Result<ParentRun, SurgeryError> {
        let mut layers: Vec<u64> = cut.dropped.iter().copied().chain([cut.parent]).collect();
        layers.sort_unstable();
        let mut run = ParentRun {
            normed: Vec::new(),
            middle: Vec::new(),
            moved: Vec::new(),
            own: Layer::default(),
            others: Vec::new(),
        };
        for index in layers {
            let parent = self.parent;
            let layer = layer_from(|role| parent.get(role, Some(index)), self.settings[0], index)?;
            let is_source = cut.groups.iter().any(|group| group.layer == index);
            self.run_layer(&layer, index, is_source, index == cut.parent, &mut run)?;
            match (index == cut.parent, is_source) {
                (true, _) => run.own = layer,
                (false, true) => run.others.push((index, layer)),
                (false, false) => {}
            }
        }
        Ok(run)
    }

    fn run_layer(
        &mut self,
        layer: &Layer,
        index: u64,
        is_source: bool,
        is_kept: bool,
        run: &mut ParentRun,
    ) -> Result<(), SurgeryError> {
        let settings = self.settings[0];
        let hidden = settings.hidden;
        let (mut normed, mut all_normed, mut before) = (Vec::new(), Vec::new(), Vec::new());
        let chunks = std::mem::take(&mut self.chunks);
        for chunk in &chunks {
            let range = Self::part(&self.streams[0], chunk, hidden);
            let Some(stream) = self.streams[0].get_mut(range) else { continue };
            if let Some(attention) = &layer.attention {
                if is_source {
                    rms_norm(stream, &attention.norm, settings.epsilon, &mut normed)?;
                    all_normed.extend_from_slice(&normed);
                }
                before.clear();
                before.extend_from_slice(stream);
                let at = index as usize;
                attention_update(
                    attention,
                    settings,
                    at,
                    &chunk.lengths,
                    stream,
                    &mut self.room,
                    &mut Blind,
                )?;
                if is_source && !is_kept {
                    add_difference(&mut run.moved, chunk, self.kept, [stream, &before], hidden);
                }
            }
            if is_kept {
                run.middle.extend_from_slice(stream);
            }
            if let Some(ffn) = &layer.ffn {
                ffn_update(ffn, settings, index as usize, stream, &mut self.room, &mut Blind)?;
            }
        }
        self.chunks = chunks;
        if is_source {
            run.normed.push((index, all_normed));
        }
        Ok(())
    }

    /// Share of the parent's energy in the kept channels that the child's stream misses, on kept-out sequences.
    pub fn stream_error(&self) -> f64 {
        let [parent, child] = &self.streams;
        let [wide, narrow] = [self.settings[0].hidden, self.settings[1].hidden];
        let (mut missed, mut whole) = (0.0, 0.0);
        for chunk in self.chunks.iter().filter(|chunk| chunk.kept_out) {
            let theirs = parent.get(Self::part(parent, chunk, wide)).unwrap_or_default();
            let mine = child.get(Self::part(child, chunk, narrow)).unwrap_or_default();
            for (theirs, mine) in theirs.chunks_exact(wide).zip(mine.chunks_exact(narrow)) {
                for (channel, x) in self.kept.iter().zip(mine) {
                    let wanted = theirs.get(*channel as usize).map_or(0.0, |x| f64::from(*x));
                    missed += (wanted - f64::from(*x)).powi(2);
                    whole += wanted * wanted;
                }
            }
        }
        if whole > 0.0 { missed / whole } else { 0.0 }
    }
}

/// Adds `after - before` in the kept channels to `sum`, which grows as chunks come.
fn add_difference(
    sum: &mut Vec<f32>,
    chunk: &Chunk,
    kept: &[u32],
    [after, before]: [&[f32]; 2],
    hidden: usize,
) {
    let end = chunk.tokens.end * kept.len();
    if sum.len() < end {
        sum.resize(end, 0.0);
    }
    let rows = sum.get_mut(chunk.tokens.start * kept.len()..end).unwrap_or_default();
    for ((sum, after), before) in
        rows.chunks_exact_mut(kept.len()).zip(after.chunks_exact(hidden)).zip(before.chunks_exact(hidden))
    {
        for (sum, channel) in sum.iter_mut().zip(kept) {
            let at = *channel as usize;
            *sum += after.get(at).unwrap_or(&0.0) - before.get(at).unwrap_or(&0.0);
        }
    }
}

fn chunks(sequences: &[(bool, &[u32])]) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut at = 0;
    for &(kept_out, tokens) in sequences {
        let end = at + tokens.len();
        match chunks.last_mut() {
            Some(last) if last.kept_out == kept_out && last.tokens.len() + tokens.len() <= CHUNK => {
                last.tokens.end = end;
                last.lengths.push(tokens.len());
            }
            _ => chunks.push(Chunk { tokens: at..end, lengths: vec![tokens.len()], kept_out }),
        }
        at = end;
    }
    chunks
}
