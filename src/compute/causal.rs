//! Causal attention of whole sequences: grouped KV heads, windows, capped scores.
//!
//! Keys are packed transposed, [`PANEL`] tokens at a time, so that scores come out of fused multiply-adds without sums
//! across a register; values are packed head by head. Query head `h` reads KV head `h / (q_heads / kv_heads)`.

use pulp::Arch;
use rayon::prelude::*;

use crate::compute::activation::tanh;
use crate::compute::attention::Heads;
use crate::compute::dot::weighted_apart;
use crate::compute::exponential::exp;
use crate::compute::storage::{SizeError, sized, with_scratch};

/// Tokens of a panel of transposed keys.
const PANEL: usize = 64;
/// Query tokens of one task.
const QUERIES: usize = 64;
/// Query tokens that meet a panel in registers.
const TOGETHER: usize = 4;

/// What a query sees and how its scores are formed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pattern {
    /// Heads.
    pub heads: Heads,
    /// Factor on the products of queries and keys.
    pub scale: f32,
    /// Tokens a query sees, itself included; none = all before it.
    pub window: Option<usize>,
    /// Scores become `cap * tanh(score / cap)`.
    pub cap: Option<f32>,
}

/// Packed keys and values, kept from call to call.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// One sequence of the batch.
#[derive(Clone, Copy)]
struct Sequence {
    /// Its first token in the batch.
    first: usize,
    /// Tokens.
    len: usize,
    /// Where its packed tokens start, counted in tokens of all KV heads.
    packed: usize,
}

impl Sequence {
    /// Tokens with those that fill the last panel.
    fn padded(self) -> usize {
        self.len.div_ceil(PANEL) * PANEL
    }
}

/// Attention of every sequence to itself. `q` and `out` are `[tokens, q_heads * head_dim]`, `k` and `v`
/// `[tokens, kv_heads * head_dim]`, sequence after sequence, of `lengths` tokens each.
///
/// # Errors
/// A slice of another size; query heads that are no multiple of KV heads.
pub fn causal(
    [q, k, v]: [&[f32]; 3],
    lengths: &[usize],
    pattern: Pattern,
    packed: &mut Packed,
    out: &mut [f32],
) -> Result<(), SizeError> {
    let Heads { q_heads, kv_heads, head_dim: d } = pattern.heads;
    let tokens: usize = lengths.iter().sum();
    let (q_width, kv_width) = (q_heads * d, kv_heads * d);
    sized("queries", q.len(), tokens * q_width)?;
    sized("keys", k.len(), tokens * kv_width)?;
    sized("values", v.len(), tokens * kv_width)?;
    sized("out", out.len(), tokens * q_width)?;
    if q_heads % kv_heads.max(1) != 0 || (kv_heads == 0 && q_heads > 0) {
        return Err(SizeError { what: "query heads", found: q_heads, expected: kv_heads });
    }
    if tokens == 0 || q_width == 0 {
        return Ok(());
    }
    let mut sequences = Vec::with_capacity(lengths.len());
    let (mut first, mut start) = (0, 0);
    for &len in lengths {
        let sequence = Sequence { first, len, packed: start };
        sequences.push(sequence);
        (first, start) = (first + len, start + sequence.padded());
    }
    packed.keys.resize(start * kv_width, 0.0);
    packed.values.resize(start * kv_width, 0.0);
    pack(k, v, &sequences, pattern.heads, packed);
    let mut tasks = Vec::new();
    let mut rest = out;
    for sequence in sequences {
        let (mine, others) = rest.split_at_mut(sequence.len * q_width);
        rest = others;
        for (block, out) in mine.chunks_mut(QUERIES * q_width).enumerate() {
            let rows = Rows { out: out.as_mut_ptr(), count: out.len() / q_width };
            tasks.extend((0..q_heads).map(|head| (block, head, sequence, rows)));
        }
    }
    // Late blocks see more tokens: they go first, so that threads end together.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.0));
    let packed = &*packed;
    tasks.into_par_iter().with_max_len(1).for_each(|(block, head, sequence, rows)| {
        let kv_head = head / (q_heads / kv_heads);
        let at = sequence.packed * kv_width + kv_head * sequence.padded() * d;
        let part = at..at + sequence.padded() * d;
        let task = Block {
            pattern,
            q: &q[sequence.first * q_width..(sequence.first + sequence.len) * q_width],
            keys: &packed.keys[part.clone()],
            values: &packed.values[part],
            head,
            first: block * QUERIES,
            rows,
        };
        with_scratch(|[scores, found]| Arch::new().dispatch(Run { task: &task, scores, found }));
    });
    Ok(())
}

/// Keys as `[panel][head_dim][PANEL]`, values as `[padded tokens][head_dim]`, per sequence and KV head; zeros fill up.
fn pack(k: &[f32], v: &[f32], sequences: &[Sequence], heads: Heads, packed: &mut Packed) {
    let (d, width) = (heads.head_dim, heads.kv_heads * heads.head_dim);
    let mut tasks = Vec::new();
    let (mut keys, mut values) = (packed.keys.as_mut_slice(), packed.values.as_mut_slice());
    for sequence in sequences {
        for head in 0..heads.kv_heads {
            let size = sequence.padded() * d;
            let (my_keys, other_keys) = keys.split_at_mut(size);
            let (my_values, other_values) = values.split_at_mut(size);
            (keys, values) = (other_keys, other_values);
            tasks.push((*sequence, head, my_keys, my_values));
        }
    }
    tasks.into_par_iter().for_each(|(sequence, head, keys, values)| {
        let part = sequence.first * width..(sequence.first + sequence.len) * width;
        let (k, v) = (&k[part.clone()], &v[part]);
        let panels = keys.chunks_exact_mut(PANEL * d).zip(values.chunks_exact_mut(PANEL * d));
        for (panel, (keys, values)) in panels.enumerate() {
            let rows = (sequence.len - panel * PANEL).min(PANEL);
            if rows < PANEL {
                keys.fill(0.0);
                values.fill(0.0);
            }
            for row in 0..rows {
                let from = (panel * PANEL + row) * width + head * d;
                values[row * d..(row + 1) * d].copy_from_slice(&v[from..from + d]);
                for (i, key) in k[from..from + d].iter().enumerate() {
                    keys[i * PANEL + row] = *key;
                }
            }
        }
    });
}

/// Rows of the output that one task writes, one head of each.
#[derive(Clone, Copy)]
struct Rows {
    out: *mut f32,
    count: usize,
}

// SAFETY: each task writes the columns of its own head in its own block of rows.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

/// One head's queries of a block of tokens.
struct Block<'a> {
    pattern: Pattern,
    /// Queries of the sequence, all heads.
    q: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    head: usize,
    /// Position of the first query.
    first: usize,
    rows: Rows,
}

struct Run<'a, 'b> {
    task: &'a Block<'b>,
    scores: &'a mut Vec<f32>,
    found: &'a mut Vec<f32>,
}

impl pulp::WithSimd for Run<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        let Self { task, scores, found } = self;
        let mut at = 0;
        while at + TOGETHER <= task.rows.count {
            task.queries::<S, TOGETHER>(simd, at, scores, found);
            at += TOGETHER;
        }
        while at < task.rows.count {
            task.queries::<S, 1>(simd, at, scores, found);
            at += 1;
        }
    }
}

impl Block<'_> {
    /// `T` queries of the block from `at` on.
    #[inline(always)]
    fn queries<S: pulp::Simd, const T: usize>(
        &self,
        simd: S,
        at: usize,
        scores: &mut Vec<f32>,
        found: &mut Vec<f32>,
    ) {
        let d = self.pattern.heads.head_dim;
        let width = self.pattern.heads.q_heads * d;
        let position = self.first + at;
        let query = |t: usize| &self.q[(position + t) * width + self.head * d..][..d];
        let queries: [&[f32]; T] = std::array::from_fn(query);
        let seen_from = |position: usize| self.pattern.window.map_or(0, |w| (position + 1).saturating_sub(w));
        let low = seen_from(position) / PANEL;
        let high = (position + T).div_ceil(PANEL);
        let len = (high - low) * PANEL;
        scores.resize(len * T, 0.0);
        found.resize(d * T, 0.0);
        for (panel, keys) in self.keys[low * PANEL * d..high * PANEL * d].chunks_exact(PANEL * d).enumerate()
        {
            weighted_apart(simd, queries, keys, PANEL, &mut scores[panel * PANEL..], len);
        }
        let mut inverses = [0f32; T];
        for (t, (scores, inverse)) in scores.chunks_exact_mut(len).zip(&mut inverses).enumerate() {
            let from = seen_from(position + t) - low * PANEL;
            let to = position + t + 1 - low * PANEL;
            *inverse = 1.0 / self.softmax(scores, from, to);
        }
        let used = position + T - low * PANEL;
        let weights: [&[f32]; T] = std::array::from_fn(|t| &scores[t * len..(t + 1) * len]);
        weighted_apart(simd, weights, &self.values[low * PANEL * d..][..used * d], d, found, d);
        for ((t, found), inverse) in found.chunks_exact(d).enumerate().zip(inverses) {
            // SAFETY: row at + t of this task's block, columns of its own head; no other task has them.
            let out = unsafe {
                std::slice::from_raw_parts_mut(self.rows.out.add((at + t) * width + self.head * d), d)
            };
            out.iter_mut().zip(found).for_each(|(o, f)| *o = f * inverse);
        }
    }

    /// Scores `from..to` become `e^(score - largest)`, the others 0; returns their sum.
    #[inline(always)]
    fn softmax(&self, scores: &mut [f32], from: usize, to: usize) -> f32 {
        scores[..from].fill(0.0);
        scores[to..].fill(0.0);
        let seen = &mut scores[from..to];
        let scale = self.pattern.scale;
        if let Some(cap) = self.pattern.cap {
            let inverse = scale / cap;
            seen.iter_mut().for_each(|s| *s = cap * tanh(*s * inverse));
        } else {
            seen.iter_mut().for_each(|s| *s *= scale);
        }
        let mut lanes = [f32::NEG_INFINITY; 16];
        for part in seen.chunks(16) {
            for (lane, x) in lanes.iter_mut().zip(part) {
                *lane = if *x > *lane { *x } else { *lane };
            }
        }
        let largest = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let mut sums = [0f32; 16];
        for part in seen.chunks_mut(16) {
            for (score, sum) in part.iter_mut().zip(&mut sums) {
                *score = exp(*score - largest);
                *sum += *score;
            }
        }
        sums.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 500.0 - 2.0).collect()
    }

    /// One head of one query, in double precision.
    fn plain(q: &[f32], keys: &[&[f32]], values: &[&[f32]], pattern: Pattern) -> Vec<f64> {
        let score = |key: &&[f32]| {
            let product: f64 = q.iter().zip(*key).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let scaled = product * f64::from(pattern.scale);
            pattern.cap.map_or(scaled, |cap| f64::from(cap) * (scaled / f64::from(cap)).tanh())
        };
        let weights: Vec<f64> = keys.iter().map(score).map(f64::exp).collect();
        let sum: f64 = weights.iter().sum();
        let channel =
            |i: usize| values.iter().zip(&weights).map(|(v, w)| w * f64::from(v[i])).sum::<f64>() / sum;
        (0..q.len()).map(channel).collect()
    }

    fn check(lengths: &[usize], pattern: Pattern) {
        let Heads { q_heads, kv_heads, head_dim: d } = pattern.heads;
        let tokens: usize = lengths.iter().sum();
        let (q, k, v) = (
            numbers(tokens * q_heads * d, 1),
            numbers(tokens * kv_heads * d, 2),
            numbers(tokens * kv_heads * d, 3),
        );
        let mut packed = Packed { keys: vec![9.0; 7], values: vec![f32::NAN; 100_000] };
        let mut out = vec![f32::NAN; tokens * q_heads * d];
        causal([&q, &k, &v], lengths, pattern, &mut packed, &mut out).unwrap();
        let mut first = 0;
        for &len in lengths {
            for (t, head) in (0..len).flat_map(|t| (0..q_heads).map(move |h| (t, h))) {
                let from = pattern.window.map_or(0, |w| (t + 1).saturating_sub(w));
                let kv = head / (q_heads / kv_heads);
                let part =
                    |s: usize| ((first + s) * kv_heads + kv) * d..((first + s) * kv_heads + kv + 1) * d;
                let keys: Vec<&[f32]> = (from..=t).map(|s| &k[part(s)]).collect();
                let values: Vec<&[f32]> = (from..=t).map(|s| &v[part(s)]).collect();
                let at = ((first + t) * q_heads + head) * d;
                for (i, exact) in plain(&q[at..at + d], &keys, &values, pattern).iter().enumerate() {
                    let found = f64::from(out[at + i]);
                    assert!((found - exact).abs() < 2e-5, "token {t} head {head}: {found}, expected {exact}");
                }
            }
            first += len;
        }
    }

    #[test]
    fn agrees_with_double_precision() {
        let heads = Heads { q_heads: 4, kv_heads: 2, head_dim: 16 };
        let plain = Pattern { heads, scale: 0.25, window: None, cap: None };
        check(&[1, 5, 0, 70], plain);
        check(&[150], Pattern { heads: Heads { q_heads: 3, kv_heads: 3, head_dim: 6 }, ..plain });
        check(&[90, 3], Pattern { window: Some(7), ..plain });
        check(&[140], Pattern { window: Some(64), cap: Some(5.0), ..plain });
        check(&[20], Pattern { window: Some(1), cap: Some(50.0), ..plain });
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let heads = Heads { q_heads: 3, kv_heads: 2, head_dim: 2 };
        let pattern = Pattern { heads, scale: 1.0, window: None, cap: None };
        let (q, k) = ([0.0; 6], [0.0; 4]);
        let run = |pattern, lengths: &[usize]| {
            causal([&q, &k, &k], lengths, pattern, &mut Packed::default(), &mut [0.0; 6])
        };
        assert_eq!(run(pattern, &[1]).unwrap_err().what, "query heads");
        assert_eq!(run(pattern, &[2]).unwrap_err().what, "queries");
    }
}
