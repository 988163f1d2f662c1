//! The uniform shapes a parent may be pruned to: axes, alignment, constraints, index <-> Architecture.
//!
//! Deliberately absent: what a shape costs or loses, and per-layer (heterogeneous) shapes.

pub mod axis;
mod build;
pub mod error;
pub mod options;
pub mod table;

use crate::model::architecture::Architecture;
use crate::search::space::axis::PerAxis;

/// Position of a shape on the four enumerated axes (query and KV heads are one axis of allowed pairs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeIndex {
    /// Into [`SearchSpace::hidden`].
    pub hidden: usize,
    /// Into [`SearchSpace::heads`].
    pub heads: usize,
    /// Into [`SearchSpace::ffn`].
    pub ffn: usize,
    /// Into [`SearchSpace::layers`].
    pub layers: usize,
}

/// Number of values on each enumerated axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AxisCounts {
    /// Hidden sizes.
    pub hidden: usize,
    /// Pairs of query and KV heads.
    pub heads: usize,
    /// FFN widths.
    pub ffn: usize,
    /// Depths.
    pub layers: usize,
}

impl AxisCounts {
    /// Number of shapes.
    pub fn size(self) -> u64 {
        [self.hidden, self.heads, self.ffn, self.layers].iter().map(|n| *n as u64).product()
    }

    /// Rank of a shape: hidden size varies slowest, then heads, FFN width, depth.
    pub fn rank(self, index: ShapeIndex) -> u64 {
        let (heads, ffn, layers) = (self.heads as u64, self.ffn as u64, self.layers as u64);
        ((index.hidden as u64 * heads + index.heads as u64) * ffn + index.ffn as u64) * layers
            + index.layers as u64
    }

    /// The shape of a rank, if there is one.
    pub fn at(self, rank: u64) -> Option<ShapeIndex> {
        if rank >= self.size() {
            return None;
        }
        let (heads, ffn, layers) = (self.heads as u64, self.ffn as u64, self.layers as u64);
        let (rest, layer) = (rank / layers, rank % layers);
        let (rest, ffn_index) = (rest / ffn, rest % ffn);
        Some(ShapeIndex {
            hidden: (rest / heads) as usize,
            heads: (rest % heads) as usize,
            ffn: ffn_index as usize,
            layers: layer as usize,
        })
    }
}

/// The uniform shapes a parent may be pruned to. Every combination of its axis values is allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchSpace {
    parent: PerAxis<u64>,
    head_dim: u64,
    multiples: PerAxis<u64>,
    layers: Vec<u64>,
    hidden: Vec<u64>,
    ffn: Vec<u64>,
    heads: Vec<(u64, u64)>,
}

impl SearchSpace {
    /// Allowed depths, ascending.
    pub fn layers(&self) -> &[u64] {
        &self.layers
    }

    /// Allowed hidden sizes, ascending.
    pub fn hidden(&self) -> &[u64] {
        &self.hidden
    }

    /// Allowed FFN widths, ascending.
    pub fn ffn(&self) -> &[u64] {
        &self.ffn
    }

    /// Allowed pairs of (query heads, KV heads), ascending.
    pub fn heads(&self) -> &[(u64, u64)] {
        &self.heads
    }

    /// Size of one attention head, which pruning keeps.
    pub fn head_dim(&self) -> u64 {
        self.head_dim
    }

    /// Number of values on each enumerated axis.
    pub fn counts(&self) -> AxisCounts {
        AxisCounts {
            hidden: self.hidden.len(),
            heads: self.heads.len(),
            ffn: self.ffn.len(),
            layers: self.layers.len(),
        }
    }

    /// Number of shapes.
    pub fn size(&self) -> u64 {
        self.counts().size()
    }

    /// The shape at an index, if the space has one there.
    pub fn architecture(&self, index: ShapeIndex) -> Option<Architecture> {
        let (q_heads, kv_heads) = *self.heads.get(index.heads)?;
        Some(Architecture::uniform(
            *self.layers.get(index.layers)?,
            *self.hidden.get(index.hidden)?,
            *self.ffn.get(index.ffn)?,
            q_heads,
            kv_heads,
            self.head_dim,
        ))
    }

    /// Where a shape stands, if the space has it.
    pub fn index_of(&self, architecture: &Architecture) -> Option<ShapeIndex> {
        let shape = architecture.uniform_shape().filter(|_| architecture.head_dim == self.head_dim)?;
        Some(ShapeIndex {
            hidden: self.hidden.binary_search(&architecture.hidden).ok()?,
            heads: self.heads.binary_search(&(shape.q_heads, shape.kv_heads)).ok()?,
            ffn: self.ffn.binary_search(&shape.ffn).ok()?,
            layers: self.layers.binary_search(&architecture.depth()).ok()?,
        })
    }

    /// Where the parent stands; `None` when bounds exclude it.
    pub fn parent(&self) -> Option<ShapeIndex> {
        let PerAxis { layers, hidden, ffn, q_heads, kv_heads } = self.parent;
        self.index_of(&Architecture::uniform(layers, hidden, ffn, q_heads, kv_heads, self.head_dim))
    }
}

#[cfg(test)]
mod tests;
