//! The same calls on two profiles: ratios B / A, their distribution, and where on each axis B wins.

use serde::Serialize;

use crate::hardware::comparison::stretch::{self, Stretch};
use crate::hardware::kernel::KernelCall;
use crate::hardware::latency::accuracy::quantile;
use crate::units::Seconds;

/// A latency with what it may be off by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Measured, or estimated.
    pub latency: Seconds,
    /// Lower end: a measurement less the spread of its repeats, or an estimate's 90 % interval.
    pub low: Seconds,
    /// Upper end.
    pub high: Seconds,
    /// Spread of the repeats as a share; `None` for estimates and for rows that do not state it.
    pub spread: Option<f64>,
}

impl Timing {
    /// A measured row; one that does not state its spread is taken at its word.
    pub fn measured(latency: Seconds, spread: Option<f64>) -> Self {
        let off = latency * spread.unwrap_or(0.0);
        Self { latency, low: (latency - off).max(Seconds::ZERO), high: latency + off, spread }
    }
}

/// One call on both profiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The call.
    pub call: KernelCall,
    /// On the first profile.
    pub a: Timing,
    /// On the second profile.
    pub b: Timing,
}

impl Pair {
    /// B / A; below one, B is faster.
    pub fn ratio(&self) -> f64 {
        self.b.latency / self.a.latency
    }

    /// B is faster by more than both may be off.
    pub fn faster(&self) -> bool {
        self.b.high < self.a.low
    }

    /// B is slower by more than both may be off.
    pub fn slower(&self) -> bool {
        self.b.low > self.a.high
    }

    fn log_ratio(&self) -> f64 {
        self.ratio().ln()
    }
}

/// Ratios B / A of a set of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RatioSummary {
    /// Calls.
    pub n: usize,
    /// Of them, calls whose spread both profiles state.
    pub n_with_spread: usize,
    /// Tenth percentile.
    pub p10_ratio: f64,
    /// Median.
    pub median_ratio: f64,
    /// Ninetieth percentile.
    pub p90_ratio: f64,
    /// Geometric mean.
    pub geometric_mean_ratio: f64,
    /// Share of calls on which B is faster by more than both may be off.
    pub faster_percent: f64,
    /// Share of calls on which B is slower by more than both may be off.
    pub slower_percent: f64,
}

impl RatioSummary {
    /// Of some calls; zeros of none.
    pub fn of<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> Self {
        let pairs: Vec<&Pair> = pairs.into_iter().collect();
        let mut ratios: Vec<f64> = pairs.iter().map(|pair| pair.ratio()).collect();
        let n = pairs.len();
        if n == 0 {
            return Self::default();
        }
        let count = |is: &dyn Fn(&Pair) -> bool| pairs.iter().filter(|pair| is(pair)).count();
        let percent = |count: usize| 100.0 * count as f64 / n as f64;
        Self {
            n,
            n_with_spread: count(&|pair| pair.a.spread.is_some() && pair.b.spread.is_some()),
            p10_ratio: quantile(&mut ratios, 0.1),
            median_ratio: quantile(&mut ratios, 0.5),
            p90_ratio: quantile(&mut ratios, 0.9),
            geometric_mean_ratio: (pairs.iter().map(|pair| pair.log_ratio()).sum::<f64>() / n as f64).exp(),
            faster_percent: percent(count(&Pair::faster)),
            slower_percent: percent(count(&Pair::slower)),
        }
    }
}

/// Ratios of the calls of one stretch of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RatioBin {
    /// The axis: a dimension of the call, or `latency_us` of the first profile.
    pub axis: &'static str,
    /// Which part of it.
    #[serde(flatten)]
    pub stretch: Stretch,
    /// The ratios.
    #[serde(flatten)]
    pub ratios: RatioSummary,
}

/// The latency of the first profile as an axis.
pub const LATENCY: &str = "latency_us";

/// Ratios by decade of the first profile's latency, then of every dimension.
pub fn by_decade(pairs: &[Pair]) -> Vec<RatioBin> {
    let Some(first) = pairs.first() else { return Vec::new() };
    let dimensions = first.call.dimensions();
    let axes = std::iter::once(LATENCY).chain(dimensions.iter().map(|(name, _)| *name));
    let place = |pair: &Pair, axis: &str| match axis {
        LATENCY => pair.a.latency.us(),
        _ => {
            let found = pair.call.dimensions().into_iter().find(|(name, _)| *name == axis);
            found.map_or(0.0, |(_, value)| value as f64)
        }
    };
    axes.flat_map(|axis| {
        let dealt = stretch::deal(pairs.iter().map(|pair| (place(pair, axis), pair)), 1);
        dealt.into_iter().map(move |(stretch, pairs)| RatioBin {
            axis,
            stretch,
            ratios: RatioSummary::of(pairs),
        })
    })
    .collect()
}

/// Indices of the calls that gained most (B faster) and lost most, `most` of each, largest change first. Calls
/// that did not change are in neither.
pub fn largest_changes(pairs: &[Pair], most: usize) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<(usize, f64)> =
        pairs.iter().enumerate().map(|(i, pair)| (i, pair.log_ratio())).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    let gained = order.iter().take_while(|(_, change)| *change < 0.0).take(most).map(|(i, _)| *i).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let lost = order.iter().take_while(|(_, change)| *change > 0.0).take(most).map(|(i, _)| *i).collect();
    (gained, lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::DType;

    fn pair(m: u64, a: f64, b: f64, spread: Option<f64>) -> Pair {
        let call = KernelCall::Gemm { m, n: 64, k: 64, dtype: DType::Bf16 };
        let timing = |us: f64| Timing::measured(Seconds::from_us(us), spread);
        Pair { call, a: timing(a), b: timing(b) }
    }

    /// Ratios 1/2, 1, 2, 4: worked out by hand.
    fn pairs() -> [Pair; 4] {
        [
            pair(1, 10.0, 5.0, Some(0.1)),
            pair(2, 10.0, 10.0, Some(0.1)),
            pair(10, 10.0, 20.0, None),
            pair(20, 100.0, 400.0, Some(0.7)),
        ]
    }

    #[test]
    fn a_summary_counts_what_it_says() {
        let found = RatioSummary::of(&pairs());
        assert_eq!((found.n, found.n_with_spread), (4, 3));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(found.median_ratio, 1.5) && near(found.p10_ratio, 0.65) && near(found.p90_ratio, 3.4));
        assert!(near(found.geometric_mean_ratio, 4f64.powf(0.25)), "{found:?}");
        // 400 x 0.3 = 120 does not clear 100 x 1.7 = 170, though the ratio is four.
        assert_eq!((found.faster_percent, found.slower_percent), (25.0, 25.0));
        assert_eq!(RatioSummary::of(&[]), RatioSummary::default());
    }

    #[test]
    fn decades_are_those_of_the_axis() {
        let bins = by_decade(&pairs());
        let shown: Vec<_> =
            bins.iter().map(|b| (b.axis, b.stretch.low, b.ratios.n, b.ratios.median_ratio)).collect();
        assert_eq!(
            shown,
            [
                ("latency_us", 10.0, 3, 1.0),
                ("latency_us", 100.0, 1, 4.0),
                ("m", 1.0, 2, 0.75),
                ("m", 10.0, 2, 3.0),
                ("n", 10.0, 4, 1.5),
                ("k", 10.0, 4, 1.5),
            ]
        );
    }

    #[test]
    fn largest_changes_come_first_and_stillness_is_none() {
        assert_eq!(largest_changes(&pairs(), 9), (vec![0], vec![3, 2]));
        assert_eq!(largest_changes(&pairs(), 1), (vec![0], vec![3]));
    }
}
