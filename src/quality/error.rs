//! Ways a quality estimate can be refused, and ways its data files can be wrong.

use crate::quality::cuts::Axis;

/// Why there is no quality estimate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QualityError {
    /// A child larger than its parent is not a pruned model.
    #[error(
        "{axis} of the child is {child}, more than the parent's {parent}: a pruned shape is nowhere larger than its parent"
    )]
    LargerThanParent {
        /// The axis.
        axis: Axis,
        /// The child's value.
        child: u64,
        /// The parent's value.
        parent: u64,
    },
    /// A size of zero where a model must have something.
    #[error("{axis} is 0: a decoder needs at least one")]
    Zero {
        /// The axis.
        axis: Axis,
    },
    /// Attention with query heads but no KV heads, or the reverse.
    #[error(
        "layer {layer} has {q_heads} query heads but {kv_heads} KV heads: either both are 0 (no attention) or neither"
    )]
    HalfAttention {
        /// Layer, counted from 0.
        layer: u64,
        /// Its query heads.
        q_heads: u64,
        /// Its KV heads.
        kv_heads: u64,
    },
    /// The prior knows nothing of cut heads' size.
    #[error(
        "head_dim of the child is {child}, the parent's is {parent}: the quality prior knows no models with a changed head_dim; keep it"
    )]
    HeadDim {
        /// The child's head size.
        child: u64,
        /// The parent's head size.
        parent: u64,
    },
    /// Per-axis tables need one reference shape.
    #[error(
        "the layers of the parent are not all alike: per-axis tables exist only for uniform parents; estimate single children instead"
    )]
    RaggedParent,
    /// Recovery tokens must be a number of billions, 0 or more.
    #[error("{found} billion recovery tokens: expected a finite number, 0 (one-shot, not retrained) or more")]
    Recovery {
        /// What was given.
        found: f64,
    },
    /// A published accuracy of the parent that cannot be one.
    #[error(
        "{benchmark} of the parent is {found} %: expected more than chance ({chance} %) and at most 100 %"
    )]
    ParentAccuracy {
        /// The benchmark.
        benchmark: &'static str,
        /// What was given, in percent.
        found: f64,
        /// What guessing scores, in percent.
        chance: f64,
    },
    /// A data file cannot be read as a table.
    #[error("{file}, line {line}: {problem}")]
    Table {
        /// Data file.
        file: &'static str,
        /// Line, counted from 1 with the header (0 = unknown).
        line: u64,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
    /// The coefficient file lacks a parameter, or has one too many or twice.
    #[error("{file}: parameter `{name}` {problem}")]
    Parameter {
        /// Data file.
        file: &'static str,
        /// Parameter.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The optimiser did not converge.
    #[error("the fit of the quality prior did not converge: {problem}")]
    Fit {
        /// What it said.
        problem: String,
    },
}
