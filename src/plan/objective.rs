//! Every uniform shape priced from per-axis tables: what the exact solver enumerates.

use std::ops::Range;

use rayon::prelude::*;

use crate::hardware::latency::uniform_tables::{self, Axes, ShapeCost, UniformTables};
use crate::plan::budget::Constraint;
use crate::plan::error::PlanError;
use crate::plan::evaluation::{Evaluator, ParentSpeed, Setting, figure};
use crate::plan::losses::Losses;
use crate::plan::request::Request;
use crate::search::solver::enumeration::{Point, UniformObjective};
use crate::search::space::{SearchSpace, ShapeIndex};

/// Cost and loss of uniform shapes.
///
/// A point's `cost` is the inverse of its least speedup over the scenarios, its `loss` the predicted increase of the
/// loss in nats, its `tie` the widest relative spread of its latency over the scenarios: narrow where the kernels it
/// calls were measured. A shape that does not hold its work in memory cannot run.
pub struct Objective<'a> {
    layers: &'a [u64],
    tables: Vec<UniformTables>,
    parents: Vec<ParentSpeed>,
    /// In the order of the scenarios they need.
    constraints: Vec<Constraint>,
    /// Constraints of each scenario; what needs none stands with the first.
    of_scenario: Vec<Range<usize>>,
    deviations: f64,
    losses: Losses,
}

/// What is known once hidden size and heads are.
pub struct Slice {
    tables: Vec<uniform_tables::Slice>,
    /// Positions of hidden size and heads.
    at: (usize, usize),
}

impl<'a> Objective<'a> {
    /// Prices the axes of `space` in every scenario. Constraints keep the order of `evaluator`, which must be that
    /// of the scenarios.
    pub fn build(space: &'a SearchSpace, evaluator: &Evaluator<'_>) -> Result<Self, PlanError> {
        let request = evaluator.request;
        let tables = evaluator
            .settings
            .par_iter()
            .map(|setting| tables(space, request, setting))
            .collect::<Result<_, _>>()?;
        let constraints = evaluator.constraints.clone();
        let scenario = |c: &Constraint| c.scenario.unwrap_or(0);
        let of_scenario = (0..evaluator.settings.len())
            .map(|s| {
                let first = constraints.partition_point(|c| scenario(c) < s);
                first..constraints.partition_point(|c| scenario(c) <= s)
            })
            .collect();
        Ok(Self {
            layers: space.layers(),
            tables,
            parents: evaluator.settings.iter().map(|setting| setting.parent).collect(),
            constraints,
            of_scenario,
            deviations: evaluator.deviations,
            losses: Losses::build(space, request)?,
        })
    }

    /// Cost of one shape in every scenario.
    pub fn costs(&self, index: ShapeIndex) -> Vec<ShapeCost> {
        let slice = self.slice(index.hidden, index.heads);
        self.scenarios(&slice, index.ffn, index.layers).map(|(_, cost)| cost).collect()
    }

    /// Predicted increase of the loss of one shape, in nats.
    pub fn nats(&self, index: ShapeIndex) -> f64 {
        self.losses.at((index.hidden, index.heads), index.ffn, index.layers)
    }

    #[inline]
    fn scenarios<'s>(
        &'s self,
        slice: &'s Slice,
        ffn: usize,
        layers: usize,
    ) -> impl Iterator<Item = (usize, ShapeCost)> + 's {
        let layers = self.layers[layers];
        let pairs = self.tables.iter().zip(&slice.tables).enumerate();
        pairs.map(move |(s, (tables, slice))| (s, tables.point(slice, ffn, layers)))
    }

    #[inline]
    fn usage(&self, constraint: &Constraint, scenario: usize, cost: &ShapeCost) -> f64 {
        let parent = &self.parents[scenario];
        let figure = figure(constraint.metric, &cost.served, cost.memory, cost.params, parent);
        constraint.usage(figure, self.deviations)
    }
}

fn tables(
    space: &SearchSpace,
    request: &Request<'_>,
    setting: &Setting<'_>,
) -> Result<UniformTables, PlanError> {
    let axes =
        Axes { hidden: space.hidden(), ffn: space.ffn(), heads: space.heads(), head_dim: space.head_dim() };
    UniformTables::build(setting.machine, request.spec, setting.deployment, &setting.workload, axes)
        .map_err(|error| PlanError::Tables { scenario: setting.name.clone(), error })
}

impl UniformObjective for Objective<'_> {
    type Slice = Slice;

    fn slice(&self, hidden: usize, heads: usize) -> Slice {
        Slice {
            tables: self.tables.iter().map(|tables| tables.slice(hidden, heads)).collect(),
            at: (hidden, heads),
        }
    }

    #[inline]
    fn point(&self, slice: &Slice, ffn: usize, layers: usize) -> Point {
        let loss = self.losses.at(slice.at, ffn, layers);
        let mut point = Point { cost: 0.0, loss, tie: 0.0, usage: 0.0 };
        for (s, cost) in self.scenarios(slice, ffn, layers) {
            let slowness = self.parents[s].output_tokens_per_s / cost.served.output_tokens_per_s;
            if slowness.is_nan() || slowness <= 0.0 {
                return Point { cost: f64::NAN, ..point };
            }
            point.cost = point.cost.max(if cost.fits { slowness } else { f64::INFINITY });
            point.tie = point.tie.max(cost.served.latency_log_sigma);
            for constraint in &self.constraints[self.of_scenario[s].clone()] {
                point.usage = point.usage.max(self.usage(constraint, s, &cost));
            }
        }
        point
    }

    fn budgets(&self) -> usize {
        self.constraints.len()
    }

    fn usages(&self, slice: &Slice, ffn: usize, layers: usize, usages: &mut [f64]) {
        for (s, cost) in self.scenarios(slice, ffn, layers) {
            let range = self.of_scenario[s].clone();
            for (usage, constraint) in usages[range.clone()].iter_mut().zip(&self.constraints[range]) {
                *usage = self.usage(constraint, s, &cost);
            }
        }
    }
}
