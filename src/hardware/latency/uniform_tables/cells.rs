//! The cells of the tables: what one part of a pass costs, priced once.

use rayon::prelude::*;

use crate::hardware::kernel::KernelCall;
use crate::hardware::latency::cost::GapError;
use crate::hardware::latency::lowering::{Pass, Phase, shard};
use crate::hardware::latency::memory::{inner_width, tokens_per_sequence};
use crate::hardware::latency::prediction::Machine;
use crate::hardware::latency::serving::PassTimes;
use crate::hardware::latency::uniform_tables::{Axes, TablesError};
use crate::model::architecture::{Architecture, LayerShape};
use crate::model::counts;
use crate::model::spec::ModelSpec;
use crate::model::workload::{Deployment, Workload};
use crate::units::Seconds;

/// Kinds of attention (full, windowed) a model may mix.
pub(super) const KINDS: usize = 2;

/// Sums over the ops of one part of a pass: times in seconds, `sum a` and `sum a^2` of their absolute spreads.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    pub(super) times: PassTimes,
    pub(super) spread: f64,
    pub(super) squares: f64,
}

impl Part {
    pub(super) fn of(machine: Machine<'_>, calls: &[(&'static str, KernelCall)]) -> Result<Self, GapError> {
        let mut part = Part::default();
        for (_, call) in calls {
            let cost = machine.costs.cost(call)?;
            *part.times.share_of(call) += cost.latency;
            let spread = cost.latency.0 * cost.log_sigma;
            part.spread += spread;
            part.squares += spread * spread;
        }
        Ok(part)
    }

    /// Two blocks of one layer.
    pub(super) fn beside(self, o: &Part) -> Part {
        Part {
            times: PassTimes {
                gemm: self.times.gemm + o.times.gemm,
                quantised_gemm: self.times.quantised_gemm + o.times.quantised_gemm,
                other: self.times.other + o.times.other,
                spread: Seconds::ZERO,
            },
            spread: self.spread + o.spread,
            squares: self.squares + o.squares,
        }
    }
}

/// Mean time and absolute spread of the attention kernel of each kind.
pub(super) type Attention = [(f64, f64); KINDS];

/// One phase's share of an attention block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Block {
    pub(super) linear: Part,
    pub(super) attention: Attention,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadsEntry {
    pub(super) prefill: Block,
    pub(super) decode: Block,
    pub(super) weights: f64,
    pub(super) params: u64,
    pub(super) kv_per_sequence: [f64; KINDS],
    pub(super) inner: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub(super) prefill: Part,
    pub(super) decode: Part,
    pub(super) weights: f64,
    pub(super) params: u64,
    pub(super) inner: u64,
}

/// Layers of each kind of attention among the first `n`.
#[derive(Clone, Debug)]
pub(super) struct Kinds {
    pub(super) windows: Vec<Option<u64>>,
    pub(super) prefix: Vec<[u64; KINDS]>,
}

impl Kinds {
    pub(super) fn of(spec: &ModelSpec) -> Result<Self, TablesError> {
        let pattern = if spec.window_pattern.is_empty() { &[None][..] } else { &spec.window_pattern };
        let mut windows: Vec<Option<u64>> = Vec::new();
        let mut prefix = vec![[0; KINDS]];
        for window in pattern {
            let kind = windows.iter().position(|w| w == window).unwrap_or_else(|| {
                windows.push(*window);
                windows.len() - 1
            });
            let mut counts = prefix.last().copied().unwrap_or_default();
            if let Some(count) = counts.get_mut(kind) {
                *count += 1;
            }
            prefix.push(counts);
        }
        let found = windows.len();
        if found > KINDS { Err(TablesError::Windows { found }) } else { Ok(Self { windows, prefix }) }
    }

    pub(super) fn counts(&self, layers: u64) -> [f64; KINDS] {
        if self.windows.len() <= 1 {
            return [layers as f64, 0.0];
        }
        let period = self.prefix.len() as u64 - 1;
        let (whole, rest) = (layers / period, (layers % period) as usize);
        let (all, part) = (self.prefix[period as usize], self.prefix[rest]);
        std::array::from_fn(|kind| (whole * all[kind] + part[kind]) as f64)
    }
}

/// What every cell of the tables is built from.
pub(super) struct Builder<'a> {
    pub(super) machine: Machine<'a>,
    pub(super) spec: &'a ModelSpec,
    pub(super) deployment: &'a Deployment,
    pub(super) workload: &'a Workload,
    pub(super) head_dim: u64,
    pub(super) kinds: &'a Kinds,
    pub(super) prefill: Phase,
    pub(super) decode: Vec<Phase>,
}

/// Every cell: `heads` and `ffn` by hidden size, then by the position on their own axis.
pub(super) struct Cells {
    pub(super) heads: Vec<HeadsEntry>,
    pub(super) ffn: Vec<Entry>,
    pub(super) hidden: Vec<(u64, Entry)>,
}

impl<'a> Builder<'a> {
    /// Prices every cell, in parallel.
    pub(super) fn cells(&self, axes: Axes<'_>) -> Result<Cells, GapError> {
        let attention: Vec<(Attention, Attention)> = axes
            .heads
            .par_iter()
            .map(|&heads| {
                let shape = heads_only(heads);
                Ok((self.attention(&[self.prefill], shape)?, self.attention(&self.decode, shape)?))
            })
            .collect::<Result<_, GapError>>()?;
        let grid = |n: usize| (0..axes.hidden.len() * n).into_par_iter().map(move |i| (i / n, i % n));
        let heads = grid(axes.heads.len())
            .map(|(h, a)| self.heads(axes.hidden[h], heads_only(axes.heads[a]), attention[a]));
        let ffn = grid(axes.ffn.len()).map(|(h, f)| self.ffn(axes.hidden[h], ffn_only(axes.ffn[f])));
        let hidden = axes.hidden.par_iter().map(|&h| Ok((h, self.hidden(h)?)));
        Ok(Cells {
            heads: heads.collect::<Result<_, _>>()?,
            ffn: ffn.collect::<Result<_, _>>()?,
            hidden: hidden.collect::<Result<_, _>>()?,
        })
    }

    fn pass(&self, phase: Phase, hidden: u64) -> Pass<'a> {
        Pass { spec: self.spec, deployment: self.deployment, phase, hidden, head_dim: self.head_dim }
    }

    /// Any of the decode phases: all ops but attention cost the same in each.
    fn a_decode(&self) -> Phase {
        self.decode.first().copied().unwrap_or(self.prefill)
    }

    /// Weight bytes and parameters of one layer, or of what lies outside the layers (`layers` = 0).
    fn weights(&self, layers: u64, hidden: u64, shape: LayerShape) -> (f64, u64) {
        let LayerShape { ffn, q_heads, kv_heads } = shape;
        let architecture = Architecture::uniform(layers, hidden, ffn, q_heads, kv_heads, self.head_dim);
        let Deployment { tp, dtype, .. } = *self.deployment;
        let bytes = counts::weight_bytes_on_device(self.spec, &architecture, dtype, tp);
        (bytes.0, counts::parameters(self.spec, &architecture).total())
    }

    fn layer_weights(&self, hidden: u64, shape: LayerShape) -> (f64, u64) {
        let (with, without) = (self.weights(1, hidden, shape), self.weights(0, hidden, shape));
        (with.0 - without.0, with.1 - without.1)
    }

    fn attention(&self, phases: &[Phase], shape: LayerShape) -> Result<Attention, GapError> {
        let shard = shard(shape, self.deployment.tp);
        let mut attention = Attention::default();
        for (window, mean) in self.kinds.windows.iter().zip(attention.iter_mut()) {
            for &phase in phases {
                let (times, call) = self.pass(phase, 0).attention(shard, *window);
                let cost = self.machine.costs.cost(&call)?;
                let latency = cost.latency.0 * times as f64 / phases.len() as f64;
                mean.0 += latency;
                mean.1 += latency * cost.log_sigma;
            }
        }
        Ok(attention)
    }

    fn heads(
        &self,
        hidden: u64,
        shape: LayerShape,
        attention: (Attention, Attention),
    ) -> Result<HeadsEntry, GapError> {
        let shard = shard(shape, self.deployment.tp);
        let block = |phase: Phase, attention| {
            let linear = Part::of(self.machine, &self.pass(phase, hidden).attention_block(shard))?;
            Ok(Block { linear, attention })
        };
        let (weights, params) = self.layer_weights(hidden, shape);
        let tokens = tokens_per_sequence(self.workload);
        let per_token = 2.0 * (shard.kv_heads * self.head_dim) as f64 * self.deployment.kv_dtype.bytes();
        let mut kv_per_sequence = [0.0; KINDS];
        for (window, kept) in self.kinds.windows.iter().zip(kv_per_sequence.iter_mut()) {
            *kept = per_token * window.map_or(tokens, |w| tokens.min(w)) as f64;
        }
        Ok(HeadsEntry {
            prefill: block(self.prefill, attention.0)?,
            decode: block(self.a_decode(), attention.1)?,
            weights,
            params,
            kv_per_sequence,
            inner: inner_width(shard, self.head_dim),
        })
    }

    fn ffn(&self, hidden: u64, shape: LayerShape) -> Result<Entry, GapError> {
        let shard = shard(shape, self.deployment.tp);
        let part = |phase| Part::of(self.machine, &self.pass(phase, hidden).ffn_block(shard));
        let (weights, params) = self.layer_weights(hidden, shape);
        let inner = inner_width(shard, self.head_dim);
        Ok(Entry { prefill: part(self.prefill)?, decode: part(self.a_decode())?, weights, params, inner })
    }

    fn hidden(&self, hidden: u64) -> Result<Entry, GapError> {
        let part = |phase| {
            let pass = self.pass(phase, hidden);
            Part::of(self.machine, &[pass.head_calls(), pass.tail_calls()].concat())
        };
        let (weights, params) = self.weights(0, hidden, LayerShape { ffn: 0, q_heads: 0, kv_heads: 0 });
        Ok(Entry { prefill: part(self.prefill)?, decode: part(self.a_decode())?, weights, params, inner: 0 })
    }
}

pub(super) const fn heads_only((q_heads, kv_heads): (u64, u64)) -> LayerShape {
    LayerShape { ffn: 0, q_heads, kv_heads }
}

pub(super) const fn ffn_only(ffn: u64) -> LayerShape {
    LayerShape { ffn, q_heads: 0, kv_heads: 0 }
}
