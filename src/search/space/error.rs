//! Every way a search space can be wrong.

use crate::names;
use crate::search::space::axis::Axis;

/// A search space that cannot be built, and what to do about it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SpaceError {
    /// No axis has this name.
    #[error("there is no axis `{found}`; the axes are {}{}", axis_names(), names::did_you_mean(.suggestion.as_deref()))]
    UnknownAxis {
        /// What was typed.
        found: String,
        /// The axis it resembles.
        suggestion: Option<String>,
    },
    /// Not `axis=value`.
    #[error("`{found}` is not {expected}")]
    NotASetting {
        /// What was typed.
        found: String,
        /// What would have been understood, with an example.
        expected: &'static str,
    },
    /// An axis is set twice in one option.
    #[error("{axis} is given twice: give it once")]
    GivenTwice {
        /// The axis.
        axis: Axis,
    },
    /// A multiple of zero.
    #[error("the multiple of {axis} is 0: give at least 1")]
    MultipleZero {
        /// The axis.
        axis: Axis,
    },
    /// A fraction to prune that is not a fraction.
    #[error("--max-{what}-prune is {found}: give a fraction from 0 (keep all) to below 1, such as 0.4")]
    NotAFraction {
        /// `width` or `depth`.
        what: &'static str,
        /// What was given.
        found: f64,
    },
    /// Bounds the wrong way round, at zero, or beyond the parent.
    #[error(
        "bounds of {axis} are {low}..{high}: give low..high with 1 <= low <= high <= {parent} (the parent's)"
    )]
    BoundsOutsideParent {
        /// The axis.
        axis: Axis,
        /// Lower bound, inclusive.
        low: u64,
        /// Upper bound, inclusive.
        high: u64,
        /// The parent's value.
        parent: u64,
    },
    /// An axis is both skipped and bounded.
    #[error("{axis} is skipped and has bounds: drop one of --skip {axis} and --bounds {axis}=…")]
    SkippedAndBounded {
        /// The axis.
        axis: Axis,
    },
    /// No value of an axis is allowed.
    #[error(
        "{axis} has no allowed value in {low}..{high}: none is a multiple of {multiple} that tensor parallelism \
         {tp:?} divides; widen --bounds or lower --multiple {axis}=…"
    )]
    EmptyAxis {
        /// The axis.
        axis: Axis,
        /// Lower bound, inclusive.
        low: u64,
        /// Upper bound, inclusive.
        high: u64,
        /// The multiple asked.
        multiple: u64,
        /// Tensor-parallel degrees.
        tp: Vec<u64>,
    },
    /// No pair of query and KV heads fits together.
    #[error(
        "no query heads in {q_heads:?} are a multiple of KV heads in {kv_heads:?} without groups of more than \
         {group} query heads; widen --bounds of q_heads or kv_heads"
    )]
    NoHeadPair {
        /// Query heads at hand.
        q_heads: Vec<u64>,
        /// KV heads at hand.
        kv_heads: Vec<u64>,
        /// Most query heads one KV head may serve.
        group: u64,
    },
    /// A tensor-parallel degree of zero.
    #[error("tensor parallelism is 0: give at least 1")]
    TpZero,
    /// The parent itself cannot be split over the devices.
    #[error(
        "tensor parallelism {tp} does not divide the parent's {axis} = {value}; degrees that do: {divides:?}"
    )]
    ParentIndivisible {
        /// The axis.
        axis: Axis,
        /// The parent's value.
        value: u64,
        /// The degree asked.
        tp: u64,
        /// Degrees up to 64 that divide every axis of the parent.
        divides: Vec<u64>,
    },
    /// The parent's layers differ from each other.
    #[error(
        "the parent's layers differ from each other: a uniform search needs one shape shared by all layers"
    )]
    NotUniform,
    /// The parent has nothing to prune on an axis: no layers, or layers without attention or FFN.
    #[error("the parent's {axis} is 0: a uniform search needs layers with attention and FFN")]
    ParentZero {
        /// The axis.
        axis: Axis,
    },
    /// More shapes than anybody would wait for.
    #[error(
        "the space has {size} shapes or more, beyond {limit}: raise --multiple, tighten --bounds or --skip an axis"
    )]
    TooLarge {
        /// Number of shapes, or of values of one axis.
        size: u128,
        /// Most that are enumerated.
        limit: u64,
    },
}

fn axis_names() -> String {
    Axis::ALL.map(Axis::name).join(", ")
}
