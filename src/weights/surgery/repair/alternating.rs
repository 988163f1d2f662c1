//! Up and down projections of a narrowed FFN in turn: the blocks of a reconstruction of SPAP (arXiv 2505.03373).
//!
//! With the down projection `W` and the activated gate `g` as they are, the output `W (g * (U x))` is linear in the up
//! projection `U`, so that `min over U of sum |t - W (g * (U x))|^2` is a least-squares problem. It is solved by conjugate
//! gradients from the sliced weights on, whose steps are products of matrices over the text; kept-out sequences say when to
//! stop. Then `W` is refitted again.

use crate::compute::activation;
use crate::compute::linear::Shape;
use crate::compute::product::{cross, product};
use crate::compute::storage::SizeError;
use crate::weights::network::block::{linear_into, rms_norm};
use crate::weights::network::layer::{Ffn, Linear};
use crate::weights::network::settings::Settings;
use crate::weights::surgery::error::SurgeryError;
use crate::weights::surgery::repair::layer::{Outcomes, before_post_norm};
use crate::weights::surgery::repair::lockstep::{Chunk, Lockstep};
use crate::weights::surgery::repair::ridge::Outcome;

/// Rounds of up, then down.
const ROUNDS: usize = 3;
/// Steps of conjugate gradients in a round, at most.
const STEPS: usize = 40;

/// Tokens of one chunk as an up projection sees them.
struct Tokens {
    /// Normed stream, `[tokens, hidden]`.
    x: Vec<f32>,
    /// Activated gate, `[tokens, ffn]`.
    gate: Vec<f32>,
    /// What the down projection should give, `[tokens, hidden]`.
    target: Vec<f32>,
}

/// The fit of an up projection.
struct Fit<'f> {
    up: &'f Linear,
    down: &'f Linear,
    /// The down projection's weights, `[ffn, hidden]`.
    turned: Vec<f32>,
}

impl Lockstep<'_> {
    /// Refits down and up projections in turn; the last refit of the down projection is left to the caller.
    ///
    /// # Errors
    /// Sizes that do not fit each other.
    pub(super) fn alternate(&mut self, ffn: &mut Ffn, outcomes: &mut Outcomes) -> Result<(), SurgeryError> {
        let chunks = std::mem::take(&mut self.chunks);
        for round in 0..ROUNDS {
            if round > 0 {
                self.chunks = chunks.clone();
                let sides = self.down_sides(ffn)?;
                sides.refit(&mut ffn.down, &sides.targets, self.freedom);
            }
            let tokens = |chunk: &Chunk| self.tokens(ffn, chunk);
            let (outcome, step) = fit_up(ffn, &chunks, &tokens)?;
            ffn.up.weight.iter_mut().zip(&step).for_each(|(w, s)| *w += s);
            outcomes.push(("up_proj", outcome));
            if outcome.gain <= 0.0 {
                break;
            }
        }
        self.chunks = chunks;
        Ok(())
    }

    fn tokens(&self, ffn: &Ffn, chunk: &Chunk) -> Result<Tokens, SizeError> {
        let narrow: &Settings = self.settings[1];
        let mut tokens = Tokens { x: Vec::new(), gate: Vec::new(), target: Vec::new() };
        self.wanted(&self.streams[0], &[], chunk, &mut tokens.target);
        before_post_norm(&mut tokens.target, ffn.post_norm.as_deref());
        let mine = self.streams[1].get(Self::part(&self.streams[1], chunk, narrow.hidden));
        rms_norm(mine.unwrap_or_default(), &ffn.norm, narrow.epsilon, &mut tokens.x)?;
        linear_into(&ffn.gate, &tokens.x, &mut tokens.gate)?;
        let ones = vec![1.0; tokens.gate.len()];
        activation::gate(narrow.activation, &mut tokens.gate, &ones);
        Ok(tokens)
    }
}

/// What to add to the up projection's weights; nothing where kept-out sequences gain nothing.
fn fit_up(
    ffn: &Ffn,
    chunks: &[Chunk],
    tokens: &dyn Fn(&Chunk) -> Result<Tokens, SizeError>,
) -> Result<(Outcome, Vec<f32>), SizeError> {
    let (hidden, width) = (ffn.down.outputs, ffn.down.inputs);
    let turned = (0..width * hidden).map(|at| ffn.down.weight[at % hidden * width + at / hidden]).collect();
    let fit = Fit { up: &ffn.up, down: &ffn.down, turned };
    let mut step = vec![0.0f32; ffn.up.weight.len()];
    // Residual, direction and where they lead, of the normal equations for the step.
    let (mut residual, before, kept_out) = fit.begin(chunks, tokens)?;
    let mut direction = residual.clone();
    let mut square = dot(&residual, &residual);
    let mut best: Option<(f64, Vec<f32>)> = None;
    for _ in 0..STEPS {
        let through = fit.through(&direction, chunks, tokens)?;
        let curvature = dot(&direction, &through);
        if !(curvature > 0.0 && square > 0.0) {
            break;
        }
        let length = square / curvature;
        step.iter_mut().zip(&direction).for_each(|(s, d)| *s += (length * f64::from(*d)) as f32);
        residual.iter_mut().zip(&through).for_each(|(r, t)| *r -= (length * f64::from(*t)) as f32);
        let missed = fit.missed(&step, chunks, tokens)?;
        if missed >= best.as_ref().map_or(before, |(least, _)| *least) {
            break;
        }
        best = Some((missed, step.clone()));
        let next = dot(&residual, &residual);
        let share = (next / square) as f32;
        square = next;
        direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + share * *d);
    }
    let Some((missed, step)) = best else {
        return Ok((Outcome { strength: None, gain: 0.0 }, Vec::new()));
    };
    // No ridge: the number of steps is what is chosen.
    Ok((Outcome { strength: Some(0.0), gain: (before - missed) / kept_out.max(1.0) }, step))
}

impl Fit<'_> {
    /// `W (g * y)` of `y`, `[tokens, ffn]`, which is multiplied by the gate in place; no bias.
    fn down(&self, tokens: &Tokens, y: &mut [f32], out: &mut Vec<f32>) -> Result<(), SizeError> {
        y.iter_mut().zip(&tokens.gate).for_each(|(y, g)| *y *= g);
        let Linear { outputs, inputs, weight, .. } = self.down;
        let m = y.len() / (*inputs).max(1);
        out.resize(m * outputs, 0.0);
        product(y, weight, None, out, Shape { m, n: *outputs, k: *inputs })
    }

    /// Adds the gradient that output errors `z`, `[tokens, hidden]`, have at the up projection to `sum`.
    fn back(&self, tokens: &Tokens, z: &[f32], sum: &mut [f32]) -> Result<(), SizeError> {
        let Linear { outputs, inputs, .. } = self.down;
        let m = z.len() / (*outputs).max(1);
        let mut v = vec![0.0; m * inputs];
        product(z, &self.turned, None, &mut v, Shape { m, n: *inputs, k: *outputs })?;
        v.iter_mut().zip(&tokens.gate).for_each(|(v, g)| *v *= g);
        cross(&v, *inputs, &tokens.x, self.up.inputs, sum)
    }

    /// Target less output, with `step` added to the up projection.
    fn errors(&self, tokens: &Tokens, step: &[f32]) -> Result<Vec<f32>, SizeError> {
        let moved = self.up.weight.iter().zip(step).map(|(w, s)| w + s).collect();
        let up = Linear { weight: moved, ..self.up.clone() };
        let (mut y, mut out) = (Vec::new(), Vec::new());
        linear_into(&up, &tokens.x, &mut y)?;
        self.down(tokens, &mut y, &mut out)?;
        if let Some(bias) = &self.down.bias {
            out.chunks_mut(bias.len().max(1))
                .for_each(|row| row.iter_mut().zip(bias).for_each(|(o, b)| *o += b));
        }
        out.iter_mut().zip(&tokens.target).for_each(|(o, t)| *o = t - *o);
        Ok(out)
    }

    /// The right-hand side of the normal equations, the squared error on kept-out sequences, and their tokens.
    fn begin(
        &self,
        chunks: &[Chunk],
        tokens: &dyn Fn(&Chunk) -> Result<Tokens, SizeError>,
    ) -> Result<(Vec<f32>, f64, f64), SizeError> {
        let nothing = vec![0.0; self.up.weight.len()];
        let mut sum = nothing.clone();
        for chunk in chunks.iter().filter(|chunk| !chunk.kept_out) {
            let tokens = tokens(chunk)?;
            let errors = self.errors(&tokens, &nothing)?;
            self.back(&tokens, &errors, &mut sum)?;
        }
        let kept_out =
            chunks.iter().filter(|chunk| chunk.kept_out).map(|chunk| chunk.tokens.len() as f64).sum();
        Ok((sum, self.missed(&nothing, chunks, tokens)?, kept_out))
    }

    /// The normal equations' matrix times a direction.
    fn through(
        &self,
        direction: &[f32],
        chunks: &[Chunk],
        tokens: &dyn Fn(&Chunk) -> Result<Tokens, SizeError>,
    ) -> Result<Vec<f32>, SizeError> {
        let mut sum = vec![0.0; direction.len()];
        let along = Linear { weight: direction.to_vec(), bias: None, ..self.up.clone() };
        let (mut y, mut out) = (Vec::new(), Vec::new());
        for chunk in chunks.iter().filter(|chunk| !chunk.kept_out) {
            let tokens = tokens(chunk)?;
            linear_into(&along, &tokens.x, &mut y)?;
            self.down(&tokens, &mut y, &mut out)?;
            self.back(&tokens, &out, &mut sum)?;
        }
        Ok(sum)
    }

    /// Squared error on kept-out sequences.
    fn missed(
        &self,
        step: &[f32],
        chunks: &[Chunk],
        tokens: &dyn Fn(&Chunk) -> Result<Tokens, SizeError>,
    ) -> Result<f64, SizeError> {
        let mut missed = 0.0;
        for chunk in chunks.iter().filter(|chunk| chunk.kept_out) {
            let errors = self.errors(&tokens(chunk)?, step)?;
            missed += dot(&errors, &errors);
        }
        Ok(missed)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn the_steps_lead_to_where_the_gradient_vanishes() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut drawn = |count: usize| (0..count).map(|_| rng.random::<f32>() - 0.5).collect::<Vec<f32>>();
        let (hidden, width, count) = (3, 4, 60);
        let mut linear = |outputs: usize, inputs: usize| Linear {
            outputs,
            inputs,
            weight: drawn(outputs * inputs),
            bias: Some(drawn(outputs)),
        };
        let mut ffn = Ffn {
            norm: vec![1.0; hidden],
            gate: linear(width, hidden),
            up: linear(width, hidden),
            down: linear(hidden, width),
            post_norm: None,
        };
        let (x, gate, target) = (drawn(count * hidden), drawn(count * width), drawn(count * hidden));
        let tokens = |_: &Chunk| Ok(Tokens { x: x.clone(), gate: gate.clone(), target: target.clone() });
        // Judged on what it is fitted on: every step gains.
        let chunk = |kept_out| Chunk { tokens: 0..count, lengths: vec![count], kept_out };
        let chunks = [chunk(false), chunk(true)];
        let gradient = |ffn: &Ffn| {
            let turned =
                (0..width * hidden).map(|at| ffn.down.weight[at % hidden * width + at / hidden]).collect();
            Fit { up: &ffn.up, down: &ffn.down, turned }.begin(&chunks, &tokens).unwrap()
        };
        // The gradient is the change of the error, by finite differences.
        let (begun, before, _) = gradient(&ffn);
        for at in [0, 5, 11] {
            let mut moved = ffn.clone();
            moved.up.weight[at] += 1e-2;
            let (_, up, _) = gradient(&moved);
            moved.up.weight[at] -= 2e-2;
            let (_, down, _) = gradient(&moved);
            let slope = (up - down) / 2e-2;
            assert!((slope + 2.0 * f64::from(begun[at])).abs() < 1e-2, "{slope} {}", begun[at]);
        }
        let (outcome, step) = fit_up(&ffn, &chunks, &tokens).unwrap();
        ffn.up.weight.iter_mut().zip(&step).for_each(|(w, s)| *w += s);
        let (end, after, _) = gradient(&ffn);
        assert!(dot(&end, &end).sqrt() < 1e-3 * dot(&begun, &begun).sqrt(), "{end:?}");
        assert!(
            (outcome.gain * count as f64 - (before - after)).abs() < 1e-3,
            "{outcome:?} {before} {after}"
        );
    }
}
