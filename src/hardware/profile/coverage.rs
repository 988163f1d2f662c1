//! Which values of each axis a table covers.

use std::collections::BTreeSet;

use crate::hardware::kernel::KernelCall;
use crate::hardware::profile::table::Row;

/// Values of one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Column name.
    pub name: &'static str,
    /// Distinct values, ascending.
    pub values: Vec<u64>,
}

/// The axes of a table: every column that holds a number and is no latency.
pub fn axes(rows: &[Row]) -> Vec<Axis> {
    let Some(first) = rows.first() else { return Vec::new() };
    let names = numbers(&first.call).map(|(name, _)| name);
    names
        .into_iter()
        .enumerate()
        .filter(|(_, name)| !name.is_empty())
        .map(|(i, name)| {
            let value = |row: &Row| numbers(&row.call).get(i).map(|(_, value)| *value);
            let values: BTreeSet<u64> = rows.iter().filter_map(value).collect();
            Axis { name, values: values.into_iter().collect() }
        })
        .collect()
}

/// Numbers of a call under their column names; unused places have no name.
fn numbers(call: &KernelCall) -> [(&'static str, u64); 5] {
    let none = ("", 0);
    match *call {
        KernelCall::Gemm { m, n, k, .. } => [("m", m), ("n", n), ("k", k), none, none],
        KernelCall::AttentionPrefill { batch, seq_len, q_heads, kv_heads, head_dim, .. } => [
            ("batch", batch),
            ("seq_len", seq_len),
            ("q_heads", q_heads),
            ("kv_heads", kv_heads),
            ("head_dim", head_dim),
        ],
        KernelCall::AttentionDecode { batch, kv_len, q_heads, kv_heads, head_dim, .. } => [
            ("batch", batch),
            ("kv_len", kv_len),
            ("q_heads", q_heads),
            ("kv_heads", kv_heads),
            ("head_dim", head_dim),
        ],
        KernelCall::AllReduce { world, bytes, .. } => [("world", world), ("bytes", bytes), none, none, none],
        // Has no table.
        KernelCall::Elementwise { .. } => [none; 5],
    }
}
