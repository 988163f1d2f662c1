//! What rows must keep among each other: no call twice, worlds that ascend.

use std::collections::HashMap;

use crate::hardware::kernel::KernelCall;
use crate::hardware::profile::defect::Defect;
use crate::hardware::profile::table::{Defects, Table};

/// Notes repeated calls and, for all-reduce, worlds out of order; `line` tells the line of an offset.
pub(super) fn check(table: &Table, line: impl Fn(usize) -> u32, defects: &mut Defects) {
    check_worlds(table, defects);
    let keys: Vec<_> = table.rows.iter().map(|row| key(&row.call)).collect();
    // Tables are mostly sorted, and a sorted table repeats nothing.
    if keys.is_sorted_by(|a, b| a < b) {
        return;
    }
    let mut by_key: Vec<(_, usize)> = keys.into_iter().zip(table.starts.iter().copied()).collect();
    by_key.sort_unstable();
    let mut first = None;
    for (key, start) in by_key {
        match first {
            Some((first_key, first_start)) if first_key == key => {
                defects.push((start, Defect::DuplicateRow { first_line: line(first_start) }));
            }
            _ => first = Some((key, start)),
        }
    }
}

/// For each backend and buffer size, the number of devices ascends down the file. Figures of one size then
/// read as a scaling curve, and a block pasted twice or out of place is noticed.
fn check_worlds(table: &Table, defects: &mut Defects) {
    let mut last = HashMap::new();
    for (row, start) in table.rows.iter().zip(&table.starts) {
        let KernelCall::AllReduce { world, bytes, backend } = row.call else { return };
        match last.insert((backend, bytes), world) {
            Some(before) if before > world => {
                defects.push((*start, Defect::WorldOrder { found: world, before }));
            }
            _ => {}
        }
    }
}

/// The call as numbers in the order of its columns; calls of one family only.
fn key(call: &KernelCall) -> [u64; 6] {
    match *call {
        KernelCall::Gemm { m, n, k, dtype } => [m, n, k, dtype as u64, 0, 0],
        KernelCall::AttentionPrefill { batch, seq_len: length, q_heads, kv_heads, head_dim, dtype }
        | KernelCall::AttentionDecode { batch, kv_len: length, q_heads, kv_heads, head_dim, dtype } => {
            [batch, length, q_heads, kv_heads, head_dim, dtype as u64]
        }
        KernelCall::AllReduce { world, bytes, backend } => [world, bytes, backend as u64, 0, 0, 0],
        KernelCall::Elementwise { bytes, launches } => [bytes, launches, 0, 0, 0, 0],
    }
}
