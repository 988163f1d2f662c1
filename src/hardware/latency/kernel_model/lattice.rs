//! Interpolation on a measured grid with holes: nested brackets, one axis order after another.

/// Most axes a kernel family has.
pub const MAX_AXES: usize = 5;

/// Coordinates of a kernel call, one integer per axis; unused axes are zero.
pub type Coordinates = [u32; MAX_AXES];

/// What is kept out of an interpolation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exclusion {
    /// Bit `a`: every row whose axis `a` has the query's value is left out.
    pub axes: u8,
    /// The row at exactly the query's coordinates is left out.
    pub row: bool,
}

/// One interpolated answer.
#[derive(Clone, Copy, Debug)]
pub struct Blend {
    /// `ln(t / skeleton)`, linear in log coordinates.
    pub log_ratio: f64,
    /// `t` in seconds, linear in raw coordinates.
    pub raw: f64,
    /// `sqrt(t)`, linear in raw coordinates.
    pub root: f64,
    /// Number of brackets with only one side (held constant beyond the range).
    pub held: u32,
}

impl Blend {
    /// At `wanted` on an axis, between the blends at a lower and a higher value of it.
    fn between((x0, a): (u32, Blend), (x1, b): (u32, Blend), wanted: u32) -> Self {
        let (x0, x1, x) = (f64::from(x0), f64::from(x1), f64::from(wanted));
        let raw = (x - x0) / (x1 - x0);
        let log = (x / x0).ln() / (x1 / x0).ln();
        let mix = |p: f64, q: f64, w: f64| p + (q - p) * w;
        Self {
            log_ratio: mix(a.log_ratio, b.log_ratio, log),
            raw: mix(a.raw, b.raw, raw),
            root: mix(a.root, b.root, raw),
            held: a.held.max(b.held),
        }
    }
}

/// The rows sorted along one order of the axes, as a tree of distinct values.
#[derive(Debug)]
pub struct Lattice {
    order: Vec<usize>,
    /// `values[d][i]`: value of node `i` at depth `d`.
    values: Vec<Vec<u32>>,
    /// `first[d][i]`: first child (or row, at the last depth) of node `i`; one past the end closes it.
    first: Vec<Vec<u32>>,
    leaves: Vec<Leaf>,
}

#[derive(Clone, Copy, Debug)]
struct Leaf {
    log_ratio: f64,
    seconds: f64,
}

impl Lattice {
    /// Builds the tree for `order` (axes from the root to the leaves).
    pub fn new(order: &[usize], rows: &[Coordinates], seconds: &[f64], skeleton: &[f64]) -> Self {
        let mut index: Vec<usize> = (0..rows.len()).collect();
        let key = |i: usize| {
            let mut k = [0u32; MAX_AXES];
            for (slot, &axis) in k.iter_mut().zip(order) {
                *slot = rows[i][axis];
            }
            k
        };
        index.sort_by_key(|&i| key(i));
        let depth = order.len();
        let mut values = vec![Vec::new(); depth];
        let mut first = vec![Vec::new(); depth];
        let mut previous: Option<[u32; MAX_AXES]> = None;
        let mut leaves = Vec::with_capacity(rows.len());
        for &i in &index {
            let k = key(i);
            let split = match previous {
                Some(p) => (0..depth).find(|&d| p[d] != k[d]).unwrap_or(depth),
                None => 0,
            };
            for d in split..depth {
                values[d].push(k[d]);
                let next = if d + 1 < depth { values[d + 1].len() } else { leaves.len() };
                first[d].push(next as u32);
            }
            if split < depth {
                leaves.push(Leaf { log_ratio: (seconds[i] / skeleton[i]).ln(), seconds: seconds[i] });
            }
            previous = Some(k);
        }
        for d in 0..depth {
            let next = if d + 1 < depth { values[d + 1].len() } else { leaves.len() };
            first[d].push(next as u32);
        }
        Self { order: order.to_vec(), values, first, leaves }
    }

    /// Interpolates at `query`; `None` where nothing is left to stand on.
    pub fn blend(&self, query: &Coordinates, exclusion: Exclusion) -> Option<Blend> {
        let end = self.values.first().map_or(0, Vec::len);
        self.descend(0, (0, end), query, exclusion, true)
    }

    /// Seconds of the row at exactly `query`.
    pub fn exact(&self, query: &Coordinates) -> Option<f64> {
        let (mut start, mut end) = (0, self.values.first()?.len());
        for (depth, &axis) in self.order.iter().enumerate() {
            let node = start + self.values[depth][start..end].binary_search(&query[axis]).ok()?;
            (start, end) = (self.first[depth][node] as usize, self.first[depth][node + 1] as usize);
        }
        self.leaves.get(start).map(|leaf| leaf.seconds)
    }

    fn descend(
        &self,
        depth: usize,
        (start, end): (usize, usize),
        query: &Coordinates,
        exclusion: Exclusion,
        on_line: bool,
    ) -> Option<Blend> {
        let values = &self.values[depth][start..end];
        let axis = self.order[depth];
        let wanted = query[axis];
        let last = depth + 1 == self.order.len();
        let position = values.partition_point(|&v| v < wanted);
        let exact = values.get(position) == Some(&wanted);
        let banned = exclusion.axes >> axis & 1 == 1 || (last && exclusion.row && on_line);
        let child = |i: usize, on_line: bool| {
            let node = start + i;
            let (from, to) = (self.first[depth][node] as usize, self.first[depth][node + 1] as usize);
            if last {
                let leaf = self.leaves[from];
                Some(Blend {
                    log_ratio: leaf.log_ratio,
                    raw: leaf.seconds,
                    root: leaf.seconds.sqrt(),
                    held: 0,
                })
            } else {
                self.descend(depth + 1, (from, to), query, exclusion, on_line)
            }
        };
        if exact
            && !banned
            && let Some(found) = child(position, on_line)
        {
            return Some(found);
        }
        let above = if exact { position + 1 } else { position };
        let low = (0..position).rev().take(3).find_map(|i| child(i, false).map(|b| (values[i], b)));
        let high = (above..values.len()).take(3).find_map(|i| child(i, false).map(|b| (values[i], b)));
        match (low, high) {
            (Some(low), Some(high)) => Some(Blend::between(low, high, wanted)),
            (Some((_, mut only)), None) | (None, Some((_, mut only))) => {
                only.held += 1;
                only.raw = f64::NAN;
                only.root = f64::NAN;
                Some(only)
            }
            (None, None) => None,
        }
    }
}
