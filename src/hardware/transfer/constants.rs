//! The constants of laws and priors, fitted to several devices by docs/transfer/learn.py.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::kernel_model::carried::correction::Prior;
use crate::hardware::latency::kernel_model::carried::law::Law;
use crate::units::DType;

const CONSTANTS: &str = include_str!("constants.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Whose rows the constants were fitted to.
    #[serde(rename = "source")]
    _source: String,
    sets: Vec<Constants>,
}

/// Constants fitted to one set of devices.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constants {
    /// Systems whose rows had no part in them.
    pub without: Vec<String>,
    /// Systems whose rows had.
    pub devices: Vec<String>,
    /// Constants of each family.
    families: BTreeMap<KernelFamily, FamilyConstants>,
}

/// Constants of one kernel family.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilyConstants {
    laws: BTreeMap<DType, Law>,
    /// How devices stray.
    pub prior: Prior,
}

/// The constants in the binary cannot be read: a defect of the build.
#[derive(Debug, thiserror::Error)]
#[error("the constants of the transfer are damaged ({0}); install archplan again")]
pub struct DamagedConstants(String);

impl Constants {
    /// Fitted to all devices.
    ///
    /// # Errors
    /// Never in a sound build.
    pub fn all() -> Result<Self, DamagedConstants> {
        Self::without("")
    }

    /// Fitted without the rows of a system, if it had any part in the others; else to all.
    ///
    /// # Errors
    /// Never in a sound build.
    pub fn without(system: &str) -> Result<Self, DamagedConstants> {
        let file: File = serde_json::from_str(CONSTANTS).map_err(|e| DamagedConstants(e.to_string()))?;
        let (mut left_out, all): (Vec<_>, Vec<_>) =
            file.sets.into_iter().partition(|set| set.without.iter().any(|name| name == system));
        let full = all.into_iter().find(|set| set.without.is_empty());
        left_out.pop().or(full).ok_or_else(|| DamagedConstants("no set of all devices".to_string()))
    }

    /// Those of a family; none for families without a grid.
    pub fn of(&self, family: KernelFamily) -> Option<&FamilyConstants> {
        self.families.get(&family)
    }
}

impl FamilyConstants {
    /// The law of an element type; 8-bit integers go by the law of 8-bit floats, which was fitted.
    pub fn law(&self, dtype: DType) -> Option<Law> {
        let fitted = match dtype {
            DType::Int8 => DType::Fp8,
            DType::F32 => DType::Bf16,
            other => other,
        };
        self.laws.get(&fitted).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::latency::kernel_model::device_model::LEARNED;

    #[test]
    fn every_shipped_device_can_be_left_out() {
        let all = Constants::all().unwrap();
        assert!(all.without.is_empty() && all.devices.len() >= 6);
        for system in &all.devices {
            let set = Constants::without(system).unwrap();
            assert!(set.without.contains(system) && !set.devices.contains(system), "{system}");
            for family in LEARNED {
                let of = set.of(family).unwrap();
                assert!(DType::ALL.iter().all(|dtype| of.law(*dtype).is_some()));
            }
        }
        assert_eq!(Constants::without("my_gpu").unwrap().devices, all.devices);
    }
}
