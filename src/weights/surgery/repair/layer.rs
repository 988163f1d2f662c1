//! Repairs one layer of the child, part by part in the order of a forward pass.

use crate::weights::network::block::{add_update, ffn_hidden, head_outputs, linear_into, rms_norm};
use crate::weights::network::forward::attention_update;
use crate::weights::network::layer::{Attention, Ffn, Layer, Linear};
use crate::weights::network::probe::Blind;
use crate::weights::network::room::Room;
use crate::weights::network::settings::Settings;
use crate::weights::surgery::cut::{Cut, LayerCut};
use crate::weights::surgery::error::SurgeryError;
use crate::weights::surgery::repair::lockstep::{Chunk, Lockstep, ParentRun, Sides};
use crate::weights::surgery::repair::moments::Targets;
use crate::weights::surgery::repair::ridge::{Freedom, Outcome};

/// A gain smaller than this share of the mean magnitude is not divided by.
const SMALLEST_GAIN: f32 = 1e-2;

/// What the refits of a layer came to, by name of the projection.
pub type Outcomes = Vec<(&'static str, Outcome)>;

impl Lockstep<'_> {
    /// Refits layer `index` of the child and moves both streams past it.
    ///
    /// # Errors
    /// A parent's tensor that cannot be read; sizes that do not fit each other.
    pub fn repair(
        &mut self,
        layer: &mut Layer,
        index: usize,
        cut: &Cut,
        of: &LayerCut,
    ) -> Result<Outcomes, SurgeryError> {
        let run = self.run_parent(of)?;
        let mut outcomes = Vec::new();
        if let Some(attention) = &mut layer.attention {
            if cut.hidden.len() < self.settings[0].hidden || of.is_pooled() {
                self.refit_projections(attention, &run, of, &mut outcomes)?;
            }
            self.refit_output(attention, index, &run, &mut outcomes)?;
        }
        if let Some(ffn) = &mut layer.ffn {
            if cut.hidden.len() < self.settings[0].hidden {
                self.refit_gates(ffn, &run, of, &mut outcomes)?;
            }
            if self.freedom == Freedom::Alternating && of.ffn.len() < run.neurons() {
                self.alternate(ffn, &mut outcomes)?;
            }
            self.refit_down(ffn, &mut outcomes)?;
        }
        Ok(outcomes)
    }

    fn refit_projections(
        &mut self,
        attention: &mut Attention,
        run: &ParentRun,
        of: &LayerCut,
        outcomes: &mut Outcomes,
    ) -> Result<(), SurgeryError> {
        let [wide, narrow] = self.settings;
        let mut normed = Vec::new();
        let mut by_source: Vec<(u64, Sides)> = Vec::new();
        for (source, theirs) in &run.normed {
            let mut sides = Sides::new(narrow.hidden, wide.hidden);
            for chunk in &self.chunks {
                let mine = self.streams[1].get(Self::part(&self.streams[1], chunk, narrow.hidden));
                rms_norm(mine.unwrap_or_default(), &attention.norm, narrow.epsilon, &mut normed)?;
                let target = theirs.get(Self::part(theirs, chunk, wide.hidden)).unwrap_or_default();
                sides.add(chunk.kept_out, target, &normed)?;
            }
            by_source.push((*source, sides));
        }
        let head_dim = narrow.head_dim as u32;
        let wide_rows = |heads: &[u32]| -> Vec<u32> {
            heads.iter().flat_map(|head| head * head_dim..(head + 1) * head_dim).collect()
        };
        type Pick = fn(&Attention) -> &Linear;
        let picks: [(&'static str, Pick); 3] =
            [("q_proj", |a| &a.q), ("k_proj", |a| &a.k), ("v_proj", |a| &a.v)];
        for (name, pick) in picks {
            let mut joined = [Targets::default(), Targets::default()];
            // The order of the groups is that of the child's rows: the own first, then source after source.
            for source in ordered_sources(of) {
                let (Some((_, sides)), Some(theirs)) =
                    (by_source.iter().find(|(layer, _)| *layer == source), run.attention(of, source))
                else {
                    continue;
                };
                let groups = of.groups.iter().filter(|group| group.layer == source);
                let rows: Vec<u32> = match name {
                    "q_proj" => groups.flat_map(|group| wide_rows(&group.q_heads)).collect(),
                    _ => groups.flat_map(|group| wide_rows(&[group.kv_head])).collect(),
                };
                let linear = pick(theirs).rows(&rows);
                for ((joined, targets), inputs) in joined.iter_mut().zip(&sides.targets).zip(&sides.inputs) {
                    joined.append(targets.through(&linear.weight, linear.bias.as_deref(), inputs)?);
                }
            }
            let Some((_, sides)) = by_source.first() else { continue };
            let linear = match name {
                "q_proj" => &mut attention.q,
                "k_proj" => &mut attention.k,
                _ => &mut attention.v,
            };
            outcomes.push((name, sides.refit(linear, &joined, self.freedom)));
        }
        Ok(())
    }

    fn refit_output(
        &mut self,
        attention: &mut Attention,
        index: usize,
        run: &ParentRun,
        outcomes: &mut Outcomes,
    ) -> Result<(), SurgeryError> {
        let narrow = self.settings[1];
        let mut sides = Sides::new(attention.o.inputs, narrow.hidden);
        let (mut target, mut outputs) = (Vec::new(), Vec::new());
        let chunks = std::mem::take(&mut self.chunks);
        for chunk in &chunks {
            self.wanted(&run.middle, &run.moved, chunk, &mut target);
            before_post_norm(&mut target, attention.post_norm.as_deref());
            let mine = self.streams[1].get(Self::part(&self.streams[1], chunk, narrow.hidden));
            let heads = heads_of(attention, narrow, index, chunk, mine.unwrap_or_default(), &mut self.room)?;
            sides.add(chunk.kept_out, &target, &heads)?;
            outputs.push(heads);
        }
        outcomes.push(("o_proj", sides.refit(&mut attention.o, &sides.targets, self.freedom)));
        let mut update = Vec::new();
        for (chunk, heads) in chunks.iter().zip(&outputs) {
            linear_into(&attention.o, heads, &mut update)?;
            let range = Self::part(&self.streams[1], chunk, narrow.hidden);
            let stream = self.streams[1].get_mut(range).unwrap_or_default();
            add_update(stream, &update, attention.post_norm.as_deref(), narrow)?;
        }
        self.chunks = chunks;
        Ok(())
    }

    fn refit_gates(
        &mut self,
        ffn: &mut Ffn,
        run: &ParentRun,
        of: &LayerCut,
        outcomes: &mut Outcomes,
    ) -> Result<(), SurgeryError> {
        let [wide, narrow] = self.settings;
        let Some(theirs) = &run.own.ffn else { return Ok(()) };
        let (mut normed, mut target) = (Vec::new(), Vec::new());
        let mut sides = Sides::new(narrow.hidden, wide.hidden);
        for chunk in &self.chunks {
            let mine = self.streams[1].get(Self::part(&self.streams[1], chunk, narrow.hidden));
            rms_norm(mine.unwrap_or_default(), &ffn.norm, narrow.epsilon, &mut normed)?;
            let middle = run.middle.get(Self::part(&run.middle, chunk, wide.hidden)).unwrap_or_default();
            rms_norm(middle, &theirs.norm, wide.epsilon, &mut target)?;
            sides.add(chunk.kept_out, &target, &normed)?;
        }
        for (name, theirs, mine) in
            [("gate_proj", &theirs.gate, &mut ffn.gate), ("up_proj", &theirs.up, &mut ffn.up)]
        {
            let linear = theirs.rows(&of.ffn);
            let through = |side: usize| -> Result<Targets, SurgeryError> {
                let (Some(targets), Some(inputs)) = (sides.targets.get(side), sides.inputs.get(side)) else {
                    return Ok(Targets::default());
                };
                Ok(targets.through(&linear.weight, linear.bias.as_deref(), inputs)?)
            };
            let targets = [through(0)?, through(1)?];
            outcomes.push((name, sides.refit(mine, &targets, self.freedom)));
        }
        Ok(())
    }

    /// Sums of every neuron of a layer of the parent, for refits of its down projection alone: what stands before and its
    /// attention are not cut. Both streams are moved.
    ///
    /// # Errors
    /// As [`Self::repair`].
    pub fn neurons(&mut self, layer: &Layer, of: &LayerCut) -> Result<Option<Sides>, SurgeryError> {
        self.run_parent(of)?;
        let (Some(ffn), index) = (&layer.ffn, of.parent as usize) else { return Ok(None) };
        if let Some(attention) = &layer.attention {
            let settings = self.settings[1];
            for chunk in &self.chunks {
                let range = Self::part(&self.streams[1], chunk, settings.hidden);
                let Some(stream) = self.streams[1].get_mut(range) else { continue };
                let (lengths, room) = (&chunk.lengths, &mut self.room);
                attention_update(attention, settings, index, lengths, stream, room, &mut Blind)?;
            }
        }
        self.down_sides(ffn).map(Some)
    }

    pub(super) fn down_sides(&mut self, ffn: &Ffn) -> Result<Sides, SurgeryError> {
        let narrow = self.settings[1];
        let mut sides = Sides::new(ffn.down.inputs, narrow.hidden);
        let (mut target, mut normed) = (Vec::new(), Vec::new());
        let chunks = std::mem::take(&mut self.chunks);
        for chunk in &chunks {
            self.wanted(&self.streams[0], &[], chunk, &mut target);
            before_post_norm(&mut target, ffn.post_norm.as_deref());
            let mine = self.streams[1].get(Self::part(&self.streams[1], chunk, narrow.hidden));
            rms_norm(mine.unwrap_or_default(), &ffn.norm, narrow.epsilon, &mut normed)?;
            let hidden = ffn_hidden(ffn, narrow, &normed, &mut self.room)?;
            sides.add(chunk.kept_out, &target, hidden)?;
        }
        self.chunks = chunks;
        Ok(sides)
    }

    fn refit_down(&mut self, ffn: &mut Ffn, outcomes: &mut Outcomes) -> Result<(), SurgeryError> {
        let narrow = self.settings[1];
        let sides = self.down_sides(ffn)?;
        let (mut normed, mut update) = (Vec::new(), Vec::new());
        let chunks = std::mem::take(&mut self.chunks);
        outcomes.push(("down_proj", sides.refit(&mut ffn.down, &sides.targets, self.freedom)));
        for chunk in &chunks {
            let range = Self::part(&self.streams[1], chunk, narrow.hidden);
            let stream = self.streams[1].get_mut(range).unwrap_or_default();
            rms_norm(stream, &ffn.norm, narrow.epsilon, &mut normed)?;
            let hidden = ffn_hidden(ffn, narrow, &normed, &mut self.room)?;
            linear_into(&ffn.down, hidden, &mut update)?;
            add_update(stream, &update, ffn.post_norm.as_deref(), narrow)?;
        }
        self.chunks = chunks;
        Ok(())
    }

    /// The update that would bring the child's stream to the parent's stream `theirs` in the kept channels, plus `more`.
    pub(super) fn wanted(&self, theirs: &[f32], more: &[f32], chunk: &Chunk, out: &mut Vec<f32>) {
        let [wide, narrow] = [self.settings[0].hidden, self.settings[1].hidden];
        out.clear();
        let mine = self.streams[1].get(Self::part(&self.streams[1], chunk, narrow)).unwrap_or_default();
        let theirs = theirs.get(Self::part(theirs, chunk, wide)).unwrap_or_default();
        for (mine, theirs) in mine.chunks_exact(narrow).zip(theirs.chunks_exact(wide)) {
            let wanted = |(x, channel): (&f32, &u32)| theirs.get(*channel as usize).unwrap_or(&0.0) - x;
            out.extend(mine.iter().zip(self.kept).map(wanted));
        }
        let more = more.get(Self::part(more, chunk, narrow)).unwrap_or_default();
        out.iter_mut().zip(more).for_each(|(x, more)| *x += more);
    }
}

impl ParentRun {
    /// Neurons of the kept layer.
    fn neurons(&self) -> usize {
        self.own.ffn.as_ref().map_or(0, |ffn| ffn.gate.outputs)
    }

    fn attention(&self, of: &LayerCut, source: u64) -> Option<&Attention> {
        let layer = match source == of.parent {
            true => &self.own,
            false => &self.others.iter().find(|(layer, _)| *layer == source)?.1,
        };
        layer.attention.as_ref()
    }
}

fn heads_of(
    attention: &Attention,
    settings: &Settings,
    index: usize,
    chunk: &Chunk,
    stream: &[f32],
    room: &mut Room,
) -> Result<Vec<f32>, SurgeryError> {
    let mut normed = Vec::new();
    rms_norm(stream, &attention.norm, settings.epsilon, &mut normed)?;
    Ok(head_outputs(attention, settings, index, &chunk.lengths, &normed, room)?.to_vec())
}

/// Behind a post-norm only the direction counts: the target is the wanted update with the gain taken back.
pub(super) fn before_post_norm(target: &mut [f32], gain: Option<&[f32]>) {
    let Some(gain) = gain else { return };
    let mean = gain.iter().map(|g| g.abs()).sum::<f32>() / gain.len().max(1) as f32;
    for row in target.chunks_exact_mut(gain.len().max(1)) {
        for (x, g) in row.iter_mut().zip(gain) {
            if g.abs() > SMALLEST_GAIN * mean {
                *x /= g;
            }
        }
    }
}

fn ordered_sources(of: &LayerCut) -> Vec<u64> {
    let mut sources: Vec<u64> = of.groups.iter().map(|group| group.layer).collect();
    sources.dedup();
    sources
}
