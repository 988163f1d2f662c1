//! Gradient-boosted regression trees on binned features (histogram method, least squares).
//!
//! Our own because the fit must be small, deterministic and embeddable; a few hundred shallow trees on
//! some 10^5 samples is all that is asked of it.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::hardware::latency::kernel_model::packing::{self, PackingError};

/// How to grow the trees.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// Number of trees.
    pub trees: usize,
    /// Most leaves of a tree.
    pub leaves: usize,
    /// Fewest samples in a leaf.
    pub leaf_samples: usize,
    /// Shrinkage of each tree.
    pub learning_rate: f64,
    /// L2 penalty on leaf values, in samples.
    pub l2: f64,
    /// Residuals beyond this are pulled with constant force (Huber).
    pub huber: f64,
}

/// One node: a split (`left != 0`) or a leaf.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Node {
    /// Feature of the split.
    pub feature: u8,
    /// Samples with `x <= threshold` go left.
    pub threshold: f32,
    /// Index of the left child; the right child follows it. 0 = leaf.
    pub left: u32,
    /// Value of a leaf.
    pub value: f32,
}

impl Node {
    /// A leaf without value.
    pub(super) const LEAF: Self = Self { feature: 0, threshold: 0.0, left: 0, value: 0.0 };
}

/// A fitted ensemble.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Forest {
    pub(super) nodes: Vec<Node>,
    pub(super) roots: Vec<u32>,
}

impl From<Forest> for String {
    fn from(forest: Forest) -> String {
        packing::pack(&forest)
    }
}

impl TryFrom<String> for Forest {
    type Error = PackingError;
    fn try_from(text: String) -> Result<Self, PackingError> {
        packing::unpack(&text)
    }
}

const BINS: usize = 128;

impl Forest {
    /// Predicted value for one feature vector.
    pub fn predict(&self, features: &[f32]) -> f64 {
        self.roots.iter().map(|&root| f64::from(self.leaf(root, features))).sum()
    }

    /// Largest feature index the forest asks for.
    pub fn widest(&self) -> Option<u8> {
        self.nodes.iter().filter(|n| n.left != 0).map(|n| n.feature).max()
    }

    fn leaf(&self, root: u32, features: &[f32]) -> f32 {
        let mut node = &self.nodes[root as usize];
        while node.left != 0 {
            let go_right = features[usize::from(node.feature)] > node.threshold;
            node = &self.nodes[node.left as usize + usize::from(go_right)];
        }
        node.value
    }

    /// Fits `targets` on `features` (`samples x width`, row-major), each sample by its weight.
    pub fn fit(features: &[f32], width: usize, targets: &[f32], weights: &[f32], growth: Growth) -> Self {
        let binned = Binned::new(features, width, targets.len());
        let mut residual: Vec<f32> = targets.to_vec();
        let mut forest = Forest::default();
        let mut gradient = vec![0f32; targets.len()];
        for _ in 0..growth.trees {
            for ((g, &r), w) in gradient.iter_mut().zip(&residual).zip(weights) {
                *g = w * r.clamp(-growth.huber as f32, growth.huber as f32);
            }
            grow(&mut forest, &binned, Pull { gradient: &gradient, weights }, &mut residual, growth);
        }
        forest
    }
}

struct Binned {
    /// Feature-major bins.
    bins: Vec<u8>,
    edges: Vec<Vec<f32>>,
    samples: usize,
}

impl Binned {
    fn new(features: &[f32], width: usize, samples: usize) -> Self {
        let mut bins = vec![0u8; samples * width];
        let mut edges = Vec::with_capacity(width);
        for f in 0..width {
            let mut sorted: Vec<f32> = (0..samples).map(|i| features[i * width + f]).collect();
            sorted.sort_by(f32::total_cmp);
            let mut distinct = sorted.clone();
            distinct.dedup();
            let mut cut: Vec<f32> = if distinct.len() <= BINS {
                distinct.windows(2).map(|w| w[0] + (w[1] - w[0]) / 2.0).collect()
            } else {
                (1..BINS).map(|b| sorted[b * samples / BINS]).collect()
            };
            cut.dedup();
            for i in 0..samples {
                let x = features[i * width + f];
                bins[f * samples + i] = cut.partition_point(|&e| e < x) as u8;
            }
            edges.push(cut);
        }
        Self { bins, edges, samples }
    }

    fn column(&self, feature: usize) -> &[u8] {
        &self.bins[feature * self.samples..(feature + 1) * self.samples]
    }
}

#[derive(Clone, Copy, Default)]
struct Bin {
    gradient: f64,
    weight: f64,
    count: u32,
}

/// What each sample asks for, and how much it counts.
#[derive(Clone, Copy)]
struct Pull<'a> {
    gradient: &'a [f32],
    weights: &'a [f32],
}

struct Leaf {
    node: usize,
    from: usize,
    to: usize,
    histogram: Vec<Bin>,
    best: Option<Split>,
}

#[derive(Clone, Copy)]
struct Split {
    gain: f64,
    feature: usize,
    bin: usize,
}

fn grow(forest: &mut Forest, binned: &Binned, pull: Pull, residual: &mut [f32], growth: Growth) {
    let width = binned.edges.len();
    let mut order: Vec<u32> = (0..binned.samples as u32).collect();
    let root = forest.nodes.len();
    forest.roots.push(root as u32);
    forest.nodes.push(Node::LEAF);
    let histogram = histogram(binned, pull, &order);
    let best = best_split(&histogram, width, growth);
    let mut leaves = vec![Leaf { node: root, from: 0, to: binned.samples, histogram, best }];
    while leaves.len() < growth.leaves {
        let Some(at) = (0..leaves.len())
            .filter(|&i| leaves[i].best.is_some())
            .max_by(|&a, &b| gain(&leaves[a]).total_cmp(&gain(&leaves[b])).then(b.cmp(&a)))
        else {
            break;
        };
        let parent = leaves.swap_remove(at);
        let Some(split) = parent.best else { break };
        let column = binned.column(split.feature);
        let middle =
            partition(&mut order[parent.from..parent.to], |i| usize::from(column[i as usize]) <= split.bin);
        let middle = parent.from + middle;
        let left = forest.nodes.len();
        forest.nodes[parent.node] = Node {
            feature: split.feature as u8,
            threshold: binned.edges[split.feature][split.bin],
            left: left as u32,
            value: 0.0,
        };
        for _ in 0..2 {
            forest.nodes.push(Node::LEAF);
        }
        let (small, large) = if middle - parent.from <= parent.to - middle {
            ((left, parent.from, middle), (left + 1, middle, parent.to))
        } else {
            ((left + 1, middle, parent.to), (left, parent.from, middle))
        };
        let small_histogram = self::histogram(binned, pull, &order[small.1..small.2]);
        let mut large_histogram = parent.histogram;
        for (a, b) in large_histogram.iter_mut().zip(&small_histogram) {
            a.gradient -= b.gradient;
            a.weight -= b.weight;
            a.count -= b.count;
        }
        for ((node, from, to), histogram) in [(small, small_histogram), (large, large_histogram)] {
            let best = best_split(&histogram, width, growth);
            leaves.push(Leaf { node, from, to, histogram, best });
        }
    }
    for leaf in &leaves {
        let members = &order[leaf.from..leaf.to];
        let total = |of: &[f32]| members.iter().map(|&i| f64::from(of[i as usize])).sum::<f64>();
        let (sum, weight) = (total(pull.gradient), total(pull.weights));
        let value = (growth.learning_rate * sum / (weight + growth.l2)) as f32;
        forest.nodes[leaf.node].value = value;
        for &i in members {
            residual[i as usize] -= value;
        }
    }
}

fn gain(leaf: &Leaf) -> f64 {
    leaf.best.map_or(0.0, |s| s.gain)
}

fn histogram(binned: &Binned, pull: Pull, members: &[u32]) -> Vec<Bin> {
    let width = binned.edges.len();
    let mut all = vec![Bin::default(); width * BINS];
    all.par_chunks_mut(BINS).enumerate().for_each(|(f, bins)| {
        let column = binned.column(f);
        for &i in members {
            let bin = &mut bins[usize::from(column[i as usize])];
            bin.gradient += f64::from(pull.gradient[i as usize]);
            bin.weight += f64::from(pull.weights[i as usize]);
            bin.count += 1;
        }
    });
    all
}

fn best_split(histogram: &[Bin], width: usize, growth: Growth) -> Option<Split> {
    let mut best: Option<Split> = None;
    for feature in 0..width {
        let bins = &histogram[feature * BINS..(feature + 1) * BINS];
        let (mut g, mut w, mut n) = (0.0, 0.0, 0u32);
        let total =
            bins.iter().fold((0.0, 0.0, 0u32), |t, b| (t.0 + b.gradient, t.1 + b.weight, t.2 + b.count));
        let score = |g: f64, w: f64| g * g / (w + growth.l2);
        for (bin, b) in bins.iter().enumerate().take(BINS - 1) {
            g += b.gradient;
            w += b.weight;
            n += b.count;
            if (n as usize) < growth.leaf_samples || b.count == 0 {
                continue;
            }
            if ((total.2 - n) as usize) < growth.leaf_samples {
                break;
            }
            let gain = score(g, w) + score(total.0 - g, total.1 - w) - score(total.0, total.1);
            if gain > best.map_or(1e-12, |s| s.gain) {
                best = Some(Split { gain, feature, bin });
            }
        }
    }
    best
}

/// Stable partition; returns the number that satisfy the predicate.
fn partition(items: &mut [u32], keep: impl Fn(u32) -> bool) -> usize {
    let (left, right): (Vec<u32>, Vec<u32>) = items.iter().partition(|&&i| keep(i));
    items[..left.len()].copy_from_slice(&left);
    items[left.len()..].copy_from_slice(&right);
    left.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROWTH: Growth =
        Growth { trees: 60, leaves: 8, leaf_samples: 5, learning_rate: 0.2, l2: 1.0, huber: 10.0 };

    fn steps() -> (Vec<f32>, Vec<f32>) {
        let features: Vec<f32> = (0..400).flat_map(|i| [(i % 20) as f32, (i / 20) as f32]).collect();
        let targets = features.chunks(2).map(|x| if x[0] > 9.5 { 1.0 } else { 0.0 } + 0.1 * x[1]).collect();
        (features, targets)
    }

    #[test]
    fn learns_a_step_and_a_slope() {
        let (features, targets) = steps();
        let forest = Forest::fit(&features, 2, &targets, &vec![1.0; targets.len()], GROWTH);
        let worst = features
            .chunks(2)
            .zip(&targets)
            .map(|(x, t)| (forest.predict(x) - f64::from(*t)).abs())
            .fold(0.0, f64::max);
        assert!(worst < 0.1, "{worst}");
    }

    #[test]
    fn is_the_same_on_any_number_of_threads_and_after_packing() {
        let (features, targets) = steps();
        let fit = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
            pool.install(|| Forest::fit(&features, 2, &targets, &vec![1.0; targets.len()], GROWTH))
        };
        let (one, three) = (fit(1), fit(3));
        assert_eq!(one, three);
        let back = Forest::try_from(String::from(one.clone())).expect("what was packed unpacks");
        for x in features.chunks(2) {
            assert_eq!(one.predict(x), back.predict(x));
        }
    }
}
