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

use crate::hardware::profile::engine::EngineParameters;
use crate::model::workload::{Load, Workload};
use crate::units::Seconds;

/// Kernel times of one pass, split where engines act differently on them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PassTimes {
    /// Linear layers, LM head included.
    pub gemm: Seconds,
    /// Everything else.
    pub other: Seconds,
    /// Absolute spread of the sum (one standard deviation).
    pub spread: Seconds,
}

impl PassTimes {
    /// All kernels of the pass.
    pub fn total(&self) -> Seconds {
        self.gemm + self.other
    }
}

/// The priced passes behind a prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTimes {
    /// Decoder layers.
    pub layers: u64,
    /// One prefill: of one request in a closed loop, of the whole batch in a static one.
    pub prefill: PassTimes,
    /// Mean decode step of all sequences over the growing cache.
    pub decode: PassTimes,
}

/// What a client sees, on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Served {
    /// Time to first token.
    pub ttft: Seconds,
    /// Time per output token after the first.
    pub tpot: Seconds,
    /// Time of a whole request (of the whole batch in a static one).
    pub latency: Seconds,
    /// Output tokens per second of the replica.
    pub output_tokens_per_s: f64,
    /// Relative spread of `ttft`: kernels and engine together.
    pub ttft_log_sigma: f64,
    /// Relative spread of `tpot`.
    pub tpot_log_sigma: f64,
    /// Relative spread of `latency`; of the throughput too.
    pub latency_log_sigma: f64,
}

/// Wall time of a prefill alone on the device: kernels as slow as in the network, the host at its fastest.
pub fn prefill_time(steps: &StepTimes, engine: &EngineParameters) -> Seconds {
    let kernels = steps.prefill.gemm * engine.overheads.prefill_gemm_slowdown + steps.prefill.other;
    kernels.max(engine.overheads.prefill_floor(steps.layers))
}

/// Wall time of a decode step of `sequences` sequences with no prefill in it.
pub fn decode_time(steps: &StepTimes, engine: &EngineParameters, sequences: u64) -> Seconds {
    steps.decode.total() * engine.overheads.decode_slowdown + engine.overheads.decode_host(sequences)
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
    let prefill = prefill_time(steps, engine) + Seconds::from_us(engine.overheads.step_us);
    let decode = decode_time(steps, engine, sequences);
    let further = workload.output.saturating_sub(1) as f64;
    let latency = prefill + decode * further;
    let prefill_sigma = relative(steps.prefill.spread, steps.prefill.total());
    let decode_sigma = relative(steps.decode.spread, steps.decode.total());
    // A static batch does not queue, so the engine's residual is that of its steps.
    let engine_sigma = engine.residuals.tpot_log_sigma;
    let parts = [prefill.0 * prefill_sigma, decode.0 * further * decode_sigma];
    Served {
        ttft: prefill,
        tpot: decode,
        latency,
        output_tokens_per_s: sequences as f64 * workload.output as f64 / latency.0,
        ttft_log_sigma: prefill_sigma.hypot(engine_sigma),
        tpot_log_sigma: decode_sigma.hypot(engine_sigma),
        latency_log_sigma: relative(Seconds(parts[0] + parts[1]), latency).hypot(engine_sigma),
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
    let decode = decode_time(steps, engine, in_flight);

    let mixed_share = (others * chunks / output).min(1.0);
    let saved = steps.decode.gemm.min(prefill) * (queueing.shared_step * mixed_share);
    let tpot = decode + prefill * (others / output) - saved;

    let own = prefill + steps.decode.other * chunks;
    let prefills = queueing.prefills_per_first_token + queueing.prefills_per_concurrent_request * others;
    let admitted = own * prefills
        + decode * queueing.decode_steps_per_first_token
        + Seconds::from_us(engine.overheads.request_us);
    // Slots short of the concurrency: a request first waits until one is free.
    let service = admitted + tpot * (output - 1.0);
    let waiting = service * (asked as f64 / in_flight as f64 - 1.0);
    let ttft = admitted + waiting;
    let latency = ttft + tpot * (output - 1.0);

    let prefill_sigma = relative(steps.prefill.spread, steps.prefill.total());
    let decode_sigma = relative(steps.decode.spread, steps.decode.total());
    let tpot_spread = decode.0 * decode_sigma + prefill.0 * (others / output) * prefill_sigma;
    let tpot_log_sigma = relative(Seconds(tpot_spread), tpot).hypot(engine.residuals.tpot_log_sigma);
    let ttft_log_sigma = prefill_sigma.hypot(engine.residuals.ttft_log_sigma);
    let latency_spread = ttft.0 * ttft_log_sigma + tpot.0 * (output - 1.0) * tpot_log_sigma;
    Served {
        ttft,
        tpot,
        latency,
        output_tokens_per_s: asked as f64 * output / latency.0,
        ttft_log_sigma,
        tpot_log_sigma,
        latency_log_sigma: relative(Seconds(latency_spread), latency),
    }
}

fn relative(spread: Seconds, of: Seconds) -> f64 {
    if of.0 > 0.0 { spread / of } else { 0.0 }
}
