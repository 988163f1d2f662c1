//! One choice per layer against trying every product of choices, each predicted in full.
//!
//! Kernel prices are those of a roofline made uneven: up to 40 % dearer from one call to the next, so that nothing is
//! hidden by smoothness.

use std::sync::LazyLock;

use archplan::hardware::kernel::KernelCall;
use archplan::hardware::latency::cost::{GapError, KernelCost, KernelCosts};
use archplan::hardware::latency::prediction::{Machine, predict};
use archplan::hardware::latency::roofline::Roofline;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::engine::EngineParameters;
use archplan::model::architecture::{Architecture, LayerShape, Layers};
use archplan::model::cards;
use archplan::model::counts;
use archplan::model::spec::ModelSpec;
use archplan::model::workload::{Deployment, Load, Workload};
use archplan::plan::budget::Budget;
use archplan::plan::layerwise::loadable::Loadable;
use archplan::plan::layerwise::menu::{Choice, DroppedRun, Menu};
use archplan::plan::layerwise::{Ask, Outcome, front, search};
use archplan::plan::record::Metric;
use archplan::plan::record::layerwise::Layerwise;
use archplan::plan::request::{Request, Target, profile_record};
use archplan::quality::prior::{QualityPrior, Recovery};
use archplan::search::solver::assignment::Options;
use archplan::search::space::options::SpaceOptions;
use archplan::units::DType;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A device whose prices jump from one kernel call to the next.
struct Device {
    profile: HardwareProfile,
}

static H200: LazyLock<Device> =
    LazyLock::new(|| Device { profile: HardwareProfile::builtin("h200_sxm").unwrap() });
static A100: LazyLock<Device> =
    LazyLock::new(|| Device { profile: HardwareProfile::builtin("a100_sxm").unwrap() });

impl KernelCosts for Device {
    fn cost(&self, call: &KernelCall) -> Result<KernelCost, GapError> {
        let cost = Roofline::of(&self.profile).cost(call)?;
        let scattered = (call.bytes().0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let chance = (scattered >> 11) as f64 / (1u64 << 53) as f64;
        Ok(KernelCost { latency: cost.latency * (1.0 + 0.4 * chance), log_sigma: 0.1 * chance, ..cost })
    }
}

static VLLM: LazyLock<EngineParameters> = LazyLock::new(|| EngineParameters::built_in("vllm").unwrap());
/// vLLM with a least time per layer amid what the kernels of [`LONG`] take, so that either can be longer.
static UNEVEN: LazyLock<EngineParameters> = LazyLock::new(|| with_floor(4200.0));
/// The same for [`SERVING`].
static UNEVEN_SHORT: LazyLock<EngineParameters> = LazyLock::new(|| with_floor(160.0));
/// And with 8-bit layers.
static UNEVEN_FP8: LazyLock<EngineParameters> = LazyLock::new(|| with_floor(120.0));
static PRIOR: LazyLock<QualityPrior> = LazyLock::new(|| QualityPrior::shipped().unwrap());

/// Qwen3-0.6B with four layers.
static FOUR: LazyLock<ModelSpec> = LazyLock::new(|| shallow("qwen3-0.6b", 4));

const BATCH: Workload = Workload { load: Load::Batch(16), prompt: 1024, output: 256 };
const SERVING: Workload = Workload { load: Load::Concurrency(32), prompt: 1024, output: 512 };
/// Prompts of three chunks: sharing steps saves more than others' prefills take, so that a longer prefill of the same
/// linear layers may shorten the time per token.
const LONG: Workload = Workload { load: Load::Concurrency(16), prompt: 24000, output: 64 };

fn with_floor(us: f64) -> EngineParameters {
    let mut engine = EngineParameters::built_in("vllm").unwrap();
    engine.overheads.prefill_layer_floor_us = us;
    engine
}

fn shallow(card: &str, layers: u64) -> ModelSpec {
    let mut spec = cards::find(card).unwrap().spec().unwrap();
    let shape = spec.architecture.uniform_shape().unwrap();
    spec.architecture.layers = Layers::Uniform { count: layers, shape };
    spec
}

fn target<'a>(
    device: &'static Device,
    engine: &'static EngineParameters,
    tp: u64,
    dtype: DType,
) -> Target<'a> {
    Target {
        profile: profile_record(&device.profile),
        machine: Machine { costs: device, hbm: device.profile.device.hbm, engine },
        deployment: Deployment { engine: engine.name.clone(), tp, dtype, kv_dtype: dtype },
    }
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

fn found(request: &Request<'_>, menus: &[Menu]) -> Layerwise {
    let outcome = search(&ask(request, menus)).unwrap();
    outcome.found().unwrap_or_else(|| panic!("{outcome:?}")).clone()
}

fn layer(ffn: u64, q_heads: u64, kv_heads: u64) -> LayerShape {
    LayerShape { ffn, q_heads, kv_heads }
}

fn choice(shape: LayerShape, loss: f64) -> Choice {
    Choice { shape, dropped: false, loss, sd: 0.01 }
}

fn dropped(loss: f64) -> Choice {
    Choice { dropped: true, loss, sd: 0.02, ..Choice::default() }
}

/// Two hidden sizes, five choices a layer (the last one drops it), a run of two that may be dropped.
fn menus() -> Vec<Menu> {
    let shapes = [layer(3072, 16, 8), layer(1536, 16, 4), layer(2560, 8, 8), layer(0, 16, 8)];
    let menu = |hidden, loss0| {
        let choices = shapes.map(|shape| choice(shape, 0.0)).into_iter().chain([dropped(0.0)]);
        Menu {
            hidden,
            head_dim: 128,
            loss0,
            loss0_sd: 0.03,
            layers: vec![choices.collect(); 4],
            drops: vec![DroppedRun { first: 1, layers: 2, loss: 0.0, sd: 0.0 }],
        }
    };
    vec![menu(1024, 0.0), menu(768, 0.2)]
}

/// `(layer, choice, is run)` of each pick.
type Picks = Vec<(usize, usize, bool)>;

/// Every way to cover the layers, and the shapes that stay.
fn coverings(menu: &Menu) -> Vec<(Picks, Vec<LayerShape>)> {
    let mut done = Vec::new();
    let mut open = vec![(0, Vec::new(), Vec::new())];
    while let Some((layer, picks, shapes)) = open.pop() {
        if layer == menu.layers.len() {
            if !shapes.is_empty() {
                done.push((picks, shapes));
            }
            continue;
        }
        let with = |pick| [picks.as_slice(), &[pick]].concat();
        for (i, choice) in menu.layers[layer].iter().enumerate() {
            let gone = choice.dropped || (choice.shape.ffn, choice.shape.q_heads) == (0, 0);
            let shapes = [&shapes[..], if gone { &[] } else { std::slice::from_ref(&choice.shape) }].concat();
            open.push((layer + 1, with((layer, i, false)), shapes));
        }
        for (i, run) in menu.drops.iter().enumerate().filter(|(_, run)| run.first as usize == layer) {
            open.push((layer + run.layers as usize, with((layer, i, true)), shapes.clone()));
        }
    }
    done
}

/// One covering predicted in full.
struct Tried {
    menu: usize,
    picks: Picks,
    /// By scenario and metric, in the metric's unit.
    figures: Vec<[f64; Metric::ALL.len()]>,
    /// Within the devices' memory.
    fits: bool,
    /// The least time per layer outlasts the kernels of the prefill, in the first scenario.
    at_floor: bool,
}

fn try_everything(request: &Request<'_>, menus: &[Menu]) -> Vec<Tried> {
    let scenarios: Vec<(&Target<'_>, &Workload)> =
        request.targets.iter().flat_map(|t| request.workloads.iter().map(move |w| (t, w))).collect();
    let run = |(target, workload): &(&Target<'_>, &Workload), shape: &Architecture| {
        predict(target.machine, request.spec, shape, &target.deployment, workload).unwrap()
    };
    let parents: Vec<f64> =
        scenarios.iter().map(|s| run(s, &request.spec.architecture).served.output_tokens_per_s).collect();
    let mut tried = Vec::new();
    for (at, menu) in menus.iter().enumerate() {
        for (picks, shapes) in coverings(menu) {
            let layers = Layers::PerLayer(shapes);
            let shape = Architecture { hidden: menu.hidden, head_dim: menu.head_dim, layers };
            let params = counts::parameters(request.spec, &shape).total() as f64;
            let (mut figures, mut fits, mut at_floor) = (Vec::new(), true, None);
            for (scenario, parent) in scenarios.iter().zip(&parents) {
                let found = run(scenario, &shape);
                fits &= found.memory.fits();
                let floor = scenario.0.machine.engine.overheads.prefill_floor(found.steps.layers);
                at_floor.get_or_insert(found.prefill_time == floor * found.steps.prefill_passes);
                let served = &found.served;
                figures.push([
                    served.ttft.total().ms(),
                    served.tpot.total().ms(),
                    served.latency.ms(),
                    served.output_tokens_per_s,
                    params,
                    found.memory.total().gib(),
                    served.output_tokens_per_s / parent,
                ]);
            }
            tried.push(Tried { menu: at, picks, figures, fits, at_floor: at_floor.unwrap() });
        }
    }
    tried
}

impl Tried {
    fn keeps(&self, budgets: &[(Metric, f64)]) -> bool {
        let keeps = |(metric, limit): &(Metric, f64), figures: &[f64]| {
            let value = figures[Metric::ALL.iter().position(|m| m == metric).unwrap()];
            if metric.at_least() { value >= *limit } else { value <= *limit }
        };
        self.fits && budgets.iter().all(|budget| self.figures.iter().all(|f| keeps(budget, f)))
    }

    fn loss(&self, menus: &[Menu]) -> f64 {
        let menu = &menus[self.menu];
        let loss = |&(layer, at, is_run): &(usize, usize, bool)| match is_run {
            true => menu.drops[at].loss,
            false => menu.layers[layer][at].loss,
        };
        menu.loss0 + self.picks.iter().map(loss).sum::<f64>()
    }

    /// A limit that this covering just keeps in every scenario.
    fn limit(&self, metric: Metric) -> f64 {
        let at = Metric::ALL.iter().position(|m| *m == metric).unwrap();
        let values = self.figures.iter().map(|f| f[at]);
        match metric {
            Metric::Params | Metric::MemoryGib => values.fold(0.0, f64::max),
            _ if metric.at_least() => values.fold(f64::INFINITY, f64::min) * (1.0 - 1e-7),
            _ => values.fold(0.0, f64::max) * (1.0 + 1e-7),
        }
    }
}

fn with_losses(menus: &[Menu], random: &mut ChaCha8Rng) -> Vec<Menu> {
    let mut menus = menus.to_vec();
    for menu in &mut menus {
        let mut draw = || random.random_range(-0.2..1.0);
        menu.loss0 = draw();
        menu.drops.iter_mut().for_each(|run| run.loss = 2.0 * draw());
        menu.layers.iter_mut().flatten().for_each(|choice| choice.loss = draw());
    }
    menus
}

fn least<'a>(tried: &'a [Tried], menus: &[Menu], budgets: &[(Metric, f64)]) -> Option<(f64, &'a Tried)> {
    let kept = tried.iter().filter(|t| t.keeps(budgets)).map(|t| (t.loss(menus), t));
    kept.min_by(|a, b| a.0.total_cmp(&b.0))
}

fn assert_best(outcome: &Outcome, tried: &[Tried], menus: &[Menu], budgets: &[(Metric, f64)]) -> bool {
    match (outcome, least(tried, menus, budgets)) {
        (Outcome::Found(answer), Some((loss, _))) => {
            assert!((answer.loss_increase_nats.value - loss).abs() < 1e-9, "{budgets:?}: {answer:?} {loss}");
            assert!(answer.search.proven && answer.search.gap_nats < 1e-9, "{:?}", answer.search);
            assert!(answer.disagreement_percent < 1e-7, "{answer:?}");
            let picks: Vec<_> =
                answer.picks.iter().map(|p| (p.layer as usize, p.choice, p.layers > 1)).collect();
            let same = tried.iter().find(|t| t.menu == answer.menu && t.picks == picks).unwrap();
            assert!(same.keeps(budgets), "{answer:?}");
            assert!((same.loss(menus) - loss).abs() < 1e-9);
            true
        }
        (Outcome::Infeasible(_), None) => false,
        (outcome, best) => {
            panic!("{budgets:?}: {outcome:?}, but {:?}", best.map(|(loss, t)| (loss, &t.picks)))
        }
    }
}

/// Random losses under each kind of budget alone, then several together, at limits that some covering just keeps.
fn assert_same_as_trying_everything(
    targets: impl Fn() -> Vec<Target<'static>>,
    workloads: &[Workload],
    seeds: u64,
    bends: bool,
) -> u64 {
    let shapes = menus();
    let tried = try_everything(&request(&FOUR, targets(), workloads, &[]), &shapes);
    assert!(tried.len() > 1000);
    let at_floor = tried.iter().filter(|t| t.at_floor).count();
    assert!(!bends || (100..tried.len() - 100).contains(&at_floor), "{at_floor} of {}", tried.len());
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut solved, mut infeasible, mut problems) = (0, 0, 0);
    for seed in 0..seeds {
        let menus = with_losses(&shapes, &mut random);
        let kinds = match seed as usize % 10 {
            alone if alone < Metric::ALL.len() => vec![Metric::ALL[alone]],
            7 => vec![Metric::TtftMs, Metric::MemoryGib],
            8 => vec![Metric::TpotMs, Metric::Params, Metric::Speedup],
            _ => Metric::ALL.to_vec(),
        };
        let out_of_reach = seed % 16 == 15;
        let mut limit = |&metric: &Metric| match (out_of_reach, metric.at_least()) {
            (false, _) => (metric, tried[random.random_range(0..tried.len())].limit(metric)),
            (true, false) => {
                (metric, 0.99 * tried.iter().map(|t| t.limit(metric)).fold(f64::INFINITY, f64::min))
            }
            (true, true) => (metric, 1.01 * tried.iter().map(|t| t.limit(metric)).fold(0.0, f64::max)),
        };
        let budgets: Vec<(Metric, f64)> = kinds.iter().map(&mut limit).collect();
        let request = request(&FOUR, targets(), workloads, &budgets);
        let outcome = search(&ask(&request, &menus)).unwrap();
        problems = problems.max(outcome.found().map_or(0, |answer| answer.search.problems));
        match assert_best(&outcome, &tried, &menus, &budgets) {
            true => solved += 1,
            false => infeasible += 1,
        }
    }
    assert!(solved > seeds / 2 && infeasible > 0, "{solved} {infeasible}");
    problems
}

#[test]
fn a_static_batch_whose_activations_weigh_more_than_its_layers() {
    let targets = || vec![target(&H200, &VLLM, 1, DType::Bf16)];
    let problems = assert_same_as_trying_everything(targets, &[BATCH], 80, false);
    assert!(problems > 2, "no answer was too wide for its memory");
}

#[test]
fn serving_with_a_least_time_per_layer() {
    let targets = || vec![target(&H200, &UNEVEN_FP8, 1, DType::Fp8)];
    assert_same_as_trying_everything(targets, &[SERVING], 80, true);
}

#[test]
fn serving_where_a_longer_prefill_may_shorten_the_time_per_token() {
    let targets = || vec![target(&H200, &UNEVEN, 1, DType::Bf16)];
    assert_same_as_trying_everything(targets, &[LONG], 80, true);
    // Both sides of the bend do occur: else the test would not see it.
    let shapes = menus();
    let menus = with_losses(&shapes, &mut ChaCha8Rng::seed_from_u64(3));
    let answer = found(&request(&FOUR, targets(), &[LONG], &[(Metric::TpotMs, 1e6)]), &menus[..1]);
    assert_eq!(answer.search.problems, 2);
}

#[test]
fn two_devices_with_two_workloads() {
    let targets = || vec![target(&H200, &UNEVEN_SHORT, 1, DType::Bf16), target(&A100, &VLLM, 2, DType::Bf16)];
    assert_same_as_trying_everything(targets, &[SERVING, BATCH], 40, true);
}

#[test]
fn the_front_is_what_single_searches_say() {
    let shapes = menus();
    let targets = || vec![target(&H200, &UNEVEN, 1, DType::Bf16)];
    let tried = try_everything(&request(&FOUR, targets(), &[LONG], &[]), &shapes);
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for metric in [Metric::TpotMs, Metric::Speedup, Metric::MemoryGib, Metric::Params] {
        let menus = with_losses(&shapes, &mut random);
        let other = (Metric::TtftMs, tried[random.random_range(0..tried.len())].limit(Metric::TtftMs));
        let mut limits: Vec<f64> =
            (0..24).map(|_| tried[random.random_range(0..tried.len())].limit(metric)).collect();
        let hopeless = if metric.at_least() { 1e9 } else { 1e-9 };
        limits.push(hopeless);
        let request = request(&FOUR, targets(), &[LONG], &[other, (metric, 1.0)]);
        let points = front(&ask(&request, &menus), 1, &limits).unwrap();
        assert_eq!(points.iter().map(|p| p.limit).collect::<Vec<_>>(), limits);
        let solved: Vec<bool> = points
            .iter()
            .map(|p| assert_best(&p.outcome, &tried, &menus, &[other, (metric, p.limit)]))
            .collect();
        assert!(solved.iter().filter(|solved| **solved).count() > 5 && !solved[24]);
        for state in points.iter().filter_map(|p| p.outcome.found()).flat_map(|answer| &answer.limits) {
            assert!(state.usage <= 1.0 + 1e-8 && state.nats_per_percent >= 0.0, "{state:?}");
        }
    }
}
