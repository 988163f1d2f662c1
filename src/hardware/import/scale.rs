//! Whether latencies can be of the unit they should be in: a column in microseconds read as milliseconds is a
//! thousandfold off in every row.

use crate::hardware::import::error::ImportError;
use crate::hardware::import::readings::Reading;
use crate::hardware::kernel::KernelCall;
use crate::hardware::profile::device::Device;
use crate::units::{DType, Seconds};

/// Least cost of launching anything.
const LAUNCH: Seconds = Seconds(1e-6);

/// If even the row nearest to the data sheet is this much slower, the unit is wrong. Genuine kernels come within a
/// factor of 60 somewhere in every table seen; microseconds taken for milliseconds start at 1000.
const TOO_SLOW: f64 = 300.0;

/// If even the slowest row is this much faster, the unit is wrong: every genuine table has a small call that costs
/// more than [`LAUNCH`].
const TOO_FAST: f64 = 0.2;

/// What a message needs to say about a column of latencies.
#[derive(Clone, Copy)]
pub(crate) struct LatencyColumn {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
}

/// Refuses readings that are all out of proportion to the device; no readings are fine.
pub(crate) fn check<'a>(
    file: &str,
    column: LatencyColumn,
    device: &Device,
    readings: impl Iterator<Item = &'a Reading>,
) -> Result<(), ImportError> {
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for reading in readings {
        let ratio = reading.latency / bound(&reading.call, device);
        least = least.min(ratio);
        most = most.max(ratio);
    }
    let refuse = |direction, factor| {
        Err(ImportError::ImplausibleUnit {
            file: file.to_string(),
            direction,
            device: device.name.clone(),
            factor,
            column: column.name.to_string(),
            unit: column.unit,
        })
    };
    match (least, most) {
        (least, _) if least.is_finite() && least > TOO_SLOW => refuse("slower", least),
        (_, most) if most > 0.0 && most < TOO_FAST => refuse("faster", 1.0 / most),
        _ => Ok(()),
    }
}

/// Launch and the longer of computing and moving, by the data sheet.
fn bound(call: &KernelCall, device: &Device) -> Seconds {
    let dtype = match *call {
        KernelCall::Gemm { dtype, .. } => dtype,
        KernelCall::AllReduce { .. } => return LAUNCH + call.bytes() / device.interconnect,
        _ => DType::Bf16,
    };
    let peak = device.peaks.get(&dtype).or(device.peaks.get(&DType::Bf16));
    let compute = peak.map_or(Seconds::ZERO, |peak| call.flops() / *peak);
    LAUNCH + compute.max(call.bytes() / device.hbm_bandwidth)
}
