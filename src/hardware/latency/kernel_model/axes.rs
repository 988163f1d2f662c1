//! The axes of each kernel family: how a call becomes coordinates, and which axes may be missing at once.

use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::latency::kernel_model::lattice::Coordinates;
use crate::units::DType;

/// Axis names of a family that is learned from a grid, in coordinate order.
pub fn names(family: KernelFamily) -> &'static [&'static str] {
    match family {
        KernelFamily::Gemm => &["m", "n", "k"],
        KernelFamily::AttentionPrefill => &["batch", "seq_len", "q_heads", "kv_heads", "head_dim"],
        KernelFamily::AttentionDecode => &["batch", "kv_len", "q_heads", "kv_heads", "head_dim"],
        KernelFamily::AllReduce | KernelFamily::Elementwise => &[],
    }
}

/// Family, element type and coordinates of a call; `None` for families that are not learned from a grid
/// and for dimensions beyond 32 bits.
pub fn coordinates(call: &KernelCall) -> Option<(KernelFamily, DType, Coordinates)> {
    let (dtype, wide) = match *call {
        KernelCall::Gemm { m, n, k, dtype } => (dtype, [m, n, k, 0, 0]),
        KernelCall::AttentionPrefill { batch, seq_len, q_heads, kv_heads, head_dim, dtype } => {
            (dtype, [batch, seq_len, q_heads, kv_heads, head_dim])
        }
        KernelCall::AttentionDecode { batch, kv_len, q_heads, kv_heads, head_dim, dtype } => {
            (dtype, [batch, kv_len, q_heads, kv_heads, head_dim])
        }
        KernelCall::AllReduce { .. } | KernelCall::Elementwise { .. } => return None,
    };
    let mut narrow = Coordinates::default();
    for (slot, value) in narrow.iter_mut().zip(wide) {
        *slot = u32::try_from(value).ok()?;
    }
    Some((call.family(), dtype, narrow))
}

/// The call at `coordinates`.
pub fn call(family: KernelFamily, dtype: DType, coordinates: &Coordinates) -> KernelCall {
    let [a, b, c, d, e] = coordinates.map(u64::from);
    match family {
        KernelFamily::AttentionPrefill => {
            KernelCall::AttentionPrefill { batch: a, seq_len: b, q_heads: c, kv_heads: d, head_dim: e, dtype }
        }
        KernelFamily::AttentionDecode => {
            KernelCall::AttentionDecode { batch: a, kv_len: b, q_heads: c, kv_heads: d, head_dim: e, dtype }
        }
        _ => KernelCall::Gemm { m: a, n: b, k: c, dtype },
    }
}

/// Axis orders to interpolate in: the last axis of an order is the one interpolated first-hand.
pub fn orders(family: KernelFamily) -> &'static [&'static [usize]] {
    match family {
        KernelFamily::Gemm => &[&[1, 2, 0], &[0, 2, 1], &[0, 1, 2]],
        _ => &[&[4, 2, 3, 1, 0], &[4, 2, 3, 0, 1], &[4, 3, 0, 1, 2], &[4, 2, 0, 1, 3]],
    }
}

/// Sets of axes (bit masks) whose value may be missing from the table; 0 = only the row is missing.
/// These are what pruned shapes meet, and what the residual is trained for.
pub fn patterns(family: KernelFamily) -> &'static [u8] {
    match family {
        KernelFamily::Gemm => &[0, 1, 2, 4, 3, 5, 6, 7],
        _ => &[0, 1, 2, 4, 8, 3, 6, 10, 12, 14, 7, 15],
    }
}

/// The trained pattern nearest to `mask`: itself, else the one with fewest differing axes, more rather than
/// fewer axes missing.
pub fn nearest_pattern(family: KernelFamily, mask: u8) -> usize {
    let distance = |p: u8| ((p ^ mask).count_ones(), (mask & !p).count_ones());
    (0..patterns(family).len()).min_by_key(|&i| distance(patterns(family)[i])).unwrap_or(0)
}
