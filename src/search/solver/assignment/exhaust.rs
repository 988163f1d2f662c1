//! Small rests of the tree, depth first with prices held fixed: a step costs nanoseconds where a node of the tree costs
//! an ascent.
//!
//! Several sets of prices bound at once: near the optimum the best prices shift with what is left of each capacity, and
//! every set's bound holds.

use crate::search::solver::assignment::graph::Graph;
use crate::search::solver::assignment::incumbent::Incumbent;

/// Factors on the price of one row at a time, beside the prices themselves.
const SHIFTS: [f64; 2] = [0.8, 1.25];

/// An arc between ranks, the order in which positions are decided.
struct Step {
    arc: u32,
    next: usize,
    /// Priced cost plus the least priced rest, under the first prices.
    priced: f64,
    /// Cost under each set of prices, then weights under each row.
    terms: Vec<f64>,
}

pub(super) struct Exhaust<'a> {
    graph: &'a Graph,
    sets: usize,
    /// Steps from each rank, best first.
    steps: Vec<Vec<Step>>,
    /// Least rest from each rank: of each term of a step.
    rest: Vec<Vec<f64>>,
    /// What the sums may reach: under each set of prices beyond the loss to beat, under each row its capacity.
    limits: Vec<f64>,
    /// Sums of the terms so far, one row per depth.
    sums: Vec<f64>,
    path: Vec<u32>,
    left: u64,
}

impl<'a> Exhaust<'a> {
    pub(super) fn new(graph: &'a Graph, live: &[u32], multipliers: &[f64], limit: u64) -> Self {
        let mut prices = vec![multipliers.to_vec()];
        for row in 0..graph.rows {
            for factor in SHIFTS {
                let mut shifted = multipliers.to_vec();
                shifted[row] *= factor;
                prices.push(shifted);
            }
        }
        let rank = ranks(graph, live);
        let terms = prices.len() + graph.rows;
        let (mut steps, mut rest) = (Vec::new(), vec![vec![f64::INFINITY; terms]; graph.positions + 1]);
        steps.resize_with(graph.positions, Vec::new);
        rest[graph.positions].fill(0.0);
        for &arc in live {
            let way = &graph.arcs[arc as usize];
            let weights = graph.weights_of(arc);
            let cost = |u: &Vec<f64>| way.loss + weights.iter().zip(u).map(|(w, u)| w * u).sum::<f64>();
            let terms = prices.iter().map(cost).chain(weights.iter().copied()).collect();
            let first = rank[way.first];
            steps[first].push(Step { arc, next: first + way.next - way.first, priced: 0.0, terms });
        }
        for at in (0..graph.positions).rev() {
            for step in &mut steps[at] {
                step.priced = step.terms[0] + rest[step.next][0];
                let (here, further) = rest.split_at_mut(at + 1);
                let after = step.terms.iter().zip(&further[step.next - at - 1]);
                here[at]
                    .iter_mut()
                    .zip(after)
                    .for_each(|(least, (own, rest))| *least = least.min(own + rest));
            }
            steps[at].sort_by(|a, b| a.priced.total_cmp(&b.priced).then(a.arc.cmp(&b.arc)));
        }
        let worth = |u: &Vec<f64>| graph.capacities.iter().zip(u).map(|(c, u)| c * u).sum::<f64>();
        let rooms = graph.capacities.iter().map(|c| c + 1e-12 * c.abs());
        let limits = prices.iter().map(worth).chain(rooms).collect();
        let sums = vec![0.0; terms * (graph.positions + 1)];
        Self { graph, sets: prices.len(), steps, rest, limits, sums, path: Vec::new(), left: limit }
    }

    /// Tries every path that matters. Whether it came to the end within the limit of steps.
    pub(super) fn run(&mut self, incumbent: &mut Incumbent<'a>) -> bool {
        self.descend(0, incumbent)
    }

    fn descend(&mut self, at: usize, incumbent: &mut Incumbent<'a>) -> bool {
        let (terms, depth) = (self.limits.len(), self.path.len());
        if at == self.graph.positions {
            let mut path = self.path.clone();
            path.sort_unstable();
            let usage = self.graph.sums(&path).1;
            incumbent.offer_path(&path, &usage);
            return true;
        }
        for i in 0..self.steps[at].len() {
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
            let step = &self.steps[at][i];
            let (before, after) = self.sums.split_at_mut((depth + 1) * terms);
            let before = &before[depth * terms..];
            if before[0] + step.priced - self.limits[0] >= incumbent.to_beat {
                break;
            }
            let rest = &self.rest[step.next];
            let mut keeps = true;
            for term in 0..terms {
                after[term] = before[term] + step.terms[term];
                let least = after[term] + rest[term] - self.limits[term];
                keeps &= if term < self.sets { least < incumbent.to_beat } else { least <= 0.0 };
            }
            if keeps {
                let next = step.next;
                self.path.push(step.arc);
                let ended = self.descend(next, incumbent);
                self.path.pop();
                if !ended {
                    return false;
                }
            }
        }
        true
    }
}

/// Where each position stands in the order of decisions: those with the most live arcs first, where no arc spans
/// several positions.
fn ranks(graph: &Graph, live: &[u32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..graph.positions).collect();
    let mut counts = vec![0u32; graph.positions];
    let mut single = true;
    for &arc in live {
        let way = &graph.arcs[arc as usize];
        counts[way.first] += 1;
        single &= way.next == way.first + 1;
    }
    if single {
        order.sort_by_key(|&position| (std::cmp::Reverse(counts[position]), position));
    }
    let mut ranks = vec![0; graph.positions];
    order.iter().enumerate().for_each(|(rank, &position)| ranks[position] = rank);
    ranks
}
