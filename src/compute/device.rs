//! Where large products run: the CPU, or a GPU that is chosen once, before any work.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

#[cfg(feature = "cuda")]
use crate::compute::cuda::Cuda;
use crate::compute::device_error::DeviceError;
use crate::compute::offload::{Offload, Sgemm};
use crate::names::{closest, did_you_mean};

pub use crate::compute::offload::LeftToCpu;

/// Multiplications from which a product is worth its copies to a device and back.
const WORTH_COPYING: usize = 1 << 29;

/// A device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// All on the CPU.
    #[default]
    Cpu,
    /// Large products on the NVIDIA GPU of this number, from 0.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(typed: &str) -> Result<Self, DeviceError> {
        let number = typed.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match (typed, number) {
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(number)) => Ok(Self::Cuda(number)),
            _ => {
                let known = if typed.contains(':') { "cuda:0" } else { "cuda" };
                // By its letters `gpu` is most like `cpu`.
                let meant =
                    if typed.to_lowercase() == "gpu" { Some(known) } else { closest(typed, ["cpu", known]) };
                Err(DeviceError::Unknown { typed: typed.into(), suggestion: did_you_mean(meant) })
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(0) => f.pad("cuda"),
            Self::Cuda(number) => f.pad(&format!("cuda:{number}")),
        }
    }
}

/// What a GPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name, as the driver gives it.
    pub name: String,
    /// Its memory, bytes.
    pub memory: u64,
}

/// What was chosen.
struct Chosen {
    device: Device,
    gpu: Option<(Facts, Offload)>,
}

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

/// Chooses the device of this process, before any product; says what a GPU is. The same choice again is none.
///
/// # Errors
/// A GPU that cannot be had, or another device in use.
pub fn choose(device: Device) -> Result<Option<Facts>, DeviceError> {
    if CHOSEN.get().is_none() {
        let gpu = match device {
            Device::Cpu => None,
            Device::Cuda(number) => Some(open(number).map(|(facts, gpu)| (facts, Offload::new(gpu)))?),
        };
        // Another thread may have been quicker: then its choice is looked at.
        let _ = CHOSEN.set(Chosen { device, gpu });
    }
    match CHOSEN.get() {
        Some(chosen) if chosen.device == device => Ok(chosen.gpu.as_ref().map(|(facts, _)| facts.clone())),
        chosen => {
            let device = chosen.map(|chosen| chosen.device).unwrap_or_default().to_string();
            Err(DeviceError::AlreadyChosen { device })
        }
    }
}

/// Products that the chosen GPU should have done and the CPU did, so far.
pub fn left_to_cpu() -> Option<LeftToCpu> {
    CHOSEN.get()?.gpu.as_ref()?.1.left()
}

/// The device for a product of these sizes, where it is not the CPU.
pub(super) fn for_product(m: usize, n: usize, k: usize) -> Option<&'static Offload> {
    if m.saturating_mul(n).saturating_mul(k) < WORTH_COPYING {
        return None;
    }
    let chosen = CHOSEN.get_or_init(|| Chosen { device: Device::Cpu, gpu: None });
    chosen.gpu.as_ref().map(|(_, offload)| offload)
}

#[cfg(feature = "cuda")]
fn open(number: usize) -> Result<(Facts, Box<dyn Sgemm>), DeviceError> {
    let (facts, gpu) = Cuda::open(number)?;
    Ok((facts, Box::new(gpu)))
}

#[cfg(not(feature = "cuda"))]
fn open(_: usize) -> Result<(Facts, Box<dyn Sgemm>), DeviceError> {
    Err(DeviceError::NotBuilt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for (typed, device) in [
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:3", Device::Cuda(3)),
        ] {
            assert_eq!(typed.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!(Device::default(), Device::Cpu);
    }

    #[test]
    fn other_names_are_refused_with_what_was_meant() {
        for (typed, meant) in [
            ("cdua", "cuda"),
            ("CUDA", "cuda"),
            ("cuda1", "cuda"),
            ("gpu", "cuda"),
            ("cuda:x", "cuda:0"),
            ("CPU", "cpu"),
        ] {
            let message = typed.parse::<Device>().unwrap_err().to_string();
            assert!(message.contains(&format!("did you mean `{meant}`?")), "{message}");
        }
        let message = "tpu:v5".parse::<Device>().unwrap_err().to_string();
        assert!(
            message.ends_with("is no device; expected cpu, cuda, or cuda:1 for the second GPU"),
            "{message}"
        );
        assert!("cuda:-1".parse::<Device>().is_err() && "".parse::<Device>().is_err());
    }

    #[test]
    fn small_products_stay_on_the_cpu() {
        assert!(for_product(1 << 9, 1 << 10, (1 << 10) - 1).is_none());
        assert!(for_product(usize::MAX, usize::MAX, 2).is_none(), "no GPU was chosen");
        let message = choose(Device::Cuda(4095)).unwrap_err().to_string();
        assert!(message.contains("already"), "{message}");
        assert_eq!(choose(Device::Cpu), Ok(None));
        assert_eq!(left_to_cpu(), None);
    }
}
