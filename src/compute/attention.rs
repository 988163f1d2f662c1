//! Causal attention with grouped KV heads, over a whole prompt and for one new token.
//!
//! The cache of a sequence is `[kv_heads, capacity, head_dim]`, keys and values apart. Scores are scaled by
//! `1 / sqrt(head_dim)`; query head `h` reads KV head `h / (q_heads / kv_heads)`.

use pulp::Arch;
use rayon::prelude::*;

use crate::compute::dot::{products, weighted};
use crate::compute::exponential::exp;
use crate::compute::storage::{SizeError, Stored, sized, with_scratch};

/// Query tokens of one task of the prompt kernel.
const QUERIES: usize = 64;
/// Cached tokens of one task of the one-token kernel; a constant, so that threads do not change the order of sums.
const CHUNK: usize = 128;

/// Heads of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub q_heads: usize,
    /// KV heads; divides `q_heads`.
    pub kv_heads: usize,
    /// Head size.
    pub head_dim: usize,
}

impl Heads {
    fn group(&self) -> usize {
        self.q_heads / self.kv_heads.max(1)
    }
}

/// Cached keys and values of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Cache<'a> {
    /// Keys, `[kv_heads, capacity, head_dim]`.
    pub keys: Stored<'a>,
    /// Values, alike.
    pub values: Stored<'a>,
    /// Tokens there is room for.
    pub capacity: usize,
    /// Tokens that are there.
    pub len: usize,
}

impl<'a> Cache<'a> {
    fn check(&self, heads: Heads) -> Result<(), SizeError> {
        let expected = heads.kv_heads * self.capacity * heads.head_dim;
        sized("keys", self.keys.len(), expected)?;
        sized("values", self.values.len(), expected)?;
        if self.len > self.capacity {
            return Err(SizeError { what: "cache", found: self.capacity, expected: self.len });
        }
        Ok(())
    }

    /// Keys and values of tokens `from..to` of one head.
    fn head(&self, heads: Heads, head: usize, from: usize, to: usize) -> (Stored<'a>, Stored<'a>) {
        let (at, len) = ((head * self.capacity + from) * heads.head_dim, (to - from) * heads.head_dim);
        (self.keys.part(at, len), self.values.part(at, len))
    }
}

/// Queries of a prompt: token `t`'s heads start at `t * stride`.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a> {
    /// Numbers, `q_heads * head_dim` of each token.
    pub values: &'a [f32],
    /// Numbers from one token to the next.
    pub stride: usize,
}

/// Attention of a whole prompt per sequence, from its first token: `out` is `[sequence, token, q_heads * head_dim]`,
/// every sequence has as many queries as its cache has tokens.
///
/// # Errors
/// A slice of another size.
pub fn prefill(
    queries: &[Queries<'_>],
    caches: &[Cache<'_>],
    heads: Heads,
    out: &mut [f32],
) -> Result<(), SizeError> {
    sized("queries", queries.len(), caches.len())?;
    let width = heads.q_heads * heads.head_dim;
    let mut tasks = Vec::new();
    let mut rest = out;
    for (query, cache) in queries.iter().zip(caches) {
        cache.check(heads)?;
        let needed = cache.len.saturating_sub(1) * query.stride + if cache.len > 0 { width } else { 0 };
        if query.values.len() < needed {
            return Err(SizeError { what: "queries", found: query.values.len(), expected: needed });
        }
        if rest.len() < cache.len * width {
            return Err(SizeError { what: "out", found: rest.len(), expected: cache.len * width });
        }
        let (mine, others) = rest.split_at_mut(cache.len * width);
        rest = others;
        for (block, out) in mine.chunks_mut((QUERIES * width).max(1)).enumerate() {
            let target = Rows { out: out.as_mut_ptr(), stride: width, rows: out.len() / width.max(1) };
            // Late blocks see more tokens: they go first, so that threads end together.
            tasks.extend((0..heads.q_heads).map(|head| (block, head, *query, *cache, target)));
        }
    }
    sized("out", rest.len(), 0)?;
    tasks.sort_by_key(|task| std::cmp::Reverse(task.0));
    tasks.into_par_iter().for_each(|(block, head, query, cache, target)| {
        prompt_block(heads, head, block * QUERIES, query, cache, target);
    });
    Ok(())
}

/// Rows of the output that one task writes, one head of each.
#[derive(Clone, Copy)]
struct Rows {
    out: *mut f32,
    stride: usize,
    rows: usize,
}

// SAFETY: each task writes the columns of its own head in its own block of rows.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

fn prompt_block(heads: Heads, head: usize, first: usize, query: Queries<'_>, cache: Cache<'_>, target: Rows) {
    let (keys, values) = cache.head(heads, head / heads.group(), 0, first + target.rows);
    with_scratch(|[wide_keys, wide_values]| {
        Arch::new().dispatch(PromptBlock {
            d: heads.head_dim,
            first,
            rows: target.rows,
            query,
            head,
            keys: keys.widened(wide_keys),
            values: values.widened(wide_values),
            target,
        });
    });
}

/// One head's queries of a block of tokens against all tokens up to each.
struct PromptBlock<'a> {
    d: usize,
    /// Position of the first token.
    first: usize,
    rows: usize,
    query: Queries<'a>,
    head: usize,
    keys: &'a [f32],
    values: &'a [f32],
    target: Rows,
}

impl pulp::WithSimd for PromptBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        let mut at = 0;
        while at + 4 <= self.rows {
            self.tokens::<S, 4>(simd, at);
            at += 4;
        }
        while at < self.rows {
            self.tokens::<S, 1>(simd, at);
            at += 1;
        }
    }
}

impl PromptBlock<'_> {
    /// `T` tokens of the block from `at` on.
    #[inline(always)]
    fn tokens<S: pulp::Simd, const T: usize>(&self, simd: S, at: usize) {
        let d = self.d;
        let seen = self.first + at + T;
        let query =
            |t: usize| &self.query.values[(self.first + at + t) * self.query.stride + self.head * d..][..d];
        let visible = |t: usize| self.first + at + t + 1;
        let (keys, values) = (&self.keys[..seen * d], &self.values[..seen * d]);
        let found = attend(simd, std::array::from_fn::<_, T, _>(query), keys, values, visible);
        for (t, part) in found.iter().enumerate() {
            let inverse = 1.0 / part.sum;
            for (i, value) in part.values.iter().enumerate() {
                // SAFETY: row at + t of this task's block, columns of its own head.
                unsafe {
                    *self.target.out.add((at + t) * self.target.stride + self.head * d + i) = value * inverse
                };
            }
        }
    }
}

#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    for part in x.chunks(16) {
        for (lane, x) in lanes.iter_mut().zip(part) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// What one chunk of cached tokens says for one query head: largest score, sum of `e^(score - largest)`, and the
/// values weighted so.
struct Partial {
    largest: f32,
    sum: f32,
    values: Vec<f32>,
}

/// Attention of one new token per sequence: `queries` and `out` are `[sequence, q_heads * head_dim]`; the caches
/// hold the new token already.
///
/// # Errors
/// A slice of another size.
pub fn decode(queries: &[f32], caches: &[Cache<'_>], heads: Heads, out: &mut [f32]) -> Result<(), SizeError> {
    let width = heads.q_heads * heads.head_dim;
    sized("queries", queries.len(), caches.len() * width)?;
    sized("out", out.len(), caches.len() * width)?;
    caches.iter().try_for_each(|cache| cache.check(heads))?;
    let group = heads.group() * heads.head_dim;
    if group == 0 {
        return Ok(());
    }
    let tasks: Vec<(usize, usize, usize)> = caches
        .iter()
        .enumerate()
        .flat_map(|(i, cache)| {
            (0..heads.kv_heads).flat_map(move |h| (0..cache.len).step_by(CHUNK).map(move |from| (i, h, from)))
        })
        .collect();
    let arch = Arch::new();
    let partials: Vec<Vec<Partial>> = tasks
        .par_iter()
        .map(|&(i, head, from)| {
            let cache = &caches[i];
            let (keys, values) = cache.head(heads, head, from, (from + CHUNK).min(cache.len));
            let q = &queries[i * width + head * group..][..group];
            with_scratch(|[wide_keys, wide_values]| {
                let (k, v) = (keys.widened(wide_keys), values.widened(wide_values));
                arch.dispatch(OneToken { q, k, v, d: heads.head_dim })
            })
        })
        .collect();
    out.fill(0.0);
    let mut at = 0;
    while at < tasks.len() {
        let (i, head, _) = tasks[at];
        let same = tasks[at..].iter().take_while(|t| (t.0, t.1) == (i, head)).count();
        let out = &mut out[i * width + head * group..][..group];
        for (g, out) in out.chunks_exact_mut(heads.head_dim).enumerate() {
            merge(partials[at..at + same].iter().filter_map(|p| p.get(g)), out);
        }
        at += same;
    }
    Ok(())
}

fn merge<'a>(parts: impl Iterator<Item = &'a Partial> + Clone, out: &mut [f32]) {
    let largest = parts.clone().map(|p| p.largest).fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for part in parts {
        let weight = exp(part.largest - largest);
        sum += weight * part.sum;
        out.iter_mut().zip(&part.values).for_each(|(o, v)| *o += weight * v);
    }
    out.iter_mut().for_each(|o| *o /= sum);
}

struct OneToken<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    d: usize,
}

impl pulp::WithSimd for OneToken<'_> {
    type Output = Vec<Partial>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> Vec<Partial> {
        let group = self.q.len() / self.d;
        let mut parts = Vec::with_capacity(group);
        let mut g = 0;
        while g + 4 <= group {
            parts.extend(self.heads::<S, 4>(simd, g));
            g += 4;
        }
        match group - g {
            3 => parts.extend(self.heads::<S, 3>(simd, g)),
            2 => parts.extend(self.heads::<S, 2>(simd, g)),
            1 => parts.extend(self.heads::<S, 1>(simd, g)),
            _ => {}
        }
        parts
    }
}

impl OneToken<'_> {
    /// `T` query heads from `first` on.
    #[inline(always)]
    fn heads<S: pulp::Simd, const T: usize>(&self, simd: S, first: usize) -> [Partial; T] {
        let len = self.k.len() / self.d;
        let query = |t: usize| &self.q[(first + t) * self.d..(first + t + 1) * self.d];
        attend(simd, std::array::from_fn(query), self.k, self.v, |_| len)
    }
}

/// `T` queries against the same keys and values, of which query `t` sees the first `visible(t)`.
#[inline(always)]
fn attend<S: pulp::Simd, const T: usize>(
    simd: S,
    queries: [&[f32]; T],
    keys: &[f32],
    values: &[f32],
    visible: impl Fn(usize) -> usize,
) -> [Partial; T] {
    let d = queries.first().map_or(1, |q| q.len()).max(1);
    let len = keys.len() / d;
    let scale = 1.0 / (d as f32).sqrt();
    let mut scores = vec![0f32; len * T];
    let key = |at: usize| &keys[at * d..(at + 1) * d];
    let mut at = 0;
    while at + 4 <= len {
        let found = products(simd, queries, [key(at), key(at + 1), key(at + 2), key(at + 3)]);
        for (t, found) in found.iter().enumerate() {
            for (r, score) in found.iter().enumerate() {
                scores[t * len + at + r] = score * scale;
            }
        }
        at += 4;
    }
    while at < len {
        for (t, found) in products(simd, queries, [key(at)]).iter().enumerate() {
            scores[t * len + at] = found[0] * scale;
        }
        at += 1;
    }
    let mut sums = [(0f32, 0f32); T];
    for (t, (scores, sum)) in scores.chunks_exact_mut(len.max(1)).zip(&mut sums).enumerate() {
        let (seen, unseen) = scores.split_at_mut(visible(t).min(len));
        let largest = largest(seen);
        let mut lanes = [0f32; 16];
        for part in seen.chunks_mut(16) {
            for (score, lane) in part.iter_mut().zip(&mut lanes) {
                *score = exp(*score - largest);
                *lane += *score;
            }
        }
        unseen.fill(0.0);
        *sum = (largest, lanes.iter().sum());
    }
    let weights: [&[f32]; T] = std::array::from_fn(|t| &scores[t * len..(t + 1) * len]);
    let mut weighed = vec![0f32; T * d];
    weighted(simd, weights, values, d, &mut weighed);
    std::array::from_fn(|t| {
        let (largest, sum) = sums[t];
        Partial { largest, sum, values: weighed[t * d..(t + 1) * d].to_vec() }
    })
}
