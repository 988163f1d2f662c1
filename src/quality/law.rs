//! The law: loss increase as a sum over axes, and a benchmark's accuracy as a sigmoid in it.
//!
//! With `x = ln(1/r)` for a keep ratio `r`, `u` the share of layers removed and `t` the recovery tokens:
//!
//! ```text
//! width axis  P (x + k x^2 s(t / t_width))                   P = hidden, ffn or attention
//! layers      w P ln(1/(1-u)) + w' C u^3 s(t / t_layers)
//! s(y)        1 / (1 + sqrt(y))                              what training has not yet repaired
//! accuracy    chance + (parent - chance) / (1 + (loss / (scale headroom))^steepness)
//! ```
//!
//! The lasting part of a width, `ln(1/r)`, is what the block library of Puzzle (arXiv 2411.19146, repository
//! NVlabs/puzzle) shows for the FFN over keep ratios 0.1 to 0.75, additive over blocks in loss. The part that
//! retraining repairs grows faster than the cut, because the least important channels and layers go first: a
//! square for widths, a cube for layers (cheap, then steep, as in the Qwen3-8B tables of
//! NVIDIA/Model-Optimizer). `headroom` is how far the parent stands above chance: a weak parent loses what
//! little it has sooner. Removed layers hurt some benchmarks more than others, so each has weights `w` and
//! `w'` there; for [`Benchmark::Average`] they are 1, which makes its accuracy a falling function of the plain
//! sum over axes.

use crate::quality::benchmark::Benchmark;
use crate::quality::cuts::{Axis, Cuts};

/// Number of parameters.
pub const PARAMETERS: usize = 26;

/// Names of the parameters as they stand in the data files, in the order of [`Law::values`].
pub const NAMES: [&str; PARAMETERS] = [
    "hidden_nats",
    "ffn_nats",
    "attention_nats",
    "layers_nats",
    "width_unrecovered_ratio",
    "layers_unrecovered_nats",
    "width_recovery_tokens_b",
    "layers_recovery_tokens_b",
    "mmlu_scale_nats",
    "hellaswag_scale_nats",
    "winogrande_scale_nats",
    "gsm8k_scale_nats",
    "average_scale_nats",
    "mmlu_steepness",
    "hellaswag_steepness",
    "winogrande_steepness",
    "gsm8k_steepness",
    "average_steepness",
    "mmlu_layers_weight",
    "hellaswag_layers_weight",
    "winogrande_layers_weight",
    "gsm8k_layers_weight",
    "mmlu_unrecovered_weight",
    "hellaswag_unrecovered_weight",
    "winogrande_unrecovered_weight",
    "gsm8k_unrecovered_weight",
];

const HIDDEN: usize = 0;
const FFN: usize = 1;
const ATTENTION: usize = 2;
const LAYERS: usize = 3;
const WIDTH_UNRECOVERED: usize = 4;
const LAYERS_UNRECOVERED: usize = 5;
const WIDTH_TOKENS: usize = 6;
const LAYERS_TOKENS: usize = 7;
const SCALE: usize = 8;
const STEEPNESS: usize = 13;
const LAYERS_WEIGHT: usize = 18;
const UNRECOVERED_WEIGHT: usize = 22;

/// Loss of removing attention or an FFN from the first or the last layer, in nats: the least KL divergence
/// measured for it (FFN of the last of 80 layers 16.0; attention and FFN of the first 32.9 and 457; block
/// library of NVlabs/puzzle). No recovery is known.
pub const EDGE_NATS: f64 = 16.0;

/// The law with its parameters, all positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Law {
    /// In the order of [`NAMES`]: nats, ratios, billions of tokens as the names say.
    pub values: [f64; PARAMETERS],
}

impl Law {
    /// Loss increase of each axis in nats, in the order of [`Axis::ALL`], after `tokens_b` billion recovery
    /// tokens, as `benchmark` feels it.
    pub fn axis_nats(&self, cuts: &Cuts, tokens_b: f64, benchmark: Benchmark) -> [f64; Axis::ALL.len()] {
        let p = &self.values;
        let (lasting, passing) = match benchmark {
            Benchmark::Average => (1.0, 1.0),
            other => (p[LAYERS_WEIGHT + other.index()], p[UNRECOVERED_WEIGHT + other.index()]),
        };
        let left = p[WIDTH_UNRECOVERED] * unrepaired(tokens_b / p[WIDTH_TOKENS]);
        let width = |nats: f64, x: f64| nats * (x + left * x * x);
        let layers = lasting * p[LAYERS] * -(1.0 - cuts.layers).ln()
            + passing * p[LAYERS_UNRECOVERED] * cuts.layers.powi(3) * unrepaired(tokens_b / p[LAYERS_TOKENS]);
        [
            width(p[HIDDEN], cuts.hidden),
            width(p[FFN], cuts.ffn),
            width(p[ATTENTION], cuts.q_heads),
            width(p[ATTENTION], cuts.kv_heads),
            layers,
            EDGE_NATS * cuts.edges,
        ]
    }

    /// Accuracy in percent that is left of `parent_percent` once a benchmark feels `felt_nats`.
    pub fn accuracy_percent(&self, benchmark: Benchmark, parent_percent: f64, felt_nats: f64) -> f64 {
        let chance = benchmark.chance_percent();
        let (scale, steepness) = self.curve(benchmark, parent_percent);
        let left = 1.0 / (1.0 + (felt_nats.max(0.0) / scale).powf(steepness));
        chance + (parent_percent - chance).max(0.0) * left
    }

    /// The loss a benchmark must feel to be left with `percent` of `parent_percent`: the inverse of
    /// [`Law::accuracy_percent`]. Finite: near chance, the loss at which a hundredth of the skill is left.
    pub fn loss_nats(&self, benchmark: Benchmark, parent_percent: f64, percent: f64) -> f64 {
        let chance = benchmark.chance_percent();
        let (scale, steepness) = self.curve(benchmark, parent_percent);
        let left = ((percent - chance) / (parent_percent - chance)).clamp(0.01, 1.0);
        scale * (1.0 / left - 1.0).powf(1.0 / steepness)
    }

    fn curve(&self, benchmark: Benchmark, parent_percent: f64) -> (f64, f64) {
        let chance = benchmark.chance_percent();
        let headroom = ((parent_percent - chance) / (100.0 - chance)).max(f64::MIN_POSITIVE);
        (self.values[SCALE + benchmark.index()] * headroom, self.values[STEEPNESS + benchmark.index()])
    }
}

/// Share of the repairable loss that is left after `y` times the characteristic number of tokens.
fn unrepaired(y: f64) -> f64 {
    1.0 / (1.0 + y.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_the_inverse_of_accuracy() {
        let law = Law { values: [1.3; PARAMETERS] };
        for benchmark in Benchmark::ALL {
            for loss in [0.0, 0.01, 0.3, 2.0] {
                let accuracy = law.accuracy_percent(benchmark, 70.0, loss);
                assert!((law.loss_nats(benchmark, 70.0, accuracy) - loss).abs() < 1e-9);
            }
            assert!(law.loss_nats(benchmark, 70.0, 0.0).is_finite());
        }
    }

    #[test]
    fn training_repairs_the_passing_part_and_leaves_the_lasting_one() {
        let law = Law { values: [1.0; PARAMETERS] };
        let cuts = Cuts { hidden: 0.5, layers: 0.5, ..Cuts::default() };
        let at = |tokens_b| law.axis_nats(&cuts, tokens_b, Benchmark::Average);
        let (none, forever) = (at(0.0), at(1e18));
        assert!((none[0] - 0.75).abs() < 1e-12 && (none[4] - (2f64.ln() + 0.125)).abs() < 1e-12);
        assert!((forever[0] - 0.5).abs() < 1e-8 && (forever[4] - 2f64.ln()).abs() < 1e-8);
    }
}
