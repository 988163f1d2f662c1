//! Shipped profiles, loaded and checked completely; good profiles of every form; the registry.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use archplan::estimate::Source;
use archplan::hardware::kernel::{Backend, KernelCall, KernelFamily};
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::check;
use archplan::hardware::profile::coverage;
use archplan::hardware::profile::registry::Profiles;
use archplan::hardware::profile::table;
use archplan::units::{Bytes, DType, Seconds};

#[test]
fn every_shipped_profile_is_sound() {
    let profiles = Profiles::new(&[]).unwrap();
    for name in profiles.names() {
        let profile = profiles.get(name).unwrap_or_else(|e| panic!("{e}"));
        let report = check::check_loaded(&profile);
        assert!(report.errors.is_empty(), "{:#?}", report.errors);
        assert!(report.warnings.is_empty(), "{:#?}", report.warnings);
        let measured = profile.tables.iter().filter(|(_, info)| info.provenance == Source::Measured);
        assert_eq!(report.rows.keys().collect::<Vec<_>>(), measured.map(|(f, _)| f).collect::<Vec<_>>());
        for (family, info) in &profile.tables {
            assert!(info.provenance != Source::Fitted || profile.fit_text(*family).is_some());
            // Attribution is owed for rows that ship.
            assert!(info.provenance != Source::Measured || info.copyright.is_some(), "{name} {family}");
        }
    }
}

/// A folder that the registry would skip is a profile that nobody can use.
#[test]
fn every_shipped_folder_is_a_profile() {
    let folders = std::fs::read_dir("hardware_profiles").unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| path.is_dir() && !path.ends_with("engines"));
    let folders: BTreeSet<_> =
        folders.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let profiles = Profiles::new(&[]).unwrap();
    assert_eq!(folders, profiles.names().map(str::to_string).collect());
    assert_eq!(folders.len(), 4);
}

/// The index names every profile, and says of each family what the manifest says.
#[test]
fn the_index_is_true() {
    let index = std::fs::read_to_string("hardware_profiles/README.md").unwrap();
    let families = KernelFamily::TABLES.into_iter().chain([KernelFamily::Elementwise]);
    for name in Profiles::new(&[]).unwrap().names() {
        let profile = HardwareProfile::builtin(name).unwrap();
        let start = format!("| `{name}` |");
        let line = index.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{name}"));
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        for (family, cell) in families.clone().zip(&cells[4..]) {
            let said = profile.provenance(family).map_or("–", Source::name);
            assert!(cell.starts_with(said), "{name} {family}: `{cell}` but {said}");
            if said == "measured" {
                let rows = profile.rows(family).unwrap().len();
                assert!(cell.replace(' ', "").contains(&format!("{rows}rows")), "{name} {family}: `{cell}`");
            }
        }
    }
}

#[test]
fn the_embedded_profile_is_the_one_on_disk() {
    for name in Profiles::new(&[]).unwrap().names() {
        let embedded = HardwareProfile::builtin(name).unwrap();
        let on_disk = HardwareProfile::load(&Path::new("hardware_profiles").join(name)).unwrap();
        assert_eq!(embedded.hash(), on_disk.hash(), "{name}");
        assert_eq!(embedded.device, on_disk.device);
    }
}

#[test]
fn device_facts_are_those_of_the_data_sheet() {
    let h200 = HardwareProfile::builtin("h200_sxm").unwrap().device;
    assert_eq!(h200.peaks[&DType::Fp8].tflops(), 1978.0);
    assert_eq!(h200.hbm, Bytes::from_gib(141.0));
    assert_eq!(h200.hbm_bandwidth.gbps(), 4800.0);
    assert_eq!((h200.granularity.hidden, h200.granularity.ffn), (256, 512));
    let ascend = HardwareProfile::builtin("ascend_910b").unwrap();
    assert_eq!((ascend.device.cores, ascend.device.tile.k), (24, 16));
    let rule = ascend.all_reduce.unwrap();
    assert_eq!((rule.latency, rule.full_mesh_devices), (Seconds::from_us(10.0), Some(8)));
}

/// First and last rows of the shipped H200 tables, copied by hand from the files.
#[test]
fn shipped_rows_come_back_as_they_stand() {
    let profile = HardwareProfile::builtin("h200_sxm").unwrap();
    let gemm = profile.rows(KernelFamily::Gemm).unwrap();
    assert_eq!(gemm.len(), 64_352);
    assert_eq!(gemm[0].call, KernelCall::Gemm { m: 1, n: 32, k: 32, dtype: DType::Bf16 });
    assert_eq!(gemm[0].latency, Seconds::from_us(2.5307));
    let reduce = profile.rows(KernelFamily::AllReduce).unwrap();
    let first = KernelCall::AllReduce { world: 2, bytes: 256, backend: Backend::VllmEager };
    assert_eq!((reduce[0].call, reduce[0].latency), (first, Seconds::from_us(20.827)));
    // Parsed once, shared by clones.
    assert!(std::sync::Arc::ptr_eq(&gemm, &profile.clone().rows(KernelFamily::Gemm).unwrap()));
}

#[test]
fn profiles_of_a_folder_join_the_built_in_ones() {
    // Given twice, and once more by a path of its own: the same profiles, no clash.
    let dirs = ["tests/data/good", "tests/data/good/../good", "tests/data/good/tiny"].map(PathBuf::from);
    let profiles = Profiles::new(&dirs).unwrap();
    let names: Vec<_> = profiles.names().collect();
    let expected = ["a100_sxm", "ascend_910b", "h100_sxm", "h200_sxm", "tiny", "tiny_fast", "tiny_fitted"];
    assert_eq!(names, [expected.as_slice(), &["tiny_windows"]].concat());
    let tiny = profiles.get("tiny").unwrap();
    assert_eq!(tiny.rows(KernelFamily::AttentionDecode).unwrap().len(), 2);
    assert!(tiny.evaluation_text().unwrap().starts_with("family,dtype,n,"));
    assert_eq!(profiles.get("tiny_fitted").unwrap().fit_text(KernelFamily::Gemm), Some("{}\n"));
}

#[test]
fn windows_line_ends_and_byte_order_marks_change_nothing() {
    let windows = HardwareProfile::load(Path::new("tests/data/good/tiny_windows")).unwrap();
    let plain = HardwareProfile::load(Path::new("tests/data/good/tiny")).unwrap();
    assert_eq!(windows.rows(KernelFamily::Gemm).unwrap(), plain.rows(KernelFamily::Gemm).unwrap());
    assert_eq!(windows.device, plain.device);
}

#[test]
fn a_row_far_faster_than_the_data_sheet_is_remarked_upon() {
    let report = check::check(Path::new("tests/data/good/tiny_fast"));
    assert_eq!(report.errors, []);
    // 2 * 4096^3 operations at 100 TFLOPS are 1.37 ms; the row below it, at 2 ms for twice the work, may stand.
    assert_eq!(
        report.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "tests/data/good/tiny_fast/gemm.csv:4:1: 200 µs is 6.87 times faster than the data sheet allows (1.37 ms): \
         is the row sound?"
        ]
    );
}

#[test]
fn a_folder_of_tables_needs_no_manifest() {
    let tables = table::read_folder(Path::new("tests/data/bad/missing_manifest")).unwrap();
    assert_eq!(tables.keys().collect::<Vec<_>>(), [&KernelFamily::Gemm]);
    assert_eq!(tables[&KernelFamily::Gemm].len(), 2);
    let strict = table::read_folder(Path::new("tests/data/bad/duplicate_row")).unwrap_err();
    assert!(strict.to_string().starts_with("tests/data/bad/duplicate_row/gemm.csv:4:1: the same call"));
}

#[test]
fn coverage_lists_each_axis() {
    let profile = HardwareProfile::load(Path::new("tests/data/good/tiny")).unwrap();
    let axes = coverage::axes(&profile.rows(KernelFamily::AllReduce).unwrap());
    let axes: Vec<_> = axes.into_iter().map(|axis| (axis.name, axis.values)).collect();
    assert_eq!(axes, [("world", vec![2, 4]), ("bytes", vec![1024, 4096])]);
}
