//! Which changes are scored.

use crate::model::architecture::LayerShape;
use crate::model::spec::ModelSpec;
use crate::quality::scores::Change;
use crate::weights::scoring::error::ScoringError;

/// The options each block is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Shares of the FFN that stay.
    pub ffn: Vec<f64>,
    /// FFN widths are multiples of this.
    pub ffn_multiple: u64,
    /// Shares of the KV groups that stay, with all their query heads.
    pub groups: Vec<f64>,
    /// Shares of each group's query heads that stay, in all groups.
    pub heads: Vec<f64>,
    /// Attention alone, and the FFN alone, are removed.
    pub parts: bool,
    /// Runs of 1 to so many layers are dropped.
    pub runs: u64,
    /// Shares of the hidden size that stay, in the whole model.
    pub hidden: Vec<f64>,
    /// Hidden sizes are multiples of this.
    pub hidden_multiple: u64,
}

impl Plan {
    /// Every change of `parent`, in order, none twice.
    ///
    /// # Errors
    /// A share outside of (0, 1).
    pub fn changes(&self, parent: &ModelSpec) -> Result<Vec<Change>, ScoringError> {
        for shares in [&self.ffn, &self.groups, &self.heads, &self.hidden] {
            if let Some(&found) = shares.iter().find(|share| !(**share > 0.0 && **share < 1.0)) {
                return Err(ScoringError::Share { found });
            }
        }
        let architecture = &parent.architecture;
        let mut changes = Vec::new();
        for (layer, own) in architecture.layer_shapes().enumerate() {
            let layer = layer as u64;
            changes.extend(self.shapes(own).into_iter().map(|shape| Change::Layer { layer, shape }));
        }
        let depth = architecture.depth();
        for count in 1..=self.runs.min(depth.saturating_sub(1)) {
            changes.extend((0..=depth - count).map(|first| Change::Drop { first, count }));
        }
        let hidden =
            self.hidden.iter().map(|share| rounded(architecture.hidden, *share, self.hidden_multiple));
        changes.extend(
            hidden.filter(|hidden| *hidden < architecture.hidden).map(|hidden| Change::Hidden { hidden }),
        );
        changes.sort_unstable();
        changes.dedup();
        Ok(changes)
    }

    /// Shapes a layer is given: one of its parts changed at a time.
    fn shapes(&self, own: LayerShape) -> Vec<LayerShape> {
        let size = own.q_heads.checked_div(own.kv_heads).unwrap_or(0);
        let mut shapes: Vec<LayerShape> = self
            .ffn
            .iter()
            .map(|share| LayerShape { ffn: rounded(own.ffn, *share, self.ffn_multiple), ..own })
            .collect();
        for share in &self.groups {
            let kv_heads = rounded(own.kv_heads, *share, 1);
            shapes.push(LayerShape { kv_heads, q_heads: kv_heads * size, ..own });
        }
        for share in &self.heads {
            shapes.push(LayerShape { q_heads: own.kv_heads * rounded(size, *share, 1), ..own });
        }
        if self.parts {
            shapes.push(LayerShape { q_heads: 0, kv_heads: 0, ..own });
            shapes.push(LayerShape { ffn: 0, ..own });
        }
        shapes.retain(|shape| *shape != own && *shape != LayerShape::default());
        shapes
    }
}

/// `share` of `whole`, to the nearest multiple, at least one; the whole where the multiple leaves no choice.
fn rounded(whole: u64, share: f64, multiple: u64) -> u64 {
    let multiple = multiple.max(1);
    let units = (whole as f64 * share / multiple as f64).round().max(1.0) as u64;
    (units * multiple).min(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cards;

    #[test]
    fn every_block_is_given_every_option_once() {
        let parent = cards::find("qwen3-0.6b").unwrap().spec().unwrap();
        let plan = Plan {
            ffn: vec![0.5, 0.5001, 0.25],
            ffn_multiple: 256,
            groups: vec![0.5],
            heads: vec![0.5],
            parts: true,
            runs: 2,
            hidden: vec![0.75],
            hidden_multiple: 128,
        };
        let changes = plan.changes(&parent).unwrap();
        let depth = parent.architecture.depth();
        // FFN at two widths, half the groups, half the heads of each group, either part gone; runs of one and of two.
        assert_eq!(changes.len() as u64, 6 * depth + depth + (depth - 1) + 1);
        assert!(changes.contains(&Change::Hidden { hidden: 768 }));
        assert!(matches!(Plan { ffn: vec![1.5], ..plan }.changes(&parent), Err(ScoringError::Share { .. })));
    }
}
