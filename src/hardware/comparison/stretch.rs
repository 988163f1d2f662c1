//! Stretches of an axis: decades, or equal parts of them; and a sample that is the same every time.

use std::collections::BTreeMap;

use serde::Serialize;

/// From `low` up to, but not including, `high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stretch {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Deals items into stretches by their place on an axis, `per_decade` of them to a factor of ten, in ascending
/// order. Items whose place is no positive finite number are left out; empty stretches are absent.
pub fn deal<T>(items: impl IntoIterator<Item = (f64, T)>, per_decade: u32) -> Vec<(Stretch, Vec<T>)> {
    let parts = f64::from(per_decade.max(1));
    let mut dealt: BTreeMap<i64, Vec<T>> = BTreeMap::new();
    for (place, item) in items {
        if place > 0.0 && place.is_finite() {
            // A power of ten may come out of the logarithm a little too low.
            dealt.entry((place.log10() * parts + 1e-9).floor() as i64).or_default().push(item);
        }
    }
    let end = |index: i64| 10f64.powf(index as f64 / parts);
    dealt.into_iter().map(|(i, items)| (Stretch { low: end(i), high: end(i + 1) }, items)).collect()
}

/// Indices of at most `most` of `n` things, ascending: those whose hash is smallest, so that no pattern of the
/// order is picked out and the pick is always the same.
pub fn pick(n: usize, most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    if n > most {
        order.sort_by_key(|&i| (hash(i as u64), i));
        order.truncate(most);
        order.sort_unstable();
    }
    order
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
fn hash(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_ten_open_a_stretch() {
        let places = [1.0, 9.99, 10.0, 99.0, 1000.0, 0.0, f64::NAN, 0.1];
        let dealt = deal(places.iter().map(|&x| (x, x)), 1);
        let shown: Vec<(f64, Vec<f64>)> = dealt.into_iter().map(|(s, items)| (s.low, items)).collect();
        assert_eq!(
            shown,
            [(0.1, vec![0.1]), (1.0, vec![1.0, 9.99]), (10.0, vec![10.0, 99.0]), (1000.0, vec![1000.0])]
        );
        let halves = deal([3.0, 4.0].map(|x| (x, x)), 2);
        assert_eq!(halves.len(), 2, "the square root of ten lies between them");
        assert!((halves[1].0.low - 10f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_pick_is_ascending_fixed_and_spread_out() {
        assert_eq!(pick(3, 5), [0, 1, 2]);
        let picked = pick(1000, 100);
        assert_eq!(picked.len(), 100);
        assert!(picked.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(picked, pick(1000, 100));
        let first_half = picked.iter().filter(|&&i| i < 500).count();
        assert!((35..=65).contains(&first_half), "{first_half}");
    }
}
