//! What can load layers of their own.

use std::fmt;

use crate::model::architecture::LayerShape;
use crate::model::spec::{ModelSpec, NormLayout};
use crate::plan::layerwise::error::LayerwiseError;
use crate::plan::layerwise::menu::{Choice, Menu};

/// What is to load the child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loadable {
    /// No matter.
    #[default]
    Any,
    /// vLLM: the block configurations of its `DeciLMForCausalLM` (Nemotron-NAS).
    Vllm,
    /// transformers: all layers that stay share one shape.
    Transformers,
}

impl Loadable {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any engine",
            Self::Vllm => "vLLM",
            Self::Transformers => "transformers",
        }
    }

    /// Whether children of `parent` with layers of their own can be loaded at all.
    pub(super) fn check(self, parent: &ModelSpec) -> Result<(), LayerwiseError> {
        let has = [
            (parent.qk_norm, "norms on queries and keys"),
            (parent.qkv_bias || parent.o_bias || parent.mlp_bias, "biases"),
            (parent.norms == NormLayout::Sandwich, "norms after the blocks"),
            (parent.window_pattern.iter().any(Option::is_some), "attention windows"),
        ];
        match has.into_iter().find(|(has, _)| *has && self == Self::Vllm) {
            Some((_, what)) => Err(LayerwiseError::NotDeciLm { what }),
            None => Ok(()),
        }
    }

    /// Whether a layer of this shape can be loaded.
    ///
    /// DeciLM's block configurations (github vllm-project/vllm, `models/nemotron_nas.py`) give each layer its KV heads and
    /// FFN width, or no attention or FFN; query heads are the model's. A width is `_ffn_mult_to_intermediate_size`
    /// of a number, hence any multiple of 256.
    fn allows(self, parent: &ModelSpec, shape: LayerShape) -> bool {
        let LayerShape { ffn, q_heads, .. } = shape;
        match self {
            Self::Any => true,
            Self::Vllm => {
                let all_heads = parent.architecture.layer_shapes().all(|own| own.q_heads == q_heads);
                (q_heads == 0 || all_heads) && ffn.is_multiple_of(256)
            }
            Self::Transformers => ffn > 0 && q_heads > 0,
        }
    }

    /// Choices of each layer that may be made together: one set, or one per shape where all layers must share it.
    /// `runs` says of a shape whether the devices can share it.
    ///
    /// # Errors
    /// When no set covers every layer.
    pub(super) fn sets(
        self,
        menu: &Menu,
        at: usize,
        parent: &ModelSpec,
        runs: impl Fn(LayerShape) -> bool,
    ) -> Result<Vec<Vec<Vec<usize>>>, LayerwiseError> {
        let allowed = |shape| self.allows(parent, shape) && runs(shape);
        let with = |shared: Option<LayerShape>| {
            let good = |shape: Option<LayerShape>| match (shape, shared) {
                (Some(shape), Some(shared)) => shape == shared,
                (Some(shape), None) => allowed(shape),
                (None, _) => true,
            };
            let layer = |choices: &Vec<Choice>| {
                (0..choices.len()).filter(|&c| good(choices[c].kept())).collect::<Vec<usize>>()
            };
            menu.layers.iter().map(layer).collect::<Vec<_>>()
        };
        let all = with(None);
        if let Some(layer) = menu.first_uncovered(|layer| !all[layer].is_empty()) {
            return Err(LayerwiseError::NothingLeft { menu: at, layer, loadable: self.name() });
        }
        if self != Self::Transformers {
            return Ok(vec![all]);
        }
        let mut shapes: Vec<LayerShape> =
            menu.layers.iter().flatten().filter_map(|c| c.kept()).filter(|s| allowed(*s)).collect();
        shapes.sort_unstable_by(|a, b| b.cmp(a));
        shapes.dedup();
        let sets: Vec<_> = shapes.into_iter().map(|shape| with(Some(shape))).collect();
        let covers = |set: &Vec<Vec<usize>>| menu.covered(|layer| !set[layer].is_empty());
        let sets: Vec<_> = sets.into_iter().filter(covers).collect();
        match sets.is_empty() {
            true => Err(LayerwiseError::NothingShared { menu: at }),
            false => Ok(sets),
        }
    }
}

impl fmt::Display for Loadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
