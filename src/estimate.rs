//! A number that knows its origin: value, interval, source and named contributions.

pub mod chance;

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a number comes from, from the most to the least trustworthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A measured row, as measured.
    Measured,
    /// Scores measured on the user's own checkpoint.
    Scores,
    /// A model fitted to measured rows.
    Fitted,
    /// A rule (bytes moved, data-sheet peaks) with no row behind it.
    Estimated,
    /// Published tables of other models.
    Prior,
}

impl Source {
    /// Name as it stands in JSON and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Source::Measured => "measured",
            Source::Scores => "scores",
            Source::Fitted => "fitted",
            Source::Estimated => "estimated",
            Source::Prior => "prior",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A value with an interval and its origin. The unit is the owner's (see the field that holds it).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Best single value.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Least trustworthy source that contributed materially.
    pub source: Source,
}

impl Estimate {
    /// An exact number: no interval.
    pub fn exact(value: f64, source: Source) -> Self {
        Self { value, low: value, high: value, source }
    }

    /// `value` with relative log-normal spread `sigma` at `z` standard deviations either way.
    pub fn with_log_sigma(value: f64, sigma: f64, z: f64, source: Source) -> Self {
        let factor = (sigma * z).exp();
        Self { value, low: value / factor, high: value * factor, source }
    }

    /// Same origin, every number mapped by a monotone function (`low` and `high` swap when it falls).
    pub fn map(self, f: impl Fn(f64) -> f64) -> Self {
        let (a, b) = (f(self.low), f(self.high));
        Self { value: f(self.value), low: a.min(b), high: a.max(b), source: self.source }
    }
}
