//! Errors of estimates by the size of the call, and the rows that err most.

use serde::Serialize;

use crate::hardware::comparison::stretch::{self, Stretch};
use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::latency::accuracy::quantile;
use crate::hardware::latency::kernel_model::scored::{ScoredRow, ScoredSet};
use crate::hardware::latency::percent_errors::PercentErrors;
use crate::units::Seconds;

/// What tells small calls from large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// Measured latency in microseconds.
    LatencyUs,
    /// Operations of the call.
    Flops,
    /// Operations per byte it must move at least.
    FlopsPerByte,
    /// Bytes of the buffer.
    Bytes,
}

impl Size {
    /// The sizes that mean something for a family.
    pub fn of_family(family: KernelFamily) -> &'static [Size] {
        match family {
            KernelFamily::AllReduce | KernelFamily::Elementwise => &[Size::LatencyUs, Size::Bytes],
            _ => &[Size::LatencyUs, Size::Flops, Size::FlopsPerByte],
        }
    }

    /// Words for an axis, with the unit.
    pub fn label(self) -> &'static str {
        match self {
            Size::LatencyUs => "measured latency (µs)",
            Size::Flops => "operations of the call (FLOP)",
            Size::FlopsPerByte => "arithmetic intensity (FLOP per byte moved)",
            Size::Bytes => "buffer (bytes)",
        }
    }

    /// The size of a call that takes `latency`.
    pub fn of(self, call: &KernelCall, latency: Seconds) -> f64 {
        match self {
            Size::LatencyUs => latency.us(),
            Size::Flops => call.flops().0,
            Size::FlopsPerByte => call.flops().0 / call.bytes().0,
            Size::Bytes => call.bytes().0,
        }
    }

    /// Stretches to a factor of ten: intensities span few decades.
    pub(crate) fn per_decade(self) -> u32 {
        if self == Size::FlopsPerByte { 2 } else { 1 }
    }
}

/// Errors of the calls of one stretch of sizes; all but `n` in percent of the measured latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ErrorBin {
    /// Which sizes.
    #[serde(flatten)]
    pub stretch: Stretch,
    /// Rows.
    pub n: usize,
    /// Tenth percentile of the signed error; positive: predicted too slow.
    pub p10_error_percent: f64,
    /// Median signed error.
    pub median_error_percent: f64,
    /// Ninetieth percentile of the signed error.
    pub p90_error_percent: f64,
    /// Median absolute error.
    pub median_ape_percent: f64,
    /// Ninetieth percentile of the absolute error.
    pub p90_ape_percent: f64,
    /// Share of rows inside the stated 90 % interval.
    pub coverage_percent: f64,
}

/// Errors by size, smallest first.
pub fn by_size(rows: &[ScoredRow], size: Size) -> Vec<ErrorBin> {
    let placed = rows.iter().map(|row| (size.of(&row.call, row.measured), row));
    let bin = |(stretch, rows): (Stretch, Vec<&ScoredRow>)| {
        let of = PercentErrors::of(rows.iter().map(|row| (row.miss.log_error, row.miss.inside())));
        let mut signed: Vec<f64> = rows.iter().map(|row| row.error_percent()).collect();
        ErrorBin {
            stretch,
            n: of.n,
            p10_error_percent: quantile(&mut signed, 0.1),
            median_error_percent: quantile(&mut signed, 0.5),
            p90_error_percent: quantile(&mut signed, 0.9),
            median_ape_percent: of.median_ape,
            p90_ape_percent: of.p90_ape,
            coverage_percent: of.coverage,
        }
    };
    stretch::deal(placed, size.per_decade()).into_iter().map(bin).collect()
}

/// Indices of the `most` rows that err most, worst first; of equal errors the earlier row.
pub fn worst(rows: &[ScoredRow], most: usize) -> Vec<usize> {
    let mut order: Vec<(usize, f64)> =
        rows.iter().enumerate().map(|(i, row)| (i, row.error_percent().abs())).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    order.into_iter().take(most).map(|(i, _)| i).collect()
}

/// Rows that state the spread of their repeats, and its median as a share.
pub fn median_spread(set: &ScoredSet) -> Option<(usize, f64)> {
    let mut spreads: Vec<f64> = set.rows.iter().filter_map(|row| row.spread).collect();
    let n = spreads.len();
    (n > 0).then(|| (n, quantile(&mut spreads, 0.5)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::latency::kernel_model::scores::Miss;
    use crate::units::DType;

    /// A row of `us` microseconds, predicted `percent` too slow, its interval stated ± 5 % or so.
    fn row(m: u64, us: f64, percent: f64) -> ScoredRow {
        let call = KernelCall::Gemm { m, n: 10, k: 10, dtype: DType::Bf16 };
        let miss = Miss { log_error: (1.0 + percent / 100.0).ln(), log_sigma: 0.03 };
        ScoredRow { call, measured: Seconds::from_us(us), miss, spread: None }
    }

    #[test]
    fn errors_by_decade_are_those_of_its_rows() {
        let rows = [row(1, 2.0, 10.0), row(2, 5.0, -2.0), row(3, 5.0, 4.0), row(4, 20.0, 1.0)];
        let bins = by_size(&rows, Size::LatencyUs);
        assert_eq!(bins.iter().map(|b| (b.stretch.low, b.n)).collect::<Vec<_>>(), [(1.0, 3), (10.0, 1)]);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(bins[0].median_error_percent, 4.0) && near(bins[0].median_ape_percent, 4.0));
        assert!(near(bins[0].p90_ape_percent, 10.0), "nearest rank: {:?}", bins[0]);
        // Linear between order statistics: -2 + 0.2 x 6, and 4 + 0.8 x 6.
        assert!(near(bins[0].p10_error_percent, -0.8) && near(bins[0].p90_error_percent, 8.8));
        assert!(near(bins[0].coverage_percent, 200.0 / 3.0));
        // 2 x 1 x 10 x 10 operations, and 10 m + 100 + 10 m numbers of two bytes.
        assert!(near(Size::Flops.of(&rows[0].call, Seconds(1.0)), 200.0));
        assert!(near(Size::FlopsPerByte.of(&rows[0].call, Seconds(1.0)), 200.0 / 240.0));
    }

    #[test]
    fn the_worst_come_first() {
        let rows = [row(1, 2.0, 10.0), row(2, 5.0, -12.0), row(3, 5.0, 10.0), row(4, 20.0, 1.0)];
        assert_eq!(worst(&rows, 3), [1, 0, 2]);
        let interval = rows[0].interval();
        assert!((interval.0.us() * interval.1.us() - 2.2f64.powi(2)).abs() < 1e-9);
    }
}
