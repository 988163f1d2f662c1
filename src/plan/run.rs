//! Runs a request: parent, tables, exact search, full prediction of what is reported.

use std::time::Instant;

use rayon::prelude::*;

use crate::estimate::chance;
use crate::hardware::latency::memo::Memo;
use crate::hardware::latency::prediction::{Machine, Prediction};
use crate::hardware::latency::uniform_tables::ShapeCost;
use crate::plan::budget::Constraint;
use crate::plan::error::PlanError;
use crate::plan::evaluation::{Evaluated, Evaluator, ParentSpeed, Setting, predict_parent};
use crate::plan::objective::Objective;
use crate::plan::record::candidate::{Candidate, Point, PointMetrics};
use crate::plan::record::{Axis, Budget, Finalist, Metric, Outcome, Plan, Search, Space, recipe};
use crate::plan::request::Request;
use crate::plan::{tries, verdict};
use crate::search::front;
use crate::search::solver::enumeration::{self, Enumeration, enumerate};
use crate::search::space::SearchSpace;

/// Losses this close, in nats per token, count as equal: 0.1 % of perplexity. Of such shapes the one whose latency
/// is known best is chosen.
pub const TIE_NATS: f64 = 1e-3;

/// Shapes that are evaluated again and listed as finalists.
pub const FINALISTS: usize = 10;

/// Feasible shapes, and infeasible ones, in the sample for the picture.
pub const SAMPLE_OF_EACH: usize = 2000;

/// Largest relative difference that rounding may make between the two ways to price a shape.
pub(super) const ROUNDING: f64 = 1e-6;

/// Answers a request: the chosen shape with the front around it, or which budgets bind.
///
/// # Errors
/// When the request makes no sense or a profile has a gap. That no shape meets the budgets is an outcome.
pub fn search(request: &Request<'_>) -> Result<Plan, PlanError> {
    let started = Instant::now();
    let space = request.search_space()?;
    let memos: Vec<Memo<'_>> = request.targets.iter().map(|t| Memo::new(t.machine.costs)).collect();
    let (evaluator, parent) = prepare(request, &memos)?;
    let objective = Objective::build(&space, &evaluator)?;
    log::debug!("parent and tables: {:.3} s", started.elapsed().as_secs_f64());
    let options = enumeration::Options {
        finalists: FINALISTS,
        loss_tolerance: TIE_NATS,
        sample: SAMPLE_OF_EACH,
        seed: request.seed,
    };
    let begun = Instant::now();
    let found = enumerate(space.counts(), &objective, &options)?;
    log::debug!("{} shapes enumerated: {:.3} s", found.enumerated, begun.elapsed().as_secs_f64());
    let mut plan = Assembly { space: &space, evaluator: &evaluator, objective: &objective, found: &found }
        .plan(parent)?;
    plan.search.elapsed_s = started.elapsed().as_secs_f64();
    Ok(plan)
}

/// What every other shape is predicted with, and the parent.
pub(super) fn prepare<'a>(
    request: &'a Request<'a>,
    memos: &'a [Memo<'a>],
) -> Result<(Evaluator<'a>, Evaluated), PlanError> {
    let (evaluator, predictions) = evaluator(request, memos)?;
    let parent = evaluator.assemble(&request.spec.architecture, predictions, true)?;
    Ok((evaluator, parent))
}

/// Predicts the parent in every scenario, and sets up what every other shape is predicted with.
pub(super) fn evaluator<'a>(
    request: &'a Request<'a>,
    memos: &'a [Memo<'a>],
) -> Result<(Evaluator<'a>, Vec<Prediction>), PlanError> {
    let mut settings = Vec::new();
    let mut predictions = Vec::new();
    for scenario in request.scenarios() {
        let parts = (
            request.targets.get(scenario.target),
            memos.get(scenario.target),
            request.workloads.get(scenario.workload),
        );
        let (Some(target), Some(memo), Some(workload)) = parts else { continue };
        let machine = Machine { costs: memo, ..target.machine };
        let prediction = predict_parent(request, &scenario.name, machine, &target.deployment, workload)?;
        let engine_log_sigma = machine.engine.residuals.tpot_log_sigma;
        settings.push(Setting {
            name: scenario.name,
            machine,
            deployment: &target.deployment,
            workload: *workload,
            parent: ParentSpeed::of(&prediction.served, engine_log_sigma),
        });
        predictions.push(prediction);
    }
    let constraints = constraints(request, &settings);
    let deviations = request.confidence.map_or(0.0, chance::normal_quantile);
    Ok((Evaluator { request, settings, constraints, deviations }, predictions))
}

/// Budgets of the plan: those asked for, then the memory of each target's devices.
fn budgets(request: &Request<'_>) -> Vec<Budget> {
    let asked = request.budgets.iter().map(|b| (b.metric, b.limit, b.typed.clone()));
    let devices = request.targets.iter().map(|target| {
        let usable = target.machine.hbm * target.machine.engine.limits.memory_share;
        (Metric::MemoryGib, usable.gib(), format!("device memory of {}", target.profile.name))
    });
    let budget = |(metric, limit, typed)| Budget { metric, limit, typed, checks: Vec::new() };
    asked.chain(devices).map(budget).collect()
}

/// Every budget in every scenario, in the order of the scenarios; limits that need no scenario first.
fn constraints(request: &Request<'_>, settings: &[Setting<'_>]) -> Vec<Constraint> {
    let asked = request.budgets.len();
    let budgets = budgets(request);
    let of = |scenario: Option<usize>, target: Option<usize>| {
        let applies = move |(i, budget): &(usize, &Budget)| match target {
            None => budget.metric == Metric::Params,
            Some(target) => budget.metric != Metric::Params && (*i < asked || *i == asked + target),
        };
        let constraint = move |(i, b): (usize, &Budget)| Constraint {
            metric: b.metric,
            scenario,
            limit: b.limit,
            budget: i,
        };
        budgets.iter().enumerate().filter(applies).map(constraint).collect::<Vec<_>>()
    };
    let mut all = of(None, None);
    let targets = request.scenarios().into_iter().map(|scenario| scenario.target);
    for (scenario, target) in targets.enumerate().take(settings.len()) {
        all.extend(of(Some(scenario), Some(target)));
    }
    all
}

/// What the search found, to be turned into the record.
struct Assembly<'a> {
    space: &'a SearchSpace,
    evaluator: &'a Evaluator<'a>,
    objective: &'a Objective<'a>,
    found: &'a Enumeration,
}

impl Assembly<'_> {
    fn plan(&self, parent: Evaluated) -> Result<Plan, PlanError> {
        let (found, evaluator) = (self.found, self.evaluator);
        let request = evaluator.request;
        let finalists =
            found.finalists.par_iter().map(|c| self.evaluate(c, true)).collect::<Result<Vec<_>, _>>()?;
        let front = found.front.par_iter().map(|c| self.evaluate(c, false)).collect::<Result<Vec<_>, _>>()?;
        let front: Vec<Candidate> = front.into_iter().map(|(evaluated, _)| evaluated.candidate).collect();
        let tried = tries::evaluate(evaluator)?;
        let winner = tries::winner(&tried);
        let chosen = match &winner {
            Some(_) => winner.as_ref(),
            None => finalists.first().map(|(evaluated, _)| evaluated),
        };
        let outcome = match &found.shortfall {
            None => Outcome::Done,
            Some(shortfall) => Outcome::Infeasible {
                binding: verdict::binding(self.space, self.objective, &evaluator.constraints, shortfall),
            },
        };
        let budgets = budgets(request);
        Ok(Plan {
            recipe: recipe(request, self.space),
            scenarios: request.scenarios(),
            space: space_record(self.space, request),
            search: self.search_record(),
            outcome,
            parent: parent.candidate,
            chosen: chosen.map(|evaluated| evaluated.candidate.clone()),
            budgets: match chosen {
                Some(evaluated) => verdict::with_checks(evaluator, budgets, evaluated),
                None => budgets,
            },
            knee: knee(&front),
            front,
            finalists: finalists
                .into_iter()
                .map(|(e, disagreement)| self.finalist(e, disagreement))
                .collect(),
            tried: tries::record(tried, evaluator),
            per_layer: None,
            sample: found.sample.iter().filter_map(|c| self.point(c)).collect(),
        })
    }

    /// A shape the search found, fully predicted, and by how much both differ (relative).
    fn evaluate(
        &self,
        found: &enumeration::Candidate,
        breakdown: bool,
    ) -> Result<(Evaluated, f64), PlanError> {
        let architecture = self
            .space
            .architecture(found.index)
            .ok_or(enumeration::NotANumber { index: found.index, point: found.point })?;
        let mut evaluated = self.evaluator.evaluate(&architecture, breakdown)?;
        // One verdict for a shape: rounding must not split the two ways to price it at a limit.
        evaluated.candidate.feasible = found.point.is_feasible();
        let disagreement = self.disagreement(found, &evaluated);
        if disagreement > ROUNDING || disagreement.is_nan() {
            let shape = evaluated.candidate.shape;
            return Err(PlanError::Disagreement { shape, percent: 100.0 * disagreement });
        }
        Ok((evaluated, disagreement))
    }

    fn disagreement(&self, found: &enumeration::Candidate, evaluated: &Evaluated) -> f64 {
        let figures = |c: &ShapeCost| {
            let served = &c.served;
            [
                served.ttft.total().0,
                served.tpot.total().0,
                served.output_tokens_per_s,
                served.latency_log_sigma,
                c.memory.0,
            ]
        };
        let slow = evaluated.predictions.iter().map(|p| ShapeCost {
            served: p.served,
            memory: p.memory.total(),
            fits: p.memory.fits(),
            params: evaluated.candidate.params,
        });
        let relative =
            |a: f64, b: f64| if a == b { 0.0 } else { (a - b).abs() / b.abs().max(f64::MIN_POSITIVE) };
        let nats = evaluated.candidate.quality.loss_increase_nats.value;
        let loss = (found.point.loss - nats).abs() / nats.abs().max(1.0);
        let mut worst = loss;
        for (fast, slow) in self.objective.costs(found.index).iter().zip(slow) {
            let pairs = figures(fast).into_iter().zip(figures(&slow));
            worst = pairs.map(|(a, b)| relative(a, b)).fold(worst, f64::max);
        }
        worst
    }

    fn finalist(&self, evaluated: Evaluated, disagreement: f64) -> Finalist {
        let probability = verdict::probability(self.evaluator, &evaluated);
        let candidate = Candidate { breakdown: Vec::new(), ..evaluated.candidate };
        Finalist {
            candidate,
            disagreement_percent: 100.0 * disagreement,
            extrapolated_percent: 100.0 * evaluated.extrapolated,
            probability,
        }
    }

    fn point(&self, found: &enumeration::Candidate) -> Option<Point> {
        let Request { prior, recovery, .. } = self.evaluator.request;
        let costs = self.objective.costs(found.index);
        let metrics = |cost: &ShapeCost| PointMetrics {
            ttft_ms: cost.served.ttft.total().ms(),
            tpot_ms: cost.served.tpot.total().ms(),
            latency_ms: cost.served.latency.ms(),
            output_tokens_per_s: cost.served.output_tokens_per_s,
            memory_gib: cost.memory.gib(),
        };
        Some(Point {
            shape: verdict::shape_at(self.space, found.index)?,
            params: costs.first()?.params,
            feasible: found.point.is_feasible(),
            accuracy_retained_percent: prior.retained_percent(found.point.loss, *recovery).value,
            metrics: costs.iter().map(metrics).collect(),
        })
    }

    fn search_record(&self) -> Search {
        let Enumeration { enumerated, feasible, .. } = *self.found;
        let optimality = match feasible {
            0 => format!("infeasible: proven by enumeration of {enumerated} shapes"),
            _ => format!(
                "proven by enumeration of {enumerated} shapes: none that meets the budgets loses less by more than \
                 {TIE_NATS} nats; of those within that, the one whose latency is known best"
            ),
        };
        Search {
            elapsed_s: 0.0,
            method: "exact enumeration over per-axis tables".to_string(),
            enumerated,
            feasible,
            optimality,
        }
    }
}

/// The bend of the front: accuracy over time per token. (Over throughput a front has no bend to speak of, since the
/// fastest shapes are faster without end.)
fn knee(front: &[Candidate]) -> Option<Candidate> {
    let slowness = |c: &Candidate| c.metrics.iter().map(|m| 1.0 / m.speedup.value).fold(0.0, f64::max);
    let bend: Vec<(f64, f64)> =
        front.iter().map(|c| (slowness(c), -c.quality.accuracy_retained_percent.value)).collect();
    front::knee(&bend).and_then(|i| front.get(i)).cloned()
}

fn space_record(space: &SearchSpace, request: &Request<'_>) -> Space {
    let axis = |axis: crate::search::space::table::AxisSummary| Axis {
        name: axis.axis.name().to_string(),
        parent: axis.parent,
        values: axis.values,
        multiple: axis.multiple,
    };
    let mut rules = vec!["query heads are a multiple of KV heads; head size as in the parent".to_string()];
    if !request.space.merge_kv {
        rules.push("no more query heads per KV head than the parent has".to_string());
    }
    let mut degrees: Vec<u64> = request.targets.iter().map(|target| target.deployment.tp).collect();
    degrees.sort_unstable();
    degrees.dedup();
    for tp in degrees.into_iter().filter(|tp| *tp > 1) {
        rules.push(format!(
            "tensor parallelism {tp} divides query heads and FFN width, and divides or is divided by KV heads"
        ));
    }
    Space { size: space.size(), axes: space.summary().into_iter().map(axis).collect(), rules }
}

fn recipe(request: &Request<'_>, space: &SearchSpace) -> recipe::Recipe {
    let spec = request.spec;
    let mut profiles: Vec<recipe::Profile> = Vec::new();
    for target in &request.targets {
        if !profiles.contains(&target.profile) {
            profiles.push(target.profile.clone());
        }
    }
    recipe::Recipe {
        version: env!("CARGO_PKG_VERSION").to_string(),
        command: request.command.clone(),
        seed: request.seed,
        model: recipe::Model {
            name: spec.name.clone(),
            source: spec.source.clone(),
            family: spec.family.model_type().to_string(),
        },
        profiles,
        request: request.echo(space),
    }
}
