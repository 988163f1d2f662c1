//! One shape on the full prediction path: every scenario predicted kernel by kernel, the loss with its interval.

use crate::estimate::{Estimate, Source};
use crate::hardware::latency::cost::Z90;
use crate::hardware::latency::forward::OP_CORRELATION;
use crate::hardware::latency::forward::PassCost;
use crate::hardware::latency::prediction::{Machine, PredictError, Prediction, predict};
use crate::hardware::latency::serving::Served;
use crate::model::architecture::Architecture;
use crate::model::counts;
use crate::model::workload::{Deployment, Load, Workload};
use crate::plan::budget::{Constraint, Figure};
use crate::plan::error::PlanError;
use crate::plan::record::Metric;
use crate::plan::record::candidate::{Candidate, Contribution, LayerScores, Metrics, Quality, Shape};
use crate::plan::request::Request;
use crate::quality::scores::table::{AXES, LayerPart};
use crate::quality::study::judge::Judged;
use crate::units::{Bytes, Seconds};

/// One scenario with all it takes to predict a shape in it.
#[derive(Clone)]
pub struct Setting<'a> {
    /// The scenario's name.
    pub name: String,
    /// Prices, memory and engine.
    pub machine: Machine<'a>,
    /// Tensor parallelism and element types.
    pub deployment: &'a Deployment,
    /// The work.
    pub workload: Workload,
    /// The parent in this scenario.
    pub parent: ParentSpeed,
}

/// What a child's speedup is measured against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParentSpeed {
    /// The parent's output tokens per second.
    pub output_tokens_per_s: f64,
    /// Variance of its logarithm that is due to kernels.
    pub kernel_variance: f64,
    /// Variance of a logarithm that is due to the engine.
    pub engine_variance: f64,
}

/// Throughputs this close are those of one shape: the parent against itself, which is as fast as itself for certain.
const SAME_SHAPE: f64 = 1e-9;

impl ParentSpeed {
    /// Of a parent that is served so by an engine whose times stray by `engine_log_sigma`.
    pub fn of(served: &Served, engine_log_sigma: f64) -> Self {
        let engine_variance = engine_log_sigma * engine_log_sigma;
        Self {
            output_tokens_per_s: served.output_tokens_per_s,
            kernel_variance: kernel_variance(served, engine_variance),
            engine_variance,
        }
    }

    /// Output throughput against the parent's. What the engine adds to the error is taken to be common to parent
    /// and child, hence cancels. Their kernels are different calls on one device, whose errors correlate as those
    /// of different ops of one pass do ([`OP_CORRELATION`]); where both run the very same call they correlate more,
    /// so that this errs on the wide side.
    #[inline]
    pub fn speedup(&self, served: &Served) -> Figure {
        let ratio = served.output_tokens_per_s / self.output_tokens_per_s;
        if (ratio - 1.0).abs() < SAME_SHAPE {
            return Figure { value: 1.0, log_sigma: 0.0 };
        }
        let child = kernel_variance(served, self.engine_variance);
        let shared = OP_CORRELATION * (self.kernel_variance * child).sqrt();
        let variance = self.kernel_variance + child - 2.0 * shared;
        Figure { value: ratio, log_sigma: variance.sqrt() }
    }
}

fn kernel_variance(served: &Served, engine_variance: f64) -> f64 {
    (served.latency_log_sigma * served.latency_log_sigma - engine_variance).max(0.0)
}

/// A metric of a shape in one scenario, in the metric's unit.
#[inline]
pub fn figure(metric: Metric, served: &Served, memory: Bytes, params: u64, parent: &ParentSpeed) -> Figure {
    let exact = |value| Figure { value, log_sigma: 0.0 };
    match metric {
        Metric::TtftMs => Figure { value: served.ttft.total().ms(), log_sigma: served.ttft_log_sigma },
        Metric::TpotMs => Figure { value: served.tpot.total().ms(), log_sigma: served.tpot_log_sigma },
        Metric::LatencyMs => Figure { value: served.latency.ms(), log_sigma: served.latency_log_sigma },
        Metric::OutputTokensPerS => {
            Figure { value: served.output_tokens_per_s, log_sigma: served.latency_log_sigma }
        }
        Metric::Params => exact(params as f64),
        Metric::MemoryGib => exact(memory.gib()),
        Metric::Speedup => parent.speedup(served),
    }
}

/// A shape as fully predicted.
#[derive(Clone)]
pub struct Evaluated {
    /// For the record.
    pub candidate: Candidate,
    /// Its predictions, one per scenario.
    pub predictions: Vec<Prediction>,
    /// Share of its time priced outside the range of the measured rows, 0 to 1; worst scenario.
    pub extrapolated: f64,
}

/// Predicts shapes in every scenario.
pub struct Evaluator<'a> {
    /// What is asked.
    pub request: &'a Request<'a>,
    /// The scenarios, in the order of the plan.
    pub settings: Vec<Setting<'a>>,
    /// Every budget in every scenario.
    pub constraints: Vec<Constraint>,
    /// Standard deviations to the bad side at which budgets must hold.
    pub deviations: f64,
}

impl Evaluator<'_> {
    /// A shape in every scenario; `breakdown` adds its time by op.
    pub fn evaluate(&self, architecture: &Architecture, breakdown: bool) -> Result<Evaluated, PlanError> {
        let predictions =
            self.settings.iter().map(|s| self.predict(s, architecture)).collect::<Result<Vec<_>, _>>()?;
        self.assemble(architecture, predictions, breakdown)
    }

    /// Whether a shape keeps every budget.
    pub fn keeps_budgets(&self, architecture: &Architecture) -> Result<bool, PlanError> {
        let predictions =
            self.settings.iter().map(|s| self.predict(s, architecture)).collect::<Result<Vec<_>, _>>()?;
        let params = counts::parameters(self.request.spec, architecture).total();
        let usage = |c: &Constraint| {
            self.figure(c, &predictions, params).map_or(f64::INFINITY, |f| c.usage(f, self.deviations))
        };
        Ok(self.constraints.iter().all(|c| usage(c) <= 1.0))
    }

    fn predict(&self, setting: &Setting<'_>, architecture: &Architecture) -> Result<Prediction, PlanError> {
        let Setting { machine, deployment, workload, .. } = setting;
        predict(*machine, self.request.spec, architecture, deployment, workload)
            .map_err(|error| PlanError::Predict { scenario: setting.name.clone(), error })
    }

    /// From predictions that are made to what the record holds of them.
    pub fn assemble(
        &self,
        architecture: &Architecture,
        predictions: Vec<Prediction>,
        breakdown: bool,
    ) -> Result<Evaluated, PlanError> {
        let params = counts::parameters(self.request.spec, architecture).total();
        let pairs = || self.settings.iter().zip(&predictions);
        let shape = Shape::of(architecture).ok_or(crate::search::space::error::SpaceError::NotUniform)?;
        let is_parent = *architecture == self.request.spec.architecture;
        let usage = |c: &Constraint| {
            self.figure(c, &predictions, params).map_or(f64::INFINITY, |f| c.usage(f, self.deviations))
        };
        let candidate = Candidate {
            shape,
            params,
            feasible: self.constraints.iter().all(|c| usage(c) <= 1.0),
            metrics: pairs().map(|(setting, prediction)| metrics(setting, prediction, is_parent)).collect(),
            quality: self.quality(architecture, breakdown)?,
            dropped_layers: match self.request.scores {
                Some(judge) => judge.table.child(architecture)?.dropped(judge.table.parent().depth()),
                None => Vec::new(),
            },
            breakdown: match breakdown {
                true => {
                    pairs().enumerate().flat_map(|(i, (s, p))| contributions(i, &s.workload, p)).collect()
                }
                false => Vec::new(),
            },
        };
        let extrapolated = pairs().map(|(s, p)| extrapolated(&s.workload, p)).fold(0.0, f64::max);
        Ok(Evaluated { candidate, predictions, extrapolated })
    }

    /// The figure that a constraint looks at.
    pub fn figure(&self, constraint: &Constraint, predictions: &[Prediction], params: u64) -> Option<Figure> {
        let scenario = constraint.scenario.unwrap_or(0);
        let (prediction, setting) = (predictions.get(scenario)?, self.settings.get(scenario)?);
        let memory = prediction.memory.total();
        Some(figure(constraint.metric, &prediction.served, memory, params, &setting.parent))
    }

    fn quality(&self, architecture: &Architecture, by_layer: bool) -> Result<Quality, PlanError> {
        let Request { spec, prior, recovery, .. } = self.request;
        if let Some(judge) = self.request.scores {
            let Judged { loss, parts } = judge.judge(&judge.table.child(architecture)?)?;
            let axes = AXES.iter().zip(parts.axes()).map(|(axis, nats)| (axis.to_string(), nats.mean));
            let layer = |part: &LayerPart| LayerScores {
                layer: part.layer,
                attention_nats: part.attention.mean,
                ffn_nats: part.ffn.mean,
            };
            return Ok(Quality {
                loss_increase_nats: loss,
                accuracy_retained_percent: prior.retained_percent(loss.value, *recovery),
                benchmarks: Default::default(),
                scores_nats: axes.collect(),
                layers: if by_layer { parts.layers.iter().map(layer).collect() } else { Vec::new() },
            });
        }
        let estimate = prior.estimate(&spec.architecture, architecture, *recovery)?;
        let benchmarks =
            estimate.accuracies_percent.iter().map(|(b, e)| (b.name().to_string(), *e)).collect();
        Ok(Quality {
            loss_increase_nats: estimate.loss_increase_nats,
            accuracy_retained_percent: estimate.accuracy_retained_percent,
            benchmarks,
            scores_nats: Default::default(),
            layers: Vec::new(),
        })
    }
}

/// The parent in one scenario. When it does not fit the devices, as if they had the memory: its speed is what
/// speedups are measured against.
pub fn predict_parent(
    request: &Request<'_>,
    name: &str,
    machine: Machine<'_>,
    deployment: &Deployment,
    workload: &Workload,
) -> Result<Prediction, PlanError> {
    let with = |machine| predict(machine, request.spec, &request.spec.architecture, deployment, workload);
    let warn =
        || log::warn!("{name}: the parent does not fit the devices; its speed is predicted as if it did");
    let prediction = match with(machine) {
        Err(PredictError::DoesNotFit(_)) => {
            warn();
            with(Machine { hbm: Bytes(f64::INFINITY), ..machine })
        }
        other => other.inspect(|prediction| {
            if matches!(workload.load, Load::Batch(_)) && !prediction.memory.fits() {
                warn();
            }
        }),
    };
    prediction.map_err(|error| PlanError::Predict { scenario: name.to_string(), error })
}

/// Cost of a shape in one scenario, for the record.
pub(super) fn metrics(setting: &Setting<'_>, prediction: &Prediction, is_parent: bool) -> Metrics {
    let ms = |estimate: Estimate| estimate.map(|s| Seconds(s).ms());
    let output_tokens_per_s = prediction.output_tokens_per_s();
    let Figure { value, log_sigma } = match is_parent {
        true => Figure { value: 1.0, log_sigma: 0.0 },
        false => setting.parent.speedup(&prediction.served),
    };
    Metrics {
        ttft_ms: ms(prediction.ttft()),
        tpot_ms: ms(prediction.tpot()),
        latency_ms: ms(prediction.latency()),
        output_tokens_per_s,
        memory_gib: prediction.memory().map(|bytes| Bytes(bytes).gib()),
        speedup: Estimate::with_log_sigma(value, log_sigma, Z90, output_tokens_per_s.source),
    }
}

/// Decode steps of one request.
fn decode_steps(workload: &Workload) -> f64 {
    workload.output.saturating_sub(1) as f64
}

fn contributions(scenario: usize, workload: &Workload, prediction: &Prediction) -> Vec<Contribution> {
    let phase = |name: &'static str, pass: &PassCost, times: f64| {
        let contribution = move |line: crate::hardware::latency::forward::Line| Contribution {
            scenario,
            phase: name.to_string(),
            op: line.op.to_string(),
            latency_ms: Estimate::with_log_sigma(line.latency.ms() * times, line.log_sigma, Z90, line.source),
        };
        pass.by_op().into_iter().map(contribution).collect::<Vec<_>>()
    };
    let mut all = phase("prefill", &prediction.prefill, 1.0);
    all.extend(phase("decode", &prediction.decode, decode_steps(workload)));
    all
}

fn extrapolated(workload: &Workload, prediction: &Prediction) -> f64 {
    let prefill = prediction.prefill.total().0;
    let decode = prediction.decode.total().0 * decode_steps(workload);
    let beyond =
        prefill * prediction.prefill.extrapolated_share() + decode * prediction.decode.extrapolated_share();
    if prefill + decode > 0.0 { beyond / (prefill + decode) } else { 0.0 }
}

/// An exact count as an estimate.
pub fn counted(n: u64) -> Estimate {
    Estimate::exact(n as f64, Source::Measured)
}
