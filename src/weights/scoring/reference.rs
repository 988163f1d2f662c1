//! The parent on the held-out text: what every child is compared with.

use std::borrow::Cow;

use crate::quality::scores::{Change, Score};
use crate::weights::network::evaluation::compare::{Predictions, SampleSums, compare, mean};
use crate::weights::network::evaluation::{self, Mean, batches};
use crate::weights::network::forward::forward_layer;
use crate::weights::network::layer::Ends;
use crate::weights::network::probe::Blind;
use crate::weights::network::room::Room;
use crate::weights::network::settings::Settings;
use crate::weights::network::source::LayerSource;
use crate::weights::scoring::error::ScoringError;

/// Held-out text with what the parent makes of it.
pub struct Reference<'s> {
    /// Samples of two tokens or more, batch by batch.
    pub batches: Vec<Vec<&'s [u32]>>,
    /// Last norm and head.
    pub ends: Ends,
    settings: Settings,
    /// The parent's stream as it leaves the last layer, per batch.
    last: Vec<Vec<f32>>,
}

/// Sums of one sample, with the distance of the last norm's output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    of: SampleSums,
    missed: f64,
}

/// What a child costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Its loss, nats a token.
    pub nll: Mean,
    /// Less the parent's.
    pub delta_nll: Mean,
    /// Divergence from the parent, nats a token.
    pub kl: Mean,
    /// `|x' - x|^2 / |x|^2` of the last norm's output; none where the child is narrower.
    pub hidden_distance: Option<Mean>,
}

impl<'s> Reference<'s> {
    /// Runs the parent over `samples`, `batch_tokens` at a time.
    ///
    /// # Errors
    /// Weights that cannot be loaded; tokens beyond the vocabulary; no sample of two tokens.
    pub fn new(
        parent: &dyn LayerSource,
        samples: &'s [Vec<u32>],
        batch_tokens: usize,
    ) -> Result<Self, ScoringError> {
        let samples: Vec<&[u32]> = samples.iter().map(Vec::as_slice).filter(|s| s.len() > 1).collect();
        evaluation::check(parent, None, &samples)?;
        let batches: Vec<Vec<&[u32]>> =
            batches(&samples, batch_tokens).into_iter().map(<[_]>::to_vec).collect();
        let mut reference = Self {
            last: Vec::new(),
            ends: parent.output_ends()?.into_owned(),
            settings: parent.settings().clone(),
            batches,
        };
        let mut streams = reference.embedded(parent)?;
        let mut room = Room::default();
        for index in 0..parent.depth() {
            let layer = parent.layer(index)?;
            for (stream, batch) in streams.iter_mut().zip(&reference.batches) {
                forward_layer(
                    &layer,
                    parent.settings(),
                    index,
                    &lengths(batch),
                    stream,
                    &mut room,
                    &mut Blind,
                )?;
            }
        }
        reference.last = streams;
        Ok(reference)
    }

    /// The stream of every batch as it enters the first layer of a model.
    ///
    /// # Errors
    /// Weights that cannot be loaded.
    pub fn embedded(&self, model: &dyn LayerSource) -> Result<Vec<Vec<f32>>, ScoringError> {
        let embed = |batch: &Vec<&[u32]>| {
            let mut stream = Vec::new();
            model.embed(&batch.concat(), &mut stream)?;
            Ok(stream)
        };
        self.batches.iter().map(embed).collect()
    }

    /// Tokens of a sample, over all batches.
    pub fn tokens(&self) -> usize {
        self.batches.iter().flatten().map(|sample| sample.len()).sum()
    }

    /// The parent's own loss, nats a token.
    ///
    /// # Errors
    /// Streams of another size.
    pub fn parent_nll(&self) -> Result<Mean, ScoringError> {
        let costs = self.costs(vec![self.last.clone()])?;
        let cost = costs.first().ok_or(evaluation::EvaluationError::NoSamples)?;
        Ok(cost.nll)
    }

    /// What children cost that have the parent's ends: `last` is their stream as it leaves the last layer, child by
    /// child, batch by batch.
    ///
    /// # Errors
    /// Streams of another size.
    pub fn costs(&self, last: Vec<Vec<Vec<f32>>>) -> Result<Vec<Cost>, ScoringError> {
        self.judge(last, &self.settings, &self.ends)
    }

    /// What one child costs that has ends of its own.
    ///
    /// # Errors
    /// Weights that cannot be loaded; another vocabulary.
    pub fn cost(&self, child: &dyn LayerSource) -> Result<Cost, ScoringError> {
        let (found, expected) = (child.settings().vocabulary, self.settings.vocabulary);
        if found != expected {
            return Err(evaluation::EvaluationError::Vocabulary { found, expected }.into());
        }
        let mut streams = self.embedded(child)?;
        let mut room = Room::default();
        for index in 0..child.depth() {
            let layer = child.layer(index)?;
            for (stream, batch) in streams.iter_mut().zip(&self.batches) {
                forward_layer(
                    &layer,
                    child.settings(),
                    index,
                    &lengths(batch),
                    stream,
                    &mut room,
                    &mut Blind,
                )?;
            }
        }
        let ends = child.output_ends()?;
        let costs = self.judge(vec![streams], child.settings(), &ends)?;
        costs.into_iter().next().ok_or_else(|| evaluation::EvaluationError::NoSamples.into())
    }

    fn judge(
        &self,
        mut last: Vec<Vec<Vec<f32>>>,
        settings: &Settings,
        ends: &Ends,
    ) -> Result<Vec<Cost>, ScoringError> {
        let mut parent = Predictions::new(&self.settings);
        let mut children: Vec<Predictions<'_>> = last.iter().map(|_| Predictions::new(settings)).collect();
        let mut sums: Vec<Vec<Sums>> = vec![Vec::new(); last.len()];
        let comparable = settings.hidden == self.settings.hidden;
        for (at, (batch, theirs)) in self.batches.iter().zip(&self.last).enumerate() {
            let lengths = lengths(batch);
            parent.end(Cow::Borrowed(&self.ends), &lengths, &mut theirs.clone())?;
            for (child, streams) in children.iter_mut().zip(&mut last) {
                let mut stream = streams.get_mut(at).map(std::mem::take).unwrap_or_default();
                child.end(Cow::Borrowed(ends), &lengths, &mut stream)?;
            }
            let missed: Vec<Vec<f64>> = children
                .iter()
                .map(|child| match comparable {
                    true => distances(parent.normed(), child.normed(), settings.hidden, &lengths),
                    false => vec![0.0; batch.len()],
                })
                .collect();
            let mut models: Vec<&mut Predictions<'_>> = children.iter_mut().collect();
            let found = compare(&mut models, Some(&mut parent), batch)?;
            for ((sums, found), missed) in sums.iter_mut().zip(found).zip(missed) {
                sums.extend(found.into_iter().zip(missed).map(|(of, missed)| Sums { of, missed }));
            }
        }
        Ok(sums.iter().map(|sums| cost(sums, comparable)).collect())
    }
}

impl Cost {
    /// As the score of a change.
    pub fn score(&self, change: Change) -> Score {
        Score {
            change,
            delta_nll: self.delta_nll.into(),
            kl: self.kl.into(),
            hidden_distance: self.hidden_distance.map(Into::into),
        }
    }
}

fn cost(sums: &[Sums], comparable: bool) -> Cost {
    let mean = |of: &dyn Fn(&Sums) -> f64| mean(sums, |s| s.of.tokens, of);
    Cost {
        nll: mean(&|s| s.of.nll),
        delta_nll: mean(&|s| s.of.nll - s.of.parent_nll),
        kl: mean(&|s| s.of.kl),
        hidden_distance: comparable.then(|| mean(&|s| s.missed)),
    }
}

/// Sums over the predicting tokens of each sample of `|x' - x|^2 / |x|^2`.
fn distances(theirs: &[f32], mine: &[f32], hidden: usize, lengths: &[usize]) -> Vec<f64> {
    let square = |x: f64| x * x;
    let mut rows = theirs.chunks_exact(hidden).zip(mine.chunks_exact(hidden)).map(|(theirs, mine)| {
        let pairs = theirs.iter().zip(mine);
        let missed: f64 = pairs.map(|(x, y)| square(f64::from(*x) - f64::from(*y))).sum();
        let whole: f64 = theirs.iter().map(|x| square(f64::from(*x))).sum();
        if whole > 0.0 { missed / whole } else { 0.0 }
    });
    lengths.iter().map(|length| rows.by_ref().take(length.saturating_sub(1)).sum()).collect()
}

/// Tokens of each sample.
pub fn lengths(batch: &[&[u32]]) -> Vec<usize> {
    batch.iter().map(|sample| sample.len()).collect()
}
