//! From step times to what a client sees: closed form, a handful of operations.
//!
//! Closed loop at a fixed concurrency with continuous batching. Each slot decodes one token per step; whenever
//! one of the other slots starts a new request, its prefill shares a step with everybody's decode: the step then
//! takes the prefill's time, while the weights it reads anyway serve the decoding tokens too
//! (`shared_step`). A request therefore pays, spread over its own output, one prefill of each other slot.
//! The first token waits for the running steps, for the prefills ahead of it and for its own.
//!
//! The same two priced passes, one prefill and one mean decode step, price a static batch.
//!
//! Deliberately absent: open-loop arrival (a request rate), priorities, prefix caching, speculative decoding.

use std::ops::Mul;

use serde::Serialize;

use crate::hardware::kernel::KernelCall;
use crate::hardware::profile::engine::EngineParameters;
use crate::model::workload::{Load, Workload};
use crate::units::Seconds;

/// Kernel times of one pass, split where engines act differently on them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PassTimes {
    /// Linear layers with operands of 16 bits or more, LM head included.
    pub gemm: Seconds,
    /// Linear layers with 8-bit operands.
    pub quantised_gemm: Seconds,
    /// Everything else.
    pub other: Seconds,
    /// Absolute spread of the sum (one standard deviation).
    pub spread: Seconds,
}

impl PassTimes {
    /// The share that a call's time belongs to.
    pub fn share_of(&mut self, call: &KernelCall) -> &mut Seconds {
        match call {
            KernelCall::Gemm { dtype, .. } if dtype.bytes() < 2.0 => &mut self.quantised_gemm,
            KernelCall::Gemm { .. } => &mut self.gemm,
            _ => &mut self.other,
        }
    }

    /// All kernels of the pass.
    pub fn total(&self) -> Seconds {
        self.gemm + self.quantised_gemm + self.other
    }
}

impl Mul<f64> for PassTimes {
    type Output = Self;
    fn mul(self, passes: f64) -> Self {
        Self {
            gemm: self.gemm * passes,
            quantised_gemm: self.quantised_gemm * passes,
            other: self.other * passes,
            spread: self.spread * passes,
        }
    }
}

/// The priced passes behind a prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTimes {
    /// Decoder layers.
    pub layers: u64,
    /// One prefill: of one request in a closed loop, of the whole batch in a static one.
    pub prefill: PassTimes,
    /// Passes that prefill takes.
    pub prefill_passes: f64,
    /// Mean decode step of all sequences over the growing cache.
    pub decode: PassTimes,
}

/// What the time to first token is made of; their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TtftParts {
    /// The request's own prefill.
    pub own_prefill: Seconds,
    /// Prefills of requests that came at the same time.
    pub prefills_ahead: Seconds,
    /// Decode steps until the request is admitted.
    pub decode_steps: Seconds,
    /// Host time of the request.
    pub host: Seconds,
    /// Waiting for a slot, where memory holds fewer requests than are in flight.
    pub slot: Seconds,
}

/// What the time per output token is made of; their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TpotParts {
    /// Kernels of the decode step.
    pub kernels: Seconds,
    /// What these kernels take longer (or shorter, negative) inside the network than alone.
    pub slowdown: Seconds,
    /// Host time of the step.
    pub host: Seconds,
    /// Prefills of other requests, spread over the output.
    pub prefills_of_others: Seconds,
    /// What prefill and decode save by sharing steps (negative).
    pub shared_steps: Seconds,
}

impl TtftParts {
    /// Time to first token.
    pub fn total(&self) -> Seconds {
        self.own_prefill + self.prefills_ahead + self.decode_steps + self.host + self.slot
    }
}

impl TpotParts {
    /// Time per output token.
    pub fn total(&self) -> Seconds {
        self.kernels + self.slowdown + self.host + self.prefills_of_others + self.shared_steps
    }
}

/// What a client sees, on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Served {
    /// Time to first token (of a static batch: its prefill), in parts.
    pub ttft: TtftParts,
    /// Time per output token after the first (of a static batch: the mean decode step), in parts.
    pub tpot: TpotParts,
    /// Time of a whole request (of the whole batch in a static one).
    pub latency: Seconds,
    /// Output tokens per second of the replica.
    pub output_tokens_per_s: f64,
    /// Relative spread of the time to first token: kernels and engine together.
    pub ttft_log_sigma: f64,
    /// Relative spread of the time per output token.
    pub tpot_log_sigma: f64,
    /// Relative spread of `latency`; of the throughput too.
    pub latency_log_sigma: f64,
}

/// Wall time of a prefill alone on the device: kernels as slow as in the network, the host at its fastest.
pub fn prefill_time(steps: &StepTimes, engine: &EngineParameters) -> Seconds {
    let linear = steps.prefill.gemm + steps.prefill.quantised_gemm;
    let kernels = linear * engine.overheads.prefill_gemm_slowdown + steps.prefill.other;
    kernels.max(engine.overheads.prefill_floor(steps.layers) * steps.prefill_passes)
}

/// Wall time of a decode step of `sequences` sequences with no prefill in it.
pub fn decode_time(steps: &StepTimes, engine: &EngineParameters, sequences: u64) -> Seconds {
    decode_parts(steps, engine, sequences).total()
}

fn decode_parts(steps: &StepTimes, engine: &EngineParameters, sequences: u64) -> TpotParts {
    let (kernels, overheads) = (steps.decode.total(), &engine.overheads);
    let quantised = steps.decode.quantised_gemm * (overheads.quantised_decode_gemm - 1.0);
    TpotParts {
        kernels,
        slowdown: (kernels + quantised) * overheads.decode_slowdown - kernels,
        host: overheads.decode_host(sequences),
        ..TpotParts::default()
    }
}

/// What a client sees of a workload whose passes take `steps`. The priced decode step must be that of
/// `in_flight` sequences: the concurrency or, where memory holds fewer, as many as it holds; the others wait.
pub fn serve(steps: &StepTimes, engine: &EngineParameters, workload: &Workload, in_flight: u64) -> Served {
    match workload.load {
        Load::Batch(sequences) => static_batch(steps, engine, workload, sequences),
        Load::Concurrency(asked) => {
            closed_loop(steps, engine, workload, asked, in_flight.clamp(1, asked.max(1)))
        }
    }
}

fn static_batch(steps: &StepTimes, engine: &EngineParameters, workload: &Workload, sequences: u64) -> Served {
    let host = Seconds::from_us(engine.overheads.step_us);
    let ttft = TtftParts { own_prefill: prefill_time(steps, engine), host, ..TtftParts::default() };
    let tpot = decode_parts(steps, engine, sequences);
    let further = workload.output.saturating_sub(1) as f64;
    let (prefill, decode) = (ttft.total(), tpot.total());
    let latency = prefill + decode * further;
    let (prefill_sigma, decode_sigma) = kernel_sigmas(steps);
    // A static batch does not queue, so the engine's residual is that of its steps.
    let engine_sigma = engine.residuals.tpot_log_sigma;
    let spread = prefill * prefill_sigma + decode * (further * decode_sigma);
    Served {
        ttft,
        tpot,
        latency,
        output_tokens_per_s: sequences as f64 * workload.output as f64 / latency.0,
        ttft_log_sigma: together(prefill_sigma, engine_sigma),
        tpot_log_sigma: together(decode_sigma, engine_sigma),
        latency_log_sigma: together(relative(spread, latency), engine_sigma),
    }
}

fn closed_loop(
    steps: &StepTimes,
    engine: &EngineParameters,
    workload: &Workload,
    asked: u64,
    in_flight: u64,
) -> Served {
    let (queueing, output) = (&engine.queueing, workload.output.max(1) as f64);
    let others = (in_flight - 1) as f64;
    let chunks = workload.prompt.div_ceil(engine.limits.chunk_tokens.max(1)).max(1) as f64;
    let prefill = prefill_time(steps, engine);

    let mut tpot = decode_parts(steps, engine, in_flight);
    let decode = tpot.total();
    let mixed_share = (others * chunks / output).min(1.0);
    tpot.prefills_of_others = prefill * (others / output);
    let linear = steps.decode.gemm + steps.decode.quantised_gemm * engine.overheads.quantised_decode_gemm;
    let linear = linear * engine.overheads.decode_slowdown;
    tpot.shared_steps = linear.min(prefill) * -(queueing.shared_step * mixed_share);

    // In the steps of a prefill the attention of the decoding requests runs too.
    let own_prefill = prefill + steps.decode.other * chunks;
    let prefills = queueing.prefills_per_first_token + queueing.prefills_per_concurrent_request * others;
    let mut ttft = TtftParts {
        own_prefill,
        prefills_ahead: own_prefill * (prefills - 1.0),
        decode_steps: decode * queueing.decode_steps_per_first_token,
        host: Seconds::from_us(engine.overheads.request_us),
        slot: Seconds::ZERO,
    };
    let per_token = tpot.total();
    let service = ttft.total() + per_token * (output - 1.0);
    ttft.slot = service * (asked as f64 / in_flight as f64 - 1.0);
    let first = ttft.total();
    let latency = first + per_token * (output - 1.0);

    let (prefill_sigma, decode_sigma) = kernel_sigmas(steps);
    let spread = decode * decode_sigma + tpot.prefills_of_others * prefill_sigma;
    let tpot_log_sigma = together(relative(spread, per_token), engine.residuals.tpot_log_sigma);
    let ttft_log_sigma = together(prefill_sigma, engine.residuals.ttft_log_sigma);
    let latency_spread = first * ttft_log_sigma + per_token * ((output - 1.0) * tpot_log_sigma);
    Served {
        ttft,
        tpot,
        latency,
        output_tokens_per_s: asked as f64 * output / latency.0,
        ttft_log_sigma,
        tpot_log_sigma,
        latency_log_sigma: relative(latency_spread, latency),
    }
}

fn kernel_sigmas(steps: &StepTimes) -> (f64, f64) {
    let of = |pass: &PassTimes| relative(pass.spread, pass.total());
    (of(&steps.prefill), of(&steps.decode))
}

fn relative(spread: Seconds, of: Seconds) -> f64 {
    if of.0 > 0.0 { spread / of } else { 0.0 }
}

/// Spread of a product of two independent factors. (`f64::hypot` guards against overflow, at several times the cost.)
fn together(a: f64, b: f64) -> f64 {
    (a * a + b * b).sqrt()
}
