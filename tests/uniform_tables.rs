//! The search's per-axis tables against the slow path.

use archplan::hardware::latency::prediction::{Machine, predict};
use archplan::hardware::latency::roofline::Roofline;
use archplan::hardware::latency::uniform_tables::{Axes, UniformTables};
use archplan::hardware::profile::device::{Device, Granularity, Tile};
use archplan::hardware::profile::engine::EngineParameters;
use archplan::model::architecture::Architecture;
use archplan::model::cards;
use archplan::model::counts;
use archplan::model::workload::{Deployment, Load, Workload};
use archplan::units::{Bytes, BytesPerSecond, DType, FlopsPerSecond};
use proptest::prelude::*;

fn device() -> Device {
    let peaks = [(DType::Bf16, 900.0), (DType::Fp8, 1900.0)];
    Device {
        name: "a device with room for everything".into(),
        peaks: peaks.map(|(dtype, tflops)| (dtype, FlopsPerSecond::from_tflops(tflops))).into(),
        hbm: Bytes::from_gib(1000.0),
        hbm_bandwidth: BytesPerSecond::from_gbps(4000.0),
        l2: None,
        cores: 100,
        tile: Tile { m: 128, n: 128, k: 64 },
        interconnect: BytesPerSecond::from_gbps(400.0),
        granularity: Granularity { hidden: 256, ffn: 512 },
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

const HIDDEN: [u64; 3] = [2048, 3840, 5120];
const FFN: [u64; 3] = [4096, 12_800, 25_600];
const HEADS: [(u64, u64); 4] = [(64, 8), (48, 4), (32, 8), (24, 8)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn tables_agree_with_the_slow_path(
        (h, f, a) in (0..HIDDEN.len(), 0..FFN.len(), 0..HEADS.len()),
        layers in 1u64..80,
        tp in prop::sample::select(vec![1u64, 2, 4]),
        sequences in 1u64..100,
        prompt in 1u64..5000,
        output in 1u64..2000,
        closed_loop: bool,
        windowed: bool,
        engine in prop::sample::select(vec!["none", "vllm", "trtllm"]),
    ) {
        let mut spec = cards::find("qwen3-32b").unwrap().spec().unwrap();
        if windowed {
            spec.window_pattern = vec![Some(1024), Some(1024), None];
        }
        let device = device();
        let costs = Roofline::new("toy", &device);
        let engine = EngineParameters::built_in(engine).unwrap();
        let machine = Machine { costs: &costs, hbm: device.hbm, engine: &engine };
        let deployment =
            Deployment { engine: engine.name.clone(), tp, dtype: DType::Fp8, kv_dtype: DType::Bf16 };
        let load = if closed_loop { Load::Concurrency(sequences) } else { Load::Batch(sequences) };
        let workload = Workload { load, prompt, output };
        let axes = Axes { hidden: &HIDDEN, ffn: &FFN, heads: &HEADS, head_dim: 128 };
        let tables = UniformTables::build(machine, &spec, &deployment, &workload, axes).unwrap();
        let fast = tables.evaluate(h, f, a, layers);

        let (q, kv) = HEADS[a];
        let architecture = Architecture::uniform(layers, HIDDEN[h], FFN[f], q, kv, 128);
        let slow = predict(machine, &spec, &architecture, &deployment, &workload).unwrap();
        let pairs = [
            (fast.served.ttft.total().0, slow.served.ttft.total().0),
            (fast.served.tpot.total().0, slow.served.tpot.total().0),
            (fast.served.latency.0, slow.served.latency.0),
            (fast.served.output_tokens_per_s, slow.served.output_tokens_per_s),
            (fast.served.ttft_log_sigma, slow.served.ttft_log_sigma),
            (fast.served.tpot_log_sigma, slow.served.tpot_log_sigma),
            (fast.served.latency_log_sigma, slow.served.latency_log_sigma),
            (fast.memory.0, slow.memory.total().0),
        ];
        for (i, (fast, slow)) in pairs.into_iter().enumerate() {
            prop_assert!(close(fast, slow), "figure {i}: {fast} {slow}");
        }
        prop_assert!(fast.fits);
        prop_assert_eq!(fast.params, counts::parameters(&spec, &architecture).total());
    }
}
