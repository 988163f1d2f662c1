//! All-reduce: latency against bytes, one measured curve per number of devices and backend.

use std::collections::BTreeMap;

use crate::estimate::Source;
use crate::hardware::kernel::{Backend, KernelCall, KernelFamily};
use crate::hardware::latency::cost::{GapError, KernelCost, Z90};
use crate::hardware::latency::kernel_model::scores::Miss;
use crate::hardware::profile::table::Row;
use crate::units::Seconds;

/// Spread of an estimate on a curve too short to try leaving a point out.
const UNTRIED: f64 = 0.2;

/// The measured curves.
#[derive(Debug)]
pub struct AllReduceCurves {
    profile: String,
    curves: BTreeMap<(u64, Backend), Curve>,
}

#[derive(Debug, Default)]
struct Curve {
    /// `(bytes, seconds)`, ascending in bytes.
    points: Vec<(f64, f64)>,
    log_sigma: f64,
}

/// A point predicted from its curve without it.
#[derive(Clone, Copy, Debug)]
pub struct LeftOut {
    /// The point.
    pub call: KernelCall,
    /// What was measured there.
    pub measured: Seconds,
    /// How far the prediction is off.
    pub miss: Miss,
}

impl AllReduceCurves {
    /// From measured rows; rows of other families are passed over.
    pub fn new(profile: &str, rows: &[Row]) -> Self {
        let mut curves: BTreeMap<(u64, Backend), Curve> = BTreeMap::new();
        for row in rows {
            if let KernelCall::AllReduce { world, bytes, backend } = row.call {
                curves.entry((world, backend)).or_default().points.push((bytes as f64, row.latency.0));
            }
        }
        for curve in curves.values_mut() {
            curve.points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut errors: Vec<f64> = curve.leave_one_out().map(|(_, error)| error.abs()).collect();
            errors.sort_by(f64::total_cmp);
            let rank = (0.9 * (errors.len() + 1) as f64).ceil() as usize;
            curve.log_sigma =
                errors.get(rank.saturating_sub(1)).or(errors.last()).map_or(UNTRIED, |e| e / Z90);
        }
        Self { profile: profile.to_string(), curves }
    }

    /// Cost of summing `bytes` over `world` devices. Where a captured graph was not measured, the same kernel outside
    /// of one stands in, else the library, and what comes out is marked as estimated.
    ///
    /// # Errors
    /// A number of devices or a backend that was not measured.
    pub fn cost(&self, world: u64, bytes: u64, backend: Backend) -> Result<KernelCost, GapError> {
        if backend == Backend::VllmGraph && !self.curves.contains_key(&(world, backend)) {
            let stand_ins = [Backend::VllmEager, Backend::Nccl];
            if let Some(stand_in) = stand_ins.into_iter().find(|b| self.curves.contains_key(&(world, *b))) {
                let cost = self.cost(world, bytes, stand_in)?;
                let log_sigma = cost.log_sigma.max(UNTRIED);
                return Ok(KernelCost { source: Source::Estimated, log_sigma, ..cost });
            }
        }
        let curve = self.curves.get(&(world, backend)).ok_or_else(|| self.gap(world, backend))?;
        let bytes = bytes as f64;
        if let Some(&(_, seconds)) = curve.points.iter().find(|p| p.0 == bytes) {
            let latency = Seconds(seconds);
            return Ok(KernelCost { latency, log_sigma: 0.0, source: Source::Measured, extrapolated: false });
        }
        let range = (curve.points.first(), curve.points.last());
        let extrapolated = !matches!(range, (Some(a), Some(b)) if a.0 <= bytes && bytes <= b.0);
        let latency = Seconds(interpolate(&curve.points, bytes));
        let log_sigma = curve.log_sigma * if extrapolated { 2.0 } else { 1.0 };
        Ok(KernelCost { latency, log_sigma, source: Source::Fitted, extrapolated })
    }

    /// Every inner point predicted from its neighbours.
    pub fn leave_one_out(&self) -> Vec<LeftOut> {
        let of = |(&(world, backend), curve): (&(u64, Backend), &Curve)| {
            let log_sigma = curve.log_sigma;
            let left_out = |((bytes, seconds), log_error): ((f64, f64), f64)| LeftOut {
                call: KernelCall::AllReduce { world, bytes: bytes as u64, backend },
                measured: Seconds(seconds),
                miss: Miss { log_error, log_sigma },
            };
            curve.leave_one_out().map(left_out).collect::<Vec<_>>()
        };
        self.curves.iter().flat_map(of).collect()
    }

    fn gap(&self, world: u64, backend: Backend) -> GapError {
        let mut worlds: Vec<u64> = self.curves.keys().map(|k| k.0).collect();
        worlds.dedup();
        if worlds.contains(&world) {
            let backends = self.curves.keys().filter(|k| k.0 == world).map(|k| k.1).collect();
            return GapError::NoBackend {
                profile: self.profile.clone(),
                world,
                backend,
                available: backends,
            };
        }
        if worlds.is_empty() {
            return GapError::NoTable { profile: self.profile.clone(), family: KernelFamily::AllReduce };
        }
        GapError::NoWorld { profile: self.profile.clone(), world, available: worlds }
    }
}

impl Curve {
    /// Inner points with `ln(predicted / measured)`.
    fn leave_one_out(&self) -> impl Iterator<Item = ((f64, f64), f64)> {
        let inner = 1..self.points.len().saturating_sub(1).max(1);
        inner.filter_map(|i| {
            let (x, y) = *self.points.get(i)?;
            let others: Vec<(f64, f64)> =
                self.points.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, p)| *p).collect();
            Some(((x, y), (interpolate(&others, x) / y).ln()))
        })
    }
}

/// Log-log between points; constant below them (latency-bound), proportional above (bandwidth-bound).
fn interpolate(points: &[(f64, f64)], x: f64) -> f64 {
    let at = points.partition_point(|p| p.0 < x);
    match (at.checked_sub(1).and_then(|i| points.get(i)), points.get(at)) {
        (None, Some(first)) => first.1,
        (Some(last), None) => last.1 * x / last.0,
        (Some(a), Some(b)) => {
            let share = (x / a.0).ln() / (b.0 / a.0).ln();
            (a.1.ln() + share * (b.1 / a.1).ln()).exp()
        }
        (None, None) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves() -> AllReduceCurves {
        let row = |bytes: u64, us: f64| {
            Row::new(KernelCall::AllReduce { world: 2, bytes, backend: Backend::Nccl }, Seconds::from_us(us))
        };
        AllReduceCurves::new(
            "toy",
            &[row(1024, 5.0), row(4096, 5.0), row(1 << 20, 10.0), row(1 << 24, 100.0)],
        )
    }

    #[test]
    fn measured_points_come_back_as_measured() {
        let cost = curves().cost(2, 1 << 20, Backend::Nccl).expect("a measured point");
        assert_eq!(
            (cost.latency, cost.source, cost.log_sigma),
            (Seconds::from_us(10.0), Source::Measured, 0.0)
        );
    }

    #[test]
    fn interpolates_and_says_when_it_extrapolates() {
        let curves = curves();
        let inside = curves.cost(2, 1 << 22, Backend::Nccl).expect("inside");
        assert!((inside.latency.us() - 1000f64.sqrt()).abs() < 1e-9 && !inside.extrapolated);
        let above = curves.cost(2, 1 << 25, Backend::Nccl).expect("above");
        assert!((above.latency.us() - 200.0).abs() < 1e-9 && above.extrapolated);
        assert!(above.log_sigma > inside.log_sigma);
        assert!(curves.cost(2, 16, Backend::Nccl).expect("below").extrapolated);
    }

    #[test]
    fn a_graph_that_was_not_measured_is_estimated_by_what_was() {
        let cost = curves().cost(2, 1 << 20, Backend::VllmGraph).expect("stands in");
        assert_eq!((cost.latency, cost.source), (Seconds::from_us(10.0), Source::Estimated));
        assert!(cost.log_sigma >= UNTRIED);
    }

    #[test]
    fn a_gap_is_an_error() {
        assert!(matches!(curves().cost(3, 1, Backend::Nccl), Err(GapError::NoWorld { world: 3, .. })));
        assert!(matches!(curves().cost(2, 1, Backend::VllmEager), Err(GapError::NoBackend { .. })));
        let none = AllReduceCurves::new("toy", &[]).cost(2, 1, Backend::Nccl);
        assert!(matches!(none, Err(GapError::NoTable { .. })));
    }
}
