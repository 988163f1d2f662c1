//! The exact two-objective Pareto front of a stream of points, kept as a sorted staircase.
//!
//! The result does not depend on the order of the points: of points equal in both objectives the one with
//! the smaller tie value stays, then the one with the smaller id.

/// A point of a two-objective front; both objectives are minimised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// First objective.
    pub x: f64,
    /// Second objective.
    pub y: f64,
    /// Breaks ties between equal points; smaller is preferred.
    pub tie: f64,
    /// Who it is.
    pub id: u64,
}

/// The non-dominated points seen so far, ascending in `x` and strictly descending in `y`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Staircase {
    entries: Vec<Entry>,
}

impl Staircase {
    /// A front that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The front, ascending in `x`.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Shows the front a point, which must be free of NaN.
    #[inline]
    pub fn offer(&mut self, entry: Entry) {
        let after = self.entries.partition_point(|e| e.x <= entry.x);
        match self.entries[..after].last() {
            // The only entry that can beat it is the lowest of those no further right: the nearest.
            Some(left) if beats(left, &entry) => (),
            _ => self.insert(entry, after),
        }
    }

    /// Takes in another front.
    pub fn merge(&mut self, other: Staircase) {
        other.entries.into_iter().for_each(|entry| self.offer(entry));
    }

    #[cold]
    fn insert(&mut self, entry: Entry, after: usize) {
        let from =
            if self.entries[..after].last().is_some_and(|e| e.x == entry.x) { after - 1 } else { after };
        let beaten = self.entries[from..].partition_point(|e| e.y >= entry.y);
        self.entries.splice(from..from + beaten, [entry]);
    }
}

/// `a`, which lies no further right than `b`, makes `b` superfluous.
#[inline]
fn beats(a: &Entry, b: &Entry) -> bool {
    if a.x == b.x && a.y == b.y { (a.tie, a.id) <= (b.tie, b.id) } else { a.y <= b.y }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::front;
    use proptest::prelude::*;

    fn staircase(points: &[(u8, u8)], order: impl Iterator<Item = usize>) -> Staircase {
        let mut stairs = Staircase::new();
        for i in order {
            let (x, y) = points[i];
            stairs.offer(Entry { x: f64::from(x), y: f64::from(y), tie: 0.0, id: i as u64 });
        }
        stairs
    }

    #[test]
    fn ties_go_to_the_smaller_tie_value_then_the_smaller_id() {
        let entry = |tie, id| Entry { x: 1.0, y: 1.0, tie, id };
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let offered = [entry(0.5, 0), entry(0.2, 2), entry(0.2, 1)];
            let mut stairs = Staircase::new();
            order.into_iter().for_each(|i: usize| stairs.offer(offered[i]));
            assert_eq!(stairs.entries(), [entry(0.2, 1)]);
        }
    }

    proptest! {
        // Small integer coordinates make equal x, equal y and equal points common.
        #[test]
        fn agrees_with_the_pairwise_filter_in_any_order(points in prop::collection::vec((0u8..20, 0u8..20), 0..60)) {
            let forward = staircase(&points, 0..points.len());
            let vectors: Vec<Vec<f64>> = points.iter().map(|(x, y)| vec![f64::from(*x), f64::from(*y)]).collect();
            let mut slow: Vec<u64> = front::non_dominated(&vectors).into_iter().map(|i| i as u64).collect();
            let mut fast: Vec<u64> = forward.entries().iter().map(|e| e.id).collect();
            prop_assert!(forward.entries().windows(2).all(|w| w[0].x < w[1].x && w[0].y > w[1].y));
            slow.sort_unstable();
            fast.sort_unstable();
            prop_assert_eq!(slow, fast);
            prop_assert_eq!(&staircase(&points, (0..points.len()).rev()), &forward);
            let mut halves = staircase(&points, 0..points.len() / 2);
            halves.merge(staircase(&points, points.len() / 2..points.len()));
            prop_assert_eq!(&halves, &forward);
        }
    }
}
