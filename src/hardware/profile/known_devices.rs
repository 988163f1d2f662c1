//! Data sheets of devices nobody has to type: a small table of published facts, each line with its sources.

use serde::Deserialize;

use crate::hardware::profile::datasheet::{Datasheet, DatasheetError};
use crate::names;
use crate::units::{Bytes, BytesPerSecond, DType, FlopsPerSecond};

/// The table as it stands; importers read cores, cache and tile from it.
pub(crate) const TABLE: &str = include_str!("devices.csv");

/// One line of the table; keys and units as in `profile.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    system: String,
    name: String,
    cores: u64,
    l2_mib: Option<f64>,
    tile_m: u64,
    tile_n: u64,
    tile_k: u64,
    source: String,
    bf16_tflops: Option<f64>,
    fp8_tflops: Option<f64>,
    int8_tflops: Option<f64>,
    hbm_gib: Option<f64>,
    hbm_gbps: Option<f64>,
    interconnect_gbps: Option<f64>,
    sheet_source: String,
}

impl Line {
    fn datasheet(self) -> Datasheet {
        let peaks =
            [(DType::Bf16, self.bf16_tflops), (DType::Fp8, self.fp8_tflops), (DType::Int8, self.int8_tflops)];
        let known = |(dtype, peak): (DType, Option<f64>)| Some((dtype, FlopsPerSecond::from_tflops(peak?)));
        let source = match self.source == self.sheet_source {
            true => self.source,
            false => format!("{}; {}", self.sheet_source, self.source),
        };
        Datasheet {
            name: Some(self.name),
            source: Some(source),
            peaks: peaks.into_iter().filter_map(known).collect(),
            hbm: self.hbm_gib.map(Bytes::from_gib),
            hbm_bandwidth: self.hbm_gbps.map(BytesPerSecond::from_gbps),
            l2: self.l2_mib.map(Bytes::from_mib),
            cores: Some(self.cores),
            tile: [Some(self.tile_m), Some(self.tile_n), Some(self.tile_k)],
            interconnect: self.interconnect_gbps.map(BytesPerSecond::from_gbps),
            ..Datasheet::default()
        }
    }
}

fn lines() -> Vec<Line> {
    csv::Reader::from_reader(TABLE.as_bytes()).deserialize().filter_map(Result::ok).collect()
}

/// Names of the devices whose whole sheet is in the table.
pub fn names() -> Vec<String> {
    lines().into_iter().filter(|line| line.bf16_tflops.is_some()).map(|line| line.system).collect()
}

/// The data sheet of a device of the table.
///
/// # Errors
/// [`DatasheetError::UnknownDevice`] with the closest name.
pub fn datasheet(system: &str) -> Result<Datasheet, DatasheetError> {
    match lines().into_iter().find(|line| line.system == system && line.bf16_tflops.is_some()) {
        Some(line) => Ok(line.datasheet()),
        None => {
            let known = names();
            let closest = names::closest(system, known.iter().map(String::as_str)).map(str::to_string);
            Err(DatasheetError::UnknownDevice { name: system.to_string(), closest, known: known.join(", ") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::profile::HardwareProfile;

    #[test]
    fn every_line_is_read_and_agrees_with_the_profiles() {
        assert_eq!(lines().len(), TABLE.lines().count() - 1);
        for name in ["a100_sxm", "h100_sxm", "h200_sxm", "ascend_910b"] {
            let profile = HardwareProfile::builtin(name).unwrap().device;
            let (device, taken) = datasheet(name).unwrap().complete("the table", &profile).unwrap();
            assert_eq!(
                (device.peaks, device.hbm_bandwidth),
                (profile.peaks, profile.hbm_bandwidth),
                "{name}"
            );
            assert_eq!(
                (device.cores, device.l2, device.hbm),
                (profile.cores, profile.l2, profile.hbm),
                "{name}"
            );
            assert_eq!((device.tile, device.interconnect), (profile.tile, profile.interconnect), "{name}");
            assert_eq!(taken.len(), 2, "only multiples: {taken:?}");
        }
    }
}
