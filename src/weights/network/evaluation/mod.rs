//! What a model makes of held-out text: loss, perplexity, and how far it is from its parent.

pub mod compare;

use crate::compute::storage::SizeError;
use crate::weights::network::evaluation::compare::{Predictions, compare, conclude};
use crate::weights::network::forward::forward_layer;
use crate::weights::network::probe::Blind;
use crate::weights::network::room::Room;
use crate::weights::network::source::{LayerSource, SourceError, WeightsError};

/// An evaluation that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// Weights of the model cannot be loaded.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Weights that do not fit each other.
    #[error("the model's weights do not fit each other: {0}")]
    Size(#[from] SizeError),
    /// Nothing to evaluate on.
    #[error("no sample of two tokens or more: expected text to predict")]
    NoSamples,
    /// A token the model has no row for.
    #[error(
        "sample {sample}: token {token} is beyond the vocabulary of {vocabulary}; was the text tokenised for this model?"
    )]
    Token {
        /// Which sample, from 1.
        sample: usize,
        /// The token.
        token: u32,
        /// Rows of the embedding.
        vocabulary: usize,
    },
    /// Distributions over different vocabularies cannot be compared.
    #[error("the model has a vocabulary of {found}, its parent one of {expected}: the parent must share it")]
    Vocabulary {
        /// The model's.
        found: usize,
        /// The parent's.
        expected: usize,
    },
}

impl From<SourceError> for EvaluationError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Weights(error) => Self::Weights(error),
            SourceError::Size(error) => Self::Size(error),
        }
    }
}

/// How an evaluation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Tokens run through a layer at a time, at least one sample: bounds memory, not results.
    pub batch_tokens: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch_tokens: 8192 }
    }
}

/// A mean over predicted tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its standard error, with samples as what is drawn; none for a single sample.
    pub standard_error: Option<f64>,
}

impl Mean {
    /// 95 % interval, by the normal distribution; none for a single sample.
    pub fn interval(&self) -> Option<(f64, f64)> {
        self.standard_error.map(|error| (self.mean - 1.96 * error, self.mean + 1.96 * error))
    }
}

/// What a model makes of some text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Samples of two tokens or more.
    pub samples: usize,
    /// Tokens that were predicted: all but the first of each sample.
    pub tokens: usize,
    /// Negative log-likelihood, nats a token.
    pub nll: Mean,
    /// Against the parent, where one was given.
    pub parent: Option<Comparison>,
}

impl Evaluation {
    /// `e^nll`.
    pub fn perplexity(&self) -> f64 {
        self.nll.mean.exp()
    }
}

/// A model against its parent, on the same tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The parent's negative log-likelihood, nats a token.
    pub nll: Mean,
    /// The model's less the parent's, nats a token.
    pub difference: Mean,
    /// Share of tokens for which both find the same token most likely.
    pub agreement: Mean,
    /// Divergence of the model's distribution from the parent's, nats a token.
    pub kl: Mean,
}

/// Where an evaluation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Layers times batches that are done, over both models.
    pub done: usize,
    /// Of how many.
    pub total: usize,
}

/// Evaluates a model, against its parent if one is given. Both are run layer by layer, one layer's weights in memory at a
/// time, over batches of `options.batch_tokens`. Samples of fewer than two tokens are passed over.
///
/// # Errors
/// Weights that cannot be loaded, tokens beyond the vocabulary, a parent of another vocabulary, no samples.
pub fn evaluate(
    model: &dyn LayerSource,
    parent: Option<&dyn LayerSource>,
    samples: &[Vec<u32>],
    options: Options,
    progress: &mut dyn FnMut(Step),
) -> Result<Evaluation, EvaluationError> {
    let samples: Vec<&[u32]> = samples.iter().map(Vec::as_slice).filter(|s| s.len() > 1).collect();
    check(model, parent, &samples)?;
    let batches = batches(&samples, options.batch_tokens);
    let depth = model.depth() + parent.map_or(0, |p| p.depth());
    let mut step = Step { done: 0, total: batches.len() * depth };
    let mut advance = || {
        step.done += 1;
        progress(step);
    };
    let mut child = Runner::new(model);
    let mut parent = parent.map(Runner::new);
    let mut sums = Vec::with_capacity(samples.len());
    for batch in batches {
        child.run(batch, &mut advance)?;
        if let Some(parent) = &mut parent {
            parent.run(batch, &mut advance)?;
        }
        let parent = parent.as_mut().map(|parent| &mut parent.predictions);
        let mut children = [&mut child.predictions];
        sums.extend(compare(&mut children, parent, batch)?.into_iter().flatten());
    }
    Ok(conclude(&sums, parent.is_some()))
}

/// Whether models and samples go together.
///
/// # Errors
/// Another vocabulary, a token beyond it, no sample.
pub fn check(
    model: &dyn LayerSource,
    parent: Option<&dyn LayerSource>,
    samples: &[&[u32]],
) -> Result<(), EvaluationError> {
    let vocabulary = model.settings().vocabulary;
    if let Some(parent) = parent
        && parent.settings().vocabulary != vocabulary
    {
        let expected = parent.settings().vocabulary;
        return Err(EvaluationError::Vocabulary { found: vocabulary, expected });
    }
    if samples.is_empty() {
        return Err(EvaluationError::NoSamples);
    }
    for (index, sample) in samples.iter().enumerate() {
        if let Some(&token) = sample.iter().find(|token| **token as usize >= vocabulary) {
            return Err(EvaluationError::Token { sample: index + 1, token, vocabulary });
        }
    }
    Ok(())
}

/// Whole samples, together at most `tokens` of them, at least one sample.
pub fn batches<S: AsRef<[u32]>>(samples: &[S], tokens: usize) -> Vec<&[S]> {
    let mut batches = Vec::new();
    let mut rest = samples;
    while !rest.is_empty() {
        let mut held = 0;
        let fits = |sample: &S| {
            held += sample.as_ref().len();
            held <= tokens
        };
        let count = rest.iter().map(fits).take_while(|fits| *fits).count().max(1);
        let (batch, others) = rest.split_at(count);
        batches.push(batch);
        rest = others;
    }
    batches
}

/// A model, and the buffers of its pass.
struct Runner<'m> {
    model: &'m dyn LayerSource,
    stream: Vec<f32>,
    predictions: Predictions<'m>,
    room: Room,
}

impl<'m> Runner<'m> {
    fn new(model: &'m dyn LayerSource) -> Self {
        let predictions = Predictions::new(model.settings());
        Self { model, stream: Vec::new(), predictions, room: Room::default() }
    }

    fn run(&mut self, batch: &[&[u32]], advance: &mut dyn FnMut()) -> Result<(), EvaluationError> {
        let settings = self.model.settings();
        let lengths: Vec<usize> = batch.iter().map(|sample| sample.len()).collect();
        self.predictions.ends = None;
        self.model.embed(&batch.concat(), &mut self.stream)?;
        for index in 0..self.model.depth() {
            let layer = self.model.layer(index)?;
            let room = &mut self.room;
            forward_layer(&layer, settings, index, &lengths, &mut self.stream, room, &mut Blind)?;
            advance();
        }
        self.predictions.end(self.model.output_ends()?, &lengths, &mut self.stream)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::checkpoint::Checkpoint;
    use crate::weights::network::source::{Resident, Streamed};
    use crate::weights::network::tests::{directory, model, plain_logits};

    fn run(model: &Resident, parent: Option<&Resident>, samples: &[Vec<u32>], batch: usize) -> Evaluation {
        let parent = parent.map(|parent| parent as &dyn LayerSource);
        let mut steps = Vec::new();
        let options = Options { batch_tokens: batch };
        let found = evaluate(model, parent, samples, options, &mut |step| steps.push(step)).unwrap();
        assert_eq!(steps.last().map(|step| step.done), steps.first().map(|step| step.total));
        found
    }

    fn samples() -> Vec<Vec<u32>> {
        vec![vec![1, 2, 3, 4, 5], vec![9, 8], vec![7], vec![11, 30, 2, 49, 0, 0, 3]]
    }

    #[test]
    fn figures_agree_with_double_precision() {
        let (child, parent) = (model(6), model(7));
        let found = run(&child, Some(&parent), &samples(), 8192);
        let (mut nll, mut agreed, mut kl, mut tokens) = (0.0, 0.0, 0.0, 0.0);
        for sample in samples() {
            let rows = plain_logits(6, &sample).into_iter().zip(plain_logits(7, &sample));
            for ((child, parent), target) in rows.zip(sample.iter().skip(1)) {
                let log = |x: &[f64]| -> Vec<f64> {
                    let sum: f64 = x.iter().map(|x| x.exp()).sum();
                    x.iter().map(|x| x - sum.ln()).collect()
                };
                let best = |x: &[f64]| (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best });
                let (child, parent) = (log(&child), log(&parent));
                nll -= child[*target as usize];
                agreed += f64::from(u8::from(best(&child) == best(&parent)));
                kl += parent.iter().zip(&child).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
                tokens += 1.0;
            }
        }
        let against = found.parent.unwrap();
        assert_eq!((found.samples, found.tokens as f64), (3, tokens));
        assert!((found.nll.mean - nll / tokens).abs() < 1e-5);
        assert!((found.perplexity() - (nll / tokens).exp()).abs() < 1e-3);
        assert!((against.kl.mean - kl / tokens).abs() < 1e-5, "{} {}", against.kl.mean, kl / tokens);
        assert_eq!(against.agreement.mean, agreed / tokens);
        assert!((against.difference.mean - (found.nll.mean - against.nll.mean)).abs() < 1e-12);
        assert!(found.nll.standard_error.unwrap() > 0.0);
    }

    #[test]
    fn a_model_agrees_with_itself_in_batches_of_any_size() {
        let model = model(4);
        let whole = run(&model, Some(&model), &samples(), 8192);
        let against = whole.parent.unwrap();
        assert!(against.kl.mean < 1e-9 && against.agreement.mean == 1.0 && against.difference.mean == 0.0);
        let small = run(&model, None, &samples(), 1);
        assert!((small.nll.mean - whole.nll.mean).abs() < 1e-6);
        assert_eq!(run(&model, None, &samples()[..1], 8192).nll.standard_error, None);
    }

    #[test]
    fn a_checkpoint_is_run_as_the_model_in_memory() {
        for which in [2, 5, 7] {
            let folder = directory(which);
            let checkpoint = Checkpoint::open(folder.path()).unwrap();
            let streamed = Streamed::new(&checkpoint).unwrap();
            assert_eq!(Resident::of(&streamed).unwrap(), model(which));
            let found = evaluate(&streamed, None, &samples(), Options { batch_tokens: 7 }, &mut |_| {});
            assert_eq!(found.unwrap(), run(&model(which), None, &samples(), 7));
        }
    }

    #[test]
    fn batches_hold_whole_samples() {
        let sizes = |tokens: usize| -> Vec<usize> {
            batches(&samples(), tokens).into_iter().map(<[_]>::len).collect()
        };
        assert_eq!(sizes(8), [3, 1]);
        assert_eq!(sizes(1), [1, 1, 1, 1]);
        assert_eq!(sizes(15), [4]);
    }

    #[test]
    fn what_cannot_be_evaluated_is_refused() {
        let model = model(4);
        let run = |samples: &[Vec<u32>]| {
            evaluate(&model, None, samples, Options::default(), &mut |_| {}).unwrap_err()
        };
        assert!(matches!(run(&[vec![1]]), EvaluationError::NoSamples));
        let error = run(&[vec![1, 2], vec![3, 50]]);
        assert!(matches!(error, EvaluationError::Token { sample: 2, token: 50, vocabulary: 50 }));
        let mut other = model.clone();
        other.settings.vocabulary = 49;
        let error = evaluate(&model, Some(&other), &[vec![1, 2]], Options::default(), &mut |_| {});
        assert!(matches!(error, Err(EvaluationError::Vocabulary { found: 50, expected: 49 })));
    }
}
