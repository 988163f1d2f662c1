//! Times one kernel call on this machine's CPU, as a forward pass would meet it.
//!
//! Weights and KV caches come from arenas larger than the last-level cache and from another place each repeat, so
//! that they are read from memory; activations stay in the cache, where the previous kernel left them.

use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::compute::attention::{self, Cache, Heads, Queries};
use crate::compute::linear::{Shape, linear};
use crate::compute::storage::{SizeError, Stored};
use crate::hardware::kernel::KernelCall;
use crate::hardware::measure::timing::{self, Timing};
use crate::units::DType;

/// Random numbers are drawn once for so many and repeated.
const DRAWN: usize = 1 << 20;

/// Memory that calls read and write.
pub struct Bench {
    f32: Vec<f32>,
    bf16: Vec<bf16>,
    input: Vec<f32>,
    output: Vec<f32>,
}

/// A call this bench cannot time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BenchError {
    /// Not a kernel of the transformer on a CPU, or an element type it does not have.
    #[error("the CPU has no kernel for {0:?}")]
    NoKernel(KernelCall),
    /// Operands larger than the arena.
    #[error("{0:?} needs more memory than the bench has")]
    TooLarge(KernelCall),
    /// A defect of the bench.
    #[error(transparent)]
    Size(#[from] SizeError),
}

impl Bench {
    /// A bench whose operands (weights, or keys and values) may have `numbers` numbers.
    pub fn new(numbers: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<f32> = (0..DRAWN).map(|_| rng.random_range(-0.5..0.5)).collect();
        let repeated = |n: usize| drawn.iter().cycle().take(n).copied();
        Self {
            f32: repeated(numbers).collect(),
            bf16: repeated(numbers).map(bf16::from_f32).collect(),
            input: repeated(DRAWN).collect(),
            output: Vec::new(),
        }
    }

    /// Numbers an operand may have.
    pub fn capacity(&self) -> usize {
        self.f32.len()
    }

    /// The two halves of the f32 arena, for measuring memory itself.
    pub fn halves(&mut self) -> (&[f32], &mut [f32]) {
        let middle = self.f32.len() / 2;
        let (from, to) = self.f32.split_at_mut(middle);
        (from, to)
    }

    /// Times a call.
    ///
    /// # Errors
    /// A call that is none of the CPU's kernels or too large for the bench.
    pub fn time(&mut self, call: &KernelCall) -> Result<Timing, BenchError> {
        let too_large = BenchError::TooLarge(*call);
        match *call {
            KernelCall::Gemm { m, n, k, dtype } => {
                let shape = Shape { m: m as usize, n: n as usize, k: k as usize };
                self.gemm(shape, Operand::of(dtype, call)?).ok_or(too_large)?
            }
            KernelCall::AttentionPrefill { batch, seq_len, q_heads, kv_heads, head_dim, dtype } => {
                let heads = heads(q_heads, kv_heads, head_dim);
                let work =
                    Attention { heads, batch: batch as usize, len: seq_len as usize, new: seq_len as usize };
                self.attention(work, Operand::of(dtype, call)?).ok_or(too_large)?
            }
            KernelCall::AttentionDecode { batch, kv_len, q_heads, kv_heads, head_dim, dtype } => {
                let heads = heads(q_heads, kv_heads, head_dim);
                let work = Attention { heads, batch: batch as usize, len: kv_len as usize, new: 1 };
                self.attention(work, Operand::of(dtype, call)?).ok_or(too_large)?
            }
            KernelCall::AllReduce { .. } | KernelCall::Elementwise { .. } => Err(BenchError::NoKernel(*call)),
        }
    }

    fn room(&mut self, input: usize, output: usize) {
        if self.input.len() < input {
            let drawn: Vec<f32> = self.input.iter().cycle().take(input).copied().collect();
            self.input = drawn;
        }
        self.output.resize(self.output.len().max(output), 0.0);
    }

    /// `None` where it does not fit.
    fn gemm(&mut self, shape: Shape, operand: Operand) -> Option<Result<Timing, BenchError>> {
        let Shape { m, n, k } = shape;
        let size = n.checked_mul(k).filter(|size| *size <= self.f32.len())?;
        self.room(m * k, m * n);
        let places = Places { size, slots: self.f32.len() / size };
        let (x, out) = (&self.input[..m * k], &mut self.output[..m * n]);
        let mut done = Ok(());
        let timing = timing::time(|repeat| {
            let w = operand.stored(&self.f32, &self.bf16).part(places.at(repeat), size);
            done = done.and(linear(x, w, out, shape));
        });
        Some(done.map(|()| timing).map_err(BenchError::from))
    }

    fn attention(&mut self, work: Attention, operand: Operand) -> Option<Result<Timing, BenchError>> {
        let Attention { heads, batch, len, new } = work;
        let (cached, width) = (heads.kv_heads * len * heads.head_dim, heads.q_heads * heads.head_dim);
        let size = cached.checked_mul(2 * batch).filter(|size| *size <= self.f32.len())?;
        self.room(batch * new * width, batch * new * width);
        let places = Places { size, slots: self.f32.len() / size };
        let (x, out) = (&self.input[..batch * new * width], &mut self.output[..batch * new * width]);
        let mut done = Ok(());
        let timing = timing::time(|repeat| {
            let arena = operand.stored(&self.f32, &self.bf16);
            let part = |i: usize| arena.part(places.at(repeat) + i * cached, cached);
            let cache = |i: usize| Cache { keys: part(2 * i), values: part(2 * i + 1), capacity: len, len };
            let caches: Vec<Cache<'_>> = (0..batch).map(cache).collect();
            done = done.and(if new == 1 {
                attention::decode(x, &caches, heads, out)
            } else {
                let query = |values| Queries { values, stride: width };
                let queries: Vec<Queries<'_>> = x.chunks_exact(new * width).map(query).collect();
                attention::prefill(&queries, &caches, heads, out)
            });
        });
        Some(done.map(|()| timing).map_err(BenchError::from))
    }
}

struct Attention {
    heads: Heads,
    batch: usize,
    len: usize,
    new: usize,
}

fn heads(q_heads: u64, kv_heads: u64, head_dim: u64) -> Heads {
    Heads { q_heads: q_heads as usize, kv_heads: kv_heads as usize, head_dim: head_dim as usize }
}

/// Which arena a call reads.
#[derive(Clone, Copy)]
enum Operand {
    F32,
    Bf16,
}

impl Operand {
    fn of(dtype: DType, call: &KernelCall) -> Result<Self, BenchError> {
        match dtype {
            DType::F32 => Ok(Operand::F32),
            DType::Bf16 => Ok(Operand::Bf16),
            DType::Fp8 | DType::Int8 => Err(BenchError::NoKernel(*call)),
        }
    }

    fn stored<'a>(self, f32: &'a [f32], bf16: &'a [bf16]) -> Stored<'a> {
        match self {
            Operand::F32 => Stored::F32(f32),
            Operand::Bf16 => Stored::Bf16(bf16),
        }
    }
}

/// Where in an arena the operand of each repeat lies.
struct Places {
    size: usize,
    slots: usize,
}

impl Places {
    fn at(&self, repeat: usize) -> usize {
        repeat % self.slots.max(1) * self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_what_fits_and_refuses_the_rest() {
        let mut bench = Bench::new(1 << 16);
        let gemm = |n, dtype| KernelCall::Gemm { m: 3, n, k: 64, dtype };
        for dtype in [DType::F32, DType::Bf16] {
            assert!(bench.time(&gemm(64, dtype)).unwrap().median.0 > 0.0);
        }
        assert!(matches!(bench.time(&gemm(1 << 20, DType::F32)), Err(BenchError::TooLarge(_))));
        assert!(matches!(bench.time(&gemm(64, DType::Fp8)), Err(BenchError::NoKernel(_))));
        let (q_heads, kv_heads, head_dim, dtype) = (4, 2, 16, DType::Bf16);
        let prefill =
            KernelCall::AttentionPrefill { batch: 2, seq_len: 70, q_heads, kv_heads, head_dim, dtype };
        let decode = KernelCall::AttentionDecode { batch: 2, kv_len: 70, q_heads, kv_heads, head_dim, dtype };
        assert!(bench.time(&prefill).unwrap().repeats >= 5 && bench.time(&decode).unwrap().repeats >= 5);
    }
}
