//! What may become of each layer, and what that was measured to lose.

use crate::model::architecture::{Architecture, ArchitectureError, LayerShape, Layers};
use crate::model::spec::ModelSpec;
use crate::plan::layerwise::error::LayerwiseError;

/// One thing that a layer may become.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Choice {
    /// The shape: no FFN where `ffn` is 0, no attention where `q_heads` and `kv_heads` are.
    pub shape: LayerShape,
    /// The layer is gone, whatever `shape` says.
    pub dropped: bool,
    /// What this alone loses, nats per token; losses of layers add up. May be negative.
    pub loss: f64,
    /// One standard deviation of `loss`.
    pub sd: f64,
}

impl Choice {
    /// The shape, unless nothing of the layer is left.
    pub fn kept(&self) -> Option<LayerShape> {
        let gone = self.dropped || (self.shape.ffn == 0 && self.shape.q_heads == 0);
        (!gone).then_some(self.shape)
    }
}

/// Consecutive layers that are dropped together, at a loss of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DroppedRun {
    /// The first of them, from 0.
    pub first: u64,
    /// How many, 1 at least.
    pub layers: u64,
    /// What that alone loses, nats per token.
    pub loss: f64,
    /// One standard deviation of `loss`.
    pub sd: f64,
}

/// What the parent's layers may become at one hidden size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Menu {
    /// Hidden size.
    pub hidden: u64,
    /// Head size.
    pub head_dim: u64,
    /// What the hidden size alone loses, nats per token.
    pub loss0: f64,
    /// One standard deviation of `loss0`.
    pub loss0_sd: f64,
    /// Choices of each layer of the parent, first layer first.
    pub layers: Vec<Vec<Choice>>,
    /// Runs that may be dropped together.
    pub drops: Vec<DroppedRun>,
}

impl Menu {
    /// A decoder of one layer.
    pub(super) fn one_layer(&self, shape: LayerShape) -> Architecture {
        Architecture { hidden: self.hidden, head_dim: self.head_dim, layers: Layers::PerLayer(vec![shape]) }
    }

    /// Whether every layer can be covered by what `own` says of it and the runs.
    pub(super) fn covered(&self, own: impl Fn(usize) -> bool) -> bool {
        self.first_uncovered(own).is_none()
    }

    /// The furthest layer that can be reached by covering all before it, when the end cannot.
    pub(super) fn first_uncovered(&self, own: impl Fn(usize) -> bool) -> Option<usize> {
        let n = self.layers.len();
        let mut reached = vec![false; n + 1];
        reached[0] = true;
        for layer in 0..n {
            if reached[layer] {
                reached[layer + 1] |= own(layer);
                for run in self.drops.iter().filter(|run| run.first == layer as u64) {
                    reached[layer + run.layers as usize] = true;
                }
            }
        }
        if reached[n] { None } else { reached.iter().rposition(|&reached| reached) }
    }

    /// Whether the menu, the `menu`-th, is one of `parent`.
    pub(super) fn check(&self, menu: usize, parent: &ModelSpec) -> Result<(), LayerwiseError> {
        let (found, expected) = (self.layers.len(), parent.architecture.depth());
        if found as u64 != expected {
            return Err(LayerwiseError::Layers { menu, found, expected });
        }
        for (at, run) in self.drops.iter().enumerate() {
            let end = run.first.checked_add(run.layers);
            if run.layers == 0 || end.is_none_or(|end| end > expected) {
                let (first, layers) = (run.first, run.layers);
                return Err(LayerwiseError::RunOutside { menu, run: at, first, layers, all: expected });
            }
        }
        let windows = |layer| parent.window(layer);
        let mixed = (0..expected).any(|layer| windows(layer) != windows(0));
        let drops = || self.layers.iter().flatten().any(|choice| choice.kept().is_none());
        if mixed && (!self.drops.is_empty() || drops()) {
            return Err(LayerwiseError::MixedWindows { menu });
        }
        self.check_numbers(menu)?;
        for (layer, choices) in self.layers.iter().enumerate() {
            for (choice, shape) in choices.iter().enumerate().filter_map(|(i, c)| Some((i, c.kept()?))) {
                let checked = self.one_layer(shape).check(parent);
                checked.map_err(|error| shape_error(menu, layer, choice, error))?;
            }
        }
        Ok(())
    }

    fn check_numbers(&self, menu: usize) -> Result<(), LayerwiseError> {
        let hidden = [(None, self.loss0, self.loss0_sd)];
        let layers = (0..).zip(&self.layers);
        let choices = layers.flat_map(|(layer, all)| all.iter().map(move |c| (Some(layer), c.loss, c.sd)));
        let runs = self.drops.iter().map(|run| (Some(run.first), run.loss, run.sd));
        for (layer, loss, sd) in hidden.into_iter().chain(choices).chain(runs) {
            if !loss.is_finite() {
                return Err(LayerwiseError::Loss { menu, layer, found: loss });
            }
            if !(sd >= 0.0 && sd.is_finite()) {
                return Err(LayerwiseError::Spread { menu, layer, found: sd });
            }
        }
        Ok(())
    }
}

/// The error of a decoder of that layer alone, whose layer is the parent's.
fn shape_error(menu: usize, layer: usize, choice: usize, error: ArchitectureError) -> LayerwiseError {
    let at = layer as u64;
    let error = match error {
        ArchitectureError::HalfAnAttention { q_heads, kv_heads, .. } => {
            ArchitectureError::HalfAnAttention { layer: at, q_heads, kv_heads }
        }
        ArchitectureError::UnequalGroups { q_heads, kv_heads, .. } => {
            ArchitectureError::UnequalGroups { layer: at, q_heads, kv_heads }
        }
        other => other,
    };
    LayerwiseError::Shape { menu, layer, choice, error }
}
