//! Measured rows beside what was said of them by an estimator that had not seen them.

use std::collections::BTreeMap;

use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::latency::cost::Z90;
use crate::hardware::latency::kernel_model::scores::{Miss, Score};
use crate::hardware::profile::table::Row;
use crate::units::{DType, Seconds};

/// A row and its prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredRow {
    /// The call.
    pub call: KernelCall,
    /// What was measured.
    pub measured: Seconds,
    /// How far the prediction is off, and the spread it stated.
    pub miss: Miss,
    /// Relative spread of the measurement's repeats (a robust standard deviation), where the table states it.
    pub spread: Option<f64>,
}

impl ScoredRow {
    /// What was predicted.
    pub fn predicted(&self) -> Seconds {
        self.measured * self.miss.log_error.exp()
    }

    /// The stated 90 % interval.
    pub fn interval(&self) -> (Seconds, Seconds) {
        let factor = (Z90 * self.miss.log_sigma).exp();
        (self.predicted() / factor, self.predicted() * factor)
    }

    /// Signed error in percent of the measured latency; positive: predicted too slow.
    pub fn error_percent(&self) -> f64 {
        (self.miss.log_error.exp() - 1.0) * 100.0
    }
}

/// Rows of one family and element type that were kept out in one way.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredSet {
    /// Kernel family.
    pub family: KernelFamily,
    /// Element type; none for all-reduce.
    pub dtype: Option<DType>,
    /// What was kept out, as in [`Score::holdout`].
    pub holdout: String,
    /// The rows.
    pub rows: Vec<ScoredRow>,
}

impl ScoredSet {
    /// The set in figures; `None` without rows.
    pub fn score(&self) -> Option<Score> {
        let misses: Vec<Miss> = self.rows.iter().map(|row| row.miss).collect();
        Score::of(self.family, self.dtype, &self.holdout, &misses)
    }

    /// Takes the spread of each row's repeats from the table the rows come from.
    pub fn with_spreads(mut self, table: &[Row]) -> Self {
        let spreads: BTreeMap<KernelCall, f64> =
            table.iter().filter_map(|row| Some((row.call, row.spread?))).collect();
        for row in &mut self.rows {
            row.spread = spreads.get(&row.call).copied();
        }
        self
    }
}
