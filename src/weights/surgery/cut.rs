//! What is kept of a parent: the maps from the child's indices to the parent's.

use serde::{Deserialize, Serialize};

use crate::model::architecture::{Architecture, LayerShape};
use crate::model::spec::ModelSpec;

/// Where the child's weights come from. Kept indices ascend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Kept hidden channels, one ranking for the whole model because the residual stream is shared.
    pub hidden: Vec<u32>,
    /// The child's layers, first layer first.
    pub layers: Vec<LayerCut>,
}

/// Where one layer of the child comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerCut {
    /// The kept layer of the parent, from 0.
    pub parent: u64,
    /// Layers of the parent that are dropped between this one and the next kept one, or before the first.
    pub dropped: Vec<u64>,
    /// KV groups with their query heads: the layer's own first, then those that moved in (CLAP).
    pub groups: Vec<GroupCut>,
    /// Kept FFN neurons of the kept layer.
    pub ffn: Vec<u32>,
}

/// One KV group of the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupCut {
    /// The parent's layer it stood in.
    pub layer: u64,
    /// The parent's KV head.
    pub kv_head: u32,
    /// The kept query heads of that layer, all of this group.
    pub q_heads: Vec<u32>,
}

/// A cut that does not fit its parent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{place}: index {found} is out of order or not below {limit}: expected ascending indices of the parent"
)]
pub struct CutError {
    /// Which map.
    pub place: String,
    /// The index.
    pub found: u64,
    /// The parent's size.
    pub limit: u64,
}

impl Cut {
    /// Everything kept.
    pub fn identity(spec: &ModelSpec) -> Self {
        let whole = |(parent, shape): (usize, LayerShape)| {
            let group = shape.q_heads.checked_div(shape.kv_heads).unwrap_or(0) as u32;
            let layer = parent as u64;
            let q_heads = |kv_head: u32| (kv_head * group..(kv_head + 1) * group).collect();
            let groups = (0..shape.kv_heads as u32).map(|kv_head| GroupCut {
                layer,
                kv_head,
                q_heads: q_heads(kv_head),
            });
            LayerCut {
                parent: layer,
                dropped: Vec::new(),
                groups: groups.collect(),
                ffn: (0..shape.ffn as u32).collect(),
            }
        };
        let layers = spec.architecture.layer_shapes().enumerate().map(whole).collect();
        Self { hidden: (0..spec.architecture.hidden as u32).collect(), layers }
    }

    /// The child's shape; uniform where its layers are alike.
    pub fn architecture(&self, head_dim: u64) -> Architecture {
        let shape = |layer: &LayerCut| LayerShape {
            ffn: layer.ffn.len() as u64,
            q_heads: layer.groups.iter().map(|group| group.q_heads.len() as u64).sum(),
            kv_heads: layer.groups.len() as u64,
        };
        Architecture::of_layers(self.hidden.len() as u64, head_dim, self.layers.iter().map(shape).collect())
    }

    /// Checks every index against the parent.
    ///
    /// # Errors
    /// The first map that is out of order or out of range.
    pub fn check(&self, parent: &ModelSpec) -> Result<(), CutError> {
        let shapes: Vec<LayerShape> = parent.architecture.layer_shapes().collect();
        ascending("hidden", self.hidden.iter().map(|x| u64::from(*x)), parent.architecture.hidden)?;
        let depth = shapes.len() as u64;
        ascending("layers", self.layers.iter().map(|layer| layer.parent), depth)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let at = |what: &str| format!("layer {index} {what}");
            ascending(&at("dropped"), layer.dropped.iter().copied(), depth)?;
            let shape = |layer: u64| shapes.get(layer as usize).copied().unwrap_or_default();
            let ffn = shape(layer.parent).ffn;
            ascending(&at("ffn"), layer.ffn.iter().map(|x| u64::from(*x)), ffn)?;
            for group in &layer.groups {
                let LayerShape { q_heads, kv_heads, .. } = shape(group.layer);
                ascending(&at("kv_head"), [u64::from(group.kv_head)].into_iter(), kv_heads)?;
                let size = q_heads.checked_div(kv_heads).unwrap_or(0);
                let first = u64::from(group.kv_head) * size;
                let own = group.q_heads.iter().map(|head| u64::from(*head).wrapping_sub(first));
                ascending(&at("q_heads"), own, size)?;
            }
        }
        Ok(())
    }

    /// Nothing is cut away.
    pub fn is_identity(&self, parent: &ModelSpec) -> bool {
        *self == Self::identity(parent)
    }
}

impl LayerCut {
    /// Groups that stood in the kept layer itself.
    pub fn own_groups(&self) -> impl Iterator<Item = &GroupCut> {
        self.groups.iter().filter(|group| group.layer == self.parent)
    }

    /// Some group moved in from a dropped layer.
    pub fn is_pooled(&self) -> bool {
        self.groups.iter().any(|group| group.layer != self.parent)
    }
}

fn ascending(place: &str, indices: impl Iterator<Item = u64>, limit: u64) -> Result<(), CutError> {
    let mut next = 0;
    for found in indices {
        if found < next || found >= limit {
            return Err(CutError { place: place.into(), found, limit });
        }
        next = found + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cards;

    #[test]
    fn the_identity_has_the_parents_shape_and_bad_maps_are_named() {
        let parent = cards::find("qwen3-0.6b").unwrap().spec().unwrap();
        let whole = Cut::identity(&parent);
        assert_eq!(whole.architecture(parent.architecture.head_dim), parent.architecture);
        whole.check(&parent).unwrap();
        assert!(whole.is_identity(&parent));
        let mut bad = whole.clone();
        bad.layers[3].ffn[5] = 4;
        assert_eq!(bad.check(&parent).unwrap_err().place, "layer 3 ffn");
        let mut bad = whole.clone();
        bad.layers[2].groups[1].q_heads[0] = 0;
        assert_eq!(bad.check(&parent).unwrap_err().place, "layer 2 q_heads");
        let mut bad = whole;
        bad.hidden.push(u32::MAX);
        assert_eq!(bad.check(&parent).unwrap_err().limit, parent.architecture.hidden);
    }
}
