//! The published kernel database against the tables that ship, which are subsets of it. Ignored: the wheel is not part
//! of this repository.
//!
//! `pip download --no-deps aiconfigurator-core==0.12.0`, then
//! `AICONFIGURATOR=aiconfigurator_core-0.12.0-….whl cargo test --release --test import_wheels -- --ignored`.

use std::collections::BTreeMap;
use std::path::Path;

use archplan::hardware::import::device::GivenFacts;
use archplan::hardware::import::{self, Format, Request};
use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::profile::HardwareProfile;

#[test]
#[ignore = "needs the wheel aiconfigurator-core 0.12.0: set AICONFIGURATOR to its path"]
fn every_row_that_ships_is_reproduced() {
    let wheel = std::env::var("AICONFIGURATOR").expect("AICONFIGURATOR: the path of the wheel");
    for system in ["h200_sxm", "h100_sxm", "a100_sxm"] {
        let import = import::import(&Request {
            format: Format::Aiconfigurator,
            source: Path::new(&wheel),
            name: "imported",
            system: Some(system),
            framework: Some("vllm"),
            version: None,
            measured_on: None,
            prefer_kernel: None,
            sheet: None,
            facts: GivenFacts::default(),
            licence: None,
            date: "2026-08-21",
        })
        .unwrap();
        let shipped = HardwareProfile::builtin(system).unwrap();
        assert_eq!(import.draft.device, shipped.device, "{system}");
        assert_eq!(import.draft.elementwise.0, shipped.elementwise, "{system}");
        assert_eq!(import.draft.stack, shipped.stack, "{system}");
        for family in KernelFamily::TABLES {
            let rows = &import.draft.families.iter().find(|f| f.family == family).unwrap().rows;
            let imported: BTreeMap<_, _> = rows.iter().map(|row| (row.call, row.latency)).collect();
            for row in shipped.rows(family).unwrap().iter() {
                let latency =
                    imported.get(&row.call).unwrap_or_else(|| panic!("{system}: {:?} is missing", row.call));
                // The tables that ship are rounded to five digits.
                let off = (*latency / row.latency - 1.0).abs();
                assert!(off < 5.1e-5, "{system} {:?}: {latency} and {}", row.call, row.latency);
            }
        }
        for file in &import.report.files {
            let sum: usize = file.kept.values().chain(file.skipped.values()).sum();
            assert_eq!(sum, file.rows, "{file:?}");
        }
    }
}
