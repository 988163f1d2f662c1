//! Fits the law to the table: the most probable parameters given the published figures and the beliefs.
//!
//! There are about as many parameters as independent models, so each starts from a belief (a log-normal around
//! a published law, [`crate::quality::table::beliefs`]) and moves only as far as the table pulls it. Deviations count in points
//! of accuracy with a pseudo-Huber loss, so that one odd model cannot bend the law. Minimised with L-BFGS
//! (argmin) in units of the beliefs' spread, where the problem is well conditioned; Newton steps then find the
//! digits that L-BFGS cannot see in the cost.

use argmin::core::{CostFunction, Error, Executor, Gradient, IterState, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;

use crate::quality::benchmark::Benchmark;
use crate::quality::cuts::Cuts;
use crate::quality::error::QualityError;
use crate::quality::law::{self, Law};
use crate::quality::table::{Belief, Sample};

/// Deviation expected of a published accuracy, in points: run-to-run and harness differences.
const NOISE_POINTS: f64 = 1.5;
/// Deviation, in units of the noise, beyond which a figure pulls no harder.
const HUBER_KNEE: f64 = 1.0;
/// Step of the numerical derivatives, in units of the beliefs' spread.
const STEP: f64 = 1e-5;
/// Gradient at which L-BFGS hands over. Nearer to the optimum its line search cannot tell costs apart, and
/// argmin's does not give up.
const NEAR: f64 = 1e-3;
/// Newton steps that follow.
const NEWTON_STEPS: usize = 4;
/// Gradient at which the fit is done. The beliefs alone curve the cost by 1, so a parameter is then within as
/// many spreads of its optimum.
const DONE: f64 = 1e-7;

/// One figure in the terms of the law.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Name of the parent.
    pub parent: String,
    /// Name of the child.
    pub child: String,
    /// How far the child is cut.
    pub cuts: Cuts,
    /// Recovery tokens in billions.
    pub tokens_b: f64,
    /// The benchmark.
    pub benchmark: Benchmark,
    /// The parent's accuracy in percent.
    pub parent_percent: f64,
    /// The child's accuracy in percent.
    pub child_percent: f64,
}

impl Observation {
    /// What the law says of it, in percent.
    pub fn predicted_percent(&self, law: &Law) -> f64 {
        let felt: f64 = law.axis_nats(&self.cuts, self.tokens_b, self.benchmark).iter().sum();
        law.accuracy_percent(self.benchmark, self.parent_percent, felt)
    }
}

/// The samples in the terms of the law, cut as `cuts` says, and the mean over benchmarks of every child (at
/// one number of tokens) that has three or more and no published mean.
pub fn observations<'a>(
    samples: impl IntoIterator<Item = &'a Sample>,
    cuts: impl Fn(&Sample) -> Result<Cuts, QualityError>,
) -> Result<Vec<Observation>, QualityError> {
    let mut rows = Vec::new();
    for s in samples {
        rows.push(Observation {
            parent: s.parent.clone(),
            child: s.child.clone(),
            cuts: cuts(s)?,
            tokens_b: s.tokens_b,
            benchmark: s.benchmark,
            parent_percent: s.parent_percent,
            child_percent: s.child_percent,
        });
    }
    let means = means(&rows);
    rows.extend(means);
    Ok(rows)
}

fn means(rows: &[Observation]) -> Vec<Observation> {
    let same = |a: &Observation, b: &Observation| {
        a.parent == b.parent && a.child == b.child && a.tokens_b == b.tokens_b
    };
    let firsts = rows.iter().enumerate().filter(|(i, row)| !rows.iter().take(*i).any(|r| same(r, row)));
    firsts
        .filter_map(|(_, first)| {
            let group: Vec<&Observation> = rows.iter().filter(|r| same(r, first)).collect();
            let published = group.iter().any(|r| r.benchmark == Benchmark::Average);
            let mean =
                |of: fn(&Observation) -> f64| group.iter().map(|r| of(r)).sum::<f64>() / group.len() as f64;
            (group.len() >= 3 && !published).then(|| Observation {
                benchmark: Benchmark::Average,
                parent_percent: mean(|r| r.parent_percent),
                child_percent: mean(|r| r.child_percent),
                ..first.clone()
            })
        })
        .collect()
}

/// A fitted law, and how much of each parameter came from the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The most probable parameters.
    pub law: Law,
    /// Per parameter, in the order of [`law::NAMES`]: share of the belief's variance the table removed, 0 to 1.
    pub from_table: Vec<f64>,
}

/// Fits the law to `rows`, starting from `beliefs` (in the order of [`law::NAMES`]).
pub fn fit(rows: &[Observation], beliefs: &[Belief]) -> Result<Fit, QualityError> {
    let problem = Posterior { rows, beliefs };
    let failed = |e: &dyn std::fmt::Display| QualityError::Fit { problem: e.to_string() };
    let solver =
        LBFGS::new(MoreThuenteLineSearch::new(), 10).with_tolerance_grad(NEAR).map_err(|e| failed(&e))?;
    let done = Executor::new(problem, solver)
        .configure(|s: IterState<Vec<f64>, Vec<f64>, (), (), (), f64>| {
            s.param(vec![0.0; beliefs.len()]).max_iters(2000)
        })
        .run()
        .map_err(|e| failed(&e))?;
    let mut best = done.state.get_best_param().cloned().ok_or_else(|| failed(&"no parameters"))?;
    let problem = Posterior { rows, beliefs };
    for _ in 0..NEWTON_STEPS {
        let (inverse, slope) = (inverse(problem.curvature(&best)), problem.slope(&best));
        for (z, row) in best.iter_mut().zip(&inverse) {
            *z -= row.iter().zip(&slope).map(|(h, g)| h * g).sum::<f64>();
        }
    }
    let left = problem.slope(&best).iter().fold(0.0, |a: f64, g| a.max(g.abs()));
    if left.is_nan() || left > DONE {
        return Err(failed(&format!("gradient {left:.1e} left after {} iterations", done.state.get_iter())));
    }
    let from_table =
        inverse(problem.curvature(&best)).iter().enumerate().map(|(i, row)| 1.0 - row[i]).collect();
    Ok(Fit { law: problem.law(&best), from_table })
}

/// Minus the log posterior over the parameters in units of the beliefs' spread.
struct Posterior<'a> {
    rows: &'a [Observation],
    beliefs: &'a [Belief],
}

impl Posterior<'_> {
    fn law(&self, z: &[f64]) -> Law {
        let mut values = [1.0; law::PARAMETERS];
        for ((value, belief), z) in values.iter_mut().zip(self.beliefs).zip(z) {
            *value = belief.prior * (belief.spread * z).exp();
        }
        Law { values }
    }

    fn value(&self, z: &[f64]) -> f64 {
        let law = self.law(z);
        let misfit: f64 = self
            .rows
            .iter()
            .map(|row| (row.predicted_percent(&law) - row.child_percent) / NOISE_POINTS / HUBER_KNEE)
            .map(|e| HUBER_KNEE * HUBER_KNEE * ((1.0 + e * e).sqrt() - 1.0))
            .sum();
        misfit + z.iter().map(|z| 0.5 * z * z).sum::<f64>()
    }

    fn slope(&self, z: &[f64]) -> Vec<f64> {
        central_differences(z, |z| vec![self.value(z)]).into_iter().flatten().collect()
    }

    /// Second derivatives.
    fn curvature(&self, z: &[f64]) -> Vec<Vec<f64>> {
        central_differences(z, |z| self.slope(z))
    }
}

fn central_differences(z: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<Vec<f64>> {
    let at = |i: usize, step: f64| {
        f(&z.iter().enumerate().map(|(j, z)| if i == j { z + step } else { *z }).collect::<Vec<_>>())
    };
    (0..z.len())
        .map(|i| at(i, STEP).iter().zip(at(i, -STEP)).map(|(up, down)| (up - down) / (2.0 * STEP)).collect())
        .collect()
}

impl CostFunction for Posterior<'_> {
    type Param = Vec<f64>;
    type Output = f64;
    fn cost(&self, z: &Vec<f64>) -> Result<f64, Error> {
        Ok(self.value(z))
    }
}

impl Gradient for Posterior<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;
    fn gradient(&self, z: &Vec<f64>) -> Result<Vec<f64>, Error> {
        Ok(self.slope(z))
    }
}

/// Inverse of a symmetric positive definite matrix (Gauss-Jordan; the matrix is 22 x 22).
fn inverse(matrix: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = matrix.len();
    let mut rows: Vec<Vec<f64>> = matrix
        .into_iter()
        .enumerate()
        .map(|(i, row)| row.into_iter().chain((0..n).map(|j| f64::from(u8::from(i == j)))).collect())
        .collect();
    for pivot in 0..n {
        let scale = rows[pivot][pivot];
        rows[pivot].iter_mut().for_each(|x| *x /= scale);
        let done = rows[pivot].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != pivot) {
            let factor = row[pivot];
            row.iter_mut().zip(&done).for_each(|(x, d)| *x -= factor * d);
        }
    }
    rows.into_iter().map(|row| row.into_iter().skip(n).collect()).collect()
}
