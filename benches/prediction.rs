//! One prediction on the slow path, the tables of a search space, and one shape from them: Qwen3-32B fp8 on h200_sxm,
//! TP 4, 64 requests in flight, 2048 + 1024 tokens.

use std::hint::black_box;

use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::latency::prediction::{Machine, predict};
use archplan::hardware::latency::uniform_tables::{Axes, UniformTables};
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::engine::EngineParameters;
use archplan::model::cards;
use archplan::model::workload::{Deployment, Load, Workload};
use archplan::units::DType;
use criterion::{Criterion, criterion_group, criterion_main};

fn prediction(c: &mut Criterion) {
    let spec = cards::find("qwen3-32b").expect("a card").spec().expect("a sound card");
    let profile = HardwareProfile::builtin("h200_sxm").expect("a built-in profile");
    let costs =
        KernelModel::open(&profile, &[DType::Fp8, DType::Bf16], &[DType::Fp8]).expect("a sound profile");
    let engine = EngineParameters::built_in("vllm").expect("a built-in engine");
    let machine = Machine { costs: &costs, hbm: profile.device.hbm, engine: &engine };
    let deployment =
        Deployment { engine: engine.name.clone(), tp: 4, dtype: DType::Fp8, kv_dtype: DType::Fp8 };
    let workload = Workload { load: Load::Concurrency(64), prompt: 2048, output: 1024 };

    c.bench_function("predict one shape", |b| {
        b.iter(|| predict(machine, &spec, &spec.architecture, &deployment, &workload))
    });

    let hidden: Vec<u64> = (16..=40).map(|i| i * 128).collect();
    let ffn: Vec<u64> = (80..=200).map(|i| i * 128).collect();
    let heads: Vec<(u64, u64)> = (4..=16).map(|i| (i * 4, 4)).chain((4..=8).map(|i| (i * 8, 8))).collect();
    let axes = Axes { hidden: &hidden, ffn: &ffn, heads: &heads, head_dim: 128 };
    let mut group = c.benchmark_group("tables");
    group.sample_size(10);
    group.bench_function("build 25 x 121 x 18", |b| {
        b.iter(|| UniformTables::build(machine, &spec, &deployment, &workload, axes))
    });
    let tables = UniformTables::build(machine, &spec, &deployment, &workload, axes).expect("a sound space");
    let slice = tables.slice(7, 9);
    group.bench_function("one shape", |b| {
        b.iter(|| tables.point(black_box(&slice), black_box(60), black_box(48)))
    });
    group.finish();
}

criterion_group!(benches, prediction);
criterion_main!(benches);
