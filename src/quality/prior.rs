//! The estimate without weights: what a shape loses against its parent, said by published tables.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::estimate::{Estimate, Source};
use crate::model::architecture::{Architecture, LayerShape};
use crate::quality::benchmark::Benchmark;
use crate::quality::cuts::{Axis, Cuts};
use crate::quality::error::QualityError;
use crate::quality::interval;
use crate::quality::law::Law;
use crate::quality::table::{self, Fitted};

/// How much the pruned model is retrained (distilled from its parent).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub struct Recovery {
    tokens_b: f64,
}

impl Recovery {
    /// Not at all.
    pub const ONE_SHOT: Self = Self { tokens_b: 0.0 };
    /// 100 billion tokens: what the pruning guide of NVIDIA/Model-Optimizer advises (80 to 100) and most of the
    /// published children had (50 to 94).
    pub const STANDARD: Self = Self { tokens_b: 100.0 };

    /// So many billion tokens.
    pub fn tokens_b(tokens_b: f64) -> Result<Self, QualityError> {
        match tokens_b.is_finite() && tokens_b >= 0.0 {
            true => Ok(Self { tokens_b }),
            false => Err(QualityError::Recovery { found: tokens_b }),
        }
    }

    /// In billions of tokens.
    pub fn billions(self) -> f64 {
        self.tokens_b
    }
}

impl Default for Recovery {
    fn default() -> Self {
        Self::STANDARD
    }
}

/// The parent's accuracies, in percent: how far it stands above chance decides how soon it falls.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParentAccuracies(BTreeMap<Benchmark, f64>);

impl Default for ParentAccuracies {
    /// Those of Llama-3.1-8B (arXiv 2408.11796), a middling parent among those of the table.
    fn default() -> Self {
        use Benchmark::{Average, Gsm8k, HellaSwag, Mmlu, WinoGrande};
        Self(BTreeMap::from([
            (Mmlu, 65.3),
            (HellaSwag, 81.8),
            (WinoGrande, 77.3),
            (Gsm8k, 48.6),
            (Average, 68.25),
        ]))
    }
}

impl ParentAccuracies {
    /// The same with one accuracy replaced.
    pub fn with(mut self, benchmark: Benchmark, percent: f64) -> Result<Self, QualityError> {
        let chance = benchmark.chance_percent();
        if !(percent > chance && percent <= 100.0) {
            return Err(QualityError::ParentAccuracy { benchmark: benchmark.name(), found: percent, chance });
        }
        self.0.insert(benchmark, percent);
        Ok(self)
    }

    /// Accuracy in percent.
    pub fn percent(&self, benchmark: Benchmark) -> f64 {
        self.0.get(&benchmark).copied().unwrap_or(100.0)
    }
}

/// What one axis contributes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Contribution {
    /// The axis.
    pub axis: Axis,
    /// Its share of the loss increase, in nats.
    pub nats: f64,
    /// Where it is from.
    pub source: Source,
}

/// What a child loses against its parent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualityEstimate {
    /// Increase of the loss in nats, as the mean of a suite of benchmarks feels it: the sum of the breakdown.
    pub loss_increase_nats: Estimate,
    /// Share of the parent's accuracy (mean of a suite) that is left, in percent: the score of a front.
    pub accuracy_retained_percent: Estimate,
    /// Accuracy per benchmark, in percent.
    pub accuracies_percent: BTreeMap<Benchmark, Estimate>,
    /// The loss by axis.
    pub breakdown: Vec<Contribution>,
    /// Recovery that is assumed, in billions of tokens.
    pub recovery_tokens_b: f64,
}

/// The values each axis of a uniform child may take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AxisValues {
    /// Hidden sizes.
    pub hidden: Vec<u64>,
    /// FFN widths.
    pub ffn: Vec<u64>,
    /// Numbers of query heads.
    pub q_heads: Vec<u64>,
    /// Numbers of KV heads.
    pub kv_heads: Vec<u64>,
    /// Numbers of layers.
    pub layers: Vec<u64>,
}

/// Loss increase in nats of each value of each axis, in the order given. The loss of a uniform child is the
/// sum of one from each.
#[derive(Clone, Debug, PartialEq)]
pub struct AxisLosses {
    /// Of the hidden sizes.
    pub hidden: Vec<f64>,
    /// Of the FFN widths.
    pub ffn: Vec<f64>,
    /// Of the numbers of query heads.
    pub q_heads: Vec<f64>,
    /// Of the numbers of KV heads.
    pub kv_heads: Vec<f64>,
    /// Of the numbers of layers.
    pub layers: Vec<f64>,
}

/// The prior: the law with its fitted coefficients and the width of its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct QualityPrior {
    law: Law,
    fitted: Fitted,
    parent: ParentAccuracies,
}

impl QualityPrior {
    /// The prior that ships.
    pub fn shipped() -> Result<Self, QualityError> {
        Ok(Self::new(table::fitted()?))
    }

    /// A prior with other coefficients.
    pub fn new(fitted: Fitted) -> Self {
        Self { law: fitted.law(), fitted, parent: ParentAccuracies::default() }
    }

    /// The same for a parent whose accuracies are known.
    pub fn for_parent(self, parent: ParentAccuracies) -> Self {
        Self { parent, ..self }
    }

    /// The coefficients.
    pub fn fitted(&self) -> &Fitted {
        &self.fitted
    }

    /// The law with its coefficients.
    pub fn law(&self) -> &Law {
        &self.law
    }

    /// What `child` loses against `parent`.
    pub fn estimate(
        &self,
        parent: &Architecture,
        child: &Architecture,
        recovery: Recovery,
    ) -> Result<QualityEstimate, QualityError> {
        let cuts = Cuts::between(parent, child)?;
        let felt = |benchmark| self.law.axis_nats(&cuts, recovery.tokens_b, benchmark);
        let nats = felt(Benchmark::Average);
        let loss = nats.iter().sum();
        let accuracies_percent = Benchmark::ALL
            .into_iter()
            .map(|benchmark| {
                (benchmark, self.accuracy_percent(benchmark, felt(benchmark).iter().sum(), recovery))
            })
            .collect();
        let breakdown = Axis::ALL
            .into_iter()
            .zip(nats)
            .map(|(axis, nats)| Contribution { axis, nats, source: Source::Prior })
            .collect();
        Ok(QualityEstimate {
            loss_increase_nats: self.loss_nats(loss, recovery),
            accuracy_retained_percent: self.retained_percent(loss, recovery),
            accuracies_percent,
            breakdown,
            recovery_tokens_b: recovery.tokens_b,
        })
    }

    /// The loss tables of a uniform parent's axes, for a search that enumerates.
    pub fn axis_losses(
        &self,
        parent: &Architecture,
        values: &AxisValues,
        recovery: Recovery,
    ) -> Result<AxisLosses, QualityError> {
        let shape = parent.uniform_shape().ok_or(QualityError::RaggedParent)?;
        let whole = |hidden, shape: LayerShape, layers| {
            Architecture::uniform(layers, hidden, shape.ffn, shape.q_heads, shape.kv_heads, parent.head_dim)
        };
        let nats = |axis: Axis, child: Architecture| -> Result<f64, QualityError> {
            let cuts = Cuts::between(parent, &child)?;
            Ok(self.law.axis_nats(&cuts, recovery.tokens_b, Benchmark::Average)[axis as usize])
        };
        let table = |axis: Axis, values: &[u64], child: &dyn Fn(u64) -> Architecture| {
            values
                .iter()
                .map(|&v| if v == 0 { Err(QualityError::Zero { axis }) } else { nats(axis, child(v)) })
                .collect::<Result<Vec<f64>, _>>()
        };
        let (hidden, layers) = (parent.hidden, parent.depth());
        Ok(AxisLosses {
            hidden: table(Axis::Hidden, &values.hidden, &|v| whole(v, shape, layers))?,
            ffn: table(Axis::Ffn, &values.ffn, &|ffn| whole(hidden, LayerShape { ffn, ..shape }, layers))?,
            q_heads: table(Axis::QHeads, &values.q_heads, &|q_heads| {
                whole(hidden, LayerShape { q_heads, ..shape }, layers)
            })?,
            kv_heads: table(Axis::KvHeads, &values.kv_heads, &|kv_heads| {
                whole(hidden, LayerShape { kv_heads, ..shape }, layers)
            })?,
            layers: table(Axis::Layers, &values.layers, &|v| whole(hidden, shape, v))?,
        })
    }

    /// Share of the parent's accuracy (mean of a suite) left after a loss increase of `loss_nats`, in percent:
    /// a falling function of the sum of the axis losses.
    pub fn retained_percent(&self, loss_nats: f64, recovery: Recovery) -> Estimate {
        let parent = self.parent.percent(Benchmark::Average);
        self.accuracy_percent(Benchmark::Average, loss_nats, recovery)
            .map(|accuracy| 100.0 * accuracy / parent)
    }

    fn accuracy_percent(&self, benchmark: Benchmark, felt_nats: f64, recovery: Recovery) -> Estimate {
        let parent = self.parent.percent(benchmark);
        if felt_nats <= 0.0 {
            return Estimate::exact(parent, Source::Prior);
        }
        let value = self.law.accuracy_percent(benchmark, parent, felt_nats);
        let half = self.fitted.interval_scale.after(recovery.tokens_b) * interval::unit_points(parent, value);
        let (low, high) = ((value - half).max(0.0), (value + half).min(100.0));
        Estimate { value, low, high, source: Source::Prior }
    }

    /// The loss with the interval that the accuracy's interval implies.
    fn loss_nats(&self, loss: f64, recovery: Recovery) -> Estimate {
        let parent = self.parent.percent(Benchmark::Average);
        let accuracy = self.accuracy_percent(Benchmark::Average, loss, recovery);
        let implied = |percent| self.law.loss_nats(Benchmark::Average, parent, percent);
        let (low, high) = (implied(accuracy.high).min(loss), implied(accuracy.low).max(loss));
        Estimate { value: loss, low, high, source: Source::Prior }
    }
}
