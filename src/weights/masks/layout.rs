//! Units of a mask: runs of a layer's neurons in the order of their importance, and its KV groups.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::model::architecture::{Architecture, LayerShape};
use crate::search::solver::masks::Pool;
use crate::weights::masks::error::MasksError;
use crate::weights::surgery::choice::scores::Scores;

/// What competes for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All layers' neurons, and all layers' KV groups: layers come to differ.
    Model,
    /// Those of one layer: every layer keeps the target's widths.
    Layer,
}

/// How units lie: first the neurons of every layer, then the KV groups of every layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Neurons in a unit.
    pub unit: u64,
    /// Neurons by which layers' widths may differ.
    pub multiple: u64,
    /// What competes.
    pub scope: Scope,
    /// Neurons of every layer, the most important first.
    pub order: Vec<Vec<u32>>,
    /// KV groups of every layer.
    pub groups: Vec<u64>,
}

/// What stays of a layer, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Neurons.
    pub neurons: Vec<u32>,
    /// KV groups.
    pub groups: Vec<u32>,
}

impl Layout {
    /// Of a parent whose neurons are scored.
    ///
    /// # Errors
    /// Widths of the parent that `unit` does not divide, or with layers in competition `multiple`.
    pub fn new(
        parent: &Architecture,
        scores: &Scores,
        unit: u64,
        multiple: u64,
        scope: Scope,
    ) -> Result<Self, MasksError> {
        let ranked = |of: &Vec<f64>| {
            let mut order: Vec<u32> = (0..of.len() as u32).collect();
            let score = |neuron: u32| of.get(neuron as usize).copied().unwrap_or(f64::NEG_INFINITY);
            order.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
            order
        };
        let order = scores.layers.iter().map(|layer| ranked(&layer.ffn)).collect();
        let layout = Self {
            unit,
            multiple,
            scope,
            order,
            groups: parent.layer_shapes().map(|s| s.kv_heads).collect(),
        };
        divides("--ffn-multiple", multiple, unit, "--ffn-unit")?;
        for (layer, shape) in parent.layer_shapes().enumerate() {
            let what = format!("the FFN of layer {layer}");
            divides(&what, shape.ffn, layout.step(), layout.step_flag())?;
        }
        Ok(layout)
    }

    fn step(&self) -> u64 {
        match self.scope {
            Scope::Model => self.multiple,
            Scope::Layer => self.unit,
        }
    }

    fn step_flag(&self) -> &'static str {
        match self.scope {
            Scope::Model => "--ffn-multiple",
            Scope::Layer => "--ffn-unit",
        }
    }

    /// Units of every layer's FFN.
    fn neurons(&self) -> impl Iterator<Item = usize> + '_ {
        self.order.iter().map(|order| order.len() / self.unit.max(1) as usize)
    }

    /// The pools of a target: as many neurons and KV groups as it has, of each layer or in all.
    ///
    /// # Errors
    /// A target that changes anything else; widths that are no multiples.
    pub fn pools(&self, parent: &Architecture, target: &Architecture) -> Result<Vec<Pool>, MasksError> {
        check(parent, target)?;
        let layers: Vec<LayerShape> = target.layer_shapes().collect();
        let ffn: Vec<u64> = layers.iter().map(|shape| shape.ffn).collect();
        let kv: Vec<u64> = layers.iter().map(|shape| shape.kv_heads).collect();
        let (units, unit): (Vec<usize>, usize) = (self.neurons().collect(), self.unit.max(1) as usize);
        let groups: Vec<usize> = self.groups.iter().map(|groups| *groups as usize).collect();
        let mut pools = Vec::new();
        let mut first = 0;
        let mut pool = |units: usize, keep: usize| {
            pools.push(Pool { first, units, keep });
            first += units;
        };
        match self.scope {
            Scope::Model => {
                let all = ffn.iter().sum::<u64>();
                divides("the sum of the target's FFN widths", all, self.step(), self.step_flag())?;
                pool(units.iter().sum(), all as usize / unit);
                pool(groups.iter().sum(), kv.iter().sum::<u64>() as usize);
            }
            Scope::Layer => {
                for (layer, (units, ffn)) in units.iter().zip(&ffn).enumerate() {
                    let what = format!("the target's FFN in layer {layer}");
                    divides(&what, *ffn, self.step(), self.step_flag())?;
                    pool(*units, *ffn as usize / unit);
                }
                groups.iter().zip(&kv).for_each(|(groups, kv)| pool(*groups, *kv as usize));
            }
        }
        Ok(pools)
    }

    /// Scores of the units to begin with: sums over neurons, and of groups, as they are.
    pub fn scores(&self, scores: &Scores) -> Vec<f64> {
        let neurons = scores.layers.iter().zip(&self.order).flat_map(|(layer, order)| {
            let of = move |neuron: &u32| layer.ffn.get(*neuron as usize).copied().unwrap_or(f64::NAN);
            order.chunks(self.unit.max(1) as usize).map(move |unit| unit.iter().map(of).sum::<f64>())
        });
        neurons.chain(scores.layers.iter().flat_map(|layer| layer.groups.iter().copied())).collect()
    }

    /// What a mask keeps, layer by layer.
    pub fn kept(&self, mask: &[bool]) -> Vec<Kept> {
        let mut units = mask.iter().copied();
        let mut neurons: Vec<Vec<u32>> = Vec::new();
        for order in &self.order {
            let chunks = order.chunks(self.unit.max(1) as usize).zip(units.by_ref());
            let mut of: Vec<u32> =
                chunks.filter(|(_, kept)| *kept).flat_map(|(unit, _)| unit).copied().collect();
            of.sort_unstable();
            neurons.push(of);
        }
        let kept = |(neurons, groups): (Vec<u32>, &u64)| {
            let of = (0..*groups as u32).zip(units.by_ref()).filter(|(_, kept)| *kept);
            Kept { neurons, groups: of.map(|(group, _)| group).collect() }
        };
        neurons.into_iter().zip(&self.groups).map(kept).collect()
    }

    /// The mask that probabilities have come to: of every pool the most probable; where layers compete, every layer's
    /// neurons in multiples, the multiples that are most probable together.
    pub fn found(&self, keep: &[f64], pools: &[Pool]) -> Vec<bool> {
        let mut mask = vec![false; keep.len()];
        let at = |unit: usize| keep.get(unit).copied().unwrap_or(0.0);
        let first_group: usize = self.neurons().sum();
        for pool in pools {
            let step = match pool.first < first_group {
                true => (self.step() / self.unit.max(1)).max(1) as usize,
                false => 1,
            };
            let mut choices: Vec<Vec<usize>> = Vec::new();
            for block in self.blocks().filter(|block| pool.range().contains(&block.start)) {
                let mut order: Vec<usize> = block.collect();
                order.sort_by(|a, b| at(*b).total_cmp(&at(*a)).then(a.cmp(b)));
                choices.extend(order.chunks(step).map(<[usize]>::to_vec));
            }
            let sum = |choice: &Vec<usize>| choice.iter().map(|unit| at(*unit)).sum::<f64>();
            // The sort is stable and sums fall along a layer, so that no layer's later multiple goes before its earlier one.
            choices.sort_by(|a, b| sum(b).total_cmp(&sum(a)));
            for unit in choices.into_iter().take(pool.keep / step).flatten() {
                mask.get_mut(unit).into_iter().for_each(|kept| *kept = true);
            }
        }
        mask
    }

    /// Units of every layer's FFN, then those of every layer's KV groups.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let sizes = self.neurons().chain(self.groups.iter().map(|groups| *groups as usize));
        sizes.scan(0, |next, size| {
            let first = *next;
            *next += size;
            Some(first..*next)
        })
    }

    /// The shape of what a mask keeps of a parent.
    pub fn shape(&self, parent: &Architecture, mask: &[bool]) -> Architecture {
        let of = |(own, kept): (LayerShape, Kept)| {
            let kv_heads = kept.groups.len() as u64;
            let size = own.q_heads.checked_div(own.kv_heads).unwrap_or(0);
            LayerShape { ffn: kept.neurons.len() as u64, q_heads: kv_heads * size, kv_heads }
        };
        let layers = parent.layer_shapes().zip(self.kept(mask)).map(of).collect();
        Architecture::of_layers(parent.hidden, parent.head_dim, layers)
    }
}

/// The target differs from the parent by neurons and KV groups only.
fn check(parent: &Architecture, target: &Architecture) -> Result<(), MasksError> {
    let axis = |what: &str, found: u64, parent: u64| match found == parent {
        true => Ok(()),
        false => Err(MasksError::Axis { what: what.into(), found, parent }),
    };
    axis("layers", target.depth(), parent.depth())?;
    axis("hidden size", target.hidden, parent.hidden)?;
    axis("head_dim", target.head_dim, parent.head_dim)?;
    for (layer, (own, of)) in parent.layer_shapes().zip(target.layer_shapes()).enumerate() {
        let size = |shape: LayerShape| shape.q_heads.checked_div(shape.kv_heads);
        if of.kv_heads > 0 {
            let what = format!("in layer {layer} query heads per KV head");
            axis(&what, size(of).unwrap_or(0), size(own).unwrap_or(0))?;
        }
    }
    Ok(())
}

fn divides(what: &str, found: u64, of: u64, flag: &'static str) -> Result<(), MasksError> {
    match of > 0 && found.is_multiple_of(of) {
        true => Ok(()),
        false => Err(MasksError::Multiple { what: what.into(), found, of, flag }),
    }
}
