//! Memory for activations, kept from layer to layer and batch to batch: fresh memory is slow to come by.

use crate::compute::causal::Packed;
use crate::compute::elementwise::Rotary;
use crate::weights::network::rotary::Frequencies;

/// Buffers of a forward pass. Whatever stands in them is of no meaning between calls.
#[derive(Clone, Debug, Default)]
pub struct Room {
    pub(super) normed: Vec<f32>,
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    pub(super) packed: Packed,
    pub(super) attended: Vec<f32>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    pub(super) update: Vec<f32>,
    pub(super) tables: Tables,
}

/// Cosines and sines, by the frequencies they belong to.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    tables: Vec<(Frequencies, Rotary)>,
    pub(super) positions: Vec<usize>,
}

impl Tables {
    /// Turns queries and keys of every sequence of the batch: `heads` heads a token each.
    pub(super) fn turn(
        &mut self,
        frequencies: &Frequencies,
        lengths: &[usize],
        [(q, q_heads), (k, kv_heads)]: [(&mut [f32], usize); 2],
    ) {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let stale =
            |(known, table): &(Frequencies, Rotary)| known == frequencies && table.positions() < longest;
        self.tables.retain(|entry| !stale(entry));
        if !self.tables.iter().any(|(known, _)| known == frequencies) {
            // A batch with a little longer sequences shall not make a table anew.
            let positions = longest.next_power_of_two();
            let table = Rotary::with_frequencies(positions, &frequencies.radians, frequencies.factor);
            self.tables.push((frequencies.clone(), table));
        }
        self.positions.clear();
        self.positions.extend(lengths.iter().flat_map(|len| 0..*len));
        let head_dim = 2 * frequencies.radians.len();
        for (known, table) in &self.tables {
            if known == frequencies {
                table.turn(q, q_heads * head_dim, q_heads, &self.positions);
                table.turn(k, kv_heads * head_dim, kv_heads, &self.positions);
            }
        }
    }
}

/// A buffer of exactly `len` numbers of no meaning.
pub(super) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}
