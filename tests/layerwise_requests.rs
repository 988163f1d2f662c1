//! Layers of their own: what is priced, what cannot be met, what can be loaded, what is refused.

use std::sync::LazyLock;

use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::latency::prediction::{Machine, predict};
use archplan::hardware::latency::roofline::Roofline;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::engine::EngineParameters;
use archplan::model::architecture::{ArchitectureError, LayerShape, Layers};
use archplan::model::cards;
use archplan::model::spec::ModelSpec;
use archplan::model::workload::{Deployment, Load, Workload};
use archplan::plan::budget::Budget;
use archplan::plan::layerwise::error::LayerwiseError;
use archplan::plan::layerwise::loadable::Loadable;
use archplan::plan::layerwise::menu::{Choice, DroppedRun, Menu};
use archplan::plan::layerwise::{Ask, Outcome, front, search};
use archplan::plan::record::Metric;
use archplan::plan::record::layerwise::{Layerwise, Short};
use archplan::plan::request::{Request, Target, profile_record};
use archplan::quality::prior::{QualityPrior, Recovery};
use archplan::search::solver::assignment::Options;
use archplan::search::space::options::SpaceOptions;
use archplan::units::{Bytes, DType};

static H200: LazyLock<HardwareProfile> = LazyLock::new(|| HardwareProfile::builtin("h200_sxm").unwrap());
static ROOFLINE: LazyLock<Roofline<'static>> = LazyLock::new(|| Roofline::of(&H200));
static VLLM: LazyLock<EngineParameters> = LazyLock::new(|| EngineParameters::built_in("vllm").unwrap());
static PRIOR: LazyLock<QualityPrior> = LazyLock::new(|| QualityPrior::shipped().unwrap());

const BATCH: Workload = Workload { load: Load::Batch(8), prompt: 512, output: 128 };
const SERVING: Workload = Workload { load: Load::Concurrency(32), prompt: 1024, output: 512 };

/// A card; `windowed` mixes attention windows as Gemma 3 does.
fn spec(card: &str) -> ModelSpec {
    match card {
        "windowed" => ModelSpec { window_pattern: vec![Some(512), Some(512), None], ..spec("qwen3-8b") },
        card => cards::find(card).unwrap().spec().unwrap(),
    }
}

fn target<'a>(machine: Machine<'a>, tp: u64, dtype: DType) -> Target<'a> {
    let deployment = Deployment { engine: "vllm".to_string(), tp, dtype, kv_dtype: dtype };
    Target { profile: profile_record(&H200), machine, deployment }
}

fn roofline<'a>() -> Machine<'a> {
    Machine { costs: &*ROOFLINE, hbm: H200.device.hbm, engine: &VLLM }
}

fn request<'a>(
    spec: &'a ModelSpec,
    targets: Vec<Target<'a>>,
    workloads: &[Workload],
    budgets: &[(Metric, f64)],
) -> Request<'a> {
    let budget = |&(metric, limit): &(Metric, f64)| Budget { metric, limit, typed: limit.to_string() };
    Request {
        spec,
        targets,
        workloads: workloads.to_vec(),
        budgets: budgets.iter().map(budget).collect(),
        confidence: None,
        prior: &PRIOR,
        scores: None,
        recovery: Recovery::STANDARD,
        space: SpaceOptions::default(),
        seed: 0,
        command: "test".to_string(),
    }
}

fn ask<'a>(request: &'a Request<'a>, menus: &'a [Menu]) -> Ask<'a> {
    Ask { request, menus, loadable: Loadable::Any, options: Options::default() }
}

fn found(ask: &Ask<'_>) -> Layerwise {
    let outcome = search(ask).unwrap();
    outcome.found().unwrap_or_else(|| panic!("{outcome:?}")).clone()
}

fn layer(ffn: u64, q_heads: u64, kv_heads: u64) -> LayerShape {
    LayerShape { ffn, q_heads, kv_heads }
}

fn kept(shape: LayerShape, loss: f64) -> Choice {
    Choice { shape, dropped: false, loss, sd: 0.0 }
}

fn dropped(loss: f64) -> Choice {
    Choice { dropped: true, loss, ..Choice::default() }
}

/// The same choices for every layer.
fn menu(spec: &ModelSpec, choices: &[Choice]) -> Menu {
    let layers = vec![choices.to_vec(); spec.architecture.depth() as usize];
    let (hidden, head_dim) = (spec.architecture.hidden, spec.architecture.head_dim);
    Menu { hidden, head_dim, layers, ..Menu::default() }
}

/// Where every layer has but one choice, sums over layers must be what the whole model is predicted to cost.
#[test]
fn sums_over_layers_are_what_whole_models_cost() {
    let types = [DType::Bf16, DType::Fp8];
    let tables = KernelModel::open(&H200, &types, &types).unwrap();
    let measured = Machine { costs: &tables, ..roofline() };
    let cases = [
        ("qwen3-8b", 1, DType::Bf16, measured),
        ("qwen3-32b", 4, DType::Fp8, measured),
        ("llama-3.1-70b", 8, DType::Bf16, measured),
        ("windowed", 1, DType::Bf16, roofline()),
        ("openpangu-embedded-7b", 2, DType::Bf16, roofline()),
    ];
    for (card, tp, dtype, machine) in cases {
        let spec = spec(card);
        let parent = spec.architecture.uniform_shape().unwrap();
        let narrow = layer(parent.ffn / 2, parent.q_heads, parent.kv_heads);
        for (shape, hidden) in [(parent, spec.architecture.hidden), (narrow, spec.architecture.hidden / 2)] {
            for workload in [BATCH, SERVING, Workload { prompt: 20000, ..SERVING }] {
                let menus = [Menu { hidden, ..menu(&spec, &[kept(shape, 0.01)]) }];
                let roomy = Machine { hbm: Bytes::from_gib(4000.0), ..machine };
                let request = request(&spec, vec![target(roomy, tp, dtype)], &[workload], &[]);
                let answer = found(&ask(&request, &menus));
                assert!(
                    answer.disagreement_percent < 1e-7,
                    "{card} {workload:?}: {}",
                    answer.disagreement_percent
                );
                let count = spec.architecture.depth();
                assert_eq!(answer.architecture.layers, Layers::Uniform { count, shape });
                let deployment = &request.targets[0].deployment;
                let full = predict(roomy, &spec, &answer.architecture, deployment, &workload).unwrap();
                assert_eq!(answer.metrics[0].tpot_ms.value, full.served.tpot.total().ms());
                assert_eq!(answer.metrics[0].memory_gib.value, full.memory.total().gib());
                assert!((answer.loss_increase_nats.value - 0.01 * count as f64).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn what_is_chosen_is_said_layer_by_layer() {
    let spec = spec("llama-3.1-8b");
    let parent = spec.architecture.uniform_shape().unwrap();
    let mut menus = [menu(&spec, &[kept(parent, 0.0), Choice { sd: 0.3, ..kept(layer(7168, 32, 2), 0.5) }])];
    menus[0].layers[5].push(Choice { sd: 0.4, ..dropped(-0.25) });
    menus[0].layers[9][1].loss = -0.125;
    menus[0].drops = vec![DroppedRun { first: 20, layers: 3, loss: -1.0, sd: 1.2 }];
    menus[0].loss0_sd = 0.5;
    let request = request(&spec, vec![target(roofline(), 1, DType::Bf16)], &[BATCH], &[]);
    let answer = found(&ask(&request, &menus));
    assert_eq!(answer.loss_increase_nats.value, -0.25 - 0.125 - 1.0);
    assert!(
        (answer.loss_sd_nats - (0.4f64.powi(2) + 0.3f64.powi(2) + 1.2f64.powi(2) + 0.5f64.powi(2)).sqrt())
            .abs()
            < 1e-12
    );
    let gone = [5, 20, 21, 22];
    assert_eq!(answer.parents, (0..32).filter(|l| !gone.contains(l)).collect::<Vec<u64>>());
    let Layers::PerLayer(shapes) = &answer.architecture.layers else { panic!("{answer:?}") };
    assert_eq!((shapes.len(), shapes[8], shapes[7]), (28, layer(7168, 32, 2), parent));
    let run = answer.picks.iter().find(|pick| pick.layers == 3).unwrap();
    assert_eq!((run.layer, run.choice, run.shape, run.loss_nats), (20, 0, None, -1.0));
    assert_eq!((answer.picks[5].choice, answer.picks[5].shape), (2, None));
    assert_eq!((answer.search.proven, answer.search.gap_nats), (true, 0.0));
    let text = serde_json::to_string(&answer).unwrap();
    assert_eq!(serde_json::from_str::<Layerwise>(&text).unwrap(), answer);
}

#[test]
fn a_layer_stays_even_if_all_could_go_for_nothing() {
    let spec = spec("qwen3-0.6b");
    let parent = spec.architecture.uniform_shape().unwrap();
    let mut menus = [menu(&spec, &[kept(parent, 0.5), dropped(-0.5)])];
    menus[0].layers[13][0].loss = 0.25;
    let request = request(&spec, vec![target(roofline(), 1, DType::Bf16)], &[BATCH], &[]);
    let answer = found(&ask(&request, &menus));
    assert_eq!((answer.parents, answer.loss_increase_nats.value), (vec![13], 0.25 - 13.5));
    // Runs alone may cover all layers, too.
    menus[0].drops = vec![DroppedRun { first: 0, layers: 28, loss: -100.0, sd: 0.0 }];
    assert_eq!(found(&ask(&request, &menus)).parents, vec![13]);
    // A layer that is neither dropped nor has anything left is gone as well.
    let mut menus = [menu(&spec, &[kept(parent, 0.5), kept(layer(0, 0, 0), -0.5)])];
    menus[0].layers[3][0].loss = 0.25;
    assert_eq!(found(&ask(&request, &menus)).parents, vec![3]);
}

fn short(request: &Request<'_>, menus: &[Menu]) -> Vec<Short> {
    match search(&ask(request, menus)).unwrap() {
        Outcome::Infeasible(short) => short,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_budget_that_nothing_meets_is_named_with_what_can_be_had() {
    let spec = spec("qwen3-0.6b");
    let parent = spec.architecture.uniform_shape().unwrap();
    let menus = [menu(&spec, &[kept(parent, 0.0), kept(layer(1024, 8, 4), 0.1)])];
    let targets = || vec![target(roofline(), 1, DType::Bf16)];
    for (metric, hopeless) in [
        (Metric::TpotMs, 0.2),
        (Metric::TtftMs, 0.5),
        (Metric::LatencyMs, 20.0),
        (Metric::OutputTokensPerS, 1e6),
        (Metric::Speedup, 30.0),
        (Metric::Params, 1e8),
        (Metric::MemoryGib, 1.0),
    ] {
        let budgets = [(Metric::Params, 1e9), (metric, hopeless)];
        let named = short(&request(&spec, targets(), &[BATCH], &budgets), &menus);
        assert_eq!(named.len(), 1, "{named:?}");
        assert_eq!((named[0].metric, named[0].limit, named[0].alone), (metric, hopeless, true));
        // What is said to be in reach is: and nothing below it.
        let nearest = named[0].nearest;
        let easier = if metric.at_least() { 1.0 - 1e-6 } else { 1.0 + 1e-6 };
        let at = |limit| {
            let budgets = [(metric, limit)];
            search(&ask(&request(&spec, targets(), &[BATCH], &budgets), &menus)).unwrap()
        };
        assert!(at(nearest * easier).found().is_some(), "{named:?}");
        assert!(at(nearest / easier).found().is_none(), "{named:?}");
    }
}

#[test]
fn budgets_that_nothing_meets_together_are_named_as_such() {
    let spec = spec("qwen3-0.6b");
    // Few parameters with a large cache, or the other way round.
    let menus = [menu(&spec, &[kept(layer(512, 16, 8), 0.0), kept(layer(3072, 16, 1), 0.0)])];
    let targets = || vec![target(roofline(), 1, DType::Bf16)];
    let workload = Workload { load: Load::Batch(8), prompt: 8192, output: 128 };
    let ends: Vec<Layerwise> = (0..2)
        .map(|c| {
            let one = [menu(&spec, &menus[0].layers[0][c..=c])];
            found(&ask(&request(&spec, targets(), &[workload], &[]), &one))
        })
        .collect();
    let memory = |answer: &Layerwise| answer.metrics[0].memory_gib.value;
    assert!(ends[0].params < ends[1].params && memory(&ends[0]) > memory(&ends[1]));
    let budgets = [(Metric::Params, ends[0].params as f64), (Metric::MemoryGib, memory(&ends[1]))];
    let named = short(&request(&spec, targets(), &[workload], &budgets), &menus);
    let expected = [(Metric::Params, ends[1].params as f64), (Metric::MemoryGib, memory(&ends[0]))];
    assert_eq!(named.len(), 2, "{named:?}");
    for (short, (metric, nearest)) in named.iter().zip(expected) {
        assert_eq!((short.metric, short.alone), (metric, false));
        assert!(
            short.nearest <= nearest * (1.0 + 1e-9) && short.nearest > short.limit,
            "{short:?} {nearest}"
        );
    }
}

#[test]
fn vllm_gets_what_a_block_configuration_can_say() {
    let llama = spec("llama-3.1-8b");
    let parent = llama.architecture.uniform_shape().unwrap();
    let choices = [
        kept(parent, 0.0),
        kept(layer(7000, 32, 8), -9.0),
        kept(layer(7168, 16, 8), -8.0),
        kept(layer(7168, 32, 2), -2.0),
        kept(layer(0, 32, 8), -1.0),
        kept(layer(7168, 0, 0), -1.5),
        dropped(0.5),
    ];
    let menus = [menu(&llama, &choices)];
    let request = request(&llama, vec![target(roofline(), 1, DType::Bf16)], &[BATCH], &[]);
    let ask = Ask { loadable: Loadable::Vllm, ..ask(&request, &menus) };
    assert!(found(&ask).picks.iter().all(|pick| pick.choice == 3));
    let only = [menu(&llama, &choices[1..3])];
    let error = search(&Ask { menus: &only, ..ask }).unwrap_err();
    assert_eq!(error, LayerwiseError::NothingLeft { menu: 0, layer: 0, loadable: "vLLM" });
    for (card, what) in [("qwen3-0.6b", "norms on queries and keys"), ("qwen2.5-0.5b", "biases")] {
        let other = spec(card);
        let menus = [menu(&other, &[kept(other.architecture.uniform_shape().unwrap(), 0.0)])];
        let request = Request {
            spec: &other,
            ..self::request(&other, vec![target(roofline(), 1, DType::Bf16)], &[BATCH], &[])
        };
        let ask =
            Ask { loadable: Loadable::Vllm, request: &request, menus: &menus, options: Options::default() };
        assert_eq!(search(&ask).unwrap_err(), LayerwiseError::NotDeciLm { what });
    }
}

#[test]
fn transformers_gets_layers_that_are_alike() {
    let llama = spec("llama-3.1-8b");
    let parent = llama.architecture.uniform_shape().unwrap();
    let mut menus = [menu(
        &llama,
        &[kept(parent, 0.0), kept(layer(7168, 32, 8), 0.1), kept(layer(0, 32, 8), -9.0), dropped(0.5)],
    )];
    menus[0].layers[4][0].loss = 9.0;
    menus[0].layers[7] = vec![dropped(0.0)];
    let half = [(Metric::Params, 5e9)];
    let request = request(&llama, vec![target(roofline(), 1, DType::Bf16)], &[BATCH], &half);
    let ask = Ask { loadable: Loadable::Transformers, ..ask(&request, &menus) };
    let answer = found(&ask);
    let mixed = found(&Ask { loadable: Loadable::Any, ..ask });
    assert!(mixed.loss_increase_nats.value < answer.loss_increase_nats.value);
    assert!(answer.architecture.uniform_shape().is_some() && !answer.parents.contains(&7));
    // Of all layers at one width, or the other, the better.
    let of = |choice: usize| {
        let mut one = menus.clone();
        let keep = |layer: &mut Vec<Choice>| {
            *layer = [layer.get(choice).copied(), layer.last().copied()].into_iter().flatten().collect();
        };
        one[0].layers.iter_mut().for_each(keep);
        search(&Ask { menus: &one, loadable: Loadable::Any, ..ask })
            .unwrap()
            .found()
            .map(|f| f.loss_increase_nats.value)
    };
    let best = [of(0), of(1)].into_iter().flatten().min_by(f64::total_cmp).unwrap();
    assert!((answer.loss_increase_nats.value - best).abs() < 1e-9);
    menus[0].layers[0] = vec![kept(layer(1024, 32, 8), 0.0)];
    menus[0].layers[1].pop();
    let error =
        search(&Ask { menus: &menus, loadable: Loadable::Transformers, ..self::ask(&request, &menus) });
    assert_eq!(error.unwrap_err(), LayerwiseError::NothingShared { menu: 0 });
}

#[test]
fn shapes_that_the_devices_cannot_share_are_passed_over() {
    let llama = spec("llama-3.1-8b");
    let parent = llama.architecture.uniform_shape().unwrap();
    let menus =
        [menu(&llama, &[kept(layer(7001, 32, 8), -9.0), kept(layer(7168, 30, 6), -5.0), kept(parent, 0.0)])];
    let request = request(&llama, vec![target(roofline(), 4, DType::Bf16)], &[BATCH], &[]);
    assert_eq!(found(&ask(&request, &menus)).architecture, llama.architecture);
}

#[test]
fn senseless_requests_are_refused() {
    let qwen = spec("qwen3-0.6b");
    let parent = qwen.architecture.uniform_shape().unwrap();
    let good = menu(&qwen, &[kept(parent, 0.0)]);
    let request =
        request(&qwen, vec![target(roofline(), 1, DType::Bf16)], &[BATCH], &[(Metric::Params, 1e9)]);
    let error = |menu: Menu| search(&ask(&request, &[menu])).unwrap_err();
    assert_eq!(search(&ask(&request, &[])).unwrap_err(), LayerwiseError::NoMenu);
    let mut menu = good.clone();
    menu.layers.pop();
    assert_eq!(error(menu), LayerwiseError::Layers { menu: 0, found: 27, expected: 28 });
    let mut menu = good.clone();
    menu.layers[3][0].loss = f64::NAN;
    assert!(matches!(error(menu), LayerwiseError::Loss { layer: Some(3), .. }));
    let mut menu = good.clone();
    menu.loss0_sd = -1.0;
    assert!(matches!(error(menu), LayerwiseError::Spread { layer: None, .. }));
    let mut menu = good.clone();
    menu.layers[2][0].shape.kv_heads = 3;
    assert!(matches!(
        error(menu),
        LayerwiseError::Shape {
            layer: 2,
            choice: 0,
            error: ArchitectureError::UnequalGroups { layer: 2, .. },
            ..
        }
    ));
    let mut menu = good.clone();
    menu.layers[2][0].shape.ffn += 1;
    assert!(matches!(error(menu), LayerwiseError::Shape { layer: 2, choice: 0, .. }));
    for (first, layers) in [(27, 2), (0, 0), (u64::MAX, u64::MAX)] {
        let drops = vec![DroppedRun { first, layers, loss: 0.0, sd: 0.0 }];
        assert!(matches!(error(Menu { drops, ..good.clone() }), LayerwiseError::RunOutside { run: 0, .. }));
    }
    let mut menu = good.clone();
    menu.layers[9].clear();
    assert_eq!(error(menu), LayerwiseError::NothingLeft { menu: 0, layer: 9, loadable: "any engine" });
    let menus = [good.clone()];
    assert_eq!(
        front(&ask(&request, &menus), 1, &[1.0]).unwrap_err(),
        LayerwiseError::NoBudget { budget: 1, budgets: 1 }
    );
    assert_eq!(front(&ask(&request, &menus), 0, &[0.0]).unwrap_err(), LayerwiseError::Limit { found: 0.0 });
    let sure = Request { confidence: Some(0.9), ..request };
    assert_eq!(search(&ask(&sure, &menus)).unwrap_err(), LayerwiseError::Confidence);
}

#[test]
fn mixed_windows_forbid_drops_but_not_parts_removed() {
    let gemma = spec("windowed");
    let parent = gemma.architecture.uniform_shape().unwrap();
    let request = request(&gemma, vec![target(roofline(), 1, DType::Bf16)], &[BATCH], &[]);
    let parts = [menu(&gemma, &[kept(parent, 0.0), kept(layer(0, parent.q_heads, parent.kv_heads), -0.5)])];
    assert!(found(&ask(&request, &parts)).disagreement_percent < 1e-7);
    let mut drops = parts.clone();
    drops[0].layers[0].push(dropped(0.0));
    assert_eq!(search(&ask(&request, &drops)).unwrap_err(), LayerwiseError::MixedWindows { menu: 0 });
    let mut runs = parts.clone();
    runs[0].drops.push(DroppedRun { first: 0, layers: 1, loss: 0.0, sd: 0.0 });
    assert_eq!(search(&ask(&request, &runs)).unwrap_err(), LayerwiseError::MixedWindows { menu: 0 });
}
