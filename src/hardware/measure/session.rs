//! Chooses what to measure: a coarse grid first, then where the model of the rows is least sure, until kept-out
//! rows are predicted well enough or the time is up.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::kriging::{FEWEST, Kriging, MOST, Surface};
use crate::hardware::latency::kernel_model::lattice::Coordinates;
use crate::hardware::latency::kernel_model::members::Rows;
use crate::hardware::latency::kernel_model::scores;
use crate::hardware::latency::kernel_model::skeleton::{self, Skeleton};
use crate::hardware::measure::bench::{Bench, BenchError};
use crate::hardware::measure::domain::Domain;
use crate::hardware::measure::journal::{Journal, JournalError};
use crate::hardware::measure::sentinel::Sentinel;
use crate::hardware::profile::device::Device;
use crate::hardware::profile::table::Row;
use crate::units::DType;

/// Calls measured between two looks at the model.
const BATCH: usize = 8;
/// Fewest rows of which the error is believed: on a coarse grid alone it can be small by luck.
const ENOUGH: usize = 64;
/// Rows beyond which a table gains little and every prediction from it takes longer.
const LARGEST: usize = MOST / 2;
/// Calls a batch is chosen from.
const POOL: usize = 240;
/// A call is worth the less the longer it takes, by this power of its time.
const THRIFT: f64 = 0.1;

/// What a session is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Families and element types.
    pub tables: Vec<(KernelFamily, DType)>,
    /// Time to spend; exceeded where a table would be left with too few rows for any estimate.
    pub budget: Duration,
    /// Mean absolute error of kept-out rows to reach, as a share.
    pub target: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Bounds of the calls.
    pub domain: Domain,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Time spent.
    pub elapsed: Duration,
    /// The table just measured.
    pub family: KernelFamily,
    /// Its element type.
    pub dtype: DType,
    /// Its rows.
    pub rows: usize,
    /// Its mean absolute error on kept-out rows, as a share; none before it can be told.
    pub error: Option<f64>,
}

/// One measured table.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Family.
    pub family: KernelFamily,
    /// Element type.
    pub dtype: DType,
    /// Rows, in the order they were measured.
    pub rows: Vec<Row>,
    /// Mean absolute error on kept-out rows, as a share.
    pub error: Option<f64>,
    /// Rows a regular grid over the same range would need to leave the same mean deviation, by the fitted
    /// covariance; the flag says that even so many did not suffice.
    pub grid: Option<(usize, bool)>,
}

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A measurement that should be possible is not.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

struct Table {
    family: KernelFamily,
    dtype: DType,
    waiting: Vec<KernelCall>,
    rows: Vec<Row>,
    model: Option<Model>,
    /// The domain holds no call that is not measured.
    exhausted: bool,
}

struct Model {
    skeleton: Skeleton,
    surface: Surface,
    error: f64,
}

/// Measures; `known` rows come from an earlier session and are not measured again.
///
/// # Errors
/// See [`SessionError`]; all that was measured is in the journal.
pub fn run(
    bench: &mut Bench,
    device: &Device,
    request: &Request,
    journal: &mut Journal,
    known: &[Row],
    tell: &mut dyn FnMut(&Standing),
) -> Result<Vec<Measured>, SessionError> {
    let start = Instant::now();
    let mut sentinel = Sentinel::default();
    let mut tables: Vec<Table> = request.tables.iter().map(|of| Table::new(*of, request, known)).collect();
    let left = || start.elapsed() < request.budget;
    while left() || tables.iter().any(Table::is_thin) {
        let urgency = |table: &Table| table.urgency(request.target);
        let Some(table) = tables.iter_mut().max_by(|a, b| urgency(a).total_cmp(&urgency(b))) else { break };
        if urgency(table) == 0.0 {
            break;
        }
        let calls = table.next(request, device);
        table.exhausted = calls.is_empty();
        for call in calls {
            let timing = sentinel.steadily(|| bench.time(&call))?;
            table.rows.push(journal.add(&call, &timing)?);
            if !left() && !table.is_thin() {
                break;
            }
        }
        table.learn(device);
        tell(&table.standing(start.elapsed()));
    }
    Ok(tables.into_iter().map(|table| table.finish(request, device)).collect())
}

impl Table {
    fn new((family, dtype): (KernelFamily, DType), request: &Request, known: &[Row]) -> Self {
        let mine =
            |row: &&Row| axes::coordinates(&row.call).is_some_and(|(f, d, _)| (f, d) == (family, dtype));
        let rows: Vec<Row> = known.iter().filter(mine).copied().collect();
        let mut waiting = request.domain.start(family, dtype);
        waiting.retain(|call| rows.iter().all(|row| row.call != *call));
        // In a scattered order, so that a slow minute of the machine does not colour one corner of the table.
        waiting.shuffle(&mut ChaCha8Rng::seed_from_u64(request.seed));
        Self { family, dtype, waiting, rows, model: None, exhausted: false }
    }

    /// Too few rows for any estimate: such a table is served first, even beyond the budget, since a profile that
    /// lacks it prices no model.
    fn is_thin(&self) -> bool {
        self.rows.len() < FEWEST && !self.exhausted
    }

    /// How much the table would gain from more rows, zero for one that is done. Errors fall with the root of the rows
    /// at best, so that a table that only noise keeps from its target does not take the others' time; the matrices
    /// carry most of a model's time.
    fn urgency(&self, target: f64) -> f64 {
        let weight = if self.family == KernelFamily::Gemm { 2.0 } else { 1.0 };
        match &self.model {
            _ if self.exhausted => 0.0,
            _ if self.is_thin() => 20.0,
            _ if self.rows.len() >= LARGEST => 0.0,
            Some(_) if self.waiting.is_empty() && self.rows.len() < ENOUGH => {
                5.0 - self.rows.len() as f64 * 1e-3
            }
            Some(model) if self.waiting.is_empty() && model.error <= target => 0.0,
            Some(model) if self.waiting.is_empty() => model.error * weight / (self.rows.len() as f64).sqrt(),
            _ => 10.0 + weight - self.rows.len() as f64 * 1e-3,
        }
    }

    fn next(&mut self, request: &Request, device: &Device) -> Vec<KernelCall> {
        if !self.waiting.is_empty() {
            let rest = self.waiting.len().saturating_sub(BATCH);
            return self.waiting.split_off(rest);
        }
        let mut rng =
            ChaCha8Rng::seed_from_u64(request.seed ^ (self.rows.len() as u64) << 8 ^ self.dtype as u64);
        let drawn = (0..POOL).filter_map(|_| request.domain.draw(self.family, self.dtype, &mut rng));
        let mut pool: Vec<KernelCall> =
            drawn.filter(|call| self.rows.iter().all(|row| row.call != *call)).collect();
        pool.sort();
        pool.dedup();
        pool.shuffle(&mut rng);
        match &self.model {
            Some(model) => model.least_sure(pool, device),
            None => pool.into_iter().take(BATCH).collect(),
        }
    }

    /// Models the rows anew.
    fn learn(&mut self, device: &Device) {
        if self.rows.len() < FEWEST || !self.waiting.is_empty() {
            return;
        }
        let rows = Rows::measured(self.family, self.dtype, device, &self.rows);
        let skeleton = Skeleton::of(&rows);
        let reference = rows.skeleton(&skeleton);
        let surface = Kriging::fit(&rows, &reference).and_then(|kriging| kriging.surface(&rows, &reference));
        self.model = surface.map(|surface| {
            let error = scores::mean_absolute(surface.left_out().into_iter()).exp_m1();
            Model { skeleton, surface, error }
        });
    }

    fn standing(&self, elapsed: Duration) -> Standing {
        let error = self.model.as_ref().map(|model| model.error);
        Standing { elapsed, family: self.family, dtype: self.dtype, rows: self.rows.len(), error }
    }

    fn finish(mut self, request: &Request, device: &Device) -> Measured {
        self.learn(device);
        let grid = self.model.as_ref().and_then(|model| self.grid(model, request));
        let error = self.model.as_ref().map(|model| model.error);
        Measured { family: self.family, dtype: self.dtype, rows: self.rows, error, grid }
    }

    /// See [`Measured::grid`].
    fn grid(&self, model: &Model, request: &Request) -> Option<(usize, bool)> {
        let of = |call: &KernelCall| axes::coordinates(call).map(|(_, _, at)| at);
        let mine: Vec<Coordinates> = self.rows.iter().filter_map(|row| of(&row.call)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(request.seed);
        let draws = (0..POOL).filter_map(|_| request.domain.draw(self.family, self.dtype, &mut rng));
        let asked: Vec<Coordinates> = draws.filter_map(|call| of(&call)).collect();
        let goal = model.surface.design_sigma(&mine, &asked)?;
        let axes = axes::names(self.family).len();
        let mut largest = 0;
        for steps in 2..=12 {
            let rows = regular(&mine, axes, steps);
            if rows.len() > 2 * MOST {
                break;
            }
            largest = rows.len();
            if model.surface.design_sigma(&rows, &asked)? <= goal {
                return Some((rows.len(), false));
            }
        }
        Some((largest, true))
    }
}

/// A grid of `steps` values per axis, evenly over the logarithm of the range of `rows`.
fn regular(rows: &[Coordinates], axes: usize, steps: u32) -> Vec<Coordinates> {
    let mut grid = vec![Coordinates::default()];
    for axis in 0..axes {
        let values = || rows.iter().map(|x| x[axis].max(1));
        let (low, high) = (values().min().unwrap_or(1), values().max().unwrap_or(1));
        let at = |i: u32| {
            let share = f64::from(i) / f64::from(steps - 1);
            (f64::from(low) * (f64::from(high) / f64::from(low)).powf(share)).round() as u32
        };
        let mut ticks: Vec<u32> = (0..steps).map(at).collect();
        ticks.dedup();
        let with = |x: &Coordinates, v: u32| {
            let mut x = *x;
            x[axis] = v;
            x
        };
        grid = grid.iter().flat_map(|x| ticks.iter().map(move |v| with(x, *v))).collect();
    }
    grid
}

impl Model {
    /// The calls of a pool to measure next: each in turn the one of the largest deviation, those before it taken
    /// into account.
    fn least_sure(&self, mut pool: Vec<KernelCall>, device: &Device) -> Vec<KernelCall> {
        let mut surface = self.surface.clone();
        let mut chosen = Vec::new();
        while chosen.len() < BATCH && !pool.is_empty() {
            let worth = |call: &KernelCall| {
                let Some((_, _, at)) = axes::coordinates(call) else { return 0.0 };
                let seconds = self.skeleton.seconds(skeleton::bounds(call, device));
                surface.at(&at).1 / (seconds + 1e-3).powf(THRIFT)
            };
            let worths: Vec<f64> = pool.iter().map(worth).collect();
            let best = (0..pool.len()).max_by(|&a, &b| worths[a].total_cmp(&worths[b]).then(b.cmp(&a)));
            let Some(best) = best else { break };
            let call = pool.swap_remove(best);
            if let Some((_, _, at)) = axes::coordinates(&call) {
                surface.anticipate(&at);
            }
            chosen.push(call);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_grid_spans_the_rows() {
        let rows = [[1, 64, 64, 0, 0], [256, 4096, 64, 0, 0]];
        let grid = regular(&rows, 3, 3);
        assert_eq!(grid.len(), 9);
        assert!(grid.contains(&[16, 512, 64, 0, 0]) && grid.contains(&[256, 4096, 64, 0, 0]));
    }
}
