//! Which calls are worth measuring: the coarse grid a table starts from, and those it may grow by.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::units::{DType, FlopsPerSecond};

/// Bounds of the calls of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Domain {
    /// Widest hidden size, FFN or output of a matrix.
    pub width: u64,
    /// Most tokens of a pass.
    pub tokens: u64,
    /// Longest KV cache.
    pub cached: u64,
    /// Most sequences of a decode batch.
    pub batch: u64,
    /// Numbers an operand may have.
    pub operand: u64,
    /// Rate of arithmetic, for leaving out calls that take too long.
    pub peak: FlopsPerSecond,
}

/// Longest single call at the peak rate, in seconds: five repeats of it and more must fit into a budget of minutes.
const LONGEST: f64 = 0.15;
/// Narrowest matrix.
const NARROWEST: u64 = 128;
/// Head sizes of current models.
const HEAD_DIMS: [u64; 4] = [64, 96, 128, 256];

impl Domain {
    /// The call is neither too long nor too large.
    pub fn holds(&self, call: &KernelCall) -> bool {
        let operand = match *call {
            KernelCall::Gemm { n, k, .. } => n * k,
            KernelCall::AttentionPrefill { batch, seq_len: len, kv_heads, head_dim, .. }
            | KernelCall::AttentionDecode { batch, kv_len: len, kv_heads, head_dim, .. } => {
                2 * batch * len * kv_heads * head_dim
            }
            KernelCall::AllReduce { .. } | KernelCall::Elementwise { .. } => return false,
        };
        operand <= self.operand && (call.flops() / self.peak).0 <= LONGEST
    }

    /// The coarse grid: powers of eight and thereabouts on every axis, without what the domain does not hold.
    pub fn start(&self, family: KernelFamily, dtype: DType) -> Vec<KernelCall> {
        let mut calls = Vec::new();
        match family {
            KernelFamily::Gemm => {
                for m in [1, 16, 256, self.tokens] {
                    for n in [NARROWEST * 2, self.width / 8, self.width * 2] {
                        for k in [NARROWEST * 2, self.width / 8, self.width] {
                            calls.push(KernelCall::Gemm { m, n, k, dtype });
                        }
                    }
                }
            }
            KernelFamily::AttentionPrefill => {
                for (batch, seq_len) in [(1, 16), (1, 256), (1, self.tokens), (4, 128)] {
                    for (q_heads, kv_heads, head_dim) in [(4, 1, 64), (16, 16, 64), (8, 2, 128), (32, 8, 128)]
                    {
                        calls.push(KernelCall::AttentionPrefill {
                            batch,
                            seq_len,
                            q_heads,
                            kv_heads,
                            head_dim,
                            dtype,
                        });
                    }
                }
            }
            _ => {
                for (batch, kv_len) in [(1, 16), (1, 512), (1, self.cached), (self.batch / 4, 256)] {
                    for (q_heads, kv_heads, head_dim) in [(4, 1, 64), (16, 16, 64), (8, 2, 128), (32, 8, 128)]
                    {
                        let batch = batch.max(1);
                        calls.push(KernelCall::AttentionDecode {
                            batch,
                            kv_len,
                            q_heads,
                            kv_heads,
                            head_dim,
                            dtype,
                        });
                    }
                }
            }
        }
        calls.retain(|call| self.holds(call));
        calls.sort();
        calls.dedup();
        calls
    }

    /// A call drawn from the domain, sizes evenly over their logarithms; `None` where the draw falls outside.
    pub fn draw(&self, family: KernelFamily, dtype: DType, rng: &mut ChaCha8Rng) -> Option<KernelCall> {
        let call = match family {
            KernelFamily::Gemm => KernelCall::Gemm {
                m: tokens(rng, self.tokens),
                n: width(rng, self.width * 2),
                k: width(rng, self.width),
                dtype,
            },
            KernelFamily::AttentionPrefill => {
                let (batch, seq_len) = (tokens(rng, 8), even(rng, 8, self.tokens));
                let (q_heads, kv_heads, head_dim) = self.heads(rng)?;
                if batch * seq_len > 2 * self.tokens {
                    return None;
                }
                KernelCall::AttentionPrefill { batch, seq_len, q_heads, kv_heads, head_dim, dtype }
            }
            _ => {
                let (batch, kv_len) = (tokens(rng, self.batch), even(rng, 8, self.cached));
                let (q_heads, kv_heads, head_dim) = self.heads(rng)?;
                KernelCall::AttentionDecode { batch, kv_len, q_heads, kv_heads, head_dim, dtype }
            }
        };
        self.holds(&call).then_some(call)
    }

    fn heads(&self, rng: &mut ChaCha8Rng) -> Option<(u64, u64, u64)> {
        let head_dim = HEAD_DIMS.get(rng.random_range(0..HEAD_DIMS.len())).copied()?;
        let most = (self.width / head_dim).max(1);
        let kv_heads = even(rng, 1, most.min(64));
        let group = even(rng, 1, (most / kv_heads).clamp(1, 16));
        Some((kv_heads * group, kv_heads, head_dim))
    }
}

/// A number from `low` to `high`, evenly over its logarithm.
fn even(rng: &mut ChaCha8Rng, low: u64, high: u64) -> u64 {
    let (from, to) = ((low as f64).ln(), (high.max(low) as f64).ln());
    let x = (from + (to - from) * rng.random::<f64>()).exp().round() as u64;
    x.clamp(low, high.max(low))
}

/// Tokens of a pass: one in three draws is a single one, as in decoding.
fn tokens(rng: &mut ChaCha8Rng, most: u64) -> u64 {
    if rng.random_range(0..3) == 0 { 1 } else { even(rng, 1, most) }
}

/// Widths are whole multiples, of 64 where they are wide.
fn width(rng: &mut ChaCha8Rng, most: u64) -> u64 {
    let x = even(rng, NARROWEST, most);
    let step = if x < 512 { 16 } else { 64 };
    (x / step * step).max(NARROWEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const DOMAIN: Domain = Domain {
        width: 4096,
        tokens: 1024,
        cached: 4096,
        batch: 64,
        operand: 1 << 26,
        peak: FlopsPerSecond(2e11),
    };

    #[test]
    fn starts_and_draws_stay_inside() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for family in [KernelFamily::Gemm, KernelFamily::AttentionPrefill, KernelFamily::AttentionDecode] {
            let start = DOMAIN.start(family, DType::F32);
            assert!(start.len() >= 12, "{family}: {}", start.len());
            let drawn: Vec<KernelCall> =
                (0..300).filter_map(|_| DOMAIN.draw(family, DType::F32, &mut rng)).collect();
            assert!(drawn.len() > 150, "{family}: {}", drawn.len());
            for call in start.iter().chain(&drawn) {
                assert!(DOMAIN.holds(call) && call.family() == family, "{call:?}");
                if let KernelCall::AttentionDecode { q_heads, kv_heads, .. } = call {
                    assert_eq!(q_heads % kv_heads, 0);
                }
            }
        }
    }
}
