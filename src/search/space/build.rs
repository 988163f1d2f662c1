//! From a parent and a person's options to the allowed values of every axis.

use crate::model::architecture::Architecture;
use crate::model::tensor_parallel;
use crate::search::space::SearchSpace;
use crate::search::space::axis::{Axis, PerAxis};
use crate::search::space::error::SpaceError;
use crate::search::space::options::{Bounds, SpaceOptions};

/// Most shapes a space may have: about five minutes of enumeration on two cores.
const MOST_SHAPES: u64 = 10_000_000_000;
/// Most values one axis may have, and most pairs of head counts.
const MOST_VALUES: u64 = 1_000_000;

impl SearchSpace {
    /// The shapes that `parent` may be pruned to under `options`.
    pub fn build(parent: &Architecture, options: &SpaceOptions) -> Result<Self, SpaceError> {
        let values = parent_values(parent)?;
        check_options(options)?;
        check_parent_divides(&values, &options.tp)?;
        let axis = |axis| axis_values(axis, *values.get(axis), options);
        let (layers, hidden, ffn) = (axis(Axis::Layers)?, axis(Axis::Hidden)?, axis(Axis::Ffn)?);
        let (q_heads, kv_heads) = (axis(Axis::QHeads)?, axis(Axis::KvHeads)?);
        let group = if options.merge_kv { u64::MAX } else { values.q_heads / values.kv_heads };
        check_size(q_heads.len() as u128 * kv_heads.len() as u128, MOST_VALUES)?;
        let heads = head_pairs(&q_heads, &kv_heads, group);
        if heads.is_empty() {
            return Err(SpaceError::NoHeadPair { q_heads, kv_heads, group });
        }
        let counts = [layers.len(), hidden.len(), ffn.len(), heads.len()];
        check_size(counts.iter().map(|n| *n as u128).product(), MOST_SHAPES)?;
        let multiples = options.multiples;
        Ok(SearchSpace { parent: values, head_dim: parent.head_dim, multiples, layers, hidden, ffn, heads })
    }
}

fn parent_values(parent: &Architecture) -> Result<PerAxis<u64>, SpaceError> {
    let shape = parent.uniform_shape().ok_or(SpaceError::NotUniform)?;
    let values = PerAxis {
        layers: parent.depth(),
        hidden: parent.hidden,
        ffn: shape.ffn,
        q_heads: shape.q_heads,
        kv_heads: shape.kv_heads,
    };
    match Axis::ALL.into_iter().find(|axis| *values.get(*axis) == 0) {
        Some(axis) => Err(SpaceError::ParentZero { axis }),
        None => Ok(values),
    }
}

fn check_options(options: &SpaceOptions) -> Result<(), SpaceError> {
    for (what, found) in [("width", options.max_width_prune), ("depth", options.max_depth_prune)] {
        if !(0.0..1.0).contains(&found) {
            return Err(SpaceError::NotAFraction { what, found });
        }
    }
    for axis in Axis::ALL {
        if *options.multiples.get(axis) == 0 {
            return Err(SpaceError::MultipleZero { axis });
        }
        if options.skip.contains(&axis) && options.bounds.get(axis).is_some() {
            return Err(SpaceError::SkippedAndBounded { axis });
        }
    }
    if options.tp.contains(&0) { Err(SpaceError::TpZero) } else { Ok(()) }
}

/// One axis on its own under the rules of [`tensor_parallel`], which look at each axis alone.
fn divides(axis: Axis, value: u64, tp: u64) -> bool {
    let (ffn, q_heads, kv_heads) = match axis {
        Axis::Layers | Axis::Hidden => return true,
        Axis::Ffn => (value, 0, 0),
        Axis::QHeads => (0, value, 0),
        Axis::KvHeads => (0, 0, value),
    };
    tensor_parallel::check_shape(&Architecture::uniform(1, 1, ffn, q_heads, kv_heads, 2), tp).is_ok()
}

fn check_parent_divides(parent: &PerAxis<u64>, degrees: &[u64]) -> Result<(), SpaceError> {
    let fits = |tp: u64, axis: Axis| divides(axis, *parent.get(axis), tp);
    for &tp in degrees {
        if let Some(axis) = Axis::ALL.into_iter().find(|axis| !fits(tp, *axis)) {
            let good = (1..=64).filter(|tp| Axis::ALL.into_iter().all(|axis| fits(*tp, axis))).collect();
            return Err(SpaceError::ParentIndivisible { axis, value: *parent.get(axis), tp, divides: good });
        }
    }
    Ok(())
}

fn allowed_range(axis: Axis, parent: u64, options: &SpaceOptions) -> Result<Bounds, SpaceError> {
    if options.skip.contains(&axis) {
        return Ok(Bounds { low: parent, high: parent });
    }
    match *options.bounds.get(axis) {
        Some(Bounds { low, high }) if low == 0 || low > high || high > parent => {
            Err(SpaceError::BoundsOutsideParent { axis, low, high, parent })
        }
        Some(bounds) => Ok(bounds),
        None => {
            let prune = if axis == Axis::Layers { options.max_depth_prune } else { options.max_width_prune };
            // The subtraction forgives a product such as 0.7 x 10 that lands a hair above its integer.
            let low = (parent as f64 * (1.0 - prune) - 1e-9).ceil();
            Ok(Bounds { low: (low as u64).max(1), high: parent })
        }
    }
}

/// Multiples in range, and the parent's own value when in range; a pinned axis has just that value.
fn axis_values(axis: Axis, parent: u64, options: &SpaceOptions) -> Result<Vec<u64>, SpaceError> {
    let Bounds { low, high } = allowed_range(axis, parent, options)?;
    let multiple = *options.multiples.get(axis);
    let (first, last) = (low.div_ceil(multiple), high / multiple);
    check_size(u128::from(last.saturating_sub(first)), MOST_VALUES)?;
    let mut values: Vec<u64> =
        if low == high { vec![low] } else { (first..=last).map(|i| i * multiple).collect() };
    if (low..=high).contains(&parent) && !values.contains(&parent) {
        values.push(parent);
    }
    values.retain(|value| options.tp.iter().all(|tp| divides(axis, *value, *tp)));
    if values.is_empty() {
        return Err(SpaceError::EmptyAxis { axis, low, high, multiple, tp: options.tp.clone() });
    }
    Ok(values)
}

fn head_pairs(q_heads: &[u64], kv_heads: &[u64], group: u64) -> Vec<(u64, u64)> {
    let pairs = q_heads.iter().flat_map(|q| kv_heads.iter().map(move |kv| (*q, *kv)));
    pairs.filter(|(q, kv)| q.is_multiple_of(*kv) && q / kv <= group).collect()
}

fn check_size(size: u128, limit: u64) -> Result<(), SpaceError> {
    if size > u128::from(limit) { Err(SpaceError::TooLarge { size, limit }) } else { Ok(()) }
}
