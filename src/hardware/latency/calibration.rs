//! Fits the engines' parameters to measured closed-loop runs.
//!
//! What has a physical cause outside the engine is shared by all engines: clocks under sustained load, the host's
//! launch rate, requests that start together, the wait for running steps. What the engine's own code decides is
//! fitted per engine: host time per step, sequence and request, and how many prefills pass before the first token.
//! A weak pull towards the first guess keeps what the runs do not determine where it was.
//!
//! Deliberately absent: parameters of a model, a device or a range of lengths.

use argmin::core::{CostFunction, Error, Executor, State};
use argmin::solver::neldermead::NelderMead;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::hardware::latency::serving::{StepTimes, serve};
use crate::hardware::latency::validation::{Metric, Run};
use crate::hardware::profile::engine::EngineParameters;

/// A run with the priced passes behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The run.
    pub run: Run,
    /// Its passes.
    pub steps: StepTimes,
    /// Sequences decoding at once.
    pub in_flight: u64,
}

/// Errors below this (relative) count quadratically, above it linearly: outliers do not rule the fit.
const TPOT_KNEE: f64 = 0.05;

/// See [`TPOT_KNEE`].
const TTFT_KNEE: f64 = 0.1;

/// Weight of the error in time to first token against that in time per output token.
const TTFT_WEIGHT: f64 = 0.4;

/// Weight of the squared logarithmic distance from the first guess, per parameter.
const PULL: f64 = 1e-4;

/// Starts of the simplex search, the first guess among them.
const STARTS: usize = 3;

/// Iterations of each of the two rounds of a start.
const ITERATIONS: u64 = 1500;

const SEED: u64 = 0x0e6e_7e5e;

/// First guesses: shared parameters.
const SHARED: [f64; 5] = [1.2, 1.0, 500.0, 0.05, 1.0];

/// First guesses: parameters of one engine.
const OWN: [f64; 4] = [200.0, 20.0, 10_000.0, 0.5];

/// Writes the shared parameters into an engine.
fn set_shared(engine: &mut EngineParameters, values: &[f64]) {
    if let &[prefill, quantised, floor, per_request, steps] = values {
        engine.overheads.prefill_gemm_slowdown = prefill;
        engine.overheads.quantised_decode_gemm = quantised;
        engine.overheads.prefill_layer_floor_us = floor;
        engine.queueing.prefills_per_concurrent_request = per_request;
        engine.queueing.decode_steps_per_first_token = steps;
    }
}

/// Writes an engine's own parameters; at least the request's own prefill passes before its first token.
fn set_own(engine: &mut EngineParameters, values: &[f64]) {
    if let &[step, sequence, request, ahead] = values {
        engine.overheads.step_us = step;
        engine.overheads.sequence_us = sequence;
        engine.overheads.request_us = request;
        engine.queueing.prefills_per_first_token = 1.0 + ahead;
    }
}

/// `logs`: natural logarithms of the shared parameters, then of each engine's own.
fn set(engines: &mut [EngineParameters], logs: &[f64]) {
    let values: Vec<f64> = logs.iter().map(|x| x.exp()).collect();
    let (shared, own) = values.split_at(SHARED.len().min(values.len()));
    for (engine, own) in engines.iter_mut().zip(own.chunks(OWN.len())) {
        set_shared(engine, shared);
        set_own(engine, own);
    }
}

fn first_guess(engines: usize) -> Vec<f64> {
    let own = std::iter::repeat_n(OWN, engines).flatten();
    SHARED.into_iter().chain(own).map(f64::ln).collect()
}

/// Logarithm of predicted over measured, for each figure of a run.
pub fn log_errors<'a>(
    observation: &'a Observation,
    engine: &EngineParameters,
) -> impl Iterator<Item = (Metric, f64)> + use<'a> {
    let Observation { run, steps, in_flight } = observation;
    let served = serve(steps, engine, &run.workload, *in_flight);
    run.figures
        .iter()
        .map(move |&(metric, measured)| (metric, (metric.predicted(&served, &run.workload) / measured).ln()))
}

struct Problem<'a> {
    engines: &'a [EngineParameters],
    observations: &'a [(usize, &'a Observation)],
    guess: &'a [f64],
}

impl CostFunction for Problem<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, logs: &Vec<f64>) -> Result<f64, Error> {
        let mut engines = self.engines.to_vec();
        set(&mut engines, logs);
        let robust = |error: f64, knee: f64| error.hypot(knee) - knee;
        let mut sum = 0.0;
        for (engine, observation) in self.observations {
            let Some(engine) = engines.get(*engine) else { continue };
            for (metric, error) in log_errors(observation, engine) {
                sum += match metric {
                    Metric::Ttft => TTFT_WEIGHT * robust(error, TTFT_KNEE),
                    _ => robust(error, TPOT_KNEE),
                };
            }
        }
        let pull: f64 = logs.iter().zip(self.guess).map(|(a, b)| (a - b) * (a - b)).sum();
        let cost = sum / self.observations.len().max(1) as f64 + PULL * pull;
        // The simplex compares costs: a point out of all range must lose, not be incomparable.
        Ok(if cost.is_finite() { cost } else { f64::MAX })
    }
}

/// Fits `engines` to the observations of their runs (observations of other engines are left out).
///
/// # Errors
/// When the solver fails, which it does not for finite observations.
pub fn fit(
    engines: &[EngineParameters],
    observations: &[&Observation],
) -> Result<Vec<EngineParameters>, Error> {
    let of_engine = |o: &&Observation| engines.iter().position(|e| e.name == o.run.engine);
    let observations: Vec<(usize, &Observation)> =
        observations.iter().filter_map(|o| Some((of_engine(o)?, *o))).collect();
    let guess = first_guess(engines.len());
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut best: Option<(f64, Vec<f64>)> = None;
    for start in 0..STARTS {
        let spread = if start == 0 { 0.0 } else { 0.5 };
        let mut point: Vec<f64> = guess.iter().map(|x| x + spread * rng.random_range(-1.0..=1.0)).collect();
        let mut cost = f64::INFINITY;
        // A second simplex around the first result gets out of a collapsed one.
        for _ in 0..2 {
            let problem = Problem { engines, observations: &observations, guess: &guess };
            (cost, point) = minimise(problem, point)?;
        }
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, point));
        }
    }
    let mut fitted = engines.to_vec();
    if let Some((_, logs)) = best {
        set(&mut fitted, &logs);
    }
    Ok(fitted)
}

/// Every engine with the parameters that one engine behind all the runs would have.
///
/// # Errors
/// When the solver fails.
pub fn transfer(
    engines: &[EngineParameters],
    observations: &[&Observation],
) -> Result<Vec<EngineParameters>, Error> {
    let Some(first) = engines.first() else { return Ok(Vec::new()) };
    let rename = |o: &&Observation| {
        let mut observation = (*o).clone();
        observation.run.engine = first.name.clone();
        observation
    };
    let pooled: Vec<Observation> = observations.iter().map(rename).collect();
    let pooled: Vec<&Observation> = pooled.iter().collect();
    let fitted = fit(std::slice::from_ref(first), &pooled)?;
    let give = |engine: &EngineParameters| {
        let mut engine = engine.clone();
        if let Some(source) = fitted.first() {
            (engine.overheads, engine.queueing) = (source.overheads, source.queueing);
        }
        engine
    };
    Ok(engines.iter().map(give).collect())
}

fn minimise(problem: Problem<'_>, start: Vec<f64>) -> Result<(f64, Vec<f64>), Error> {
    let corner = |i: usize| {
        let mut corner = start.clone();
        if let Some(x) = corner.get_mut(i) {
            *x += 0.3;
        }
        corner
    };
    let simplex: Vec<Vec<f64>> = std::iter::once(start.clone()).chain((0..start.len()).map(corner)).collect();
    let solver: NelderMead<Vec<f64>, f64> = NelderMead::new(simplex).with_sd_tolerance(1e-9)?;
    let done = Executor::new(problem, solver).configure(|state| state.max_iters(ITERATIONS)).run()?;
    let state = done.state();
    Ok((state.get_best_cost(), state.get_best_param().cloned().unwrap_or(start)))
}
