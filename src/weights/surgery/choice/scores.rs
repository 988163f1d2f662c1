//! Scores of everything that can be cut away: larger stays.

use crate::model::architecture::LayerShape;
use crate::model::spec::ModelSpec;
use crate::weights::surgery::choice::error::ChoiceError;

/// Scores of a parent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Per hidden channel.
    pub hidden: Vec<f64>,
    /// Per layer.
    pub layers: Vec<LayerScores>,
    /// Block influence of each layer.
    pub influence: Vec<f64>,
    /// `angular[from * (depth + 1) + to]`: angle, over pi, between the stream at boundaries `from` and `to`.
    pub angular: Vec<f64>,
}

/// Scores of one layer; heads and groups in units that compare across layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerScores {
    /// Per FFN neuron.
    pub ffn: Vec<f64>,
    /// Per query head.
    pub heads: Vec<f64>,
    /// Per KV group.
    pub groups: Vec<f64>,
}

impl Scores {
    /// Checks that there is one score for everything in the parent.
    ///
    /// # Errors
    /// [`ChoiceError::OtherModel`].
    pub fn check(&self, parent: &ModelSpec) -> Result<(), ChoiceError> {
        let shapes: Vec<LayerShape> = parent.architecture.layer_shapes().collect();
        let depth = shapes.len();
        let mut lengths = vec![
            ("hidden".to_string(), self.hidden.len(), parent.architecture.hidden as usize),
            ("layers".to_string(), self.layers.len(), depth),
            ("block influence".to_string(), self.influence.len(), depth),
            ("angular distance".to_string(), self.angular.len(), (depth + 1) * (depth + 1)),
        ];
        for (index, (scores, shape)) in self.layers.iter().zip(&shapes).enumerate() {
            for (what, found, expected) in [
                ("ffn", scores.ffn.len(), shape.ffn),
                ("heads", scores.heads.len(), shape.q_heads),
                ("groups", scores.groups.len(), shape.kv_heads),
            ] {
                lengths.push((format!("layer {index} {what}"), found, expected as usize));
            }
        }
        match lengths.into_iter().find(|(_, found, expected)| found != expected) {
            None => Ok(()),
            Some((what, found, expected)) => Err(ChoiceError::OtherModel { what, found, expected }),
        }
    }
}
