//! The one question the latency wing asks of a device: what does this kernel call cost?

use crate::estimate::Source;
use crate::hardware::kernel::{Backend, KernelCall, KernelFamily};
use crate::units::{DType, Seconds};

/// Two-sided 90 % of a normal distribution: intervals are reported at this many standard deviations.
pub const Z90: f64 = 1.644_853_626_951_472_2;

/// Cost of one kernel call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelCost {
    /// Best single value.
    pub latency: Seconds,
    /// Relative (log-normal) spread, scaled so that `latency * exp(±Z90 * log_sigma)` holds 90 % of
    /// measurements. For a measured row that of its repeats, zero where they are not known.
    pub log_sigma: f64,
    /// Origin.
    pub source: Source,
    /// The call lies outside the range of the measured rows.
    pub extrapolated: bool,
}

/// Nothing is known about a call on this device.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GapError {
    /// The profile has no table for the family.
    #[error("profile `{profile}` has no {family} table: add {family}.csv (see `archplan profiles check`)")]
    NoTable {
        /// Profile asked.
        profile: String,
        /// Family missing.
        family: KernelFamily,
    },
    /// The table has no rows of the element type.
    #[error("profile `{profile}` has no {family} rows for dtype {dtype}; it has {}", list(.available))]
    NoDType {
        /// Profile asked.
        profile: String,
        /// Family asked.
        family: KernelFamily,
        /// Type missing.
        dtype: DType,
        /// Types at hand.
        available: Vec<DType>,
    },
    /// The table has no rows for the number of devices.
    #[error("profile `{profile}` has no all_reduce rows for {world} devices; it has {available:?}")]
    NoWorld {
        /// Profile asked.
        profile: String,
        /// Devices asked.
        world: u64,
        /// Devices at hand.
        available: Vec<u64>,
    },
    /// The table has the number of devices, but not with this backend.
    #[error(
        "profile `{profile}` has no all_reduce rows of backend {backend:?} for {world} devices; it has {available:?}"
    )]
    NoBackend {
        /// Profile asked.
        profile: String,
        /// Devices asked.
        world: u64,
        /// Backend missing.
        backend: Backend,
        /// Backends at hand.
        available: Vec<Backend>,
    },
    /// A dimension beyond what tables hold.
    #[error("a kernel dimension exceeds 32 bits: {call:?}; check batch, lengths and widths")]
    TooLarge {
        /// The call.
        call: KernelCall,
    },
}

fn list(types: &[DType]) -> String {
    types.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ")
}

/// A device that can price kernel calls.
pub trait KernelCosts: Sync {
    /// Cost of one call; a gap is an error, never a silent guess.
    fn cost(&self, call: &KernelCall) -> Result<KernelCost, GapError>;
}
