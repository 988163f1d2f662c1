//! The space as a table for people.

use std::collections::BTreeSet;
use std::fmt;

use comfy_table::Table;
use comfy_table::presets;

use crate::search::space::SearchSpace;
use crate::search::space::axis::Axis;
use crate::units;

/// One axis as shown to people.
#[derive(Clone, Debug, PartialEq)]
pub struct AxisSummary {
    /// The axis.
    pub axis: Axis,
    /// The parent's value.
    pub parent: u64,
    /// Allowed values, ascending.
    pub values: Vec<u64>,
    /// Multiple asked for.
    pub multiple: u64,
}

impl SearchSpace {
    /// Every axis with its values. Query and KV heads show the values that occur in an allowed pair.
    pub fn summary(&self) -> Vec<AxisSummary> {
        let distinct = |values: BTreeSet<u64>| values.into_iter().collect();
        Axis::ALL
            .into_iter()
            .map(|axis| {
                let values = match axis {
                    Axis::Layers => self.layers.clone(),
                    Axis::Hidden => self.hidden.clone(),
                    Axis::Ffn => self.ffn.clone(),
                    Axis::QHeads => distinct(self.heads.iter().map(|(q, _)| *q).collect()),
                    Axis::KvHeads => distinct(self.heads.iter().map(|(_, kv)| *kv).collect()),
                };
                let (parent, multiple) = (*self.parent.get(axis), *self.multiples.get(axis));
                AxisSummary { axis, parent, values, multiple }
            })
            .collect()
    }
}

fn values_text(values: &[u64]) -> String {
    match values {
        [first, .., last] if values.len() > 8 => format!("{first} … {last}"),
        _ => values.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
    }
}

impl fmt::Display for SearchSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["axis", "parent", "multiple of", "values", "count"]);
        for AxisSummary { axis, parent, values, multiple } in self.summary() {
            let cells = [
                axis.title().to_string(),
                parent.to_string(),
                multiple.to_string(),
                values_text(&values),
                values.len().to_string(),
            ];
            table.add_row(cells);
        }
        let counts = self.counts();
        let (depths, widths, ffns, pairs) = (counts.layers, counts.hidden, counts.ffn, counts.heads);
        writeln!(f, "{table}")?;
        write!(
            f,
            "{} shapes = {depths} depths x {widths} hidden sizes x {ffns} FFN widths x {pairs} pairs of query \
             and KV heads",
            units::group_digits(self.size(), ',')
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_few_values_and_abbreviates_many() {
        assert_eq!(values_text(&[4, 5, 8]), "4, 5, 8");
        assert_eq!(values_text(&(1..=9).collect::<Vec<_>>()), "1 … 9");
    }
}
