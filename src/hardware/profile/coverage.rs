//! Which values of each axis a table covers.

use std::collections::BTreeSet;

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
    let mut axes: Vec<(&'static str, BTreeSet<u64>)> = Vec::new();
    for row in rows {
        for (i, (name, value)) in row.call.dimensions().into_iter().enumerate() {
            match axes.get_mut(i) {
                Some((_, values)) => {
                    values.insert(value);
                }
                None => axes.push((name, BTreeSet::from([value]))),
            }
        }
    }
    axes.into_iter().map(|(name, values)| Axis { name, values: values.into_iter().collect() }).collect()
}
