//! Re-initialises norm gains after hidden channels are cut away.
//!
//! RMSNorm over the kept channels divides by `sqrt(sum_K x^2 / d)` in place of `sqrt(sum x^2 / D)`; with `rho` the kept
//! channels' share of the energy that is larger by `sqrt(rho D / d)`, which the gain has to take back.
//! SLNP (arXiv 2505.20155) scales the kept gain to the L2 norm of the whole one, which is the same where the gain is
//! flat and the dropped channels carry no energy.

use crate::model::tensors::Role;
use crate::weights::checkpoint::tensor::TensorError;
use crate::weights::surgery::parts::Parts;

/// SLNP: `|gain| / |gain_K|`; `gain` is the whole gain as it multiplies.
pub fn slnp(gain: &[f32], kept: &[u32]) -> f64 {
    let square = |x: &f32| f64::from(*x) * f64::from(*x);
    let whole: f64 = gain.iter().map(square).sum();
    let part: f64 = kept.iter().filter_map(|k| gain.get(*k as usize)).map(square).sum();
    if part > 0.0 { (whole / part).sqrt() } else { 1.0 }
}

/// Measured: `sqrt(rho D / d)` from the kept channels' share `rho` of the energy.
pub fn energy(share: f64, parent: usize, kept: usize) -> f64 {
    (share.max(0.0) * parent as f64 / kept.max(1) as f64).sqrt()
}

/// Multiplies a gain by `factor`, where the stored numbers are the gain less `offset`.
///
/// # Errors
/// A value that is no finite number.
pub fn scale_gain(parts: &mut Parts<'_>, role: Role, offset: f32, factor: f64) -> Result<(), TensorError> {
    if factor != 1.0
        && let Some(numbers) = parts.numbers(role)?
    {
        let scaled = |x: f32| (f64::from(x + offset) * factor - f64::from(offset)) as f32;
        numbers.iter_mut().for_each(|x| *x = scaled(*x));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slnp_keeps_the_length_and_the_measured_factor_agrees_where_it_must() {
        let gain = [3.0, 0.5, 4.0, 1.0];
        let kept = [0, 2];
        let factor = slnp(&gain, &kept);
        let scaled: f64 = kept.iter().map(|k| (f64::from(gain[*k as usize]) * factor).powi(2)).sum();
        let whole: f64 = gain.iter().map(|g| f64::from(*g).powi(2)).sum();
        assert!((scaled - whole).abs() < 1e-9 * whole);
        assert!((slnp(&[2.0; 8], &[1, 5]) - energy(1.0, 8, 2)).abs() < 1e-12);
    }
}
