//! What the importers know of devices: the sheet the user gives, or a source's own facts completed from a small
//! table of published ones.

use crate::hardware::import::error::ImportError;
use crate::hardware::profile::device::Tile;
use crate::hardware::profile::known_devices;
use crate::units::{Bytes, DType};

/// Cores, tiles and caches as published, one line a system; its last column cites.
const KNOWN: &str = known_devices::TABLE;

/// Device facts given on the command line; they come before any other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GivenFacts {
    /// Matrix cores working side by side.
    pub cores: Option<u64>,
    /// Granularity of one core.
    pub tile: Option<Tile>,
    /// Last-level cache.
    pub l2: Option<Bytes>,
}

/// A line of the table of known devices.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) cores: u64,
    pub(crate) l2: Option<Bytes>,
    pub(crate) tile: Tile,
    pub(crate) source: String,
}

/// Cores, tile and cache of a system of that name, and where they come from.
///
/// # Errors
/// [`ImportError::UnknownFact`] with the flag that helps, for a system neither the table nor the user knows.
pub(crate) fn shape_of(system: &str, given: &GivenFacts, place: &str) -> Result<Known, ImportError> {
    let known = known(system);
    let unknown = |fact, flag| ImportError::UnknownFact {
        source_name: place.to_string(),
        fact,
        device: system.to_string(),
        flag,
    };
    let cores = given.cores.or(known.as_ref().map(|k| k.cores));
    let tile = given.tile.or(known.as_ref().map(|k| k.tile));
    let cores = cores.ok_or_else(|| {
        unknown(
            "the number of matrix cores (SMs)",
            "--cores, such as --cores 132, and --tile, such as --tile 128x256x64",
        )
    })?;
    let tile = tile.ok_or_else(|| unknown("the tile of one core", "--tile, such as --tile 128x256x64"))?;
    let mut sources = Vec::new();
    if given.cores.is_some() || given.tile.is_some() || given.l2.is_some() {
        sources.push("the command line of the import".to_string());
    }
    sources.extend(known.as_ref().map(|k| k.source.clone()));
    Ok(Known {
        name: known.as_ref().map_or_else(|| system.to_string(), |k| k.name.clone()),
        cores,
        l2: given.l2.or(known.and_then(|k| k.l2)),
        tile,
        source: sources.join("; "),
    })
}

fn known(system: &str) -> Option<Known> {
    let mut reader = csv::Reader::from_reader(KNOWN.as_bytes());
    reader.records().flatten().find(|line| line.get(0) == Some(system)).and_then(|line| {
        let number = |column: usize| line.get(column).and_then(|cell| cell.parse::<u64>().ok());
        Some(Known {
            name: line.get(1)?.to_string(),
            cores: number(2)?,
            l2: number(3).map(|mib| Bytes::from_mib(mib as f64)),
            tile: Tile { m: number(4)?, n: number(5)?, k: number(6)? },
            source: line.get(7)?.to_string(),
        })
    })
}

/// Reads `128x256x64`.
///
/// # Errors
/// A message for the user.
pub fn parse_tile(text: &str) -> Result<Tile, String> {
    let parts: Vec<Option<u64>> =
        text.split(['x', '×']).map(|part| part.trim().parse().ok().filter(|x| *x > 0)).collect();
    match parts.as_slice() {
        [Some(m), Some(n), Some(k)] => Ok(Tile { m: *m, n: *n, k: *k }),
        _ => Err(format!(
            "`{text}` is not a tile such as 128x256x64 (rows x output features x input features)"
        )),
    }
}

/// Type of weights and activations by the name a database gives it.
pub(crate) fn dtype(name: &str) -> Option<DType> {
    match name {
        "bfloat16" | "float16" | "half" | "bf16" | "fp16" => Some(DType::Bf16),
        "fp8" => Some(DType::Fp8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_device_is_whole() {
        let mut reader = csv::Reader::from_reader(KNOWN.as_bytes());
        let systems: Vec<String> = reader.records().map(|line| line.unwrap()[0].to_string()).collect();
        assert!(systems.len() >= 10);
        for system in systems {
            let known = known(&system).unwrap_or_else(|| panic!("{system} is not whole"));
            assert!(known.cores > 0 && !known.source.is_empty(), "{system}");
        }
    }

    #[test]
    fn the_user_comes_first_and_is_cited() {
        let given = GivenFacts { cores: Some(7), ..GivenFacts::default() };
        let shape = shape_of("h200_sxm", &given, "x").unwrap();
        assert_eq!((shape.cores, shape.tile.n), (7, 256));
        assert!(shape.source.contains("command line"));
        let error = shape_of("h900", &given, "h900.yaml").unwrap_err().to_string();
        assert_eq!(
            error,
            "h900.yaml does not state the tile of one core of h900: give --tile, such as --tile 128x256x64"
        );
        assert!(parse_tile("128x256").is_err() && parse_tile("0x1x1").is_err());
    }
}
