//! Keep or drop, unit by unit, from the losses of whole masks alone: keep probabilities moved by policy gradient.
//!
//! After "bypass back-propagation" (arXiv 2406.10576 and its code, ethanygao/backprop-free_LLM_pruning): every unit is kept
//! with a probability of its own, masks are drawn, their losses are told, and the probabilities move along the estimated
//! gradient of the expected loss; a common shift per pool holds the expected number of kept units. The published step is
//! [`Baseline::Recent`]. [`Baseline::Others`] compares masks of one step with each other, on the same text, in units of
//! their usual difference, so that the rate does not depend on how large losses are.
//!
//! Ask and tell: [`Walk::draw`] names the masks of the next step, [`Walk::learn`] takes their losses. What is drawn depends
//! on seed, step and probabilities only, so that a walk that was kept goes on as if it had not stopped.
//!
//! Deliberately absent: what a unit is, how a loss comes about, and any claim of optimality.

use std::f64::consts::PI;
use std::fmt;
use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Steps that a baseline looks back.
const RECENT: usize = 5;
/// Steps over which the usual difference between masks is taken.
const USUAL: usize = 20;

/// Consecutive units of which a fixed number stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The first unit.
    pub first: usize,
    /// Units.
    pub units: usize,
    /// Units that stay.
    pub keep: usize,
}

/// What a mask's loss is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The mean loss of the last five steps, in the loss's own unit, as published.
    Recent,
    /// The mean of the step's other masks, in units of the usual difference.
    Others,
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Baseline::Recent => "recent",
            Baseline::Others => "others",
        })
    }
}

/// How to walk.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Steps in all; the rate falls to nothing over them along a cosine.
    pub steps: u64,
    /// Masks drawn a step, two at least.
    pub masks: usize,
    /// Change of a probability per unit of gradient at the start.
    pub rate: f64,
    /// Baseline.
    pub baseline: Baseline,
    /// Seed of the draws.
    pub seed: u64,
}

/// Why there is nothing to walk.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MaskError {
    /// Pools that are not one after the other, or keep more than they have.
    #[error(
        "pool {pool} has units {first} to {end} and keeps {keep}: expected {expected} as its first unit, and no more kept than there are"
    )]
    Pool {
        /// The pool.
        pool: usize,
        /// Its first unit.
        first: usize,
        /// The unit after its last.
        end: usize,
        /// Units that stay.
        keep: usize,
        /// Where it should begin.
        expected: usize,
    },
    /// Another number of scores than of units, or one that is no finite number.
    #[error("{found} finite scores for {expected} units: expected one each")]
    Scores {
        /// Finite scores.
        found: usize,
        /// Units.
        expected: usize,
    },
    /// Options that lead nowhere.
    #[error(
        "{steps} steps of {masks} masks at a rate of {rate}: expected one step, two masks and a positive rate at least"
    )]
    Options {
        /// Steps.
        steps: u64,
        /// Masks a step.
        masks: usize,
        /// Rate.
        rate: f64,
    },
    /// Losses that do not belong to the masks drawn.
    #[error("{found} finite losses were told of {expected} masks: expected one each")]
    Losses {
        /// Finite losses.
        found: usize,
        /// Masks.
        expected: usize,
    },
}

/// Keep probabilities under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Walk {
    /// Pools, one after the other.
    pub pools: Vec<Pool>,
    /// How it walks.
    pub options: Options,
    /// Probability with which each unit is kept.
    pub keep: Vec<f64>,
    /// Steps done.
    pub step: u64,
    /// Mean losses of the last steps, the latest last.
    pub recent: Vec<f64>,
    /// Mean squared differences between masks of the last steps, the latest last.
    pub differences: Vec<f64>,
}

impl Walk {
    /// Begins: per pool the standardised scores (larger stays) through a sigmoid, shifted to the number to keep.
    ///
    /// # Errors
    /// Pools, scores or options that make no sense.
    pub fn new(pools: Vec<Pool>, scores: &[f64], options: Options) -> Result<Self, MaskError> {
        let Options { steps, masks, rate, .. } = options;
        if steps == 0 || masks < 2 || !(rate > 0.0 && rate.is_finite()) {
            return Err(MaskError::Options { steps, masks, rate });
        }
        let mut expected = 0;
        for (pool, &Pool { first, units, keep }) in pools.iter().enumerate() {
            let end = first.saturating_add(units);
            if first != expected || keep > units {
                return Err(MaskError::Pool { pool, first, end, keep, expected });
            }
            expected = end;
        }
        let found = scores.iter().filter(|score| score.is_finite()).count();
        if found != expected || scores.len() != expected {
            return Err(MaskError::Scores { found, expected });
        }
        let mut keep = scores.to_vec();
        for pool in &pools {
            let of = pool.of_mut(&mut keep);
            let count = of.len().max(1) as f64;
            let mean = of.iter().sum::<f64>() / count;
            let deviation = (of.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
            let standardised = |x: f64| if deviation > 0.0 { (x - mean) / deviation } else { 0.0 };
            of.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-standardised(*x)).exp()));
            project(of, pool.keep as f64);
        }
        Ok(Self { pools, options, keep, step: 0, recent: Vec::new(), differences: Vec::new() })
    }

    /// Every step was done.
    pub fn is_done(&self) -> bool {
        self.step >= self.options.steps
    }

    /// The masks of the next step, `true` = kept.
    pub fn draw(&self) -> Vec<Vec<bool>> {
        let mut random = ChaCha8Rng::seed_from_u64(self.options.seed);
        random.set_stream(self.step);
        let mut mask = || self.keep.iter().map(|keep| random.random::<f64>() < *keep).collect();
        (0..self.options.masks).map(|_| mask()).collect()
    }

    /// Takes the losses of the masks that [`Walk::draw`] named, and moves.
    ///
    /// # Errors
    /// Losses that are not as many, or no finite numbers.
    pub fn learn(&mut self, losses: &[f64]) -> Result<(), MaskError> {
        let (found, expected) = (losses.iter().filter(|loss| loss.is_finite()).count(), self.options.masks);
        if found != expected || losses.len() != expected {
            return Err(MaskError::Losses { found, expected });
        }
        let masks = self.draw();
        let count = masks.len() as f64;
        let mean = losses.iter().sum::<f64>() / count;
        let squares = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (count - 1.0);
        remember(&mut self.differences, squares, USUAL);
        let (baseline, unit) = match self.options.baseline {
            Baseline::Recent if self.recent.is_empty() => (mean, 1.0),
            Baseline::Recent => (self.recent.iter().sum::<f64>() / self.recent.len() as f64, 1.0),
            Baseline::Others => {
                let usual = self.differences.iter().sum::<f64>() / self.differences.len() as f64;
                (mean, usual.sqrt())
            }
        };
        remember(&mut self.recent, mean, RECENT);
        let rate =
            0.5 * self.options.rate * (1.0 + (PI * self.step as f64 / self.options.steps as f64).cos());
        let step = if unit > 0.0 { rate / (unit * (count - 1.0)) } else { 0.0 };
        for (unit, keep) in self.keep.iter_mut().enumerate() {
            let spread = (*keep * (1.0 - *keep)).sqrt();
            if spread > 0.0 {
                let drawn = |mask: &Vec<bool>| f64::from(u8::from(mask.get(unit) == Some(&true)));
                let pull = |(mask, loss): (&Vec<bool>, &f64)| (loss - baseline) * (drawn(mask) - *keep);
                let gradient = masks.iter().zip(losses).map(pull).sum::<f64>() / spread;
                *keep -= step * gradient;
            }
        }
        for pool in &self.pools {
            project(pool.of_mut(&mut self.keep), pool.keep as f64);
        }
        self.step += 1;
        Ok(())
    }

    /// The mask it has come to: of every pool the most probable units; of equals the first.
    pub fn found(&self) -> Vec<bool> {
        let mut mask = vec![false; self.keep.len()];
        for pool in &self.pools {
            let mut order: Vec<usize> = pool.range().collect();
            order.sort_by(|a, b| self.keep[*b].total_cmp(&self.keep[*a]).then(a.cmp(b)));
            order.into_iter().take(pool.keep).for_each(|unit| mask[unit] = true);
        }
        mask
    }
}

impl Pool {
    /// Its units.
    pub fn range(&self) -> Range<usize> {
        self.first..self.first.saturating_add(self.units)
    }

    fn of_mut<'k>(&self, keep: &'k mut [f64]) -> &'k mut [f64] {
        keep.get_mut(self.range()).unwrap_or_default()
    }
}

fn remember(values: &mut Vec<f64>, value: f64, most: usize) {
    values.push(value);
    if values.len() > most {
        values.remove(0);
    }
}

/// Shifts probabilities by a common amount, cut at 0 and 1, so that they add up to `total`: the nearest such point
/// (by bisection, as published).
pub fn project(keep: &mut [f64], total: f64) {
    let shifted = |by: f64| keep.iter().map(|x| (x + by).clamp(0.0, 1.0)).sum::<f64>();
    let most = keep.iter().fold(1.0f64, |most, x| most.max(1.0 + x.abs()));
    let (mut low, mut high) = (-most, most);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if shifted(middle) < total {
            low = middle;
        } else {
            high = middle;
        }
    }
    let by = 0.5 * (low + high);
    keep.iter_mut().for_each(|x| *x = (*x + by).clamp(0.0, 1.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options =
        Options { steps: 1000, masks: 2, rate: 0.02, baseline: Baseline::Others, seed: 1 };
    const WHOLE: Pool = Pool { first: 0, units: 12, keep: 6 };

    /// Units that cost something alone, and pairs of which one can be spared but not both.
    struct Redundant {
        alone: Vec<f64>,
        pairs: Vec<(usize, usize, f64)>,
    }

    impl Redundant {
        fn drawn(seed: u64) -> Self {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            Self {
                alone: (0..12).map(|_| random.random::<f64>()).collect(),
                pairs: (0..4).map(|pair| (pair, 11 - pair, 2.0 + 2.0 * random.random::<f64>())).collect(),
            }
        }

        fn loss(&self, mask: &[bool]) -> f64 {
            let gone = self.alone.iter().zip(mask).filter(|(_, kept)| !**kept).map(|(cost, _)| cost);
            let both = self.pairs.iter().filter(|(a, b, _)| !mask[*a] && !mask[*b]).map(|(_, _, cost)| cost);
            3.0 + gone.sum::<f64>() + both.sum::<f64>()
        }

        /// Losses of all masks that keep six of twelve, ascending.
        fn all(&self) -> Vec<f64> {
            let masks = (0u32..1 << 12).filter(|bits| bits.count_ones() == 6);
            let loss = |bits: u32| self.loss(&(0..12).map(|i| bits >> i & 1 == 1).collect::<Vec<_>>());
            let mut losses: Vec<f64> = masks.map(loss).collect();
            losses.sort_by(f64::total_cmp);
            losses
        }

        fn walk(&self, options: Options) -> Walk {
            let mut walk = Walk::new(vec![WHOLE], &self.alone, options).unwrap();
            while !walk.is_done() {
                let losses: Vec<f64> = walk.draw().iter().map(|mask| self.loss(mask)).collect();
                walk.learn(&losses).unwrap();
            }
            walk
        }
    }

    #[test]
    fn comes_near_the_best_of_all_masks_where_units_stand_in_for_each_other() {
        for baseline in [Baseline::Others, Baseline::Recent] {
            let (mut begun, mut found) = (Vec::new(), Vec::new());
            for seed in 0..20 {
                let problem = Redundant::drawn(seed);
                let all = problem.all();
                let rank = |walk: &Walk| {
                    let loss = problem.loss(&walk.found());
                    all.iter().filter(|other| **other < loss - 1e-9).count()
                };
                let options = Options { seed, baseline, ..OPTIONS };
                begun.push(rank(&Walk::new(vec![WHOLE], &problem.alone, options).unwrap()));
                found.push(rank(&problem.walk(options)));
            }
            begun.sort_unstable();
            found.sort_unstable();
            // Of 924 masks, measured with 2,000 losses: the tenth of 20 is the best, the fifteenth the fourth best; by
            // what units cost alone the tenth is the 247th.
            assert!(begun[9] > 92, "{begun:?}");
            assert!(found[9] <= 2 && found[14] <= 9, "{baseline:?}: {found:?}");
        }
    }

    #[test]
    fn as_many_units_are_kept_as_their_pool_says() {
        let pools = vec![
            Pool { first: 0, units: 5, keep: 2 },
            Pool { first: 5, units: 4, keep: 4 },
            Pool { first: 9, units: 3, keep: 0 },
        ];
        let scores: Vec<f64> = (0..12).map(|i| f64::from(i % 5)).collect();
        let mut walk = Walk::new(pools, &scores, OPTIONS).unwrap();
        for _ in 0..20 {
            let losses: Vec<f64> =
                walk.draw().iter().map(|m| m.iter().filter(|kept| **kept).count() as f64).collect();
            walk.learn(&losses).unwrap();
            let sum = |range: std::ops::Range<usize>| walk.keep[range].iter().sum::<f64>();
            for (found, expected) in [(sum(0..5), 2.0), (sum(5..9), 4.0), (sum(9..12), 0.0)] {
                assert!((found - expected).abs() < 1e-9, "{found} {expected}");
            }
            assert!(walk.keep.iter().all(|keep| (0.0..=1.0).contains(keep)));
        }
        let kept: Vec<usize> =
            walk.found().chunks(1).enumerate().filter(|(_, m)| m[0]).map(|(i, _)| i).collect();
        assert_eq!(kept.len(), 6);
        assert!(kept.ends_with(&[5, 6, 7, 8]));
    }

    #[test]
    fn the_shift_leads_to_the_nearest_point() {
        let mut keep = [0.9, 0.5, -0.4, 0.2];
        let before = keep;
        project(&mut keep, 1.5);
        let far = |at: &[f64]| at.iter().zip(before).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        assert!((keep.iter().sum::<f64>() - 1.5).abs() < 1e-12);
        // Any exchange between two units leads further away.
        for (from, to) in (0..4).flat_map(|i| (0..4).map(move |j| (i, j))).filter(|(i, j)| i != j) {
            let mut other = keep;
            let by = 1e-3f64.min(other[from]).min(1.0 - other[to]);
            (other[from], other[to]) = (other[from] - by, other[to] + by);
            assert!(by == 0.0 || far(&other) > far(&keep), "{from} {to}");
        }
    }

    #[test]
    fn a_walk_that_was_kept_goes_on_as_if_it_had_not_stopped() {
        let problem = Redundant::drawn(3);
        let whole = problem.walk(OPTIONS);
        let mut walk = Walk::new(vec![WHOLE], &problem.alone, OPTIONS).unwrap();
        for _ in 0..OPTIONS.steps {
            let losses: Vec<f64> = walk.draw().iter().map(|mask| problem.loss(mask)).collect();
            walk.learn(&losses).unwrap();
            walk = serde_json::from_str(&serde_json::to_string(&walk).unwrap()).unwrap();
        }
        assert_eq!(walk, whole);
        assert_ne!(problem.walk(Options { seed: 2, ..OPTIONS }).keep, whole.keep);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let new = |pools: &[Pool], scores: &[f64], options| Walk::new(pools.to_vec(), scores, options);
        let gap = Pool { first: 1, units: 2, keep: 1 };
        assert!(matches!(new(&[gap], &[0.0; 3], OPTIONS), Err(MaskError::Pool { pool: 0, .. })));
        let greedy = Pool { first: 0, units: 2, keep: 3 };
        assert!(matches!(new(&[greedy], &[0.0; 2], OPTIONS), Err(MaskError::Pool { .. })));
        assert!(matches!(
            new(&[WHOLE], &[0.0; 3], OPTIONS),
            Err(MaskError::Scores { found: 3, expected: 12 })
        ));
        assert!(matches!(new(&[WHOLE], &[f64::NAN; 12], OPTIONS), Err(MaskError::Scores { found: 0, .. })));
        for options in [
            Options { steps: 0, ..OPTIONS },
            Options { masks: 1, ..OPTIONS },
            Options { rate: 0.0, ..OPTIONS },
        ] {
            assert!(matches!(new(&[WHOLE], &[0.0; 12], options), Err(MaskError::Options { .. })));
        }
        let mut walk = new(&[WHOLE], &[0.0; 12], OPTIONS).unwrap();
        assert!(matches!(walk.learn(&[1.0]), Err(MaskError::Losses { found: 1, expected: 2 })));
        assert!(matches!(walk.learn(&[1.0, f64::NAN]), Err(MaskError::Losses { found: 1, .. })));
    }
}
