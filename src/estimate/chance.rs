//! Chances under a log-normal error: how likely a figure keeps its limit, and how far out a confidence lies.

use std::f64::consts::PI;

/// Chance that a standard normal deviate is at most `z`.
pub fn normal_cdf(z: f64) -> f64 {
    if z.is_nan() {
        return f64::NAN;
    }
    let tail = upper_tail(z.abs());
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// Chance of more than `z >= 0`: by the Taylor series of the integral near zero, by Laplace's continued fraction
/// farther out (Abramowitz and Stegun 26.2.10 and 26.2.14).
fn upper_tail(z: f64) -> f64 {
    let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
    if z < 3.0 {
        let (mut term, mut sum) = (z, z);
        for n in 1..60 {
            term *= z * z / f64::from(2 * n + 1);
            sum += term;
        }
        0.5 - density * sum
    } else {
        density / (1..=120).rev().fold(z, |fraction, n| z + f64::from(n) / fraction)
    }
}

/// The deviate that a standard normal stays below with chance `chance` (0 < `chance` < 1), by bisection.
pub fn normal_quantile(chance: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..120 {
        let middle = 0.5 * (low + high);
        if normal_cdf(middle) < chance { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Chance that a figure whose best value is `value`, with relative log-normal spread `log_sigma`, is at most
/// `limit`. Both positive.
pub fn at_most(value: f64, log_sigma: f64, limit: f64) -> f64 {
    let distance = (limit / value).ln();
    if log_sigma > 0.0 {
        normal_cdf(distance / log_sigma)
    } else if distance >= 0.0 {
        1.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_published_values_of_the_normal_distribution() {
        // Abramowitz and Stegun, tables 26.1 and 26.5.
        for (z, chance) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_543),
            (2.0, 0.977_249_868_051_821),
            (3.0, 0.998_650_101_968_370),
            (1.644_853_626_951_473, 0.95),
            (1.281_551_565_544_6, 0.9),
        ] {
            assert!((normal_cdf(z) - chance).abs() < 1e-12, "{z}: {}", normal_cdf(z));
            assert!((normal_cdf(-z) - (1.0 - chance)).abs() < 1e-12);
            assert!((normal_quantile(chance) - z).abs() < 1e-9);
        }
        assert!((upper_tail(5.0) / 2.866_515_718_791_94e-7 - 1.0).abs() < 1e-10);
    }

    #[test]
    fn series_and_fraction_meet() {
        assert!((upper_tail(3.0 - 1e-13) / upper_tail(3.0) - 1.0).abs() < 1e-11);
    }

    #[test]
    fn a_limit_at_the_best_value_holds_every_other_time() {
        assert_eq!(at_most(2.0, 0.1, 2.0), 0.5);
        assert!((at_most(1.0, 0.1, (0.1f64 * 1.281_551_565_544_6).exp()) - 0.9).abs() < 1e-9);
        assert_eq!((at_most(2.0, 0.0, 2.0), at_most(2.0, 0.0, 1.9)), (1.0, 0.0));
    }
}
