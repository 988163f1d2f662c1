//! Watching a forward pass from inside.

/// A place in a decoder layer whose values can be watched; all are `[tokens, width]`, row-major, f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// The residual stream as it enters the layer, `hidden` wide.
    LayerInput,
    /// Output of the norm before attention, `hidden` wide.
    AttentionNorm,
    /// Outputs of the heads: what the output projection reads, `q_heads * head_dim` wide.
    HeadOutputs,
    /// Output of the output projection with its bias, before a post-norm, `hidden` wide.
    AttentionOutput,
    /// The residual stream between attention and FFN, `hidden` wide.
    MiddleStream,
    /// Output of the norm before the FFN, `hidden` wide.
    FfnNorm,
    /// Activated gate times up: what the down projection reads, `ffn` wide.
    FfnHidden,
    /// Output of the down projection with its bias, before a post-norm, `hidden` wide.
    FfnOutput,
    /// The residual stream as it leaves the layer, `hidden` wide.
    LayerOutput,
}

/// Sees the values of a forward pass.
pub trait Probe {
    /// The values at one site of one layer for all tokens of the batch, sequence after sequence.
    fn see(&mut self, layer: usize, site: Site, values: &[f32], width: usize);
}

/// Looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blind;

impl Probe for Blind {
    fn see(&mut self, _: usize, _: Site, _: &[f32], _: usize) {}
}
