//! A score as a function of size: between the sizes that were measured, and never better for being smaller.

use crate::quality::scores::Measured;

/// A number of nats with its variance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nats {
    /// Nats a token.
    pub mean: f64,
    /// Variance of the mean.
    pub variance: f64,
}

impl From<Measured> for Nats {
    fn from(measured: Measured) -> Self {
        let error = measured.standard_error.unwrap_or(0.0);
        Self { mean: measured.mean, variance: error * error }
    }
}

/// Sums of independent numbers.
impl std::iter::Sum for Nats {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self { mean: a.mean + b.mean, variance: a.variance + b.variance })
    }
}

/// What one part of one layer loses at each size.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Sizes, ascending, the last is the parent's own; with what is lost there.
    points: Vec<(u64, Nats)>,
}

impl Curve {
    /// Through measured points: isotonic regression (pool adjacent violators, weighted by inverse variance), since a
    /// smaller part that loses less is noise. At its own size the part loses nothing.
    pub fn through(whole: u64, measured: impl IntoIterator<Item = (u64, Nats)>) -> Self {
        let mut points: Vec<(u64, Nats)> = measured.into_iter().filter(|(size, _)| *size < whole).collect();
        points.sort_by_key(|(size, _)| *size);
        points.dedup_by_key(|(size, _)| *size);
        points.push((whole, Nats::default()));
        // From the whole down, losses may only rise; pools of (sum of weights, weighted mean, members).
        let mut pools: Vec<(f64, f64, usize)> = Vec::new();
        for (size, nats) in points.iter().rev() {
            let weight = if *size == whole { 1e18 } else { 1.0 / nats.variance.max(1e-12) };
            pools.push((weight, nats.mean, 1));
            while let [.., before, last] = pools.as_slice()
                && last.1 < before.1
            {
                let weight = before.0 + last.0;
                let mean = (before.0 * before.1 + last.0 * last.1) / weight;
                let pooled = (weight, mean, before.2 + last.2);
                pools.truncate(pools.len() - 2);
                pools.push(pooled);
            }
        }
        let means = pools.iter().flat_map(|(_, mean, members)| std::iter::repeat_n(*mean, *members));
        for ((size, nats), mean) in points.iter_mut().rev().zip(means) {
            nats.mean = if *size == whole { 0.0 } else { mean };
        }
        Self { points }
    }

    /// What is lost at `size`, linear between measured sizes; none below the least of them or above the whole.
    pub fn at(&self, size: u64) -> Option<Nats> {
        let above = self.points.partition_point(|(measured, _)| *measured < size);
        let (high, upper) = *self.points.get(above)?;
        if high == size {
            return Some(upper);
        }
        let (low, lower) = *self.points.get(above.checked_sub(1)?)?;
        let share = (size - low) as f64 / (high - low) as f64;
        let between = |low: f64, high: f64| low + share * (high - low);
        Some(Nats {
            mean: between(lower.mean, upper.mean),
            variance: between(lower.variance.sqrt(), upper.variance.sqrt()).powi(2),
        })
    }

    /// The sizes that were measured, and the whole, ascending.
    pub fn sizes(&self) -> impl Iterator<Item = u64> + '_ {
        self.points.iter().map(|(size, _)| *size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nats(mean: f64) -> Nats {
        Nats { mean, variance: 1e-4 }
    }

    #[test]
    fn passes_through_what_was_measured_and_is_linear_between() {
        let curve = Curve::through(8, [(2, nats(0.6)), (4, nats(0.2))]);
        let mean = |size| curve.at(size).map(|nats| nats.mean);
        assert_eq!((mean(2), mean(4), mean(8)), (Some(0.6), Some(0.2), Some(0.0)));
        assert!((mean(3).unwrap() - 0.4).abs() < 1e-12 && (mean(6).unwrap() - 0.1).abs() < 1e-12);
        assert_eq!((mean(1), mean(9)), (None, None));
    }

    #[test]
    fn violations_are_pooled_by_their_weight() {
        let curve = Curve::through(8, [(6, nats(0.3)), (4, Nats { mean: 0.1, variance: 1e-4 / 3.0 })]);
        // (1 x 0.3 + 3 x 0.1) / 4.
        assert!((curve.at(4).unwrap().mean - 0.15).abs() < 1e-9);
        assert_eq!(curve.at(4).unwrap().mean, curve.at(6).unwrap().mean);
        // Less lost than nothing is nothing.
        assert!(Curve::through(8, [(4, nats(-0.2))]).at(4).unwrap().mean.abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn never_better_for_being_smaller(points in proptest::collection::vec((0u64..40, -1.0..3.0f64), 0..12)) {
            let curve = Curve::through(40, points.into_iter().map(|(size, mean)| (size, nats(mean))));
            let means: Vec<f64> = (0..=40).filter_map(|size| curve.at(size)).map(|n| n.mean).collect();
            prop_assert!(means.windows(2).all(|pair| pair[0] >= pair[1] - 1e-9), "{means:?}");
            prop_assert!(means.last().is_some_and(|last| *last == 0.0));
        }
    }
}
