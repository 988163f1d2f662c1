//! Where large matrix products run, as typed; the same for every command that runs a network.

use archplan::compute::device::{self, Device};
use archplan::compute::device_error::DeviceError;
use archplan::units::Bytes;

use crate::cli::Failure;

/// The device.
#[derive(clap::Args, Debug)]
pub struct DeviceArgs {
    /// Where large matrix products run: cpu, cuda (an NVIDIA GPU; needs a build with `--features cuda`), or cuda:1 for the
    /// second GPU
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    device: Device,
}

impl DeviceArgs {
    /// Does `work` with the device chosen, and says what the CPU had to do in its place.
    pub fn with<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        if let Some(gpu) = device::choose(self.device).map_err(failure)? {
            let memory = Bytes(gpu.memory as f64);
            log::info!("large matrix products run on {}: {}, {memory}", self.device, gpu.name);
        }
        let done = work();
        if let Some(left) = device::left_to_cpu() {
            let products = if left.products == 1 { "product was" } else { "products were" };
            log::warn!("{} {products} done on the CPU: {}", left.products, left.reason);
        }
        done
    }
}

fn failure(error: DeviceError) -> Failure {
    match error {
        DeviceError::Failed { .. } | DeviceError::OutOfMemory { .. } => Failure::failed(error),
        _ => Failure::bad_input(error),
    }
}
