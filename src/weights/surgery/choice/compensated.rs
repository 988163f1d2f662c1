//! Which neurons stay, chosen together with the least-squares weights that make up for the others.
//!
//! With the inputs `h` of the down projection `W`, `C = sum h h^T`: what is kept, `S`, is to lose least after compensation,
//! `min over S, W' of sum |W h - W' h_S|^2`. Two ways; both need Gram matrices.

use faer::linalg::solvers::{DenseSolveCore, Solve};
use faer::{Mat, MatRef, Side};

use crate::model::tensors::Role;
use crate::search::solver::masks::project;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::importance::criteria::Criterion;
use crate::weights::importance::rankings::top;
use crate::weights::importance::statistics::Sums;
use crate::weights::network::layer::Linear;
use crate::weights::surgery::cut::Cut;
use crate::weights::surgery::error::SurgeryError;

/// Ridge, as a share of the inputs' mean square.
const RIDGE: f64 = 1e-4;
/// Neurons that are removed at once: one in so many of those left.
const AT_ONCE: usize = 128;
/// Alternations of mask and weights.
const ROUNDS: usize = 20;
/// Steps of the mask between two changes of the weights.
const STEPS: usize = 20;
/// Ridge on the weights of a mask that is not yet decided, as a share of the inputs' mean square.
const SOFT_RIDGE: f64 = 1e-2;
/// The penalty at the end, in units of the mask's mean curvature.
const PENALTY: f64 = 5.0;

/// Chooses the neurons of every narrowed layer anew, for criteria that do so with the compensation.
///
/// # Errors
/// Gram matrices that are missing; a tensor that cannot be read.
pub fn refine(
    parent: &Checkpoint,
    sums: &Sums,
    criterion: Criterion,
    cut: &mut Cut,
) -> Result<(), SurgeryError> {
    if !criterion.is_compensated() {
        return Ok(());
    }
    let shapes: Vec<_> = parent.spec().architecture.layer_shapes().collect();
    for layer in &mut cut.layers {
        let width = shapes.get(layer.parent as usize).map_or(0, |shape| shape.ffn as usize);
        if layer.ffn.is_empty() || layer.ffn.len() >= width {
            continue;
        }
        let grams = sums.layers.get(layer.parent as usize).and_then(|of| of.grams.as_ref());
        let grams = grams.ok_or(SurgeryError::NoGrams { criterion })?;
        let Some(tensor) = parent.get(Role::Down, Some(layer.parent))? else { continue };
        let (outputs, inputs) = (tensor.rows(), tensor.row_len());
        let down = Linear { outputs, inputs, weight: tensor.to_f32()?, bias: None };
        layer.ffn = choose(criterion, &down.rows(&cut.hidden), &grams.ffn_hidden, layer.ffn.len());
    }
    Ok(())
}

/// The `keep` neurons of a down projection that stay, ascending. `gram` is that of its inputs, `[inputs, inputs]`.
pub fn choose(criterion: Criterion, down: &Linear, gram: &[f32], keep: usize) -> Vec<u32> {
    let width = down.inputs;
    let at = |of: &[f32], i: usize, j: usize| of.get(i * width + j).map_or(0.0, |x| f64::from(*x));
    let weight = Mat::from_fn(down.outputs, width, |i, j| at(&down.weight, i, j));
    let gram = Mat::from_fn(width, width, |i, j| at(gram, i, j));
    match criterion {
        Criterion::Spap => alternated(weight.as_ref(), gram.as_ref(), keep),
        _ => eliminated(weight, gram.as_ref(), keep),
    }
}

fn ridged(gram: MatRef<'_, f64>, share: f64) -> Mat<f64> {
    let width = gram.ncols();
    let mean = (0..width).map(|j| gram[(j, j)]).sum::<f64>() / width.max(1) as f64;
    Mat::from_fn(width, width, |i, j| gram[(i, j)] + if i == j { share * mean } else { 0.0 })
}

/// Backward elimination: the neurons whose loss costs least once the others make up for it, `|W_:j|^2 / (C^-1)_jj`, go; the
/// weights of the others and the inverse are brought up to date (optimal brain surgeon, Hassibi and Stork 1993, with
/// columns for weights).
fn eliminated(mut weight: Mat<f64>, gram: MatRef<'_, f64>, keep: usize) -> Vec<u32> {
    let width = gram.ncols();
    let mut left: Vec<u32> = (0..width as u32).collect();
    let Ok(factor) = ridged(gram, RIDGE).llt(Side::Lower) else { return top(&energies(&weight, gram), keep) };
    let mut inverse = factor.inverse();
    while left.len() > keep {
        let costs: Vec<f64> =
            (0..left.len()).map(|j| -weight.col(j).squared_norm_l2() / inverse[(j, j)]).collect();
        let count = (left.len() / AT_ONCE).max(1).min(left.len() - keep);
        let gone: Vec<usize> = top(&costs, count).into_iter().map(|j| j as usize).collect();
        let stays: Vec<usize> = (0..left.len()).filter(|j| gone.binary_search(j).is_err()).collect();
        let pick = |of: MatRef<'_, f64>, rows: &[usize], columns: &[usize]| {
            Mat::from_fn(rows.len(), columns.len(), |i, j| of[(rows[i], columns[j])])
        };
        let all: Vec<usize> = (0..weight.nrows()).collect();
        let corner = pick(inverse.as_ref(), &gone, &gone);
        let across = pick(inverse.as_ref(), &gone, &stays);
        let Ok(corner) = corner.llt(Side::Lower) else { return top(&energies(&weight, gram), keep) };
        let solved = corner.solve(&across);
        weight = pick(weight.as_ref(), &all, &stays) - pick(weight.as_ref(), &all, &gone) * &solved;
        inverse = pick(inverse.as_ref(), &stays, &stays) - across.transpose() * &solved;
        left = stays.iter().filter_map(|j| left.get(*j).copied()).collect();
    }
    left
}

/// What each neuron adds by itself, `sum_i |W_ij| sqrt(C_jj)`.
fn energies(weight: &Mat<f64>, gram: MatRef<'_, f64>) -> Vec<f64> {
    (0..weight.ncols()).map(|j| weight.col(j).norm_l1() * gram[(j, j)].max(0.0).sqrt()).collect()
}

/// A reconstruction of SPAP (arXiv 2505.03373), whose formulas are not to be had: a mask `s` between 0 and 1 that adds up to
/// `keep` and the weights `W'` minimise `sum |W h - W' (s * h)|^2 + rho sum s (1 - s)` in turn, `rho` growing until the mask
/// is decided.
fn alternated(weight: MatRef<'_, f64>, gram: MatRef<'_, f64>, keep: usize) -> Vec<u32> {
    let width = gram.ncols();
    let begun = energies(&weight.to_owned(), gram);
    let most = begun.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut mask: Vec<f64> = begun.iter().map(|x| x / most).collect();
    let shift = |mask: &mut [f64]| project(mask, keep as f64);
    shift(&mut mask);
    let wanted = weight * gram;
    let mean = (0..width).map(|j| gram[(j, j)]).sum::<f64>() / width.max(1) as f64;
    for round in 0..ROUNDS {
        let masked = Mat::from_fn(width, width, |i, j| {
            mask[i] * gram[(i, j)] * mask[j] + if i == j { SOFT_RIDGE * mean } else { 0.0 }
        });
        let aim = Mat::from_fn(width, weight.nrows(), |i, j| mask[i] * wanted[(j, i)]);
        let Ok(factor) = masked.llt(Side::Lower) else { break };
        let weights = factor.solve(&aim);
        let inner = &weights * weights.transpose();
        let curvature = Mat::from_fn(width, width, |i, j| inner[(i, j)] * gram[(i, j)]);
        let pull: Vec<f64> =
            (0..width).map(|j| (0..weight.nrows()).map(|i| weights[(j, i)] * wanted[(i, j)]).sum()).collect();
        let bend = (0..width).map(|j| curvature[(j, j)]).sum::<f64>() / width.max(1) as f64;
        let grown = (round as f64 / ROUNDS as f64).powi(2);
        descend(&mut mask, &curvature, &pull, PENALTY * grown * bend, &shift);
    }
    top(&mask, keep)
}

/// Projected gradient steps on `s^T Q s - 2 b^T s + rho sum s (1 - s)`.
fn descend(mask: &mut [f64], curvature: &Mat<f64>, pull: &[f64], rho: f64, shift: &dyn Fn(&mut [f64])) {
    // The largest row sum bounds the largest eigenvalue.
    let row = |i: usize| (0..mask.len()).map(|j| curvature[(i, j)].abs()).sum::<f64>();
    let steepest = 2.0 * (0..mask.len()).map(row).fold(f64::MIN_POSITIVE, f64::max);
    for _ in 0..STEPS {
        let gradient: Vec<f64> = (0..mask.len())
            .map(|i| {
                let through: f64 = mask.iter().enumerate().map(|(j, s)| curvature[(i, j)] * s).sum();
                2.0 * (through - pull[i]) + rho * (1.0 - 2.0 * mask[i])
            })
            .collect();
        mask.iter_mut().zip(&gradient).for_each(|(s, g)| *s -= g / steepest);
        shift(mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// What a choice loses after compensation, as a share of all.
    fn lost(weight: &Mat<f64>, gram: &Mat<f64>, kept: &[u32]) -> f64 {
        let k: Vec<usize> = kept.iter().map(|j| *j as usize).collect();
        let inner = Mat::from_fn(k.len(), k.len(), |i, j| gram[(k[i], k[j])]);
        let wanted = weight * gram;
        let aim = Mat::from_fn(k.len(), weight.nrows(), |i, j| wanted[(j, k[i])]);
        let solved = ridged(inner.as_ref(), 1e-9).llt(Side::Lower).unwrap().solve(&aim);
        let energy = |a: &Mat<f64>, b: &Mat<f64>| -> f64 {
            (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| (i, j))).map(|at| a[at] * b[at]).sum()
        };
        let all = energy(&wanted, weight);
        (all - energy(&aim, &solved)) / all
    }

    fn drawn(seed: u64) -> (Linear, Vec<f32>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (width, outputs, tokens) = (12, 4, 200);
        // Neurons in pairs that say nearly the same.
        let mut gram = vec![0.0f32; width * width];
        for _ in 0..tokens {
            let base: Vec<f32> = (0..width / 2).map(|_| rng.random::<f32>() - 0.4).collect();
            let h: Vec<f32> = (0..width)
                .map(|j| base[j / 2] + 0.5 * (rng.random::<f32>() - 0.5) * (j % 3) as f32)
                .collect();
            for i in 0..width {
                for j in 0..width {
                    gram[i * width + j] += h[i] * h[j];
                }
            }
        }
        let weight = (0..outputs * width).map(|_| rng.random::<f32>() - 0.5).collect();
        (Linear { outputs, inputs: width, weight, bias: None }, gram)
    }

    #[test]
    fn neurons_are_chosen_with_what_makes_up_for_the_others() {
        let (mut ranks, mut totals) = (Vec::new(), [0.0; 4]);
        for seed in 0..12 {
            let (down, gram) = drawn(seed);
            let weight = Mat::from_fn(4, 12, |i, j| f64::from(down.weight[i * 12 + j]));
            let matrix = Mat::from_fn(12, 12, |i, j| f64::from(gram[i * 12 + j]));
            let half = (0u32..1 << 12).filter(|bits| bits.count_ones() == 6);
            let subsets = half.map(|bits| (0..12).filter(|j| bits >> j & 1 == 1).collect::<Vec<u32>>());
            let all: Vec<f64> = subsets.map(|kept| lost(&weight, &matrix, &kept)).collect();
            let least = all.iter().copied().fold(f64::INFINITY, f64::min);
            let loss = |kept: Vec<u32>| lost(&weight, &matrix, &kept);
            let found = loss(choose(Criterion::Compensated, &down, &gram, 6));
            ranks.push(all.iter().filter(|other| **other < found - 1e-12).count());
            let alone = loss(top(&energies(&weight, matrix.as_ref()), 6));
            let spap = loss(choose(Criterion::Spap, &down, &gram, 6));
            totals.iter_mut().zip([least, found, spap, alone]).for_each(|(total, of)| *total += of);
        }
        ranks.sort_unstable();
        println!("{ranks:?} {totals:?}");
        let [least, found, spap, alone] = totals;
        assert!(ranks[6] == 0 && ranks[11] < 46, "of 924: {ranks:?}");
        assert!(found < 1.1 * least && spap < alone && found <= spap, "{totals:?}");
    }
}
