//! The facade against predicting every shape in full, several targets at once, and requests that have no answer.
//!
//! Kernel prices are the measured tables' once; elsewhere they are those of real devices' rooflines made uneven: up to
//! 40 % dearer and of very different spread from one call to the next, so that no axis is monotone and nothing is
//! hidden by smoothness.

use std::sync::LazyLock;

use archplan::hardware::kernel::KernelCall;
use archplan::hardware::latency::cost::{GapError, KernelCost, KernelCosts};
use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::latency::prediction::{Machine, predict};
use archplan::hardware::latency::roofline::Roofline;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::engine::EngineParameters;
use archplan::model::architecture::Architecture;
use archplan::model::cards;
use archplan::model::counts;
use archplan::model::spec::ModelSpec;
use archplan::model::workload::{Deployment, Load, Workload};
use archplan::plan::budget::Budget;
use archplan::plan::error::PlanError;
use archplan::plan::record::candidate::Shape;
use archplan::plan::record::{Metric, Outcome, Plan};
use archplan::plan::request::{Request, Target, profile_record};
use archplan::plan::run::{self, TIE_NATS};
use archplan::quality::prior::{QualityPrior, Recovery};
use archplan::search::space::SearchSpace;
use archplan::search::space::error::SpaceError;
use archplan::search::space::options::SpaceOptions;
use archplan::units::{Bytes, DType};

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

static ENGINE: LazyLock<EngineParameters> = LazyLock::new(|| EngineParameters::built_in("vllm").unwrap());
static PRIOR: LazyLock<QualityPrior> = LazyLock::new(|| QualityPrior::shipped().unwrap());
static QWEN3_8B: LazyLock<ModelSpec> = LazyLock::new(|| cards::find("qwen3-8b").unwrap().spec().unwrap());

const BATCH: Workload = Workload { load: Load::Batch(16), prompt: 1024, output: 256 };
const SERVING: Workload = Workload { load: Load::Concurrency(32), prompt: 1024, output: 512 };

fn target<'a>(device: &'static Device, tp: u64) -> Target<'a> {
    let (dtype, kv_dtype) = (DType::Bf16, DType::Bf16);
    Target {
        profile: profile_record(&device.profile),
        machine: Machine { costs: device, hbm: device.profile.device.hbm, engine: &ENGINE },
        deployment: Deployment { engine: ENGINE.name.clone(), tp, dtype, kv_dtype },
    }
}

/// Qwen3-8B in a space of a few hundred shapes.
fn request<'a>(targets: Vec<Target<'a>>, workloads: &[Workload], budgets: &[(Metric, &str)]) -> Request<'a> {
    let mut space = SpaceOptions::default();
    space.set_multiples("hidden=512,ffn=2048,q_heads=8,layers=4").unwrap();
    space.set_bounds("kv_heads=6..8").unwrap();
    Request {
        spec: &QWEN3_8B,
        targets,
        workloads: workloads.to_vec(),
        budgets: budgets.iter().map(|(metric, typed)| Budget::parse(*metric, typed).unwrap()).collect(),
        confidence: None,
        prior: &PRIOR,
        scores: None,
        recovery: Recovery::STANDARD,
        space,
        seed: 7,
        command: "test".to_string(),
    }
}

fn every_shape(space: &SearchSpace) -> Vec<Architecture> {
    (0..space.size()).map(|rank| space.architecture(space.counts().at(rank).unwrap()).unwrap()).collect()
}

/// One shape, predicted in full: least speedup, loss, widest spread, and whether it meets the limits below.
#[derive(Clone, Copy, Debug)]
struct Slow {
    shape: Shape,
    slowness: f64,
    loss: f64,
    spread: f64,
    feasible: bool,
}

fn slow(request: &Request<'_>, architecture: &Architecture, speedup: f64, tpot_ms: f64) -> Option<Slow> {
    let Request { spec, prior, recovery, .. } = *request;
    let quality = prior.estimate(&spec.architecture, architecture, recovery).unwrap();
    let loss = quality.loss_increase_nats.value;
    let shape = Shape::of(architecture).unwrap();
    let mut found = Slow { shape, slowness: 0.0, loss, spread: 0.0, feasible: true };
    for target in &request.targets {
        for workload in &request.workloads {
            let run = |shape| predict(target.machine, spec, shape, &target.deployment, workload).unwrap();
            let (child, parent) = (run(architecture), run(&spec.architecture));
            if !child.memory.fits() {
                return None;
            }
            let ratio = child.served.output_tokens_per_s / parent.served.output_tokens_per_s;
            found.slowness = found.slowness.max(1.0 / ratio);
            found.spread = found.spread.max(child.served.latency_log_sigma);
            found.feasible &= ratio >= speedup && child.served.tpot.total().ms() <= tpot_ms;
        }
    }
    Some(found)
}

fn assert_same_as_predicting_every_shape(request: &Request<'_>, speedup: f64, tpot_ms: f64) -> Plan {
    let plan = run::search(request).unwrap();
    let space = request.search_space().unwrap();
    let all: Vec<Slow> =
        every_shape(&space).iter().filter_map(|shape| slow(request, shape, speedup, tpot_ms)).collect();
    let feasible: Vec<&Slow> = all.iter().filter(|s| s.feasible).collect();
    assert!(feasible.len() > 3 && feasible.len() < all.len(), "{} of {}", feasible.len(), all.len());
    assert_eq!((plan.search.enumerated, plan.search.feasible), (space.size(), feasible.len() as u64));

    let least = feasible.iter().map(|s| s.loss).min_by(f64::total_cmp).unwrap();
    let near = feasible.iter().filter(|s| s.loss <= least + TIE_NATS);
    let best = near.min_by(|a, b| a.spread.total_cmp(&b.spread)).unwrap();
    let chosen = plan.chosen.as_ref().unwrap();
    assert_eq!(chosen.shape, best.shape);
    assert!(chosen.feasible);

    let beaten = |s: &&Slow| {
        all.iter().any(|o| {
            o.slowness <= s.slowness && o.loss <= s.loss && (o.slowness < s.slowness || o.loss < s.loss)
        })
    };
    let mut front: Vec<&Slow> = all.iter().filter(|s| !beaten(s)).collect();
    front.sort_by(|a, b| a.slowness.total_cmp(&b.slowness));
    let shapes: Vec<Shape> = front.iter().map(|s| s.shape).collect();
    assert_eq!(plan.front.iter().map(|c| c.shape).collect::<Vec<_>>(), shapes);
    plan
}

#[test]
fn a_static_batch_on_one_device() {
    let request = request(vec![target(&H200, 1)], &[BATCH], &[(Metric::Speedup, "1.3x")]);
    let plan = assert_same_as_predicting_every_shape(&request, 1.3, f64::INFINITY);
    assert_eq!(plan.finalists[0].candidate.shape, plan.chosen.as_ref().unwrap().shape);
    assert!(plan.search.optimality.starts_with("proven by enumeration of "));
    let read: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(read, plan);
}

#[test]
fn serving_on_measured_tables() {
    let profile = &H200.profile;
    let model = KernelModel::open(profile, &[DType::Bf16], &[DType::Bf16]).unwrap();
    let mut target = target(&H200, 1);
    target.machine = Machine { costs: &model, ..target.machine };
    let request = request(vec![target], &[SERVING], &[(Metric::Speedup, "1.25x"), (Metric::TpotMs, "20ms")]);
    let plan = assert_same_as_predicting_every_shape(&request, 1.25, 20.0);
    assert!(plan.finalists.iter().all(|f| f.disagreement_percent < 1e-9));
}

#[test]
fn serving_on_two_devices_with_two_workloads_and_two_budgets() {
    let targets = vec![target(&H200, 1), target(&A100, 2)];
    let budgets = [(Metric::Speedup, "1.2x"), (Metric::TpotMs, "16ms")];
    let plan =
        assert_same_as_predicting_every_shape(&request(targets, &[SERVING, BATCH], &budgets), 1.2, 16.0);
    assert_eq!((plan.scenarios.len(), plan.parent.metrics.len()), (4, 4));
    let chosen = plan.chosen.unwrap();
    assert!(chosen.metrics.iter().all(|m| m.speedup.value >= 1.2 && m.tpot_ms.value <= 16.0));
    // 6 or 7 KV heads do not divide over two devices.
    assert!(plan.front.iter().all(|c| c.shape.kv_heads != 7));
    let checks: Vec<usize> = plan.budgets.iter().map(|budget| budget.checks.len()).collect();
    assert_eq!(checks, [4, 4, 2, 2]);
}

#[test]
fn the_same_request_gives_the_same_plan_on_any_number_of_threads() {
    let request = request(vec![target(&H200, 1)], &[SERVING], &[(Metric::Speedup, "1.4x")]);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut plan = pool.install(|| run::search(&request)).unwrap();
        plan.search.elapsed_s = 0.0;
        serde_json::to_string(&plan).unwrap()
    };
    let one = with(1);
    assert_eq!(with(3), one);
}

#[test]
fn confidence_buys_a_margin() {
    let ask = |confidence| {
        let budgets = [(Metric::TpotMs, "8ms"), (Metric::Params, "7B")];
        let request = Request { confidence, ..request(vec![target(&H200, 1)], &[SERVING], &budgets) };
        run::search(&request).unwrap()
    };
    let (even, sure) = (ask(None), ask(Some(0.9)));
    let probability = |plan: &Plan| plan.budgets[0].checks[0].probability;
    assert!(probability(&even) >= 0.5);
    assert!(probability(&sure) >= 0.9, "{}", probability(&sure));
    assert!(sure.search.feasible < even.search.feasible);
    let loss = |plan: &Plan| plan.chosen.as_ref().unwrap().quality.loss_increase_nats.value;
    assert!(loss(&sure) + TIE_NATS >= loss(&even));
    assert_eq!((even.budgets[1].checks.len(), even.budgets[1].checks[0].scenario), (1, None));
}

#[test]
fn an_impossible_budget_is_named_with_what_can_be_had() {
    let budgets = [(Metric::TpotMs, "1ms"), (Metric::Params, "7B")];
    let plan = run::search(&request(vec![target(&H200, 1)], &[SERVING], &budgets)).unwrap();
    assert_eq!((plan.chosen.clone(), plan.search.feasible, plan.finalists.len()), (None, 0, 0));
    let Outcome::Infeasible { binding } = &plan.outcome else { panic!("{:?}", plan.outcome) };
    assert_eq!((binding.len(), binding[0].metric, binding[0].scenario), (1, Metric::TpotMs, Some(0)));
    // What is said to be in reach is: and nothing below it.
    let nearest = binding[0].nearest;
    let again = |limit: f64| {
        let mut asked = request(vec![target(&H200, 1)], &[SERVING], &budgets);
        asked.budgets[0].limit = limit;
        run::search(&asked).unwrap()
    };
    let reached = again(nearest * (1.0 + 1e-9));
    assert_eq!(reached.chosen.unwrap().shape, binding[0].shape);
    assert!(again(nearest * (1.0 - 1e-9)).chosen.is_none());
    assert!(!plan.front.is_empty() && !plan.sample.is_empty());
}

#[test]
fn all_budgets_that_are_out_of_reach_are_named_hardest_first() {
    let budgets = [(Metric::Speedup, "9x"), (Metric::MemoryGib, "60GiB"), (Metric::Params, "1B")];
    let plan = run::search(&request(vec![target(&H200, 1)], &[BATCH], &budgets)).unwrap();
    let Outcome::Infeasible { binding } = &plan.outcome else { panic!("{:?}", plan.outcome) };
    let named: Vec<(Metric, Option<usize>)> = binding.iter().map(|b| (b.metric, b.scenario)).collect();
    assert_eq!(named, [(Metric::Speedup, Some(0)), (Metric::Params, None)]);
    // The fastest shape and the smallest one have the figures that are said to be in reach.
    let fastest = plan.front.first().unwrap();
    assert!((binding[0].nearest / fastest.metrics[0].speedup.value - 1.0).abs() < 1e-9);
    let space = request(vec![target(&H200, 1)], &[BATCH], &[]).search_space().unwrap();
    let params = |shape: &Architecture| counts::parameters(&QWEN3_8B, shape).total() as f64;
    let smallest = every_shape(&space).iter().map(params).min_by(f64::total_cmp);
    assert_eq!(Some(binding[1].nearest), smallest);
}

fn with_memory(gib: f64, workload: Workload) -> Request<'static> {
    let mut target = target(&H200, 1);
    target.machine.hbm = Bytes::from_gib(gib);
    request(vec![target], &[workload], &[])
}

#[test]
fn a_parent_that_does_not_fit_can_be_pruned_until_it_does() {
    for workload in [BATCH, SERVING] {
        let plan = run::search(&with_memory(17.0, workload)).unwrap();
        let chosen = plan.chosen.unwrap();
        assert!(!plan.parent.feasible && chosen.feasible);
        let usable = 17.0 * ENGINE.limits.memory_share;
        assert!(plan.parent.metrics[0].memory_gib.value > usable);
        assert!(plan.front.iter().all(|c| c.metrics[0].memory_gib.value <= usable));
        assert!(chosen.metrics[0].memory_gib.value > 0.8 * usable);
        assert_eq!((plan.budgets[0].metric, plan.budgets[0].checks.len()), (Metric::MemoryGib, 1));
    }
}

#[test]
fn devices_that_hold_no_shape_are_named_as_what_binds() {
    let plan = run::search(&with_memory(6.0, SERVING)).unwrap();
    assert_eq!((plan.front.len(), plan.search.feasible), (0, 0));
    let Outcome::Infeasible { binding } = &plan.outcome else { panic!("{:?}", plan.outcome) };
    assert_eq!((binding.len(), binding[0].metric), (1, Metric::MemoryGib));
    // As much memory as is said to be needed is enough.
    let enough = binding[0].nearest / ENGINE.limits.memory_share * (1.0 + 1e-9);
    assert_eq!(run::search(&with_memory(enough, SERVING)).unwrap().chosen.unwrap().shape, binding[0].shape);
}

#[test]
fn senseless_requests_are_refused() {
    let good = || request(vec![target(&H200, 1)], &[BATCH], &[]);
    let refused = |request: Request<'_>| run::search(&request).unwrap_err();
    assert_eq!(refused(Request { targets: Vec::new(), ..good() }), PlanError::NoTarget);
    assert_eq!(refused(Request { workloads: Vec::new(), ..good() }), PlanError::NoWorkload);
    assert!(matches!(
        refused(Request { workloads: vec![BATCH, BATCH], ..good() }),
        PlanError::RepeatedScenario { .. }
    ));
    for found in [0.4, 1.0, -1.0] {
        let confidence = Some(found);
        assert_eq!(refused(Request { confidence, ..good() }), PlanError::Confidence { found });
    }
    let budget = Budget { metric: Metric::Params, limit: 0.0, typed: "0".to_string() };
    assert_eq!(
        refused(Request { budgets: vec![budget], ..good() }),
        PlanError::Limit { metric: "params", found: 0.0 }
    );
    let three = refused(request(vec![target(&H200, 3)], &[BATCH], &[]));
    assert!(matches!(three, PlanError::Space(SpaceError::ParentIndivisible { tp: 3, .. })));
    let endless = Workload { output: 0, ..BATCH };
    assert!(matches!(refused(request(vec![target(&H200, 1)], &[endless], &[])), PlanError::Predict { .. }));
}
