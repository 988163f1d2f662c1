//! What statistics say at a glance.

use serde::Serialize;

use crate::weights::importance::file::Importance;
use crate::weights::importance::rankings;
use crate::weights::importance::statistics::PostNormSums;

/// Figures of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerSummary {
    /// Layer, from 0.
    pub layer: usize,
    /// `1 - E[cos]` of the streams that enter and leave it: the lowest is the first to go.
    pub block_influence: f64,
    /// Mean norm of the stream that enters, over the counted tokens.
    pub stream_norm: f64,
    /// The first token's norm over that.
    pub first_token_ratio: Option<f64>,
    /// Coefficient of variation of what attention's post-norm divides by.
    pub attention_post_norm_cv: Option<f64>,
    /// The same of the FFN's.
    pub ffn_post_norm_cv: Option<f64>,
}

/// Least angular distance of a block of consecutive layers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BlockSummary {
    /// How many layers.
    pub count: usize,
    /// Its first layer, from 0.
    pub first: usize,
    /// Mean angle over pi.
    pub angular_distance: f64,
}

/// Statistics at a glance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Program that gathered them.
    pub made_by: String,
    /// Fingerprint of the model.
    pub model_fingerprint: String,
    /// Shape of the model.
    pub shape: String,
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// Samples inside.
    pub samples: u64,
    /// Counted tokens.
    pub tokens: u64,
    /// Tokens a sample has at most.
    pub seq_len: u64,
    /// Tokens at the start of each sample that are not counted.
    pub skip_first: u64,
    /// Parts inside, from 0.
    pub parts: Vec<u64>,
    /// Parts of the run.
    pub shards: u64,
    /// Whether Gram matrices are inside.
    pub grams: bool,
    /// Per layer.
    pub layers: Vec<LayerSummary>,
    /// The best block of each size, up to half of the layers.
    pub blocks: Vec<BlockSummary>,
}

/// Sums up a file of statistics.
pub fn summary(importance: &Importance) -> Summary {
    let Importance { header, sums } = importance;
    let cv = |post_norm: &Option<PostNormSums>| {
        let figures = post_norm.as_ref().and_then(|of| rankings::post_norm(of, sums.tokens));
        figures.map(|figures| figures.cv)
    };
    let influence = rankings::block_influence(sums);
    let layers =
        sums.layers.iter().zip(influence).enumerate().map(|(layer, (of, block_influence))| LayerSummary {
            layer,
            block_influence,
            stream_norm: of.stream_norm / sums.tokens.max(1) as f64,
            first_token_ratio: rankings::first_token_ratio(sums, of),
            attention_post_norm_cv: cv(&of.attention_post_norm),
            ffn_post_norm_cv: cv(&of.ffn_post_norm),
        });
    let block = |count| {
        let block = rankings::best_block(sums, count)?;
        Some(BlockSummary { count, first: block.first, angular_distance: block.distance })
    };
    Summary {
        made_by: header.made_by.clone(),
        model_fingerprint: header.model.fingerprint.clone(),
        shape: header.model.architecture.to_string(),
        data_sha256: header.data.sha256.clone(),
        samples: sums.samples,
        tokens: sums.tokens,
        seq_len: header.seq_len,
        skip_first: header.skip_first,
        parts: header.parts.clone(),
        shards: header.shards,
        grams: header.grams,
        layers: layers.collect(),
        blocks: (1..=sums.layers.len() / 2).filter_map(block).collect(),
    }
}
