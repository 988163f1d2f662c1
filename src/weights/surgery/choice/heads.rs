//! KV groups with their query heads; with CLAP those of dropped layers compete for the same places.

use crate::model::architecture::LayerShape;
use crate::model::spec::ModelSpec;
use crate::weights::importance::rankings::top;
use crate::weights::surgery::choice::error::ChoiceError;
use crate::weights::surgery::choice::scores::Scores;
use crate::weights::surgery::cut::GroupCut;

/// The layers whose groups compete: the kept one first, then the dropped ones that can move in, i.e. with the same
/// attention window (and with it the same rotary base) and groups of the same size.
pub fn pool(parent: &ModelSpec, kept: u64, dropped: &[u64]) -> Vec<u64> {
    let shapes: Vec<LayerShape> = parent.architecture.layer_shapes().collect();
    let size =
        |layer: u64| shapes.get(layer as usize).and_then(|shape| shape.q_heads.checked_div(shape.kv_heads));
    let movable = |layer: &&u64| parent.window(**layer) == parent.window(kept) && size(**layer) == size(kept);
    [kept].into_iter().chain(dropped.iter().filter(movable).copied()).collect()
}

/// Chooses the groups of one layer of the child, and the query heads inside each.
///
/// # Errors
/// More query heads per KV head, or more KV heads, than the parent's layer has.
pub fn choose(
    at: u64,
    shape: LayerShape,
    pool: &[u64],
    parents: &[LayerShape],
    scores: &Scores,
) -> Result<Vec<GroupCut>, ChoiceError> {
    let own = pool.first().and_then(|layer| parents.get(*layer as usize)).copied().unwrap_or_default();
    let group_size = |shape: LayerShape| shape.q_heads.checked_div(shape.kv_heads).unwrap_or(0);
    let (wanted, size) = (group_size(shape), group_size(own));
    if shape.kv_heads > own.kv_heads {
        let (found, parent) = (shape.kv_heads, own.kv_heads);
        return Err(ChoiceError::WiderLayer { layer: at, axis: "kv_heads", found, parent });
    }
    if wanted > size {
        let most = size * shape.kv_heads;
        let (found, parent, kv_heads) = (wanted, size, shape.kv_heads);
        return Err(ChoiceError::LargerGroups { layer: at, found, parent, most, kv_heads });
    }
    let mut candidates = Vec::new();
    for (rank, &layer) in pool.iter().enumerate() {
        let groups = scores.layers.get(layer as usize).map(|of| of.groups.as_slice()).unwrap_or_default();
        candidates
            .extend(groups.iter().enumerate().map(|(group, score)| (rank, layer, group as u32, *score)));
    }
    candidates.sort_by(|a, b| b.3.total_cmp(&a.3).then((a.0, a.2).cmp(&(b.0, b.2))));
    candidates.truncate(shape.kv_heads as usize);
    candidates.sort_by_key(|&(rank, _, group, _)| (rank, group));
    let cut = |(_, layer, kv_head, _): (usize, u64, u32, f64)| {
        let first = kv_head * size as u32;
        let heads = scores.layers.get(layer as usize).map(|of| of.heads.as_slice()).unwrap_or_default();
        let mine = heads.get(first as usize..first as usize + size as usize).unwrap_or_default();
        let q_heads = top(mine, wanted as usize).into_iter().map(|head| first + head).collect();
        GroupCut { layer, kv_head, q_heads }
    };
    Ok(candidates.into_iter().map(cut).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::surgery::choice::scores::LayerScores;

    #[test]
    fn the_best_groups_of_the_pool_stay_each_with_its_best_heads() {
        let shape = LayerShape { ffn: 8, q_heads: 4, kv_heads: 2 };
        let layer = |groups: [f64; 2]| LayerScores {
            groups: groups.into(),
            heads: vec![1.0, 2.0, 4.0, 3.0],
            ffn: vec![],
        };
        let scores = Scores { layers: vec![layer([1.0, 5.0]), layer([9.0, 2.0])], ..Scores::default() };
        let target = LayerShape { q_heads: 2, ..shape };
        let chosen = choose(0, target, &[0, 1], &[shape; 2], &scores).unwrap();
        assert_eq!(chosen[0], GroupCut { layer: 0, kv_head: 1, q_heads: vec![2] });
        assert_eq!(chosen[1], GroupCut { layer: 1, kv_head: 0, q_heads: vec![1] });
        let wide = LayerShape { q_heads: 4, kv_heads: 1, ..shape };
        let refused = choose(0, wide, &[0], &[shape; 2], &scores);
        assert!(matches!(refused, Err(ChoiceError::LargerGroups { found: 4, parent: 2, most: 2, .. })));
    }
}
