//! Branch and bound over the arcs that cover one position: every path takes exactly one of them.

use crate::search::solver::assignment::exhaust::Exhaust;
use crate::search::solver::assignment::graph::Graph;
use crate::search::solver::assignment::heuristic::Walk;
use crate::search::solver::assignment::incumbent::Incumbent;
use crate::search::solver::assignment::problem::Assignment;
use crate::search::solver::assignment::relaxation::Relaxation;

/// Iterations of the ascent at the root, in each of its rounds, and at every other node.
const ROOT_ITERATIONS: u32 = 250;
const ROOT_ROUNDS: u32 = 3;
const NODE_ITERATIONS: u32 = 20;

/// Steps of a try to exhaust a node instead of splitting it.
const EXHAUST_STEPS: u64 = 10000;

/// Nodes between two tries to repair what the relaxation proposes.
const REPAIR_EVERY: u64 = 64;

/// Nodes at the start that are all tried so.
const REPAIR_FIRST: u64 = 16;

/// Nodes between two times that a caller is asked whether the best assignment is enough.
const LOOK_EVERY: u64 = 100;

/// What is left to choose from, and what is known of it.
struct Node {
    live: Vec<u32>,
    multipliers: Vec<f64>,
    bound: f64,
}

/// How far a search came.
pub(super) struct Searched {
    /// No path that matters loses less; infinite when the tree was searched to its end.
    pub(super) open: f64,
    pub(super) nodes: u64,
    /// Multipliers at the root, per unit of the rows.
    pub(super) multipliers: Vec<f64>,
    /// Bound at the root.
    pub(super) root: f64,
}

pub(super) struct Search<'a, 'b> {
    graph: &'a Graph,
    relaxation: Relaxation<'a>,
    incumbent: &'b mut Incumbent<'a>,
    /// Paths met by the latest ascent, in turn.
    met: Vec<Vec<u32>>,
    through: Vec<f64>,
    nodes: u64,
}

impl<'a, 'b> Search<'a, 'b> {
    pub(super) fn new(graph: &'a Graph, incumbent: &'b mut Incumbent<'a>) -> Self {
        let relaxation = Relaxation::new(graph);
        Self { graph, relaxation, incumbent, met: Vec::new(), through: Vec::new(), nodes: 0 }
    }

    /// Searches from `multipliers` (per unit of the rows), visiting `limit` nodes at most, or until `enough` says so of
    /// the best assignment.
    pub(super) fn run(
        mut self,
        multipliers: Vec<f64>,
        limit: u64,
        enough: &dyn Fn(&Assignment) -> bool,
    ) -> Searched {
        let mut root = self.root(multipliers);
        let (mut at_root, mut bound) = (root.multipliers.clone(), root.bound);
        let begun_with = self.incumbent.to_beat;
        let mut stack = vec![root];
        while let Some(node) = stack.pop() {
            if node.bound >= self.incumbent.to_beat {
                continue;
            }
            let looks = self.nodes > 0 && self.nodes.is_multiple_of(LOOK_EVERY);
            if self.nodes >= limit || (looks && self.incumbent.best.as_ref().is_some_and(enough)) {
                stack.push(node);
                break;
            }
            // With a better assignment than at the beginning more can be fixed at the root: all begins anew, once.
            if self.nodes == LOOK_EVERY && self.incumbent.to_beat < begun_with {
                root = self.root(at_root);
                (at_root, bound) = (root.multipliers.clone(), root.bound.max(bound));
                self.nodes += 1;
                stack = vec![root];
                continue;
            }
            self.nodes += 1;
            stack.extend(self.expand(node));
        }
        let open = stack.iter().map(|node| node.bound).filter(|bound| *bound < self.incumbent.to_beat);
        let open = open.fold(f64::INFINITY, f64::min);
        Searched { open, nodes: self.nodes, multipliers: at_root, root: bound }
    }

    /// All there is to choose from, as far as the best assignment known leaves it.
    fn root(&mut self, multipliers: Vec<f64>) -> Node {
        let mut root = Node { live: self.graph.all(), multipliers, bound: f64::NEG_INFINITY };
        self.climb(&mut root);
        root
    }

    /// Multipliers of the root, and first assignments on the way.
    fn climb(&mut self, root: &mut Node) {
        if !self.relaxation.drop_too_heavy(&mut root.live) {
            root.bound = f64::INFINITY;
            return;
        }
        for _ in 0..ROOT_ROUNDS {
            self.relaxation.bound(&root.live, &root.multipliers);
            self.repair(&root.multipliers);
            self.ascend(root, ROOT_ITERATIONS);
            if !self.fix(root) {
                return;
            }
        }
        self.repair(&root.multipliers);
    }

    fn ascend(&mut self, node: &mut Node, iterations: u32) {
        self.met.clear();
        let (met, incumbent) = (&mut self.met, &mut *self.incumbent);
        let bound = self.relaxation.ascend(&node.live, &mut node.multipliers, iterations, |path, usage| {
            incumbent.offer_path(path, usage);
            met.push(path.to_vec());
            incumbent.to_beat
        });
        node.bound = node.bound.max(bound);
    }

    /// Drops arcs through which no path matters. Whether the node still does.
    fn fix(&mut self, node: &mut Node) -> bool {
        let to_beat = self.incumbent.to_beat;
        if node.bound >= to_beat {
            return false;
        }
        self.relaxation.bounds_through(&node.live, &node.multipliers, &mut self.through);
        let mut bounds = self.through.iter();
        node.live.retain(|_| bounds.next().is_some_and(|bound| *bound < to_beat));
        self.through.retain(|bound| *bound < to_beat);
        if !node.live.is_empty() && self.relaxation.drop_too_heavy(&mut node.live) {
            return true;
        }
        node.bound = f64::INFINITY;
        false
    }

    fn repair(&mut self, multipliers: &[f64]) {
        let mut walk = Walk::new(self.graph, self.relaxation.path.clone());
        if walk.repair(multipliers) {
            walk.improve(multipliers);
            let usage = self.graph.sums(&walk.path).1;
            self.incumbent.offer_path(&walk.path, &usage);
        }
    }

    /// The parts of a node that still matter, the one to look at first last.
    fn expand(&mut self, mut node: Node) -> Vec<Node> {
        if self.nodes > 1 {
            if !self.relaxation.drop_too_heavy(&mut node.live) {
                return Vec::new();
            }
            self.ascend(&mut node, NODE_ITERATIONS);
        }
        if !self.fix(&mut node) {
            return Vec::new();
        }
        if self.nodes <= REPAIR_FIRST || self.nodes.is_multiple_of(REPAIR_EVERY) {
            self.relaxation.bound(&node.live, &node.multipliers);
            self.repair(&node.multipliers);
        }
        let mut exhaust = Exhaust::new(self.graph, &node.live, &node.multipliers, EXHAUST_STEPS);
        if exhaust.run(self.incumbent) {
            return Vec::new();
        }
        let Some(low) = self.split(&node.live) else { return Vec::new() };
        self.relaxation.bounds_through(&node.live, &node.multipliers, &mut self.through);
        let part = |of_low: bool| {
            let sides = low.iter().zip(&node.live).zip(&self.through);
            let kept = sides.filter(|((side, _), _)| side.is_none_or(|is_low| is_low == of_low));
            let least = |((side, _), bound): &((&Option<bool>, &u32), &f64)| side.map(|_| **bound);
            let bound = kept.clone().filter_map(|k| least(&k)).fold(f64::INFINITY, f64::min);
            let live = kept.map(|((_, arc), _)| *arc).collect();
            Node { live, multipliers: node.multipliers.clone(), bound: bound.max(node.bound) }
        };
        let (a, b) = (part(true), part(false));
        if a.bound <= b.bound { vec![b, a] } else { vec![a, b] }
    }

    /// Which side of the branch each live arc falls on; `None` for those that stay on both. `None` in all when there is
    /// but one path.
    fn split(&self, live: &[u32]) -> Option<Vec<Option<bool>>> {
        let (position, pair) = match self.disputed(live) {
            Some((position, a, b)) => (position, Some((a, b))),
            None => (self.widest(live)?, None),
        };
        let covers = |arc: u32| {
            let way = &self.graph.arcs[arc as usize];
            way.first <= position && position < way.next
        };
        let low = self.low_side(live.iter().copied().filter(|&arc| covers(arc)).collect(), pair);
        Some(live.iter().map(|&arc| covers(arc).then(|| low.binary_search(&arc).is_ok())).collect())
    }

    /// The position over which the later half of the paths met disagree most, with the two arcs met most there.
    fn disputed(&self, live: &[u32]) -> Option<(usize, u32, u32)> {
        let late = &self.met[self.met.len() / 2..];
        let mut at: Vec<Vec<(u32, u32)>> = vec![Vec::new(); self.graph.positions];
        for &arc in late.iter().flatten() {
            let counts = &mut at[self.graph.arcs[arc as usize].first];
            match counts.iter_mut().find(|(of, _)| *of == arc) {
                Some((_, count)) => *count += 1,
                None => counts.push((arc, 1)),
            }
        }
        let mut best = (0.0, None);
        for (position, counts) in at.iter_mut().enumerate() {
            counts.retain(|(arc, _)| live.binary_search(arc).is_ok());
            counts.sort_by_key(|&(arc, count)| (std::cmp::Reverse(count), arc));
            if let [(a, _), (b, count), ..] = counts[..] {
                let score = f64::from(count) * (0.1 + self.distance(a, b).0);
                if score > best.0 {
                    best = (score, Some((position, a, b)));
                }
            }
        }
        best.1
    }

    /// The largest difference of two arcs' weights, in typical weights, and the row it is in.
    fn distance(&self, a: u32, b: u32) -> (f64, usize) {
        let graph = self.graph;
        let (a, b) = (graph.weights_of(a), graph.weights_of(b));
        let apart = |row: usize| ((a[row] - b[row]).abs() * graph.scales[row], row);
        (0..graph.rows).map(apart).fold((0.0, 0), |most, next| if next.0 > most.0 { next } else { most })
    }

    /// The position with the most live arcs, two at least.
    fn widest(&self, live: &[u32]) -> Option<usize> {
        let mut counts = vec![0u32; self.graph.positions];
        for &arc in live {
            let way = &self.graph.arcs[arc as usize];
            counts[way.first..way.next].iter_mut().for_each(|count| *count += 1);
        }
        let most = (0..counts.len()).max_by_key(|&p| (counts[p], std::cmp::Reverse(p)))?;
        (counts[most] > 1).then_some(most)
    }

    /// Of arcs that cover one position, those on the light side between the two of `pair`, sorted; neither side is
    /// empty.
    fn low_side(&self, covering: Vec<u32>, pair: Option<(u32, u32)>) -> Vec<u32> {
        if let Some((a, b)) = pair {
            let (apart, row) = self.distance(a, b);
            let weight = |arc: u32| self.graph.weights_of(arc)[row];
            if apart > 0.0 {
                let middle = (weight(a) + weight(b)) / 2.0;
                let (lighter, heavier) = if weight(a) < weight(b) { (a, b) } else { (b, a) };
                let low = |arc: &u32| *arc == lighter || (*arc != heavier && weight(*arc) < middle);
                return covering.into_iter().filter(low).collect();
            }
            return vec![a];
        }
        let half = covering.len() / 2;
        covering.into_iter().take(half).collect()
    }
}
