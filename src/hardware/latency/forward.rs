//! Prices one forward pass: a line per kernel call, whose sum is the total.
//!
//! Interval of a sum: an op that recurs over layers errs the same way every time, so its spread adds linearly;
//! the spreads of different ops correlate by [`OP_CORRELATION`].

use std::collections::BTreeMap;

use crate::estimate::{Estimate, Source};
use crate::hardware::kernel::KernelCall;
use crate::hardware::latency::cost::{GapError, KernelCost, KernelCosts, Z90};
use crate::hardware::latency::lowering::{Op, Phase, lower};
use crate::model::architecture::Architecture;
use crate::model::spec::ModelSpec;
use crate::model::tensor_parallel::TensorParallelError;
use crate::model::workload::Deployment;
use crate::units::Seconds;

/// Correlation between the relative errors of two different ops of a pass: their tables were measured on one
/// machine and one stack (common clocks, common harness), but by different kernels. 0 would let errors average
/// out, 1 would add them all up; a third is assumed, not measured.
pub const OP_CORRELATION: f64 = 1.0 / 3.0;

/// Share of the total from which a contributor's source counts.
pub const MATERIAL_SHARE: f64 = 0.05;

/// One op of a run of layers, priced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Name of the op.
    pub op: &'static str,
    /// The call; where lines of one op are added up, that of the first.
    pub call: KernelCall,
    /// First decoder layer; `None` = outside the layers.
    pub first_layer: Option<u64>,
    /// Consecutive layers.
    pub layers: u64,
    /// Time of all these layers together.
    pub latency: Seconds,
    /// Relative spread (see [`crate::hardware::latency::cost::KernelCost::log_sigma`]).
    pub log_sigma: f64,
    /// Origin.
    pub source: Source,
    /// The call lies outside the measured range.
    pub extrapolated: bool,
}

impl Line {
    fn absorb(&mut self, other: &Line) {
        let spread = self.latency.0 * self.log_sigma + other.latency.0 * other.log_sigma;
        self.latency += other.latency;
        self.log_sigma = if self.latency.0 > 0.0 { spread / self.latency.0 } else { 0.0 };
        self.layers += other.layers;
        self.source = self.source.max(other.source);
        self.extrapolated |= other.extrapolated;
    }
}

/// A priced pass.
#[derive(Clone, Debug, PartialEq)]
pub struct PassCost {
    /// Contributions, in order of execution; the total is their sum.
    pub lines: Vec<Line>,
}

/// Everything that can go wrong while pricing a pass.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PriceError {
    /// The devices cannot share the shape.
    #[error(transparent)]
    TensorParallel(#[from] TensorParallelError),
    /// The device has no measurement to go by.
    #[error(transparent)]
    Gap(#[from] GapError),
}

/// Spread of a sum of ops with absolute spreads `a`, given `sum a` and `sum a^2`.
pub fn combined_spread(sum: f64, sum_of_squares: f64) -> f64 {
    ((1.0 - OP_CORRELATION) * sum_of_squares + OP_CORRELATION * sum * sum).sqrt()
}

impl PassCost {
    /// Prices ops; a call that recurs is priced once.
    ///
    /// # Errors
    /// When the device has no measurement to go by.
    pub fn of(ops: &[Op], costs: &dyn KernelCosts) -> Result<Self, GapError> {
        Self::with_memory(ops, costs, &mut BTreeMap::new())
    }

    /// [`Self::of`] that remembers prices between passes.
    ///
    /// # Errors
    /// When the device has no measurement to go by.
    pub fn with_memory(
        ops: &[Op],
        costs: &dyn KernelCosts,
        seen: &mut BTreeMap<KernelCall, KernelCost>,
    ) -> Result<Self, GapError> {
        let line = |op: &Op| {
            let cost = match seen.get(&op.call) {
                Some(cost) => *cost,
                None => *seen.entry(op.call).or_insert(costs.cost(&op.call)?),
            };
            Ok(Line {
                op: op.name,
                call: op.call,
                first_layer: op.first_layer,
                layers: op.layers,
                latency: cost.latency * op.layers as f64,
                log_sigma: cost.log_sigma,
                source: cost.source,
                extrapolated: cost.extrapolated,
            })
        };
        Ok(Self { lines: ops.iter().map(line).collect::<Result<_, GapError>>()? })
    }

    /// So many passes alike.
    pub fn times(mut self, passes: f64) -> Self {
        self.lines.iter_mut().for_each(|line| line.latency = line.latency * passes);
        self
    }

    /// Sum of the lines.
    pub fn total(&self) -> Seconds {
        self.lines.iter().map(|line| line.latency).sum()
    }

    /// Each op over all its layers, in order of first appearance: times and layers add up, spreads of one op
    /// linearly; the least trustworthy source stands for all.
    pub fn by_op(&self) -> Vec<Line> {
        let mut ops: Vec<Line> = Vec::new();
        for line in &self.lines {
            match ops.iter_mut().find(|op| op.op == line.op) {
                Some(op) => op.absorb(line),
                None => ops.push(Line { first_layer: None, ..*line }),
            }
        }
        ops
    }

    /// Time of each run of layers `(first layer, layers, time of the run)`; `None` = outside the layers.
    pub fn by_layer(&self) -> Vec<(Option<u64>, u64, Seconds)> {
        let mut runs: BTreeMap<(Option<u64>, u64), Seconds> = BTreeMap::new();
        for line in &self.lines {
            *runs.entry((line.first_layer, line.layers)).or_default() += line.latency;
        }
        runs.into_iter().map(|((first, layers), latency)| (first, layers, latency)).collect()
    }

    /// Relative spread of the total: same op linear, different ops by [`OP_CORRELATION`].
    pub fn log_sigma(&self) -> f64 {
        let spreads = self.by_op().into_iter().map(|op| op.latency.0 * op.log_sigma);
        let (sum, squares) = spreads.fold((0.0, 0.0), |(s, q), a| (s + a, q + a * a));
        let total = self.total().0;
        if total > 0.0 { combined_spread(sum, squares) / total } else { 0.0 }
    }

    /// Least trustworthy source among those that make up more than [`MATERIAL_SHARE`] of the total.
    pub fn source(&self) -> Source {
        let mut shares: BTreeMap<Source, Seconds> = BTreeMap::new();
        for line in &self.lines {
            *shares.entry(line.source).or_default() += line.latency;
        }
        let total = self.total();
        let material = |share: &Seconds| *share > total * MATERIAL_SHARE;
        let found = shares.iter().rev().find(|(_, share)| material(share));
        found.map_or(Source::Measured, |(source, _)| *source)
    }

    /// Share of the total priced outside the measured range, 0 to 1.
    pub fn extrapolated_share(&self) -> f64 {
        let beyond: Seconds = self.lines.iter().filter(|l| l.extrapolated).map(|l| l.latency).sum();
        let total = self.total();
        if total > Seconds::ZERO { beyond / total } else { 0.0 }
    }

    /// Total in seconds with its 90 % interval.
    pub fn estimate(&self) -> Estimate {
        Estimate::with_log_sigma(self.total().0, self.log_sigma(), Z90, self.source())
    }
}

/// Lowers and prices one pass.
///
/// # Errors
/// When the devices cannot share the shape, or the device has no measurement to go by.
pub fn price(
    costs: &dyn KernelCosts,
    spec: &ModelSpec,
    architecture: &Architecture,
    deployment: &Deployment,
    phase: Phase,
) -> Result<PassCost, PriceError> {
    Ok(PassCost::of(&lower(spec, architecture, deployment, phase)?, costs)?)
}
