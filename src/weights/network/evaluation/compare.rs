//! Predictions of one or several models on the same tokens, against those of their parent.

use std::borrow::Cow;
use std::ops::Range;

use crate::compute::loss::{RowSum, divergences, row_sums};
use crate::compute::storage::SizeError;
use crate::weights::network::evaluation::{Comparison, Evaluation, Mean};
use crate::weights::network::forward::{final_normed, logits};
use crate::weights::network::layer::Ends;
use crate::weights::network::settings::Settings;

/// Numbers of logits held at a time, per model.
const LOGITS: usize = 1 << 24;

/// What a model predicts of a batch, before the LM head.
pub struct Predictions<'m> {
    settings: &'m Settings,
    /// Last norm and head, while they are needed.
    pub(super) ends: Option<Cow<'m, Ends>>,
    /// Last norm's output of the tokens that predict another, `[tokens, hidden]`.
    normed: Vec<f32>,
    logits: Vec<f32>,
}

/// Sums of one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SampleSums {
    /// Predicted tokens.
    pub tokens: f64,
    /// Their negative log-likelihood, nats.
    pub nll: f64,
    /// The parent's.
    pub parent_nll: f64,
    /// Tokens on which both find the same most likely.
    pub agreed: f64,
    /// Divergence from the parent, nats.
    pub kl: f64,
}

impl<'m> Predictions<'m> {
    /// Of a model, before its first batch.
    pub fn new(settings: &'m Settings) -> Self {
        Self { settings, ends: None, normed: Vec::new(), logits: Vec::new() }
    }

    /// Takes the stream as it leaves the last layer, `[tokens, hidden]`; sequences of `lengths` tokens. The last token of
    /// a sequence predicts nothing that is known: `stream` loses its row.
    ///
    /// # Errors
    /// A stream of another size.
    pub fn end(
        &mut self,
        ends: Cow<'m, Ends>,
        lengths: &[usize],
        stream: &mut Vec<f32>,
    ) -> Result<(), SizeError> {
        let hidden = self.settings.hidden;
        let (expected, found) = (lengths.iter().sum::<usize>() * hidden, stream.len());
        if found != expected {
            return Err(SizeError { what: "stream", found, expected });
        }
        let (mut from, mut to) = (0, 0);
        for length in lengths {
            let part = length.saturating_sub(1) * hidden;
            stream.copy_within(from..from + part, to);
            (from, to) = (from + length * hidden, to + part);
        }
        stream.truncate(to);
        let ends = self.ends.insert(ends);
        final_normed(ends, self.settings, stream, &mut self.normed)
    }

    /// Output of the last norm of the tokens that predict another, `[tokens, hidden]`.
    pub fn normed(&self) -> &[f32] {
        &self.normed
    }

    /// Logits of some of the tokens that predict another, and their sums.
    fn logits(&mut self, rows: Range<usize>) -> Result<Vec<RowSum>, SizeError> {
        let part = rows.start * self.settings.hidden..rows.end * self.settings.hidden;
        if let Some(ends) = &self.ends {
            logits(ends, self.settings, self.normed.get(part).unwrap_or(&[]), &mut self.logits)?;
        }
        row_sums(&self.logits, self.settings.vocabulary)
    }

    fn nll(&self, sum: &RowSum, row: usize, target: u32) -> f64 {
        let at = row * self.settings.vocabulary + target as usize;
        sum.log_sum - f64::from(self.logits.get(at).copied().unwrap_or(f64::NAN as f32))
    }
}

/// Sums of every sample of a batch, model by model; the parent's logits are computed once for all of them. All share one
/// vocabulary.
///
/// # Errors
/// Weights that do not fit each other.
pub fn compare(
    models: &mut [&mut Predictions<'_>],
    mut parent: Option<&mut Predictions<'_>>,
    batch: &[&[u32]],
) -> Result<Vec<Vec<SampleSums>>, SizeError> {
    let of_sample = |(index, sample): (usize, &&[u32])| -> Vec<(usize, u32)> {
        sample.iter().skip(1).map(|target| (index, *target)).collect()
    };
    let targets: Vec<(usize, u32)> = batch.iter().enumerate().flat_map(of_sample).collect();
    let vocabulary = models.first().map_or(1, |model| model.settings.vocabulary).max(1);
    let at_a_time = (LOGITS / vocabulary).max(1);
    let mut sums = vec![vec![SampleSums::default(); batch.len()]; models.len()];
    for (chunk, targets) in targets.chunks(at_a_time).enumerate() {
        let range = chunk * at_a_time..chunk * at_a_time + targets.len();
        let of_parent = match &mut parent {
            None => None,
            Some(parent) => Some((parent.logits(range.clone())?, &**parent)),
        };
        for (model, sums) in models.iter_mut().zip(&mut sums) {
            let rows = model.logits(range.clone())?;
            let kl = match &of_parent {
                None => Vec::new(),
                Some((theirs, parent)) => {
                    divergences((&parent.logits, theirs), (&model.logits, &rows), vocabulary)?
                }
            };
            for (row, (sum, (sample, target))) in rows.iter().zip(targets).enumerate() {
                let Some(of) = sums.get_mut(*sample) else { continue };
                of.tokens += 1.0;
                of.nll += model.nll(sum, row, *target);
                if let Some((theirs, parent)) = &of_parent
                    && let (Some(their), Some(kl)) = (theirs.get(row), kl.get(row))
                {
                    of.parent_nll += parent.nll(their, row, *target);
                    of.agreed += f64::from(u8::from(their.best == sum.best));
                    of.kl += kl;
                }
            }
        }
    }
    Ok(sums)
}

/// A mean over tokens of what is summed per sample. Samples differ in length: its error is that of a ratio of two sums
/// over them.
pub fn mean<S>(samples: &[S], tokens: impl Fn(&S) -> f64, of: impl Fn(&S) -> f64) -> Mean {
    let all: f64 = samples.iter().map(&tokens).sum();
    let mean = samples.iter().map(&of).sum::<f64>() / all;
    let residuals: f64 = samples.iter().map(|s| (of(s) - mean * tokens(s)).powi(2)).sum();
    let count = samples.len() as f64;
    let error = (residuals * count / (count - 1.0)).sqrt() / all;
    Mean { mean, standard_error: (samples.len() > 1).then_some(error) }
}

/// The figures of a model from the sums of its samples.
pub fn conclude(sums: &[SampleSums], compared: bool) -> Evaluation {
    let mean = |of: &dyn Fn(&SampleSums) -> f64| mean(sums, |s| s.tokens, of);
    Evaluation {
        samples: sums.len(),
        tokens: sums.iter().map(|s| s.tokens).sum::<f64>() as usize,
        nll: mean(&|s| s.nll),
        parent: compared.then(|| Comparison {
            nll: mean(&|s| s.parent_nll),
            difference: mean(&|s| s.nll - s.parent_nll),
            agreement: mean(&|s| s.agreed),
            kl: mean(&|s| s.kl),
        }),
    }
}
