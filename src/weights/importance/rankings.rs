//! Scores of channels, neurons, heads, groups and layers from the sums; higher is more important.

use crate::weights::importance::statistics::{Channels, LayerSums, NormSums, PostNormSums, Sums};

/// What the score of a head or a KV group is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadScore {
    /// The norm of the head's own output `a_j`, as published; a group has the mean of its heads.
    Output,
    /// The norm of what it adds to the residual stream, after the output projection (and a post-norm).
    Contribution,
}

/// A contiguous block of layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// Its first layer, from 0.
    pub first: usize,
    /// How many layers.
    pub count: usize,
    /// Mean angle over pi between the stream that enters it and the one that leaves it, from 0 to 1.
    pub distance: f64,
}

/// What replacing a post-norm's division by a constant would cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PostNormFigures {
    /// Mean over tokens of the root mean square `r` that the norm divides by.
    pub mean_rms: f64,
    /// Coefficient of variation of `r` over tokens.
    pub cv: f64,
    /// The factor to take for `1 / r` that is best in least squares: `E[|gain o|^2 / r] / E[|gain o|^2]`.
    pub constant: f64,
    /// Share of the output's energy that stays wrong with such a constant, `cv^2 / (1 + cv^2)`: exact where the energy
    /// of the output does not depend on `r` otherwise.
    pub lost_share: f64,
}

/// Per channel: L2 over samples of the mean over tokens of `|a|`.
pub fn channels(channels: &Channels) -> Vec<f64> {
    roots(&channels.mean_abs_squared)
}

/// Per hidden channel: that score of every norm's output (before attention, before the FFN, last), summed.
pub fn hidden(sums: &Sums) -> Vec<f64> {
    let mut total = channels(&sums.final_norm.output);
    for norm in sums.layers.iter().flat_map(|layer| [&layer.attention_norm, &layer.ffn_norm]) {
        for (total, score) in total.iter_mut().zip(channels(&norm.output)) {
            *total += score;
        }
    }
    total
}

/// Per FFN neuron of a layer.
pub fn neurons(layer: &LayerSums) -> Vec<f64> {
    channels(&layer.ffn_hidden)
}

/// Per query head of a layer.
pub fn heads(layer: &LayerSums, by: HeadScore) -> Vec<f64> {
    match by {
        HeadScore::Output => roots(&layer.heads),
        HeadScore::Contribution => roots(&layer.head_contributions),
    }
}

/// Per KV group of a layer.
pub fn groups(layer: &LayerSums, by: HeadScore) -> Vec<f64> {
    match by {
        HeadScore::Output => group_means(&roots(&layer.heads), layer.group_contributions.len()),
        HeadScore::Contribution => roots(&layer.group_contributions),
    }
}

/// Means of the heads' scores over `groups` groups of equally many consecutive heads.
pub fn group_means(heads: &[f64], groups: usize) -> Vec<f64> {
    let size = heads.len().checked_div(groups).unwrap_or(0).max(1);
    heads.chunks(size).map(|group| group.iter().sum::<f64>() / group.len() as f64).collect()
}

/// Per layer: `1 - E[cos]` of the streams that enter and leave it.
pub fn block_influence(sums: &Sums) -> Vec<f64> {
    sums.layers.iter().map(|layer| 1.0 - layer.cosine / sums.tokens.max(1) as f64).collect()
}

/// Mean angle over pi between the streams at two boundaries (0 = embedding, `n` = after `n` layers); none where there is
/// no such pair.
pub fn angular_distance(sums: &Sums, from: usize, to: usize) -> Option<f64> {
    let boundaries = sums.layers.len() + 1;
    if from >= to || to >= boundaries {
        return None;
    }
    let sum = sums.angular.get(from * boundaries + to)?;
    Some(sum / sums.angular_tokens.max(1) as f64)
}

/// The block of `count` consecutive layers that turns the stream least: the first to be cut. The earlier of equals; none
/// where there are not so many layers.
pub fn best_block(sums: &Sums, count: usize) -> Option<Block> {
    let last = sums.layers.len().checked_sub(count)?;
    let blocks = (0..=last).filter_map(|first| {
        let distance = angular_distance(sums, first, first + count)?;
        Some(Block { first, count, distance })
    });
    blocks.min_by(|a, b| a.distance.total_cmp(&b.distance).then(a.first.cmp(&b.first)))
}

/// Mean over tokens of the share of the stream's energy that lies in the kept channels, where it enters this norm.
pub fn energy_share(norm: &NormSums, tokens: u64, kept: &[u32]) -> f64 {
    let energy: f64 = kept.iter().filter_map(|channel| norm.energy.get(*channel as usize)).sum();
    energy / tokens.max(1) as f64
}

/// How constant a post-norm's divisor is, and the constant to take for it; none where nothing has passed it.
pub fn post_norm(sums: &PostNormSums, tokens: u64) -> Option<PostNormFigures> {
    if tokens == 0 || sums.rms <= 0.0 || sums.gained <= 0.0 {
        return None;
    }
    let mean_rms = sums.rms / tokens as f64;
    let variance = (sums.rms_squared / tokens as f64 - mean_rms * mean_rms).max(0.0);
    let cv = variance.sqrt() / mean_rms;
    Some(PostNormFigures {
        mean_rms,
        cv,
        constant: sums.gained_by_rms / sums.gained,
        lost_share: cv * cv / (1.0 + cv * cv),
    })
}

/// Norm of the stream at the first token over its mean at the counted tokens, where it enters a layer.
pub fn first_token_ratio(sums: &Sums, layer: &LayerSums) -> Option<f64> {
    let counted = layer.stream_norm / sums.tokens as f64;
    (sums.samples > 0 && counted > 0.0).then(|| layer.first_token_norm / sums.samples as f64 / counted)
}

/// Indices of the `k` highest scores, ascending; of equal scores the lower index is kept. All where there are no more
/// than `k`.
pub fn top(scores: &[f64], k: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    let score = |index: &u32| scores.get(*index as usize).copied().unwrap_or(f64::NEG_INFINITY);
    order.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
    order.truncate(k);
    order.sort_unstable();
    order
}

/// [`top`] inside each of `groups` groups of equally many consecutive scores: indices into all of them, ascending,
/// `k_each` per group.
pub fn top_in_groups(scores: &[f64], groups: usize, k_each: usize) -> Vec<u32> {
    let size = scores.len().checked_div(groups).unwrap_or(0).max(1);
    let group = |(index, scores)| {
        let offset = (index * size) as u32;
        top(scores, k_each).into_iter().map(move |kept| offset + kept)
    };
    scores.chunks(size).enumerate().flat_map(group).collect()
}

fn roots(squares: &[f64]) -> Vec<f64> {
    squares.iter().map(|x| x.sqrt()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::architecture::Architecture;

    #[test]
    fn the_top_is_sorted_and_ties_go_to_the_lower_index() {
        assert_eq!(top(&[1.0, 3.0, 2.0, 3.0, 2.0], 3), [1, 2, 3]);
        assert_eq!(top(&[0.0; 4], 2), [0, 1]);
        assert_eq!(top(&[1.0], 5), [0]);
        assert_eq!(top_in_groups(&[1.0, 2.0, 3.0, 9.0, 8.0, 7.0], 2, 2), [1, 2, 3, 4]);
        assert!(top(&[], 3).is_empty() && top_in_groups(&[], 0, 1).is_empty());
    }

    #[test]
    fn layers_are_scored_by_what_they_turn() {
        let mut sums = Sums::zeros(&Architecture::uniform(3, 2, 2, 1, 1, 2), false, false);
        (sums.tokens, sums.angular_tokens) = (10, 4);
        for (layer, cosine) in sums.layers.iter_mut().zip([5.0, 9.0, 8.0]) {
            layer.cosine = cosine;
        }
        let influence = block_influence(&sums);
        assert!(influence.iter().zip([0.5, 0.1, 0.2]).all(|(a, b)| (a - b).abs() < 1e-12));
        for (from, to, angle) in
            [(0, 1, 2.0), (1, 2, 0.4), (2, 3, 0.8), (0, 2, 2.2), (1, 3, 1.0), (0, 3, 3.0)]
        {
            sums.angular[from * 4 + to] = angle;
        }
        assert_eq!(best_block(&sums, 1), Some(Block { first: 1, count: 1, distance: 0.1 }));
        assert_eq!(best_block(&sums, 2), Some(Block { first: 1, count: 2, distance: 0.25 }));
        assert_eq!(best_block(&sums, 4), None);
        assert_eq!(angular_distance(&sums, 2, 2), None);
    }

    #[test]
    fn hidden_channels_add_over_all_norms() {
        let mut sums = Sums::zeros(&Architecture::uniform(2, 2, 2, 1, 1, 2), false, false);
        for layer in &mut sums.layers {
            layer.attention_norm.output.mean_abs_squared = vec![1.0, 4.0];
            layer.ffn_norm.output.mean_abs_squared = vec![9.0, 0.0];
        }
        sums.final_norm.output.mean_abs_squared = vec![0.0, 25.0];
        assert_eq!(hidden(&sums), [2.0 + 6.0, 4.0 + 5.0]);
    }

    #[test]
    fn the_constant_of_a_post_norm_minimises_the_squared_error() {
        let tokens = [(0.5, 2.0), (1.0, 1.0), (2.0, 7.0), (1.5, 3.0)];
        let mut sums = PostNormSums::default();
        for (r, energy) in tokens {
            sums.rms += r;
            sums.rms_squared += r * r;
            sums.gained += energy;
            sums.gained_by_rms += energy / r;
        }
        let figures = post_norm(&sums, 4).unwrap();
        let error = |c: f64| tokens.iter().map(|(r, e)| e * (1.0 / r - c).powi(2)).sum::<f64>();
        for step in [-1e-3, 1e-3] {
            assert!(error(figures.constant) < error(figures.constant + step));
        }
        let mean = 1.25;
        let variance = tokens.iter().map(|(r, _)| (r - mean) * (r - mean)).sum::<f64>() / 4.0;
        assert!((figures.cv - variance.sqrt() / mean).abs() < 1e-12);
        assert_eq!(post_norm(&PostNormSums::default(), 4), None);
    }
}
