//! Several interpolations of one query side by side, each along another order of the axes.

use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::lattice::{Coordinates, Exclusion, Lattice, MAX_AXES};

/// Estimates per axis order: log ratio, raw and root blends.
const BLENDS: usize = 3;

/// The lattices of one family and the values each axis has.
#[derive(Debug)]
pub struct Interpolator {
    family: KernelFamily,
    lattices: Vec<Lattice>,
    values: [Vec<u32>; MAX_AXES],
}

/// What the interpolations say of one query.
#[derive(Clone, Debug)]
pub struct Estimates {
    /// `ln(t / skeleton)` from each order and blend.
    pub values: Vec<f64>,
    /// Most one-sided brackets any order met (an edge of the table, or a hole at one).
    pub most_held: u32,
    /// Fewest one-sided brackets any order met: above zero, no order has rows on both sides.
    pub least_held: u32,
}

impl Estimates {
    /// No order has rows on both sides: every estimate holds an edge's value constant.
    pub fn beyond(&self) -> bool {
        self.least_held > 0
    }

    /// Root-mean-square spread of the estimates around their mean.
    pub fn disagreement(&self) -> f64 {
        let n = self.values.len() as f64;
        let mean = self.values.iter().sum::<f64>() / n;
        (self.values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt()
    }
}

impl Interpolator {
    /// From rows: coordinates, seconds and the skeleton's seconds.
    pub fn new(family: KernelFamily, rows: &[Coordinates], seconds: &[f64], skeleton: &[f64]) -> Self {
        let lattices =
            axes::orders(family).iter().map(|o| Lattice::new(o, rows, seconds, skeleton)).collect();
        let mut values: [Vec<u32>; MAX_AXES] = Default::default();
        for (axis, list) in values.iter_mut().enumerate() {
            *list = rows.iter().map(|row| row[axis]).collect();
            list.sort_unstable();
            list.dedup();
        }
        Self { family, lattices, values }
    }

    /// Number of estimates a query gets.
    pub fn width(family: KernelFamily) -> usize {
        axes::orders(family).len() * BLENDS
    }

    /// The distinct values of an axis, ascending.
    pub fn values(&self, axis: usize) -> &[u32] {
        &self.values[axis]
    }

    /// Axes (bit mask) on which `query` has a value no row has.
    pub fn missing(&self, query: &Coordinates) -> u8 {
        let names = axes::names(self.family).len();
        (0..names)
            .filter(|&a| self.values[a].binary_search(&query[a]).is_err())
            .fold(0, |mask, a| mask | 1 << a)
    }

    /// The query lies beyond the smallest or largest value of an axis.
    pub fn beyond(&self, query: &Coordinates) -> bool {
        (0..axes::names(self.family).len()).any(|a| match (self.values[a].first(), self.values[a].last()) {
            (Some(&low), Some(&high)) => query[a] < low || query[a] > high,
            _ => true,
        })
    }

    /// Log distance from `query` to the nearest row value on the worst axis, in octaves.
    pub fn distance(&self, query: &Coordinates) -> f64 {
        let octaves = |a: u32, b: u32| (f64::from(a.max(1)) / f64::from(b.max(1))).log2().abs();
        (0..axes::names(self.family).len())
            .map(|a| self.values[a].iter().map(|&v| octaves(v, query[a])).fold(f64::INFINITY, f64::min))
            .fold(0.0, f64::max)
    }

    /// Seconds of the row at exactly `query`, if there is one.
    pub fn exact(&self, query: &Coordinates) -> Option<f64> {
        self.lattices.first()?.exact(query)
    }

    /// All estimates at `query`, whose skeleton is `skeleton` seconds.
    pub fn estimates(&self, query: &Coordinates, skeleton: f64, exclusion: Exclusion) -> Option<Estimates> {
        let mut values = Vec::with_capacity(self.lattices.len() * BLENDS);
        let (mut most_held, mut least_held) = (0, u32::MAX);
        for lattice in &self.lattices {
            let blend = lattice.blend(query, exclusion)?;
            most_held = most_held.max(blend.held);
            least_held = least_held.min(blend.held);
            let bounded =
                |seconds: f64| if seconds > 0.0 { (seconds / skeleton).ln() } else { blend.log_ratio };
            values.extend([blend.log_ratio, bounded(blend.raw), bounded(blend.root * blend.root)]);
        }
        Some(Estimates { values, most_held, least_held })
    }
}
