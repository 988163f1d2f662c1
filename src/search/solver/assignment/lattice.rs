//! Weights that are whole multiples of one step: their capacity may be rounded down to a multiple too.

/// A step of which every value is a whole multiple, to `error`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lattice {
    /// The step, positive.
    pub step: f64,
    /// Largest distance of a value from its multiple.
    pub error: f64,
}

/// Multiples beyond this would round nothing of note.
const MOST_STEPS: f64 = 1e7;

/// Rounding that a value may carry, relative to the largest.
const ROUNDING: f64 = 1e-12;

/// The coarsest lattice that holds every value, by Euclid's algorithm on real numbers; `None` when there is none that is
/// coarse enough to help `terms` values added up.
pub fn lattice(values: &[f64], terms: usize) -> Option<Lattice> {
    let largest = values.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    if largest == 0.0 {
        return None;
    }
    let mut step = 0.0;
    for value in values {
        step = common(step, value.abs(), largest * ROUNDING);
        if step * MOST_STEPS < largest && step > 0.0 {
            return None;
        }
    }
    // Euclid's remainders carry the rounding of all values before; the largest value says the step best.
    let step = largest / (largest / step).round();
    let off = |value: &f64| (value - step * (value / step).round()).abs();
    let error = values.iter().map(off).fold(0.0, f64::max);
    (error * terms as f64 * 8.0 < step).then_some(Lattice { step, error })
}

fn common(a: f64, b: f64, rounding: f64) -> f64 {
    let (mut a, mut b) = (a.max(b), a.min(b));
    // Remainders of multiples of one step are 0 or the step at least; what is far smaller is rounding.
    while b > rounding * 1e3 {
        let rest = (a - b * (a / b).round()).abs();
        (a, b) = (b, rest);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_step_of_integers_and_of_scaled_ones() {
        let integers = [0.0, 12.0, 18.0, -30.0, 6e6];
        assert_eq!(lattice(&integers, 96), Some(Lattice { step: 6.0, error: 0.0 }));
        let seconds: Vec<f64> = [4.0, 10.0, 26.0, 1000.0].iter().map(|k| k * 1.7e-7 / 3.0).collect();
        let found = lattice(&seconds, 96).unwrap();
        assert!((found.step / (2.0 * 1.7e-7 / 3.0) - 1.0).abs() < 1e-9 && found.error < 1e-18, "{found:?}");
    }

    #[test]
    fn has_none_for_values_without_a_common_step() {
        assert_eq!(lattice(&[1.0, std::f64::consts::SQRT_2, std::f64::consts::E], 96), None);
        assert_eq!(lattice(&[0.0, 0.0], 96), None);
        assert_eq!(lattice(&[1.0, 2.0, 3.000_000_01], 96), None);
    }
}
