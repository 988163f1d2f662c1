//! Largest sizes accepted: far above any model, and low enough that no count overflows 64 bits.

/// Most decoder layers.
pub const MOST_LAYERS: u64 = 1 << 12;
/// Largest hidden size.
pub const LARGEST_HIDDEN: u64 = 1 << 20;
/// Largest FFN width.
pub const LARGEST_FFN: u64 = 1 << 24;
/// Most query or KV heads of a layer.
pub const MOST_HEADS: u64 = 1 << 13;
/// Largest head size.
pub const LARGEST_HEAD_DIM: u64 = 1 << 13;
/// Most rows of the embedding.
pub const LARGEST_VOCABULARY: u64 = 1 << 28;
/// Longest context in tokens.
pub const MOST_POSITIONS: u64 = 1 << 32;
