//! The interval of a predicted accuracy: as wide as the errors on parents the fit has not seen.
//!
//! Errors grow with the cut, so they count in units of one point plus the predicted drop. They are far larger
//! for children that were hardly retrained, so those have an interval of their own.

use serde::{Deserialize, Serialize};

/// Share of unseen parents' figures the intervals are made to cover.
pub const COVERAGE: f64 = 0.8;

/// Recovery tokens, in billions, from which a child counts as retrained. The table has none between 2 and 50.
pub const RETRAINED_FROM_B: f64 = 10.0;

/// Half-widths of the interval, in [`unit_points`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalScales {
    /// For children retrained on [`RETRAINED_FROM_B`] or more.
    pub retrained: f64,
    /// For the others.
    pub barely_retrained: f64,
}

impl IntervalScales {
    /// The half-width after `tokens_b` billion recovery tokens.
    pub fn after(&self, tokens_b: f64) -> f64 {
        if tokens_b >= RETRAINED_FROM_B { self.retrained } else { self.barely_retrained }
    }

    /// The half-widths that cover [`COVERAGE`] of errors given as (recovery tokens in billions, error in
    /// [`unit_points`]): the split-conformal quantile of each kind.
    pub fn covering(errors: &[(f64, f64)]) -> Self {
        let of_kind = |retrained: bool| {
            let kind = errors.iter().filter(|(tokens_b, _)| (*tokens_b >= RETRAINED_FROM_B) == retrained);
            quantile(kind.map(|(_, error)| *error).collect())
        };
        Self { retrained: of_kind(true), barely_retrained: of_kind(false) }
    }
}

/// Unit of the interval in points of accuracy.
pub fn unit_points(parent_percent: f64, predicted_percent: f64) -> f64 {
    1.0 + (parent_percent - predicted_percent).max(0.0)
}

fn quantile(mut errors: Vec<f64>) -> f64 {
    errors.sort_by(f64::total_cmp);
    let rank = ((errors.len() + 1) as f64 * COVERAGE).ceil() as usize;
    errors.get(rank.min(errors.len()).saturating_sub(1)).copied().unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_cover_the_stated_share_of_each_kind() {
        let errors: Vec<(f64, f64)> =
            (1..=99).flat_map(|i| [(0.0, f64::from(i)), (50.0, 0.1 * f64::from(i))]).collect();
        let scales = IntervalScales::covering(&errors);
        assert_eq!((scales.barely_retrained, scales.after(100.0)), (80.0, 8.0));
    }
}
