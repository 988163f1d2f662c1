//! The Lagrangian relaxation: capacities priced instead of kept, so that the best path is a sum of minima.
//!
//! For multipliers `u >= 0` the least `loss + u (weights - capacities)` over all paths bounds the loss of those within
//! the capacities from below (Fisher 1981, Management Science 27(1), eq. 2). The bound is raised by Polyak's subgradient
//! steps towards the loss to beat.

use crate::search::solver::assignment::graph::Graph;

/// Iterations without a better bound before the step is halved.
const PATIENCE: u32 = 4;

/// Steps shorter than this share of the first end an ascent.
const SHORTEST_STEP: f64 = 1e-3;

/// Room for the passes over one set of arcs.
pub(super) struct Relaxation<'a> {
    graph: &'a Graph,
    costs: Vec<f64>,
    forward: Vec<f64>,
    backward: Vec<f64>,
    into: Vec<u32>,
    /// The best path under the latest prices.
    pub(super) path: Vec<u32>,
    /// Its weights.
    pub(super) usage: Vec<f64>,
}

/// No arc.
const NONE: u32 = u32::MAX;

impl<'a> Relaxation<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        Self {
            graph,
            costs: Vec::new(),
            forward: vec![0.0; graph.positions + 1],
            backward: vec![0.0; graph.positions + 1],
            into: vec![NONE; graph.positions + 1],
            path: Vec::with_capacity(graph.positions),
            usage: vec![0.0; graph.rows],
        }
    }

    /// The bound at `multipliers`, infinite when no path is left.
    pub(super) fn bound(&mut self, live: &[u32], multipliers: &[f64]) -> f64 {
        let graph = self.graph;
        self.costs.clear();
        self.costs.extend(live.iter().map(|&arc| {
            let weights = graph.weights_of(arc).iter().zip(multipliers);
            graph.arcs[arc as usize].loss + weights.map(|(weight, price)| weight * price).sum::<f64>()
        }));
        self.sweep_forward(live);
        let end = self.forward[graph.positions];
        if end.is_infinite() {
            return f64::INFINITY;
        }
        self.trace();
        end - graph.capacities.iter().zip(multipliers).map(|(capacity, price)| capacity * price).sum::<f64>()
    }

    fn sweep_forward(&mut self, live: &[u32]) {
        self.forward.fill(f64::INFINITY);
        self.forward[0] = 0.0;
        for (&arc, cost) in live.iter().zip(&self.costs) {
            let way = &self.graph.arcs[arc as usize];
            let reached = self.forward[way.first] + cost;
            if reached < self.forward[way.next] {
                self.forward[way.next] = reached;
                self.into[way.next] = arc;
            }
        }
    }

    fn sweep_backward(&mut self, live: &[u32]) {
        self.backward.fill(f64::INFINITY);
        self.backward[self.graph.positions] = 0.0;
        for (&arc, cost) in live.iter().zip(&self.costs).rev() {
            let way = &self.graph.arcs[arc as usize];
            self.backward[way.first] = self.backward[way.first].min(self.backward[way.next] + cost);
        }
    }

    fn trace(&mut self) {
        self.path.clear();
        self.usage.fill(0.0);
        let mut at = self.graph.positions;
        while at > 0 {
            let arc = self.into[at];
            self.path.push(arc);
            let weights = self.graph.weights_of(arc);
            self.usage.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
            at = self.graph.arcs[arc as usize].first;
        }
        self.path.reverse();
    }

    /// The bound of the paths through each live arc at `multipliers`, in the order of `live`.
    pub(super) fn bounds_through(&mut self, live: &[u32], multipliers: &[f64], bounds: &mut Vec<f64>) {
        let bound = self.bound(live, multipliers);
        let priced = self.forward[self.graph.positions] - bound;
        self.sweep_backward(live);
        bounds.clear();
        bounds.extend(live.iter().zip(&self.costs).map(|(&arc, cost)| {
            let way = &self.graph.arcs[arc as usize];
            self.forward[way.first] + cost + self.backward[way.next] - priced
        }));
    }

    /// Drops arcs on no path that keeps each row by itself. Whether any path is left.
    pub(super) fn drop_too_heavy(&mut self, live: &mut Vec<u32>) -> bool {
        loop {
            let before = live.len();
            for row in 0..self.graph.rows {
                let graph = self.graph;
                self.costs.clear();
                self.costs.extend(live.iter().map(|&arc| graph.weights_of(arc)[row]));
                self.sweep_forward(live);
                let capacity = graph.capacities[row];
                // Sums in another order: what rounding could make of them must drop nothing.
                let capacity = capacity + 1e-12 * capacity.abs().max(self.forward[graph.positions].abs());
                if self.forward[graph.positions].is_nan() || self.forward[graph.positions] > capacity {
                    return false;
                }
                self.sweep_backward(live);
                let (forward, backward, costs) = (&self.forward, &self.backward, &self.costs);
                let mut at = 0;
                live.retain(|&arc| {
                    let way = &graph.arcs[arc as usize];
                    let cost = costs[at];
                    at += 1;
                    forward[way.first] + cost + backward[way.next] <= capacity
                });
            }
            if live.len() == before {
                return true;
            }
        }
    }

    /// Raises the bound from `multipliers`, which end at the best found; `visit` sees every path met, with its weights,
    /// and answers the loss to beat. Ends early once the bound reaches that.
    pub(super) fn ascend(
        &mut self,
        live: &[u32],
        multipliers: &mut [f64],
        iterations: u32,
        mut visit: impl FnMut(&[u32], &[f64]) -> f64,
    ) -> f64 {
        let (mut best, mut best_at) = (f64::NEG_INFINITY, multipliers.to_vec());
        let (mut share, mut stalled) = (1.0, 0);
        for _ in 0..iterations {
            let mut bound = self.bound(live, multipliers);
            if bound > best {
                (best, stalled) = (bound, 0);
                best_at.copy_from_slice(multipliers);
            } else {
                stalled += 1;
            }
            if bound.is_infinite() {
                break;
            }
            let to_beat = visit(&self.path, &self.usage);
            if best >= to_beat {
                break;
            }
            if stalled >= PATIENCE {
                (share, stalled) = (share * 0.5, 0);
                multipliers.copy_from_slice(&best_at);
                bound = self.bound(live, multipliers);
            }
            if share < SHORTEST_STEP || !self.step(multipliers, share * (to_beat - bound)) {
                break;
            }
        }
        multipliers.copy_from_slice(&best_at);
        best
    }

    /// Moves along the subgradient, each row in its own scale, as far as would raise a linear bound by `rise`. Whether
    /// it moved.
    fn step(&self, multipliers: &mut [f64], rise: f64) -> bool {
        let graph = self.graph;
        let over = |row: usize| self.usage[row] - graph.capacities[row];
        let moves = |row: usize, price: f64| price > 0.0 || over(row) > 0.0;
        let rows = || (0..graph.rows).zip(multipliers.iter());
        let free = rows().filter(|&(row, price)| moves(row, *price));
        let norm: f64 = free.map(|(row, _)| (over(row) * graph.scales[row]).powi(2)).sum();
        if norm <= 0.0 {
            return false;
        }
        for (row, price) in multipliers.iter_mut().enumerate() {
            let scale = graph.scales[row] * graph.scales[row];
            *price = (*price + rise / norm * over(row) * scale).max(0.0);
        }
        true
    }
}
