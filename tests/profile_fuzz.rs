//! Damaged profile files: whatever bytes stand in them, they are read or refused, and what is read can be asked.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::latency::cost::KernelCosts;
use archplan::hardware::latency::kernel_model::axes;
use archplan::hardware::latency::kernel_model::coarse;
use archplan::hardware::latency::kernel_model::crossval::Split;
use archplan::hardware::latency::kernel_model::device_model::{KernelModel, LEARNED};
use archplan::hardware::latency::kernel_model::ensemble::{Ensemble, Fit};
use archplan::hardware::latency::kernel_model::evaluation;
use archplan::hardware::latency::kernel_model::fit_file::{FitFile, VERSION};
use archplan::hardware::latency::kernel_model::members::{Effort, Rows};
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::check;
use archplan::hardware::profile::device::Device;
use archplan::hardware::profile::table::{self, Row};
use archplan::units::DType;
use proptest::prelude::*;

const TABLES: [(KernelFamily, &str); 4] = [
    (
        KernelFamily::Gemm,
        "m,n,k,dtype,latency_us,spread_percent\n1,64,64,bf16,2.5,0.5\n1,64,64,fp8,2.25,\n16,64,128,bf16,3e0,12\n",
    ),
    (
        KernelFamily::AttentionPrefill,
        "batch,seq_len,q_heads,kv_heads,head_dim,dtype,latency_us,spread_percent\n1,16,8,2,128,bf16,5,1.25\n1,16,8,4,128,fp8,6,\n",
    ),
    (
        KernelFamily::AttentionDecode,
        "batch,kv_len,q_heads,kv_heads,head_dim,dtype,latency_us,spread_percent\n1,16,8,2,128,bf16,5,0\n2,16,8,2,128,fp8,6,3\n",
    ),
    (
        KernelFamily::AllReduce,
        "world,bytes,backend,latency_us,spread_percent\n2,1024,nccl,6,2\n2,1024,vllm_graph,4.5,\n4,1024,nccl,9,1\n",
    ),
];

/// A stretch of bytes replaced by others, anywhere.
#[derive(Clone, Debug)]
struct Damage {
    at: prop::sample::Index,
    length: usize,
    put: Vec<u8>,
}

impl Damage {
    fn of(&self, text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        let from = self.at.index(bytes.len());
        let to = (from + self.length).min(bytes.len());
        bytes.splice(from..to, self.put.iter().copied());
        bytes
    }
}

/// Bytes of any kind, and such as stand in these files.
fn damage() -> impl Strategy<Value = Damage> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"0123456789eE+-.,\n\r\"[]{}=#: ".to_vec()),];
    (any::<prop::sample::Index>(), 0usize..40, prop::collection::vec(byte, 0..12))
        .prop_map(|(at, length, put)| Damage { at, length, put })
}

/// A number of the text replaced by one that nobody expects there.
fn with_number(text: &str, which: prop::sample::Index, put: &str) -> String {
    let mut numbers = Vec::new();
    let mut start = None;
    let mut quoted = false;
    for (i, c) in text.char_indices() {
        quoted ^= c == '"';
        let part = !quoted && (c.is_ascii_digit() || "+-.eE".contains(c));
        match (part && (start.is_some() || c.is_ascii_digit() || c == '-'), start) {
            (true, None) => start = Some(i),
            (false, Some(from)) => {
                numbers.push((from, i));
                start = None;
            }
            _ => {}
        }
    }
    let (from, to) = numbers[which.index(numbers.len())];
    format!("{}{put}{}", &text[..from], &text[to..])
}

fn device() -> Device {
    HardwareProfile::builtin("a100_sxm").unwrap().device
}

/// A small fit with forests and a grid in place of rows, as a file.
fn fit(family: KernelFamily) -> &'static str {
    static FITS: [OnceLock<String>; 2] = [OnceLock::new(), OnceLock::new()];
    let cell = &FITS[usize::from(family != KernelFamily::Gemm)];
    cell.get_or_init(|| {
        let profile = HardwareProfile::builtin("a100_sxm").unwrap();
        let table: Vec<Row> = profile.rows(family).unwrap().iter().step_by(50).copied().collect();
        let rows = Rows::measured(family, DType::Bf16, &profile.device, &table);
        let effort =
            Effort { joint_samples: 300, global_samples: 300, trees: 3, leaves: 4, ..Effort::COARSE };
        let fits: Vec<Fit> = vec![coarse::learn(&rows, &profile.device, effort, 2, &|| ()).0];
        FitFile { version: VERSION, family, fits }.to_text().unwrap()
    })
}

/// Reads a fit and, where it is accepted, asks it for calls within, between and beyond its grid.
fn read_and_ask(family: KernelFamily, text: &str) {
    let Ok(file) = FitFile::read("toy", family, text) else { return };
    for fit in file.fits {
        let ensemble = Ensemble::from_grid(fit, family, &device());
        let asked = match family {
            KernelFamily::Gemm => vec![[1, 64, 64, 0, 0], [100, 5000, 3000, 0, 0], [u32::MAX; 5]],
            _ => vec![[1, 16, 8, 8, 128], [3, 700, 24, 6, 96], [u32::MAX; 5]],
        };
        for at in asked {
            let cost = ensemble.cost(&at);
            assert!(!cost.extrapolated || ensemble.distance(&at) >= 0.0, "{cost:?}");
        }
    }
}

#[test]
fn the_sound_files_are_read() {
    for (family, text) in TABLES {
        let rows = table::parse("table", text.as_bytes(), family, None).unwrap();
        assert!(rows.iter().any(|row| row.spread.is_some()) && rows.len() >= 2, "{family}");
    }
    for family in [KernelFamily::Gemm, KernelFamily::AttentionDecode] {
        let file = FitFile::read("toy", family, fit(family)).unwrap();
        assert!(file.fits[0].grid.len() > 10 && axes::patterns(family).len() == file.fits[0].mixes.len());
        read_and_ask(family, fit(family));
    }
}

fn folder(root: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let dir = root.join("tiny");
    fs::create_dir_all(&dir).unwrap();
    for entry in fs::read_dir("tests/data/good/tiny").unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    fs::write(dir.join(name), bytes).unwrap();
    dir
}

/// Every number a profile may hold, at its largest: rows are fitted and asked without a panic (tests are
/// built with checks for overflow).
#[test]
fn the_largest_numbers_that_are_accepted_can_be_priced() {
    let scratch = tempfile::tempdir().unwrap();
    let most = 1u64 << 30;
    let manifest = fs::read_to_string("tests/data/good/tiny/profile.toml").unwrap();
    let largest =
        |key: &str, text: String| text.replace(&format!("{key} = 8\n"), &format!("{key} = {}\n", i64::MAX));
    let mut manifest = largest("cores", manifest);
    for tile in ["tile_m", "tile_n", "tile_k"] {
        manifest = manifest.replace(&format!("{tile} = 16\n"), &format!("{tile} = {}\n", i64::MAX));
    }
    let dir = folder(scratch.path(), "profile.toml", manifest.as_bytes());
    let gemm = format!(
        "m,n,k,dtype,latency_us\n1,1,1,bf16,1\n{most},{most},{most},bf16,1e300\n1,{most},1,bf16,1e-300\n"
    );
    fs::write(dir.join("gemm.csv"), gemm).unwrap();
    for (name, length) in [("attention_prefill", "seq_len"), ("attention_decode", "kv_len")] {
        let head = format!("batch,{length},q_heads,kv_heads,head_dim,dtype,latency_us");
        let rows = format!(
            "1,1,1,1,1,bf16,1\n{most},{most},{most},{most},{most},bf16,9\n1,1,{most},1,{most},bf16,2\n"
        );
        fs::write(dir.join(format!("{name}.csv")), format!("{head}\n{rows}")).unwrap();
    }
    fs::remove_file(dir.join("evaluation.csv")).unwrap();
    let report = check::check(&dir);
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    let profile = HardwareProfile::load(&dir).unwrap();
    let model = KernelModel::open(&profile, &[DType::Bf16], &[DType::Bf16]).unwrap();
    for family in LEARNED {
        for row in profile.rows(family).unwrap().iter() {
            assert_eq!(model.cost(&row.call).unwrap().latency, row.latency, "{}", row.call);
        }
        let widest = axes::call(family, DType::Bf16, &[u32::MAX; 5]);
        assert!(model.cost(&widest).unwrap().extrapolated, "{widest}");
        let rows = Rows::measured(family, DType::Bf16, &profile.device, &profile.rows(family).unwrap());
        let scored = evaluation::cross_validate(&rows, &profile.device, 0, Split::Folds(2));
        assert!(scored.rows.len() <= 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn damaged_tables_are_read_or_refused(which in 0usize..4, damage in damage()) {
        let (family, text) = TABLES[which];
        match table::parse("table", &damage.of(text), family, None) {
            Ok(rows) => prop_assert!(rows.iter().all(|row| row.spread.is_none_or(|s| s.is_finite() && s >= 0.0))),
            Err(defects) => prop_assert!(!defects.is_empty()),
        }
    }

    #[test]
    fn a_damaged_evaluation_is_read_or_refused(damage in damage()) {
        let text = include_str!("../hardware_profiles/a100_sxm/evaluation.csv");
        let text = String::from_utf8_lossy(&damage.of(text)).into_owned();
        if let Err(error) = evaluation::from_csv("toy", &text) {
            prop_assert!(error.to_string().contains("evaluation.csv"));
        }
    }

    #[test]
    fn a_damaged_fit_is_refused_or_can_be_asked(gemm in any::<bool>(), damage in damage()) {
        let family = if gemm { KernelFamily::Gemm } else { KernelFamily::AttentionDecode };
        read_and_ask(family, &String::from_utf8_lossy(&damage.of(fit(family))));
    }

    #[test]
    fn a_fit_with_a_number_out_of_place_is_refused_or_can_be_asked(
        gemm in any::<bool>(),
        which in any::<prop::sample::Index>(),
        put in prop::sample::select(vec!["0", "-1", "1e308", "-1e308", "4294967295", "1e-320", "0.5", "null", "1e999"]),
    ) {
        let family = if gemm { KernelFamily::Gemm } else { KernelFamily::AttentionDecode };
        read_and_ask(family, &with_number(fit(family), which, put));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Through the folder, as a user's own profile is read.
    #[test]
    fn a_damaged_folder_is_checked_whole(which in 0usize..3, damage in damage()) {
        let scratch = tempfile::tempdir().unwrap();
        let name = ["profile.toml", "gemm.csv", "evaluation.csv"][which];
        let text = fs::read_to_string(Path::new("tests/data/good/tiny").join(name)).unwrap();
        let dir = folder(scratch.path(), name, &damage.of(&text));
        let report = check::check(&dir);
        let loaded = HardwareProfile::load(&dir);
        let sound = loaded.is_ok_and(|profile| KernelFamily::TABLES.iter().all(|family| profile.rows(*family).is_ok()));
        prop_assert_eq!(sound, report.errors.is_empty(), "{:?}", report.errors);
    }
}
