//! Targets that cannot be cut out of the parent.

use crate::model::architecture::ArchitectureError;

/// Why nothing can be chosen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChoiceError {
    /// Not a shape the parent can be pruned to.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// Heads are dropped whole, never narrowed.
    #[error(
        "the target's head_dim is {found}, the parent's {parent}: heads are dropped whole, keep head_dim {parent}"
    )]
    HeadDim {
        /// The parent's.
        parent: u64,
        /// The target's.
        found: u64,
    },
    /// One layer would have to grow.
    #[error(
        "layer {layer} of the target has {axis} {found}, but the parent's layer it is cut from has {parent}: lower it"
    )]
    WiderLayer {
        /// The child's layer.
        layer: u64,
        /// What is larger.
        axis: &'static str,
        /// The target's.
        found: u64,
        /// The parent's.
        parent: u64,
    },
    /// More query heads share a KV head than in the parent.
    #[error(
        "layer {layer} of the target has {found} query heads per KV head, the parent {parent}: a KV head is dropped with its query heads, ask for at most {most} query heads with {kv_heads} KV heads"
    )]
    LargerGroups {
        /// The child's layer.
        layer: u64,
        /// The target's.
        found: u64,
        /// The parent's.
        parent: u64,
        /// Query heads that are possible.
        most: u64,
        /// KV heads asked for.
        kv_heads: u64,
    },
    /// A layer to drop that is not there.
    #[error("there is no layer {layer}: the parent has {depth}, numbered from 0")]
    NoLayer {
        /// The layer.
        layer: u64,
        /// The parent's depth.
        depth: u64,
    },
    /// A list of layers that does not lead to the target's depth.
    #[error("dropping {listed} layers leaves {left}, the target has {target}: list {needed} layers")]
    WrongNumber {
        /// Layers listed.
        listed: u64,
        /// Layers left.
        left: u64,
        /// Layers wanted.
        target: u64,
        /// Layers to list.
        needed: u64,
    },
    /// Which layers of the parent the target's stand for is not said.
    #[error(
        "the target has {target} layers of unlike shapes, the parent {depth}: say which of the parent's they are, with `parents` in target.json, or by the layers to drop (--depth-method 3,4,5)"
    )]
    UnknownParents {
        /// Layers of the target.
        target: u64,
        /// Layers of the parent.
        depth: u64,
    },
    /// Scores of another shape.
    #[error("{what} has {found} scores, the parent {expected}: the statistics belong to another model")]
    OtherModel {
        /// Which scores.
        what: String,
        /// Numbers there.
        found: usize,
        /// Numbers needed.
        expected: usize,
    },
}
