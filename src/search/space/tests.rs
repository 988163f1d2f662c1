//! Tests of the search space on the published shape of Qwen3-32B and on random parents.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::axis::Axis;
use super::error::SpaceError;
use super::options::{Bounds, SpaceOptions};
use super::*;
use crate::model::architecture::{LayerShape, Layers};

fn qwen3_32b() -> Architecture {
    Architecture::uniform(64, 5120, 25600, 64, 8, 128)
}

fn options(change: impl FnOnce(&mut SpaceOptions)) -> SpaceOptions {
    let mut options = SpaceOptions::default();
    change(&mut options);
    options
}

fn refused(parent: &Architecture, change: impl FnOnce(&mut SpaceOptions)) -> SpaceError {
    SearchSpace::build(parent, &options(change)).unwrap_err()
}

#[test]
fn default_space_of_qwen3_32b() {
    let space = SearchSpace::build(&qwen3_32b(), &options(|o| o.tp = vec![4])).unwrap();
    assert_eq!(space.layers(), (32..=64).collect::<Vec<_>>());
    assert_eq!(space.hidden(), (10..=20).map(|i| i * 256).collect::<Vec<_>>());
    assert_eq!(space.ffn(), (25..=50).map(|i| i * 512).collect::<Vec<_>>());
    // 5, 6 and 7 KV heads neither divide over 4 devices nor can be copied evenly to them.
    assert_eq!(space.heads(), [(32, 4), (32, 8), (40, 8), (48, 8), (56, 8), (64, 8)]);
    assert_eq!(space.size(), 33 * 11 * 26 * 6);
    assert_eq!(space.architecture(space.parent().unwrap()).unwrap(), qwen3_32b());
}

#[test]
fn odd_kv_heads_are_allowed_and_groups_never_grow_unless_asked() {
    let space = SearchSpace::build(&qwen3_32b(), &SpaceOptions::default()).unwrap();
    let kv: BTreeSet<u64> = space.heads().iter().map(|(_, kv)| *kv).collect();
    assert_eq!(kv, BTreeSet::from([4, 5, 6, 7, 8]));
    assert!(space.heads().iter().all(|(q, kv)| q.is_multiple_of(*kv) && q / kv <= 8));
    let merged = SearchSpace::build(&qwen3_32b(), &options(|o| o.merge_kv = true)).unwrap();
    assert!(merged.heads().contains(&(64, 4)) && merged.heads().len() > space.heads().len());
}

#[test]
fn the_parents_own_value_is_a_member_off_the_grid() {
    let llama2 = Architecture::uniform(32, 4096, 11008, 32, 32, 128);
    let space = SearchSpace::build(&llama2, &SpaceOptions::default()).unwrap();
    assert_eq!(space.ffn().last(), Some(&11008));
    assert_eq!(space.ffn()[space.ffn().len() - 2], 10752);
    assert!(space.parent().is_some());
    let bounded =
        SearchSpace::build(&llama2, &options(|o| o.set_bounds("ffn=5632..10752").unwrap())).unwrap();
    assert_eq!((bounded.ffn().len(), bounded.parent()), (11, None));
}

#[test]
fn skipped_and_pinned_axes_have_one_value() {
    let space = SearchSpace::build(
        &qwen3_32b(),
        &options(|o| {
            o.set_skip("layers,q_heads,kv_heads").unwrap();
            o.set_bounds("ffn=20000").unwrap();
        }),
    )
    .unwrap();
    assert_eq!((space.layers(), space.heads(), space.ffn()), (&[64][..], &[(64, 8)][..], &[20000][..]));
}

#[test]
fn prune_fractions_bound_width_and_depth() {
    let space =
        SearchSpace::build(&qwen3_32b(), &options(|o| (o.max_width_prune, o.max_depth_prune) = (0.4, 0.2)))
            .unwrap();
    assert_eq!((space.hidden()[0], space.layers()[0]), (3072, 52));
    let ten = Architecture::uniform(10, 1024, 1024, 10, 10, 64);
    let space = SearchSpace::build(&ten, &options(|o| o.max_depth_prune = 0.3)).unwrap();
    assert_eq!(space.layers(), [7, 8, 9, 10]);
}

#[test]
fn several_tp_degrees_hold_at_once() {
    let both = SearchSpace::build(&qwen3_32b(), &options(|o| o.tp = vec![2, 8])).unwrap();
    assert_eq!(both.heads(), [(32, 4), (32, 8), (40, 8), (48, 8), (56, 8), (64, 8)]);
}

#[test]
fn every_defect_is_its_own_error() {
    let parent = qwen3_32b();
    let bounds = |low, high| Some(Bounds { low, high });
    for (low, high) in [(0, 5120), (5120, 4096), (4096, 5376)] {
        let found = refused(&parent, |o| o.bounds.hidden = bounds(low, high));
        assert_eq!(found, SpaceError::BoundsOutsideParent { axis: Axis::Hidden, low, high, parent: 5120 });
    }
    assert_eq!(refused(&parent, |o| o.multiples.ffn = 0), SpaceError::MultipleZero { axis: Axis::Ffn });
    assert_eq!(refused(&parent, |o| o.tp = vec![0]), SpaceError::TpZero);
    for found in [1.0, -0.1, f64::INFINITY] {
        assert_eq!(
            refused(&parent, |o| o.max_depth_prune = found),
            SpaceError::NotAFraction { what: "depth", found }
        );
    }
    assert!(matches!(
        refused(&parent, |o| o.max_width_prune = f64::NAN),
        SpaceError::NotAFraction { what: "width", .. }
    ));
    let empty = refused(&parent, |o| o.bounds.hidden = bounds(4097, 4100));
    assert!(matches!(empty, SpaceError::EmptyAxis { axis: Axis::Hidden, low: 4097, high: 4100, .. }));
    let pairs = refused(&parent, |o| (o.bounds.q_heads, o.bounds.kv_heads) = (bounds(64, 64), bounds(5, 7)));
    assert_eq!(pairs, SpaceError::NoHeadPair { q_heads: vec![64], kv_heads: vec![5, 6, 7], group: 8 });
    let both = refused(&parent, |o| {
        o.skip.insert(Axis::Ffn);
        o.bounds.ffn = bounds(512, 1024);
    });
    assert_eq!(both, SpaceError::SkippedAndBounded { axis: Axis::Ffn });
}

#[test]
fn unusable_parents_and_spaces_are_refused() {
    let layer = |ffn| LayerShape { ffn, q_heads: 8, kv_heads: 8 };
    let uneven =
        Architecture { hidden: 512, head_dim: 64, layers: Layers::PerLayer(vec![layer(512), layer(1024)]) };
    assert_eq!(refused(&uneven, |_| ()), SpaceError::NotUniform);
    let hollow = Architecture::uniform(2, 512, 0, 8, 8, 64);
    assert_eq!(refused(&hollow, |_| ()), SpaceError::ParentZero { axis: Axis::Ffn });
    let fourteen = Architecture::uniform(24, 896, 4864, 14, 2, 64);
    assert_eq!(
        refused(&fourteen, |o| o.tp = vec![4]),
        SpaceError::ParentIndivisible { axis: Axis::QHeads, value: 14, tp: 4, divides: vec![1, 2] }
    );
    let absurd = Architecture::uniform(u64::MAX, 896, 4864, 14, 2, 64);
    assert!(matches!(refused(&absurd, |_| ()), SpaceError::TooLarge { .. }));
    let wide = Architecture::uniform(100_000, 1 << 16, 1 << 16, 8, 8, 64);
    assert!(matches!(
        refused(&wide, |o| (o.multiples.hidden, o.multiples.ffn) = (1, 1)),
        SpaceError::TooLarge { limit: 10_000_000_000, .. }
    ));
}

#[test]
fn the_table_names_every_axis_and_the_size() {
    let text = SearchSpace::build(&qwen3_32b(), &options(|o| o.tp = vec![4])).unwrap().to_string();
    for part in ["layers", "hidden size", "FFN width", "query heads", "KV heads", "56,628 shapes"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.contains("2560 … 5120"), "{text}");
}

proptest! {
    #[test]
    fn rank_index_and_architecture_agree(
        layers in 1u64..12, hidden in 1u64..2000, ffn in 1u64..3000, kv in 1u64..9, group in 1u64..5,
        multiple in 1u64..300, prune in 0.0f64..0.99, merge_kv: bool,
    ) {
        let parent = Architecture::uniform(layers, hidden, ffn, kv * group, kv, 64);
        let space = SearchSpace::build(&parent, &options(|o| {
            (o.multiples.hidden, o.multiples.ffn) = (multiple, multiple + 7);
            (o.max_width_prune, o.max_depth_prune, o.merge_kv) = (prune, prune, merge_kv);
        })).unwrap();
        prop_assert!(space.parent().is_some());
        let counts = space.counts();
        let mut seen = BTreeSet::new();
        for rank in (0..space.size()).step_by(1 + (space.size() / 500) as usize) {
            let index = counts.at(rank).unwrap();
            prop_assert_eq!(counts.rank(index), rank);
            let architecture = space.architecture(index).unwrap();
            prop_assert_eq!(space.index_of(&architecture), Some(index));
            let shape = architecture.uniform_shape().unwrap();
            prop_assert!(shape.q_heads.is_multiple_of(shape.kv_heads) && shape.ffn <= ffn && architecture.hidden <= hidden);
            let fresh = seen.insert((architecture.depth(), architecture.hidden, shape.ffn, shape.q_heads, shape.kv_heads));
            prop_assert!(fresh);
        }
        prop_assert_eq!(counts.at(space.size()), None);
    }
}
