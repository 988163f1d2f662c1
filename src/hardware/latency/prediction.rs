//! The facade of the latency wing: a model in a shape, on a device, under a workload -> what it costs.

use crate::estimate::{Estimate, Source};
use crate::hardware::latency::cost::{KernelCosts, Z90};
use crate::hardware::latency::forward::{PassCost, PriceError, price};
use crate::hardware::latency::memory::{Memory, memory};
use crate::hardware::latency::serving::{PassTimes, Served, StepTimes, decode_time, prefill_time, serve};
use crate::hardware::latency::static_batch::{mean_decode_step, prefill_passes};
use crate::hardware::profile::engine::{EngineParameters, Origin};
use crate::model::architecture::Architecture;
use crate::model::spec::ModelSpec;
use crate::model::tensor_parallel;
use crate::model::workload::{Deployment, Load, Workload};
use crate::units::{Bytes, Seconds};

/// The machine a prediction is made for.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// Prices of its kernels.
    pub costs: &'a dyn KernelCosts,
    /// Its memory, per device.
    pub hbm: Bytes,
    /// The engine that runs on it.
    pub engine: &'a EngineParameters,
}

/// What a shape costs under a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// What a client sees.
    pub served: Served,
    /// Device memory.
    pub memory: Memory,
    /// Sequences decoding at once: the concurrency or, where memory holds fewer, those it holds.
    pub in_flight: u64,
    /// The prefill pass, op by op: of one request in a closed loop, of the whole batch in a static one.
    pub prefill: PassCost,
    /// The mean decode step, op by op.
    pub decode: PassCost,
    /// The same passes as the engine's arithmetic takes them.
    pub steps: StepTimes,
    /// Wall time of that prefill on its own.
    pub prefill_time: Seconds,
    /// Wall time of that decode step with no prefill in it.
    pub decode_time: Seconds,
    /// How the engine's parameters were come by.
    pub engine_origin: Origin,
}

/// A prediction that cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PredictError {
    /// The devices cannot share the shape, or the profile has a gap.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// A workload without work, or beyond any machine.
    #[error("{what} is {found}; expected 1 to {most}")]
    Workload {
        /// Which number.
        what: &'static str,
        /// What was given.
        found: u64,
        /// Largest value accepted.
        most: u64,
    },
    /// Weights, activations and reserve leave no room for even one sequence.
    #[error(
        "does not fit: {} of weights, {} of activations and {} for the engine leave no room for one sequence's {} \
         of KV cache in {}; raise tp, or use a smaller dtype or shape",
        .0.weights, .0.activations, .0.reserve, .0.kv_per_sequence, .0.budget
    )]
    DoesNotFit(Box<Memory>),
}

/// Longest prompt or output accepted, in tokens.
const MOST_TOKENS: u64 = 1 << 24;

/// Most sequences accepted.
const MOST_SEQUENCES: u64 = 1 << 16;

/// Most tokens of all sequences together.
const MOST_TOKENS_TOGETHER: u64 = 1 << 31;

/// Whether a workload is one that could be run; within the limits no count of bytes or FLOPs overflows.
///
/// # Errors
/// [`PredictError::Workload`] with the number at fault.
pub fn check_workload(workload: &Workload) -> Result<(), PredictError> {
    let Workload { load, prompt, output } = *workload;
    let (what, sequences) = match load {
        Load::Batch(n) => ("batch", n),
        Load::Concurrency(n) => ("concurrency", n),
    };
    let limits = [
        ("prompt length", prompt, MOST_TOKENS),
        ("output length", output, MOST_TOKENS),
        (what, sequences, MOST_SEQUENCES),
        (
            "tokens of all sequences",
            sequences.saturating_mul(prompt.saturating_add(output)),
            MOST_TOKENS_TOGETHER,
        ),
    ];
    match limits.into_iter().find(|&(_, n, most)| n == 0 || n > most) {
        Some((what, found, most)) => Err(PredictError::Workload { what, found, most }),
        None => Ok(()),
    }
}

/// Splits a priced pass where engines act differently on it.
pub fn pass_times(pass: &PassCost) -> PassTimes {
    let mut times = PassTimes { spread: pass.total() * pass.log_sigma(), ..PassTimes::default() };
    for line in &pass.lines {
        *times.share_of(&line.call) += line.latency;
    }
    times
}

/// Predicts a workload. A closed loop that memory cannot hold runs with fewer sequences in flight; a static batch
/// that does not fit is priced all the same and says so ([`Memory::fits`]).
///
/// # Errors
/// When the workload is empty, the devices cannot share the shape, the profile has a gap, or a closed loop
/// cannot hold even one sequence.
pub fn predict(
    machine: Machine<'_>,
    spec: &ModelSpec,
    architecture: &Architecture,
    deployment: &Deployment,
    workload: &Workload,
) -> Result<Prediction, PredictError> {
    check_workload(workload)?;
    let Machine { costs, hbm, engine } = machine;
    tensor_parallel::check(spec, architecture, deployment.tp).map_err(PriceError::TensorParallel)?;
    let memory = memory(spec, architecture, deployment, workload, hbm, engine);
    let in_flight = match workload.load {
        Load::Batch(n) => n,
        Load::Concurrency(n) => n.min(memory.max_sequences()),
    };
    if in_flight == 0 {
        return Err(PredictError::DoesNotFit(Box::new(memory)));
    }
    let (phase, prefill_passes) = prefill_passes(workload, engine);
    let prefill = price(costs, spec, architecture, deployment, phase)?.times(prefill_passes);
    let lengths = (in_flight, workload.prompt, workload.output);
    let decode = mean_decode_step(costs, spec, architecture, deployment, lengths)?;
    let steps = StepTimes {
        layers: architecture.depth(),
        prefill: pass_times(&prefill),
        prefill_passes,
        decode: pass_times(&decode),
    };
    Ok(Prediction {
        served: serve(&steps, engine, workload, in_flight),
        memory,
        in_flight,
        prefill_time: prefill_time(&steps, engine),
        decode_time: decode_time(&steps, engine, in_flight),
        prefill,
        decode,
        steps,
        engine_origin: engine.origin,
    })
}

impl Prediction {
    /// Origin of a time: the least trustworthy of the kernels behind it and the engine's parameters.
    fn source(&self, kernels: Source) -> Source {
        let engine = match self.engine_origin {
            Origin::Fitted => Source::Fitted,
            Origin::Estimated => Source::Estimated,
            Origin::Definition => Source::Measured,
        };
        kernels.max(engine)
    }

    fn with_interval(&self, value: f64, log_sigma: f64, kernels: Source) -> Estimate {
        Estimate::with_log_sigma(value, log_sigma, Z90, self.source(kernels))
    }

    /// Time to first token in seconds (of a static batch: its prefill).
    pub fn ttft(&self) -> Estimate {
        self.with_interval(self.served.ttft.total().0, self.served.ttft_log_sigma, self.prefill.source())
    }

    /// Time per output token in seconds (of a static batch: its mean decode step).
    pub fn tpot(&self) -> Estimate {
        self.with_interval(self.served.tpot.total().0, self.served.tpot_log_sigma, self.decode.source())
    }

    /// Time of a whole request, or of the whole batch, in seconds.
    pub fn latency(&self) -> Estimate {
        let kernels = self.prefill.source().max(self.decode.source());
        self.with_interval(self.served.latency.0, self.served.latency_log_sigma, kernels)
    }

    /// Output tokens per second of the replica.
    pub fn output_tokens_per_s(&self) -> Estimate {
        let kernels = self.prefill.source().max(self.decode.source());
        self.with_interval(self.served.output_tokens_per_s, self.served.latency_log_sigma, kernels)
    }

    /// Device memory in bytes, per device: counted, so without interval; what activations and engine need is a
    /// rule, hence `estimated`.
    pub fn memory(&self) -> Estimate {
        Estimate::exact(self.memory.total().0, Source::Estimated)
    }
}
