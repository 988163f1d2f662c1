//! One static batch: all prompts prefilled together, then decoded in lock-step over the growing cache.
//!
//! Only attention sees the cache grow, and its time is close to linear in it, so the mean over the decode steps is
//! taken at the midpoints of at most [`STRATA`] equal stretches of the output: exact for a linear cost and for
//! outputs no longer than that; the tests bound the rest against the sum over every step.

use std::collections::BTreeMap;

use crate::hardware::latency::cost::KernelCosts;
use crate::hardware::latency::forward::{Line, PassCost, PriceError};
use crate::hardware::latency::lowering::{Phase, lower};
use crate::hardware::profile::engine::EngineParameters;
use crate::model::architecture::Architecture;
use crate::model::spec::ModelSpec;
use crate::model::workload::{Deployment, Load, Workload};

/// How the prompts of a workload are prefilled: one pass, and how many like it.
///
/// A closed loop prefills one request at a time. A static batch is cut into passes of equal size that respect the
/// engine's limit of tokens per pass; a prompt longer than that is priced as one pass.
pub fn prefill_passes(workload: &Workload, engine: &EngineParameters) -> (Phase, f64) {
    let tokens = workload.prompt;
    match workload.load {
        Load::Concurrency(_) => (Phase::Prefill { batch: 1, tokens }, 1.0),
        Load::Batch(sequences) => {
            let most = (engine.limits.chunk_tokens / tokens.max(1)).max(1);
            let batch = sequences.div_ceil(sequences.div_ceil(most).max(1)).max(1);
            (Phase::Prefill { batch, tokens }, sequences as f64 / batch as f64)
        }
    }
}

/// Stretches the output is cut into.
pub const STRATA: u64 = 8;

/// Cache lengths at which the decode step is priced: the midpoints of equal stretches of the decode steps.
/// Step `i` of `output - 1` (the first token comes from the prefill) sees `prompt + i` tokens, its own included.
/// A request of one token decodes nothing; it gets the step it would have made.
pub fn sample_lengths(prompt: u64, output: u64) -> Vec<u64> {
    let steps = output.saturating_sub(1).max(1);
    let strata = steps.min(STRATA);
    (0..strata)
        .map(|i| prompt + ((i as f64 + 0.5) * steps as f64 / strata as f64 + 0.5).round() as u64)
        .collect()
}

/// Mean decode step of `batch` sequences over the growing cache, line by line.
///
/// # Errors
/// When the devices cannot share the shape, or the device has no measurement to go by.
pub fn mean_decode_step(
    costs: &dyn KernelCosts,
    spec: &ModelSpec,
    architecture: &Architecture,
    deployment: &Deployment,
    (batch, prompt, output): (u64, u64, u64),
) -> Result<PassCost, PriceError> {
    let mut seen = BTreeMap::new();
    let mut price = |kv_len| -> Result<PassCost, PriceError> {
        let ops = lower(spec, architecture, deployment, Phase::Decode { batch, kv_len })?;
        Ok(PassCost::with_memory(&ops, costs, &mut seen)?)
    };
    let steps = sample_lengths(prompt, output).into_iter().map(&mut price).collect::<Result<Vec<_>, _>>()?;
    Ok(mean(&steps))
}

/// Mean of passes that have the same lines. Spreads of one op at different lengths add linearly; the least
/// trustworthy source stands for all.
fn mean(passes: &[PassCost]) -> PassCost {
    let n = passes.len() as f64;
    let Some((first, rest)) = passes.split_first() else { return PassCost { lines: Vec::new() } };
    let merge = |(i, line): (usize, &Line)| {
        let mut merged = *line;
        let mut spread = line.latency.0 * line.log_sigma;
        for other in rest.iter().filter_map(|pass| pass.lines.get(i)) {
            merged.latency += other.latency;
            spread += other.latency.0 * other.log_sigma;
            merged.source = merged.source.max(other.source);
            merged.extrapolated |= other.extrapolated;
        }
        merged.log_sigma = if merged.latency.0 > 0.0 { spread / merged.latency.0 } else { 0.0 };
        merged.latency = merged.latency / n;
        merged
    };
    PassCost { lines: first.lines.iter().enumerate().map(merge).collect() }
}
