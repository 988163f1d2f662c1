//! A data sheet: the facts of a `[device]` section, of which some may be left to a relative.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;

use crate::hardware::profile::device::{Device, Granularity, Tile};
use crate::hardware::profile::error::ProfileError;
use crate::hardware::profile::known_devices;
use crate::hardware::profile::manifest;
use crate::hardware::profile::section::{self, Findings, Limits, Section};
use crate::names;
use crate::units::{Bytes, BytesPerSecond, DType, FlopsPerSecond};

/// What a sheet says; what it leaves out is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Datasheet {
    /// Name for people.
    pub name: Option<String>,
    /// Where the facts come from.
    pub source: Option<String>,
    /// Dense peak of each operand type.
    pub peaks: BTreeMap<DType, FlopsPerSecond>,
    /// Device memory.
    pub hbm: Option<Bytes>,
    /// Its bandwidth.
    pub hbm_bandwidth: Option<BytesPerSecond>,
    /// Last-level cache.
    pub l2: Option<Bytes>,
    /// Matrix cores.
    pub cores: Option<u64>,
    /// Tile: m, n, k.
    pub tile: [Option<u64>; 3],
    /// One-way bandwidth to the other devices of a node.
    pub interconnect: Option<BytesPerSecond>,
    /// Multiples of hidden size and FFN width.
    pub multiples: [Option<u64>; 2],
}

/// A data sheet that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DatasheetError {
    /// Neither a file, nor `key=value` pairs, nor a known device.
    #[error(
        "--datasheet {name}: neither a file nor a known device ({known}){}; give a TOML file with the keys of [device], a known device, or pairs such as bf16=362,hbm_gib=45,hbm_gbps=864,cores=142",
        names::did_you_mean(.closest.as_deref())
    )]
    UnknownDevice {
        /// What was given.
        name: String,
        /// The known device most like it.
        closest: Option<String>,
        /// All of them.
        known: String,
    },
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Defects of the sheet, all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Defects(Vec<ProfileError>),
    /// A pair without `=`.
    #[error("--datasheet: `{pair}` is no key=value pair, such as hbm_gbps=864")]
    Pair {
        /// The text.
        pair: String,
    },
    /// Facts that no relative can stand in for.
    #[error(
        "{file}: missing {}: these are the device's own and cannot be taken from its relative",
        .missing.join(", ")
    )]
    Missing {
        /// The sheet.
        file: String,
        /// Keys with what is expected of them.
        missing: Vec<&'static str>,
    },
}

impl Datasheet {
    /// From what stands behind `--datasheet`: a TOML file (the keys of `[device]`, in that section or bare; other
    /// sections of a whole `profile.toml` are passed over), `key=value` pairs with commas between, or the name of a
    /// known device.
    ///
    /// # Errors
    /// See [`DatasheetError`]; every defect of a file or list is told.
    pub fn read(given: &str) -> Result<Self, DatasheetError> {
        let path = Path::new(given);
        if path.is_file() || given.ends_with(".toml") {
            let unreadable = |e: std::io::Error| DatasheetError::Unreadable {
                path: given.to_string(),
                reason: e.to_string(),
            };
            return Self::parse(given, &std::fs::read_to_string(path).map_err(unreadable)?);
        }
        if given.contains('=') {
            return Self::parse("--datasheet", &as_toml(given)?);
        }
        known_devices::datasheet(given)
    }

    /// From TOML; `file` names it in errors.
    ///
    /// # Errors
    /// Every defect found.
    pub fn parse(file: &str, text: &str) -> Result<Self, DatasheetError> {
        let (document, syntax) = DeTable::parse_recoverable(text);
        if !syntax.is_empty() {
            return Err(DatasheetError::Defects(manifest::syntax_errors(file, text, &syntax)));
        }
        let mut out = Findings::of(file, text);
        let mut top = Section::new("the data sheet", 0..0, document.get_ref());
        let sheet = match top.optional("device") {
            Some(value) => {
                ["name", "stack", "tables"].into_iter().for_each(|key| {
                    top.optional(key);
                });
                top.close(&mut out);
                let section = section::as_section("[device]", "device", value, &mut out);
                section.map(|s| read(s, &mut out)).unwrap_or_default()
            }
            None => read(top, &mut out),
        };
        out.errors.sort_by(|a, b| a.place.cmp(&b.place));
        if out.errors.is_empty() { Ok(sheet) } else { Err(DatasheetError::Defects(out.errors)) }
    }

    /// The device, with what the sheet leaves out taken from `relative` where that is sound; the keys so taken.
    ///
    /// # Errors
    /// [`DatasheetError::Missing`] with everything that cannot be taken; `file` names the sheet in it.
    pub fn complete(
        &self,
        file: &str,
        relative: &Device,
    ) -> Result<(Device, Vec<&'static str>), DatasheetError> {
        let needed = [
            (self.peaks.contains_key(&DType::Bf16), "peak_tflops.bf16 (dense, 10^12 operations/s)"),
            (self.hbm.is_some(), "hbm_gib (device memory)"),
            (self.hbm_bandwidth.is_some(), "hbm_gbps (its bandwidth, 10^9 bytes/s)"),
            (self.cores.is_some(), "cores (SMs on GPUs, cube cores on Ascend)"),
        ];
        let missing: Vec<_> = needed.into_iter().filter(|(there, _)| !there).map(|(_, key)| key).collect();
        let (Some(hbm), Some(hbm_bandwidth), Some(cores), []) =
            (self.hbm, self.hbm_bandwidth, self.cores, missing.as_slice())
        else {
            return Err(DatasheetError::Missing { file: file.to_string(), missing });
        };
        let mut taken = Vec::new();
        let mut from = |own: Option<u64>, other: u64, key: &'static str| {
            own.unwrap_or_else(|| {
                taken.push(key);
                other
            })
        };
        let ([m, n, k], [hidden, ffn]) = (self.tile, self.multiples);
        let tile = Tile {
            m: from(m, relative.tile.m, "tile_m"),
            n: from(n, relative.tile.n, "tile_n"),
            k: from(k, relative.tile.k, "tile_k"),
        };
        let granularity = Granularity {
            hidden: from(hidden, relative.granularity.hidden, "multiple_hidden"),
            ffn: from(ffn, relative.granularity.ffn, "multiple_ffn"),
        };
        if self.l2.is_none() && relative.l2.is_some() {
            taken.push("l2_mib");
        }
        if self.interconnect.is_none() {
            taken.push("interconnect_gbps");
        }
        let device = Device {
            name: self.name.clone().unwrap_or_default(),
            peaks: self.peaks.clone(),
            hbm,
            hbm_bandwidth,
            l2: self.l2.or(relative.l2),
            cores,
            tile,
            interconnect: self.interconnect.unwrap_or(relative.interconnect),
            granularity,
        };
        Ok((device, taken))
    }
}

fn read(mut s: Section<'_>, out: &mut Findings<'_>) -> Datasheet {
    let peaks =
        s.optional("peak_tflops").and_then(|v| section::as_section("peak_tflops", "peak_tflops", v, out));
    let sheet = Datasheet {
        name: s.optional_text("name", out),
        source: s.optional_text("source", out),
        peaks: peaks.map(|peaks| manifest::read_peaks(&peaks, out)).unwrap_or_default(),
        hbm: s.optional_number("hbm_gib", Limits::Positive, out).map(Bytes::from_gib),
        hbm_bandwidth: s.optional_number("hbm_gbps", Limits::Positive, out).map(BytesPerSecond::from_gbps),
        l2: s.optional_number("l2_mib", Limits::Positive, out).map(Bytes::from_mib),
        cores: s.optional_count("cores", out),
        tile: ["tile_m", "tile_n", "tile_k"].map(|key| s.optional_count(key, out)),
        interconnect: s
            .optional_number("interconnect_gbps", Limits::Positive, out)
            .map(BytesPerSecond::from_gbps),
        multiples: ["multiple_hidden", "multiple_ffn"].map(|key| s.optional_count(key, out)),
    };
    s.close(out);
    sheet
}

/// `bf16=362,hbm_gib=45` as TOML, a line for each pair; element types are peaks.
fn as_toml(pairs: &str) -> Result<String, DatasheetError> {
    let mut text = String::new();
    for pair in pairs.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(DatasheetError::Pair { pair: pair.to_string() });
        };
        let (key, value) = (key.trim(), value.trim());
        let plain = key.strip_prefix("peak_tflops.").or(key.strip_suffix("_tflops")).unwrap_or(key);
        let peak = DType::ALL.iter().any(|dtype| dtype.name() == plain);
        let key = if peak { format!("peak_tflops.{plain}") } else { key.to_string() };
        let value = match value.parse::<f64>() {
            Ok(_) => value.to_string(),
            Err(_) => toml::Value::String(value.to_string()).to_string(),
        };
        text.push_str(&format!("{key} = {value}\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::profile::HardwareProfile;

    const PAIRS: &str =
        "bf16=362.05,fp8=733,hbm_gib=45,hbm_gbps=864,l2_mib=96,cores=142,interconnect_gbps=32";

    #[test]
    fn pairs_and_sections_say_the_same() {
        let pairs = Datasheet::read(PAIRS).unwrap();
        let bare = "peak_tflops = { bf16 = 362.05, fp8 = 733 }\nhbm_gib = 45\nhbm_gbps = 864\nl2_mib = 96\ncores = 142\ninterconnect_gbps = 32\n";
        assert_eq!(Datasheet::parse("x.toml", bare).unwrap(), pairs);
        let section = format!("name = \"x\"\n[device]\n{bare}");
        assert_eq!(Datasheet::parse("x.toml", &section).unwrap(), pairs);
        let relative = HardwareProfile::builtin("h100_sxm").unwrap().device;
        let (device, taken) = pairs.complete("x", &relative).unwrap();
        assert_eq!((device.cores, device.tile), (142, relative.tile));
        assert_eq!(taken, ["tile_m", "tile_n", "tile_k", "multiple_hidden", "multiple_ffn"]);
    }

    #[test]
    fn all_that_is_missing_is_one_error() {
        let relative = HardwareProfile::builtin("h100_sxm").unwrap().device;
        let error = Datasheet::read("fp8=733,hbm_gib=45").unwrap().complete("it", &relative).unwrap_err();
        let text = error.to_string();
        assert!(["peak_tflops.bf16", "hbm_gbps", "cores"].iter().all(|key| text.contains(key)), "{text}");
        assert!(!text.contains("hbm_gib"), "{text}");
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        let says = |given: &str| Datasheet::read(given).unwrap_err().to_string();
        assert!(says("l40").contains("did you mean `l40s`?"));
        assert!(says("hbm_gb=45").contains("call it `hbm_gib`"), "{}", says("hbm_gb=45"));
        assert!(says("cores=-3").contains("`cores` is -3"), "{}", says("cores=-3"));
        assert!(says("cores=3,x").contains("`x` is no key=value pair"));
        assert!(says("none.toml").starts_with("none.toml: "));
        let twice = says("hbm_gbps=nan,bf17=3");
        assert_eq!(twice.lines().count(), 2, "{twice}");
    }
}
