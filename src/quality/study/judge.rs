//! Shapes judged by scores and tries, one by one or over a whole grid.

use crate::estimate::{Estimate, Source};
use crate::model::architecture::LayerShape;
use crate::quality::scores::curve::Nats;
use crate::quality::scores::error::ScoresError;
use crate::quality::scores::table::{Child, Parts, Table};
use crate::quality::scores::{Measured, Scores};
use crate::quality::study::Study;
use crate::quality::study::estimator::{Estimator, Predicted, Site, Tried, Z90};
use crate::quality::study::line::{Candidate, Told};

/// Scores with what was learned from tries.
pub struct Judge {
    /// The scores.
    pub table: Table,
    /// SHA-256 of their file, hexadecimal.
    pub scores_sha256: String,
    /// What tries say of them.
    pub estimator: Estimator,
    /// Shapes that were tried.
    pub tried: Vec<TriedChild>,
}

/// A shape that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct TriedChild {
    /// What was made of the parent.
    pub child: Child,
    /// What it lost, nats a token.
    pub measured: Measured,
    /// What was predicted before, with its 90 % interval.
    pub predicted: Option<Estimate>,
}

impl TriedChild {
    /// What it lost, with its 90 % interval.
    pub fn loss(&self) -> Estimate {
        let Measured { mean, standard_error } = self.measured;
        let half = Z90 * standard_error.unwrap_or(0.0);
        Estimate { value: mean, low: mean - half, high: mean + half, source: Source::Measured }
    }
}

/// What a child is said to lose.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Increase of the loss, nats a token, with its 90 % interval.
    pub loss: Estimate,
    /// The scores behind it.
    pub parts: Parts,
}

/// An estimate with its 90 % interval.
pub fn interval(predicted: Predicted) -> Estimate {
    let Predicted { mean, deviation } = predicted;
    Estimate {
        value: mean,
        low: mean - Z90 * deviation,
        high: mean + Z90 * deviation,
        source: Source::Scores,
    }
}

impl Judge {
    /// Of scores, and of what a study has tried.
    ///
    /// # Errors
    /// Scores that miss parts.
    pub fn new(scores: &Scores, scores_sha256: String, study: Option<&Study>) -> Result<Self, ScoresError> {
        let tried = study.map(Study::tried).unwrap_or_default();
        let of = |(candidate, told): &(&Candidate, &Told)| {
            let predicted = study.and_then(|study| study.predicted.get(&candidate.id)).copied();
            Some(TriedChild {
                child: candidate.child.clone(),
                measured: told.loss()?,
                predicted: predicted.map(interval),
            })
        };
        Ok(Self {
            table: Table::of(scores)?,
            scores_sha256,
            estimator: Estimator::fit(Tried::of(&tried)),
            tried: tried.iter().filter_map(of).collect(),
        })
    }

    /// What a child loses.
    ///
    /// # Errors
    /// A change outside of those scored.
    pub fn judge(&self, child: &Child) -> Result<Judged, ScoresError> {
        let parts = self.table.parts(child)?;
        Ok(Judged { loss: interval(self.estimator.predict(&Site::of(parts.axes()))), parts })
    }

    /// Every uniform child with one value of each axis; heads are (query heads, KV heads).
    ///
    /// # Errors
    /// A value outside of those scored.
    pub fn grid(
        &self,
        hidden: &[u64],
        heads: &[(u64, u64)],
        ffn: &[u64],
        layers: &[u64],
    ) -> Result<Grid, ScoresError> {
        let parent = self.table.parent();
        let kept = layers.iter().map(|layers| self.table.kept(*layers)).collect::<Result<Vec<_>, _>>()?;
        let whole: Vec<LayerShape> = parent.layer_shapes().collect();
        let over = |kept: &[u64], shape: &dyn Fn(LayerShape) -> LayerShape, ffn: bool| {
            let of = |layer: &u64| {
                let own = whole.get(*layer as usize).copied().unwrap_or_default();
                let part = self.table.layer(*layer, shape(own))?;
                Ok(if ffn { part.ffn } else { part.attention })
            };
            kept.iter().map(of).sum::<Result<Nats, ScoresError>>().map(|nats| nats.mean)
        };
        let attention = heads.iter().map(|&(q_heads, kv_heads)| {
            let shape = move |own: LayerShape| LayerShape { q_heads, kv_heads, ..own };
            kept.iter().map(|kept| over(kept, &shape, false)).collect()
        });
        let narrowed = ffn.iter().map(|&ffn| {
            let shape = move |own: LayerShape| LayerShape { ffn, ..own };
            kept.iter().map(|kept| over(kept, &shape, true)).collect()
        });
        let depth = kept.iter().map(|kept| {
            let child = Child { architecture: parent.clone(), kept: kept.clone() };
            Ok(self.table.depth(&child)?.mean)
        });
        Ok(Grid {
            hidden: hidden
                .iter()
                .map(|hidden| Ok(self.table.hidden(*hidden)?.mean))
                .collect::<Result<_, ScoresError>>()?,
            depth: depth.collect::<Result<_, ScoresError>>()?,
            attention: attention.collect::<Result<_, ScoresError>>()?,
            ffn: narrowed.collect::<Result<_, ScoresError>>()?,
            estimator: self.estimator.clone(),
        })
    }
}

/// Scores of every uniform child by the positions of its values.
pub struct Grid {
    hidden: Vec<f64>,
    depth: Vec<f64>,
    /// By heads, then layers.
    attention: Vec<Vec<f64>>,
    /// By FFN width, then layers.
    ffn: Vec<Vec<f64>>,
    estimator: Estimator,
}

impl Grid {
    /// Increase of the loss, nats a token; not a number beyond the grid.
    #[inline]
    pub fn nats(&self, hidden: usize, heads: usize, ffn: usize, layers: usize) -> f64 {
        let of = || {
            let attention = *self.attention.get(heads)?.get(layers)?;
            let ffn = *self.ffn.get(ffn)?.get(layers)?;
            let nats = [*self.hidden.get(hidden)?, *self.depth.get(layers)?, attention, ffn];
            Some(self.estimator.mean(&Site { nats, variance: 0.0 }))
        };
        of().unwrap_or(f64::NAN)
    }
}
