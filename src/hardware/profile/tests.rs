//! Tests of loading: good folders, lazy tables, hashes.

use proptest::prelude::*;

use super::*;

const MANIFEST: &str = include_str!("../../../hardware_profiles/h200_sxm/profile.toml");
const ALL_REDUCE: &str = include_str!("../../../hardware_profiles/h200_sxm/all_reduce.csv");
const GEMM: &str = "m,n,k,dtype,latency_us\n1,64,64,bf16,2.5\n1,64,64,fp8,2.25\n16,64,128,bf16,3e0\n";
const PREFILL: &str =
    "batch,seq_len,q_heads,kv_heads,head_dim,dtype,latency_us\n1,16,8,2,128,bf16,5\n1,16,8,2,128,fp8,6\n";
const DECODE: &str =
    "batch,kv_len,q_heads,kv_heads,head_dim,dtype,latency_us\n1,16,8,2,128,bf16,5\n1,16,8,2,128,fp8,6\n";

const NAMES: [&str; 5] =
    ["profile.toml", "gemm.csv", "attention_prefill.csv", "attention_decode.csv", "all_reduce.csv"];
const TEXTS: [&str; 5] = [MANIFEST, GEMM, PREFILL, DECODE, ALL_REDUCE];

fn folder(changed: usize, bytes: &[u8]) -> Result<Folder, ProfileError> {
    let files = NAMES
        .into_iter()
        .zip(TEXTS)
        .enumerate()
        .map(|(i, (name, text))| (name, if i == changed { bytes } else { text.as_bytes() }))
        .map(|(name, bytes)| (name.to_string(), bytes.to_vec()));
    Folder::in_memory(Path::new("h200_sxm"), &files.collect())
}

#[test]
fn the_unchanged_folder_is_sound() {
    let report = check::check_folder(folder(0, MANIFEST.as_bytes()).unwrap());
    assert_eq!(report.errors, []);
    assert_eq!(report.rows.len(), 4);
}

#[test]
fn the_hash_sees_every_file_and_nothing_else() {
    let hash = |changed: usize, bytes: &[u8]| {
        HardwareProfile::from_folder(folder(changed, bytes).unwrap()).unwrap().hash().to_string()
    };
    let same = hash(0, MANIFEST.as_bytes());
    assert_eq!(hash(1, GEMM.as_bytes()), same);
    for (i, text) in TEXTS.iter().enumerate() {
        assert_ne!(hash(i, format!("{text}\n").as_bytes()), same, "{}", NAMES[i]);
    }
}

#[test]
fn a_manifest_without_a_section_says_so() {
    let sections = ["[device]", "[stack]", "[tables.gemm]", "[tables.elementwise]"];
    for section in sections {
        let (before, rest) = MANIFEST.split_once(section).unwrap();
        let after = rest.find("\n[").map_or("", |at| &rest[at..]);
        let errors = HardwareProfile::from_folder(folder(0, format!("{before}{after}").as_bytes()).unwrap());
        assert!(!errors.unwrap_err().is_empty(), "{section}");
    }
}

/// Each line, and each two lines, left out: what is missing is said, or was not needed.
#[test]
fn a_manifest_with_lines_left_out_says_what_is_missing() {
    let lines: Vec<_> = MANIFEST.lines().collect();
    for a in 0..lines.len() {
        for b in a..lines.len() {
            let kept = lines.iter().enumerate().filter(|(i, _)| *i != a && *i != b).map(|(_, line)| *line);
            let text = kept.collect::<Vec<_>>().join("\n");
            match HardwareProfile::from_folder(folder(0, text.as_bytes()).unwrap()) {
                Err(errors) => assert!(!errors.is_empty(), "{} / {}", lines[a], lines[b]),
                Ok(_) => {
                    let needless = ["#", "l2_mib", "multiple_", "copyright", "note", "libraries"];
                    let of_no_need =
                        |line: &str| line.is_empty() || needless.iter().any(|n| line.starts_with(n));
                    assert!(of_no_need(lines[a]) && of_no_need(lines[b]), "{} / {}", lines[a], lines[b]);
                }
            }
        }
    }
}

proptest! {
    /// Bytes overwritten, dropped or repeated anywhere: a report or rows, never a panic; and what loads is whole.
    #[test]
    fn damaged_files_never_panic(
        which in 0usize..5,
        at in any::<prop::sample::Index>(),
        length in 0usize..40,
        put in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut bytes = TEXTS[which].as_bytes().to_vec();
        let from = at.index(bytes.len());
        let to = (from + length).min(bytes.len());
        bytes.splice(from..to, put);
        let report = check::check_folder(folder(which, &bytes).unwrap());
        match HardwareProfile::from_folder(folder(which, &bytes).unwrap()) {
            Err(errors) => prop_assert!(!errors.is_empty() && !report.errors.is_empty()),
            Ok(profile) => {
                let loads = KernelFamily::TABLES.iter().all(|family| profile.rows(*family).is_ok());
                prop_assert_eq!(loads, report.errors.is_empty());
            }
        }
    }
}
