//! Activations of gated FFNs, plain enough for the compiler to vectorise.

use pulp::Arch;
use rayon::prelude::*;

use crate::compute::elementwise::Rows;
use crate::compute::exponential::exp;

/// Numbers of one task.
const PART: usize = 1 << 13;

/// The function on the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `x / 2 (1 + erf(x / sqrt(2)))`.
    Gelu,
}

/// `gate = activation(gate) * up`, number by number.
pub fn gate(activation: Activation, gate: &mut [f32], up: &[f32]) {
    match activation {
        Activation::Silu => each(gate, up, |g| g / (1.0 + exp(-g))),
        Activation::GeluTanh => each(gate, up, |g| {
            const ROOT: f32 = 0.797_884_6;
            0.5 * g * (1.0 + tanh(ROOT * (g + 0.044_715 * g * g * g)))
        }),
        Activation::Gelu => each(gate, up, |g| 0.5 * g * (1.0 + erf(g * std::f32::consts::FRAC_1_SQRT_2))),
    }
}

/// `x = cap * tanh(x / cap)`, number by number.
pub fn cap(x: &mut [f32], cap: f32) {
    let arch = Arch::new();
    x.par_chunks_mut(PART).for_each(|x| {
        arch.dispatch(Rows(|| x.iter_mut().for_each(|x| *x = cap * tanh(*x / cap))));
    });
}

fn each(gate: &mut [f32], up: &[f32], function: impl Fn(f32) -> f32 + Sync) {
    let arch = Arch::new();
    gate.par_chunks_mut(PART).zip(up.par_chunks(PART)).for_each(|(gate, up)| {
        arch.dispatch(Rows(|| gate.iter_mut().zip(up).for_each(|(g, u)| *g = function(*g) * u)));
    });
}

/// Hyperbolic tangent, to within 2e-7.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let square = x * x;
    let series = [62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0, 1.0];
    let small = x * series.iter().skip(1).fold(series[0], |sum, c| f32::mul_add(sum, square, *c));
    let large = 1.0 - 2.0 / (1.0 + exp((2.0 * x).min(80.0)));
    if square < 0.09 { small } else { large }
}

/// Error function, to within 3e-7: Abramowitz and Stegun, 7.1.26, and its series near 0.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let magnitude = x.abs();
    let t = 1.0 / 0.327_591_1f32.mul_add(magnitude, 1.0);
    let factors = [1.061_405_4f32, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    let polynomial = t * factors.iter().skip(1).fold(factors[0], |sum, c| f32::mul_add(sum, t, *c));
    let large = polynomial.mul_add(-exp(-(magnitude * magnitude).min(80.0)), 1.0).copysign(x);
    let square = x * x;
    let series = [-1.0 / 1320.0, 1.0 / 216.0, -1.0 / 42.0, 0.1, -1.0 / 3.0, 1.0];
    let small = std::f32::consts::FRAC_2_SQRT_PI
        * x
        * series.iter().skip(1).fold(series[0], |sum, c| f32::mul_add(sum, square, *c));
    if square < 0.25 { small } else { large }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its series, which converges everywhere.
    fn erf_in_double(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn agree_with_double_precision() {
        for i in -1600..=1600 {
            let x = f64::from(i) / 400.0;
            let y = x as f32;
            assert!((f64::from(tanh(y)) - x.tanh()).abs() < 2e-7, "tanh {x}");
            assert!((f64::from(erf(y)) - erf_in_double(x)).abs() < 4e-7, "erf {x}");
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            for (activation, exact) in [
                (Activation::Silu, x / (1.0 + (-x).exp())),
                (Activation::GeluTanh, 0.5 * x * (1.0 + inner.tanh())),
                (Activation::Gelu, 0.5 * x * (1.0 + erf_in_double(x / 2f64.sqrt()))),
            ] {
                let mut value = [y];
                gate(activation, &mut value, &[1.5]);
                assert!((f64::from(value[0]) - 1.5 * exact).abs() < 2e-6, "{activation:?} {x}");
            }
        }
        let mut capped = [0.1f32, 300.0, -300.0];
        cap(&mut capped, 30.0);
        assert!((capped[0] - 0.1).abs() < 1e-6 && capped[1] == 30.0 && capped[2] == -30.0);
        assert_eq!(tanh(1e30), 1.0);
        assert_eq!(erf(-1e15), -1.0);
    }
}
