//! `<family>.fit.json`: what a fit learned, kept beside the tables.

use serde::{Deserialize, Serialize};

use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::ensemble::Fit;
use crate::hardware::latency::kernel_model::interpolator::Interpolator;

/// Version of the format; a file of another version is refused.
pub const VERSION: u32 = 1;

/// The fits of one family, one per element type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitFile {
    /// Format version.
    pub version: u32,
    /// Family.
    pub family: KernelFamily,
    /// Fits, by element type.
    pub fits: Vec<Fit>,
}

/// A fit file that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    /// Not the JSON of a fit.
    #[error(
        "{profile}: {family}.fit.json is not a fit ({reason}); make it anew with `archplan profiles fit {profile}`"
    )]
    NotAFit {
        /// Profile.
        profile: String,
        /// Family.
        family: KernelFamily,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// Written by another version of the format.
    #[error(
        "{profile}: {family}.fit.json has format version {found}, expected {VERSION}; make it anew with `archplan profiles fit {profile}`"
    )]
    OtherVersion {
        /// Profile.
        profile: String,
        /// Family.
        family: KernelFamily,
        /// Version in the file.
        found: u32,
    },
    /// The parts of the fit do not belong together.
    #[error(
        "{profile}: {family}.fit.json is inconsistent: {what}; make it anew with `archplan profiles fit {profile}`"
    )]
    Inconsistent {
        /// Profile.
        profile: String,
        /// Family.
        family: KernelFamily,
        /// What does not match.
        what: &'static str,
    },
    /// The table is not the one the fit was learned from.
    #[error(
        "{profile}: {family}.csv has changed since {family}.fit.json was made from it; run `archplan profiles fit {profile}`"
    )]
    OtherRows {
        /// Profile.
        profile: String,
        /// Family.
        family: KernelFamily,
    },
}

impl FitFile {
    /// As text.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self).map(|text| text + "\n")
    }

    /// From text.
    ///
    /// # Errors
    /// Text that is not a consistent fit of `family`.
    pub fn read(profile: &str, family: KernelFamily, text: &str) -> Result<Self, FitError> {
        let profile = profile.to_string();
        let file: FitFile = serde_json::from_str(text).map_err(|e| FitError::NotAFit {
            profile: profile.clone(),
            family,
            reason: e.to_string(),
        })?;
        if file.version != VERSION {
            return Err(FitError::OtherVersion { profile, family, found: file.version });
        }
        let inconsistent = |what| Err(FitError::Inconsistent { profile: profile.clone(), family, what });
        if file.family != family {
            return inconsistent("it is of another family");
        }
        match file.fits.iter().find_map(|fit| defect(family, fit)) {
            Some(what) => inconsistent(what),
            None => Ok(file),
        }
    }
}

fn defect(family: KernelFamily, fit: &Fit) -> Option<&'static str> {
    let patterns = axes::patterns(family).len();
    let members = &fit.members;
    let counts = [members.stacks.len(), members.own.len(), fit.mixes.len(), fit.spreads.len()];
    if counts.iter().any(|&n| n != patterns) {
        return Some("the number of patterns does not fit the family");
    }
    if members.stacks.iter().any(|stack| stack.len() != Interpolator::width(family)) {
        return Some("the number of interpolations does not fit the family");
    }
    if members.asks_beyond(family) {
        return Some("a tree asks for a feature that does not exist");
    }
    let s = fit.skeleton;
    let numbers = [s.launch_us, s.compute_efficiency, s.memory_efficiency, s.sharpness, fit.fastest];
    if !numbers.iter().all(|x| x.is_finite() && *x > 0.0) {
        return Some("a parameter of the skeleton is not a positive number");
    }
    if fit.kriging.as_ref().is_some_and(|kriging| kriging.defective(axes::names(family).len())) {
        return Some("a parameter of the random surface is not a positive number");
    }
    let weights = members.stacks.iter().flatten().chain(fit.grid.iter().map(|(_, ratio)| ratio));
    if !weights.copied().all(f64::is_finite) || fit.grid.iter().any(|(_, ratio)| *ratio <= 0.0) {
        return Some("a weight or a grid cell is not a usable number");
    }
    fit.carried.as_ref().and_then(|carried| carried.defect(family))
}
