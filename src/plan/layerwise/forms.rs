//! The figures of a serving set-up as largest of sums over layers: the arithmetic of
//! [`serve`](crate::hardware::latency::serving::serve), read as linear terms.
//!
//! A prefill takes `P = max(kernels, floor)`, both sums over layers; a decode step `D` is one. Of a closed loop the time
//! per token is `D + a P - c min(L, P)` with the linear layers `L` of the step, that is
//! `D + max(a P - c L, (a - c) P)`. Where the factor of `P` is not negative, `P` is replaced by either side and both
//! must keep the limit; where it is negative one of them suffices, and both cases are searched.

use std::ops::{Add, Mul};

use crate::hardware::latency::static_batch::prefill_passes;
use crate::model::workload::Load;
use crate::plan::evaluation::Setting;

/// What a layer adds to a scenario.
pub(super) const TERMS: usize = 8;
/// Linear layers of the prefill, seconds.
pub(super) const PREFILL_LINEAR: usize = 0;
/// Everything else in the prefill, seconds.
pub(super) const PREFILL_OTHER: usize = 1;
/// Linear layers of the decode step with operands of 16 bits or more, seconds.
pub(super) const DECODE_LINEAR: usize = 2;
/// Those with 8-bit operands, seconds.
pub(super) const DECODE_QUANTISED: usize = 3;
/// Everything else in the decode step, seconds.
pub(super) const DECODE_OTHER: usize = 4;
/// Layers.
pub(super) const LAYERS: usize = 5;
/// Weights and the KV cache of all sequences on one device, bytes.
pub(super) const MEMORY: usize = 6;
/// Parameters.
pub(super) const PARAMS: usize = 7;

/// Value of each term.
pub(super) type Terms = [f64; TERMS];

/// A linear function of the terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Form {
    weights: Terms,
    constant: f64,
}

impl Form {
    pub(super) fn term(term: usize, weight: f64) -> Self {
        let mut weights = [0.0; TERMS];
        weights[term] = weight;
        Self { weights, constant: 0.0 }
    }

    fn constant(constant: f64) -> Self {
        Self { weights: [0.0; TERMS], constant }
    }

    /// What `terms` add.
    pub(super) fn weight(&self, terms: &Terms) -> f64 {
        self.weights.iter().zip(terms).map(|(weight, term)| weight * term).sum()
    }

    /// The value at `terms`.
    pub(super) fn at(&self, terms: &Terms) -> f64 {
        self.weight(terms) + self.constant
    }
}

impl Add for Form {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let weights = std::array::from_fn(|term| self.weights[term] + other.weights[term]);
        Self { weights, constant: self.constant + other.constant }
    }
}

impl Mul<f64> for Form {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        Self { weights: self.weights.map(|weight| weight * factor), constant: self.constant * factor }
    }
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    /// Time to first token, seconds.
    Ttft,
    /// Time per output token, seconds.
    Tpot,
    /// Time of a request or batch, seconds; throughput and speedup are its inverse.
    Latency,
    /// Memory of one device but the inner tensors of the widest layer, bytes.
    Memory,
    /// Parameters.
    Params,
}

/// `rest + prefills x P`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    rest: Form,
    prefills: f64,
}

impl Part {
    fn plus(self, other: Part, times: f64) -> Part {
        Part { rest: self.rest + other.rest * times, prefills: self.prefills + other.prefills * times }
    }
}

/// A side of `P`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Kernels take the prefill's time.
    Kernels,
    /// The host's least time per layer does.
    Floor,
}

/// The figures of one scenario; each is the largest of its parts.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    kernels: Form,
    floor: Option<Form>,
    ttft: Part,
    tpot: Vec<Part>,
    latency: Vec<Part>,
}

impl Figures {
    pub(super) fn of(setting: &Setting<'_>) -> Self {
        let (engine, workload) = (setting.machine.engine, &setting.workload);
        let overheads = &engine.overheads;
        let (_, passes) = prefill_passes(workload, engine);
        let kernels =
            Form::term(PREFILL_LINEAR, overheads.prefill_gemm_slowdown) + Form::term(PREFILL_OTHER, 1.0);
        let floor = overheads.prefill_floor(1).0 * passes;
        let (Load::Batch(sequences) | Load::Concurrency(sequences)) = workload.load;
        let linear = Form::term(DECODE_LINEAR, overheads.decode_slowdown)
            + Form::term(DECODE_QUANTISED, overheads.decode_slowdown * overheads.quantised_decode_gemm);
        let step = linear
            + Form::term(DECODE_OTHER, overheads.decode_slowdown)
            + Form::constant(overheads.decode_host(sequences).0);
        let (ttft, tpot) = match workload.load {
            Load::Batch(_) => batch(setting, step),
            Load::Concurrency(asked) => closed_loop(setting, step, linear, asked),
        };
        let further = workload.output.saturating_sub(1) as f64;
        let latency = tpot.iter().map(|part| ttft.plus(*part, further)).collect();
        let floor = (floor > 0.0).then(|| Form::term(LAYERS, floor));
        Self { kernels, floor, ttft, tpot, latency }
    }

    fn parts(&self, quantity: Quantity) -> Vec<Part> {
        let sum = |term| vec![Part { rest: Form::term(term, 1.0), prefills: 0.0 }];
        match quantity {
            Quantity::Ttft => vec![self.ttft],
            Quantity::Tpot => self.tpot.clone(),
            Quantity::Latency => self.latency.clone(),
            Quantity::Memory => sum(MEMORY),
            Quantity::Params => sum(PARAMS),
        }
    }

    /// Whether keeping a limit on the figure takes cases.
    pub(super) fn bends(&self, quantity: Quantity) -> bool {
        self.floor.is_some() && self.parts(quantity).iter().any(|part| part.prefills < 0.0)
    }

    /// By how much the kernels of the prefill take longer than the host's least time; `None` without such a time.
    pub(super) fn kernels_above_floor(&self) -> Option<Form> {
        self.floor.map(|floor| self.kernels + floor * -1.0)
    }

    /// Sums that must all keep a limit on the figure. Where a negative factor leaves a choice, that of `side` is taken.
    pub(super) fn rows(&self, quantity: Quantity, side: Side) -> Vec<Form> {
        let mut rows = Vec::new();
        for Part { rest, prefills } in self.parts(quantity) {
            let with = |prefill: Form| rest + prefill * prefills;
            match self.floor {
                _ if prefills == 0.0 => rows.push(rest),
                None => rows.push(with(self.kernels)),
                Some(floor) if prefills > 0.0 => rows.extend([with(self.kernels), with(floor)]),
                Some(floor) => rows.push(with(if side == Side::Floor { floor } else { self.kernels })),
            }
        }
        rows
    }

    /// The figure itself.
    pub(super) fn value(&self, quantity: Quantity, terms: &Terms) -> f64 {
        let floor = self.floor.map_or(0.0, |floor| floor.at(terms));
        let prefill = self.kernels.at(terms).max(floor);
        let parts = self.parts(quantity).into_iter();
        parts.map(|part| part.rest.at(terms) + part.prefills * prefill).fold(f64::NEG_INFINITY, f64::max)
    }
}

fn batch(setting: &Setting<'_>, step: Form) -> (Part, Vec<Part>) {
    let host = setting.machine.engine.overheads.step_us * 1e-6;
    let ttft = Part { rest: Form::constant(host), prefills: 1.0 };
    (ttft, vec![Part { rest: step, prefills: 0.0 }])
}

fn closed_loop(setting: &Setting<'_>, step: Form, linear: Form, asked: u64) -> (Part, Vec<Part>) {
    let (engine, workload) = (setting.machine.engine, &setting.workload);
    let (queueing, output) = (&engine.queueing, workload.output.max(1) as f64);
    let others = asked.saturating_sub(1) as f64;
    let chunks = workload.prompt.div_ceil(engine.limits.chunk_tokens.max(1)).max(1) as f64;
    let shared = queueing.shared_step * (others * chunks / output).min(1.0);
    let of_others = others / output;
    let tpot = match shared > 0.0 {
        true => vec![
            Part { rest: step + linear * -shared, prefills: of_others },
            Part { rest: step, prefills: of_others - shared },
        ],
        false => vec![Part { rest: step, prefills: of_others }],
    };
    let prefills = queueing.prefills_per_first_token + queueing.prefills_per_concurrent_request * others;
    let rest = Form::term(DECODE_OTHER, chunks * prefills)
        + step * queueing.decode_steps_per_first_token
        + Form::constant(engine.overheads.request_us * 1e-6);
    (Part { rest, prefills }, tpot)
}
