//! Dominance, Pareto front, knee and hypervolume. Every objective is minimised.
//!
//! Deliberately absent: what the objectives mean, and approximate (epsilon) dominance.

pub mod staircase;

use std::cmp::Ordering;

/// `a` is nowhere worse than `b` and somewhere better (all objectives minimised).
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    let pairs = || a.iter().zip(b);
    pairs().all(|(x, y)| x <= y) && pairs().any(|(x, y)| x < y)
}

/// Positions of the points that no other point dominates, for any number of objectives; of equal points the
/// first stays. Compares every pair: for millions of points in two objectives use
/// [`staircase::Staircase`].
pub fn non_dominated(points: &[Vec<f64>]) -> Vec<usize> {
    let beaten = |i: usize, p: &[f64]| {
        points.iter().enumerate().any(|(j, other)| dominates(other, p) || (j < i && other.as_slice() == p))
    };
    points.iter().enumerate().filter(|(i, p)| !beaten(*i, p)).map(|(i, _)| i).collect()
}

/// Position of the knee of a two-objective front: the point farthest below the straight line between the
/// two ends once both objectives are scaled to 0..1 (the "maximum distance to the chord" rule of
/// Das 1999, On characterizing the knee of the Pareto curve). `None` without a bend: fewer than three points,
/// or none below the line. Of equally distant points the first wins.
pub fn knee(front: &[(f64, f64)]) -> Option<usize> {
    let by_x = |a: &&(f64, f64), b: &&(f64, f64)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1));
    let (first, last) = (front.iter().min_by(by_x)?, front.iter().max_by(by_x)?);
    let (width, height) = (last.0 - first.0, first.1 - last.1);
    if !(width > 0.0 && height > 0.0) {
        return None;
    }
    // In scaled coordinates the chord is x + y = 1; the distance below it is (1 - x - y) / sqrt(2).
    let depth = |p: &(f64, f64)| 1.0 - (p.0 - first.0) / width - (p.1 - last.1) / height;
    let deepest =
        front.iter().enumerate().max_by(|(i, a), (j, b)| depth(a).total_cmp(&depth(b)).then(j.cmp(i)));
    deepest.filter(|(_, p)| depth(p) > 1e-12).map(|(i, _)| i)
}

/// Area that the points dominate within the box that ends at `reference` (larger is better). Points beyond
/// the reference add nothing.
pub fn hypervolume(points: &[(f64, f64)], reference: (f64, f64)) -> f64 {
    let mut inside: Vec<(f64, f64)> =
        points.iter().copied().filter(|p| p.0 < reference.0 && p.1 < reference.1).collect();
    inside.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut floor = reference.1;
    let mut area = 0.0;
    for (x, y) in inside {
        if y.partial_cmp(&floor) == Some(Ordering::Less) {
            area += (reference.0 - x) * (floor - y);
            floor = y;
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dominance_needs_one_strict_gain() {
        assert!(dominates(&[1.0, 2.0], &[1.0, 3.0]));
        assert!(!dominates(&[1.0, 2.0], &[1.0, 2.0]));
        assert!(!dominates(&[1.0, 4.0], &[2.0, 3.0]));
        assert!(dominates(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0]));
    }

    #[test]
    fn equal_points_stay_once() {
        let points = [vec![2.0, 2.0], vec![1.0, 3.0], vec![2.0, 2.0], vec![3.0, 3.0]];
        assert_eq!(non_dominated(&points), [0, 1]);
    }

    #[test]
    fn the_knee_is_where_the_front_bends_most() {
        let front = [(0.0, 10.0), (1.0, 4.0), (2.0, 1.0), (5.0, 0.5), (10.0, 0.0)];
        assert_eq!(knee(&front), Some(2));
        // Scaling an objective moves nothing.
        let scaled: Vec<_> = front.iter().map(|(x, y)| (x * 1e6, y * 1e-3)).collect();
        assert_eq!(knee(&scaled), Some(2));
    }

    #[test]
    fn straight_short_and_hollow_fronts_have_no_knee() {
        assert_eq!(knee(&[]), None);
        assert_eq!(knee(&[(1.0, 1.0)]), None);
        assert_eq!(knee(&[(0.0, 1.0), (1.0, 0.0)]), None);
        assert_eq!(knee(&[(0.0, 2.0), (1.0, 1.0), (2.0, 0.0)]), None);
        assert_eq!(knee(&[(0.0, 2.0), (1.0, 1.9), (2.0, 0.0)]), None);
    }

    #[test]
    fn hypervolume_of_a_hand_drawn_staircase() {
        let points = [(1.0, 3.0), (2.0, 1.0), (2.5, 2.5), (9.0, 0.0)];
        // (4-1)*(4-3) + (4-2)*(3-1); the third is dominated, the fourth beyond the reference.
        assert_eq!(hypervolume(&points, (4.0, 4.0)), 7.0);
        assert_eq!(hypervolume(&[], (1.0, 1.0)), 0.0);
    }

    proptest! {
        #[test]
        fn hypervolume_counts_dominated_unit_cells(cells in prop::collection::vec((0u8..12, 0u8..12), 0..30)) {
            let points: Vec<_> = cells.iter().map(|(x, y)| (f64::from(*x), f64::from(*y))).collect();
            let covered = |x: u8, y: u8| cells.iter().any(|(a, b)| *a <= x && *b <= y);
            let count = (0..10).flat_map(|x| (0..10).map(move |y| (x, y))).filter(|(x, y)| covered(*x, *y)).count();
            prop_assert_eq!(hypervolume(&points, (10.0, 10.0)), count as f64);
        }
    }
}
