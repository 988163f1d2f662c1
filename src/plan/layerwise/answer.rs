//! An answer of the search predicted again in full, as what is reported.

use crate::estimate::{Estimate, Source};
use crate::hardware::latency::cost::Z90;
use crate::hardware::latency::prediction::{Prediction, predict};
use crate::model::architecture::{Architecture, LayerShape, Layers};
use crate::model::counts;
use crate::plan::budget::Constraint;
use crate::plan::error::PlanError;
use crate::plan::evaluation::{Setting, metrics};
use crate::plan::layerwise::error::LayerwiseError;
use crate::plan::layerwise::forms::Quantity;
use crate::plan::layerwise::limits::Limit;
use crate::plan::layerwise::menu::Menu;
use crate::plan::layerwise::problem::{Part, Scene};
use crate::plan::layerwise::solving::{Ended, Found};
use crate::plan::record::layerwise::{LayerPick, LayerSearch, Layerwise, LimitState};
use crate::plan::run::ROUNDING;

/// What is reported of an answer.
///
/// # Errors
/// When it cannot be predicted, or not as the search did.
pub(super) fn answer(
    scene: &Scene<'_>,
    limits: &[Limit],
    found: &Found,
    ended: &Ended,
) -> Result<Layerwise, LayerwiseError> {
    let at = scene.offers[found.offer].menu;
    let menu = &scene.menus[at];
    let parts = scene.parts(found.offer, &found.places, &found.picks);
    let picks: Vec<LayerPick> = parts.iter().map(|part| pick(menu, part)).collect();
    let kept = || picks.iter().filter_map(|pick| Some((pick.layer, pick.shape?)));
    let architecture = architecture(menu, kept().map(|(_, shape)| shape).collect());
    let predict = |setting: &Setting<'_>| {
        let Setting { machine, deployment, workload, .. } = setting;
        predict(*machine, scene.evaluator.request.spec, &architecture, deployment, workload)
            .map_err(|error| PlanError::Predict { scenario: setting.name.clone(), error })
    };
    let settings = &scene.evaluator.settings;
    let predictions = settings.iter().map(predict).collect::<Result<Vec<_>, _>>()?;
    let params = counts::parameters(scene.evaluator.request.spec, &architecture).total();
    let disagreement = disagreement(scene, found, &parts, &predictions, params);
    if disagreement > ROUNDING || disagreement.is_nan() {
        return Err(LayerwiseError::Disagreement { architecture, percent: 100.0 * disagreement });
    }
    let is_parent = architecture == scene.evaluator.request.spec.architecture;
    let variances = picks.iter().map(|pick| pick.sd_nats * pick.sd_nats);
    let sd = (menu.loss0_sd * menu.loss0_sd + variances.sum::<f64>()).sqrt();
    let loss = found.loss;
    Ok(Layerwise {
        menu: at,
        parents: kept().map(|(layer, _)| layer).collect(),
        params,
        loss_increase_nats: Estimate {
            value: loss,
            low: loss - Z90 * sd,
            high: loss + Z90 * sd,
            source: Source::Scores,
        },
        loss_sd_nats: sd,
        metrics: settings.iter().zip(&predictions).map(|(s, p)| metrics(s, p, is_parent)).collect(),
        limits: states(scene, limits, found, &predictions, params),
        search: LayerSearch {
            bound_nats: ended.bound.min(loss),
            gap_nats: loss - ended.bound.min(loss),
            proven: ended.proven,
            nodes: ended.nodes,
            problems: ended.problems,
        },
        disagreement_percent: 100.0 * disagreement,
        architecture,
        picks,
    })
}

fn pick(menu: &Menu, part: &Part<'_>) -> LayerPick {
    let Part { layer, layers, choice, is_run, .. } = *part;
    let own = menu.layers.get(layer).and_then(|choices| choices.get(choice)).filter(|_| !is_run);
    let run = menu.drops.get(choice).filter(|_| is_run);
    let shape = own.and_then(|choice| choice.kept());
    let both = own.map(|c| (c.loss, c.sd)).or(run.map(|r| (r.loss, r.sd)));
    let (loss_nats, sd_nats) = both.unwrap_or_default();
    LayerPick { layer: layer as u64, layers: layers as u64, choice, shape, loss_nats, sd_nats }
}

/// The child; uniform where all layers are alike.
fn architecture(menu: &Menu, shapes: Vec<LayerShape>) -> Architecture {
    let layers = match shapes.as_slice() {
        [shape, rest @ ..] if rest.iter().all(|other| other == shape) => {
            Layers::Uniform { count: shapes.len() as u64, shape: *shape }
        }
        _ => Layers::PerLayer(shapes),
    };
    Architecture { hidden: menu.hidden, head_dim: menu.head_dim, layers }
}

/// Largest relative difference between the sums over layers and the full prediction, over all figures.
fn disagreement(
    scene: &Scene<'_>,
    found: &Found,
    parts: &[Part<'_>],
    predictions: &[Prediction],
    params: u64,
) -> f64 {
    let mut worst = 0.0f64;
    for (scenario, prediction) in predictions.iter().enumerate() {
        let (terms, _) = scene.sum(found.offer, parts, scenario);
        let served = &prediction.served;
        let full = [
            (Quantity::Ttft, served.ttft.total().0),
            (Quantity::Tpot, served.tpot.total().0),
            (Quantity::Latency, served.latency.0),
            (Quantity::Memory, prediction.memory.total().0),
            (Quantity::Params, params as f64),
        ];
        for (quantity, full) in full {
            let sum = scene.figures[scenario].value(quantity, &terms);
            let relative = if sum == full { 0.0 } else { (sum - full).abs() / full.abs() };
            worst = if relative.is_nan() { relative } else { worst.max(relative) };
        }
    }
    worst
}

fn states(
    scene: &Scene<'_>,
    limits: &[Limit],
    found: &Found,
    predictions: &[Prediction],
    params: u64,
) -> Vec<LimitState> {
    let evaluator = &scene.evaluator;
    let state = |(at, constraint): (usize, &Constraint)| {
        let figure = evaluator.figure(constraint, predictions, params)?;
        let priced = limits.iter().zip(&found.prices).find(|(limit, _)| limit.constraint == at);
        Some(LimitState {
            metric: constraint.metric,
            scenario: constraint.scenario,
            limit: constraint.limit,
            usage: constraint.usage(figure, 0.0),
            nats_per_percent: priced.map_or(0.0, |(limit, price)| 0.01 * limit.most * price),
        })
    };
    evaluator.constraints.iter().enumerate().filter_map(state).collect()
}
