//! Facts of well-known devices under the names PyTorch gives them: those of the built-in profiles, and a few more.

use serde_json::{Map, Value};

use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::error::ProfileError;
use crate::units::DType;

/// Built-in profiles and the names PyTorch gives their devices.
const PROFILES: [(&str, &[&str]); 4] = [
    ("h200_sxm", &["NVIDIA H200"]),
    ("h100_sxm", &["NVIDIA H100 80GB HBM3"]),
    ("a100_sxm", &["NVIDIA A100-SXM4-80GB"]),
    ("ascend_910b", &["Ascend910B1", "Ascend910B2"]),
];

/// Why there is no table of devices.
#[derive(Debug, thiserror::Error)]
pub enum DatasheetError {
    /// A built-in profile does not load.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The file that is built in is broken.
    #[error("internal error: datasheets.json: {0}")]
    Json(#[from] serde_json::Error),
}

/// One object a device: `names`, `source`, `<dtype>_tflops`, `hbm_gbps`, `l2_mib`, `cores`, `interconnect_gbps`, `tile`.
///
/// # Errors
/// Data that is built in is broken.
pub fn all() -> Result<Vec<Value>, DatasheetError> {
    let mut sheets = Vec::new();
    for (name, names) in PROFILES {
        let profile = HardwareProfile::builtin(name)?;
        let device = &profile.device;
        let mut sheet = Map::new();
        sheet.insert("names".into(), names.to_vec().into());
        sheet.insert("source".into(), profile.device_source.as_str().into());
        for dtype in DType::ALL {
            let peak = device.peaks.get(&dtype).map(|rate| rate.tflops());
            sheet.extend(peak.map(|peak| (format!("{dtype}_tflops"), peak.into())));
        }
        sheet.insert("hbm_gbps".into(), device.hbm_bandwidth.gbps().into());
        sheet.extend(device.l2.map(|l2| ("l2_mib".to_string(), l2.mib().into())));
        sheet.insert("cores".into(), device.cores.into());
        sheet.insert("interconnect_gbps".into(), device.interconnect.gbps().into());
        sheet.insert("tile".into(), vec![device.tile.m, device.tile.n, device.tile.k].into());
        sheets.push(Value::Object(sheet));
    }
    let more: Vec<Value> = serde_json::from_str(include_str!("datasheets.json"))?;
    sheets.extend(more);
    Ok(sheets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sheet_has_a_source_and_every_name_is_there_once() {
        let mut names = std::collections::BTreeSet::new();
        for sheet in all().unwrap() {
            assert!(sheet["source"].as_str().is_some_and(|text| text.len() > 10), "{sheet}");
            assert!(sheet["bf16_tflops"].as_f64().unwrap() > 50.0);
            assert!(sheet["hbm_gbps"].as_f64().unwrap() >= 300.0);
            for name in sheet["names"].as_array().unwrap() {
                assert!(names.insert(name.to_string()), "{name} twice");
            }
        }
        assert!(names.contains("\"NVIDIA H200\"") && names.contains("\"NVIDIA L40S\""));
    }
}
