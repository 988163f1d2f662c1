//! The kernel estimators against the tables they stand on, the physics, and slow obvious references.

use archplan::estimate::Source;
use archplan::hardware::kernel::{KernelCall, KernelFamily};
use archplan::hardware::latency::cost::{GapError, KernelCosts, Z90};
use archplan::hardware::latency::kernel_model::crossval::Split;
use archplan::hardware::latency::kernel_model::device_model::{self, KernelModel, ModelError};
use archplan::hardware::latency::kernel_model::ensemble::{Ensemble, Fit};
use archplan::hardware::latency::kernel_model::evaluation;
use archplan::hardware::latency::kernel_model::fit_file::{FitError, FitFile, VERSION};
use archplan::hardware::latency::kernel_model::lattice::{Coordinates, Exclusion, Lattice};
use archplan::hardware::latency::kernel_model::members::{Effort, Rows};
use archplan::hardware::latency::kernel_model::skeleton::{self, Skeleton};
use archplan::hardware::profile::HardwareProfile;
use archplan::units::{DType, Seconds};
use proptest::prelude::*;

fn profile(name: &str) -> HardwareProfile {
    HardwareProfile::builtin(name).expect("a built-in profile")
}

fn model(name: &str) -> KernelModel {
    let profile = profile(name);
    let dtypes: Vec<DType> = profile.device.peaks.keys().copied().collect();
    KernelModel::open(&profile, &dtypes, &dtypes).expect("a usable profile")
}

fn small_gemm_table() -> (HardwareProfile, Rows) {
    let profile = profile("a100_sxm");
    let rows = profile.rows(KernelFamily::Gemm).expect("a table");
    let mut split = device_model::by_dtype(&rows);
    let mut rows = split.remove(&DType::Bf16).expect("bf16 rows");
    rows.retain(|row| match row.call {
        KernelCall::Gemm { m, n, k, .. } => [m, n, k].iter().all(|x| x.is_power_of_two()),
        _ => false,
    });
    let rows = Rows::measured(KernelFamily::Gemm, DType::Bf16, &profile.device, &rows);
    (profile, rows)
}

#[test]
fn measured_rows_come_back_as_measured() {
    for name in ["h200_sxm", "a100_sxm"] {
        let model = model(name);
        for family in KernelFamily::TABLES {
            for row in model.profile().rows(family).expect("a table").iter().step_by(97) {
                let cost = model.cost(&row.call).expect("a measured call");
                assert_eq!(cost.latency, row.latency, "{name} {:?}", row.call);
                assert_eq!((cost.source, cost.log_sigma), (Source::Measured, 0.0));
            }
        }
    }
}

#[test]
fn every_built_in_fit_belongs_to_its_tables() {
    for name in ["h200_sxm", "h100_sxm", "a100_sxm", "ascend_910b"] {
        let model = model(name);
        for (family, info) in &model.profile().tables {
            if let (Some(text), Source::Measured) = (model.profile().fit_text(*family), info.provenance) {
                let file = FitFile::read(name, *family, text).expect("a fit");
                let fitted: Vec<DType> = file.fits.iter().map(|f| f.dtype).collect();
                assert_eq!(fitted, info.dtypes, "{name} {family}");
            }
        }
    }
}

/// Single figures of the operator tables of hudingyi688/aiconfigurator-npu (ascend_910b, vllm-ascend 0.18.0).
#[test]
fn ascend_reproduces_cited_figures_within_its_intervals() {
    let model = model("ascend_910b");
    let gemm = |m, n, k, dtype| KernelCall::Gemm { m, n, k, dtype };
    let prefill = |batch, seq_len, q_heads, kv_heads| KernelCall::AttentionPrefill {
        batch,
        seq_len,
        q_heads,
        kv_heads,
        head_dim: 128,
        dtype: DType::Bf16,
    };
    let decode = |batch, kv_len, q_heads, kv_heads| KernelCall::AttentionDecode {
        batch,
        kv_len,
        q_heads,
        kv_heads,
        head_dim: 128,
        dtype: DType::Bf16,
    };
    let cited = [
        (gemm(1, 256, 256, DType::Bf16), 5.2),
        (gemm(1, 256, 256, DType::Int8), 12.7),
        (prefill(1, 128, 8, 1), 48.71),
        (decode(1, 128, 8, 4), 57.03),
    ];
    for (call, us) in cited {
        let cost = model.cost(&call).expect("a fitted family");
        assert_eq!(cost.source, Source::Fitted);
        let factor = (cost.latency.us() / us).ln().abs();
        assert!(factor <= Z90 * cost.log_sigma + 0.05, "{call:?}: {} instead of {us} us", cost.latency.us());
    }
}

#[test]
fn interpolation_is_linear_between_two_rows_and_constant_beyond() {
    let rows: Vec<Coordinates> = [100u32, 400].iter().map(|&m| [m, 8, 8, 0, 0]).collect();
    let (seconds, skeleton) = (vec![1.0, 4.0], vec![1.0, 1.0]);
    let lattice = Lattice::new(&[1, 2, 0], &rows, &seconds, &skeleton);
    let at = |m: u32| lattice.blend(&[m, 8, 8, 0, 0], Exclusion::default()).expect("two rows");
    assert!((at(200).log_ratio - 4f64.ln() / 2.0).abs() < 1e-12);
    assert!((at(200).raw - 2.0).abs() < 1e-12);
    assert!((at(200).root - (1.0 + 1.0 / 3.0)).abs() < 1e-12);
    assert_eq!((at(800).log_ratio, at(800).held), (4f64.ln(), 1));
    assert!(at(800).raw.is_nan());
    let without =
        lattice.blend(&[400, 8, 8, 0, 0], Exclusion { axes: 0, row: true }).expect("one row is left");
    assert_eq!(without.log_ratio, 0.0);
}

/// Nested brackets against the textbook bilinear formula on a full grid.
#[test]
fn nested_brackets_equal_bilinear_interpolation() {
    let (ms, ns) = ([16u32, 64, 256], [128u32, 512, 4096]);
    let time = |m: u32, n: u32| 1e-6 * f64::from(m) * f64::from(n).sqrt() + 3e-6;
    let rows: Vec<Coordinates> = ms.iter().flat_map(|&m| ns.map(|n| [m, n, 64, 0, 0])).collect();
    let seconds: Vec<f64> = rows.iter().map(|x| time(x[0], x[1])).collect();
    let ones = vec![1.0; rows.len()];
    let (m, n) = (100u32, 1000u32);
    let (u, v) = (f64::from(m - 64) / f64::from(256 - 64), f64::from(n - 512) / f64::from(4096 - 512));
    let expected = (1.0 - u) * ((1.0 - v) * time(64, 512) + v * time(64, 4096))
        + u * ((1.0 - v) * time(256, 512) + v * time(256, 4096));
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0]] {
        let blend =
            Lattice::new(&order, &rows, &seconds, &ones).blend(&[m, n, 64, 0, 0], Exclusion::default());
        assert!((blend.expect("inside the grid").raw / expected - 1.0).abs() < 1e-12);
    }
}

#[test]
fn the_skeleton_is_recovered_from_its_own_times() {
    let truth = Skeleton { launch_us: 4.0, compute_efficiency: 0.7, memory_efficiency: 0.6, sharpness: 3.0 };
    let (profile, rows) = small_gemm_table();
    let seconds: Vec<f64> = rows.bounds.iter().map(|&b| truth.seconds(b)).collect();
    let found = Skeleton::fit(&rows.bounds, &seconds, &rows.weights);
    let worst =
        rows.bounds.iter().zip(&seconds).map(|(&b, t)| (found.seconds(b) / t).ln().abs()).fold(0.0, f64::max);
    assert!(worst < 0.02, "{found:?} on {}: {worst}", profile.name);
}

#[test]
fn a_fit_is_the_same_on_any_number_of_threads_and_after_its_file() {
    let (profile, rows) = small_gemm_table();
    let effort = Effort {
        own_samples: 400,
        joint_samples: 800,
        global_samples: 400,
        trees: 8,
        leaves: 8,
        smallest_leaf: 6,
    };
    let learn = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        pool.install(|| Fit::learn(&rows, &profile.device, effort, &|| ()).0)
    };
    let (one, three) = (learn(1), learn(3));
    assert_eq!(one, three);
    let file = FitFile { version: VERSION, family: KernelFamily::Gemm, fits: vec![one] };
    let text = file.to_text().expect("JSON");
    let back = FitFile::read("toy", KernelFamily::Gemm, &text).expect("the same fit");
    assert_eq!(back.to_text().expect("JSON"), text);
}

#[test]
fn a_damaged_fit_file_is_refused_with_its_reason() {
    let (profile, rows) = small_gemm_table();
    let fit = Fit::quick(&rows, &profile.device);
    let good = FitFile { version: VERSION, family: KernelFamily::Gemm, fits: vec![fit] };
    let text = good.to_text().expect("JSON");
    let read = |text: &str| FitFile::read("toy", KernelFamily::Gemm, text).expect_err("damaged");
    assert!(matches!(read(&text[..text.len() / 2]), FitError::NotAFit { .. }));
    assert!(matches!(
        read(&text.replace("\"version\":1", "\"version\":9")),
        FitError::OtherVersion { found: 9, .. }
    ));
    assert!(matches!(
        read(&text.replace("\"family\":\"gemm\"", "\"family\":\"all_reduce\"")),
        FitError::Inconsistent { .. }
    ));
    let mut stale = good.clone();
    stale.fits[0].mixes.pop();
    assert!(matches!(read(&stale.to_text().expect("JSON")), FitError::Inconsistent { .. }));
    let mut negative = good.clone();
    negative.fits[0].skeleton.launch_us = -1.0;
    assert!(matches!(read(&negative.to_text().expect("JSON")), FitError::Inconsistent { .. }));
}

#[test]
fn a_gap_is_a_typed_error() {
    let model = model("a100_sxm");
    let fp8 = KernelCall::Gemm { m: 16, n: 4096, k: 4096, dtype: DType::Fp8 };
    assert!(matches!(model.cost(&fp8), Err(GapError::NoDType { dtype: DType::Fp8, .. })));
    let huge = KernelCall::Gemm { m: 1 << 40, n: 4096, k: 4096, dtype: DType::Bf16 };
    assert!(matches!(model.cost(&huge), Err(GapError::TooLarge { .. })));
    let _: fn(FitError) -> ModelError = ModelError::from;
}

/// Rows kept out at random: the estimator must beat the interpolations it is built on.
#[test]
fn boosting_improves_on_interpolation_for_rows_kept_out() {
    let profile = profile("a100_sxm");
    let rows = profile.rows(KernelFamily::AttentionPrefill).expect("a table");
    let rows = device_model::by_dtype(&rows).remove(&DType::Bf16).expect("bf16 rows");
    let rows = Rows::measured(KernelFamily::AttentionPrefill, DType::Bf16, &profile.device, &rows);
    let rows = rows.filter(|i| rows.coordinates[i][1] <= 4096 && rows.coordinates[i][2] <= 32);
    let effort = Effort {
        own_samples: 3000,
        joint_samples: 3000,
        global_samples: 3000,
        trees: 60,
        leaves: 16,
        smallest_leaf: 6,
    };
    let held = archplan::hardware::latency::kernel_model::crossval::hold_out(
        &rows,
        &profile.device,
        0,
        Split::Folds(3),
        effort,
    );
    let mean = |errors: Vec<f64>| errors.iter().sum::<f64>() / errors.len() as f64;
    let base = mean(held.iter().map(|h| (h.target - h.answers.base).abs()).collect());
    let misses = archplan::hardware::latency::kernel_model::scores::cross_fitted(&held);
    let mixed = mean(misses.iter().map(|m| m.log_error.abs()).collect());
    assert!(mixed < base, "mixed {mixed}, interpolated {base}");
    let covered = misses.iter().filter(|m| m.log_error.abs() <= Z90 * m.log_sigma).count() as f64;
    let share = covered / misses.len() as f64;
    assert!((0.86..=0.94).contains(&share), "a 90 % interval holds {share}");
    assert_eq!(evaluation::holdout_name(KernelFamily::AttentionPrefill, 0), "random");
}

fn quick(name: &str, family: KernelFamily) -> (HardwareProfile, Ensemble) {
    let profile = profile(name);
    let rows = profile.rows(family).expect("a table");
    let rows = device_model::by_dtype(&rows).remove(&DType::Bf16).expect("bf16 rows");
    let rows = Rows::measured(family, DType::Bf16, &profile.device, &rows);
    let ensemble = Ensemble::from_rows(Fit::quick(&rows, &profile.device), &rows, &profile.device);
    (profile, ensemble)
}

#[test]
fn odd_head_counts_and_widths_are_priced_sensibly() {
    let model = model("h200_sxm");
    for kv_heads in [3, 5, 6, 7] {
        let call = |kv_heads, batch| KernelCall::AttentionDecode {
            batch,
            kv_len: 3000,
            q_heads: kv_heads * 5,
            kv_heads,
            head_dim: 128,
            dtype: DType::Bf16,
        };
        let cost = model.cost(&call(kv_heads, 48)).expect("priced");
        let (fewer, more) = (model.cost(&call(1, 48)), model.cost(&call(8, 48)));
        let (fewer, more) = (fewer.expect("priced").latency, more.expect("priced").latency);
        assert!(fewer < cost.latency && cost.latency < more, "kv {kv_heads}");
        assert_eq!((cost.source, cost.extrapolated), (Source::Fitted, false));
        assert!(cost.log_sigma > 0.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn estimates_are_finite_positive_and_not_below_the_physics(
        m in 1u64..100_000, n in 1u64..200_000, k in 1u64..200_000,
        batch in 1u64..3000, len in 1u64..200_000, kv in 1u64..80, group in 1u64..20,
    ) {
        use std::sync::OnceLock;
        static MODELS: OnceLock<Vec<KernelModel>> = OnceLock::new();
        let models = MODELS.get_or_init(|| vec![model("a100_sxm"), model("ascend_910b")]);
        let dtype = DType::Bf16;
        let (q_heads, kv_heads, head_dim) = (kv * group, kv, 128);
        for model in models {
            for call in [
                KernelCall::Gemm { m, n, k, dtype },
                KernelCall::AttentionPrefill { batch, seq_len: len, q_heads, kv_heads, head_dim, dtype },
                KernelCall::AttentionDecode { batch, kv_len: len, q_heads, kv_heads, head_dim, dtype },
            ] {
                let cost = model.cost(&call).expect("priced");
                let (compute, memory) = skeleton::bounds(&call, &model.profile().device);
                prop_assert!(cost.latency.0.is_finite() && cost.latency > Seconds::ZERO);
                prop_assert!(cost.latency.0 >= 0.4 * compute.max(memory), "{call:?} {}", cost.latency);
                prop_assert!(cost.log_sigma.is_finite() && cost.log_sigma >= 0.0);
            }
        }
    }
}

#[test]
fn beyond_the_rows_is_said_and_wider() {
    let (_, ensemble) = quick("a100_sxm", KernelFamily::Gemm);
    let inside = ensemble.cost(&[100, 5000, 5000, 0, 0]);
    let outside = ensemble.cost(&[100, 300_000, 5000, 0, 0]);
    assert!(!inside.extrapolated && outside.extrapolated);
    assert!(outside.log_sigma > inside.log_sigma);
}
