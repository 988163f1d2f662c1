//! Kriging (a Gaussian process) over scattered rows: the estimator of small tables.
//!
//! `ln(t / skeleton)` is a random surface over the logarithms of the call's dimensions, with a Matérn 3/2 covariance
//! and one length per axis (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, eq. 4.17); a row's
//! noise is the fitted one plus the spread of its repeats. Says where it is least sure, which is where to measure
//! next; errors of kept-out rows come in closed form (there, section 5.4.2).

use argmin::core::{CostFunction, Executor, State};
use argmin::solver::neldermead::NelderMead;
use serde::{Deserialize, Serialize};

use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::cost::Z90;
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::cholesky::Factor;
use crate::hardware::latency::kernel_model::lattice::Coordinates;
use crate::hardware::latency::kernel_model::members::Rows;
use crate::hardware::latency::kernel_model::scores::Miss;

/// Tables of more rows are left to interpolation and forests; the factor grows with the square of the rows.
pub const MOST: usize = 1000;
/// Fewest rows that parameters can be told from.
pub const FEWEST: usize = 12;
/// Rows that parameters are fitted on; the surface itself stands on all.
const FITTED: usize = 200;

/// Parameters of the surface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kriging {
    /// Octaves over which the surface forgets: along m, n, k of a GEMM; of attention along sequences x heads (query
    /// heads of a prompt, KV heads of one token), length, query heads per KV head, head size, sequences.
    pub lengths: Vec<f64>,
    /// Standard deviation of `ln(t / skeleton)`.
    pub signal: f64,
    /// Standard deviation of a row's noise, its stated spread aside.
    pub noise: f64,
    /// Mean of `ln(t / skeleton)`.
    pub mean: f64,
    /// Factor on the surface's own deviation that makes intervals hold 90 % of kept-out rows.
    pub widen: f64,
}

/// The surface given its rows.
#[derive(Clone, Debug)]
pub struct Surface {
    family: KernelFamily,
    kriging: Kriging,
    points: Vec<Vec<f64>>,
    factor: Factor,
    /// Inverse covariance times residuals.
    weights: Vec<f64>,
}

/// Where a call lies: logarithms of its dimensions. Attention is split over sequences and heads alike, so that their
/// product stands for both, beside the group size and what is left of the batch.
fn point(family: KernelFamily, x: &Coordinates) -> Vec<f64> {
    let log = x.map(|v| f64::from(v.max(1)).log2());
    let [batch, length, q_heads, kv_heads, head_dim] = log;
    match family {
        KernelFamily::AttentionPrefill => {
            vec![batch + q_heads, length, q_heads - kv_heads, head_dim, batch]
        }
        KernelFamily::AttentionDecode => vec![batch + kv_heads, length, q_heads - kv_heads, head_dim, batch],
        _ => log.iter().take(axes::names(family).len()).copied().collect(),
    }
}

fn targets(rows: &Rows, skeleton: &[f64]) -> Vec<f64> {
    rows.seconds.iter().zip(skeleton).map(|(t, s)| (t / s).ln()).collect()
}

/// Variance of each row's stated spread (see [`Rows::weights`]).
fn stated(rows: &Rows) -> Vec<f64> {
    rows.weights.iter().map(|w| (1.0 / w - 1.0) * Rows::MODEL_ERROR.powi(2)).collect()
}

impl Kriging {
    /// Most likely parameters, with weak priors that carry tables of a dozen rows; `None` for a table too small or
    /// too large.
    pub fn fit(rows: &Rows, skeleton: &[f64]) -> Option<Self> {
        let n = rows.seconds.len();
        if !(FEWEST..=MOST).contains(&n) {
            return None;
        }
        let axes = axes::names(rows.family).len();
        let y = targets(rows, skeleton);
        let mean = y.iter().sum::<f64>() / n as f64;
        // Rows in a fixed scattered order, so that a subset is a fair one.
        let step = n.div_ceil(FITTED);
        let chosen: Vec<usize> = (0..step).flat_map(|from| (from..n).step_by(step)).take(FITTED).collect();
        let spread = stated(rows);
        let evidence = Evidence {
            points: chosen.iter().map(|&i| point(rows.family, &rows.coordinates[i])).collect(),
            residuals: chosen.iter().map(|&i| y[i] - mean).collect(),
            stated: chosen.iter().map(|&i| spread[i]).collect(),
        };
        let best = evidence.most_likely(axes)?;
        let mut kriging = Self::of(&best, axes, mean);
        let surface = kriging.surface(rows, skeleton)?;
        let mut ratios: Vec<f64> =
            surface.left_out().iter().map(|m| m.log_error.abs() / m.log_sigma.max(1e-9)).collect();
        ratios.sort_by(f64::total_cmp);
        let at = ((0.9 * (n as f64 + 1.0)).ceil() as usize).clamp(1, n);
        kriging.widen = (ratios.get(at - 1)? / Z90).clamp(0.5, 5.0);
        Some(kriging)
    }

    fn of(p: &[f64], axes: usize, mean: f64) -> Self {
        Self {
            lengths: p[..axes].iter().map(|x| x.exp()).collect(),
            signal: p[axes].exp(),
            noise: p[axes + 1].exp(),
            mean,
            widen: 1.0,
        }
    }

    fn covariance(&self, a: &[f64], b: &[f64]) -> f64 {
        let squares = a.iter().zip(b).zip(&self.lengths).map(|((a, b), l)| ((a - b) / l).powi(2));
        let r = (3.0 * squares.sum::<f64>()).sqrt();
        self.signal.powi(2) * (1.0 + r) * (-r).exp()
    }

    /// Covariance matrix of points with such noise variances, factored.
    fn factor(&self, points: &[Vec<f64>], stated: &[f64]) -> Option<Factor> {
        Factor::of(points.len(), |i, j| {
            let noise = if i == j { self.noise.powi(2) + stated[i] } else { 0.0 };
            self.covariance(&points[i], &points[j]) + noise
        })
    }

    /// The surface through `rows`.
    pub fn surface(&self, rows: &Rows, skeleton: &[f64]) -> Option<Surface> {
        let points: Vec<Vec<f64>> = rows.coordinates.iter().map(|x| point(rows.family, x)).collect();
        let factor = self.factor(&points, &stated(rows))?;
        let residuals: Vec<f64> = targets(rows, skeleton).iter().map(|y| y - self.mean).collect();
        let weights = factor.solve(&residuals);
        Some(Surface { family: rows.family, kriging: self.clone(), points, factor, weights })
    }

    /// A parameter is no usable number, or there are not as many lengths as axes.
    pub fn defective(&self, axes: usize) -> bool {
        let positive = [self.signal, self.noise, self.widen];
        let fine = |x: &f64| x.is_finite() && *x > 0.0;
        self.lengths.len() != axes
            || !self.lengths.iter().chain(&positive).all(fine)
            || !self.mean.is_finite()
    }
}

impl Surface {
    /// Rows the surface stands on.
    pub fn rows(&self) -> usize {
        self.points.len()
    }

    /// `ln(t / skeleton)` and its log sigma at a call.
    pub fn at(&self, x: &Coordinates) -> (f64, f64) {
        let at = point(self.family, x);
        let k: Vec<f64> = self.points.iter().map(|p| self.kriging.covariance(p, &at)).collect();
        let mean: f64 = k.iter().zip(&self.weights).map(|(a, b)| a * b).sum();
        (self.kriging.mean + mean, self.sigma(&k))
    }

    fn sigma(&self, k: &[f64]) -> f64 {
        let half = self.factor.forward(k);
        let explained: f64 = half.iter().map(|x| x * x).sum();
        let variance = (self.kriging.signal.powi(2) - explained).max(0.0) + self.kriging.noise.powi(2);
        variance.sqrt() * self.kriging.widen
    }

    /// Takes a call into account that is going to be measured: the surface becomes surer there, its mean stays.
    pub fn anticipate(&mut self, x: &Coordinates) {
        let at = point(self.family, x);
        let k: Vec<f64> = self.points.iter().map(|p| self.kriging.covariance(p, &at)).collect();
        self.factor.push(&k, self.kriging.signal.powi(2) + self.kriging.noise.powi(2));
        self.points.push(at);
        self.weights.push(0.0);
    }

    /// Mean log sigma, the noise of a measurement aside, that these rows would leave at `calls`: how good a design of
    /// measurements is, before any is made. `None` where two rows are the same.
    pub fn design_sigma(&self, rows: &[Coordinates], calls: &[Coordinates]) -> Option<f64> {
        let kriging = &self.kriging;
        let points: Vec<Vec<f64>> = rows.iter().map(|x| point(self.family, x)).collect();
        let factor = kriging.factor(&points, &vec![0.0; points.len()])?;
        let sigma = |x: &Coordinates| {
            let at = point(self.family, x);
            let k: Vec<f64> = points.iter().map(|p| kriging.covariance(p, &at)).collect();
            let explained: f64 = factor.forward(&k).iter().map(|x| x * x).sum();
            (kriging.signal.powi(2) - explained).max(0.0).sqrt() * kriging.widen
        };
        Some(calls.iter().map(sigma).sum::<f64>() / calls.len().max(1) as f64)
    }

    /// Every row predicted from all others: error as predicted minus measured.
    pub fn left_out(&self) -> Vec<Miss> {
        let diagonal = self.factor.inverse_diagonal();
        let miss = |(w, d): (&f64, &f64)| Miss {
            log_error: -w / d,
            log_sigma: (1.0 / d).sqrt() * self.kriging.widen,
        };
        self.weights.iter().zip(&diagonal).map(miss).collect()
    }

    /// Every row predicted without the rows of its group.
    pub fn groups_left_out(&self, group: &[u32]) -> Vec<Miss> {
        let inverse = self.factor.inverse();
        let mut values: Vec<u32> = group.to_vec();
        values.sort_unstable();
        values.dedup();
        let mut misses = vec![Miss { log_error: 0.0, log_sigma: 0.0 }; group.len()];
        for value in values {
            let mine: Vec<usize> = (0..group.len()).filter(|&i| group[i] == value).collect();
            let Some(block) = Factor::of(mine.len(), |i, j| inverse[mine[i]][mine[j]]) else { continue };
            let errors = block.solve(&mine.iter().map(|&i| self.weights[i]).collect::<Vec<_>>());
            let covariance = block.inverse_diagonal();
            for ((&i, e), v) in mine.iter().zip(errors).zip(covariance) {
                misses[i] = Miss { log_error: -e, log_sigma: v.max(0.0).sqrt() * self.kriging.widen };
            }
        }
        misses
    }
}

/// Rows that parameters are judged by.
struct Evidence {
    points: Vec<Vec<f64>>,
    residuals: Vec<f64>,
    stated: Vec<f64>,
}

/// Where the search for parameters starts and what it is pulled to, as logarithms: three octaves, 20 %, 2 %.
const PRIOR: (f64, f64, f64) = (1.1, -1.6, -3.9);
/// Standard deviation of the priors.
const PRIOR_SPREAD: f64 = 1.2;

impl Evidence {
    fn most_likely(&self, axes: usize) -> Option<Vec<f64>> {
        let centre = prior(axes);
        let mut simplex = vec![centre.clone()];
        for i in 0..centre.len() {
            let mut corner = centre.clone();
            corner[i] += 0.7;
            simplex.push(corner);
        }
        let solver = NelderMead::new(simplex).with_sd_tolerance(1e-4).ok()?;
        let run = Executor::new(self, solver).configure(|s| s.max_iters(160)).run().ok()?;
        run.state().get_best_param().cloned()
    }
}

fn prior(axes: usize) -> Vec<f64> {
    let mut centre = vec![PRIOR.0; axes];
    centre.extend([PRIOR.1, PRIOR.2]);
    centre
}

impl CostFunction for &Evidence {
    type Param = Vec<f64>;
    type Output = f64;

    /// Negative log likelihood of the residuals, plus that of the parameters.
    fn cost(&self, p: &Vec<f64>) -> Result<f64, argmin::core::Error> {
        let axes = p.len() - 2;
        let kriging = Kriging::of(p, axes, 0.0);
        let Some(factor) = kriging.factor(&self.points, &self.stated) else { return Ok(f64::MAX) };
        let half = factor.forward(&self.residuals);
        let fit: f64 = half.iter().map(|x| x * x).sum();
        let pull: f64 = p.iter().zip(prior(axes)).map(|(x, c)| ((x - c) / PRIOR_SPREAD).powi(2)).sum();
        let cost = 0.5 * fit + factor.log_determinant_half() + 0.5 * pull;
        Ok(if cost.is_finite() { cost } else { f64::MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::profile::HardwareProfile;
    use crate::units::DType;

    /// A smooth surface over a skeleton, on scattered calls.
    fn rows(n: u32) -> (Rows, Vec<f64>) {
        let device = HardwareProfile::builtin("a100_sxm").unwrap().device;
        let at = |i: u32| [1 + (i * 37) % 500, 64 + (i * 613) % 4000, 64 + (i * 991) % 3000, 0, 0];
        let ratio =
            |x: &Coordinates| 1.0 + 0.2 * f64::from(x[0]).log2().sin() + 0.05 * f64::from(x[1]).log2();
        let calls: Vec<(Coordinates, f64)> = (0..n).map(at).map(|x| (x, 1e-5 * ratio(&x))).collect();
        let skeleton = vec![1e-5; calls.len()];
        (Rows::new(KernelFamily::Gemm, DType::Bf16, &device, calls), skeleton)
    }

    #[test]
    fn closed_forms_agree_with_leaving_rows_out() {
        let (all, skeleton) = rows(60);
        let kriging = Kriging::fit(&all, &skeleton).unwrap();
        let surface = kriging.surface(&all, &skeleton).unwrap();
        let group: Vec<u32> = (0..60).map(|i| i % 7).collect();
        let (one, many) = (surface.left_out(), surface.groups_left_out(&group));
        for i in [0, 23, 59] {
            for (missing, found) in
                [(vec![i], one[i]), ((0..60).filter(|j| group[*j] == group[i]).collect(), many[i])]
            {
                let rest = all.filter(|j| !missing.contains(&j));
                let without = kriging.surface(&rest, &skeleton[..rest.seconds.len()]).unwrap();
                let (mean, sigma) = without.at(&all.coordinates[i]);
                let error = mean - (all.seconds[i] / skeleton[i]).ln();
                assert!((found.log_error - error).abs() < 1e-8, "{} {error}", found.log_error);
                assert!((found.log_sigma - sigma).abs() < 1e-8, "{} {sigma}", found.log_sigma);
            }
        }
    }

    #[test]
    fn learns_a_smooth_surface_and_knows_where_it_does_not() {
        let (all, skeleton) = rows(150);
        let held = |i: usize| i % 5 == 3;
        let some = all.filter(|i| !held(i));
        let few = vec![1e-5; some.seconds.len()];
        let surface = Kriging::fit(&some, &few).unwrap().surface(&some, &few).unwrap();
        let (mut errors, mut inside) = (Vec::new(), 0);
        for i in (0..150).filter(|i| held(*i)) {
            let (mean, sigma) = surface.at(&all.coordinates[i]);
            let error = (mean - (all.seconds[i] / skeleton[i]).ln()).abs();
            inside += usize::from(error <= Z90 * sigma);
            errors.push(error);
        }
        errors.sort_by(f64::total_cmp);
        assert!(errors[15] < 0.01 && inside >= 24, "median {}, {inside} of 30", errors[15]);
        let far = [60_000, 200_000, 200_000, 0, 0];
        assert!(surface.at(&far).1 > 3.0 * surface.at(&all.coordinates[0]).1);
    }

    #[test]
    fn what_is_going_to_be_measured_becomes_surer() {
        let (all, skeleton) = rows(40);
        let mut surface = Kriging::fit(&all, &skeleton).unwrap().surface(&all, &skeleton).unwrap();
        let x = [3000, 9000, 200, 0, 0];
        let (mean, before) = surface.at(&x);
        surface.anticipate(&x);
        let (same, after) = surface.at(&x);
        assert!(after < 0.6 * before, "{before} {after}");
        assert!((mean - same).abs() < 1e-12);
    }

    #[test]
    fn noisy_rows_are_not_followed() {
        let (mut all, skeleton) = rows(80);
        let sound = all.seconds[11];
        all.seconds[11] *= 1.5;
        all.weights[11] = 1.0 / (1.0 + (0.5f64 / Rows::MODEL_ERROR).powi(2));
        let surface = Kriging::fit(&all, &skeleton).unwrap().surface(&all, &skeleton).unwrap();
        let found = skeleton[11] * surface.at(&all.coordinates[11]).0.exp();
        assert!((found / sound - 1.0).abs() < 0.1, "{found} {sound}");
    }
}
