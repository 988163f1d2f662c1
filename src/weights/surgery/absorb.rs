//! Absorbs post-norms into the projection before them (arXiv 2505.20155): `gain * o / rms(o)` with `o = W h + b` becomes
//! `W' h + b'`, `W' = diag(gain c) W`, `b' = gain c b`.
//!
//! The constant that errs least in the least-squares sense is `c = E[|gain o|^2 / rms] / E[|gain o|^2]`; what stays wrong is the
//! share `cv^2 / (1 + cv^2)` of the update's energy, cv = the coefficient of variation of the rms over tokens.

use serde::{Deserialize, Serialize};

use crate::model::tensors::Role;
use crate::weights::checkpoint::tensor::TensorError;
use crate::weights::importance::rankings;
use crate::weights::importance::statistics::{LayerSums, PostNormSums, Sums};
use crate::weights::surgery::parts::Parts;

/// Share of an update's energy that may stay wrong for `auto` to absorb the post-norm behind it.
pub const LARGEST_LOSS: f64 = 0.1;

/// One post-norm and how nearly constant its divisor is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Layer of the parent, from 0.
    pub layer: u64,
    /// `attention` or `ffn`.
    pub part: String,
    /// Coefficient of variation of the rms over tokens.
    pub rms_cv: f64,
    /// Share of the update's energy that stays wrong with a constant.
    pub lost_share: f64,
    /// The constant.
    pub constant: f64,
}

/// Every post-norm of the kept layers.
pub fn sites(sums: &Sums, kept: &[u64]) -> Vec<Site> {
    let site = |layer: u64, part: &str, of: Option<&PostNormSums>| {
        let figures = rankings::post_norm(of?, sums.tokens)?;
        let (rms_cv, lost_share, constant) = (figures.cv, figures.lost_share, figures.constant);
        Some(Site { layer, part: part.into(), rms_cv, lost_share, constant })
    };
    let of_layer = |&layer: &u64| {
        let of: Option<&LayerSums> = sums.layers.get(layer as usize);
        let attention = site(layer, "attention", of.and_then(|of| of.attention_post_norm.as_ref()));
        let ffn = site(layer, "ffn", of.and_then(|of| of.ffn_post_norm.as_ref()));
        attention.into_iter().chain(ffn)
    };
    kept.iter().flat_map(of_layer).collect()
}

/// Absorbs the post-norm `gain_role` into `weight` and `bias`.
///
/// # Errors
/// A value that is no finite number.
pub fn absorb(
    parts: &mut Parts<'_>,
    (gain_role, weight, bias): (Role, Role, Role),
    offset: f32,
    constant: f64,
) -> Result<(), TensorError> {
    let Some(gain) = parts.numbers(gain_role)? else { return Ok(()) };
    let factors: Vec<f32> = gain.iter().map(|x| (f64::from(x + offset) * constant) as f32).collect();
    parts.scale_rows(weight, &factors)?;
    parts.scale_rows(bias, &factors)?;
    parts.remove(gain_role);
    Ok(())
}
