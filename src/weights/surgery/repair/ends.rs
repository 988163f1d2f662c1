//! Repairs what follows the last layer: the head where it has weights of its own, else the last norm's gain, in both
//! cases so that logits come closest to the parent's.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use crate::compute::product;
use crate::weights::network::block::rms_norm;
use crate::weights::network::layer::{Ends, Linear};
use crate::weights::surgery::error::SurgeryError;
use crate::weights::surgery::repair::lockstep::{Lockstep, Sides};
use crate::weights::surgery::repair::moments::{Inputs, Targets};
use crate::weights::surgery::repair::ridge::{Freedom, Outcome};

/// Strengths that are tried for the gain, as a share of the mean diagonal.
const STRENGTHS: [f64; 5] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0];
/// Rows of the vocabulary refitted at a time.
const ROWS: usize = 4096;

impl Lockstep<'_> {
    /// Refits the ends of the child; both streams must have passed the last layer.
    ///
    /// # Errors
    /// Sizes that do not fit each other.
    pub fn repair_ends(&mut self, parent: &Ends, child: &mut Ends) -> Result<Outcome, SurgeryError> {
        let [wide, narrow] = self.settings;
        let mut sides = Sides::new(narrow.hidden, wide.hidden);
        let (mut theirs, mut mine) = (Vec::new(), Vec::new());
        for chunk in &self.chunks {
            let [parents, childs] = &self.streams;
            let part = parents.get(Self::part(parents, chunk, wide.hidden)).unwrap_or_default();
            rms_norm(part, &parent.final_norm, wide.epsilon, &mut theirs)?;
            let part = childs.get(Self::part(childs, chunk, narrow.hidden)).unwrap_or_default();
            rms_norm(part, &child.final_norm, narrow.epsilon, &mut mine)?;
            sides.add(chunk.kept_out, &theirs, &mine)?;
        }
        match (&parent.head, &mut child.head) {
            (Some(of_parent), Some(head)) => refit_head(of_parent, head, &sides, self.freedom),
            _ => refit_gain(parent, child, &sides),
        }
    }
}

fn refit_head(
    of_parent: &[f32],
    head: &mut [f32],
    sides: &Sides,
    freedom: Freedom,
) -> Result<Outcome, SurgeryError> {
    let [inputs, kept_out] = &sides.inputs;
    let [targets, kept_out_targets] = &sides.targets;
    let mut total = Outcome { strength: None, gain: 0.0 };
    let rows = of_parent.chunks(ROWS * targets.width.max(1)).zip(head.chunks_mut(ROWS * inputs.width.max(1)));
    for (theirs, mine) in rows {
        let outputs = mine.len() / inputs.width.max(1);
        let mut linear = Linear { outputs, inputs: inputs.width, weight: mine.to_vec(), bias: None };
        let through =
            [targets.through(theirs, None, inputs)?, kept_out_targets.through(theirs, None, kept_out)?];
        let outcome = sides.refit(&mut linear, &through, freedom);
        mine.copy_from_slice(&linear.weight);
        total = Outcome { strength: outcome.strength.or(total.strength), gain: total.gain + outcome.gain };
    }
    Ok(total)
}

/// The gain's factors `f` minimise `sum |E_K diag(f) n - E m|^2` over tokens, `E` the embedding about its mean row (a shift
/// of all logits changes nothing), `n` and `m` the normed streams of child and parent.
fn refit_gain(parent: &Ends, child: &mut Ends, sides: &Sides) -> Result<Outcome, SurgeryError> {
    let [wide, narrow] = [parent.final_norm.len(), child.final_norm.len()];
    let [theirs, mine] = [centred(&parent.embedding, wide), centred(&child.embedding, narrow)];
    let mut own = vec![0.0; narrow * narrow];
    product::gram(&mine, narrow, &mut own)?;
    let mut between = vec![0.0; narrow * wide];
    product::cross(&mine, narrow, &theirs, wide, &mut between)?;
    let [fit, judge] =
        [0, 1].map(|side| equations(sides.inputs.get(side), sides.targets.get(side), &own, &between));
    let (Some(fit), Some(judge)) = (fit, judge) else { return Ok(Outcome { strength: None, gain: 0.0 }) };
    let error =
        |f: &Mat<f64>| (f.transpose() * &judge.0 * f)[(0, 0)] - 2.0 * (f.transpose() * &judge.1)[(0, 0)];
    let ones = Mat::from_fn(narrow, 1, |_, _| 1.0);
    let before = error(&ones);
    let mean = (0..narrow).map(|i| fit.0[(i, i)]).sum::<f64>() / narrow.max(1) as f64;
    let mut best: Option<(f64, f64, Mat<f64>)> = None;
    for strength in STRENGTHS {
        let ridge = strength * mean;
        let matrix = Mat::from_fn(narrow, narrow, |i, j| fit.0[(i, j)] + if i == j { ridge } else { 0.0 });
        let Ok(factor) = matrix.llt(Side::Lower) else { continue };
        let solved = factor.solve(&fit.1 + Mat::from_fn(narrow, 1, |_, _| ridge));
        let after = error(&solved);
        if after.is_finite() && after < best.as_ref().map_or(before, |(least, ..)| *least) {
            best = Some((after, strength, solved));
        }
    }
    let Some((after, strength, factors)) = best else { return Ok(Outcome { strength: None, gain: 0.0 }) };
    child.final_norm.iter_mut().enumerate().for_each(|(i, gain)| *gain *= factors[(i, 0)] as f32);
    let tokens = sides.inputs.get(1).map_or(1.0, |inputs| inputs.tokens.max(1.0));
    Ok(Outcome { strength: Some(strength), gain: (before - after) / tokens })
}

/// Matrix and right side for the factors.
fn equations(
    inputs: Option<&Inputs>,
    targets: Option<&Targets>,
    own: &[f32],
    between: &[f32],
) -> Option<(Mat<f64>, Mat<f64>)> {
    let (inputs, targets) = (inputs?, targets?);
    let (narrow, wide) = (inputs.width, targets.width);
    let at = |x: &[f32], i: usize| x.get(i).map_or(0.0, |x| f64::from(*x));
    let matrix =
        Mat::from_fn(narrow, narrow, |i, j| at(own, i * narrow + j) * at(&inputs.gram, i * narrow + j));
    let right = Mat::from_fn(narrow, 1, |k, _| {
        (0..wide).map(|j| at(between, k * wide + j) * at(&targets.cross, j * narrow + k)).sum()
    });
    Some((matrix, right))
}

fn centred(table: &[f32], width: usize) -> Vec<f32> {
    let rows = table.len() / width.max(1);
    let mut mean = vec![0f64; width];
    for row in table.chunks_exact(width.max(1)) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += f64::from(*x) / rows as f64);
    }
    table.iter().enumerate().map(|(i, x)| x - mean.get(i % width.max(1)).map_or(0.0, |m| *m as f32)).collect()
}
