//! Menus from scores: every layer may become what it was scored as, within the space of the request.

use crate::model::architecture::LayerShape;
use crate::plan::error::PlanError;
use crate::plan::layerwise::error::LayerwiseError;
use crate::plan::layerwise::menu::{Choice, DroppedRun, Menu};
use crate::quality::scores::curve::Nats;
use crate::quality::scores::table::Table;
use crate::search::space::SearchSpace;

/// One menu per scored hidden size of the space. An axis that the space leaves as it is stays in every layer; parts and layers
/// are removed where the space cuts heads, FFN and depth at all.
///
/// # Errors
/// Scores that do not cover what they should.
pub fn menus(table: &Table, space: &SearchSpace) -> Result<Vec<Menu>, LayerwiseError> {
    let parent = table.parent();
    let sizes = table.hidden_sizes().filter(|size| within(space.hidden(), *size));
    let layers = (0..parent.depth()).zip(parent.layer_shapes());
    let layers: Vec<Vec<Choice>> =
        layers.map(|(layer, own)| choices(table, space, layer, own)).collect::<Result<_, _>>()?;
    let shallower = cuts(space.layers());
    let drops: Vec<DroppedRun> = table
        .runs()
        .filter(|_| shallower)
        .map(|(first, layers, Nats { mean, variance })| DroppedRun {
            first,
            layers,
            loss: mean,
            sd: variance.sqrt(),
        })
        .collect();
    let menu = |hidden| {
        let Nats { mean, variance } = table.hidden(hidden).map_err(PlanError::from)?;
        Ok(Menu {
            hidden,
            head_dim: parent.head_dim,
            loss0: mean,
            loss0_sd: variance.sqrt(),
            layers: layers.clone(),
            drops: drops.clone(),
        })
    };
    sizes.map(menu).collect()
}

fn choices(
    table: &Table,
    space: &SearchSpace,
    layer: u64,
    own: LayerShape,
) -> Result<Vec<Choice>, LayerwiseError> {
    let heads: Vec<u64> = space.heads().iter().map(|(q, _)| *q).collect();
    let groups: Vec<u64> = space.heads().iter().map(|(_, kv)| *kv).collect();
    let allowed = |shape: &LayerShape| {
        let ffn = if shape.ffn == 0 { cuts(space.ffn()) } else { within(space.ffn(), shape.ffn) };
        let attention = match shape.q_heads {
            0 => cuts(&heads) || cuts(&groups),
            q_heads => within(&heads, q_heads) && within(&groups, shape.kv_heads),
        };
        *shape == own || (ffn && attention)
    };
    let choice = |shape: LayerShape| {
        let part = table.layer(layer, shape).map_err(PlanError::from)?;
        let Nats { mean, variance } = [part.attention, part.ffn].into_iter().sum();
        Ok(Choice { shape, dropped: false, loss: mean, sd: variance.sqrt() })
    };
    table.scored_shapes(layer).into_iter().filter(allowed).map(choice).collect()
}

/// Whether an axis may change.
fn cuts(values: &[u64]) -> bool {
    values.iter().any(|value| Some(value) != values.first())
}

fn within(values: &[u64], size: u64) -> bool {
    values.iter().min().is_some_and(|low| *low <= size)
        && values.iter().max().is_some_and(|high| size <= *high)
}
