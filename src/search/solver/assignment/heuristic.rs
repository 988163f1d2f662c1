//! From a path near the capacities to a good one within them: repair, then exchanges of one and of two arcs.

use crate::search::solver::assignment::graph::Graph;

/// Exchanges considered in pairs.
const PAIRED: usize = 300;

/// Exchanges of a repair, and rounds of improvement, at most.
const ROUNDS: usize = 400;

/// A path with its sums, kept up to date.
pub(super) struct Walk<'a> {
    graph: &'a Graph,
    pub(super) path: Vec<u32>,
    usage: Vec<f64>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(graph: &'a Graph, path: Vec<u32>) -> Self {
        let usage = graph.sums(&path).1;
        Self { graph, path, usage }
    }

    /// What the rows are exceeded by if `out` left and `into` came, in typical weights.
    fn excess(&self, out: u32, into: u32) -> f64 {
        let graph = self.graph;
        let (out, into) = (graph.weights_of(out), graph.weights_of(into));
        let over = |row: usize| (self.usage[row] - out[row] + into[row] - graph.capacities[row]).max(0.0);
        (0..graph.rows).map(|row| over(row) * graph.scales[row]).sum()
    }

    fn loss_change(&self, out: u32, into: u32) -> f64 {
        self.graph.arcs[into as usize].loss - self.graph.arcs[out as usize].loss
    }

    /// Change of the priced loss.
    fn price(&self, multipliers: &[f64], out: u32, into: u32) -> f64 {
        let graph = self.graph;
        let weights = graph.weights_of(into).iter().zip(graph.weights_of(out));
        self.loss_change(out, into) + weights.zip(multipliers).map(|((i, o), u)| (i - o) * u).sum::<f64>()
    }

    fn exchange(&mut self, at: usize, into: u32) {
        let out = self.path[at];
        let weights = self.graph.weights_of(into).iter().zip(self.graph.weights_of(out));
        self.usage.iter_mut().zip(weights).for_each(|(sum, (i, o))| *sum += i - o);
        self.path[at] = into;
    }

    /// Exchanges arcs until every row is kept, each time the one that costs least per excess it takes away. Whether that
    /// succeeded.
    pub(super) fn repair(&mut self, multipliers: &[f64]) -> bool {
        for _ in 0..ROUNDS {
            let excess = self.path.first().map_or(0.0, |&arc| self.excess(arc, arc));
            if excess <= 0.0 {
                return true;
            }
            let mut best = (f64::INFINITY, 0, 0);
            for (at, &out) in self.path.iter().enumerate() {
                for into in self.graph.alternatives(out) {
                    let saved = excess - self.excess(out, into);
                    if saved > 0.0 {
                        let cost = self.price(multipliers, out, into).max(1e-12) / saved;
                        if cost < best.0 {
                            best = (cost, at, into);
                        }
                    }
                }
            }
            if best.0.is_infinite() {
                return false;
            }
            self.exchange(best.1, best.2);
        }
        false
    }

    /// Exchanges one arc, or two at once, while that loses less within the rows.
    pub(super) fn improve(&mut self, multipliers: &[f64]) {
        for _ in 0..ROUNDS {
            if !self.improve_one() && !self.improve_two(multipliers) {
                break;
            }
        }
    }

    fn improve_one(&mut self) -> bool {
        let mut improved = false;
        for at in 0..self.path.len() {
            for into in self.graph.alternatives(self.path[at]) {
                let out = self.path[at];
                if self.loss_change(out, into) < 0.0 && self.excess(out, into) <= 0.0 {
                    self.exchange(at, into);
                    improved = true;
                }
            }
        }
        improved
    }

    fn improve_two(&mut self, multipliers: &[f64]) -> bool {
        let mut candidates: Vec<(f64, usize, u32)> = Vec::new();
        for (at, &out) in self.path.iter().enumerate() {
            let others = self.graph.alternatives(out).filter(|&into| into != out);
            candidates.extend(others.map(|into| (self.price(multipliers, out, into), at, into)));
        }
        candidates.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        candidates.truncate(PAIRED);
        let mut best = (0.0, None);
        for (i, &(_, at, into)) in candidates.iter().enumerate() {
            for &(_, other_at, other_into) in &candidates[..i] {
                let change =
                    self.loss_change(self.path[at], into) + self.loss_change(self.path[other_at], other_into);
                if at != other_at && change < best.0 && self.both_fit((at, into), (other_at, other_into)) {
                    best = (change, Some(((at, into), (other_at, other_into))));
                }
            }
        }
        let Some((one, two)) = best.1 else { return false };
        self.exchange(one.0, one.1);
        self.exchange(two.0, two.1);
        true
    }

    fn both_fit(&self, one: (usize, u32), two: (usize, u32)) -> bool {
        let graph = self.graph;
        let change = |(at, into): (usize, u32), row: usize| {
            graph.weights_of(into)[row] - graph.weights_of(self.path[at])[row]
        };
        (0..graph.rows)
            .all(|row| self.usage[row] + change(one, row) + change(two, row) <= graph.capacities[row])
    }
}
