//! What a shape loses, from its scores and from the shapes that were really tried.
//!
//! The prior mean is the sum of the scores. Deviations from it are a Gaussian process: weights of the axes, interactions of
//! pairs of axes (dropped layers with narrower attention cost more than both alone) and saturation are linear features with
//! normal weights; what is left is smooth over the logarithms of the axes' scores, in proportion to the sum. Few numbers are
//! chosen by the evidence over a fixed grid, so that the same tries give the same estimate.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use crate::quality::scores::curve::Nats;
use crate::quality::study::line::{Candidate, Told};

/// What is added to scores before their logarithm is taken, nats a token: below it differences do not matter.
const FLOOR: f64 = 0.01;

/// Share of a shape's loss that no neighbour can tell.
const OWN: f64 = 0.03;

/// Standard deviations either way that hold 90 % of a normal distribution.
pub const Z90: f64 = 1.645;

/// Scales of the process.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scales {
    /// Standard deviation of an axis' weight around 1.
    weights: f64,
    /// Of the weight of a pair of axes.
    pairs: f64,
    /// Of the saturation of an axis, per nat.
    saturation: f64,
    /// Of the smooth rest, relative to the sum.
    rest: f64,
    /// Its length in units of logarithms of scores.
    length: f64,
}

/// Before anything was tried.
const UNTRIED: Scales = Scales { weights: 0.2, pairs: 0.3, saturation: 0.3, rest: 0.15, length: 1.5 };

/// Fewest tries from which scales are chosen by the evidence.
const ENOUGH: usize = 8;

/// A shape as the process sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Site {
    /// Scores by axis, nats a token, in the order of [`crate::quality::scores::table::AXES`].
    pub nats: [f64; 4],
    /// Variance of their sum.
    pub variance: f64,
}

impl Site {
    /// Of scores by axis.
    pub fn of(axes: [Nats; 4]) -> Self {
        Self { nats: axes.map(|n| n.mean), variance: axes.iter().map(|n| n.variance).sum() }
    }

    /// The sum of the scores.
    pub fn sum(&self) -> f64 {
        self.nats.iter().sum()
    }

    /// The scale of what it may deviate by: nothing for the parent.
    fn scale(&self) -> f64 {
        self.nats.iter().map(|n| n.max(0.0)).sum()
    }

    /// Variance that no neighbour can tell.
    fn own(&self) -> f64 {
        (OWN * (self.scale() + FLOOR)).powi(2)
    }

    /// Standard deviation that no neighbour can tell.
    pub fn own_deviation(&self) -> f64 {
        self.own().sqrt()
    }

    fn is_parent(&self) -> bool {
        self.nats == [0.0; 4]
    }

    /// Where it lies among others: logarithms of its scores.
    fn place(&self) -> [f64; 4] {
        self.nats.map(|n| (n.max(0.0) + FLOOR).ln())
    }

    fn features(&self) -> [[f64; 6]; 3] {
        let own = self.nats.map(|n| n.max(0.0));
        let sum: f64 = own.iter().sum();
        let [a, b, c, d] = own;
        let pairs = [(a, b), (a, c), (a, d), (b, c), (b, d), (c, d)].map(|(x, y)| (x * y).sqrt());
        [[a, b, c, d, 0.0, 0.0], pairs, [a * sum, b * sum, c * sum, d * sum, 0.0, 0.0]]
    }
}

impl From<&Candidate> for Site {
    fn from(candidate: &Candidate) -> Self {
        Self { nats: candidate.nats, variance: candidate.variance.iter().sum() }
    }
}

/// A tried shape: where, what it lost, the variance of that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried {
    /// The shape.
    pub site: Site,
    /// What it lost, nats a token.
    pub nats: f64,
    /// Variance of that.
    pub variance: f64,
}

impl Tried {
    /// Of lines of a study; failed tries say nothing.
    pub fn of(tried: &[(&Candidate, &Told)]) -> Vec<Self> {
        let one = |(candidate, told): &(&Candidate, &Told)| {
            let loss = told.loss()?;
            let variance = loss.standard_error.unwrap_or(0.0).powi(2);
            Some(Self { site: Site::from(*candidate), nats: loss.mean, variance })
        };
        tried.iter().filter_map(one).collect()
    }
}

/// An estimate with its standard deviation, nats a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    /// Best single value.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
}

/// The estimator, after so many tries.
#[derive(Clone, Debug)]
pub struct Estimator {
    scales: Scales,
    tried: Vec<Tried>,
    /// Inverse of the covariance of what was tried.
    inverse: Mat<f64>,
    /// What the tries say of the features' weights.
    weights: [[f64; 6]; 3],
    /// Where each try lies, and how much it pulls what is near.
    pulls: Vec<([f64; 4], f64)>,
}

impl Scales {
    fn grid() -> impl Iterator<Item = Self> {
        let [weights, pairs, saturation] = [[0.2, 0.5].as_slice(), &[0.1, 0.3, 1.0], &[0.1, 0.3, 1.0]];
        let [rest, length] = [[0.05, 0.15, 0.4].as_slice(), &[0.7, 1.5, 3.0]];
        weights.iter().flat_map(move |&weights| {
            pairs.iter().flat_map(move |&pairs| {
                saturation.iter().flat_map(move |&saturation| {
                    rest.iter().flat_map(move |&rest| {
                        length.iter().map(move |&length| Self { weights, pairs, saturation, rest, length })
                    })
                })
            })
        })
    }

    fn covariance(&self, a: &Site, b: &Site) -> f64 {
        let dot = |x: &[f64; 6], y: &[f64; 6]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let scales = [self.weights, self.pairs, self.saturation];
        let pairs = a.features().into_iter().zip(b.features()).zip(scales);
        let linear: f64 = pairs.map(|((x, y), scale)| scale * scale * dot(&x, &y)).sum();
        linear + self.rest * self.rest * a.scale() * b.scale() * self.near(&a.place(), &b.place())
    }

    /// How much the rest at one place says of that at another.
    fn near(&self, a: &[f64; 4], b: &[f64; 4]) -> f64 {
        let distance: f64 = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum();
        (-0.5 * distance / (self.length * self.length)).exp()
    }

    /// Covariance of what was tried, noise included.
    fn matrix(&self, tried: &[Tried]) -> Mat<f64> {
        Mat::from_fn(tried.len(), tried.len(), |i, j| match (tried.get(i), tried.get(j)) {
            (Some(a), Some(b)) if i == j => self.covariance(&a.site, &b.site) + a.variance + a.site.own(),
            (Some(a), Some(b)) => self.covariance(&a.site, &b.site),
            _ => 0.0,
        })
    }

    /// Logarithm of the evidence, up to a constant.
    fn evidence(&self, tried: &[Tried]) -> f64 {
        let Ok(factor) = self.matrix(tried).llt(Side::Lower) else { return f64::NEG_INFINITY };
        let deviations = deviations(tried);
        let solved = factor.solve(&deviations);
        let fit: f64 = (0..tried.len()).map(|i| deviations[(i, 0)] * solved[(i, 0)]).sum();
        let lower = factor.L();
        let determinant: f64 = (0..tried.len()).map(|i| lower[(i, i)].ln()).sum();
        -0.5 * fit - determinant
    }
}

fn deviations(tried: &[Tried]) -> Mat<f64> {
    Mat::from_fn(tried.len(), 1, |i, _| tried.get(i).map_or(0.0, |t| t.nats - t.site.sum()))
}

impl Estimator {
    /// Learns from what was tried; from nothing, it is the sum of the scores.
    pub fn fit(tried: Vec<Tried>) -> Self {
        let scales = if tried.len() < ENOUGH { UNTRIED } else { best(&tried) };
        Self::with(scales, tried)
    }

    fn with(scales: Scales, tried: Vec<Tried>) -> Self {
        let n = tried.len();
        let inverse = match scales.matrix(&tried).llt(Side::Lower) {
            Ok(factor) => factor.solve(Mat::<f64>::identity(n, n)),
            // Positive definite by construction: each try has noise of its own.
            Err(_) => Mat::zeros(n, n),
        };
        let pull = &inverse * deviations(&tried);
        let mut weights = [[0.0; 6]; 3];
        let mut pulls = Vec::with_capacity(n);
        for (i, Tried { site, .. }) in tried.iter().enumerate() {
            let pull = pull[(i, 0)];
            let of_kinds = [scales.weights, scales.pairs, scales.saturation];
            for ((weights, features), scale) in weights.iter_mut().zip(site.features()).zip(of_kinds) {
                for (weight, feature) in weights.iter_mut().zip(features) {
                    *weight += pull * scale * scale * feature;
                }
            }
            pulls.push((site.place(), pull * scales.rest * scales.rest * site.scale()));
        }
        Self { scales, tried, inverse, weights, pulls }
    }

    /// The same, as if `site` had been tried and lost what is predicted: what is asked for next then lies elsewhere.
    pub fn believing(&self, site: Site) -> Self {
        let mut tried = self.tried.clone();
        // Without nearly all of what is the shape's own: shapes that are almost the same are then known as well.
        let variance = -0.99 * site.own();
        tried.push(Tried { site, nats: self.predict(&site).mean, variance });
        Self::with(self.scales, tried)
    }

    /// How many shapes it has seen.
    pub fn tries(&self) -> usize {
        self.tried.len()
    }

    /// Best single value alone, nats a token.
    pub fn mean(&self, site: &Site) -> f64 {
        if self.tried.is_empty() || site.is_parent() {
            return site.sum();
        }
        let features = site.features();
        let pairs = self.weights.iter().flatten().zip(features.iter().flatten());
        let linear: f64 = pairs.map(|(weight, feature)| weight * feature).sum();
        let place = site.place();
        let rest: f64 = self.pulls.iter().map(|(at, pull)| pull * self.scales.near(&place, at)).sum();
        site.sum() + linear + site.scale() * rest
    }

    /// What a shape loses, nats a token.
    pub fn predict(&self, site: &Site) -> Predicted {
        if site.is_parent() {
            return Predicted { mean: 0.0, deviation: 0.0 };
        }
        let open = self.open(site);
        Predicted { mean: self.mean(site), deviation: (open * open + site.own() + site.variance).sqrt() }
    }

    /// Standard deviation that trying near shapes would settle: without what is the shape's own, and without the errors of its
    /// scores, which near shapes share.
    pub fn open(&self, site: &Site) -> f64 {
        let n = self.tried.len();
        let towards: Vec<f64> = self.tried.iter().map(|t| self.scales.covariance(site, &t.site)).collect();
        let known: f64 = (0..n)
            .flat_map(|i| (0..n).map(move |j| (i, j)))
            .map(|(i, j)| {
                towards.get(i).zip(towards.get(j)).map_or(0.0, |(a, b)| a * b * self.inverse[(i, j)])
            })
            .sum();
        let left = (self.scales.covariance(site, site) - known).max(0.0);
        left.sqrt()
    }
}

fn best(tried: &[Tried]) -> Scales {
    let scored = Scales::grid().map(|scales| (scales.evidence(tried), scales));
    scored.fold((f64::NEG_INFINITY, UNTRIED), |best, other| if other.0 > best.0 { other } else { best }).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn site(nats: [f64; 4]) -> Site {
        Site { nats, variance: 0.0 }
    }

    #[test]
    fn untried_it_is_the_sum() {
        let estimator = Estimator::fit(Vec::new());
        let found = estimator.predict(&site([0.1, 0.0, 0.05, 0.2]));
        assert!((found.mean - 0.35).abs() < 1e-12 && found.deviation > 0.05 && found.deviation < 0.35);
        assert_eq!(estimator.predict(&site([0.0; 4])), Predicted { mean: 0.0, deviation: 0.0 });
    }

    #[test]
    fn learns_an_interaction_that_sums_miss() {
        let truth = |n: [f64; 4]| n.iter().sum::<f64>() + 0.8 * (n[1] * n[2]).sqrt();
        let grid = [0.0, 0.05, 0.1, 0.2, 0.35];
        let all: Vec<[f64; 4]> =
            grid.iter().flat_map(|a| grid.iter().map(move |b| [0.05, *a, *b, 0.02])).collect();
        let tried: Vec<Tried> = all
            .iter()
            .step_by(2)
            .map(|n| Tried { site: site(*n), nats: truth(*n), variance: 1e-8 })
            .collect();
        let estimator = Estimator::fit(tried);
        for n in all.iter().skip(1).step_by(2) {
            let (found, sum) = (estimator.predict(&site(*n)), n.iter().sum::<f64>());
            assert!(
                (found.mean - truth(*n)).abs() < 0.15 * (truth(*n) - sum).abs() + 0.01,
                "{n:?}: {found:?}"
            );
        }
    }

    #[test]
    fn what_is_believed_is_less_uncertain_and_so_is_what_lies_near() {
        let estimator =
            Estimator::fit(vec![Tried { site: site([0.1, 0.0, 0.0, 0.1]), nats: 0.3, variance: 1e-4 }]);
        let (here, near, far) =
            (site([0.0, 0.2, 0.1, 0.0]), site([0.0, 0.21, 0.1, 0.0]), site([0.4, 0.0, 0.0, 0.3]));
        let believing = estimator.believing(here);
        assert!((believing.predict(&here).mean - estimator.predict(&here).mean).abs() < 1e-6);
        let shrunk = |s: &Site| believing.predict(s).deviation / estimator.predict(s).deviation;
        assert!(shrunk(&here) < 0.5 && shrunk(&near) < 0.5 && shrunk(&far) > shrunk(&near));
    }

    /// The mean as the textbook has it: covariances with each try times the inverse times the deviations.
    fn mean_by_covariances(estimator: &Estimator, site: &Site) -> f64 {
        let tried = &estimator.tried;
        let mut mean = site.sum();
        for (i, a) in tried.iter().enumerate() {
            for (j, b) in tried.iter().enumerate() {
                let deviation = b.nats - b.site.sum();
                mean += estimator.scales.covariance(site, &a.site) * estimator.inverse[(i, j)] * deviation;
            }
        }
        mean
    }

    proptest! {
        #[test]
        fn the_mean_is_that_of_the_process(
            points in proptest::collection::vec(([0.0..0.5f64, 0.0..0.5, 0.0..0.5, 0.0..0.5], 0.0..2.0f64), 0..9),
            at in [0.0..0.5f64, 0.0..0.5, 0.0..0.5, 0.0..0.5],
        ) {
            let tried = points.iter().map(|(n, y)| Tried { site: site(*n), nats: *y, variance: 1e-4 }).collect();
            let estimator = Estimator::fit(tried);
            let (fast, slow) = (estimator.mean(&site(at)), mean_by_covariances(&estimator, &site(at)));
            prop_assert!((fast - slow).abs() < 1e-7 * (1.0 + slow.abs()), "{fast} {slow}");
        }

        #[test]
        fn order_of_tries_does_not_matter(
            mut points in proptest::collection::vec(([0.0..0.5f64, 0.0..0.5, 0.0..0.5, 0.0..0.5], 0.0..2.0f64), 2..10),
        ) {
            let of = |points: &[([f64; 4], f64)]| {
                Estimator::fit(points.iter().map(|(n, y)| Tried { site: site(*n), nats: *y, variance: 1e-4 }).collect())
            };
            let at = site([0.1, 0.2, 0.05, 0.3]);
            let one = of(&points).predict(&at);
            points.reverse();
            let other = of(&points).predict(&at);
            prop_assert!((one.mean - other.mean).abs() < 1e-6 * (1.0 + one.mean.abs()), "{one:?} {other:?}");
            prop_assert!((one.deviation - other.deviation).abs() < 1e-6);
        }
    }
}
