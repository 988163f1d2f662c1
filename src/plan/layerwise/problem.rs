//! Sets of choices and limits as problems of the exact solver, and its picks as sums again.

use crate::plan::evaluation::{Evaluator, Setting};
use crate::plan::layerwise::forms::{Figures, Form, MEMORY, Quantity, Side, Terms};
use crate::plan::layerwise::limits::Limit;
use crate::plan::layerwise::menu::{DroppedRun, Menu};
use crate::plan::layerwise::pricing::{Price, Prices};
use crate::search::solver::assignment::problem::{Choice, Pick, Problem, Run};

/// Choices of one menu that may be made together.
pub(super) struct Offer {
    pub(super) menu: usize,
    /// Of each layer, places among the menu's choices.
    pub(super) choices: Vec<Vec<usize>>,
    /// Every layer could be dropped.
    pub(super) may_vanish: bool,
}

/// A menu's choices with their prices, and the figures they are prices of.
pub(super) struct Scene<'a> {
    pub(super) evaluator: Evaluator<'a>,
    pub(super) menus: &'a [Menu],
    pub(super) prices: Vec<Prices>,
    pub(super) figures: Vec<Figures>,
    pub(super) offers: Vec<Offer>,
}

/// One problem: an offer, a side of each bend, and how wide the widest layer may and must be taken to be.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) offer: usize,
    /// By scenario.
    pub(super) sides: Vec<Side>,
    /// By scenario: activations are counted as if the widest inner tensors had the first, none may exceed the second.
    pub(super) widths: Vec<(u64, u64)>,
    /// No answer of it loses less.
    pub(super) bound: f64,
}

/// A problem with what its parts stand for.
pub(super) struct Built {
    pub(super) problem: Problem,
    /// Of each group's choices, places among the menu's choices of the layer.
    pub(super) places: Vec<Vec<usize>>,
    /// Of each row, the limit it is of; the last row, which keeps a layer, has none.
    pub(super) limits: Vec<usize>,
    /// Of each row, its value outside the layers.
    pub(super) constants: Vec<f64>,
}

/// What one pick covers and adds.
pub(super) struct Part<'a> {
    pub(super) layer: usize,
    pub(super) layers: usize,
    /// Place among the layer's choices, or of a run among the menu's.
    pub(super) choice: usize,
    pub(super) is_run: bool,
    /// None where it drops what it covers.
    pub(super) terms: Option<&'a Price>,
}

impl Scene<'_> {
    fn settings(&self) -> &[Setting<'_>] {
        &self.evaluator.settings
    }

    /// The widest inner tensors that no answer of an offer can do without, by scenario.
    pub(super) fn least_widths(&self, offer: &Offer) -> Vec<u64> {
        let (menu, prices) = (&self.menus[offer.menu], &self.prices[offer.menu]);
        let in_a_run = |layer: usize| {
            menu.drops.iter().any(|run| (run.first..run.first + run.layers).contains(&(layer as u64)))
        };
        let least = |scenario: usize| {
            let of = |layer: usize| {
                let inner = |choice: &usize| prices.get(layer, *choice).map_or(0, |p| p.inner[scenario]);
                offer.choices[layer].iter().map(inner).min().filter(|_| !in_a_run(layer)).unwrap_or(0)
            };
            (0..offer.choices.len()).map(of).max().unwrap_or(0)
        };
        (0..self.settings().len()).map(least).collect()
    }

    /// The problem of a node.
    pub(super) fn build(&self, node: &Node, limits: &[Limit]) -> Built {
        let offer = &self.offers[node.offer];
        let (menu, prices) = (&self.menus[offer.menu], &self.prices[offer.menu]);
        let rows = self.rows(node, limits);
        let weights = |price: &Price| {
            let of = |(limit, form): &(usize, Form)| form.weight(&price.terms[limits[*limit].scenario]);
            let keeps = if offer.may_vanish { -1.0 } else { 0.0 };
            rows.iter().map(of).chain([keeps]).collect::<Vec<f64>>()
        };
        let table: Vec<Vec<f64>> = prices.all().iter().map(weights).collect();
        let within = |layer: usize, choice: usize| {
            let inner = prices.get(layer, choice).map(|price| &price.inner);
            inner.is_none_or(|inner| inner.iter().zip(&node.widths).all(|(i, (_, most))| i <= most))
        };
        let (mut groups, mut places) = (Vec::new(), Vec::new());
        for (layer, choices) in offer.choices.iter().enumerate() {
            let kept: Vec<usize> = choices.iter().copied().filter(|&c| within(layer, c)).collect();
            let choice = |&c: &usize| Choice {
                loss: menu.layers[layer][c].loss,
                weights: match prices.place(layer, c) {
                    Some(place) => table[place].clone(),
                    None => vec![0.0; rows.len() + 1],
                },
            };
            groups.push(kept.iter().map(choice).collect());
            places.push(kept);
        }
        let run = |run: &DroppedRun| Run {
            first: run.first as usize,
            groups: run.layers as usize,
            choice: Choice { loss: run.loss, weights: vec![0.0; rows.len() + 1] },
        };
        let runs = menu.drops.iter().map(run).collect();
        let mut constants = Vec::new();
        let mut capacities = Vec::new();
        for (at, form) in &rows {
            let Limit { scenario, quantity, .. } = limits[*at];
            let activations = match quantity {
                Quantity::Memory => prices.bytes_per_inner[scenario] * node.widths[scenario].0 as f64,
                _ => 0.0,
            };
            let constant = form.at(&prices.outside[scenario]) + activations;
            constants.push(constant);
            capacities.push(limits[*at].capacity() - constant);
        }
        capacities.push(if offer.may_vanish { -1.0 } else { f64::INFINITY });
        let limits = rows.iter().map(|(at, _)| *at).collect();
        Built { problem: Problem { groups, runs, capacities }, places, limits, constants }
    }

    /// Every row: the limit it is of and the sum that must keep it.
    fn rows(&self, node: &Node, limits: &[Limit]) -> Vec<(usize, Form)> {
        let rows = |(at, limit): (usize, &Limit)| {
            let forms = self.figures[limit.scenario].rows(limit.quantity, node.sides[limit.scenario]);
            forms.into_iter().map(move |form| (at, form)).collect::<Vec<_>>()
        };
        limits.iter().enumerate().flat_map(rows).collect()
    }

    /// What picks of a node's problem cover and add, first layer first.
    pub(super) fn parts(&self, offer: usize, places: &[Vec<usize>], picks: &[Pick]) -> Vec<Part<'_>> {
        let menu = self.offers[offer].menu;
        let (prices, drops) = (&self.prices[menu], &self.menus[menu].drops);
        let part = |pick: &Pick| match *pick {
            Pick::Choice { group, choice } => {
                let choice = *places.get(group)?.get(choice)?;
                Some(Part {
                    layer: group,
                    layers: 1,
                    choice,
                    is_run: false,
                    terms: prices.get(group, choice),
                })
            }
            Pick::Run { run } => {
                let (layer, layers) = drops.get(run).map(|r| (r.first as usize, r.layers as usize))?;
                Some(Part { layer, layers, choice: run, is_run: true, terms: None })
            }
        };
        picks.iter().filter_map(part).collect()
    }

    /// The terms of all parts and of what lies outside the layers, and the widest inner tensors, in one scenario.
    /// Memory has the activations of that width.
    pub(super) fn sum(&self, offer: usize, parts: &[Part<'_>], scenario: usize) -> (Terms, u64) {
        let prices = &self.prices[self.offers[offer].menu];
        let (mut sum, mut widest) = (prices.outside[scenario], 0);
        for price in parts.iter().filter_map(|part| part.terms) {
            sum.iter_mut().zip(&price.terms[scenario]).for_each(|(sum, term)| *sum += term);
            widest = widest.max(price.inner[scenario]);
        }
        sum[MEMORY] += prices.bytes_per_inner[scenario] * widest as f64;
        (sum, widest)
    }

    /// Value of a limited figure.
    pub(super) fn value(&self, offer: usize, parts: &[Part<'_>], limit: &Limit) -> f64 {
        let (terms, _) = self.sum(offer, parts, limit.scenario);
        self.figures[limit.scenario].value(limit.quantity, &terms)
    }
}

impl Built {
    /// Frees rows that nothing can exceed, so that they keep no choice from being beaten by another.
    pub(super) fn free_slack(&mut self) {
        for row in 0..self.problem.capacities.len() {
            let most = |choices: &Vec<Choice>| choices.iter().map(|c| c.weights[row]).fold(0.0, f64::max);
            if self.problem.groups.iter().map(most).sum::<f64>() <= self.problem.capacities[row] {
                self.free(row);
            }
        }
    }

    /// Takes a row's limit away.
    pub(super) fn free(&mut self, row: usize) {
        self.problem.capacities[row] = f64::INFINITY;
        self.problem.groups.iter_mut().flatten().for_each(|choice| choice.weights[row] = 0.0);
    }

    /// Makes the weights of a row what is to be least.
    pub(super) fn minimise(&mut self, row: usize) {
        self.problem.groups.iter_mut().flatten().for_each(|choice| choice.loss = choice.weights[row]);
        self.problem.runs.iter_mut().for_each(|run| run.choice.loss = 0.0);
    }
}
