//! Enumeration against a slow reference that keeps every point in a list, on random toy objectives.

use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use super::shortfall::{Reach, Usage};
use super::*;
use crate::search::front;

/// Small whole numbers per axis value, so that equal costs, losses and ties are common.
#[derive(Clone, Debug)]
struct Toy {
    hidden: Vec<u8>,
    heads: Vec<u8>,
    ffn: Vec<u8>,
    layers: Vec<u8>,
    cost_limit: f64,
    memory_limit: f64,
}

impl Toy {
    fn counts(&self) -> AxisCounts {
        AxisCounts {
            hidden: self.hidden.len(),
            heads: self.heads.len(),
            ffn: self.ffn.len(),
            layers: self.layers.len(),
        }
    }
}

impl UniformObjective for Toy {
    type Slice = (f64, f64);

    fn slice(&self, hidden: usize, heads: usize) -> (f64, f64) {
        (f64::from(self.hidden[hidden]), f64::from(self.heads[heads]))
    }

    fn point(&self, slice: &(f64, f64), ffn: usize, layers: usize) -> Point {
        let mut usages = [0.0; 2];
        self.usages(slice, ffn, layers, &mut usages);
        let (ffn, layers) = (f64::from(self.ffn[ffn]), f64::from(self.layers[layers]));
        Point {
            cost: usages[0] * self.cost_limit,
            loss: 40.0 - slice.0 - slice.1 - ffn - layers,
            tie: (slice.0 + 2.0 * ffn) % 3.0,
            usage: usages[0].max(usages[1]),
        }
    }

    fn budgets(&self) -> usize {
        2
    }

    fn usages(&self, slice: &(f64, f64), ffn: usize, layers: usize, usages: &mut [f64]) {
        let (ffn, layers) = (f64::from(self.ffn[ffn]), f64::from(self.layers[layers]));
        let cost = layers * (slice.0 * ffn + slice.1);
        usages.copy_from_slice(&[cost / self.cost_limit, slice.1 * layers / self.memory_limit]);
    }
}

fn toy() -> impl Strategy<Value = Toy> {
    let axis = || prop::collection::vec(0u8..8, 1..6);
    (axis(), axis(), axis(), axis(), 1.0f64..400.0, 1.0f64..60.0).prop_map(
        |(hidden, heads, ffn, layers, cost_limit, memory_limit)| Toy {
            hidden,
            heads,
            ffn,
            layers,
            cost_limit,
            memory_limit,
        },
    )
}

const OPTIONS: Options = Options { finalists: 4, loss_tolerance: 1.5, sample: 10, seed: 1 };

fn all(toy: &Toy) -> Vec<Candidate> {
    let counts = toy.counts();
    let candidate = |rank| {
        let index = counts.at(rank).unwrap();
        Candidate { index, point: evaluate(toy, index) }
    };
    (0..counts.size()).map(candidate).collect()
}

/// The pairwise filter; equal points keep the smallest tie value, then the lowest rank.
fn slow_front(points: &[Candidate]) -> Vec<Candidate> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| {
        let (p, q) = (a.point, b.point);
        p.cost.total_cmp(&q.cost).then(p.loss.total_cmp(&q.loss)).then(p.tie.total_cmp(&q.tie))
    });
    let vectors: Vec<Vec<f64>> = sorted.iter().map(|c| vec![c.point.cost, c.point.loss]).collect();
    front::non_dominated(&vectors).into_iter().map(|i| sorted[i]).collect()
}

fn slow_choice(feasible: &[Candidate], tolerance: f64) -> Option<Candidate> {
    let least = feasible.iter().map(|c| c.point.loss).min_by(f64::total_cmp)?;
    let near = feasible.iter().filter(|c| c.point.loss <= least + tolerance);
    near.min_by(|a, b| a.point.tie.total_cmp(&b.point.tie).then(a.point.loss.total_cmp(&b.point.loss)))
        .copied()
}

fn slow_others(feasible: &[Candidate], chosen: Candidate) -> Vec<Candidate> {
    let pair = |c: &Candidate| (c.index.hidden, c.index.layers);
    let mut sorted = feasible.to_vec();
    sorted.sort_by(|a, b| a.point.loss.total_cmp(&b.point.loss).then(a.point.tie.total_cmp(&b.point.tie)));
    let mut seen = vec![pair(&chosen)];
    sorted.retain(|c| {
        let fresh = !seen.contains(&pair(c));
        seen.push(pair(c));
        fresh
    });
    sorted
}

fn slow_reach(toy: &Toy, points: &[Candidate], budget: usize) -> Reach {
    let usages = |c: &Candidate| {
        let mut usages = [0.0; 2];
        toy.usages(&toy.slice(c.index.hidden, c.index.heads), c.index.ffn, c.index.layers, &mut usages);
        usages
    };
    let least = |keep: &dyn Fn(&[f64; 2]) -> bool| {
        let kept = points.iter().filter(|c| keep(&usages(c)));
        let best = kept.min_by(|a, b| usages(a)[budget].total_cmp(&usages(b)[budget]))?;
        Some(Usage { share: usages(best)[budget], index: best.index })
    };
    Reach { alone: least(&|_| true), beside_others: least(&|usages| usages[1 - budget] <= 1.0) }
}

proptest! {
    #[test]
    fn agrees_with_brute_force(toy in toy()) {
        let points = all(&toy);
        let feasible: Vec<Candidate> = points.iter().filter(|c| c.point.usage <= 1.0).copied().collect();
        let found = enumerate(toy.counts(), &toy, &OPTIONS).unwrap();
        prop_assert_eq!(found.enumerated, points.len() as u64);
        prop_assert_eq!(found.feasible, feasible.len() as u64);
        prop_assert_eq!(&found.front, &slow_front(&points));
        prop_assert_eq!(&found.feasible_front, &slow_front(&feasible));
        match slow_choice(&feasible, OPTIONS.loss_tolerance) {
            Some(chosen) => {
                let mut expected = vec![chosen];
                expected.extend(slow_others(&feasible, chosen));
                expected.truncate(OPTIONS.finalists);
                prop_assert_eq!(&found.finalists, &expected);
                prop_assert_eq!(&found.shortfall, &None);
            }
            None => {
                let shortfall = found.shortfall.unwrap();
                prop_assert!(found.finalists.is_empty() && found.feasible_front.is_empty());
                prop_assert_eq!(&shortfall.budgets, &[slow_reach(&toy, &points, 0), slow_reach(&toy, &points, 1)]);
                let nearest = points.iter().min_by(|a, b| a.point.usage.total_cmp(&b.point.usage));
                prop_assert_eq!(shortfall.nearest.as_ref(), nearest);
            }
        }
        let sampled = |wanted: bool| found.sample.iter().filter(|c| c.point.is_feasible() == wanted).count();
        prop_assert_eq!(sampled(true), feasible.len().min(10));
        prop_assert_eq!(sampled(false), (points.len() - feasible.len()).min(10));
    }

    #[test]
    fn threads_change_nothing(toy in toy()) {
        let with = |threads| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| enumerate(toy.counts(), &toy, &OPTIONS).unwrap())
        };
        let one = with(1);
        prop_assert_eq!(&with(2), &one);
        prop_assert_eq!(&with(5), &one);
    }
}

fn big_toy() -> Toy {
    let axis = |n: u8| (1..=n).collect::<Vec<u8>>();
    Toy {
        hidden: axis(30),
        heads: axis(12),
        ffn: axis(40),
        layers: axis(25),
        cost_limit: 9000.0,
        memory_limit: 150.0,
    }
}

#[test]
fn many_slices_agree_with_brute_force_too() {
    let toy = big_toy();
    let points = all(&toy);
    let found = enumerate(toy.counts(), &toy, &OPTIONS).unwrap();
    let feasible: Vec<Candidate> = points.iter().filter(|c| c.point.is_feasible()).copied().collect();
    assert_eq!((found.enumerated, found.feasible), (points.len() as u64, feasible.len() as u64));
    assert_eq!(found.finalists.first(), slow_choice(&feasible, OPTIONS.loss_tolerance).as_ref());
    // Each front point is the least loss at its cost or below, which is what a front is.
    for candidate in &found.feasible_front {
        let cheaper = feasible.iter().filter(|c| c.point.cost <= candidate.point.cost);
        let least = cheaper.map(|c| c.point.loss).min_by(f64::total_cmp);
        assert_eq!(least, Some(candidate.point.loss));
    }
}

/// A toy in which shapes above a memory limit of their own cannot run.
struct Crowded(Toy);

impl UniformObjective for Crowded {
    type Slice = (f64, f64);
    fn slice(&self, hidden: usize, heads: usize) -> (f64, f64) {
        self.0.slice(hidden, heads)
    }
    fn point(&self, slice: &(f64, f64), ffn: usize, layers: usize) -> Point {
        let point = self.0.point(slice, ffn, layers);
        if layers > 6 { Point { cost: f64::INFINITY, usage: 0.5, ..point } } else { point }
    }
    fn budgets(&self) -> usize {
        0
    }
    fn usages(&self, _: &(f64, f64), _: usize, _: usize, _: &mut [f64]) {}
}

#[test]
fn shapes_that_cannot_run_are_infeasible_and_on_no_front() {
    let crowded = Crowded(big_toy());
    let found = enumerate(crowded.0.counts(), &crowded, &OPTIONS).unwrap();
    let shown = [&found.front, &found.feasible_front, &found.finalists, &found.sample];
    assert!(shown.iter().all(|list| !list.is_empty() && list.iter().all(|c| c.index.layers <= 6)));
    assert_eq!(found.enumerated, 30 * 12 * 40 * 25);
    assert!(found.feasible < found.enumerated);
}

#[test]
fn a_space_without_shapes_has_no_answer_and_no_shortfall() {
    let toy = Toy { ffn: Vec::new(), ..big_toy() };
    let found = enumerate(toy.counts(), &toy, &OPTIONS).unwrap();
    assert_eq!((found.enumerated, found.feasible, found.finalists.len()), (0, 0, 0));
    assert_eq!(found.shortfall, None);
}

struct Broken(Toy);

impl UniformObjective for Broken {
    type Slice = (f64, f64);
    fn slice(&self, hidden: usize, heads: usize) -> (f64, f64) {
        self.0.slice(hidden, heads)
    }
    fn point(&self, slice: &(f64, f64), ffn: usize, layers: usize) -> Point {
        let point = self.0.point(slice, ffn, layers);
        if ffn == 3 && layers == 4 { Point { loss: f64::NAN, ..point } } else { point }
    }
    fn budgets(&self) -> usize {
        self.0.budgets()
    }
    fn usages(&self, slice: &(f64, f64), ffn: usize, layers: usize, usages: &mut [f64]) {
        self.0.usages(slice, ffn, layers, usages);
    }
}

#[test]
fn an_objective_that_is_not_a_number_is_an_error_with_its_place() {
    let broken = Broken(big_toy());
    let error = enumerate(broken.0.counts(), &broken, &OPTIONS).unwrap_err();
    assert_eq!(error.index, ShapeIndex { hidden: 0, heads: 0, ffn: 3, layers: 4 });
}
