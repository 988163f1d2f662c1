//! How wide an estimate's interval must be: split-conformal quantiles of kept-out errors.
//!
//! Errors are grouped by how much the interpolations disagree, the best sign of a hard query, and by whether
//! the query lies beyond the measured rows; each group's 90 % quantile becomes its log-normal spread.

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
        for h in held {
            let error = (h.target - mix.apply(&h.answers)).abs();
            if h.beyond { beyond.push(error) } else { inside.push((h.disagreement, error)) }
        }
        inside.sort_by(|a, b| a.0.total_cmp(&b.0));
        let size = inside.len().div_ceil(GROUPS).max(FEWEST);
        let mut groups: Vec<(f64, f64)> = Vec::new();
        let mut start = 0;
        while start < inside.len() {
            let end = if inside.len() - start < size + FEWEST { inside.len() } else { start + size };
            let errors: Vec<f64> = inside[start..end].iter().map(|e| e.1).collect();
            groups.push((inside[end - 1].0, sigma(errors)));
            start = end;
        }
        let widest = groups.iter().map(|g| g.1).fold(0.0, f64::max);
        let beyond = if beyond.len() >= FEWEST { sigma(beyond) } else { 2.0 * widest.max(UNTRIED / 2.0) };
        Self { inside: groups, beyond }
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

/// Log sigma whose two-sided 90 % holds 90 % of such errors (with the finite-sample correction).
fn sigma(mut errors: Vec<f64>) -> f64 {
    errors.sort_by(f64::total_cmp);
    let n = errors.len();
    let rank = ((0.9 * (n + 1) as f64).ceil() as usize).clamp(1, n.max(1));
    errors.get(rank - 1).map_or(UNTRIED, |e| (e / Z90).max(NARROWEST))
}
