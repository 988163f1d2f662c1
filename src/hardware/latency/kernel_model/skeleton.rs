//! The physical skeleton: launch time plus the slower of compute and memory, with quantised work.
//!
//! `t = c + ((tc / ec)^p + (tm / em)^p)^(1/p)`: `tc` = FLOPs over peak, `tm` = bytes over bandwidth.

use argmin::core::{CostFunction, Executor, State};
use argmin::solver::neldermead::NelderMead;
use serde::{Deserialize, Serialize};

use crate::hardware::kernel::KernelCall;
use crate::hardware::latency::kernel_model::members::Rows;
use crate::hardware::profile::device::Device;
use crate::units::{DType, FlopsPerSecond};

/// Fitted parameters of the skeleton.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skeleton {
    /// Launch time in microseconds.
    pub launch_us: f64,
    /// Share of the peak rate that compute-bound calls reach.
    pub compute_efficiency: f64,
    /// Share of the peak bandwidth that memory-bound calls reach (above 1 where caches serve).
    pub memory_efficiency: f64,
    /// Sharpness of the maximum: large = a hard maximum, small = the two overlap badly.
    pub sharpness: f64,
}

/// Compute and memory time of a call at the peaks of the data sheet, in seconds.
pub fn bounds(call: &KernelCall, device: &Device) -> (f64, f64) {
    let compute_type = match call {
        KernelCall::Gemm { dtype, .. } => *dtype,
        _ => DType::Bf16,
    };
    let peak = device.peaks.get(&compute_type).or_else(|| device.peaks.get(&DType::Bf16));
    let peak = peak.copied().unwrap_or(FlopsPerSecond(f64::INFINITY));
    ((call.flops() / peak).0, (call.bytes() / device.hbm_bandwidth).0)
}

impl Skeleton {
    /// Time in seconds of a call whose [`bounds`] are given.
    pub fn seconds(&self, (compute, memory): (f64, f64)) -> f64 {
        let a = compute / self.compute_efficiency;
        let b = memory / self.memory_efficiency;
        let (high, low) = if a > b { (a, b) } else { (b, a) };
        let joint = if high > 0.0 {
            high * (1.0 + (low / high).powf(self.sharpness)).powf(1.0 / self.sharpness)
        } else {
            0.0
        };
        self.launch_us * 1e-6 + joint
    }

    fn from_parameters(p: &[f64]) -> Self {
        Self {
            launch_us: p[0].exp(),
            compute_efficiency: p[1].exp(),
            memory_efficiency: p[2].exp(),
            sharpness: 1.0 + p[3].exp(),
        }
    }

    /// Least absolute log error over measured rows, each by its weight.
    pub fn of(rows: &Rows) -> Self {
        Self::fit(&rows.bounds, &rows.seconds, &rows.weights)
    }

    /// Least absolute log error over measured calls.
    pub fn fit(bounds: &[(f64, f64)], seconds: &[f64], weights: &[f64]) -> Self {
        let fastest = seconds.iter().copied().fold(f64::INFINITY, f64::min).max(1e-7) * 1e6;
        let starts = [[fastest.ln(), -0.4, -0.3, 1.0], [(fastest * 0.3).ln(), -1.0, -1.0, 0.0]];
        let problem = Misfit { bounds, seconds, weights };
        let mut best = (f64::INFINITY, starts[0].to_vec());
        for start in starts {
            let mut simplex = vec![start.to_vec()];
            for axis in 0..4 {
                let mut corner = start.to_vec();
                corner[axis] += 0.5;
                simplex.push(corner);
            }
            let Ok(solver) = NelderMead::new(simplex).with_sd_tolerance(1e-9) else { continue };
            let Ok(run) = Executor::new(&problem, solver).configure(|s| s.max_iters(400)).run() else {
                continue;
            };
            if let Some(found) = run.state().get_best_param()
                && run.state().get_best_cost() < best.0
            {
                best = (run.state().get_best_cost(), found.clone());
            }
        }
        Self::from_parameters(&best.1)
    }
}

struct Misfit<'a> {
    bounds: &'a [(f64, f64)],
    seconds: &'a [f64],
    weights: &'a [f64],
}

impl CostFunction for &Misfit<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, p: &Vec<f64>) -> Result<f64, argmin::core::Error> {
        let skeleton = Skeleton::from_parameters(p);
        let step = (self.bounds.len() / 4000).max(1);
        let (sum, n) = self
            .bounds
            .iter()
            .zip(self.seconds)
            .zip(self.weights)
            .step_by(step)
            .fold((0.0, 0.0), |(sum, n), ((&b, &t), w)| {
                (sum + w * (skeleton.seconds(b) / t).ln().abs(), n + w)
            });
        Ok(if f64::is_finite(sum) { sum / n } else { f64::MAX })
    }
}
