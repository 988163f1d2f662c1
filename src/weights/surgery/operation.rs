//! Carries a plan out, layer by layer; every tensor of the child is handed on as soon as it is final.

use crate::model::spec::Family;
use crate::model::tensors::{self, ModelTensor, Role};
use crate::weights::checkpoint::Checkpoint;
use crate::weights::checkpoint::tensor::{Tensor, TensorError};
use crate::weights::importance::rankings;
use crate::weights::importance::statistics::{NormSums, Sums};
use crate::weights::network::layer::{Ends, Layer, Linear};
use crate::weights::network::load::{LoadError, ends_from, layer_from};
use crate::weights::network::settings::Settings;
use crate::weights::surgery::absorb::{self, Site};
use crate::weights::surgery::clap::{self, Correction};
use crate::weights::surgery::cut::LayerCut;
use crate::weights::surgery::error::SurgeryError;
use crate::weights::surgery::norms;
use crate::weights::surgery::options::{NormInit, Options, Repair};
use crate::weights::surgery::parts::Parts;
use crate::weights::surgery::planning::Planned;
use crate::weights::surgery::record::{LayerRepair, Refit};
use crate::weights::surgery::repair::grams::GramRepair;
use crate::weights::surgery::repair::lockstep::{Lockstep, Sides};
use crate::weights::surgery::repair::ridge::{Freedom, Outcome};
use crate::weights::surgery::slice;

/// Everything a surgery works on.
pub struct Operation<'a> {
    /// The parent.
    pub parent: &'a Checkpoint,
    /// What will be done.
    pub planned: &'a Planned,
    /// The steps that can be switched.
    pub options: &'a Options,
    /// Statistics, where there are some.
    pub sums: Option<&'a Sums>,
    /// Text to repair on, token ids.
    pub samples: &'a [Vec<u32>],
}

/// Takes the child's tensors in the order of [`tensors::all`], and hears how many layers are done.
pub trait Receiver {
    /// One tensor, final.
    ///
    /// # Errors
    /// Where it cannot be kept.
    fn tensor(&mut self, tensor: Tensor<'_>) -> Result<(), SurgeryError>;

    /// `done` layers of the child are.
    fn layers_done(&mut self, done: usize);
}

/// How one layer is repaired on its own.
pub enum Fit<'l, 'p> {
    /// Not at all.
    None,
    /// On the streams of both models, which stand before it and are moved past it.
    Beside(&'l mut Lockstep<'p>),
    /// Its down projection alone, on sums of the neurons it keeps.
    Down(&'l Sides, Freedom),
}

/// What a repair may change, where it fits weights to text.
pub fn freedom(repair: Repair) -> Option<Freedom> {
    match repair {
        Repair::None | Repair::Bias => None,
        Repair::Affine => Some(Freedom::Affine),
        Repair::LeastSquares => Some(Freedom::Full),
        Repair::Spap => Some(Freedom::Alternating),
    }
}

impl<'a> Operation<'a> {
    /// Makes the child; what the repair came to, layer by layer.
    ///
    /// # Errors
    /// A tensor that cannot be read or used, statistics or text that are missing, a receiver that fails.
    pub fn perform(&self, receiver: &mut dyn Receiver) -> Result<Vec<LayerRepair>, SurgeryError> {
        let spec = &self.planned.child;
        let settings = [Settings::of(self.parent.spec())?, Settings::of(spec)?];
        let [wide, narrow] = &settings;
        let mut ends = self.ends(wide)?;
        let freedom = freedom(self.options.repair).filter(|_| self.planned.changes(self.parent.spec()));
        let (mut models, text) = (None, !self.samples.is_empty() || !self.has_grams());
        if freedom.is_some() && text {
            let theirs = ends_from(|role| self.parent.get(role, None), wide)?;
            let mine = loaded_ends(&ends, narrow)?;
            models = Some((theirs, mine));
        }
        let mut lockstep = match (&models, freedom) {
            (Some((theirs, mine)), Some(freedom)) => {
                let kept = &self.planned.cut.hidden;
                let samples = self.samples;
                Some(Lockstep::new(self.parent, [wide, narrow], [theirs, mine], kept, samples, freedom)?)
            }
            _ => None,
        };
        hand_over(&mut ends, tensors::end(spec, Role::Embedding), receiver)?;
        self.release(Role::Embedding, None)?;
        let mut repairs = Vec::new();
        for (index, cut) in self.planned.cut.layers.iter().enumerate() {
            let mut parts = self.layer(cut, wide)?;
            if let Some(lockstep) = &mut lockstep {
                repairs.push(self.repair(lockstep, &mut parts, index, cut, narrow)?);
            } else if let (Some(freedom), false) = (freedom, text) {
                repairs.push(self.repair_from_grams(&mut parts, index, cut, &settings, freedom)?);
            }
            for of in tensors::layer(spec, index as u64) {
                let role = of.role;
                hand_over(&mut parts, Some(of), receiver)?;
                self.release(role, Some(cut.parent))?;
            }
            receiver.layers_done(index + 1);
        }
        if let (Some(mut lockstep), Some((theirs, mut mine))) = (lockstep, models) {
            lockstep.repair_ends(&theirs, &mut mine)?;
            put(&mut ends, Role::FinalNorm, less(mine.final_norm, narrow.gain_offset))?;
            if let Some(head) = mine.head {
                put(&mut ends, Role::LmHead, head)?;
            }
        }
        for role in [Role::FinalNorm, Role::LmHead] {
            hand_over(&mut ends, tensors::end(spec, role), receiver)?;
        }
        Ok(repairs)
    }

    /// One layer of the child alone, in memory, rounded as it would be written. `index` is its place in the child, whose
    /// settings are `narrow`.
    ///
    /// # Errors
    /// A tensor that cannot be read or used, statistics that are missing.
    pub fn one_layer(
        &self,
        cut: &LayerCut,
        index: usize,
        [wide, narrow]: [&Settings; 2],
        fit: Fit<'_, '_>,
    ) -> Result<Layer, SurgeryError> {
        let mut parts = self.layer(cut, wide)?;
        match fit {
            Fit::None => {}
            Fit::Beside(lockstep) => {
                self.repair(lockstep, &mut parts, index, cut, narrow)?;
            }
            Fit::Down(sides, freedom) => {
                let mut layer = layer_from(|role| parts.tensor(role), narrow, index as u64)?;
                if let Some(ffn) = &mut layer.ffn {
                    sides.refit(&mut ffn.down, &sides.targets, freedom);
                }
                put_layer(&mut parts, layer, narrow.gain_offset)?;
            }
        }
        Ok(layer_from(|role| parts.tensor(role), narrow, index as u64)?)
    }

    /// Gives the memory behind a tensor of the parent back to the system.
    fn release(&self, role: Role, layer: Option<u64>) -> Result<(), SurgeryError> {
        if let Some(tensor) = self.parent.get(role, layer)? {
            self.parent.release(&tensor);
        }
        Ok(())
    }

    fn repair(
        &self,
        lockstep: &mut Lockstep<'_>,
        parts: &mut Parts<'_>,
        index: usize,
        cut: &LayerCut,
        narrow: &Settings,
    ) -> Result<LayerRepair, SurgeryError> {
        let mut layer = layer_from(|role| parts.tensor(role), narrow, index as u64)?;
        let outcomes = lockstep.repair(&mut layer, index, &self.planned.cut, cut)?;
        put_layer(parts, layer, narrow.gain_offset)?;
        let refit = |(projection, outcome): (&'static str, Outcome)| Refit {
            projection: projection.into(),
            strength: outcome.strength,
        };
        let refits = outcomes.into_iter().map(refit).collect();
        Ok(LayerRepair { layer: index as u64, refits, stream_error: Some(lockstep.stream_error()) })
    }

    /// Gram matrices of every layer are there.
    fn has_grams(&self) -> bool {
        self.sums.is_some_and(|sums| sums.layers.iter().all(|layer| layer.grams.is_some()))
    }

    fn repair_from_grams(
        &self,
        parts: &mut Parts<'_>,
        index: usize,
        cut: &LayerCut,
        [wide, narrow]: &[Settings; 2],
        freedom: Freedom,
    ) -> Result<LayerRepair, SurgeryError> {
        let mut record = LayerRepair { layer: index as u64, refits: Vec::new(), stream_error: None };
        let Some(of) = self.sums.and_then(|sums| sums.layers.get(cut.parent as usize)) else {
            return Ok(record);
        };
        let Some(grams) = &of.grams else { return Ok(record) };
        let tokens = self.sums.map_or(1, |sums| sums.tokens);
        let hidden = &self.planned.cut.hidden;
        let scale = |role: Role, norm: &NormSums| -> Result<f64, SurgeryError> {
            let share = rankings::energy_share(norm, tokens, hidden);
            let energy = norms::energy(share, wide.hidden, hidden.len());
            Ok(self.layer_norm_factor(role, cut.parent, wide)? / energy)
        };
        let factors = |role: Role, part: &str| -> Result<Option<Vec<f32>>, SurgeryError> {
            let (Some(gain), true) = (self.gain(role, Some(cut.parent), wide)?, self.planned.absorbed) else {
                return Ok(None);
            };
            let constant = self.constant(cut.parent, part)? as f32;
            Ok(Some(hidden.iter().filter_map(|k| gain.get(*k as usize)).map(|g| g * constant).collect()))
        };
        let parent = layer_from(|role| self.parent.get(role, Some(cut.parent)), wide, cut.parent)?;
        let mut layer = layer_from(|role| parts.tensor(role), narrow, index as u64)?;
        let repair = GramRepair {
            parent: &parent,
            grams,
            hidden,
            cut,
            head_dim: wide.head_dim,
            scales: [scale(Role::AttentionNorm, &of.attention_norm)?, scale(Role::FfnNorm, &of.ffn_norm)?],
            outputs: [factors(Role::AttentionPostNorm, "attention")?, factors(Role::FfnPostNorm, "ffn")?],
            freedom,
        };
        let done = repair.repair(&mut layer)?;
        let refit = |projection: &str| Refit { projection: projection.into(), strength: None };
        record.refits = done.into_iter().map(refit).collect();
        put_layer(parts, layer, narrow.gain_offset)?;
        Ok(record)
    }

    fn ends(&self, wide: &Settings) -> Result<Parts<'a>, SurgeryError> {
        let cut = &self.planned.cut;
        let mut parts = slice::ends(self.parent, cut)?;
        let (parent, kept) = (wide.hidden, cut.hidden.len());
        if kept == parent {
            return Ok(parts);
        }
        let factor = self.norm_factor(Role::FinalNorm, None, wide, |sums| Some(&sums.final_norm))?;
        norms::scale_gain(&mut parts, Role::FinalNorm, wide.gain_offset, factor)?;
        if matches!(self.parent.spec().family, Family::Gemma2 | Family::Gemma3) {
            // Gemma multiplies embeddings by the root of the hidden size, which is smaller now.
            let lost = (parent as f64 / kept as f64).sqrt();
            if let Some(numbers) = parts.numbers(Role::Embedding)? {
                numbers.iter_mut().for_each(|x| *x = (f64::from(*x) * lost) as f32);
            }
            if !parts.has(Role::LmHead) {
                norms::scale_gain(&mut parts, Role::FinalNorm, wide.gain_offset, 1.0 / lost)?;
            }
        }
        Ok(parts)
    }

    /// One layer of the child before repair.
    fn layer(&self, cut: &LayerCut, wide: &Settings) -> Result<Parts<'a>, SurgeryError> {
        let mut parts = slice::layer(self.parent, &self.planned.cut, cut, |from| {
            self.correction(cut.parent, from, wide)
        })?;
        if self.options.repair == Repair::Bias {
            self.compensate(&mut parts, cut)?;
        }
        if self.planned.absorbed {
            for (part, roles) in [
                ("attention", (Role::AttentionPostNorm, Role::O, Role::OBias)),
                ("ffn", (Role::FfnPostNorm, Role::Down, Role::DownBias)),
            ] {
                let constant = self.constant(cut.parent, part)?;
                absorb::absorb(&mut parts, roles, wide.gain_offset, constant)?;
            }
        }
        if self.planned.cut.hidden.len() < wide.hidden {
            for role in [Role::AttentionNorm, Role::AttentionPostNorm, Role::FfnNorm, Role::FfnPostNorm] {
                let factor = self.layer_norm_factor(role, cut.parent, wide)?;
                norms::scale_gain(&mut parts, role, wide.gain_offset, factor)?;
            }
        }
        Ok(parts)
    }

    /// FLAP (arXiv 2312.11983): `b += W_P E[x_P]` over what was dropped, in o_proj and down_proj.
    fn compensate(&self, parts: &mut Parts<'_>, cut: &LayerCut) -> Result<(), SurgeryError> {
        let sums = self.sums.ok_or(SurgeryError::NoImportance { step: "--repair bias" })?;
        let head_dim = self.parent.spec().architecture.head_dim as u32;
        let heads = cut.own_groups().flat_map(|group| group.q_heads.iter().copied());
        let channels: Vec<u32> = heads.flat_map(|head| head * head_dim..(head + 1) * head_dim).collect();
        let Some(of) = sums.layers.get(cut.parent as usize) else { return Ok(()) };
        for (weight, bias, inputs, kept) in [
            (Role::O, Role::OBias, &of.head_outputs.sum, &channels),
            (Role::Down, Role::DownBias, &of.ffn_hidden.sum, &cut.ffn),
        ] {
            let (Some(tensor), true) = (self.parent.get(weight, Some(cut.parent))?, parts.has(bias)) else {
                continue;
            };
            let numbers = tensor.to_f32()?;
            let mut means: Vec<f64> = inputs.iter().map(|sum| sum / sums.tokens.max(1) as f64).collect();
            kept.iter().for_each(|k| means.get_mut(*k as usize).into_iter().for_each(|mean| *mean = 0.0));
            let lost = |row: &u32| {
                let at = *row as usize * means.len();
                let weights = numbers.get(at..at + means.len()).unwrap_or_default();
                weights.iter().zip(&means).map(|(w, mean)| f64::from(*w) * mean).sum::<f64>() as f32
            };
            let lost: Vec<f32> = self.planned.cut.hidden.iter().map(lost).collect();
            if let Some(numbers) = parts.numbers(bias)? {
                numbers.iter_mut().zip(&lost).for_each(|(b, lost)| *b += lost);
            }
        }
        Ok(())
    }

    fn layer_norm_factor(&self, role: Role, layer: u64, wide: &Settings) -> Result<f64, SurgeryError> {
        self.norm_factor(role, Some(layer), wide, |sums| {
            let of = sums.layers.get(layer as usize)?;
            match role {
                Role::AttentionNorm => Some(&of.attention_norm),
                Role::FfnNorm => Some(&of.ffn_norm),
                _ => None,
            }
        })
    }

    /// Factor on a gain of the parent. Post-norms have no measured energy: they get SLNP's factor in its place.
    fn norm_factor(
        &self,
        role: Role,
        layer: Option<u64>,
        wide: &Settings,
        measured: impl Fn(&'a Sums) -> Option<&'a NormSums>,
    ) -> Result<f64, SurgeryError> {
        let kept = &self.planned.cut.hidden;
        if self.options.norm == NormInit::None || kept.len() == wide.hidden {
            return Ok(1.0);
        }
        if let (NormInit::Energy, Some(sums)) = (self.options.norm, self.sums)
            && let Some(norm) = measured(sums)
        {
            let share = rankings::energy_share(norm, sums.tokens, kept);
            return Ok(norms::energy(share, wide.hidden, kept.len()));
        }
        Ok(self.gain(role, layer, wide)?.map_or(1.0, |gain| norms::slnp(&gain, kept)))
    }

    /// A gain of the parent as it multiplies.
    fn gain(
        &self,
        role: Role,
        layer: Option<u64>,
        wide: &Settings,
    ) -> Result<Option<Vec<f32>>, SurgeryError> {
        let Some(tensor) = self.parent.get(role, layer)? else { return Ok(None) };
        let mut gain = tensor.to_f32()?;
        gain.iter_mut().for_each(|g| *g += wide.gain_offset);
        Ok(Some(gain))
    }

    fn constant(&self, layer: u64, part: &str) -> Result<f64, SurgeryError> {
        let sums = self.sums.ok_or(SurgeryError::NoImportance { step: "absorbing post-norms" })?;
        let sites: Vec<Site> = absorb::sites(sums, &[layer]);
        let site = sites.into_iter().find(|site| site.part == part);
        Ok(site.map_or(1.0, |site| site.constant))
    }

    /// What changes groups of layer `from` when they move into layer `own`.
    fn correction(&self, own: u64, from: u64, wide: &Settings) -> Result<Correction, SurgeryError> {
        let pair = |role: Role| -> Result<Option<[Vec<f32>; 2]>, SurgeryError> {
            let gains = [self.gain(role, Some(from), wide)?, self.gain(role, Some(own), wide)?];
            let [Some(from), Some(own)] = gains else { return Ok(None) };
            Ok(Some([from, own]))
        };
        let kept = |gain: &[f32]| -> Vec<f32> {
            self.planned.cut.hidden.iter().filter_map(|k| gain.get(*k as usize).copied()).collect()
        };
        let mut correction = Correction::default();
        if let Some([theirs, mine]) = pair(Role::AttentionNorm)? {
            correction.input = clap::ratio(&kept(&theirs), &kept(&mine));
            let factor = |layer: u64| self.layer_norm_factor(Role::AttentionNorm, layer, wide);
            let factor = (factor(from)? / factor(own)?) as f32;
            correction.input.iter_mut().for_each(|x| *x *= factor);
        }
        for (role, into) in [(Role::QNorm, &mut correction.query), (Role::KNorm, &mut correction.key)] {
            if let Some([theirs, mine]) = pair(role)? {
                *into = clap::ratio(&theirs, &mine);
            }
        }
        if let Some([theirs, mine]) = pair(Role::AttentionPostNorm)? {
            let constants = (self.constant(from, "attention")? / self.constant(own, "attention")?) as f32;
            correction.output = clap::ratio(&kept(&theirs), &kept(&mine));
            correction.output.iter_mut().for_each(|x| *x *= constants);
        }
        Ok(correction)
    }
}

fn loaded_ends(parts: &Parts<'_>, settings: &Settings) -> Result<Ends, LoadError<TensorError>> {
    ends_from(|role| parts.tensor(role), settings)
}

fn hand_over(
    parts: &mut Parts<'_>,
    of: Option<ModelTensor>,
    receiver: &mut dyn Receiver,
) -> Result<(), SurgeryError> {
    let Some(of) = of else { return Ok(()) };
    match parts.take(&of)? {
        Some(tensor) => receiver.tensor(tensor),
        None => Ok(()),
    }
}

fn less(mut gain: Vec<f32>, offset: f32) -> Vec<f32> {
    gain.iter_mut().for_each(|g| *g -= offset);
    gain
}

fn put(parts: &mut Parts<'_>, role: Role, numbers: Vec<f32>) -> Result<(), SurgeryError> {
    if let Some((dtype, shape)) = parts.form(role) {
        parts.change(role, dtype, &shape, numbers);
    }
    Ok(())
}

/// Puts a repaired layer's projections, biases and post-norm gains back.
fn put_layer(parts: &mut Parts<'_>, layer: Layer, offset: f32) -> Result<(), SurgeryError> {
    let mut linears: Vec<(Role, Role, Linear)> = Vec::new();
    if let Some(attention) = layer.attention {
        linears.push((Role::Q, Role::QBias, attention.q));
        linears.push((Role::K, Role::KBias, attention.k));
        linears.push((Role::V, Role::VBias, attention.v));
        linears.push((Role::O, Role::OBias, attention.o));
        if let Some(gain) = attention.post_norm {
            put(parts, Role::AttentionPostNorm, less(gain, offset))?;
        }
    }
    if let Some(ffn) = layer.ffn {
        linears.push((Role::Gate, Role::GateBias, ffn.gate));
        linears.push((Role::Up, Role::UpBias, ffn.up));
        linears.push((Role::Down, Role::DownBias, ffn.down));
        if let Some(gain) = ffn.post_norm {
            put(parts, Role::FfnPostNorm, less(gain, offset))?;
        }
    }
    for (weight, bias, linear) in linears {
        put(parts, weight, linear.weight)?;
        if let Some(numbers) = linear.bias {
            put(parts, bias, numbers)?;
        }
    }
    Ok(())
}
