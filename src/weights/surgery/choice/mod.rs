//! Chooses what is kept, from scores: layers, hidden channels, KV groups with their query heads, FFN neurons.

pub mod compensated;
pub mod depth;
pub mod error;
pub mod heads;
pub mod scores;

use crate::model::architecture::{Architecture, LayerShape};
use crate::model::spec::ModelSpec;
use crate::weights::importance::rankings::top;
use crate::weights::surgery::choice::depth::Depth;
use crate::weights::surgery::choice::error::ChoiceError;
use crate::weights::surgery::choice::scores::Scores;
use crate::weights::surgery::cut::{Cut, LayerCut};
use crate::weights::surgery::options::DepthMethod;

/// Chooses a cut of `parent` that has the shape `target`.
///
/// # Errors
/// A target that is no shape of the parent, or that asks for what this surgery cannot do; see [`ChoiceError`].
pub fn choose(
    parent: &ModelSpec,
    target: &Architecture,
    scores: &Scores,
    method: &DepthMethod,
    clap: bool,
) -> Result<Cut, ChoiceError> {
    target.check(parent)?;
    if target.head_dim != parent.architecture.head_dim {
        return Err(ChoiceError::HeadDim { parent: parent.architecture.head_dim, found: target.head_dim });
    }
    scores.check(parent)?;
    let (found, depth) = (target.depth(), parent.architecture.depth());
    let listed = matches!(method, DepthMethod::Layers(_));
    if target.uniform_shape().is_none() && found < depth && !listed {
        return Err(ChoiceError::UnknownParents { target: found, depth });
    }
    let parents: Vec<LayerShape> = parent.architecture.layer_shapes().collect();
    let depth = Depth::choose(parents.len() as u64, target.depth(), scores, method)?;
    let mut layers = Vec::new();
    for (at, (shape, kept)) in target.layer_shapes().zip(&depth.kept).enumerate() {
        let index = kept.layer as usize;
        let (Some(own), Some(of)) = (parents.get(index), scores.layers.get(index)) else {
            return Err(ChoiceError::NoLayer { layer: kept.layer, depth: parents.len() as u64 });
        };
        if shape.ffn > own.ffn {
            return Err(ChoiceError::WiderLayer {
                layer: at as u64,
                axis: "ffn",
                found: shape.ffn,
                parent: own.ffn,
            });
        }
        let pool = heads::pool(parent, kept.layer, if clap { &kept.dropped } else { &[] });
        layers.push(LayerCut {
            parent: kept.layer,
            dropped: kept.dropped.clone(),
            groups: heads::choose(at as u64, shape, &pool, &parents, scores)?,
            ffn: top(&of.ffn, shape.ffn as usize),
        });
    }
    Ok(Cut { hidden: top(&scores.hidden, target.hidden as usize), layers })
}
