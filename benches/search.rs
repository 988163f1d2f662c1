//! Enumeration rate and front extraction on the space of Qwen3-32B at multiple 128, down to 0.4 of every axis.
//!
//! The objective is synthetic but does the arithmetic of a real one: per-axis tables, static batch and serving
//! formulae, two budgets.

use std::hint::black_box;

use archplan::model::architecture::Architecture;
use archplan::search::front::staircase::{Entry, Staircase};
use archplan::search::solver::enumeration::{Options, Point, UniformObjective, enumerate};
use archplan::search::space::SearchSpace;
use archplan::search::space::options::SpaceOptions;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Seconds and nats by axis position, roughly those of Qwen3-32B on one H200.
struct Synthetic {
    space: SearchSpace,
    ffn_losses: Vec<f64>,
    depth_losses: Vec<f64>,
    concurrency: f64,
    output: f64,
}

/// What is known of one (hidden size, heads).
struct Slice {
    hidden: f64,
    attention: [f64; 2],
    head: f64,
    loss: f64,
}

impl Synthetic {
    fn metrics(&self, slice: &Slice, ffn: usize, layers: usize) -> [f64; 4] {
        let (width, depth) = (self.space.ffn()[ffn] as f64, self.space.layers()[layers] as f64);
        let ffn_seconds = 6.0 * slice.hidden * width / 4e12 + 4e-6;
        let step = depth * (slice.attention[0] + ffn_seconds) + slice.head;
        let prefill = depth * (slice.attention[1] + 40.0 * ffn_seconds) + slice.head;
        let stolen = self.concurrency * prefill / self.output;
        let tpot = step + stolen;
        let queue = prefill * (1.0 + 0.5 * self.concurrency * prefill / (self.output * tpot));
        let memory = depth * (3.0 * slice.hidden * width + 4.0 * slice.hidden * slice.hidden);
        let loss = slice.loss + self.ffn_losses[ffn] + self.depth_losses[layers];
        [tpot, queue, memory, loss]
    }
}

impl UniformObjective for Synthetic {
    type Slice = Slice;

    fn slice(&self, hidden: usize, heads: usize) -> Slice {
        let (hidden, (q, kv)) = (self.space.hidden()[hidden] as f64, self.space.heads()[heads]);
        let projections = 2.0 * hidden * 128.0 * (2 * q + 2 * kv) as f64 / 4e12;
        Slice {
            hidden,
            attention: [projections + kv as f64 * 3e-6, 40.0 * projections + q as f64 * 2e-6],
            head: hidden * 151936.0 * 2.0 / 4e12,
            loss: -0.8 * (hidden / 5120.0).ln()
                - 0.1 * (q as f64 / 64.0).ln()
                - 0.05 * (kv as f64 / 8.0).ln(),
        }
    }

    fn point(&self, slice: &Slice, ffn: usize, layers: usize) -> Point {
        let [tpot, queue, memory, loss] = self.metrics(slice, ffn, layers);
        let usage = (tpot / 0.02).max(queue / 4.0).max(memory / 3e10);
        Point { cost: tpot, loss, tie: 0.05, usage }
    }

    fn budgets(&self) -> usize {
        3
    }

    fn usages(&self, slice: &Slice, ffn: usize, layers: usize, usages: &mut [f64]) {
        let [tpot, queue, memory, _] = self.metrics(slice, ffn, layers);
        usages.copy_from_slice(&[tpot / 0.02, queue / 4.0, memory / 3e10]);
    }
}

fn whole_space() -> Synthetic {
    let mut options = SpaceOptions::default();
    options.set_multiples("hidden=128,ffn=128").expect("valid multiples");
    (options.max_width_prune, options.max_depth_prune) = (0.6, 0.6);
    let parent = Architecture::uniform(64, 5120, 25600, 64, 8, 128);
    let space = SearchSpace::build(&parent, &options).expect("a valid space");
    let losses = |values: &[u64], parent: f64, weight: f64| {
        values.iter().map(|value| -weight * (*value as f64 / parent).ln()).collect()
    };
    let (ffn_losses, depth_losses) = (losses(space.ffn(), 25600.0, 0.26), losses(space.layers(), 64.0, 0.5));
    Synthetic { space, ffn_losses, depth_losses, concurrency: 64.0, output: 1024.0 }
}

fn enumeration(c: &mut Criterion) {
    let objective = whole_space();
    let counts = objective.space.counts();
    let options = Options { finalists: 10, loss_tolerance: 1e-4, sample: 2000, seed: 0 };
    let mut group = c.benchmark_group("search");
    group.sample_size(20).throughput(Throughput::Elements(counts.size()));
    let name = format!("enumerate {} shapes of qwen3-32b", counts.size());
    group.bench_function(name, |b| b.iter(|| enumerate(counts, black_box(&objective), &options)));
    group.finish();
}

fn front(c: &mut Criterion) {
    let objective = whole_space();
    let counts = objective.space.counts();
    let entry = |id| {
        let index = counts.at(id).expect("a rank in range");
        let point = objective.point(&objective.slice(index.hidden, index.heads), index.ffn, index.layers);
        Entry { x: point.cost, y: point.loss, tie: point.tie, id }
    };
    let entries: Vec<Entry> = (0..counts.size()).map(entry).collect();
    let mut group = c.benchmark_group("search");
    group.sample_size(20).throughput(Throughput::Elements(counts.size()));
    group.bench_function(format!("front of {} points, one thread", counts.size()), |b| {
        b.iter(|| {
            let mut stairs = Staircase::new();
            black_box(&entries).iter().for_each(|entry| stairs.offer(*entry));
            stairs
        });
    });
    group.finish();
}

criterion_group!(benches, enumeration, front);
criterion_main!(benches);
