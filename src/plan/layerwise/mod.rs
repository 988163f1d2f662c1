//! One choice for each layer of the parent, exact: a request and what each choice was measured to lose -> the choices that
//! lose least within every budget.
//!
//! Each choice is priced as a decoder of that one layer (`pricing`); every figure of a scenario is the largest of a few
//! sums over layers (`forms`), so that budgets are limits on sums (`limits`) and the exact solver
//! ([`crate::search::solver::assignment`]) finds the best (`problem`, `solving`). The answer is predicted again in
//! full; a disagreement is an internal error.
//!
//! Deliberately absent: where the losses come from (see [`crate::quality`]), interaction between layers, budgets with a
//! confidence (the spread of a figure is no sum over layers).

mod answer;
pub mod error;
mod forms;
mod limits;
pub mod loadable;
pub mod menu;
mod pricing;
mod problem;
pub mod scored;
mod shortfall;
mod solving;

use crate::hardware::latency::memo::Memo;
use crate::model::architecture::LayerShape;
use crate::model::tensor_parallel;
use crate::plan::layerwise::error::LayerwiseError;
use crate::plan::layerwise::forms::Figures;
use crate::plan::layerwise::limits::limits;
use crate::plan::layerwise::loadable::Loadable;
use crate::plan::layerwise::menu::Menu;
use crate::plan::layerwise::pricing::Prices;
use crate::plan::layerwise::problem::{Offer, Scene};
use crate::plan::layerwise::shortfall::shortfall;
use crate::plan::layerwise::solving::{Ended, Found, Known};
use crate::plan::record::layerwise::{Layerwise, Short};
use crate::plan::request::Request;
use crate::plan::run;
use crate::search::solver::assignment::Options;

/// What is asked.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Parent, targets, workloads and budgets; its prior, recovery and space are not looked at.
    pub request: &'a Request<'a>,
    /// One per hidden size.
    pub menus: &'a [Menu],
    /// What is to load the child.
    pub loadable: Loadable,
    /// How far to search, over all menus together; the tolerance is in nats per token.
    pub options: Options,
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With an answer.
    Found(Box<Layerwise>),
    /// Proven: no choice keeps every budget. The budgets that stand in the way, as far as single ones do.
    Infeasible(Vec<Short>),
    /// The limit of nodes was reached before any answer was found.
    Undecided {
        /// No choice within the budgets loses less, nats per token.
        bound_nats: f64,
        /// Nodes visited.
        nodes: u64,
    },
}

impl Outcome {
    /// The answer, if there is one.
    pub fn found(&self) -> Option<&Layerwise> {
        match self {
            Outcome::Found(found) => Some(found),
            _ => None,
        }
    }
}

/// The answer at one limit of a budget.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontPoint {
    /// The limit, in the unit of the budget's metric.
    pub limit: f64,
    /// The answer.
    pub outcome: Outcome,
}

/// Finds the choice per layer that loses least within every budget.
///
/// # Errors
/// When the request or a menu makes no sense, or a profile has a gap. That no choice keeps the budgets is an outcome.
pub fn search(ask: &Ask<'_>) -> Result<Outcome, LayerwiseError> {
    let memos: Vec<Memo<'_>> = ask.request.targets.iter().map(|t| Memo::new(t.machine.costs)).collect();
    let scene = scene(ask, &memos)?;
    let (outcome, _) = at(&scene, ask.options, &mut Known::nothing(&scene))?;
    Ok(outcome)
}

/// [`search`] at each limit of one budget of the request, by its position there; answers are in the order asked.
///
/// From the loosest to the tightest: an answer that keeps the next limit too is the answer there, the solver starts from the
/// prices of the last answer, a hidden size that is known to lose more is passed over, and where nothing keeps the limits
/// nothing keeps tighter ones.
///
/// # Errors
/// Those of [`search`]; when the request lacks the budget, or a limit is no positive number.
pub fn front(ask: &Ask<'_>, budget: usize, asked: &[f64]) -> Result<Vec<FrontPoint>, LayerwiseError> {
    let budgets = ask.request.budgets.len();
    let metric = ask.request.budgets.get(budget).map(|budget| budget.metric);
    let metric = metric.ok_or(LayerwiseError::NoBudget { budget, budgets })?;
    if let Some(&found) = asked.iter().find(|limit| !(**limit > 0.0 && limit.is_finite())) {
        return Err(LayerwiseError::Limit { found });
    }
    let memos: Vec<Memo<'_>> = ask.request.targets.iter().map(|t| Memo::new(t.machine.costs)).collect();
    let mut scene = scene(ask, &memos)?;
    let mut order: Vec<usize> = (0..asked.len()).collect();
    order.sort_by(|&a, &b| asked[b].total_cmp(&asked[a]).then(a.cmp(&b)));
    if metric.at_least() {
        order.reverse();
    }
    let mut known = Known::nothing(&scene);
    let mut points: Vec<Option<FrontPoint>> = vec![None; asked.len()];
    let mut last: Option<Ended> = None;
    for place in order {
        let limit = asked[place];
        let of_budget = scene.evaluator.constraints.iter_mut().filter(|c| c.budget == budget);
        of_budget.for_each(|constraint| constraint.limit = limit);
        let outcome = match last.as_ref().and_then(|ended| Some((ended, ended.best.as_ref()?))) {
            Some((ended, best)) if keeps(&scene, best) => {
                Outcome::Found(Box::new(answer::answer(&scene, &limits(&scene.evaluator), best, ended)?))
            }
            _ => {
                let (outcome, ended) = at(&scene, ask.options, &mut known)?;
                last = Some(ended);
                outcome
            }
        };
        points[place] = Some(FrontPoint { limit, outcome });
    }
    Ok(points.into_iter().flatten().collect())
}

/// Whether an answer keeps the limits as they now are.
fn keeps(scene: &Scene<'_>, found: &Found) -> bool {
    let parts = scene.parts(found.offer, &found.places, &found.picks);
    limits(&scene.evaluator).iter().all(|limit| scene.value(found.offer, &parts, limit) <= limit.capacity())
}

/// Searches at the limits of the scene.
fn at(scene: &Scene<'_>, options: Options, known: &mut [Known]) -> Result<(Outcome, Ended), LayerwiseError> {
    let limits = limits(&scene.evaluator);
    let ended = solving::search(scene, &limits, options, known)?;
    let outcome = match &ended.best {
        Some(best) => Outcome::Found(Box::new(answer::answer(scene, &limits, best, &ended)?)),
        None if ended.bound.is_finite() => Outcome::Undecided { bound_nats: ended.bound, nodes: ended.nodes },
        None => Outcome::Infeasible(shortfall(scene, &limits, options)?),
    };
    Ok((outcome, ended))
}

/// Checks what is asked and prices every choice.
fn scene<'a>(ask: &Ask<'a>, memos: &'a [Memo<'a>]) -> Result<Scene<'a>, LayerwiseError> {
    let Ask { request, menus, loadable, .. } = *ask;
    request.check()?;
    if request.confidence.is_some() {
        return Err(LayerwiseError::Confidence);
    }
    if menus.is_empty() {
        return Err(LayerwiseError::NoMenu);
    }
    loadable.check(request.spec)?;
    let (evaluator, _) = run::evaluator(request, memos)?;
    let (mut prices, mut offers) = (Vec::new(), Vec::new());
    for (at, menu) in menus.iter().enumerate() {
        menu.check(at, request.spec)?;
        let tp = |shape| evaluator.settings.iter().all(|s| shares(menu, shape, s.deployment.tp));
        let sets = loadable.sets(menu, at, request.spec, tp)?;
        prices.push(Prices::of(menu, &sets, &evaluator)?);
        for choices in sets {
            let drops = |layer: usize| {
                let all: &Vec<usize> = &choices[layer];
                all.iter().any(|&choice| menu.layers[layer][choice].kept().is_none())
            };
            let may_vanish = menu.covered(drops);
            offers.push(Offer { menu: at, choices, may_vanish });
        }
    }
    let figures = evaluator.settings.iter().map(Figures::of).collect();
    Ok(Scene { evaluator, menus, prices, figures, offers })
}

/// Whether `tp` devices can share a layer.
fn shares(menu: &Menu, shape: LayerShape, tp: u64) -> bool {
    tensor_parallel::check_shape(&menu.one_layer(shape), tp).is_ok()
}
