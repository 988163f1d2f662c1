//! Calibration points: what is refused of them, and why.

use std::collections::BTreeMap;

use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::carried::Point;
use crate::hardware::latency::kernel_model::ensemble::Ensemble;
use crate::hardware::profile::check;
use crate::hardware::profile::device::Device;
use crate::hardware::profile::error::Place;
use crate::hardware::profile::table::LocatedRow;
use crate::units::{DType, Seconds};

/// Points by family.
pub type Points = BTreeMap<KernelFamily, Vec<LocatedRow>>;

/// Fewer of a family cannot be told from a slip.
pub const FEWEST: usize = 3;
/// More of a family take long to ask, and deserve a measured profile.
pub const MOST: usize = 2000;
/// A whole file this far from what was carried over is in another unit.
const OTHER_UNIT: f64 = 30.0;
/// A single point this much slower than carried over is no kernel of this device.
const MUCH_SLOWER: f64 = 100.0;
/// A point off by this factor from what all others say of it contradicts them. Real kernels were seen off by 17: an engine
/// may pick another kernel for one shape.
const CONTRADICTION: f64 = 30.0;
/// One off by this factor and so many standard deviations is remarked upon.
const STANDS_OUT: (f64, f64) = (3.0, 6.0);
/// Two shapes are neighbours if no axis differs by more than this factor ...
const NEIGHBOURS: f64 = 1.3;
/// ... and contradict each other if what they say of the device differs by more than this one.
const NEIGHBOURS_APART: f64 = 5.0;

/// Points that are refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the message above each variant names")]
pub enum PointsError {
    /// A family or element type with nothing to sharpen.
    #[error(
        "{place}: {family} {} is not carried over from `{relative}`, which has {has}: leave these rows out, or import them into a measured profile",
        .dtype.map_or(String::new(), |dtype| dtype.to_string())
    )]
    NotCarried { place: Place, family: KernelFamily, dtype: Option<DType>, relative: String, has: String },
    /// Too few of a family.
    #[error(
        "{file}: {found} {family} points are too few to tell a trend from a slip: measure at least {FEWEST} (--suggest-points lists the best)"
    )]
    TooFew { file: String, family: KernelFamily, found: usize },
    /// Too many of a family.
    #[error(
        "{file}: {found} {family} points are more than the {MOST} a correction takes: make a measured profile of them instead (hardware_profiles/README.md, Adding a device)"
    )]
    TooMany { file: String, family: KernelFamily, found: usize },
    /// The whole file is off by orders of magnitude.
    #[error("{file}: in the middle of its {family} points measured / expected is {ratio}: latency_us is microseconds{}", hint(*.log_ratio))]
    OtherUnit { file: String, family: KernelFamily, ratio: String, log_ratio: f64 },
    /// Faster than physics.
    #[error(
        "{place}: {latency} is {times} times faster than the data sheet allows ({bound}): latency_us is microseconds, and peaks and bandwidth must be this device's"
    )]
    TooFast { place: Place, latency: Seconds, bound: Seconds, times: String },
    /// Far slower than anything like it.
    #[error(
        "{place}: {latency} is {times} times slower than what is carried over ({expected}): latency_us is microseconds; one call, not a batch of repeats"
    )]
    TooSlow { place: Place, latency: Seconds, expected: Seconds, times: String },
    /// One point against the others.
    #[error(
        "{place}: {latency} contradicts the other points, by which it would be some {expected}: measure it again or leave it out"
    )]
    Contradiction { place: Place, latency: Seconds, expected: Seconds },
    /// Two neighbours against each other.
    #[error(
        "{place}: {latency} contradicts {other} ({other_latency}), a shape beside it: what is carried over for the two says {times} times otherwise; measure both again or leave one out"
    )]
    Neighbours { place: Place, latency: Seconds, other: Place, other_latency: Seconds, times: String },
}

fn hint(log_ratio: f64) -> &'static str {
    let near = |power: f64| (log_ratio - power * 10f64.ln()).abs() < 5f64.ln();
    match () {
        () if near(-3.0) => "; these look like milliseconds: multiply them by 1000",
        () if near(-6.0) => "; these look like seconds: multiply them by 1000000",
        () if near(3.0) => "; these look like nanoseconds: divide them by 1000",
        () => "",
    }
}

/// Checks the points of one learned family against what was carried over.
///
/// # Errors
/// The first of [`PointsError`], but for contradictions (see [`check_among`]).
pub fn check(
    family: KernelFamily,
    points: &[LocatedRow],
    bare: &BTreeMap<DType, Ensemble>,
    device: &Device,
    relative: &str,
) -> Result<(), PointsError> {
    check_number(family, points)?;
    let mut expected = Vec::with_capacity(points.len());
    for point in points {
        let of = axes::coordinates(&point.row.call);
        let estimate = of.and_then(|(_, dtype, at)| Some(bare.get(&dtype)?.cost(&at).latency));
        expected.push(estimate.ok_or_else(|| PointsError::NotCarried {
            place: point.place.clone(),
            family,
            dtype: of.map(|(_, dtype, _)| dtype),
            relative: relative.to_string(),
            has: bare.keys().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        })?);
    }
    let mut ratios: Vec<f64> = points.iter().zip(&expected).map(|(p, e)| (p.row.latency / *e).ln()).collect();
    ratios.sort_by(f64::total_cmp);
    let middle = ratios.get(ratios.len() / 2).copied().unwrap_or(0.0);
    if middle.abs() > OTHER_UNIT.ln() {
        let ratio = format!("{:.1e}", middle.exp());
        return Err(PointsError::OtherUnit { file: file_of(points), family, ratio, log_ratio: middle });
    }
    for (point, expected) in points.iter().zip(expected) {
        check_fast(point, device)?;
        let (place, latency) = (point.place.clone(), point.row.latency);
        let times = latency / expected;
        if times > MUCH_SLOWER {
            let times = format!("{times:.0}");
            return Err(PointsError::TooSlow { place, latency, expected, times });
        }
    }
    Ok(())
}

/// Checks points of an all-reduce, for which a rule is fitted.
///
/// # Errors
/// Too few, too many, or faster than the links allow.
pub fn check_all_reduce(points: &[LocatedRow], device: &Device) -> Result<(), PointsError> {
    check_number(KernelFamily::AllReduce, points)?;
    points.iter().try_for_each(|point| check_fast(point, device))
}

fn check_number(family: KernelFamily, points: &[LocatedRow]) -> Result<(), PointsError> {
    let (file, found) = (file_of(points), points.len());
    match found {
        0..FEWEST => Err(PointsError::TooFew { file, family, found }),
        FEWEST..=MOST => Ok(()),
        _ => Err(PointsError::TooMany { file, family, found }),
    }
}

fn check_fast(point: &LocatedRow, device: &Device) -> Result<(), PointsError> {
    let bound = match point.row.call {
        KernelCall::AllReduce { world: 0, .. } => return Ok(()),
        call => check::bound(&call, device),
    };
    let latency = point.row.latency;
    if latency * check::BELOW_BOUND < bound {
        let times = format!("{:.1}", bound / latency);
        return Err(PointsError::TooFast { place: point.place.clone(), latency, bound, times });
    }
    Ok(())
}

fn file_of(points: &[LocatedRow]) -> String {
    points.first().map_or_else(|| "the points".to_string(), |point| point.place.file.clone())
}

/// Contradictions among points: `strays` are their log errors, `left_out` what remains of each when all others are
/// believed (standard deviations, log error). Remarks on points that stand out but may be true.
///
/// # Errors
/// [`PointsError::Neighbours`] and [`PointsError::Contradiction`].
pub fn check_among(
    points: &[LocatedRow],
    strays: &[Point],
    left_out: &[(f64, f64)],
) -> Result<Vec<String>, PointsError> {
    for (i, (a, here)) in points.iter().zip(strays).enumerate() {
        for (b, there) in points.iter().zip(strays).take(i) {
            let apart = (here.log_ratio - there.log_ratio).abs();
            if apart > NEIGHBOURS_APART.ln() && neighbours(here, there) {
                return Err(PointsError::Neighbours {
                    place: a.place.clone(),
                    latency: a.row.latency,
                    other: b.place.clone(),
                    other_latency: b.row.latency,
                    times: format!("{:.0}", apart.exp()),
                });
            }
        }
    }
    let mut remarks = Vec::new();
    for (point, (deviations, error)) in points.iter().zip(left_out) {
        let (place, latency) = (point.place.clone(), point.row.latency);
        let expected = latency * (-error).exp();
        if error.abs() > CONTRADICTION.ln() {
            return Err(PointsError::Contradiction { place, latency, expected });
        }
        if error.abs() > STANDS_OUT.0.ln() && deviations.abs() > STANDS_OUT.1 {
            remarks.push(format!(
                "{place}: {latency} stands out: by the other points it would be some {expected}; kept"
            ));
        }
    }
    Ok(remarks)
}

fn neighbours(a: &Point, b: &Point) -> bool {
    let near = |(x, y): (&u32, &u32)| {
        (f64::from((*x).max(1)) / f64::from((*y).max(1))).ln().abs() <= NEIGHBOURS.ln()
    };
    a.dtype == b.dtype && a.at.iter().zip(&b.at).all(near)
}
