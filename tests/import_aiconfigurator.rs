//! `archplan profiles import --from aiconfigurator`: both layouts and the wheel give the same profile, every row is
//! accounted for, and what is wrong is refused whole.

mod import_layouts;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use archplan::hardware::import::device::GivenFacts;
use archplan::hardware::import::{self, Format, Import, Request};
use archplan::hardware::kernel::{Backend, KernelCall, KernelFamily};
use archplan::hardware::profile::HardwareProfile;
use archplan::units::DType;
use assert_cmd::Command;
use import_layouts::{DATABASE, parquet_database, text_database, wheel};
use serde_json::Value;

fn archplan(arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("archplan").unwrap().args(arguments).assert()
}

/// Imports the toy database with further arguments; the profile's folder is `out/toy`.
fn run(source: &Path, out: &Path, more: &[&str]) -> assert_cmd::assert::Assert {
    let out = out.join("toy");
    let all = [
        "profiles",
        "import",
        "--from",
        "aiconfigurator",
        source.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    archplan(&[&all, more].concat())
}

const VLLM: [&str; 6] = ["--system", "l40s", "--framework", "vllm", "--date", "2026-08-21"];

fn request(source: &Path) -> Request<'_> {
    Request {
        format: Format::Aiconfigurator,
        source,
        name: "toy",
        system: Some("l40s"),
        framework: Some("vllm"),
        version: None,
        measured_on: None,
        prefer_kernel: None,
        sheet: None,
        facts: GivenFacts::default(),
        licence: None,
        date: "2026-08-21",
    }
}

fn latency_us(import: &Import, call: KernelCall) -> f64 {
    let family = import.draft.families.iter().find(|f| f.family == call.family()).unwrap();
    family.rows.iter().find(|row| row.call == call).unwrap().latency.us()
}

#[test]
fn both_layouts_and_the_wheel_give_the_same_tables() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    fs::create_dir(at("tables")).unwrap();
    parquet_database(&at("tables"));
    wheel(&at("toy_core-1.2.3-py3-none-any.whl"));
    let sources =
        [Path::new(DATABASE).to_path_buf(), at("tables/systems"), at("toy_core-1.2.3-py3-none-any.whl")];
    let mut seen = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        let out = at(&format!("out{i}"));
        run(source, &out, &VLLM).success();
        let profile = HardwareProfile::load(&out.join("toy")).unwrap();
        let tables = KernelFamily::TABLES.map(|family| profile.rows(family).unwrap());
        assert_eq!(tables.iter().map(|rows| rows.len()).collect::<Vec<_>>(), [73, 49, 72, 27]);
        seen.push((tables, profile.tables[&KernelFamily::Gemm].clone()));
    }
    assert_eq!(seen[0].0, seen[1].0);
    assert_eq!(seen[0].0, seen[2].0);
    let infos: Vec<_> = seen.into_iter().map(|(_, info)| info).collect();
    let [text, parquet, wheel] = infos.try_into().unwrap();
    assert_eq!((text.licence.as_str(), wheel.licence.as_str()), ("Apache-2.0", "Toy-1.0"));
    assert!(text.copyright.unwrap().starts_with("(c) 2026 the archplan authors"));
    assert!(parquet.source.ends_with("systems/data/l40s/gemm/vllm/0.10.0/gemm_perf.parquet"));
    assert!(wheel.source.starts_with("toy-core 1.2.3, systems/data/"), "{}", wheel.source);
    assert!(text.note.unwrap().contains("linear_float16 (37 rows)"));
}

#[test]
fn every_row_arrives_or_is_counted_with_its_reason() {
    let import = import::import(&request(Path::new(DATABASE))).unwrap();
    for file in &import.report.files {
        let (kept, skipped): (usize, usize) = (file.kept.values().sum(), file.skipped.values().sum());
        let path = Path::new(DATABASE).join(&file.file);
        let lines = fs::read_to_string(path).unwrap().lines().count() - 1;
        assert_eq!((kept + skipped, file.rows), (lines, lines), "{file:?}");
    }
    let reasons: BTreeMap<String, usize> = import.report.reasons().into_iter().collect();
    let of = |start: &str| {
        reasons.iter().filter(|(why, _)| why.starts_with(start)).map(|(_, rows)| rows).sum::<usize>()
    };
    assert_eq!(of("gemm_dtype fp8_block"), 2);
    assert_eq!(of("gemm_dtype int4_wo"), 1);
    assert_eq!(of("same call by kernel `other_kernel`; `linear_float16` is kept"), 2);
    assert_eq!(of("same call measured again"), 1);
    assert_eq!(of("sliding window"), 1);
    assert_eq!(of("prompt behind a cached prefix"), 1);
    assert_eq!(of("attention computed in fp8; bf16 is kept"), 1);
    assert_eq!(of("beam search"), 1);
    assert_eq!(of("all_gather"), 18);
    assert_eq!(of("reduces int8"), 9);
    assert_eq!(reasons.values().sum::<usize>(), 37);
    let left: Vec<&str> =
        import.report.left_out.iter().map(|left| left.file.rsplit('/').next().unwrap()).collect();
    assert_eq!(left, ["nccl_perf.txt", "moe_perf.txt", "gemm_perf.txt", "gemm_perf.txt"]);
}

#[test]
fn units_types_and_heads_are_read_as_they_are_meant() {
    let import = import::import(&request(Path::new(DATABASE))).unwrap();
    // Twice and four times 2.5 us + 1.3 x roofline: the mean is three times that.
    let (m, n, k) = (1.0, 512.0, 1024.0);
    let expected = 3.0 * (2.5 + 1.3e6 * ((m + n) * k * 2.0 + 2.0 * m * n) / 864e9);
    let gemm = KernelCall::Gemm { m: 1, n: 512, k: 1024, dtype: DType::Bf16 };
    assert!((latency_us(&import, gemm) / expected - 1.0).abs() < 1e-6);
    // 128 elements of float16 are 256 bytes.
    let all_reduce = KernelCall::AllReduce { world: 2, bytes: 256, backend: Backend::VllmGraph };
    assert!((latency_us(&import, all_reduce) - 6.0128).abs() < 1e-6);
    // One token after 127 cached ones attends to 128; 0 KV heads are as many as query heads.
    let (batch, q_heads, kv_heads, head_dim) = (1, 16, 16, 128);
    let decode =
        KernelCall::AttentionDecode { batch, kv_len: 128, q_heads, kv_heads, head_dim, dtype: DType::Fp8 };
    assert!(latency_us(&import, decode) > 6.0);
    // Where a head size was measured in fp8 alone, that is what the engine does with an fp8 cache.
    let (seq_len, q_heads, kv_heads, head_dim) = (256, 16, 4, 64);
    let prefill =
        KernelCall::AttentionPrefill { batch, seq_len, q_heads, kv_heads, head_dim, dtype: DType::Fp8 };
    assert!(latency_us(&import, prefill) > 0.0);
    let notes = import.draft.families.iter().find(|f| f.family == KernelFamily::AttentionPrefill).unwrap();
    assert!(notes.info.note.as_ref().unwrap().contains("computed in fp8: fp8 cache, head size 64"));
    let reduce = import.draft.families.iter().find(|f| f.family == KernelFamily::AllReduce).unwrap();
    assert!(reduce.info.note.as_ref().unwrap().contains("of vllm 0.9.0, the newest there is up to 0.10.0"));
    assert_eq!(import.draft.stack.libraries["nccl"], "2.27.3", "2.27.3 is after 2.9.1");
    assert_eq!(import.draft.elementwise.0.launch.us(), 3.0);
}

#[test]
fn a_kernel_can_be_preferred() {
    let request = Request { prefer_kernel: Some("other_kernel"), ..request(Path::new(DATABASE)) };
    let import = import::import(&request).unwrap();
    let call = KernelCall::Gemm { m: 64, n: 4096, k: 1024, dtype: DType::Bf16 };
    let default = import::import(&Request { prefer_kernel: None, ..request }).unwrap();
    assert!((latency_us(&import, call) / latency_us(&default, call) - 0.5).abs() < 1e-6);
}

#[test]
fn what_was_imported_predicts() {
    let scratch = tempfile::tempdir().unwrap();
    run(Path::new(DATABASE), scratch.path(), &VLLM).success();
    let dir = scratch.path().to_str().unwrap();
    let toy = scratch.path().join("toy");
    archplan(&["profiles", "check", toy.to_str().unwrap()]).success();
    let predict = [
        "predict",
        "--model",
        "qwen3-0.6b",
        "--profile",
        "toy",
        "--tp",
        "2",
        "--batch",
        "4",
        "--prompt",
        "512",
    ];
    archplan(&[&["-q", "--profile-dir", dir], &predict[..], &["--output", "64"]].concat()).success();
}

#[test]
fn names_and_choices_are_explained() {
    let scratch = tempfile::tempdir().unwrap();
    let database = Path::new(DATABASE);
    for (arguments, says) in [
        (&["--system", "l4os"][..], "unknown system `l4os`; did you mean `l40s`?"),
        (&["--system", "h100_pcie"], "unknown system `h100_pcie`"),
        (&["--framework", "vlm"], "unknown framework `vlm`; did you mean `vllm`?; l40s of"),
        (&[], "has trtllm, vllm: choose with --framework"),
        (&["--framework", "VLLM", "--version", "0.10.0rc2"], "unknown version `0.10.0rc2`; did you mean"),
        (&["--framework", "vllm", "--device-from", "h200"], "did you mean `h200_sxm`?"),
        (&["--framework", "vllm", "--tile", "128x256"], "not a tile such as 128x256x64"),
        (&["--framework", "vllm", "--date", "yesterday"], "--date"),
    ] {
        let assert = run(database, scratch.path(), arguments).code(2);
        let error = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(error.contains(says), "{arguments:?}: {error}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "{arguments:?}");
    }
    // An old version has no attention; the newer is never taken for it.
    let old = import::import(&Request { version: Some("0.9.0"), ..request(database) }).unwrap();
    assert_eq!(
        old.draft.families.iter().map(|f| f.family.name()).collect::<Vec<_>>(),
        ["gemm", "all_reduce"]
    );
}

#[test]
fn folders_and_names_are_guarded() {
    let scratch = tempfile::tempdir().unwrap();
    let database = Path::new(DATABASE);
    run(database, scratch.path(), &VLLM).success();
    let again = run(database, scratch.path(), &VLLM).code(2);
    assert!(String::from_utf8_lossy(&again.get_output().stderr).contains("--force"));
    run(database, scratch.path(), &[&VLLM[..], &["--force"]].concat()).success();
    for (name, says) in [("h200_sxm", "built-in"), ("My-Device", "lower-case")] {
        let out = scratch.path().join(name);
        let source =
            ["profiles", "import", "--from", "aiconfigurator", DATABASE, "--out", out.to_str().unwrap()];
        let assert = archplan(&[&source, &VLLM[..]].concat()).code(2);
        let error = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(error.contains(says) && !out.exists(), "{error}");
    }
}

/// Replaces the first line that starts so, in the newest GEMM table.
fn damaged(scratch: &Path, change: impl Fn(String) -> String) -> String {
    let source = scratch.join("source");
    let _ = fs::remove_dir_all(&source);
    text_database(
        &source,
        |file, text| if file.ends_with("0.10.0/gemm_perf.txt") { change(text) } else { text },
    );
    let out = scratch.join("out");
    fs::create_dir_all(&out).unwrap();
    let assert = run(&source, &out, &VLLM).code(2);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "something was written");
    String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
}

/// A text table whose latencies are multiplied.
fn scaled(text: &str, by: f64) -> String {
    let line =
        |line: &str| match line.rsplit_once(',').and_then(|(rest, ms)| Some((rest, ms.parse::<f64>().ok()?)))
        {
            Some((rest, ms)) => format!("{rest},{}", ms * by),
            None => line.to_string(),
        };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn bad_tables_are_refused_with_one_precise_error() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let replaced = |from: &'static str, to: &'static str| {
        damaged(dir, |text| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        })
    };
    for (from, to, says) in [
        ("gemm_dtype,m,n", "gemm_dtype,m,N", "no column `n`"),
        (
            ",latency\n",
            ",latency_us\n",
            "column `latency_us` instead of `latency`: this database states milliseconds",
        ),
        (",1,1024,1024,", ",1,1024,1024,-", "line 2: `-0.00"),
        (",1,1024,1024,", ",0,1024,1024,", "line 2: `0` in column `m` is not a whole number above zero"),
        (",1,1024,1024,", ",1.5,1024,1024,", "line 2: `1.5` in column `m`"),
        (",1,1024,1024,", ",nan,1024,1024,", "`nan` in column `m`"),
        (",1,1024,4096,", ",1,1024,4096,inf,", "line 3: 11 fields where the header has 10 columns"),
    ] {
        let error = replaced(from, to);
        assert!(error.contains(says), "{from} -> {to}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("0.10.0/gemm_perf.txt"), "{error}");
    }
    let nan = damaged(dir, |text| scaled(&text, f64::NAN));
    assert!(nan.contains("`NaN` in column `latency` is not a finite latency above zero"), "{nan}");
    let slow = damaged(dir, |text| scaled(&text, 1000.0));
    assert!(slow.contains("every latency is slower than NVIDIA L40S 48GB allows"), "{slow}");
    assert!(slow.contains("the column `latency` must hold milliseconds"), "{slow}");
    let fast = damaged(dir, |text| scaled(&text, 0.001));
    assert!(fast.contains("every latency is faster than"), "{fast}");
    let empty = damaged(dir, |_| String::new());
    assert!(empty.contains("an empty file"), "{empty}");
}

#[test]
fn rows_of_two_devices_need_a_choice() {
    let scratch = tempfile::tempdir().unwrap();
    let change = |text: String| text.replacen("NVIDIA L40S,gemm,linear_fp8", "NVIDIA L40,gemm,linear_fp8", 1);
    let error = damaged(scratch.path(), change);
    let says = "line 38: measured on `NVIDIA L40`, the rows before it on `NVIDIA L40S`";
    assert!(error.contains(says) && error.contains("--measured-on"), "{error}");
    let source = scratch.path().join("source");
    let one = Request { measured_on: Some("NVIDIA L40S"), ..request(&source) };
    let import = import::import(&one).unwrap();
    assert!(import.report.reasons().contains(&("measured on NVIDIA L40".to_string(), 1)));
    let none = import::import(&Request { measured_on: Some("NVIDIA L4OS"), ..one }).unwrap_err().to_string();
    assert!(none.contains("did you mean `NVIDIA L40S`?"), "{none}");
}

#[test]
fn damaged_binary_files_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    parquet_database(&source);
    let gemm = source.join("systems/data/l40s/gemm/vllm/0.10.0/gemm_perf.parquet");
    let whole = fs::read(&gemm).unwrap();
    for (bytes, says) in [
        (whole[..whole.len() / 2].to_vec(), "not a whole parquet file"),
        (Vec::new(), "not a whole parquet file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(), "git lfs pull"),
    ] {
        fs::write(&gemm, bytes).unwrap();
        let error = import::import(&request(&source)).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("gemm_perf.parquet"), "{error}");
    }
    let cut = scratch.path().join("cut.whl");
    wheel(&cut);
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 40]).unwrap();
    let error = import::import(&request(&cut)).unwrap_err().to_string();
    assert!(error.contains("neither a folder nor a whole wheel"), "{error}");
}

/// No file of failing cases: the cases that once failed have tests of their own.
fn cases(cases: u32) -> proptest::prelude::ProptestConfig {
    proptest::prelude::ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}

proptest::proptest! {
    #![proptest_config(cases(96))]

    /// Flipped bytes give an error or another table; they never panic.
    #[test]
    fn mutated_parquet_never_panics(flips in proptest::collection::vec((0.0_f64..1.0, 1_u8..255), 1..6), cut in 0.0_f64..2.0) {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("systems/data/l40s/gemm/vllm/1.0");
        fs::create_dir_all(&folder).unwrap();
        fs::copy(format!("{DATABASE}/systems/l40s.yaml"), scratch.path().join("systems/l40s.yaml")).unwrap();
        let text = fs::read_to_string(format!("{DATABASE}/systems/data/l40s/vllm/0.9.0/gemm_perf.txt")).unwrap();
        let mut bytes = import_layouts::parquet(&text, parquet::basic::Compression::SNAPPY);
        for (at, flip) in flips {
            let at = (at * bytes.len() as f64) as usize;
            bytes[at] ^= flip;
        }
        bytes.truncate((cut * bytes.len() as f64) as usize);
        fs::write(folder.join("gemm_perf.parquet"), bytes).unwrap();
        let _ = import::import(&request(scratch.path()));
    }

    #[test]
    fn mutated_yaml_never_panics(at in 0_usize..900, with in "\\PC{0,6}") {
        let scratch = tempfile::tempdir().unwrap();
        text_database(scratch.path(), |file, text| match file.ends_with(".yaml") {
            true => {
                let cut = (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap();
                format!("{}{with}{}", &text[..cut], &text[cut..])
            }
            false => text,
        });
        let _ = import::import(&request(scratch.path()));
    }
}

#[test]
fn json_holds_files_reasons_and_next_commands() {
    let scratch = tempfile::tempdir().unwrap();
    let assert = run(Path::new(DATABASE), scratch.path(), &[&VLLM[..], &["--json"]].concat()).success();
    let printed: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!(printed["engine_version"], "0.10.0");
    assert_eq!(printed["files"][0]["kept"]["fp8"], 36);
    assert_eq!(printed["files"][0]["skipped"].as_array().unwrap().len(), 4);
    assert_eq!(printed["left_out"].as_array().unwrap().len(), 4);
    assert!(printed["next"][0].as_str().unwrap().starts_with("archplan profiles check"));
}
