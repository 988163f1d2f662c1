//! How a decoder is divided over a tensor-parallel group, and when it cannot be.
//!
//! The rules are those of vLLM (`vllm/model_executor/layers/linear.py`, `vocab_parallel_embedding.py`,
//! `models/llama.py`): query heads and FFN width divide, KV heads divide or are replicated, the vocabulary is
//! padded to a multiple of 64 and then divides.

use crate::model::architecture::Architecture;
use crate::model::spec::ModelSpec;

/// vLLM pads the vocabulary to a multiple of this many rows.
pub const VOCABULARY_MULTIPLE: u64 = 64;

/// A shape that a tensor-parallel degree does not divide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorParallelError {
    /// A group of no devices.
    #[error("the tensor-parallel degree is 0: give 1 at least")]
    Zero,
    /// Query heads.
    #[error(
        "tensor-parallel degree {tp} does not divide the {q_heads} query heads of layer {layer}: give one that does"
    )]
    QueryHeads {
        /// Degree.
        tp: u64,
        /// Layer, from 0.
        layer: u64,
        /// Query heads.
        q_heads: u64,
    },
    /// KV heads.
    #[error(
        "tensor-parallel degree {tp} fits the {kv_heads} KV heads of layer {layer} neither way: give one that divides them, or a multiple of them"
    )]
    KvHeads {
        /// Degree.
        tp: u64,
        /// Layer, from 0.
        layer: u64,
        /// KV heads.
        kv_heads: u64,
    },
    /// FFN width.
    #[error(
        "tensor-parallel degree {tp} does not divide the FFN width {ffn} of layer {layer}: give one that does"
    )]
    Ffn {
        /// Degree.
        tp: u64,
        /// Layer, from 0.
        layer: u64,
        /// FFN width.
        ffn: u64,
    },
    /// Vocabulary.
    #[error(
        "tensor-parallel degree {tp} does not divide the vocabulary, {padded} rows when padded: give one that does"
    )]
    Vocabulary {
        /// Degree.
        tp: u64,
        /// Rows of the padded embedding.
        padded: u64,
    },
}

/// Whether `tp` devices can share the model with this shape; the first rule that is broken.
pub fn check(spec: &ModelSpec, architecture: &Architecture, tp: u64) -> Result<(), TensorParallelError> {
    check_shape(architecture, tp)?;
    let padded = padded_vocabulary(spec.vocab_size);
    if !padded.is_multiple_of(tp) {
        return Err(TensorParallelError::Vocabulary { tp, padded });
    }
    Ok(())
}

/// The rules of [`check`] that depend on the shape alone.
pub fn check_shape(architecture: &Architecture, tp: u64) -> Result<(), TensorParallelError> {
    if tp == 0 {
        return Err(TensorParallelError::Zero);
    }
    let mut layer = 0;
    for (count, shape) in architecture.runs() {
        let (q_heads, kv_heads, ffn) = (shape.q_heads, shape.kv_heads, shape.ffn);
        if !q_heads.is_multiple_of(tp) {
            return Err(TensorParallelError::QueryHeads { tp, layer, q_heads });
        }
        if kv_heads != 0 && !kv_heads.is_multiple_of(tp) && !tp.is_multiple_of(kv_heads) {
            return Err(TensorParallelError::KvHeads { tp, layer, kv_heads });
        }
        if !ffn.is_multiple_of(tp) {
            return Err(TensorParallelError::Ffn { tp, layer, ffn });
        }
        layer += count;
    }
    Ok(())
}

/// KV heads that one of `tp` devices holds: a share, or one replica each when there are fewer than devices.
pub fn kv_heads_on_device(kv_heads: u64, tp: u64) -> u64 {
    kv_heads.div_ceil(tp.max(1))
}

/// Rows of the embedding after padding.
pub fn padded_vocabulary(vocab_size: u64) -> u64 {
    vocab_size.next_multiple_of(VOCABULARY_MULTIPLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cards;

    #[test]
    fn names_the_rule_that_is_broken() {
        let check = |q, kv, ffn, tp| check_shape(&Architecture::uniform(2, 64, ffn, q, kv, 16), tp);
        assert_eq!(check(8, 2, 512, 4), Ok(()));
        assert_eq!(check(12, 6, 510, 3), Ok(()));
        assert_eq!(check(8, 2, 512, 0), Err(TensorParallelError::Zero));
        assert!(matches!(check(6, 2, 512, 4), Err(TensorParallelError::QueryHeads { q_heads: 6, .. })));
        assert!(matches!(check(12, 3, 512, 4), Err(TensorParallelError::KvHeads { kv_heads: 3, .. })));
        assert!(matches!(check(8, 8, 510, 4), Err(TensorParallelError::Ffn { ffn: 510, .. })));
        assert_eq!(check(0, 0, 512, 4), Ok(()));
    }

    #[test]
    fn the_vocabulary_is_padded_before_it_is_divided() {
        let mut spec = cards::find("llama-2-7b").unwrap().spec().unwrap();
        spec.vocab_size = 32001;
        assert_eq!(padded_vocabulary(32001), 32064);
        let architecture = Architecture::uniform(2, 64, 504, 56, 56, 16);
        assert_eq!(check(&spec, &architecture, 8), Ok(()));
        let error = TensorParallelError::Vocabulary { tp: 7, padded: 32064 };
        assert_eq!(check(&spec, &architecture, 7), Err(error));
    }

    #[test]
    fn kv_heads_are_shared_out_or_replicated() {
        assert_eq!([1, 2, 4, 8, 16].map(|tp| kv_heads_on_device(8, tp)), [8, 4, 2, 1, 1]);
        assert_eq!(kv_heads_on_device(0, 4), 0);
    }
}
