//! What every uniform shape of a space loses: from the prior's axes, or from scores.

use crate::plan::error::PlanError;
use crate::plan::request::Request;
use crate::quality::prior::AxisValues;
use crate::quality::study::judge::Grid;
use crate::search::space::SearchSpace;

/// Losses by the positions of a shape's values in the space, nats a token.
pub enum Losses {
    /// Sums over axes.
    Prior {
        /// Of the hidden sizes.
        hidden: Vec<f64>,
        /// Of the heads.
        heads: Vec<f64>,
        /// Of the FFN widths.
        ffn: Vec<f64>,
        /// Of the depths.
        layers: Vec<f64>,
    },
    /// Measured on the parent.
    Scores(Box<Grid>),
}

impl Losses {
    /// Of all values of a space.
    ///
    /// # Errors
    /// Values that no score covers; a parent the prior knows nothing of.
    pub fn build(space: &SearchSpace, request: &Request<'_>) -> Result<Self, PlanError> {
        let (hidden, heads, ffn, layers) = (space.hidden(), space.heads(), space.ffn(), space.layers());
        if let Some(judge) = request.scores {
            return Ok(Self::Scores(Box::new(judge.grid(hidden, heads, ffn, layers)?)));
        }
        let values = AxisValues {
            hidden: hidden.to_vec(),
            ffn: ffn.to_vec(),
            q_heads: heads.iter().map(|(q, _)| *q).collect(),
            kv_heads: heads.iter().map(|(_, kv)| *kv).collect(),
            layers: layers.to_vec(),
        };
        let nats = request.prior.axis_losses(&request.spec.architecture, &values, request.recovery)?;
        Ok(Self::Prior {
            hidden: nats.hidden,
            heads: nats.q_heads.iter().zip(&nats.kv_heads).map(|(q, kv)| q + kv).collect(),
            ffn: nats.ffn,
            layers: nats.layers,
        })
    }

    /// Of one shape.
    #[inline]
    pub fn at(&self, at: (usize, usize), ffn_at: usize, layers_at: usize) -> f64 {
        match self {
            Self::Prior { hidden, heads, ffn, layers } => {
                hidden[at.0] + heads[at.1] + ffn[ffn_at] + layers[layers_at]
            }
            Self::Scores(grid) => grid.nats(at.0, at.1, ffn_at, layers_at),
        }
    }
}
