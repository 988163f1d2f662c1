//! What each choice of a layer adds: a decoder of that one layer, lowered and priced as any other.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::hardware::latency::forward::{PassCost, price};
use crate::hardware::latency::lowering::shard;
use crate::hardware::latency::memory::{activations, inner_width, pass_tokens, tokens_per_sequence};
use crate::hardware::latency::prediction::PredictError;
use crate::hardware::latency::prediction::pass_times;
use crate::hardware::latency::static_batch::{mean_decode_step, prefill_passes};
use crate::model::architecture::{Architecture, LayerShape, Layers};
use crate::model::counts;
use crate::model::spec::ModelSpec;
use crate::model::workload::Load;
use crate::plan::error::PlanError;
use crate::plan::evaluation::{Evaluator, Setting};
use crate::plan::layerwise::forms::{
    DECODE_LINEAR, DECODE_OTHER, DECODE_QUANTISED, LAYERS, MEMORY, PARAMS, PREFILL_LINEAR, PREFILL_OTHER,
    TERMS, Terms,
};
use crate::plan::layerwise::menu::Menu;
use crate::units::DType;

/// What one shape of a layer adds, by scenario.
#[derive(Clone, Debug)]
pub(super) struct Price {
    pub(super) terms: Vec<Terms>,
    /// Values per token of its inner tensors.
    pub(super) inner: Vec<u64>,
}

/// Prices of a menu.
pub(super) struct Prices {
    /// What lies outside the layers, by scenario.
    pub(super) outside: Vec<Terms>,
    /// Bytes of activations per value of the widest layer's inner tensors, by scenario.
    pub(super) bytes_per_inner: Vec<f64>,
    table: Vec<Price>,
    /// Of each layer's choices: place in the table; none for a dropped layer, and for one that is not to be priced.
    of: Vec<Vec<Option<usize>>>,
}

impl Prices {
    /// What a choice adds; `None` when it drops the layer.
    pub(super) fn get(&self, layer: usize, choice: usize) -> Option<&Price> {
        self.table.get((*self.of.get(layer)?.get(choice)?)?)
    }

    /// Place of a choice among [`Self::all`].
    pub(super) fn place(&self, layer: usize, choice: usize) -> Option<usize> {
        *self.of.get(layer)?.get(choice)?
    }

    /// Every shape, as often as its window differs.
    pub(super) fn all(&self) -> &[Price] {
        &self.table
    }

    /// Prices the choices of `menu` that are in one of the `sets`, each shape once.
    pub(super) fn of(
        menu: &Menu,
        sets: &[Vec<Vec<usize>>],
        evaluator: &Evaluator<'_>,
    ) -> Result<Self, PlanError> {
        let spec = evaluator.request.spec;
        let mut places: BTreeMap<(Option<u64>, LayerShape), usize> = BTreeMap::new();
        let mut of: Vec<Vec<Option<usize>>> = menu.layers.iter().map(|all| vec![None; all.len()]).collect();
        for (layer, choice) in
            sets.iter().flat_map(|set| (0..).zip(set)).flat_map(|(l, all)| all.iter().map(move |c| (l, *c)))
        {
            if let Some(shape) = menu.layers[layer][choice].kept() {
                let next = places.len();
                let place = places.entry((spec.window(layer as u64), shape)).or_insert(next);
                of[layer][choice] = Some(*place);
            }
        }
        let mut wanted: Vec<_> = places.into_iter().collect();
        wanted.sort_unstable_by_key(|(_, place)| *place);
        let one = |((window, shape), _): &((Option<u64>, LayerShape), usize)| {
            let spec = ModelSpec { window_pattern: window.map(Some).into_iter().collect(), ..spec.clone() };
            layer(menu, &spec, *shape, evaluator)
        };
        let priced = wanted.par_iter().map(one).collect::<Result<Vec<_>, _>>()?;
        let outside = match priced.first() {
            Some((_, outside)) => outside.clone(),
            None => vec![[0.0; TERMS]; evaluator.settings.len()],
        };
        let bytes = |s: &Setting<'_>| pass_tokens(&s.workload, s.machine.engine) * DType::Bf16.bytes();
        Ok(Self {
            outside,
            bytes_per_inner: evaluator.settings.iter().map(bytes).collect(),
            table: priced.into_iter().map(|(price, _)| price).collect(),
            of,
        })
    }
}

/// What a layer adds, and what lies outside the layers.
fn layer(
    menu: &Menu,
    spec: &ModelSpec,
    shape: LayerShape,
    evaluator: &Evaluator<'_>,
) -> Result<(Price, Vec<Terms>), PlanError> {
    let architecture = menu.one_layer(shape);
    let both = evaluator.settings.iter().map(|setting| {
        scenario(setting, spec, &architecture)
            .map_err(|error| PlanError::Predict { scenario: setting.name.clone(), error })
    });
    let (terms, outside) = both.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let inner = |s: &Setting<'_>| inner_width(shard(shape, s.deployment.tp), menu.head_dim);
    Ok((Price { terms, inner: evaluator.settings.iter().map(inner).collect() }, outside))
}

/// Terms of the one layer and of what lies outside it.
fn scenario(
    setting: &Setting<'_>,
    spec: &ModelSpec,
    one: &Architecture,
) -> Result<(Terms, Terms), PredictError> {
    let Setting { machine, deployment, workload, .. } = setting;
    let (Load::Batch(sequences) | Load::Concurrency(sequences)) = workload.load;
    let (phase, passes) = prefill_passes(workload, machine.engine);
    let prefill = price(machine.costs, spec, one, deployment, phase)?.times(passes);
    let lengths = (sequences, workload.prompt, workload.output);
    let decode = mean_decode_step(machine.costs, spec, one, deployment, lengths)?;
    let none = Architecture { layers: Layers::PerLayer(Vec::new()), ..one.clone() };
    let bytes = |shape| counts::weight_bytes_on_device(spec, shape, deployment.dtype, deployment.tp).0;
    let params = |shape| counts::parameters(spec, shape).total() as f64;
    let tokens = tokens_per_sequence(workload);
    let cache = counts::kv_bytes_on_device(spec, one, tokens, deployment.kv_dtype, deployment.tp);
    let mut inside = times(&prefill, &decode, true);
    inside[LAYERS] = 1.0;
    inside[MEMORY] = bytes(one) - bytes(&none) + cache.0 * sequences as f64;
    inside[PARAMS] = params(one) - params(&none);
    let mut outside = times(&prefill, &decode, false);
    let engine = machine.engine;
    outside[MEMORY] =
        bytes(&none) + activations(spec, &none, deployment.tp, workload, engine).0 + engine.reserve().0;
    outside[PARAMS] = params(&none);
    Ok((inside, outside))
}

/// Times of the lines inside the layers, or of the others.
fn times(prefill: &PassCost, decode: &PassCost, inside: bool) -> Terms {
    let part = |pass: &PassCost| {
        let lines = pass.lines.iter().filter(|line| line.first_layer.is_some() == inside);
        pass_times(&PassCost { lines: lines.copied().collect() })
    };
    let (prefill, decode) = (part(prefill), part(decode));
    let mut terms = [0.0; TERMS];
    terms[PREFILL_LINEAR] = (prefill.gemm + prefill.quantised_gemm).0;
    terms[PREFILL_OTHER] = prefill.other.0;
    terms[DECODE_LINEAR] = decode.gemm.0;
    terms[DECODE_QUANTISED] = decode.quantised_gemm.0;
    terms[DECODE_OTHER] = decode.other.0;
    terms
}
