//! A stack of decoder layers with random weights: what a shape costs does not depend on what it has learned.
//!
//! Llama's block (RMSNorm, rotary positions, grouped KV heads, gated FFN) with q, k, v in one matrix and gate and up
//! in one, as inference engines keep them.

use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::compute::attention::{self, Cache, Heads, Queries};
use crate::compute::elementwise::{self, Rotary};
use crate::compute::linear::{Shape, linear};
use crate::compute::storage::{Buffer, SizeError, sized};
use crate::units::DType;

/// Sizes of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderShape {
    /// Hidden size.
    pub hidden: usize,
    /// FFN width.
    pub ffn: usize,
    /// Heads.
    pub heads: Heads,
    /// Decoder layers.
    pub layers: usize,
    /// Vocabulary.
    pub vocab: usize,
}

impl DecoderShape {
    fn qkv(&self) -> usize {
        (self.heads.q_heads + 2 * self.heads.kv_heads) * self.heads.head_dim
    }

    fn attention(&self) -> usize {
        self.heads.q_heads * self.heads.head_dim
    }

    /// Numbers in the weights.
    pub fn parameters(&self) -> usize {
        let layer = self.hidden * (self.qkv() + self.attention() + 3 * self.ffn + 2);
        self.layers * layer + (2 * self.vocab + 1) * self.hidden
    }
}

#[derive(Clone, Debug)]
struct Layer {
    attention_norm: Vec<f32>,
    qkv: Buffer,
    o: Buffer,
    ffn_norm: Vec<f32>,
    gate_up: Buffer,
    down: Buffer,
}

#[derive(Clone, Debug)]
struct LayerCache {
    keys: Buffer,
    values: Buffer,
}

/// The stack, its KV caches and its buffers.
#[derive(Clone, Debug)]
pub struct Decoder {
    shape: DecoderShape,
    embedding: Buffer,
    layers: Vec<Layer>,
    final_norm: Vec<f32>,
    head: Buffer,
    rotary: Rotary,
    capacity: usize,
    /// `[layer][sequence]`.
    caches: Vec<Vec<LayerCache>>,
    /// Tokens cached of each sequence.
    lengths: Vec<usize>,
    room: Room,
}

/// Activations, reused from pass to pass.
#[derive(Clone, Debug, Default)]
struct Room {
    residual: Vec<f32>,
    update: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    active: Vec<f32>,
    logits: Vec<f32>,
    positions: Vec<usize>,
}

const EPSILON: f32 = 1e-6;
const THETA: f64 = 10_000.0;
/// Random numbers are drawn once for so many weights and repeated: drawing billions would take minutes.
const DRAWN: usize = 1 << 20;

/// Random weights of one matrix.
struct Weights {
    drawn: Vec<f32>,
    next: usize,
    dtype: DType,
}

impl Weights {
    fn matrix(&mut self, n: usize, k: usize) -> Buffer {
        let scale = 1.0 / (k as f32).sqrt();
        // Each matrix starts elsewhere, so that no two are alike.
        self.next += 7919;
        let value = |i: usize| self.drawn[(i + self.next) % self.drawn.len()] * scale;
        match self.dtype {
            DType::F32 => Buffer::F32((0..n * k).map(value).collect()),
            _ => Buffer::Bf16((0..n * k).map(|i| bf16::from_f32(value(i))).collect()),
        }
    }
}

impl Decoder {
    /// A stack with weights of type `dtype` (f32, or bf16 for any other) and caches of `kv_dtype` for `sequences`
    /// sequences of up to `capacity` tokens.
    pub fn random(
        shape: DecoderShape,
        dtype: DType,
        kv_dtype: DType,
        sequences: usize,
        capacity: usize,
        seed: u64,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let drawn = (0..DRAWN).map(|_| rng.random_range(-1.0..1.0)).collect();
        let mut weights = Weights { drawn, next: 0, dtype };
        let DecoderShape { hidden, ffn, vocab, heads, .. } = shape;
        let layer = |weights: &mut Weights| Layer {
            attention_norm: vec![1.0; hidden],
            qkv: weights.matrix(shape.qkv(), hidden),
            o: weights.matrix(hidden, shape.attention()),
            ffn_norm: vec![1.0; hidden],
            gate_up: weights.matrix(2 * ffn, hidden),
            down: weights.matrix(hidden, ffn),
        };
        let cached = heads.kv_heads * capacity * heads.head_dim;
        let empty = || match kv_dtype {
            DType::F32 => Buffer::F32(vec![0.0; cached]),
            _ => Buffer::Bf16(vec![bf16::ZERO; cached]),
        };
        let cache = || LayerCache { keys: empty(), values: empty() };
        Self {
            shape,
            embedding: weights.matrix(vocab, hidden),
            layers: (0..shape.layers).map(|_| layer(&mut weights)).collect(),
            final_norm: vec![1.0; hidden],
            head: weights.matrix(vocab, hidden),
            rotary: Rotary::new(capacity, heads.head_dim, THETA),
            capacity,
            caches: (0..shape.layers).map(|_| (0..sequences).map(|_| cache()).collect()).collect(),
            lengths: vec![0; sequences],
            room: Room::default(),
        }
    }

    /// Says how many tokens of each sequence are cached; their keys and values are whatever stands there.
    pub fn set_cached(&mut self, tokens: usize) {
        self.lengths.fill(tokens.min(self.capacity));
    }

    /// Reads as many new tokens of every sequence (`tokens` is `[sequence, new]`) and returns the most likely next
    /// one of each. Several new tokens must be a sequence's first.
    ///
    /// # Errors
    /// Tokens that are not a whole number per sequence, or more than there is room for.
    pub fn forward(&mut self, tokens: &[u32]) -> Result<Vec<u32>, SizeError> {
        let sequences = self.lengths.len().max(1);
        let new = tokens.len() / sequences;
        sized("tokens", tokens.len(), new * sequences)?;
        for length in &mut self.lengths {
            if *length + new > self.capacity {
                return Err(SizeError { what: "cache", found: self.capacity, expected: *length + new });
            }
            if new > 1 && *length > 0 {
                return Err(SizeError { what: "new tokens", found: new, expected: 1 });
            }
            *length += new;
        }
        self.embed(tokens, new);
        for index in 0..self.layers.len() {
            self.attention_block(index, new)?;
            self.ffn_block(index, tokens.len())?;
        }
        self.next_tokens(new)
    }

    /// Logits of the last pass, `[sequence, vocab]`.
    pub fn logits(&self) -> &[f32] {
        &self.room.logits
    }

    fn embed(&mut self, tokens: &[u32], new: usize) {
        let hidden = self.shape.hidden;
        let room = &mut self.room;
        for buffer in [&mut room.residual, &mut room.update, &mut room.normed] {
            buffer.resize(tokens.len() * hidden, 0.0);
        }
        room.update.fill(0.0);
        let mut scratch = Vec::new();
        for (row, token) in room.residual.chunks_exact_mut(hidden).zip(tokens) {
            let token = *token as usize % self.shape.vocab;
            row.copy_from_slice(
                self.embedding.as_stored().part(token * hidden, hidden).widened(&mut scratch),
            );
        }
        let positions = self.lengths.iter().flat_map(|len| len - new..*len);
        room.positions.clear();
        room.positions.extend(positions);
    }

    fn attention_block(&mut self, index: usize, new: usize) -> Result<(), SizeError> {
        let (room, layer, shape) = (&mut self.room, &self.layers[index], self.shape);
        let (m, qkv, width) = (room.positions.len(), shape.qkv(), shape.attention());
        elementwise::add_and_norm(
            &mut room.residual,
            &room.update,
            &layer.attention_norm,
            EPSILON,
            &mut room.normed,
        );
        room.qkv.resize(m * qkv, 0.0);
        room.attended.resize(m * width, 0.0);
        linear(&room.normed, layer.qkv.as_stored(), &mut room.qkv, Shape { m, n: qkv, k: shape.hidden })?;
        let heads = shape.heads;
        self.rotary.turn(&mut room.qkv, qkv, heads.q_heads + heads.kv_heads, &room.positions);
        for ((row, cache), len) in
            room.qkv.chunks_exact(new * qkv).zip(&mut self.caches[index]).zip(&self.lengths)
        {
            write_cache(row, cache, shape, self.capacity, len - new);
        }
        let caches: Vec<Cache<'_>> = self.caches[index]
            .iter()
            .zip(&self.lengths)
            .map(|(cache, len)| Cache {
                keys: cache.keys.as_stored(),
                values: cache.values.as_stored(),
                capacity: self.capacity,
                len: *len,
            })
            .collect();
        if new == 1 {
            let queries: Vec<f32> =
                room.qkv.chunks_exact(qkv).flat_map(|row| &row[..width]).copied().collect();
            attention::decode(&queries, &caches, heads, &mut room.attended)?;
        } else {
            let queries: Vec<Queries<'_>> =
                room.qkv.chunks_exact(new * qkv).map(|values| Queries { values, stride: qkv }).collect();
            attention::prefill(&queries, &caches, heads, &mut room.attended)?;
        }
        linear(&room.attended, layer.o.as_stored(), &mut room.update, Shape { m, n: shape.hidden, k: width })
    }

    fn ffn_block(&mut self, index: usize, m: usize) -> Result<(), SizeError> {
        let (room, layer, shape) = (&mut self.room, &self.layers[index], self.shape);
        let DecoderShape { hidden, ffn, .. } = shape;
        elementwise::add_and_norm(
            &mut room.residual,
            &room.update,
            &layer.ffn_norm,
            EPSILON,
            &mut room.normed,
        );
        room.gate_up.resize(m * 2 * ffn, 0.0);
        room.active.resize(m * ffn, 0.0);
        linear(
            &room.normed,
            layer.gate_up.as_stored(),
            &mut room.gate_up,
            Shape { m, n: 2 * ffn, k: hidden },
        )?;
        elementwise::activation(&room.gate_up, ffn, &mut room.active);
        linear(&room.active, layer.down.as_stored(), &mut room.update, Shape { m, n: hidden, k: ffn })
    }

    fn next_tokens(&mut self, new: usize) -> Result<Vec<u32>, SizeError> {
        let (room, DecoderShape { hidden, vocab, .. }) = (&mut self.room, self.shape);
        elementwise::add_and_norm(
            &mut room.residual,
            &room.update,
            &self.final_norm,
            EPSILON,
            &mut room.normed,
        );
        let last: Vec<f32> = room
            .normed
            .chunks_exact(new * hidden)
            .flat_map(|rows| &rows[(new - 1) * hidden..])
            .copied()
            .collect();
        let m = self.lengths.len();
        room.logits.resize(m * vocab, 0.0);
        linear(&last, self.head.as_stored(), &mut room.logits, Shape { m, n: vocab, k: hidden })?;
        let best = |row: &[f32]| {
            let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            best.map_or(0, |(i, _)| i as u32)
        };
        Ok(room.logits.chunks_exact(vocab).map(best).collect())
    }
}

/// Keys and values of a sequence's new tokens, from their rows of `[q | k | v]`, into its cache from token `at` on.
fn write_cache(rows: &[f32], cache: &mut LayerCache, shape: DecoderShape, capacity: usize, at: usize) {
    let Heads { kv_heads, head_dim, .. } = shape.heads;
    let kv = kv_heads * head_dim;
    for (t, row) in rows.chunks_exact(shape.qkv()).enumerate() {
        let (keys, values) = row[shape.attention()..].split_at(kv);
        for head in 0..kv_heads {
            let (from, to) = (head * head_dim, (head * capacity + at + t) * head_dim);
            cache.keys.store(to, &keys[from..from + head_dim]);
            cache.values.store(to, &values[from..from + head_dim]);
        }
    }
}

#[cfg(test)]
mod tests;
