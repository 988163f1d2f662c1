//! Lowering, pricing, memory and static batches against figures worked out by hand and against slow references.

use archplan::estimate::Source;
use archplan::hardware::kernel::{Backend, KernelCall, KernelFamily};
use archplan::hardware::latency::cost::{GapError, KernelCost, KernelCosts};
use archplan::hardware::latency::forward::{PriceError, price};
use archplan::hardware::latency::lowering::{Op, Phase, lower};
use archplan::hardware::latency::memory::{memory, tokens_per_sequence};
use archplan::hardware::latency::roofline::Roofline;
use archplan::hardware::latency::static_batch::{mean_decode_step, prefill_passes, sample_lengths};
use archplan::hardware::profile::device::{Device, Granularity, Tile};
use archplan::hardware::profile::engine::EngineParameters;
use archplan::model::architecture::{Architecture, LayerShape, Layers};
use archplan::model::cards;
use archplan::model::spec::{ModelSpec, NormLayout};
use archplan::model::workload::{Deployment, Load, Workload};
use archplan::units::{Bytes, BytesPerSecond, DType, FlopsPerSecond, Seconds};

fn device() -> Device {
    let peaks = [(DType::Bf16, 1000.0), (DType::Fp8, 2000.0)];
    Device {
        name: "a round-number device".into(),
        peaks: peaks.map(|(dtype, tflops)| (dtype, FlopsPerSecond::from_tflops(tflops))).into(),
        hbm: Bytes::from_gib(100.0),
        hbm_bandwidth: BytesPerSecond::from_gbps(4000.0),
        l2: None,
        cores: 100,
        tile: Tile { m: 128, n: 128, k: 64 },
        interconnect: BytesPerSecond::from_gbps(400.0),
        granularity: Granularity { hidden: 256, ffn: 512 },
    }
}

fn card(name: &str) -> ModelSpec {
    cards::find(name).unwrap().spec().unwrap()
}

fn deployment(tp: u64) -> Deployment {
    Deployment { engine: "none".into(), tp, dtype: DType::Fp8, kv_dtype: DType::Bf16 }
}

fn find<'a>(ops: &'a [Op], name: &str) -> &'a Op {
    ops.iter().find(|op| op.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn lowered(spec: &ModelSpec, tp: u64, phase: Phase) -> Vec<Op> {
    lower(spec, &spec.architecture, &deployment(tp), phase).unwrap()
}

#[test]
fn linear_layers_split_as_megatron_splits_them() {
    let spec = card("llama-3.1-70b");
    let gemm = |n, k| KernelCall::Gemm { m: 48, n, k, dtype: DType::Fp8 };
    for (tp, kv_local) in [(1, 8), (2, 4), (8, 1), (16, 1)] {
        let ops = lowered(&spec, tp, Phase::Decode { batch: 48, kv_len: 1000 });
        let heads = 64 / tp;
        assert_eq!(find(&ops, "qkv_proj").call, gemm((heads + 2 * kv_local) * 128, 8192), "tp {tp}");
        assert_eq!(find(&ops, "o_proj").call, gemm(8192, heads * 128));
        assert_eq!(find(&ops, "gate_up_proj").call, gemm(2 * 28672 / tp, 8192));
        assert_eq!(find(&ops, "down_proj").call, gemm(8192, 28672 / tp));
        let head = KernelCall::Gemm { m: 48, n: 128_256 / tp, k: 8192, dtype: DType::Bf16 };
        assert_eq!(find(&ops, "lm_head").call, head);
        let reductions: Vec<_> =
            ops.iter().filter(|op| op.call.family() == KernelFamily::AllReduce).collect();
        assert_eq!(reductions.len(), if tp == 1 { 0 } else { 3 });
        for op in reductions {
            let bytes = 48 * 8192 * 2;
            assert_eq!(op.call, KernelCall::AllReduce { world: tp, bytes, backend: Backend::VllmGraph });
        }
        assert_eq!(find(&ops, "down_proj").layers, 80);
        assert_eq!(find(&ops, "lm_head").first_layer, None);
    }
}

#[test]
fn prefill_runs_the_lm_head_on_last_tokens_only_and_large_sums_go_to_the_library() {
    let spec = card("qwen3-8b");
    let ops = lowered(&spec, 2, Phase::Prefill { batch: 3, tokens: 2000 });
    assert!(matches!(find(&ops, "qkv_proj").call, KernelCall::Gemm { m: 6000, .. }));
    assert!(matches!(find(&ops, "lm_head").call, KernelCall::Gemm { m: 3, .. }));
    let attention = find(&ops, "attention").call;
    let expected = KernelCall::AttentionPrefill {
        batch: 3,
        seq_len: 2000,
        q_heads: 16,
        kv_heads: 4,
        head_dim: 128,
        dtype: DType::Bf16,
    };
    assert_eq!(attention, expected);
    let sum = find(&ops, "ffn_all_reduce").call;
    assert_eq!(sum, KernelCall::AllReduce { world: 2, bytes: 6000 * 4096 * 2, backend: Backend::Nccl });
    assert!(ops.iter().any(|op| op.name == "qk_norm"), "Qwen3 norms its queries and keys");
}

#[test]
fn flops_of_the_calls_are_those_of_the_model() {
    for name in ["llama-3.1-8b", "qwen3-32b", "qwen2.5-7b", "openpangu-embedded-7b"] {
        let spec = card(name);
        for tp in [1, 2, 4] {
            let ops = lowered(&spec, tp, Phase::Decode { batch: 1, kv_len: 777 });
            let flops: f64 = ops.iter().map(|op| op.call.flops().0 * op.layers as f64).sum();
            let exact = archplan::model::counts::decode_flops(&spec, &spec.architecture, 777).0;
            let ratio = flops * tp as f64 / exact;
            assert!((ratio - 1.0).abs() < 1e-3, "{name} tp {tp}: {ratio}");
        }
    }
}

#[test]
fn layers_without_attention_or_ffn_make_no_calls_for_them() {
    let spec = card("llama-3.1-8b");
    let layer = |ffn, q_heads, kv_heads| LayerShape { ffn, q_heads, kv_heads };
    let shapes = vec![layer(14336, 32, 8), layer(14336, 0, 0), layer(0, 32, 8), layer(14336, 32, 8)];
    let architecture = Architecture { layers: Layers::PerLayer(shapes), ..spec.architecture.clone() };
    let ops = lower(&spec, &architecture, &deployment(2), Phase::Decode { batch: 1, kv_len: 9 }).unwrap();
    let layers_of = |name| -> Vec<_> {
        ops.iter().filter(|op| op.name == name).filter_map(|op| op.first_layer).collect()
    };
    assert_eq!(layers_of("attention"), [0, 2, 3]);
    assert_eq!(layers_of("attention_all_reduce"), [0, 2, 3]);
    assert_eq!(layers_of("down_proj"), [0, 1, 3]);
}

#[test]
fn windows_clip_what_attention_sees() {
    let mut spec = card("llama-3.1-8b");
    spec.window_pattern = vec![Some(512), None];
    let kv_lens = |phase| -> Vec<(Option<u64>, KernelCall)> {
        let ops = lowered(&spec, 1, phase);
        ops.iter().filter(|op| op.name == "attention").map(|op| (op.first_layer, op.call)).collect()
    };
    let decode = kv_lens(Phase::Decode { batch: 1, kv_len: 4000 });
    assert_eq!(decode.len(), 32);
    for (layer, call) in decode {
        let expected = if layer.unwrap() % 2 == 0 { 512 } else { 4000 };
        assert!(matches!(call, KernelCall::AttentionDecode { kv_len, .. } if kv_len == expected));
    }
    // Prefill of a window: as many query-key pairs as the band has, give or take its ragged edge.
    let pairs = |calls: &[(Option<u64>, KernelCall)], layer| -> f64 {
        calls.iter().filter(|(l, _)| *l == Some(layer)).map(|(_, call)| call.flops().0).sum()
    };
    let calls = kv_lens(Phase::Prefill { batch: 1, tokens: 4096 });
    let band = 4.0 * 32.0 * 128.0 * (4096.0 * 512.0 - 512.0 * 511.0 / 2.0);
    assert!((pairs(&calls, 0) / band - 1.0).abs() < 0.08, "{}", pairs(&calls, 0) / band);
}

#[test]
fn sandwich_norms_cost_two_more_kernels_per_layer() {
    let mut spec = card("llama-3.1-8b");
    let plain = lowered(&spec, 1, Phase::Decode { batch: 1, kv_len: 10 }).len();
    spec.norms = NormLayout::Sandwich;
    assert_eq!(lowered(&spec, 1, Phase::Decode { batch: 1, kv_len: 10 }).len(), plain + 2);
}

#[test]
fn a_degree_that_does_not_divide_is_refused_by_name() {
    let spec = card("llama-3.1-8b");
    let phase = Phase::Decode { batch: 1, kv_len: 10 };
    let device = device();
    let error = price(&Roofline::new("toy", &device), &spec, &spec.architecture, &deployment(3), phase);
    assert!(matches!(error, Err(PriceError::TensorParallel(_))), "{error:?}");
}

#[test]
fn a_gap_is_an_error_that_names_what_is_there() {
    let spec = card("llama-3.1-8b");
    let device = device();
    let int8 = Deployment { dtype: DType::Int8, ..deployment(1) };
    let phase = Phase::Decode { batch: 1, kv_len: 10 };
    let error = price(&Roofline::new("toy", &device), &spec, &spec.architecture, &int8, phase).unwrap_err();
    assert_eq!(error.to_string(), "profile `toy` has no gemm rows for dtype int8; it has bf16, fp8");
}

#[test]
fn the_breakdown_sums_to_the_total() {
    let spec = card("qwen3-8b");
    let device = device();
    let costs = Roofline::new("toy", &device);
    for phase in [Phase::Prefill { batch: 2, tokens: 500 }, Phase::Decode { batch: 64, kv_len: 3000 }] {
        let pass = price(&costs, &spec, &spec.architecture, &deployment(4), phase).unwrap();
        let by_op: Seconds = pass.by_op().into_iter().map(|op| op.latency).sum();
        let by_layer: Seconds = pass.by_layer().into_iter().map(|(_, _, latency)| latency).sum();
        let total = pass.total();
        assert!((by_op / total - 1.0).abs() < 1e-12 && (by_layer / total - 1.0).abs() < 1e-12);
        let estimate = pass.estimate();
        assert!(estimate.low < total.0 && total.0 < estimate.high);
    }
}

/// One constant price and spread for every call.
struct Flat(f64, f64);

impl KernelCosts for Flat {
    fn cost(&self, call: &KernelCall) -> Result<KernelCost, GapError> {
        let source = match call.family() {
            KernelFamily::Elementwise => Source::Estimated,
            _ => Source::Measured,
        };
        Ok(KernelCost { latency: Seconds(self.0), log_sigma: self.1, source, extrapolated: false })
    }
}

#[test]
fn spreads_of_one_op_add_up_and_spreads_of_different_ops_partly_average_out() {
    let spec = card("llama-3.1-8b");
    let phase = Phase::Decode { batch: 1, kv_len: 10 };
    let pass = price(&Flat(1.0, 0.1), &spec, &spec.architecture, &deployment(1), phase).unwrap();
    let layer_ops = 10.0;
    let (sum, squares) = (0.1 * (32.0 * layer_ops + 4.0), 0.01 * (32.0 * 32.0 * layer_ops + 4.0));
    let expected = (2.0 / 3.0 * squares + sum * sum / 3.0_f64).sqrt() / (32.0 * layer_ops + 4.0);
    assert!((pass.log_sigma() - expected).abs() < 1e-12, "{} {expected}", pass.log_sigma());
    assert_eq!(pass.source(), Source::Estimated, "norms are more than 5 % of this total");
}

/// Attention time with a kink and a curve in the cache length; nothing else costs anything.
struct Kinked;

impl KernelCosts for Kinked {
    fn cost(&self, call: &KernelCall) -> Result<KernelCost, GapError> {
        let us = match *call {
            KernelCall::AttentionDecode { kv_len, .. } => {
                let kv_len = kv_len as f64;
                10.0 + kv_len.sqrt() * 0.5 + if kv_len > 3000.0 { 0.01 * (kv_len - 3000.0) } else { 0.0 }
            }
            _ => 0.0,
        };
        let latency = Seconds::from_us(us);
        Ok(KernelCost { latency, log_sigma: 0.05, source: Source::Fitted, extrapolated: false })
    }
}

#[test]
fn the_mean_decode_step_is_that_of_every_step() {
    let spec = card("llama-3.1-8b");
    for (prompt, output) in [(1, 2), (10, 9), (100, 5000), (2048, 1024), (2900, 300), (7, 1)] {
        let sampled =
            mean_decode_step(&Kinked, &spec, &spec.architecture, &deployment(1), (4, prompt, output))
                .unwrap();
        let steps = (output - 1).max(1);
        let exact: Seconds = (1..=steps)
            .map(|i| {
                let phase = Phase::Decode { batch: 4, kv_len: prompt + i };
                price(&Kinked, &spec, &spec.architecture, &deployment(1), phase).unwrap().total()
            })
            .sum();
        let error = sampled.total() / (exact / steps as f64) - 1.0;
        let bound = if steps <= 8 { 1e-12 } else { 5e-3 };
        assert!(error.abs() < bound, "prompt {prompt} output {output}: {error}");
        assert!((sampled.log_sigma() - 0.05).abs() < 1e-12);
    }
}

#[test]
fn sampled_lengths_are_every_step_of_a_short_output() {
    assert_eq!(sample_lengths(100, 5), [101, 102, 103, 104]);
    assert_eq!(sample_lengths(100, 1), [101]);
    let long = sample_lengths(1000, 1025);
    assert_eq!(long.len(), 8);
    let mean = long.iter().sum::<u64>() as f64 / 8.0;
    assert!((mean - 1512.5).abs() <= 0.5, "{mean}");
}

#[test]
fn memory_is_counted_as_engines_count_it() {
    let spec = card("llama-3.1-70b");
    let engine = EngineParameters::built_in("vllm").unwrap();
    let workload = Workload { load: Load::Concurrency(64), prompt: 8192, output: 1024 };
    let fp8 = Deployment { kv_dtype: DType::Fp8, ..deployment(1) };
    let hbm = Bytes::from_gib(141.0);
    let used = memory(&spec, &spec.architecture, &fp8, &workload, hbm, &engine);
    // 80 layers x 2 x 8 heads x 128 x 1 byte = 160 KiB per token; half the output on average.
    assert_eq!(tokens_per_sequence(&workload), 8704);
    assert_eq!(used.kv_per_sequence, Bytes(8704.0 * 163_840.0));
    assert!(!used.fits());
    assert!((30..64).contains(&used.max_sequences()), "{}", used.max_sequences());
    let fewer = Workload { load: Load::Concurrency(used.max_sequences()), ..workload };
    assert!(memory(&spec, &spec.architecture, &fp8, &fewer, hbm, &engine).fits());
    let tp16 = Deployment { tp: 16, ..fp8 };
    let replicated = memory(&spec, &spec.architecture, &tp16, &workload, hbm, &engine);
    assert_eq!(replicated.kv_per_sequence, used.kv_per_sequence / 8.0, "8 KV heads on 16 devices: one each");
}

#[test]
fn roofline_is_launch_plus_the_larger_of_compute_and_memory() {
    let device = device();
    let costs = Roofline::new("toy", &device);
    let cost = |call| costs.cost(&call).unwrap().latency.us();
    let compute = KernelCall::Gemm { m: 8192, n: 8192, k: 8192, dtype: DType::Bf16 };
    let seconds = 2.0 * 8192f64.powi(3) / 1000e12 / 0.8;
    assert!((cost(compute) - (2.5 + seconds * 1e6)).abs() < 1e-6);
    let memory = KernelCall::Gemm { m: 1, n: 8192, k: 8192, dtype: DType::Fp8 };
    let seconds = (8192f64 * 8193.0 + 8192.0 * 2.0) / 4000e9 / 0.8;
    assert!((cost(memory) - (2.5 + seconds * 1e6)).abs() < 1e-6);
    assert!((cost(KernelCall::Elementwise { bytes: 0, launches: 3 }) - 7.5).abs() < 1e-9);
}

#[test]
fn a_large_static_batch_is_prefilled_in_passes_the_engine_takes() {
    let mut engine = EngineParameters::built_in("vllm").unwrap();
    engine.limits.chunk_tokens = 8192;
    let passes = |load, prompt| prefill_passes(&Workload { load, prompt, output: 10 }, &engine);
    let prefill = |batch, tokens| Phase::Prefill { batch, tokens };
    assert_eq!(passes(Load::Batch(64), 2048), (prefill(4, 2048), 16.0));
    assert_eq!(passes(Load::Batch(3), 2048), (prefill(3, 2048), 1.0));
    assert_eq!(passes(Load::Batch(5), 2048), (prefill(3, 2048), 5.0 / 3.0), "two passes of two and a half");
    assert_eq!(passes(Load::Batch(2), 100_000), (prefill(1, 100_000), 2.0));
    assert_eq!(passes(Load::Concurrency(64), 2048), (prefill(1, 2048), 1.0));
}
