//! The best choice over all menus: one problem after the other, each with the best loss so far to beat.
//!
//! Activations depend on the widest layer alone. A node counts them for a width that no answer is below; an answer whose
//! own width does not fit splits the node into narrower layers only, and activations of that width at least.

use crate::plan::layerwise::error::LayerwiseError;
use crate::plan::layerwise::forms::{Quantity, Side};
use crate::plan::layerwise::limits::Limit;
use crate::plan::layerwise::problem::{Built, Node, Part, Scene};
use crate::search::solver::assignment::problem::{Assignment, AssignmentError, Outcome, Pick, Solution};
use crate::search::solver::assignment::{Options, Start, solve_until};

/// What an earlier search with looser limits knows of each offer.
#[derive(Clone, Debug)]
pub(super) struct Known {
    multipliers: Option<Vec<f64>>,
    /// No answer of it loses less.
    bound: f64,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) offer: usize,
    pub(super) places: Vec<Vec<usize>>,
    pub(super) picks: Vec<Pick>,
    pub(super) loss: f64,
    /// Of each limit, nats per unit of it.
    pub(super) prices: Vec<f64>,
}

/// How a search ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) best: Option<Found>,
    /// Nothing loses less; infinite when nothing keeps the limits.
    pub(super) bound: f64,
    pub(super) proven: bool,
    pub(super) nodes: u64,
    pub(super) problems: u64,
}

impl Known {
    pub(super) fn nothing(scene: &Scene<'_>) -> Vec<Self> {
        scene.offers.iter().map(|_| Self { multipliers: None, bound: f64::NEG_INFINITY }).collect()
    }
}

impl Scene<'_> {
    /// The nodes an offer starts with: every side of every bend that an answer may be on.
    pub(super) fn roots(&self, offer: usize, limits: &[Limit]) -> Vec<Node> {
        let widths = self.least_widths(&self.offers[offer]).into_iter().map(|least| (least, u64::MAX));
        let widths: Vec<(u64, u64)> = widths.collect();
        let mut sides = vec![Vec::new()];
        for (scenario, figures) in self.figures.iter().enumerate() {
            let bends = limits.iter().any(|l| l.scenario == scenario && figures.bends(l.quantity));
            let (least, most) = self.range(offer, scenario);
            let here: &[Side] = match bends {
                true if least < 0.0 && most > 0.0 => &[Side::Kernels, Side::Floor],
                true if most <= 0.0 => &[Side::Floor],
                _ => &[Side::Kernels],
            };
            let with =
                |side: &Side| sides.iter().map(|s| [s.as_slice(), &[*side]].concat()).collect::<Vec<_>>();
            sides = here.iter().flat_map(with).collect();
        }
        let node = |sides| Node { offer, sides, widths: widths.clone(), bound: f64::NEG_INFINITY };
        sides.into_iter().map(node).collect()
    }

    /// Bounds of the prefill's kernels beyond the host's least time, seconds.
    fn range(&self, offer: usize, scenario: usize) -> (f64, f64) {
        let Some(form) = self.figures[scenario].kernels_above_floor() else { return (0.0, f64::INFINITY) };
        let offer = &self.offers[offer];
        let (menu, prices) = (&self.menus[offer.menu], &self.prices[offer.menu]);
        let drops = !menu.drops.is_empty();
        let outside = form.at(&prices.outside[scenario]);
        let (mut least, mut most) = (outside, outside);
        for (layer, choices) in offer.choices.iter().enumerate() {
            let weight = |c: &usize| prices.get(layer, *c).map_or(0.0, |p| form.weight(&p.terms[scenario]));
            let all = choices.iter().map(weight).chain(drops.then_some(0.0));
            let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), w| (l.min(w), h.max(w)));
            (least, most) = (least + low, most + high);
        }
        (least, most)
    }

    /// The limit on memory that the widest layer of an answer breaks, and that layer's width.
    fn too_wide(&self, node: &Node, parts: &[Part<'_>], limits: &[Limit]) -> Option<(usize, u64)> {
        limits.iter().filter(|limit| limit.quantity == Quantity::Memory).find_map(|limit| {
            let (_, widest) = self.sum(node.offer, parts, limit.scenario);
            let wider = widest > node.widths[limit.scenario].0;
            let broken = wider && self.value(node.offer, parts, limit) > limit.capacity();
            broken.then_some((limit.scenario, widest))
        })
    }

    /// A node without layers as wide as `width`, and one that counts activations of that width.
    fn split(&self, node: &Node, scenario: usize, width: u64, bound: f64) -> [Node; 2] {
        let (mut narrower, mut counted) = (node.clone(), node.clone());
        (narrower.bound, counted.bound) = (bound, bound);
        let tp = |s: usize| self.evaluator.settings[s].deployment.tp;
        for s in (0..node.widths.len()).filter(|&s| tp(s) == tp(scenario)) {
            narrower.widths[s].1 = narrower.widths[s].1.min(width - 1);
            counted.widths[s].0 = counted.widths[s].0.max(width);
        }
        [narrower, counted]
    }
}

/// A search under way.
struct Search<'a, 'b> {
    scene: &'a Scene<'b>,
    limits: &'a [Limit],
    options: Options,
    ended: Ended,
}

/// Finds what loses least within the limits over all offers, the hidden size that loses least first.
///
/// # Errors
/// When the solver refuses a problem.
pub(super) fn search(
    scene: &Scene<'_>,
    limits: &[Limit],
    options: Options,
    known: &mut [Known],
) -> Result<Ended, LayerwiseError> {
    let ended = Ended { best: None, bound: f64::INFINITY, proven: true, nodes: 0, problems: 0 };
    let mut search = Search { scene, limits, options, ended };
    let loss0 = |offer: usize| scene.menus[scene.offers[offer].menu].loss0;
    let mut order: Vec<usize> = (0..scene.offers.len()).collect();
    order.sort_by(|a, b| loss0(*a).total_cmp(&loss0(*b)).then(a.cmp(b)));
    for offer in order {
        search.offer(offer, &mut known[offer])?;
    }
    if let Some(best) = &search.ended.best {
        search.ended.bound = search.ended.bound.min(best.loss);
    }
    Ok(search.ended)
}

impl Search<'_, '_> {
    fn offer(&mut self, offer: usize, known: &mut Known) -> Result<(), LayerwiseError> {
        let mut stack = self.scene.roots(offer, self.limits);
        let mut bound = f64::INFINITY;
        while let Some(node) = stack.pop() {
            let reached = known.bound.max(node.bound);
            if self.ended.best.as_ref().is_some_and(|best| reached >= best.loss) || reached == f64::INFINITY {
                bound = bound.min(reached);
                continue;
            }
            let (least, split) = self.node(&node, known)?;
            bound = bound.min(least);
            stack.extend(split);
        }
        known.bound = known.bound.max(bound);
        self.ended.bound = self.ended.bound.min(bound);
        Ok(())
    }

    /// Solves a node: what is proven of it, and the nodes it falls into.
    fn node(&mut self, node: &Node, known: &mut Known) -> Result<(f64, Vec<Node>), LayerwiseError> {
        let loss0 = self.scene.menus[self.scene.offers[node.offer].menu].loss0;
        let mut built = self.scene.build(node, self.limits);
        built.free_slack();
        let cutoff = self.ended.best.as_ref().map(|best| best.loss - loss0);
        let start = Start { multipliers: known.multipliers.clone(), picks: None, cutoff };
        self.ended.problems += 1;
        // A near answer that is too wide splits the node as well as a proven one.
        let (scene, limits, places) = (self.scene, self.limits, &built.places);
        let too_wide = |near: &Assignment| {
            scene.too_wide(node, &scene.parts(node.offer, places, &near.picks), limits).is_some()
        };
        let outcome = solve_until(&built.problem, &start, &self.left(), &too_wide);
        match outcome {
            // Without its wide layers a node may have none for some place.
            Err(AssignmentError::Uncovered { .. }) | Ok(Outcome::Infeasible(_)) => {
                Ok((f64::INFINITY, vec![]))
            }
            Err(error) => Err(error.into()),
            Ok(Outcome::NoneBetter) => {
                let cutoff = cutoff.unwrap_or(f64::INFINITY);
                Ok((cutoff + loss0 - self.options.tolerance, vec![]))
            }
            Ok(Outcome::Unknown { bound, nodes }) => {
                self.ended.nodes += nodes;
                self.ended.proven = false;
                Ok((bound + loss0, vec![]))
            }
            Ok(Outcome::Solved(solution)) => Ok(self.solved(node, built, solution, loss0, known)),
        }
    }

    /// Options with the nodes that are left.
    fn left(&self) -> Options {
        Options { nodes: self.options.nodes.saturating_sub(self.ended.nodes), ..self.options }
    }

    fn solved(
        &mut self,
        node: &Node,
        built: Built,
        solution: Solution,
        loss0: f64,
        known: &mut Known,
    ) -> (f64, Vec<Node>) {
        let Solution { assignment, bound, nodes, proven, multipliers, .. } = solution;
        self.ended.nodes += nodes;
        let parts = self.scene.parts(node.offer, &built.places, &assignment.picks);
        let bound = bound + loss0;
        if let Some((scenario, width)) = self.scene.too_wide(node, &parts, self.limits) {
            known.multipliers = Some(multipliers);
            return (f64::INFINITY, self.scene.split(node, scenario, width, bound).into());
        }
        self.ended.proven &= proven;
        let mut prices = vec![0.0; self.limits.len()];
        for (limit, price) in built.limits.iter().zip(&multipliers) {
            prices[*limit] += price;
        }
        known.multipliers = Some(multipliers);
        let (picks, places, offer) = (assignment.picks, built.places, node.offer);
        self.ended.best = Some(Found { offer, places, picks, loss: assignment.loss + loss0, prices });
        (bound, vec![])
    }
}
