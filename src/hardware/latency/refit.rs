//! The engines' parameters from the shipped runs: what `archplan evaluate-serving --refit` prints.
//!
//! vLLM and TensorRT-LLM are fitted to their own closed-loop runs. SGLang, of which no run is at hand, gets the
//! parameters of one engine behind all runs. The engines on Ascend take over vLLM's, and one number, how much
//! slower kernels run inside a decode step than alone, from the few figures published of them: in the network
//! kernels were seen 1.8 (matrix products, attention) to 4 (small ones) times slower than in a benchmark
//! (github Horacehxw/msModeling, on Atlas A3), most of it hidden behind other kernels.

use argmin::core::{CostFunction, Error, Executor, State};
use argmin::solver::brent::BrentOpt;

use crate::hardware::latency::accuracy::{LeftOut, held_out_errors, quantile, unconstrained, with_runs};
use crate::hardware::latency::calibration::{Observation, fit, log_errors, transfer};
use crate::hardware::latency::cost::Z90;
use crate::hardware::latency::validation::Metric;
use crate::hardware::profile::engine::{EngineParameters, Residuals};

/// The engine whose parameters engines on Ascend take over.
const TEMPLATE: &str = "vllm";

/// Spread of figures of an engine on Ascend: what is off by a factor of 1.3 one time in ten. A judgement, from
/// how far the figures of one such engine stand from those predicted with the slowdown of the other.
const ASCEND_LOG_SIGMA: f64 = 0.16;

/// Fits all engines anew; `runs` are closed-loop runs on GPUs, `figures` the published ones. Numbers are rounded
/// to four digits. Engines without run or figure are left as they are.
///
/// # Errors
/// When the solver fails.
pub fn refit(
    engines: &[EngineParameters],
    runs: &[Observation],
    figures: &[Observation],
) -> Result<Vec<EngineParameters>, Error> {
    let seen = unconstrained(runs);
    let references: Vec<&Observation> = seen.iter().collect();
    let with_runs = with_runs(engines, &seen);
    let spread = |schemes: &[LeftOut], metric| -> Result<f64, Error> {
        // The standard deviation of a normal distribution with the same 90th percentile.
        Ok(quantile(&mut held_out_errors(&seen, &with_runs, schemes, metric)?, 0.9) / Z90)
    };
    let within = [LeftOut::TensorParallel, LeftOut::Lengths, LeftOut::Concurrency];
    let mut fitted = fit(&with_runs, &references)?;
    // The time per token transfers between engines; the wait for the first one is the engine's own.
    let residuals = Residuals {
        ttft_log_sigma: spread(&within, Metric::Ttft)?,
        tpot_log_sigma: spread(&LeftOut::ALL, Metric::Tpot)?,
    };
    fitted.iter_mut().for_each(|engine| engine.residuals = residuals);

    let sglang: Vec<EngineParameters> = engines.iter().filter(|e| e.name == "sglang").cloned().collect();
    let foreign = Residuals {
        ttft_log_sigma: spread(&[LeftOut::Engine], Metric::Ttft)?,
        tpot_log_sigma: spread(&[LeftOut::Engine], Metric::Tpot)?,
    };
    let mut pooled = transfer(&sglang, &references)?;
    pooled.iter_mut().for_each(|engine| engine.residuals = foreign);

    let ascend = engines.iter().filter(|e| is_on_ascend(e, figures));
    let template = fitted.iter().find(|e| e.name == TEMPLATE);
    let ascend: Vec<EngineParameters> = match template {
        Some(template) => ascend.map(|e| ascend_engine(e, template, figures)).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    fitted.extend(pooled);
    fitted.extend(ascend);
    fitted.iter_mut().for_each(EngineParameters::round);
    Ok(fitted)
}

fn is_on_ascend(engine: &EngineParameters, figures: &[Observation]) -> bool {
    let here = |o: &Observation| o.run.engine == engine.name && o.run.profile.starts_with("ascend");
    figures.iter().any(here)
}

/// Host times and queueing of the template, compute and decode factors of Ascend.
fn ascend_engine(
    engine: &EngineParameters,
    template: &EngineParameters,
    figures: &[Observation],
) -> Result<EngineParameters, Error> {
    let mut engine = engine.clone();
    (engine.overheads, engine.queueing) = (template.overheads, template.queueing);
    // Neither clocks under load nor fused quantisation of the GPU engines were seen on Ascend.
    engine.overheads.prefill_gemm_slowdown = 1.0;
    engine.overheads.quantised_decode_gemm = 1.0;
    engine.residuals = Residuals { ttft_log_sigma: 2.0 * ASCEND_LOG_SIGMA, tpot_log_sigma: ASCEND_LOG_SIGMA };
    let figures: Vec<&Observation> = figures.iter().filter(|o| o.run.engine == engine.name).collect();
    let solver = BrentOpt::new(0.5f64.ln(), 3f64.ln());
    let problem = Slowdown { engine: &engine, figures: &figures };
    let done = Executor::new(problem, solver).configure(|state| state.max_iters(100)).run()?;
    if let Some(log) = done.state().get_best_param() {
        engine.overheads.decode_slowdown = log.exp();
    }
    Ok(engine)
}

struct Slowdown<'a> {
    engine: &'a EngineParameters,
    figures: &'a [&'a Observation],
}

impl CostFunction for Slowdown<'_> {
    type Param = f64;
    type Output = f64;

    fn cost(&self, log: &f64) -> Result<f64, Error> {
        let mut engine = self.engine.clone();
        engine.overheads.decode_slowdown = log.exp();
        let errors = self.figures.iter().flat_map(|o| log_errors(o, &engine).collect::<Vec<_>>());
        Ok(errors.map(|(_, error)| error * error).sum())
    }
}
