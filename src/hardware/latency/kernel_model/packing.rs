//! A forest as text: trees in pre-order, five bytes a node, base64.
//!
//! A split is its feature (`0..=254`) and its threshold; a leaf is `255` and its value.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::hardware::latency::kernel_model::boosting::{Forest, Node};

const LEAF: u8 = 255;
const NODE_BYTES: usize = 5;
/// Deeper trees than any fit grows are refused rather than followed.
const DEEPEST: usize = 64;

/// The text is no packed forest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// Not base64.
    #[error("a forest is not valid base64: {0}")]
    NotBase64(String),
    /// A tree ends in the middle, or is deeper than any fit grows.
    #[error("a forest of {nodes} nodes breaks off inside a tree")]
    BrokenTree {
        /// Nodes in the text.
        nodes: usize,
    },
    /// A threshold or value is not finite.
    #[error("node {node} of a forest holds a number that is not finite")]
    NotFinite {
        /// Position of the node.
        node: usize,
    },
}

/// Packs a forest.
pub fn pack(forest: &Forest) -> String {
    let mut bytes = Vec::with_capacity(forest.nodes.len() * NODE_BYTES);
    for &root in &forest.roots {
        pack_node(forest, root as usize, &mut bytes);
    }
    STANDARD.encode(bytes)
}

fn pack_node(forest: &Forest, at: usize, out: &mut Vec<u8>) {
    let node = &forest.nodes[at];
    if node.left == 0 {
        out.push(LEAF);
        out.extend(node.value.to_le_bytes());
    } else {
        out.push(node.feature);
        out.extend(node.threshold.to_le_bytes());
        pack_node(forest, node.left as usize, out);
        pack_node(forest, node.left as usize + 1, out);
    }
}

/// Unpacks a forest.
///
/// # Errors
/// Text that [`pack`] cannot have written.
pub fn unpack(text: &str) -> Result<Forest, PackingError> {
    let bytes = STANDARD.decode(text).map_err(|e| PackingError::NotBase64(e.to_string()))?;
    let nodes = bytes.len() / NODE_BYTES;
    if bytes.len() % NODE_BYTES != 0 {
        return Err(PackingError::BrokenTree { nodes });
    }
    let mut reader = Reader { bytes: &bytes, at: 0, forest: Forest::default() };
    while reader.at < nodes {
        let root = reader.forest.nodes.len();
        reader.forest.roots.push(root as u32);
        reader.forest.nodes.push(Node::LEAF);
        reader.node(root, 0)?;
    }
    Ok(reader.forest)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    forest: Forest,
}

impl Reader<'_> {
    fn node(&mut self, slot: usize, depth: usize) -> Result<(), PackingError> {
        let broken = PackingError::BrokenTree { nodes: self.bytes.len() / NODE_BYTES };
        let (Some(&[kind, a, b, c, d]), true) =
            (self.bytes[self.at * NODE_BYTES..].first_chunk::<NODE_BYTES>(), depth < DEEPEST)
        else {
            return Err(broken);
        };
        let number = f32::from_le_bytes([a, b, c, d]);
        if !number.is_finite() {
            return Err(PackingError::NotFinite { node: self.at });
        }
        self.at += 1;
        if kind == LEAF {
            self.forest.nodes[slot].value = number;
            return Ok(());
        }
        let left = self.forest.nodes.len();
        self.forest.nodes[slot] = Node { feature: kind, threshold: number, left: left as u32, value: 0.0 };
        self.forest.nodes.extend([Node::LEAF; 2]);
        self.node(left, depth + 1)?;
        self.node(left + 1, depth + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = unpack(&STANDARD.encode(&bytes));
            let _ = unpack(&String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn refuses_half_a_tree() {
        let split = [3u8, 0, 0, 0, 0];
        assert_eq!(unpack(&STANDARD.encode(split)), Err(PackingError::BrokenTree { nodes: 1 }));
        assert!(matches!(unpack("?"), Err(PackingError::NotBase64(_))));
        let nan = [LEAF, 0, 0, 192, 127];
        assert_eq!(unpack(&STANDARD.encode(nan)), Err(PackingError::NotFinite { node: 0 }));
    }
}
