//! A single prediction and a whole request on measured tables: Qwen3-32B at multiple 128 on h200_sxm.

use std::hint::black_box;

use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::latency::prediction::{Machine, predict};
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::engine::EngineParameters;
use archplan::model::cards;
use archplan::model::workload::{Deployment, Load, Workload};
use archplan::plan::budget::Budget;
use archplan::plan::record::Metric;
use archplan::plan::request::{Request, Target, profile_record};
use archplan::plan::run;
use archplan::quality::prior::{QualityPrior, Recovery};
use archplan::search::space::options::SpaceOptions;
use archplan::units::DType;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn requests(c: &mut Criterion) {
    let profile = HardwareProfile::builtin("h200_sxm").expect("a built-in profile");
    let model = KernelModel::open(&profile, &[DType::Bf16], &[DType::Bf16]).expect("a sound profile");
    let engine = EngineParameters::built_in("vllm").expect("a built-in engine");
    let spec = cards::find("qwen3-32b").expect("a built-in card").spec().expect("a sound card");
    let prior = QualityPrior::shipped().expect("the shipped prior");
    let mut space = SpaceOptions::default();
    space.set_multiples("hidden=128,ffn=128").expect("valid multiples");
    (space.max_width_prune, space.max_depth_prune) = (0.6, 0.6);
    let deployment =
        Deployment { engine: engine.name.clone(), tp: 1, dtype: DType::Bf16, kv_dtype: DType::Bf16 };
    let machine = Machine { costs: &model, hbm: profile.device.hbm, engine: &engine };
    let request = Request {
        spec: &spec,
        targets: vec![Target { profile: profile_record(&profile), machine, deployment }],
        workloads: vec![Workload { load: Load::Concurrency(32), prompt: 2048, output: 1024 }],
        budgets: vec![Budget::parse(Metric::Speedup, "1.3x").expect("a ratio")],
        confidence: None,
        prior: &prior,
        scores: None,
        recovery: Recovery::STANDARD,
        space,
        seed: 0,
        command: "bench".to_string(),
    };
    let size = request.search_space().expect("a sound space").size();
    let mut group = c.benchmark_group("plan");
    let Target { deployment, .. } = &request.targets[0];
    group.bench_function("predict qwen3-32b on h200_sxm, concurrency 32", |b| {
        b.iter(|| predict(machine, &spec, black_box(&spec.architecture), deployment, &request.workloads[0]));
    });
    group.sample_size(10).throughput(Throughput::Elements(size));
    group.bench_function(format!("search {size} shapes of qwen3-32b on h200_sxm"), |b| {
        b.iter(|| run::search(black_box(&request)).expect("a plan"));
    });
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
