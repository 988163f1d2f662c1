//! A uniform random sample of a stream that depends on what is in it, not on the order it comes in.

use std::collections::BinaryHeap;

/// The `size` members whose hashes are smallest (a bottom-k sample).
#[derive(Clone, Debug)]
pub struct Sample {
    size: usize,
    seed: u64,
    kept: BinaryHeap<(u64, u64)>,
}

impl Sample {
    /// An empty sample of at most `size` members.
    pub fn new(size: usize, seed: u64) -> Self {
        Self { size, seed, kept: BinaryHeap::new() }
    }

    /// Shows it a member.
    #[inline]
    pub fn offer(&mut self, member: u64) {
        let hash = mix(member ^ self.seed);
        if self.kept.len() < self.size || self.kept.peek().is_some_and(|largest| hash < largest.0) {
            self.keep(hash, member);
        }
    }

    /// Takes in another sample of the same size and seed.
    pub fn merge(&mut self, other: Sample) {
        other.kept.into_iter().for_each(|(_, member)| self.offer(member));
    }

    /// The members.
    pub fn members(&self) -> impl Iterator<Item = u64> {
        self.kept.iter().map(|(_, member)| *member)
    }

    #[cold]
    fn keep(&mut self, hash: u64, member: u64) {
        if self.kept.len() == self.size {
            self.kept.pop();
        }
        self.kept.push((hash, member));
    }
}

/// SplitMix64's output function (Steele, Lea, Flood 2014): a bijection that scatters near numbers.
#[inline]
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(sample: &Sample) -> Vec<u64> {
        let mut members: Vec<u64> = sample.members().collect();
        members.sort_unstable();
        members
    }

    #[test]
    fn keeps_all_when_few_and_the_same_ones_in_any_order_when_many() {
        let mut few = Sample::new(10, 7);
        (0..5).for_each(|i| few.offer(i));
        assert_eq!(sorted(&few), [0, 1, 2, 3, 4]);
        let (mut forward, mut left, mut right) = (Sample::new(50, 7), Sample::new(50, 7), Sample::new(50, 7));
        (0..10_000).for_each(|i| forward.offer(i));
        (0..3_000).rev().for_each(|i| left.offer(i));
        (3_000..10_000).rev().for_each(|i| right.offer(i));
        left.merge(right);
        assert_eq!((sorted(&forward).len(), sorted(&left)), (50, sorted(&forward)));
        let mut none = Sample::new(0, 7);
        none.offer(1);
        assert_eq!(sorted(&none), [0u64; 0]);
    }

    #[test]
    fn is_spread_evenly() {
        let mut sample = Sample::new(1000, 3);
        (0..100_000).for_each(|i| sample.offer(i));
        for tenth in 0..10 {
            let count = sample.members().filter(|m| m / 10_000 == tenth).count();
            // Binomial(1000, 0.1): standard deviation 9.5.
            assert!((60..=140).contains(&count), "{count} in tenth {tenth}");
        }
    }
}
