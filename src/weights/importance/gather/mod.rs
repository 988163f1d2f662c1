//! Gathers the sums while a forward pass runs.
//!
//! What one sample adds does not depend on the samples beside it, and samples are added in their order, so that neither
//! the number of threads nor the cut into batches or parts matters beyond rounding.

mod angles;
mod batch;
mod channels;
mod heads;
#[cfg(test)]
mod tests;

use crate::compute::product;
use crate::compute::storage::SizeError;
use crate::model::architecture::{Architecture, LayerShape};
use crate::weights::importance::gather::angles::Angles;
use crate::weights::importance::gather::batch::Batch;
use crate::weights::importance::gather::heads::HeadGrams;
use crate::weights::importance::statistics::{LayerSums, NormSums, PostNormSums, Sums};
use crate::weights::network::layer::Layer;
use crate::weights::network::probe::{Probe, Site};

/// Tokens whose Gram matrix is added at a time.
const GRAM_TOKENS: usize = 2048;

/// A batch that cannot be counted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GatherError {
    /// A sequence without counted tokens.
    #[error(
        "sample {sample} of the batch has {tokens} tokens, of which the first {skip_first} are not counted: expected more"
    )]
    TooShort {
        /// Its place in the batch, from 0.
        sample: usize,
        /// Its tokens.
        tokens: usize,
        /// Tokens left out.
        skip_first: usize,
    },
    /// Values of another size than the batch and the model have.
    #[error(
        "layer {layer}, {site}: {found} values {width} wide; expected {expected} for the tokens of the batch and the shape of the model"
    )]
    Size {
        /// Layer, from 0.
        layer: usize,
        /// Where.
        site: String,
        /// Values seen.
        found: usize,
        /// Their width.
        width: usize,
        /// Values expected.
        expected: usize,
    },
    /// The model overflows on this text.
    #[error(
        "layer {layer}: {field} is not finite: the model's activations overflow or hold NaN on this text"
    )]
    NotFinite {
        /// Layer, from 0; the number of layers = the last norm.
        layer: usize,
        /// What overflowed.
        field: &'static str,
    },
    /// Weights of another size than the layer says.
    #[error(transparent)]
    Weights(#[from] SizeError),
}

/// Watches forward passes and adds up what they show. Per batch: [`Collector::begin_batch`]; per layer
/// [`Collector::prepare`] and the pass; [`Collector::see_final`]; [`Collector::end_batch`].
#[derive(Debug)]
pub struct Collector {
    sums: Sums,
    shapes: Vec<LayerShape>,
    hidden: usize,
    head_dim: usize,
    skip_first: usize,
    batch: Batch,
    prepared: HeadGrams,
    post_gains: [Option<Vec<f32>>; 2],
    /// Stream that entered the layer, and its norm per token.
    entered: Vec<f32>,
    entered_norms: Vec<f64>,
    middle_norms: Vec<f64>,
    middle: Vec<f32>,
    angles: Angles,
    fault: Option<GatherError>,
}

impl Collector {
    /// Goes on from `sums` (zeros at the start), of a model of this shape. The first `skip_first` tokens of each sequence
    /// are not counted. Gram matrices are gathered where `sums` has them.
    pub fn new(sums: Sums, architecture: &Architecture, skip_first: usize) -> Self {
        let shapes: Vec<LayerShape> = architecture.layer_shapes().collect();
        Self {
            angles: Angles::new(shapes.len() + 1),
            sums,
            shapes,
            hidden: architecture.hidden as usize,
            head_dim: architecture.head_dim as usize,
            skip_first,
            batch: Batch::default(),
            prepared: HeadGrams::default(),
            post_gains: [None, None],
            entered: Vec::new(),
            entered_norms: Vec::new(),
            middle_norms: Vec::new(),
            middle: Vec::new(),
            fault: None,
        }
    }

    /// What was gathered so far.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// What was gathered.
    pub fn into_sums(self) -> Sums {
        self.sums
    }

    /// Starts a batch of whole sequences of so many tokens.
    ///
    /// # Errors
    /// A sequence that has no counted tokens.
    pub fn begin_batch(&mut self, lengths: &[usize]) -> Result<(), GatherError> {
        self.batch = Batch::new(lengths, self.skip_first)?;
        self.angles.begin(&self.batch, self.hidden);
        self.fault = None;
        Ok(())
    }

    /// Reads what it must know of a layer's weights before the layer runs.
    ///
    /// # Errors
    /// Weights that do not fit each other.
    pub fn prepare(&mut self, index: usize, layer: &Layer) -> Result<(), GatherError> {
        let shape = self.shapes.get(index).copied().unwrap_or_default();
        let attention = layer.attention.as_ref();
        self.post_gains = [
            attention.and_then(|a| a.post_norm.clone()),
            layer.ffn.as_ref().and_then(|f| f.post_norm.clone()),
        ];
        self.prepared = match attention {
            Some(attention) => HeadGrams::of(attention, shape, self.head_dim)?,
            None => HeadGrams::default(),
        };
        Ok(())
    }

    /// Sees the stream that leaves the last layer, and the last norm's output for it, `[tokens, hidden]`.
    pub fn see_final(&mut self, stream: &[f32], normed: &[f32]) {
        let expected = self.batch.tokens * self.hidden;
        for (site, values) in [("last stream", stream), ("last norm", normed)] {
            if values.len() != expected {
                let (found, width, layer) = (values.len(), self.hidden, self.shapes.len());
                let fault = GatherError::Size { layer, site: site.into(), found, width, expected };
                self.fault.get_or_insert(fault);
                return;
            }
        }
        let norms = batch::row_norms(stream, self.hidden);
        add_norm(&mut self.sums.final_norm, (stream, &norms), normed, &self.batch);
    }

    /// Ends the batch.
    ///
    /// # Errors
    /// What went wrong while it ran; the sums are of no use then.
    pub fn end_batch(&mut self) -> Result<(), GatherError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        self.angles.end(&mut self.sums);
        self.sums.samples += self.batch.samples.len() as u64;
        self.sums.tokens += self.batch.counted() as u64;
        self.check_finite()
    }

    fn check_finite(&self) -> Result<(), GatherError> {
        let finite = |values: &[f64]| values.iter().all(|x| x.is_finite());
        for (layer, sums) in self.sums.layers.iter().enumerate() {
            let fields = [
                ("the stream", finite(&[sums.stream_norm, sums.cosine, sums.first_token_norm])),
                ("the attention norm's output", finite(&sums.attention_norm.output.sum_squares)),
                ("a head's output", finite(&sums.head_outputs.sum_squares)),
                ("a head's contribution", finite(&sums.group_contributions)),
                ("the FFN norm's output", finite(&sums.ffn_norm.output.sum_squares)),
                ("the down projection's input", finite(&sums.ffn_hidden.sum_squares)),
            ];
            if let Some((field, _)) = fields.into_iter().find(|(_, finite)| !finite) {
                return Err(GatherError::NotFinite { layer, field });
            }
        }
        match finite(&self.sums.final_norm.output.sum_squares) {
            true => Ok(()),
            false => {
                Err(GatherError::NotFinite { layer: self.sums.layers.len(), field: "the last norm's output" })
            }
        }
    }

    /// Width that values at a site have in this model.
    fn width(&self, layer: usize, site: Site) -> usize {
        let shape = self.shapes.get(layer).copied().unwrap_or_default();
        match site {
            Site::HeadOutputs => shape.q_heads as usize * self.head_dim,
            Site::FfnHidden => shape.ffn as usize,
            _ => self.hidden,
        }
    }

    fn enter(&mut self, layer: usize, stream: &[f32]) {
        self.entered.clear();
        self.entered.extend_from_slice(stream);
        self.entered_norms = batch::row_norms(stream, self.hidden);
        self.angles.see(layer, stream);
        let (counted, first) =
            (self.batch.counted_sums(&self.entered_norms), self.batch.first_sum(&self.entered_norms));
        if let Some(sums) = self.sums.layers.get_mut(layer) {
            sums.stream_norm += counted;
            sums.first_token_norm += first;
        }
    }

    fn leave(&mut self, layer: usize, stream: &[f32]) {
        if layer + 1 == self.shapes.len() {
            self.angles.see(layer + 1, stream);
        }
        let cosines = batch::row_cosines((&self.entered, &self.entered_norms), stream, self.hidden);
        let cosine = self.batch.counted_sums(&cosines);
        if let Some(sums) = self.sums.layers.get_mut(layer) {
            sums.cosine += cosine;
        }
    }

    fn see_heads(&mut self, layer: usize, values: &[f32]) {
        let Some(sums) = self.sums.layers.get_mut(layer) else { return };
        let heads = sums.heads.len();
        let norms = heads::output_norms(values, heads, self.head_dim);
        self.batch.add_mean_squared(&norms, &mut sums.heads);
        let outcome = self.prepared.see(values);
        if self.post_gains[0].is_none() {
            self.prepared.settle(None, &self.batch, sums);
        }
        if let Err(error) = outcome {
            self.fault.get_or_insert(error.into());
        }
    }

    fn see_output(&mut self, layer: usize, site: Site, values: &[f32]) {
        let Some(sums) = self.sums.layers.get_mut(layer) else { return };
        let attention = site == Site::AttentionOutput;
        let [attention_gain, ffn_gain] = &self.post_gains;
        let (gain, post_norm) = match attention {
            true => (attention_gain, &mut sums.attention_post_norm),
            false => (ffn_gain, &mut sums.ffn_post_norm),
        };
        let Some(gain) = gain else { return };
        let rms = batch::row_rms(values, self.hidden);
        if let Some(post_norm) = post_norm {
            add_post_norm(post_norm, (values, &rms), gain, &self.batch);
        }
        if attention {
            self.prepared.settle(Some(&rms), &self.batch, sums);
        }
    }

    fn add_gram(&mut self, layer: usize, site: Site, values: &[f32], width: usize) {
        let Some(grams) = self.sums.layers.get_mut(layer).and_then(|sums| sums.grams.as_mut()) else {
            return;
        };
        let gram = match site {
            Site::AttentionNorm => &mut grams.attention_norm,
            Site::HeadOutputs => &mut grams.head_outputs,
            Site::FfnNorm => &mut grams.ffn_norm,
            Site::FfnHidden => &mut grams.ffn_hidden,
            _ => return,
        };
        let packed = self.batch.packed(values, width);
        for block in packed.chunks(GRAM_TOKENS * width.max(1)) {
            if let Err(error) = product::gram(block, width, gram) {
                self.fault.get_or_insert(error.into());
            }
        }
    }
}

impl Probe for Collector {
    fn see(&mut self, layer: usize, site: Site, values: &[f32], width: usize) {
        let expected = self.batch.tokens * self.width(layer, site);
        if values.len() != expected || width != self.width(layer, site) || layer >= self.sums.layers.len() {
            let found = values.len();
            let fault = GatherError::Size { layer, site: format!("{site:?}"), found, width, expected };
            self.fault.get_or_insert(fault);
            return;
        }
        match site {
            Site::LayerInput => self.enter(layer, values),
            Site::MiddleStream => {
                self.middle.clear();
                self.middle.extend_from_slice(values);
                self.middle_norms = batch::row_norms(values, width);
            }
            Site::LayerOutput => self.leave(layer, values),
            Site::AttentionOutput | Site::FfnOutput => self.see_output(layer, site, values),
            Site::HeadOutputs => self.see_heads(layer, values),
            Site::AttentionNorm | Site::FfnNorm | Site::FfnHidden => {}
        }
        if let Some(sums) = self.sums.layers.get_mut(layer) {
            let entered = (self.entered.as_slice(), self.entered_norms.as_slice());
            let middle = (self.middle.as_slice(), self.middle_norms.as_slice());
            add_channels(sums, site, (entered, middle), values, &self.batch);
        }
        self.add_gram(layer, site, values, width);
    }
}

/// A stream and its norm per token.
type Stream<'a> = (&'a [f32], &'a [f64]);

fn add_channels(
    sums: &mut LayerSums,
    site: Site,
    (entered, middle): (Stream<'_>, Stream<'_>),
    values: &[f32],
    batch: &Batch,
) {
    match site {
        Site::AttentionNorm => add_norm(&mut sums.attention_norm, entered, values, batch),
        Site::FfnNorm => add_norm(&mut sums.ffn_norm, middle, values, batch),
        Site::HeadOutputs => channels::add(&mut sums.head_outputs, values, batch),
        Site::FfnHidden => channels::add(&mut sums.ffn_hidden, values, batch),
        _ => {}
    }
}

fn add_norm(sums: &mut NormSums, (stream, norms): Stream<'_>, normed: &[f32], batch: &Batch) {
    channels::add(&mut sums.output, normed, batch);
    channels::add_energy(&mut sums.energy, stream, norms, batch);
}

fn add_post_norm(sums: &mut PostNormSums, (values, rms): Stream<'_>, gain: &[f32], batch: &Batch) {
    let gained = batch::row_gained(values, gain);
    let by_rms: Vec<f64> = gained.iter().zip(rms).map(|(g, r)| if *r > 0.0 { g / r } else { 0.0 }).collect();
    let squares: Vec<f64> = rms.iter().map(|r| r * r).collect();
    sums.rms += batch.counted_sums(rms);
    sums.rms_squared += batch.counted_sums(&squares);
    sums.gained_by_rms += batch.counted_sums(&by_rms);
    sums.gained += batch.counted_sums(&gained);
}
