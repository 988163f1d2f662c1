//! `archplan profiles import` of operator tables, profiled layers and our own CSV.

use std::fs;
use std::path::Path;

use archplan::hardware::import::device::GivenFacts;
use archplan::hardware::import::error::ImportError;
use archplan::hardware::import::{self, Format, Import, Request};
use archplan::hardware::kernel::{Backend, KernelCall, KernelFamily};
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::manifest::DeviceSheet;
use archplan::units::DType;
use assert_cmd::Command;

const OPERATORS: &str = "tests/data/import/operators/vllm-ascend/0.11.0";

fn request(format: Format, source: &str, device: Option<&str>) -> Result<Import, ImportError> {
    let sheet = device.map(|name| HardwareProfile::builtin(name).unwrap().sheet().unwrap());
    import::import(&Request {
        format,
        source: Path::new(source),
        name: "toy",
        system: None,
        framework: None,
        version: None,
        measured_on: None,
        prefer_kernel: None,
        sheet,
        facts: GivenFacts::default(),
        licence: None,
        date: "2026-08-21",
    })
}

fn operators(source: &str) -> Result<Import, ImportError> {
    request(Format::AscendOperators, source, Some("ascend_910b"))
}

fn latency_us(import: &Import, call: KernelCall) -> f64 {
    let family = import.draft.families.iter().find(|f| f.family == call.family()).unwrap();
    family.rows.iter().find(|row| row.call == call).unwrap_or_else(|| panic!("{call:?}")).latency.us()
}

fn rows(import: &Import, family: KernelFamily) -> usize {
    import.report.kept(family).values().sum()
}

#[test]
fn operator_tables_become_gemm_attention_and_all_reduce() {
    let import = operators(OPERATORS).unwrap();
    let kept = KernelFamily::TABLES.map(|family| rows(&import, family));
    assert_eq!(kept, [13, 8, 8, 6]);
    let gemm = KernelCall::Gemm { m: 1, n: 256, k: 1024, dtype: DType::Bf16 };
    assert_eq!(latency_us(&import, gemm), 5.10, "a weight in blocks of 16 is the same product");
    // 0 KV heads and 8 of 8 are one call, measured twice: 45.28 and 46.28.
    let (batch, seq_len, q_heads, head_dim, dtype) = (1, 128, 8, 128, DType::Bf16);
    let prefill = KernelCall::AttentionPrefill { batch, seq_len, q_heads, kv_heads: 8, head_dim, dtype };
    assert!((latency_us(&import, prefill) - 45.78).abs() < 1e-9);
    let bytes = 1 << 20;
    let all_reduce = KernelCall::AllReduce { world: 8, bytes, backend: Backend::Nccl };
    assert!(latency_us(&import, all_reduce) > 12.0);
    for file in &import.report.files {
        let sum: usize = file.kept.values().chain(file.skipped.values()).sum();
        assert_eq!(sum, file.rows, "{file:?}");
    }
    let reasons: Vec<String> = import.report.reasons().into_iter().map(|(why, _)| why).collect();
    for why in
        ["operands of type FLOAT;FLOAT", "no latency measured yet", "operands that are not two matrices"]
    {
        assert!(reasons.iter().any(|reason| reason == why), "{why}: {reasons:?}");
    }
    assert_eq!(import.report.left_out.len(), 1);
    assert_eq!(
        (import.draft.stack.engine.as_str(), import.draft.stack.engine_version.as_str()),
        ("vllm-ascend", "0.11.0")
    );
    let info = &import.draft.families[0].info;
    assert!(info.source.contains("MatMulV2.csv, QuantBatchMatmulV3.csv"), "{}", info.source);
    assert!(import.draft.all_reduce.is_none(), "measured rows replace the sheet's rule");
}

#[test]
fn a_profilers_summary_gives_its_products() {
    let error = operators("tests/data/import/summary").unwrap_err().to_string();
    assert!(error.starts_with("--framework, such as --framework vllm-ascend is needed"), "{error}");
    let sheet = HardwareProfile::builtin("ascend_910b").unwrap().sheet().unwrap();
    let import = import::import(&Request {
        format: Format::AscendOperators,
        source: Path::new("tests/data/import/summary/op_summary_0_1.csv"),
        name: "toy",
        system: None,
        framework: Some("vllm-ascend"),
        version: Some("0.11.0"),
        measured_on: None,
        prefer_kernel: None,
        sheet: Some(sheet),
        facts: GivenFacts::default(),
        licence: Some("mine"),
        date: "2026-08-21",
    })
    .unwrap();
    let gemm = KernelCall::Gemm { m: 64, n: 4096, k: 1024, dtype: DType::Bf16 };
    assert_eq!(latency_us(&import, gemm), 21.0, "the mean of 21.4 and 20.6");
    assert_eq!(import.report.files[0].rows, 5);
    assert_eq!(import.draft.families[0].info.licence, "mine");
}

#[test]
fn linear_layers_become_products_of_one_device() {
    let import = request(Format::Vidur, "tests/data/import/linear", Some("a100_sxm")).unwrap();
    // 3 degrees x 3 numbers of tokens x 4 layers; three devices divide neither heads nor FFN; one layer has no time.
    assert_eq!(rows(&import, KernelFamily::Gemm), 23);
    let reasons = import.report.reasons();
    assert_eq!(reasons[0], ("sizes that the number of devices or heads does not divide".to_string(), 12));
    assert_eq!(reasons[1], ("layer without a time".to_string(), 1));
    let up = KernelCall::Gemm { m: 512, n: 14336, k: 4096, dtype: DType::Bf16 };
    assert!((latency_us(&import, up) - 275.0).abs() < 30.0, "gate and up, two devices");
    let down = KernelCall::Gemm { m: 512, n: 4096, k: 7168, dtype: DType::Bf16 };
    assert!(latency_us(&import, down) > 0.0);
    assert_eq!(import.draft.families[0].info.licence, "Toy Licence (LICENSE in linear)");
    let error = request(Format::Vidur, "tests/data/import/linear", None).unwrap_err().to_string();
    assert!(error.starts_with("--device-from PROFILE or --device FILE.toml is needed"), "{error}");
}

#[test]
fn our_own_folder_needs_no_edits() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("mine");
    let import = |more: &[&str]| {
        let source =
            ["profiles", "import", "--from", "csv", "tests/data/good/tiny", "--out", out.to_str().unwrap()];
        Command::cargo_bin("archplan").unwrap().args([&source, more].concat()).assert()
    };
    import(&[]).success();
    let (old, new) = (
        HardwareProfile::load(Path::new("tests/data/good/tiny")).unwrap(),
        HardwareProfile::load(&out).unwrap(),
    );
    assert_eq!((&old.device, &old.stack, &old.elementwise), (&new.device, &new.stack, &new.elementwise));
    for family in KernelFamily::TABLES {
        assert_eq!(old.rows(family).ok(), new.rows(family).ok());
    }
    let refused = import(&["--force", "--system", "x"]).code(2);
    let error = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(error.contains("--system does not go with --from csv"), "{error}");
}

#[test]
fn tables_alone_take_their_device_from_a_sheet() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("vllm").join("0.9.1");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("gemm.csv"), "m,n,k,dtype,latency_us\n1,1024,1024,bf16,5.5\n").unwrap();
    let import = request(Format::Csv, source.to_str().unwrap(), Some("a100_sxm")).unwrap();
    assert_eq!(
        (import.draft.stack.engine.as_str(), import.draft.stack.engine_version.as_str()),
        ("vllm", "0.9.1")
    );
    fs::write(source.join("gemm.csv"), "m,n,k,dtype,latency_us\n1,8,8,bf16,5.5\n1,8,8,bf16,5.6\n").unwrap();
    let error = request(Format::Csv, source.to_str().unwrap(), Some("a100_sxm")).unwrap_err().to_string();
    assert!(error.contains("gemm.csv:3:1"), "{error}");
}

#[test]
fn a_sheet_states_the_device_and_its_rules() {
    let text = fs::read_to_string("tests/data/good/tiny/profile.toml").unwrap();
    let sheet = DeviceSheet::read("profile.toml", &text).unwrap();
    assert_eq!(sheet.device, HardwareProfile::load(Path::new("tests/data/good/tiny")).unwrap().device);
    let errors = DeviceSheet::read("x.toml", "[device]\nname = \"x\"\n").unwrap_err();
    assert!(
        errors.len() > 3
            && errors
                .iter()
                .any(|e| e.to_string().contains("elementwise") || e.to_string().contains("tables"))
    );
}

#[test]
fn bad_operator_tables_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("vllm-ascend/0.11.0");
    fs::create_dir_all(&folder).unwrap();
    let text = fs::read_to_string(format!("{OPERATORS}/MatMulV2.csv")).unwrap();
    for (from, to, says) in [
        (
            "Average Duration(us)",
            "Average Duration(ms)",
            "column `Average Duration(ms)` instead of `Average Duration(us)`",
        ),
        ("Output Shapes", "Outputs", "no column `Output Shapes`"),
        (
            "\"1,1024;1024,1024\"",
            "\"1,x;1024,1024\"",
            "line 2: `1,x;1024,1024` in column `Input Shapes` is not shapes such as",
        ),
        ("ND,5.97,", "ND,-5.97,", "line 2: `-5.97`"),
        ("ND,5.97,", "ND,nan,", "line 2: `nan`"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(folder.join("MatMulV2.csv"), text.replacen(from, to, 1)).unwrap();
        let error = operators(folder.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("MatMulV2.csv"), "{from}: {error}");
    }
    fs::remove_file(folder.join("MatMulV2.csv")).unwrap();
    let error = operators(folder.to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains("operator tables (MatMulV2.csv"), "{error}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn mutated_tables_never_panic(at in 0.0_f64..1.0, with in "[0-9,;\"x.\\-\n]{0,8}", which in 0_usize..3) {
        let names = ["MatMulV2.csv", "FusedInferAttentionScore.csv", "hcom_allReduce_.csv"];
        let text = fs::read_to_string(format!("{OPERATORS}/{}", names[which])).unwrap();
        let cut = (0..=(at * text.len() as f64) as usize).rev().find(|i| text.is_char_boundary(*i)).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("vllm-ascend/0.11.0");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(names[which]), format!("{}{with}{}", &text[..cut], &text[cut..])).unwrap();
        let _ = operators(folder.to_str().unwrap());
    }
}
