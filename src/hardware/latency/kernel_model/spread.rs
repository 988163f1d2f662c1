//! How wide an estimate's interval must be: split-conformal quantiles of kept-out errors.
//!
//! Errors are grouped by how much the interpolations disagree, the best sign of a hard query, and by whether
//! the query lies beyond the measured rows; each group's 90 % quantile becomes its log-normal spread.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::hardware::latency::cost::Z90;
use crate::hardware::latency::kernel_model::crossval::{Held, Mix};

/// Groups of disagreement.
const GROUPS: usize = 6;
/// Fewest kept-out rows a group's quantile stands on.
const FEWEST: usize = 30;
/// Spread of an estimate whose pattern no row could be tried in.
const UNTRIED: f64 = 0.35;
/// Never narrower: repeated measurements on one machine differ by this much.
const NARROWEST: f64 = 0.003;

/// Spread of one pattern's estimates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// `(largest disagreement of the group, log sigma)`, ascending.
    inside: Vec<(f64, f64)>,
    /// Log sigma of queries beyond the rows.
    beyond: f64,
}

impl Spread {
    /// From kept-out rows and the mix that would answer them.
    pub fn learn<'a>(held: impl Iterator<Item = &'a Held>, mix: &Mix) -> Self {
        let (mut inside, mut beyond) = (Vec::new(), Vec::new());
        let mut groups = HashSet::new();
        for h in held {
            groups.insert(h.group);
            let error = (h.target - mix.apply(&h.answers, h.beyond)).abs();
            if h.beyond { beyond.push(error) } else { inside.push((h.disagreement, error)) }
        }
        inside.sort_by(|a, b| a.0.total_cmp(&b.0));
        let size = inside.len().div_ceil(GROUPS).max(FEWEST);
        let level = level(groups.len());
        let mut steps: Vec<(f64, f64)> = Vec::new();
        let mut start = 0;
        while start < inside.len() {
            let mut end = if inside.len() - start < size + FEWEST { inside.len() } else { start + size };
            while end < inside.len() && inside[end].0 == inside[end - 1].0 {
                end += 1;
            }
            let errors: Vec<f64> = inside[start..end].iter().map(|e| e.1).collect();
            steps.push((inside[end - 1].0, sigma(errors, level)));
            start = end;
        }
        let widest = steps.iter().map(|g| g.1).fold(0.0, f64::max);
        let beyond =
            if beyond.len() >= FEWEST { sigma(beyond, level) } else { 2.0 * widest.max(UNTRIED / 2.0) };
        Self { inside: steps, beyond }
    }

    /// Log sigma of an estimate.
    pub fn log_sigma(&self, disagreement: f64, beyond: bool) -> f64 {
        if beyond {
            return self.beyond;
        }
        let group = self.inside.iter().find(|g| disagreement <= g.0).or(self.inside.last());
        group.map_or(UNTRIED, |g| g.1)
    }
}

/// Quantile to take so that 90 % of a *new* group's errors are held: rows that were kept out together err
/// alike, so that it is the number of groups that counts (the conformal correction with groups for samples).
fn level(groups: usize) -> f64 {
    /// With a handful of groups the correction would ask for the worst error of all; this is as far as it goes.
    const HIGHEST: f64 = 0.97;
    let n = groups.max(1) as f64;
    (0.9 * (n + 1.0) / n).min(HIGHEST)
}

/// Log sigma whose two-sided 90 % is the `level` quantile of such errors.
fn sigma(mut errors: Vec<f64>, level: f64) -> f64 {
    errors.sort_by(f64::total_cmp);
    let n = errors.len();
    let rank = ((level * n as f64).ceil() as usize).clamp(1, n.max(1));
    errors.get(rank - 1).map_or(UNTRIED, |e| (e / Z90).max(NARROWEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::latency::kernel_model::members::Answers;

    fn held(i: usize, groups: usize, error: f64) -> Held {
        let disagreement = if i.is_multiple_of(2) { 0.01 } else { 0.1 };
        Held {
            row: i,
            fold: 0,
            group: i % groups,
            answers: Answers::default(),
            disagreement,
            beyond: false,
            target: error * disagreement,
            weight: 1.0,
        }
    }

    #[test]
    fn wider_where_interpolations_disagree_and_beyond_the_rows() {
        let all: Vec<Held> = (0..1000).map(|i| held(i, 1000, (i % 100) as f64 / 100.0)).collect();
        let spread = Spread::learn(all.iter(), &Mix::NONE);
        assert!(spread.log_sigma(0.01, false) < spread.log_sigma(0.1, false));
        assert!(spread.log_sigma(0.1, false) < spread.log_sigma(0.1, true));
        let covered =
            all.iter().filter(|h| h.target.abs() <= Z90 * spread.log_sigma(h.disagreement, false)).count();
        assert!((890..=920).contains(&covered), "{covered}");
    }

    #[test]
    fn few_groups_ask_for_more() {
        assert!(level(4) > level(22) && level(22) > level(1000));
        let of = |groups| {
            let all: Vec<Held> = (0..1000).map(|i| held(i, groups, (i % 97) as f64 / 97.0)).collect();
            Spread::learn(all.iter(), &Mix::NONE).log_sigma(0.1, false)
        };
        assert!(of(4) > of(1000));
    }

    #[test]
    fn nothing_tried_is_wide() {
        let spread = Spread::learn([].iter(), &Mix::NONE);
        assert!(spread.log_sigma(0.0, false) >= UNTRIED && spread.log_sigma(0.0, true) >= UNTRIED);
    }
}
