//! Prices of uniform shapes from per-axis tables: what a search over millions of shapes evaluates.
//!
//! A pass of a uniform decoder is `layers x (A[hidden, heads] + B[hidden, ffn]) + C[hidden]`, and so are its
//! weights and, with squares of layers, its spread. The tables hold A, B and C of the two passes behind a
//! prediction; [`UniformTables::evaluate`] adds them up and hands them to the arithmetic the slow path uses
//! ([`serve`]). A test compares both.
//!
//! A shape whose memory does not hold every sequence asked for is priced as if it did and marked as not fitting
//! (the slow path would queue instead).

mod cells;

use crate::hardware::latency::forward::{PriceError, combined_spread};
use crate::hardware::latency::lowering::Phase;
use crate::hardware::latency::memory::pass_tokens;
use crate::hardware::latency::prediction::{Machine, PredictError, check_workload};
use crate::hardware::latency::serving::{PassTimes, Served, StepTimes, serve};
use crate::hardware::latency::static_batch::{prefill_passes, sample_lengths};
use crate::hardware::latency::uniform_tables::cells::{
    Block, Builder, Cells, Entry, HeadsEntry, KINDS, Kinds, Part, ffn_only, heads_only,
};
use crate::hardware::profile::engine::EngineParameters;
use crate::model::architecture::{Architecture, LayerShape};
use crate::model::spec::ModelSpec;
use crate::model::tensor_parallel;
use crate::model::workload::{Deployment, Load, Workload};
use crate::units::{Bytes, DType, Seconds};

/// The values of each axis.
#[derive(Clone, Copy, Debug)]
pub struct Axes<'a> {
    /// Hidden sizes.
    pub hidden: &'a [u64],
    /// FFN widths.
    pub ffn: &'a [u64],
    /// Query and KV heads, in pairs.
    pub heads: &'a [(u64, u64)],
    /// Head size.
    pub head_dim: u64,
}

impl Axes<'_> {
    /// Whether the devices can share every value of every axis.
    fn check(&self, spec: &ModelSpec, tp: u64) -> Result<(), TablesError> {
        for shape in self.heads.iter().map(|&h| heads_only(h)).chain(self.ffn.iter().map(|&f| ffn_only(f))) {
            let LayerShape { ffn, q_heads, kv_heads } = shape;
            let architecture = Architecture::uniform(1, 1, ffn, q_heads, kv_heads, self.head_dim);
            let checked = tensor_parallel::check(spec, &architecture, tp);
            checked.map_err(|error| PredictError::Price(PriceError::TensorParallel(error)))?;
        }
        Ok(())
    }
}

/// What one uniform shape costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShapeCost {
    /// What a client sees, with the spread of each figure.
    pub served: Served,
    /// Device memory, per device.
    pub memory: Bytes,
    /// Whether it is within the engine's budget.
    pub fits: bool,
    /// Parameters of the whole model.
    pub params: u64,
}

/// Why tables cannot be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TablesError {
    /// Workload, tensor parallelism or a gap in the profile.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// More kinds of attention windows than the tables keep apart.
    #[error("the model mixes {found} kinds of attention windows; the tables keep {KINDS} apart")]
    Windows {
        /// Kinds found.
        found: usize,
    },
}

/// What is known of a shape once hidden size and heads are.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    hidden: usize,
    entry: HeadsEntry,
}

/// Tables of one deployment under one workload.
#[derive(Clone, Debug)]
pub struct UniformTables {
    engine: EngineParameters,
    workload: Workload,
    sequences: u64,
    heads: Vec<HeadsEntry>,
    ffn: Vec<Entry>,
    hidden: Vec<(u64, Entry)>,
    head_counts: usize,
    ffn_widths: usize,
    kinds: Kinds,
    prefill_passes: f64,
    pass_tokens: f64,
    logits: f64,
    reserve: f64,
    budget: f64,
}

impl UniformTables {
    /// Prices every cell, in parallel. Every layer has attention and an FFN, so axis values are 1 or more.
    ///
    /// # Errors
    /// When the workload is out of range, the devices cannot share some value of an axis, the profile has a gap,
    /// or the model mixes more than two kinds of attention.
    pub fn build(
        machine: Machine<'_>,
        spec: &ModelSpec,
        deployment: &Deployment,
        workload: &Workload,
        axes: Axes<'_>,
    ) -> Result<Self, TablesError> {
        check_workload(workload)?;
        axes.check(spec, deployment.tp)?;
        let (Load::Batch(sequences) | Load::Concurrency(sequences)) = workload.load;
        let (prefill, prefill_passes) = prefill_passes(workload, machine.engine);
        let kinds = Kinds::of(spec)?;
        let lengths = sample_lengths(workload.prompt, workload.output);
        let builder = Builder {
            machine,
            spec,
            deployment,
            workload,
            head_dim: axes.head_dim,
            kinds: &kinds,
            prefill,
            decode: lengths.into_iter().map(|kv_len| Phase::Decode { batch: sequences, kv_len }).collect(),
        };
        let Cells { heads, ffn, hidden } =
            builder.cells(axes).map_err(|gap| PredictError::Price(PriceError::Gap(gap)))?;
        Ok(Self {
            engine: machine.engine.clone(),
            workload: *workload,
            sequences,
            heads,
            ffn,
            hidden,
            head_counts: axes.heads.len(),
            ffn_widths: axes.ffn.len(),
            prefill_passes,
            pass_tokens: pass_tokens(workload, machine.engine),
            logits: sequences as f64 * spec.vocab_size as f64 * DType::F32.bytes(),
            reserve: machine.engine.reserve().0,
            budget: (machine.hbm * machine.engine.limits.memory_share).0,
            kinds,
        })
    }

    /// What is known of all shapes with this hidden size and these heads (positions on their axes).
    ///
    /// # Panics
    /// When a position lies outside its axis.
    pub fn slice(&self, hidden: usize, heads: usize) -> Slice {
        Slice { hidden, entry: self.heads[hidden * self.head_counts + heads] }
    }

    /// Cost of one shape of a slice (position on the FFN axis, number of layers); neither allocates nor prices.
    ///
    /// # Panics
    /// When a position lies outside its axis.
    pub fn point(&self, slice: &Slice, ffn: usize, layers: u64) -> ShapeCost {
        let heads = &slice.entry;
        let ffn = &self.ffn[slice.hidden * self.ffn_widths + ffn];
        let (hidden_size, outside) = &self.hidden[slice.hidden];
        let kinds = self.kinds.counts(layers);
        let n = layers as f64;
        let steps = StepTimes {
            layers,
            prefill: sum(&heads.prefill, &ffn.prefill, &outside.prefill, n, kinds) * self.prefill_passes,
            prefill_passes: self.prefill_passes,
            decode: sum(&heads.decode, &ffn.decode, &outside.decode, n, kinds),
        };
        let weights = n * (heads.weights + ffn.weights) + outside.weights;
        let kv: f64 = kinds.iter().zip(&heads.kv_per_sequence).map(|(count, kv)| count * kv).sum();
        let per_token = (3 * hidden_size + heads.inner.max(ffn.inner)) as f64 * DType::Bf16.bytes();
        let activations = self.pass_tokens * per_token + self.logits;
        let memory = weights + kv * self.sequences as f64 + activations + self.reserve;
        ShapeCost {
            served: serve(&steps, &self.engine, &self.workload, self.sequences),
            memory: Bytes(memory),
            fits: memory <= self.budget,
            params: layers * (heads.params + ffn.params) + outside.params,
        }
    }

    /// [`Self::point`] of [`Self::slice`].
    ///
    /// # Panics
    /// When a position lies outside its axis.
    pub fn evaluate(&self, hidden: usize, ffn: usize, heads: usize, layers: u64) -> ShapeCost {
        self.point(&self.slice(hidden, heads), ffn, layers)
    }
}

#[inline]
fn sum(heads: &Block, ffn: &Part, outside: &Part, layers: f64, kinds: [f64; KINDS]) -> PassTimes {
    let layer = heads.linear.beside(ffn);
    let (mut attention, mut attention_spread) = (0.0, 0.0);
    for (count, (latency, spread)) in kinds.iter().zip(&heads.attention) {
        attention += count * latency;
        attention_spread += count * spread;
    }
    let spread = layers * layer.spread + outside.spread + attention_spread;
    let squares = layers * layers * layer.squares + outside.squares + attention_spread * attention_spread;
    PassTimes {
        gemm: layer.times.gemm * layers + outside.times.gemm,
        quantised_gemm: layer.times.quantised_gemm * layers + outside.times.quantised_gemm,
        other: layer.times.other * layers + outside.times.other + Seconds(attention),
        spread: Seconds(combined_spread(spread, squares)),
    }
}
