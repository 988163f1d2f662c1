//! Measured kernel rows.

use crate::hardware::kernel::KernelCall;
use crate::units::Seconds;

/// One measured kernel call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The call.
    pub call: KernelCall,
    /// Its measured latency.
    pub latency: Seconds,
}
