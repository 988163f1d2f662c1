//! The rule of kernels without a table, from measured norms, activations and rotations.
//!
//! Bytes are counted as [`crate::hardware::latency::lowering`] counts them, two a value, whatever the kernel really
//! moves: that is what the rule will be asked with.

use crate::compute::elementwise::{self, Rotary};
use crate::hardware::measure::timing;
use crate::hardware::profile::rules::ElementwiseRule;
use crate::units::{BytesPerSecond, Seconds};

/// One measured kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Bytes as counted.
    pub bytes: f64,
    /// Median time.
    pub seconds: f64,
}

/// Tokens and widths tried.
const SIZES: [(usize, usize); 8] =
    [(1, 256), (1, 2048), (4, 1024), (16, 512), (64, 2048), (256, 1024), (512, 2048), (1024, 4096)];
/// Head size of the rotations.
const HEAD_DIM: usize = 64;
/// Bytes counted for a value.
const COUNTED: usize = 2;

/// Times norms, activations and rotations of several sizes.
pub fn measure() -> Vec<Point> {
    SIZES.into_iter().flat_map(|(tokens, width)| at(tokens, width)).collect()
}

fn at(tokens: usize, width: usize) -> [Point; 3] {
    let values = tokens * width;
    let (mut residual, update) = (vec![0.5f32; values], vec![1e-3f32; values]);
    let (gain, mut out) = (vec![1.0f32; width], vec![0.0f32; values]);
    let norm = timing::time(|_| elementwise::add_and_norm(&mut residual, &update, &gain, 1e-6, &mut out));
    let gate_up = vec![0.25f32; 2 * values];
    let activation = timing::time(|_| elementwise::activation(&gate_up, width, &mut out));
    let rotary = Rotary::new(tokens, HEAD_DIM, 1e4);
    let positions: Vec<usize> = (0..tokens).collect();
    let turn = timing::time(|_| rotary.turn(&mut residual, width, width / HEAD_DIM, &positions));
    let point = |per_value: usize, timing: timing::Timing| Point {
        bytes: (values * per_value * COUNTED) as f64,
        seconds: timing.median.0,
    };
    [point(4, norm), point(3, activation), point(2, turn)]
}

/// Least relative squares of `launch + bytes / (efficiency * bandwidth)`; the interval holds 90 % of the points, or
/// what is nearest to that.
pub fn rule(points: &[Point], bandwidth: BytesPerSecond) -> ElementwiseRule {
    // With u = 1 / t and v = bytes / t: minimise sum (a u + b v - 1)^2.
    let (mut uu, mut uv, mut vv, mut u1, mut v1) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for p in points {
        let (u, v) = (1.0 / p.seconds, p.bytes / p.seconds);
        (uu, uv, vv, u1, v1) = (uu + u * u, uv + u * v, vv + v * v, u1 + u, v1 + v);
    }
    let determinant = uu * vv - uv * uv;
    let slope = (uu * v1 - uv * u1) / determinant;
    let slope = if slope.is_finite() { slope.max(1.0 / bandwidth.0) } else { 1.0 / bandwidth.0 };
    let launch = ((u1 - slope * uv) / uu).max(1e-7);
    let mut misses: Vec<f64> =
        points.iter().map(|p| ((launch + slope * p.bytes) / p.seconds).ln().abs()).collect();
    misses.sort_by(f64::total_cmp);
    let at = (0.9 * misses.len() as f64).ceil() as usize;
    let factor = misses.get(at.saturating_sub(1)).map_or(2.0, |m| m.exp());
    ElementwiseRule {
        launch: Seconds(launch),
        efficiency: 1.0 / (slope * bandwidth.0),
        interval_factor: factor.max(1.05),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_rule_that_points_obey() {
        let bandwidth = BytesPerSecond(20e9);
        let points: Vec<Point> = (0..12)
            .map(|i| 1024.0 * f64::from(1 << i))
            .map(|bytes| Point { bytes, seconds: 2e-6 + bytes / 10e9 })
            .collect();
        let rule = rule(&points, bandwidth);
        assert!((rule.launch.0 - 2e-6).abs() < 1e-12 && (rule.efficiency - 0.5).abs() < 1e-9);
        assert_eq!(rule.interval_factor, 1.05);
    }

    #[test]
    fn caches_do_not_push_efficiency_above_one() {
        let points = [Point { bytes: 1e6, seconds: 1e-6 }, Point { bytes: 2e6, seconds: 2e-6 }];
        let rule = rule(&points, BytesPerSecond(20e9));
        assert_eq!(rule.efficiency, 1.0);
        assert!(rule.interval_factor > 10.0);
    }
}
