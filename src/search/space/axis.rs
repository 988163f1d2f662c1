//! The five axes a dense decoder is pruned along, and one value per axis.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names;
use crate::search::space::error::SpaceError;

/// An axis of the search space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Number of decoder layers.
    Layers,
    /// Hidden size.
    Hidden,
    /// FFN width.
    Ffn,
    /// Query heads.
    QHeads,
    /// KV heads (groups).
    KvHeads,
}

impl Axis {
    /// Every axis, in the order they are listed to people.
    pub const ALL: [Axis; 5] = [Axis::Layers, Axis::Hidden, Axis::Ffn, Axis::QHeads, Axis::KvHeads];

    /// Name as it stands on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Axis::Layers => "layers",
            Axis::Hidden => "hidden",
            Axis::Ffn => "ffn",
            Axis::QHeads => "q_heads",
            Axis::KvHeads => "kv_heads",
        }
    }

    /// Name for people.
    pub fn title(self) -> &'static str {
        match self {
            Axis::Layers => "layers",
            Axis::Hidden => "hidden size",
            Axis::Ffn => "FFN width",
            Axis::QHeads => "query heads",
            Axis::KvHeads => "KV heads",
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Axis {
    type Err = SpaceError;
    fn from_str(s: &str) -> Result<Self, SpaceError> {
        let name = s.trim().replace('-', "_");
        Axis::ALL.into_iter().find(|axis| axis.name() == name).ok_or_else(|| SpaceError::UnknownAxis {
            found: s.trim().to_string(),
            suggestion: names::closest(&name, Axis::ALL.map(Axis::name)).map(str::to_string),
        })
    }
}

/// One value per axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerAxis<T> {
    /// Of the number of layers.
    pub layers: T,
    /// Of the hidden size.
    pub hidden: T,
    /// Of the FFN width.
    pub ffn: T,
    /// Of the query heads.
    pub q_heads: T,
    /// Of the KV heads.
    pub kv_heads: T,
}

impl<T> PerAxis<T> {
    /// The value of one axis.
    pub fn get(&self, axis: Axis) -> &T {
        match axis {
            Axis::Layers => &self.layers,
            Axis::Hidden => &self.hidden,
            Axis::Ffn => &self.ffn,
            Axis::QHeads => &self.q_heads,
            Axis::KvHeads => &self.kv_heads,
        }
    }

    /// The value of one axis, to change it.
    pub fn get_mut(&mut self, axis: Axis) -> &mut T {
        match axis {
            Axis::Layers => &mut self.layers,
            Axis::Hidden => &mut self.hidden,
            Axis::Ffn => &mut self.ffn,
            Axis::QHeads => &mut self.q_heads,
            Axis::KvHeads => &mut self.kv_heads,
        }
    }
}
