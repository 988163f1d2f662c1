//! Ridge regression of a linear layer towards the weights it has.
//!
//! With inputs `x`, targets `t` and sliced weights `W0`: minimise `sum |t - W x - b|^2 + lambda |W - W0|^2`, i.e.
//! `W = W0 + (B - W0 G)(G + lambda I)^-1`, `G = sum x x^T`, `B = sum t x^T` (FASP, arXiv 2501.09412, has the plain form).
//! How strong `lambda` is, and whether anything is gained at all, kept-out sequences decide.

use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef, Side};

use crate::weights::network::layer::Linear;
use crate::weights::surgery::repair::moments::{Inputs, Targets};

/// Strengths that are tried, as a share of the inputs' mean square.
const STRENGTHS: [f64; 5] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0];

/// What a refit may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freedom {
    /// One factor per output, and its bias.
    Affine,
    /// Every weight.
    Full,
    /// Every weight, and up and down projections in turn.
    Alternating,
}

/// Sums over the sequences to fit on, and over those that judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence<'a> {
    /// Inputs fitted on.
    pub inputs: &'a Inputs,
    /// Their targets.
    pub targets: &'a Targets,
    /// Inputs kept out.
    pub kept_out: &'a Inputs,
    /// Their targets.
    pub kept_out_targets: &'a Targets,
}

/// What a refit came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Strength chosen, as a share of the inputs' mean square; none where nothing helped.
    pub strength: Option<f64>,
    /// Squared error on kept-out sequences that is gone, per kept-out token (an absolute amount: the error itself is not
    /// known from the sums).
    pub gain: f64,
}

/// The sums, as matrices, about their means where the layer has a bias.
struct Normal {
    gram: Mat<f64>,
    cross: Mat<f64>,
    mean_input: Vec<f64>,
    mean_target: Vec<f64>,
}

impl Normal {
    fn of(inputs: &Inputs, targets: &Targets, centred: bool) -> Self {
        let n = inputs.tokens.max(1.0);
        let part = |sum: &[f64]| sum.iter().map(|s| if centred { s / n } else { 0.0 }).collect::<Vec<f64>>();
        let (mean_input, mean_target) = (part(&inputs.sum), part(&targets.sum));
        let at = |x: &[f32], i: usize| x.get(i).map_or(0.0, |x| f64::from(*x));
        let width = inputs.width;
        let mean = |of: &[f64], i: usize| of.get(i).copied().unwrap_or(0.0);
        let gram = Mat::from_fn(width, width, |i, j| {
            at(&inputs.gram, i * width + j) - n * mean(&mean_input, i) * mean(&mean_input, j)
        });
        let cross = Mat::from_fn(targets.width, width, |i, j| {
            at(&targets.cross, i * width + j) - n * mean(&mean_target, i) * mean(&mean_input, j)
        });
        Self { gram, cross, mean_input, mean_target }
    }
}

/// Refits `linear`; left alone where kept-out sequences gain nothing.
pub fn refit(linear: &mut Linear, evidence: &Evidence<'_>, freedom: Freedom) -> Outcome {
    let centred = linear.bias.is_some();
    let normal = Normal::of(evidence.inputs, evidence.targets, centred);
    let judge = Judge::new(evidence);
    let start = matrix(linear);
    let bias: Option<Vec<f64>> = linear.bias.as_ref().map(|b| b.iter().map(|x| f64::from(*x)).collect());
    let before = judge.error(start.as_ref(), bias.as_deref());
    let mut best: Option<(f64, f64, Mat<f64>)> = None;
    for strength in STRENGTHS {
        let Some(weight) = solve(&normal, start.as_ref(), strength, freedom) else { continue };
        let bias = centred.then(|| intercept(&normal, weight.as_ref()));
        let error = judge.error(weight.as_ref(), bias.as_deref());
        if error.is_finite() && error < best.as_ref().map_or(before, |(least, ..)| *least) {
            best = Some((error, strength, weight));
        }
        if freedom == Freedom::Affine {
            break;
        }
    }
    let Some((error, strength, chosen)) = best else { return Outcome { strength: None, gain: 0.0 } };
    // The strength is chosen: what was kept out to choose it may now be fitted on as well.
    let inputs = evidence.inputs.with(evidence.kept_out);
    let normal = Normal::of(&inputs, &evidence.targets.with(evidence.kept_out_targets), centred);
    let weight = solve(&normal, start.as_ref(), strength, freedom).unwrap_or(chosen);
    let new_bias = centred.then(|| intercept(&normal, weight.as_ref()));
    put(linear, &weight);
    linear.bias = new_bias.map(|b| b.into_iter().map(|x| x as f32).collect());
    Outcome { strength: Some(strength), gain: (before - error) / evidence.kept_out.tokens.max(1.0) }
}

/// Refits `linear`, which has no bias, with a given ridge.
pub fn refit_at(linear: &mut Linear, inputs: &Inputs, targets: &Targets, strength: f64, freedom: Freedom) {
    let normal = Normal::of(inputs, targets, false);
    if let Some(weight) = solve(&normal, matrix(linear).as_ref(), strength, freedom) {
        put(linear, &weight);
    }
}

fn matrix(linear: &Linear) -> Mat<f64> {
    Mat::from_fn(linear.outputs, linear.inputs, |i, j| {
        linear.weight.get(i * linear.inputs + j).map_or(0.0, |w| f64::from(*w))
    })
}

fn put(linear: &mut Linear, weight: &Mat<f64>) {
    for (at, value) in linear.weight.iter_mut().enumerate() {
        *value = weight[(at / linear.inputs, at % linear.inputs)] as f32;
    }
}

fn solve(normal: &Normal, start: MatRef<'_, f64>, strength: f64, freedom: Freedom) -> Option<Mat<f64>> {
    let width = start.ncols();
    match freedom {
        Freedom::Affine => {
            let through = start * &normal.gram;
            let factor = |i: usize| {
                let energy: f64 = (0..width).map(|j| through[(i, j)] * start[(i, j)]).sum();
                let wanted: f64 = (0..width).map(|j| normal.cross[(i, j)] * start[(i, j)]).sum();
                if energy > 0.0 { wanted / energy } else { 1.0 }
            };
            let factors: Vec<f64> = (0..start.nrows()).map(factor).collect();
            Some(Mat::from_fn(start.nrows(), width, |i, j| {
                start[(i, j)] * factors.get(i).copied().unwrap_or(1.0)
            }))
        }
        Freedom::Full | Freedom::Alternating => {
            let mean = (0..width).map(|j| normal.gram[(j, j)]).sum::<f64>() / width.max(1) as f64;
            let ridged = Mat::from_fn(width, width, |i, j| {
                normal.gram[(i, j)] + if i == j { strength * mean } else { 0.0 }
            });
            let residual = &normal.cross - start * &normal.gram;
            let factor = ridged.llt(Side::Lower).ok()?;
            let step = factor.solve(residual.transpose());
            Some(start + step.transpose())
        }
    }
}

fn intercept(normal: &Normal, weight: MatRef<'_, f64>) -> Vec<f64> {
    let row = |(i, target): (usize, &f64)| {
        let through: f64 = normal.mean_input.iter().enumerate().map(|(j, x)| weight[(i, j)] * x).sum();
        target - through
    };
    normal.mean_target.iter().enumerate().map(row).collect()
}

/// The squared error on kept-out tokens, less the targets' own energy (the same for all).
struct Judge<'a> {
    normal: Normal,
    inputs: &'a Inputs,
    targets: &'a Targets,
}

impl<'a> Judge<'a> {
    fn new(evidence: &Evidence<'a>) -> Self {
        let (inputs, targets) = (evidence.kept_out, evidence.kept_out_targets);
        Self { normal: Normal::of(inputs, targets, false), inputs, targets }
    }

    fn error(&self, weight: MatRef<'_, f64>, bias: Option<&[f64]>) -> f64 {
        let through = weight * &self.normal.gram;
        let mut total = 0.0;
        for i in 0..weight.nrows() {
            let b = bias.and_then(|b| b.get(i)).copied().unwrap_or(0.0);
            let target = self.targets.sum.get(i).copied().unwrap_or(0.0);
            let mut passed = 0.0;
            for (j, sum) in self.inputs.sum.iter().enumerate() {
                total += weight[(i, j)] * (through[(i, j)] - 2.0 * self.normal.cross[(i, j)]);
                passed += weight[(i, j)] * sum;
            }
            total += b * (2.0 * (passed - target) + b * self.inputs.tokens);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Tokens drawn at random, with targets `true_weight x + 0.5` and a little noise.
    fn drawn(rng: &mut ChaCha8Rng, tokens: usize, truth: &[f32], width: usize) -> (Inputs, Targets) {
        let outputs = truth.len() / width;
        let x: Vec<f32> = (0..tokens * width).map(|_| rng.random::<f32>() - 0.3).collect();
        let mut t = Vec::new();
        for row in x.chunks(width) {
            for weights in truth.chunks(width) {
                let clean: f32 = weights.iter().zip(row).map(|(w, x)| w * x).sum();
                t.push(clean + 0.5 + 0.01 * (rng.random::<f32>() - 0.5));
            }
        }
        let (mut inputs, mut targets) = (Inputs::new(width), Targets::new(outputs, width));
        inputs.add(&x).unwrap();
        targets.add(&t, &x, width).unwrap();
        (inputs, targets)
    }

    fn linear(weight: Vec<f32>, width: usize, bias: bool) -> Linear {
        let outputs = weight.len() / width;
        Linear { outputs, inputs: width, weight, bias: bias.then(|| vec![0.0; outputs]) }
    }

    #[test]
    fn the_truth_is_found_from_a_wrong_start_and_a_right_one_is_left() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (width, outputs) = (12, 5);
        let truth: Vec<f32> = (0..width * outputs).map(|_| rng.random::<f32>() - 0.5).collect();
        let (inputs, targets) = drawn(&mut rng, 600, &truth, width);
        let (kept_out, kept_out_targets) = drawn(&mut rng, 200, &truth, width);
        let evidence = Evidence {
            inputs: &inputs,
            targets: &targets,
            kept_out: &kept_out,
            kept_out_targets: &kept_out_targets,
        };
        let mut wrong = linear(vec![0.0; width * outputs], width, true);
        let outcome = refit(&mut wrong, &evidence, Freedom::Full);
        assert!(outcome.gain > 0.0 && outcome.strength == Some(1e-4), "{outcome:?}");
        for (found, wanted) in wrong.weight.iter().zip(&truth) {
            assert!((found - wanted).abs() < 0.01, "{found} {wanted}");
        }
        assert!(wrong.bias.unwrap().iter().all(|b| (b - 0.5).abs() < 0.01));

        let mut right = linear(truth.clone(), width, true);
        right.bias = Some(vec![0.5; outputs]);
        refit(&mut right, &evidence, Freedom::Full);
        assert!(right.weight.iter().zip(&truth).all(|(found, wanted)| (found - wanted).abs() < 0.002));

        let mut scaled = linear(truth.iter().map(|w| w * 0.25).collect(), width, true);
        refit(&mut scaled, &evidence, Freedom::Affine);
        assert!(scaled.weight.iter().zip(&truth).all(|(found, wanted)| (found - wanted).abs() < 0.01));
    }

    /// `min_W sum |t - W x|^2 + ridge |W - W0|^2` by gradient descent in f64.
    fn descended(x: &[f64], t: &[f64], start: &[f64], ridge: f64, width: usize) -> Vec<f64> {
        let mut w = start.to_vec();
        for _ in 0..20_000 {
            let mut gradient: Vec<f64> = w.iter().zip(start).map(|(w, s)| ridge * (w - s)).collect();
            for (x, t) in x.chunks(width).zip(t) {
                let error: f64 = w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() - t;
                gradient.iter_mut().zip(x).for_each(|(g, x)| *g += error * x);
            }
            w.iter_mut().zip(&gradient).for_each(|(w, g)| *w -= 0.01 * g);
        }
        w
    }

    #[test]
    fn the_solution_is_the_minimum_of_its_formula() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let width = 4;
        let x: Vec<f32> = (0..20 * width).map(|_| rng.random::<f32>() - 0.5).collect();
        let t: Vec<f32> = (0..20).map(|_| rng.random::<f32>()).collect();
        let start: Vec<f32> = (0..width).map(|_| rng.random::<f32>()).collect();
        let (mut inputs, mut targets) = (Inputs::new(width), Targets::new(1, width));
        inputs.add(&x).unwrap();
        targets.add(&t, &x, width).unwrap();
        let normal = Normal::of(&inputs, &targets, false);
        let mean = (0..width).map(|j| normal.gram[(j, j)]).sum::<f64>() / width as f64;
        let begun = Mat::from_fn(1, width, |_, j| f64::from(start[j]));
        let solved = solve(&normal, begun.as_ref(), 0.1, Freedom::Full).unwrap();
        let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let found = descended(&wide(&x), &wide(&t), &wide(&start), 0.1 * mean, width);
        for j in 0..width {
            assert!((solved[(0, j)] - found[j]).abs() < 1e-5, "{} {}", solved[(0, j)], found[j]);
        }
    }

    #[test]
    fn the_judge_counts_squared_errors() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let (width, tokens) = (3, 40);
        let x: Vec<f32> = (0..tokens * width).map(|_| rng.random::<f32>()).collect();
        let t: Vec<f32> = (0..tokens * 2).map(|_| rng.random::<f32>()).collect();
        let (mut inputs, mut targets) = (Inputs::new(width), Targets::new(2, width));
        inputs.add(&x).unwrap();
        targets.add(&t, &x, width).unwrap();
        let evidence =
            Evidence { inputs: &inputs, targets: &targets, kept_out: &inputs, kept_out_targets: &targets };
        let weight = Mat::from_fn(2, width, |i, j| (i + j) as f64 * 0.3);
        let bias = [0.2, -0.1];
        let mut expected = 0.0;
        for (x, t) in x.chunks(width).zip(t.chunks(2)) {
            for i in 0..2 {
                let y: f64 = (0..width).map(|j| weight[(i, j)] * f64::from(x[j])).sum::<f64>() + bias[i];
                expected += (y - f64::from(t[i])).powi(2) - f64::from(t[i]).powi(2);
            }
        }
        let found = Judge::new(&evidence).error(weight.as_ref(), Some(&bias));
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
}
