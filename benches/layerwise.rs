//! One choice per layer on measured tables of h200_sxm: 64, 80 and 96 layers x 104 choices, TP 4, 64 requests in flight;
//! a front over one budget, and one search under three that all bind. Losses are drawn: by how much of the layer is cut, how much the layer matters, and noise.

use std::hint::black_box;

use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::latency::prediction::Machine;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::engine::EngineParameters;
use archplan::model::architecture::{LayerShape, Layers};
use archplan::model::cards;
use archplan::model::spec::ModelSpec;
use archplan::model::workload::{Deployment, Load, Workload};
use archplan::plan::budget::Budget;
use archplan::plan::layerwise::loadable::Loadable;
use archplan::plan::layerwise::menu::{Choice, Menu};
use archplan::plan::layerwise::{Ask, front, search};
use archplan::plan::record::Metric;
use archplan::plan::request::{Request, Target, profile_record};
use archplan::quality::prior::{QualityPrior, Recovery};
use archplan::search::solver::assignment::Options;
use archplan::search::space::options::SpaceOptions;
use archplan::units::DType;
use criterion::{Criterion, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// 13 FFN widths (one of them none) x 8 kinds of attention (one of them none), and the layer dropped.
fn menu(spec: &ModelSpec, seed: u64) -> Menu {
    let parent = spec.architecture.uniform_shape().expect("a uniform parent");
    let (q, kv) = (parent.q_heads, parent.kv_heads);
    let heads = [
        (q, kv),
        (q, kv / 2),
        (q * 3 / 4, kv),
        (q * 3 / 4, kv / 2),
        (q / 2, kv),
        (q / 2, kv / 2),
        (q / 4, kv / 2),
        (0, 0),
    ];
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let depth = spec.architecture.depth() as usize;
    let layer = |at: usize| {
        // The first and last layers matter most.
        let ends = (at.min(depth - 1 - at) as f64 / 4.0).min(1.0);
        let matters = 0.02 * (3.0 - 2.0 * ends) * random.random_range(0.4..1.6);
        let mut choices = Vec::new();
        for twelfths in 0..=12 {
            for (q_heads, kv_heads) in heads {
                let shape = LayerShape { ffn: parent.ffn * twelfths / 12 / 512 * 512, q_heads, kv_heads };
                let cut = |had: u64, has: u64| (1.0 - has as f64 / had as f64).powf(1.7);
                let cuts = cut(parent.ffn, shape.ffn) + 0.5 * cut(q, q_heads) + 0.3 * cut(kv, kv_heads);
                let loss = matters * cuts * random.random_range(0.9..1.1);
                choices.push(Choice { shape, dropped: false, loss, sd: 0.05 * loss });
            }
        }
        let loss = 1.6 * matters * random.random_range(0.8..1.2);
        choices.retain(|choice| choice.kept().is_some());
        choices.push(Choice { dropped: true, loss, sd: 0.05 * loss, ..Choice::default() });
        choices
    };
    Menu {
        hidden: spec.architecture.hidden,
        head_dim: spec.architecture.head_dim,
        layers: (0..depth).map(layer).collect(),
        ..Menu::default()
    }
}

fn layerwise(c: &mut Criterion) {
    let profile = HardwareProfile::builtin("h200_sxm").expect("a built-in profile");
    let types = [DType::Bf16];
    let model = KernelModel::open(&profile, &types, &types).expect("a sound profile");
    let engine = EngineParameters::built_in("vllm").expect("a built-in engine");
    let prior = QualityPrior::shipped().expect("the shipped prior");
    let machine = Machine { costs: &model, hbm: profile.device.hbm, engine: &engine };
    let mut group = c.benchmark_group("layerwise");
    group.sample_size(10);
    for (card, layers) in [("qwen3-32b", 64), ("llama-3.1-70b", 80), ("llama-3.1-70b", 96)] {
        let mut spec = cards::find(card).expect("a card").spec().expect("a sound card");
        let shape = spec.architecture.uniform_shape().expect("a uniform parent");
        spec.architecture.layers = Layers::Uniform { count: layers, shape };
        let deployment =
            Deployment { engine: engine.name.clone(), tp: 4, dtype: DType::Bf16, kv_dtype: DType::Bf16 };
        let speedup = Budget::parse(Metric::Speedup, "1.3x").expect("a ratio");
        let mut request = Request {
            spec: &spec,
            targets: vec![Target { profile: profile_record(&profile), machine, deployment }],
            workloads: vec![Workload { load: Load::Concurrency(64), prompt: 2048, output: 1024 }],
            budgets: vec![speedup],
            confidence: None,
            prior: &prior,
            scores: None,
            recovery: Recovery::STANDARD,
            space: SpaceOptions::default(),
            seed: 0,
            command: "bench".to_string(),
        };
        let menus = [menu(&spec, layers)];
        let options = Options::default();
        let ask = Ask { request: &request, menus: &menus, loadable: Loadable::Any, options };
        let count = menus[0].layers[0].len();
        let limits: Vec<f64> = (0..20).map(|i| 1.05 + 0.04 * f64::from(i)).collect();
        group.bench_function(
            format!("{card}, {layers} layers x {count} choices, front of 20 speedups"),
            |b| {
                b.iter(|| front(black_box(&ask), 0, &limits).expect("a front"));
            },
        );
        // Two more budgets that bind as well: a little less than the answer to the first takes.
        let fast = search(&ask).expect("an answer").found().expect("a shape that fast").metrics[0];
        for (metric, value) in
            [(Metric::TtftMs, fast.ttft_ms.value), (Metric::MemoryGib, fast.memory_gib.value)]
        {
            let limit = 0.97 * value;
            request.budgets.push(Budget { metric, limit, typed: limit.to_string() });
        }
        let ask = Ask { request: &request, menus: &menus, loadable: Loadable::Any, options };
        let outcome = search(&ask).expect("an answer");
        match outcome.found() {
            Some(answer) => {
                let usages: Vec<f64> = answer.limits.iter().map(|limit| limit.usage).collect();
                println!("{layers} layers: {:?}, usages {usages:.3?}", answer.search);
            }
            None => println!("{layers} layers: {outcome:?}"),
        }
        group.bench_function(format!("{card}, {layers} layers x {count} choices, 3 budgets"), |b| {
            b.iter(|| search(black_box(&ask)).expect("an answer"));
        });
    }
    group.finish();
}

criterion_group!(benches, layerwise);
criterion_main!(benches);
