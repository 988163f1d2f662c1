//! Which points to measure: those that leave the least doubt over all shapes of the relative's tables.
//!
//! Greedy: each next point is the one whose measurement would lower the summed variance of the prior over the candidates
//! the most. That spreads them over the space, thinly where the prior knows much, and keeps away from corners few shapes
//! are near.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::carried::correction::{Prior, Site};
use crate::hardware::latency::kernel_model::lattice::Coordinates;
use crate::hardware::profile::device::Device;
use crate::hardware::transfer::constants::FamilyConstants;
use crate::units::{Bytes, DType};

/// Shapes that are looked at, drawn from all.
const CANDIDATES: usize = 700;

/// Chooses `wanted` of the shapes (fewer if there are fewer) for a device, in the order in which they help; which shapes
/// are looked at goes by `seed`.
pub fn choose(
    shapes: &[Coordinates],
    (family, dtype): (KernelFamily, DType),
    device: &Device,
    constants: &FamilyConstants,
    wanted: usize,
    seed: u64,
) -> Vec<Coordinates> {
    let Some(law) = constants.law(dtype) else { return Vec::new() };
    let mut drawn = shapes.to_vec();
    drawn.sort_unstable();
    drawn.dedup();
    drawn.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    drawn.truncate(CANDIDATES.max(wanted));
    let cache = device.l2.unwrap_or(Bytes(0.0));
    let site = |at: &Coordinates| Site::new(dtype, at, &axes::call(family, dtype, at), &law, device, cache);
    let sites: Vec<Site> = drawn.iter().map(site).collect();
    greedy(&sites, &constants.prior, wanted).into_iter().map(|i| drawn[i]).collect()
}

fn greedy(sites: &[Site], prior: &Prior, wanted: usize) -> Vec<usize> {
    let mut doubt: Vec<Vec<f64>> =
        sites.iter().map(|a| sites.iter().map(|b| prior.between(a, b)).collect()).collect();
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < wanted.min(sites.len()) {
        let gain = |i: usize| doubt[i].iter().map(|c| c * c).sum::<f64>() / (doubt[i][i] + prior.own);
        let free = (0..sites.len()).filter(|i| !chosen.contains(i));
        let Some(best) = free.map(|i| (i, gain(i))).max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
        let best = best.0;
        let column = doubt[best].clone();
        let weight = 1.0 / (column[best] + prior.own);
        for (row, own) in doubt.iter_mut().zip(&column) {
            row.iter_mut().zip(&column).for_each(|(cell, other)| *cell -= own * other * weight);
        }
        chosen.push(best);
    }
    chosen
}

/// Sets of chosen shapes by element type.
pub type Chosen = BTreeMap<DType, Vec<Coordinates>>;
