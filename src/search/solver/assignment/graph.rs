//! The problem as a line of positions and arcs between them: an assignment is a path from end to end.

use std::ops::Range;

use crate::search::solver::assignment::lattice::{Lattice, lattice};
use crate::search::solver::assignment::problem::{Choice, Pick, Problem, Shortage};

/// Rounding that a sum may carry, relative to the sum of its terms' magnitudes.
const ROUNDING: f64 = 1e-12;

/// A choice or run: it leads from its first group to the group after its last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arc {
    pub(super) first: usize,
    pub(super) next: usize,
    pub(super) loss: f64,
    pub(super) pick: Pick,
}

/// Arcs sorted by where they begin and end, with their weights under the constraints that can bind (the rows).
///
/// Rows are shifted so that each position's lightest choice weighs nothing, and those on a lattice are counted in its
/// steps with their capacity rounded down. A row's capacity is never smaller than what is asked for, to rounding: what
/// keeps a row may exceed the capacity by rounding, so assignments are judged by [`Problem::holds`] in the end.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    pub(super) positions: usize,
    pub(super) arcs: Vec<Arc>,
    /// `arcs x rows`.
    pub(super) weights: Vec<f64>,
    pub(super) rows: usize,
    pub(super) capacities: Vec<f64>,
    /// Index of each row's constraint in the problem.
    pub(super) constraints: Vec<usize>,
    /// Units of the constraint in one unit of its row.
    pub(super) units: Vec<f64>,
    /// Inverse of each row's typical weight.
    pub(super) scales: Vec<f64>,
}

/// One constraint on its way to a row.
struct Row {
    constraint: usize,
    weights: Vec<f64>,
    capacity: f64,
    unit: f64,
}

impl Graph {
    /// Compiles a sound problem, or says which constraints cannot be met alone.
    pub(super) fn of(problem: &Problem) -> Result<Self, Vec<Shortage>> {
        let mut parts: Vec<_> = problem.parts().collect();
        parts.sort_by_key(|&(pick, first, next, _)| (first, next, pick));
        let arc = |&(pick, first, next, choice): &(Pick, usize, usize, &Choice)| Arc {
            first,
            next,
            loss: choice.loss,
            pick,
        };
        let arcs: Vec<Arc> = parts.iter().map(arc).collect();
        let column = |k: usize| parts.iter().map(|(_, _, _, c)| c.weights[k]).collect::<Vec<f64>>();
        let positions = problem.groups.len();
        let columns: Vec<Vec<f64>> = (0..problem.capacities.len()).map(column).collect();
        let kept = undominated(&arcs, &columns);
        let arcs: Vec<Arc> = kept.iter().map(|&a| arcs[a]).collect();
        let (mut rows, mut short) = (Vec::new(), Vec::new());
        for (constraint, (column, &capacity)) in columns.iter().zip(&problem.capacities).enumerate() {
            let weights: Vec<f64> = kept.iter().map(|&a| column[a]).collect();
            let (least, most) =
                (path(positions, &arcs, &weights, 1.0), -path(positions, &arcs, &weights, -1.0));
            let rounding = ROUNDING * magnitude(positions, &arcs, &weights);
            if least > capacity + rounding {
                short.push(Shortage { constraint, least, capacity });
            } else if most > capacity - rounding {
                rows.push(row(constraint, positions, &arcs, weights, capacity, rounding));
            }
        }
        if !short.is_empty() {
            return Err(short);
        }
        Ok(Self::assemble(positions, arcs, needed(rows)))
    }

    fn assemble(positions: usize, arcs: Vec<Arc>, rows: Vec<Row>) -> Self {
        let weights = (0..arcs.len()).flat_map(|a| rows.iter().map(move |row| row.weights[a])).collect();
        let typical = |row: &Row| {
            let sum: f64 = row.weights.iter().map(|w| w.abs()).sum();
            if sum > 0.0 { row.weights.len() as f64 / sum } else { 1.0 }
        };
        Self {
            positions,
            weights,
            rows: rows.len(),
            capacities: rows.iter().map(|row| row.capacity).collect(),
            constraints: rows.iter().map(|row| row.constraint).collect(),
            units: rows.iter().map(|row| row.unit).collect(),
            scales: rows.iter().map(typical).collect(),
            arcs,
        }
    }

    pub(super) fn weights_of(&self, arc: u32) -> &[f64] {
        let start = arc as usize * self.rows;
        &self.weights[start..start + self.rows]
    }

    /// Every arc.
    pub(super) fn all(&self) -> Vec<u32> {
        (0..self.arcs.len() as u32).collect()
    }

    /// Arcs that lead the same way as `arc`.
    pub(super) fn alternatives(&self, arc: u32) -> Range<u32> {
        let Arc { first, next, .. } = self.arcs[arc as usize];
        let low = self.arcs.partition_point(|a| (a.first, a.next) < (first, next));
        let high = self.arcs.partition_point(|a| (a.first, a.next) <= (first, next));
        low as u32..high as u32
    }

    /// Loss and weights of a path.
    pub(super) fn sums(&self, path: &[u32]) -> (f64, Vec<f64>) {
        let mut sums = vec![0.0; self.rows];
        for &arc in path {
            sums.iter_mut().zip(self.weights_of(arc)).for_each(|(sum, weight)| *sum += weight);
        }
        (path.iter().map(|&arc| self.arcs[arc as usize].loss).sum(), sums)
    }
}

/// Arcs that no other beats: of those that lead the same way, one that loses and weighs no less than another goes.
fn undominated(arcs: &[Arc], columns: &[Vec<f64>]) -> Vec<usize> {
    let beats = |a: usize, b: usize| {
        let no_worse = arcs[a].loss <= arcs[b].loss && columns.iter().all(|w| w[a] <= w[b]);
        let same = || arcs[a].loss == arcs[b].loss && columns.iter().all(|w| w[a] == w[b]);
        no_worse && (a < b || !same())
    };
    let mut kept = Vec::new();
    for bucket in arcs.chunk_by(|a, b| (a.first, a.next) == (b.first, b.next)) {
        let offset = arcs.partition_point(|a| (a.first, a.next) < (bucket[0].first, bucket[0].next));
        let range = offset..offset + bucket.len();
        kept.extend(range.clone().filter(|&b| !range.clone().any(|a| a != b && beats(a, b))));
    }
    kept
}

/// Least sum of `sign x weights` over all paths.
fn path(positions: usize, arcs: &[Arc], weights: &[f64], sign: f64) -> f64 {
    let mut least = vec![f64::INFINITY; positions + 1];
    least[0] = 0.0;
    for (arc, weight) in arcs.iter().zip(weights) {
        least[arc.next] = least[arc.next].min(least[arc.first] + sign * weight);
    }
    least[positions]
}

/// Sum over the positions of the largest weight that starts there.
fn magnitude(positions: usize, arcs: &[Arc], weights: &[f64]) -> f64 {
    let mut largest = vec![0.0f64; positions];
    for (arc, weight) in arcs.iter().zip(weights) {
        largest[arc.first] = largest[arc.first].max(weight.abs());
    }
    largest.iter().sum()
}

fn row(
    constraint: usize,
    positions: usize,
    arcs: &[Arc],
    mut weights: Vec<f64>,
    capacity: f64,
    rounding: f64,
) -> Row {
    let mut base = vec![f64::INFINITY; positions];
    for (arc, &weight) in arcs.iter().zip(&weights) {
        if arc.next == arc.first + 1 {
            base[arc.first] = base[arc.first].min(weight);
        }
    }
    base.iter_mut().filter(|b| b.is_infinite()).for_each(|b| *b = 0.0);
    for (arc, weight) in arcs.iter().zip(&mut weights) {
        *weight -= base[arc.first..arc.next].iter().sum::<f64>();
    }
    let room = capacity - base.iter().sum::<f64>();
    match lattice(&weights, positions) {
        Some(Lattice { step, error }) => {
            weights.iter_mut().for_each(|weight| *weight = (*weight / step).round());
            let capacity = ((room + error * positions as f64 + rounding) / step).floor();
            Row { constraint, weights, capacity, unit: step }
        }
        None => Row { constraint, weights, capacity: room + rounding, unit: 1.0 },
    }
}

/// Rows that another does not imply: it weighs every arc at least as much and allows no more.
fn needed(rows: Vec<Row>) -> Vec<Row> {
    let implies = |a: &Row, b: &Row| {
        let (x, y) = (a.unit, b.unit);
        let heavier = || a.weights.iter().zip(&b.weights).all(|(w, v)| w * x >= v * y);
        a.capacity * x <= b.capacity * y && heavier()
    };
    let is_needed = |b: usize| {
        let by = |a: usize| a != b && implies(&rows[a], &rows[b]) && (a < b || !implies(&rows[b], &rows[a]));
        !(0..rows.len()).any(by)
    };
    let needed: Vec<bool> = (0..rows.len()).map(is_needed).collect();
    rows.into_iter().zip(needed).filter_map(|(row, needed)| needed.then_some(row)).collect()
}
