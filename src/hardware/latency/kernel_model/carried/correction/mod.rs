//! What measured points say of the error that is left after carrying over: a Gaussian process over shapes.
//!
//! The prior says how other pairs of devices strayed from the law: by a constant, by a share of the launch time and of
//! the compute-bound part, by a slope along each axis, by something smooth in between, and by something of each shape's
//! own. Its scale grows with how unlike the two devices are. The posterior under the points is the sharpened estimate,
//! and its spread the interval.

use serde::{Deserialize, Serialize};

use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::latency::kernel_model::carried::DEGREES;
use crate::hardware::latency::kernel_model::carried::law::Law;
use crate::hardware::latency::kernel_model::lattice::{Coordinates, MAX_AXES};
use crate::hardware::latency::kernel_model::skeleton;
use crate::hardware::profile::device::Device;
use crate::units::{Bytes, DType};

/// Octaves of one unit along an axis.
const OCTAVES: f64 = 4.0;
/// Keeps the covariance of points that nearly coincide solvable (a log spread of 0.3 %).
const JITTER: f64 = 1e-5;

/// Variances of the strays, in units of a scale that depends on the two devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prior {
    /// Of a constant.
    pub constant: f64,
    /// Of a stray in proportion to the launch time's share.
    pub launch: f64,
    /// Of a stray in proportion to the compute-bound share.
    pub compute: f64,
    /// Of a slope along each axis.
    pub slope: f64,
    /// Of a smooth stray.
    pub local: f64,
    /// Of each shape's own.
    pub own: f64,
    /// How fast the smooth stray changes along each axis, per four octaves.
    pub inverse_lengths: Vec<f64>,
    /// Log-normal scale between devices of the same data sheet.
    pub least_scale: f64,
    /// What is added to it (in squares) for each unit of distance.
    pub scale_per_distance: f64,
    /// Correlation of the strays of two element types.
    pub between_types: f64,
}

impl Prior {
    /// Squared scale at a distance between devices.
    pub fn scale(&self, distance: f64) -> f64 {
        self.least_scale.powi(2) + (self.scale_per_distance * distance).powi(2)
    }

    pub(super) fn values(&self) -> Vec<f64> {
        let variances = [self.constant, self.launch, self.compute, self.slope, self.local, self.own];
        let scales = [self.least_scale, self.scale_per_distance, self.between_types];
        variances.into_iter().chain(self.inverse_lengths.iter().copied()).chain(scales).collect()
    }

    /// Covariance of the smooth strays of two shapes, for a squared scale of one.
    pub fn between(&self, a: &Site, b: &Site) -> f64 {
        let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let apart = a.axes.iter().zip(&b.axes).zip(&self.inverse_lengths);
        let far = (3.0 * apart.map(|((x, y), per)| ((x - y) * per).powi(2)).sum::<f64>()).sqrt();
        let all = self.constant
            + self.launch * a.launch * b.launch
            + self.compute * a.compute * b.compute
            + self.slope * product(&a.axes, &b.axes)
            + self.local * (1.0 + far) * (-far).exp();
        if a.dtype == b.dtype { all } else { all * self.between_types }
    }
}

/// A shape as the correction sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    dtype: DType,
    at: Coordinates,
    /// Axes in units of [`OCTAVES`], centred.
    axes: [f64; MAX_AXES],
    launch: f64,
    compute: f64,
}

impl Site {
    /// A call on a device.
    pub fn new(
        dtype: DType,
        at: &Coordinates,
        call: &KernelCall,
        law: &Law,
        device: &Device,
        cache: Bytes,
    ) -> Self {
        let (compute, memory) = skeleton::bounds(call, device);
        let launch = (law.launch_us * 1e-6 / law.seconds(call, device, cache)).min(1.0);
        let share = if compute + memory > 0.0 { compute / (compute + memory) } else { 0.0 };
        Self {
            dtype,
            at: *at,
            axes: axes_of(call.family(), at),
            launch: launch - 0.5,
            compute: (1.0 - launch) * share - 0.3,
        }
    }
}

fn axes_of(family: KernelFamily, at: &Coordinates) -> [f64; MAX_AXES] {
    let [a, b, c, d, e] = at.map(|x| f64::from(x.max(1)));
    let (sizes, centres) = match family {
        KernelFamily::AttentionPrefill => ([a, b, c, c / d, e], [2.0, 9.0, 3.0, 1.0, 7.0]),
        KernelFamily::AttentionDecode => ([a, b, c, c / d, e], [4.0, 8.0, 3.0, 1.0, 7.0]),
        _ => ([a, b, c, 1.0, 1.0], [8.0, 11.0, 11.0, 0.0, 0.0]),
    };
    let mut axes = [0.0; MAX_AXES];
    for ((axis, size), centre) in axes.iter_mut().zip(sizes).zip(centres) {
        *axis = (size.log2() - centre) / OCTAVES;
    }
    axes
}

/// The posterior under some points.
#[derive(Debug)]
pub struct Correction {
    prior: Prior,
    scale: f64,
    sites: Vec<Site>,
    /// Lower triangle of the Cholesky root of the points' covariance, row after row.
    root: Vec<Vec<f64>>,
    /// Covariance's inverse times the points' strays.
    weights: Vec<f64>,
    /// What the points say of the scale, as a factor on the standard deviation, and the heavier tail of few.
    inflation: f64,
}

impl Correction {
    /// From points: shape, `ln(measured / carried over)`, log spread of the measurement.
    pub fn new(prior: &Prior, scale: f64, points: &[(Site, f64, f64)]) -> Self {
        let sites: Vec<Site> = points.iter().map(|(site, ..)| site.clone()).collect();
        let mut root: Vec<Vec<f64>> = Vec::with_capacity(points.len());
        for (i, (site, _, sigma)) in points.iter().enumerate() {
            let mut row: Vec<f64> =
                sites[..i].iter().map(|other| scale * prior.between(site, other)).collect();
            row.push(scale * (prior.between(site, site) + prior.own) + sigma.powi(2) + JITTER);
            for j in 0..=i {
                let before = dot(&row[..j], if j < i { &root[j][..j] } else { &row[..j] });
                let left = row[j] - before;
                row[j] = if j < i { left / root[j][j] } else { left.max(JITTER).sqrt() };
            }
            root.push(row);
        }
        let strays: Vec<f64> = points.iter().map(|p| p.1).collect();
        let white = solve_lower(&root, &strays);
        let degrees = DEGREES + points.len() as f64;
        let seen = (DEGREES + dot(&white, &white)) / degrees;
        let weights = solve_upper(&root, &white);
        // Points can say that this device strays more than others did, not that it strays less: they are few. The second
        // factor is the 95 % quantile of Student's distribution over the normal one's, to some percent.
        let inflation = seen.max(1.0).sqrt() * (1.0 + 1.0 / degrees);
        Self { prior: prior.clone(), scale, sites, root, weights, inflation }
    }

    /// Mean and standard deviation of the stray at a shape.
    pub fn at(&self, site: &Site) -> (f64, f64) {
        let whole = self.scale * (self.prior.between(site, site) + self.prior.own);
        let near: Vec<f64> = self.sites.iter().map(|other| self.covariance(site, other)).collect();
        let known = solve_lower(&self.root, &near);
        let variance = (whole - dot(&known, &known)).max(JITTER);
        (dot(&near, &self.weights), variance.sqrt() * self.inflation)
    }

    /// Each point against what all the others say of it: standard deviations, and the log error itself.
    pub fn left_out(&self) -> Vec<(f64, f64)> {
        let of = |i: usize| {
            let mut unit = vec![0.0; self.root.len()];
            unit[i] = 1.0;
            let column = solve_lower(&self.root, &unit);
            let precision = dot(&column, &column);
            let error = self.weights[i] / precision;
            (error * precision.sqrt(), error)
        };
        (0..self.root.len()).map(of).collect()
    }

    fn covariance(&self, a: &Site, b: &Site) -> f64 {
        let own = if a.dtype == b.dtype && a.at == b.at { self.prior.own } else { 0.0 };
        self.scale * (self.prior.between(a, b) + own)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `x` with `root x = b`.
fn solve_lower(root: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let mut x: Vec<f64> = Vec::with_capacity(b.len());
    for (row, b) in root.iter().zip(b) {
        let i = x.len();
        let value = (b - dot(&row[..i], &x)) / row[i];
        x.push(value);
    }
    x
}

/// `x` with `rootᵀ x = b`.
fn solve_upper(root: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let mut x = b.to_vec();
    for i in (0..root.len()).rev() {
        x[i] /= root[i][i];
        for j in 0..i {
            x[j] -= root[i][j] * x[i];
        }
    }
    x
}

#[cfg(test)]
mod tests;
