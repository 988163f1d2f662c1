//! Budgets as typed, and the constraints they are on single figures.

use crate::estimate::chance;
use crate::plan::record::Metric;
use crate::plan::record::recipe::BudgetEcho;
use crate::units::{self, Bytes, Seconds, UnitError};

/// A limit that the shape must keep in every scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// What is limited.
    pub metric: Metric,
    /// The limit, in the unit of the metric.
    pub limit: f64,
    /// What was typed.
    pub typed: String,
}

impl Budget {
    /// Reads a limit with its unit, such as `20ms` for a time or `1.3x` for a speedup.
    pub fn parse(metric: Metric, typed: &str) -> Result<Self, UnitError> {
        let limit = match metric {
            Metric::TtftMs | Metric::TpotMs | Metric::LatencyMs => units::parse_duration(typed)?.ms(),
            Metric::OutputTokensPerS => units::parse_tokens_per_second(typed)?,
            Metric::Params => units::parse_count(typed)?,
            Metric::MemoryGib => units::parse_bytes(typed)?.gib(),
            Metric::Speedup => units::parse_ratio(typed)?,
        };
        Ok(Self { metric, limit, typed: typed.to_string() })
    }

    /// As it stands in the recipe.
    pub fn echo(&self) -> BudgetEcho {
        let (value_si, unit_si) = match self.metric {
            Metric::TtftMs | Metric::TpotMs | Metric::LatencyMs => (Seconds::from_ms(self.limit).0, "s"),
            Metric::OutputTokensPerS => (self.limit, "tok/s"),
            Metric::Params => (self.limit, "parameters"),
            Metric::MemoryGib => (Bytes::from_gib(self.limit).0, "B"),
            Metric::Speedup => (self.limit, "x"),
        };
        BudgetEcho { metric: self.metric, typed: self.typed.clone(), value_si, unit_si: unit_si.to_string() }
    }
}

/// A figure of a shape: best value in the unit of its metric, and relative log-normal spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Best single value.
    pub value: f64,
    /// One standard deviation of its natural logarithm.
    pub log_sigma: f64,
}

/// One budget in one scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constraint {
    /// What is limited.
    pub metric: Metric,
    /// Index into the plan's scenarios; `None` for a limit that needs none.
    pub scenario: Option<usize>,
    /// The limit, in the unit of the metric.
    pub limit: f64,
    /// Index into the plan's budgets.
    pub budget: usize,
}

impl Constraint {
    /// Share of the budget that a figure uses, at `deviations` standard deviations to the bad side: the limit
    /// holds when it is at most 1.
    #[inline]
    pub fn usage(&self, figure: Figure, deviations: f64) -> f64 {
        let margin = if deviations == 0.0 { 1.0 } else { (deviations * figure.log_sigma).exp() };
        if self.metric.at_least() {
            self.limit * margin / figure.value
        } else {
            figure.value * margin / self.limit
        }
    }

    /// Chance that the limit holds, 0 to 1.
    pub fn probability(&self, figure: Figure) -> f64 {
        if self.metric.at_least() {
            // More is better: the chance that limit / value stays at most 1.
            chance::at_most(self.limit, figure.log_sigma, figure.value)
        } else {
            chance::at_most(figure.value, figure.log_sigma, self.limit)
        }
    }

    /// The tightest limit that a usage would keep, in the unit of the metric.
    pub fn nearest(&self, usage: f64) -> f64 {
        if self.metric.at_least() { self.limit / usage } else { self.limit * usage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_in_the_unit_of_their_metric() {
        let limit = |metric, typed| Budget::parse(metric, typed).unwrap().limit;
        assert_eq!(limit(Metric::TtftMs, "0.5s"), 500.0);
        assert_eq!(limit(Metric::MemoryGib, "40GiB"), 40.0);
        assert_eq!(limit(Metric::Params, "6B"), 6e9);
        assert_eq!(limit(Metric::OutputTokensPerS, "2.5ktok/s"), 2500.0);
        assert_eq!(limit(Metric::Speedup, "1.3x"), 1.3);
        assert!(Budget::parse(Metric::TpotMs, "20").is_err());
        let echo = Budget::parse(Metric::TpotMs, "20ms").unwrap().echo();
        assert_eq!((echo.value_si, echo.unit_si.as_str(), echo.typed.as_str()), (0.02, "s", "20ms"));
    }

    #[test]
    fn usage_probability_and_nearest_agree_about_where_the_limit_is() {
        for (metric, limit) in [(Metric::TpotMs, 20.0), (Metric::OutputTokensPerS, 900.0)] {
            let constraint = Constraint { metric, scenario: Some(0), limit, budget: 0 };
            let at = |value| Figure { value, log_sigma: 0.05 };
            assert_eq!(constraint.usage(at(limit), 0.0), 1.0);
            assert_eq!(constraint.probability(at(limit)), 0.5);
            let deviations = chance::normal_quantile(0.9);
            let usage = constraint.usage(at(limit), deviations);
            assert!(usage > 1.0);
            // Moved to the limit that it would just keep, the chance is the confidence asked for.
            let moved = Constraint { limit: constraint.nearest(usage), ..constraint };
            assert!((moved.usage(at(limit), deviations) - 1.0).abs() < 1e-12);
            assert!((moved.probability(at(limit)) - 0.9).abs() < 1e-9);
        }
    }
}
