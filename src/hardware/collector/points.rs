//! Which points, and in which order: a run that is cut short at any time leaves a table that spans the range.

use std::collections::BTreeSet;

use crate::hardware::collector::grid;
use crate::hardware::collector::point::Point;
use crate::hardware::collector::target::{Limits, Target};
use crate::hardware::kernel::KernelCall;
use crate::hardware::latency::lowering::{self, Phase};
use crate::hardware::profile::device::Granularity;
use crate::model::architecture::Architecture;
use crate::model::spec::ModelSpec;
use crate::model::workload::Deployment;
use crate::units::DType;

/// What the list is for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The device.
    pub target: Target,
    /// Models whose own calls, and whose pruned children's, are measured besides the grid.
    pub models: &'a [ModelSpec],
    /// Tensor-parallel degrees to lower the models for; those that do not divide a shape are passed over.
    pub tp: &'a [u64],
    /// Multiples that the children's widths keep.
    pub granularity: Granularity,
    /// What a point may need, and how many there may be.
    pub limits: Limits,
}

/// Shares of a parent's width that its children keep, in sixteenths; each level adds those between.
fn shares(level: u32) -> &'static [u64] {
    match level {
        0 => &[16],
        1 => &[16, 8],
        2 => &[16, 12, 8],
        _ => &[16, 14, 12, 10, 8],
    }
}

/// The list: copies and norms, then level by level (see [`grid::LEVELS`]), the cheaper points of a level first, then
/// all-reduces. Always the same for the same wishes. No point comes twice and none exceeds the limits.
pub fn points(wanted: &Wanted<'_>) -> Vec<Point> {
    let mut seen = BTreeSet::new();
    let mut list: Vec<Point> = Vec::new();
    let within = |point: &Point| point.is_within(&wanted.limits);
    list.extend(grid::elementwise().into_iter().filter(within));
    for level in 0..=grid::LEVELS {
        let mut calls: BTreeSet<KernelCall> = BTreeSet::new();
        for spec in wanted.models {
            children(spec, wanted.granularity, level)
                .iter()
                .for_each(|child| add_calls(&mut calls, wanted, spec, child, level));
        }
        if level < grid::LEVELS {
            calls.extend(grid::calls(level, wanted.target.gemm_dtypes()));
        }
        let fresh = calls.into_iter().map(Point::Call).filter(within).filter(|point| seen.insert(*point));
        let mut fresh: Vec<Point> = fresh.collect();
        // Bytes and operations count alike: ten operations a byte is between memory- and compute-bound.
        let cost = |point: &Point| point.work().0 + 10.0 * point.work().1;
        fresh.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then(a.cmp(b)));
        list.extend(fresh);
    }
    let all_reduce: Vec<Point> = grid::all_reduce().into_iter().filter(within).collect();
    list.truncate(wanted.limits.points.saturating_sub(all_reduce.len()));
    list.extend(all_reduce);
    list.truncate(wanted.limits.points);
    list
}

/// The parent and, level by level, more of the shapes it can be pruned to in width.
fn children(spec: &ModelSpec, granularity: Granularity, level: u32) -> Vec<Architecture> {
    let parent = &spec.architecture;
    let Some(shape) = parent.uniform_shape() else { return vec![parent.clone()] };
    let width = |full: u64, multiple: u64, share: u64| match share {
        16 => full,
        _ => (full * share / 16 / multiple.max(1)).max(1) * multiple.max(1),
    };
    let mut children = Vec::new();
    for &hidden in shares(level) {
        for &ffn in shares(level) {
            for &heads in shares(level) {
                // Whole groups: each KV head keeps as many query heads.
                let q_heads = width(shape.q_heads, shape.kv_heads, heads);
                children.push(Architecture::uniform(
                    1,
                    width(parent.hidden, granularity.hidden, hidden).min(parent.hidden),
                    width(shape.ffn, granularity.ffn, ffn).min(shape.ffn),
                    q_heads,
                    shape.kv_heads,
                    parent.head_dim,
                ));
            }
        }
    }
    children
}

fn add_calls(
    calls: &mut BTreeSet<KernelCall>,
    wanted: &Wanted<'_>,
    spec: &ModelSpec,
    child: &Architecture,
    level: u32,
) {
    // From level 2 on the widths are refined, not the lengths.
    let level = level.min(1);
    let batches = grid::batches(level);
    let decode = batches.iter().flat_map(|&batch| {
        grid::caches(level).into_iter().map(move |kv_len| Phase::Decode { batch, kv_len })
    });
    let prefill = grid::prompts(level).into_iter().map(|tokens| Phase::Prefill { batch: 1, tokens });
    let phases: Vec<Phase> = decode.chain(prefill).collect();
    for &tp in wanted.tp {
        for &dtype in wanted.target.gemm_dtypes() {
            let deployment = Deployment { engine: "none".to_string(), tp, dtype, kv_dtype: DType::Bf16 };
            for &phase in &phases {
                let Ok(ops) = lowering::lower(spec, child, &deployment, phase) else { continue };
                calls.extend(ops.into_iter().map(|op| op.call).filter(has_table));
            }
        }
    }
}

fn has_table(call: &KernelCall) -> bool {
    !matches!(call, KernelCall::Elementwise { .. } | KernelCall::AllReduce { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cards;

    fn wanted<'a>(target: Target, models: &'a [ModelSpec]) -> Wanted<'a> {
        let granularity = Granularity { hidden: 256, ffn: 512 };
        Wanted { target, models, tp: &[1, 2], granularity, limits: target.limits() }
    }

    #[test]
    fn coarse_comes_first_and_nothing_twice() {
        for target in [Target::Cuda, Target::Npu, Target::Cpu] {
            let list = points(&wanted(target, &[]));
            assert_eq!(list, points(&wanted(target, &[])));
            let set: BTreeSet<_> = list.iter().collect();
            assert_eq!(set.len(), list.len());
            assert!(list.iter().all(|point| point.is_within(&target.limits())));
            assert!(list.len() <= target.limits().points && list.len() > 1000, "{}", list.len());
            let place = |call| list.iter().position(|p| *p == Point::Call(call));
            let gemm = |m, n| KernelCall::Gemm { m, n, k: 1024, dtype: DType::Bf16 };
            assert!(place(gemm(16, 4096)).unwrap() < place(gemm(4, 4096)).unwrap());
            assert!(place(gemm(4, 4096)).unwrap() < place(gemm(2, 4096)).unwrap());
            assert!(place(gemm(16, 8192)).unwrap() < place(gemm(16, 6144)).unwrap());
            assert!(matches!(list[0], Point::Copy { .. }));
        }
    }

    /// What a cut run is left with after the first hundred points or so: every family and type over its range.
    #[test]
    fn the_coarsest_level_spans_the_range() {
        let list = points(&wanted(Target::Cuda, &[]));
        let (mut most, mut least) = (0, u64::MAX);
        for point in list.iter().take(160) {
            if let Point::Call(KernelCall::Gemm { m, dtype: DType::Fp8, .. }) = point {
                (most, least) = (most.max(*m), least.min(*m));
            }
        }
        assert_eq!((least, most), (1, 4096));
        let families: BTreeSet<_> = list
            .iter()
            .take(160)
            .filter_map(|p| if let Point::Call(call) = p { Some(call.family()) } else { None })
            .collect();
        assert_eq!(families.len(), 3);
    }

    #[test]
    fn models_and_their_children_are_measured() {
        let spec = cards::find("qwen3-0.6b").unwrap().spec().unwrap();
        let models = [spec.clone()];
        let request = wanted(Target::Cuda, &models);
        let list = points(&request);
        let grid: BTreeSet<_> = points(&wanted(Target::Cuda, &[])).into_iter().collect();
        let has = |n, k, m| list.contains(&Point::Call(KernelCall::Gemm { m, n, k, dtype: DType::Bf16 }));
        let (hidden, shape) = (spec.architecture.hidden, spec.architecture.uniform_shape().unwrap());
        assert!(has(2 * shape.ffn, hidden, 16), "gate and up of the parent");
        assert!(has(shape.ffn, hidden, 16), "gate and up of half the parent on one device, or of two");
        assert!(has(spec.vocab_size, hidden, 256), "the LM head");
        let own = list.iter().filter(|point| !grid.contains(*point)).count();
        assert!(own > 100, "{own} points beside the grid");
    }

    #[test]
    fn limits_are_kept() {
        let spec = cards::find("qwen3-0.6b").unwrap().spec().unwrap();
        let models = [spec];
        let limits = Limits { flops: 1e8, bytes: 1e7, tokens: 256, points: 150 };
        let request = Wanted { limits, ..wanted(Target::Cpu, &models) };
        let list = points(&request);
        assert_eq!(list.len(), 150);
        assert!(list.iter().all(|point| point.is_within(&limits)));
        assert!(matches!(list[149], Point::AllReduce { .. }));
        let none = Wanted { limits: Limits { points: 0, ..limits }, ..request };
        assert!(points(&none).is_empty());
    }
}
