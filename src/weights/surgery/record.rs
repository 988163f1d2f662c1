//! `archplan.json`: what was done to make a checkpoint, beside its weights.

use serde::{Deserialize, Serialize};

use crate::model::architecture::Architecture;
use crate::weights::surgery::absorb::Site;
use crate::weights::surgery::cut::Cut;
use crate::weights::surgery::options::Options;

/// Version of the file.
pub const FORMAT: u64 = 1;

/// The record of a surgery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of this file.
    pub format: u64,
    /// Program and version.
    pub made_by: String,
    /// Command line.
    pub command: String,
    /// The parent.
    pub parent: ParentRecord,
    /// The child's shape.
    pub architecture: Architecture,
    /// Parameters of the child.
    pub parameters: u64,
    /// Steps as switched.
    pub options: Options,
    /// Post-norms were absorbed.
    pub absorbed_post_norms: bool,
    /// The parent's post-norms in kept layers.
    pub post_norms: Vec<Site>,
    /// Statistics used, by the SHA-256 of their file; none where none were.
    pub importance_sha256: Option<String>,
    /// Mask that ranked neurons and KV groups, by the SHA-256 of its file; none where the criterion did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_sha256: Option<String>,
    /// Text repaired on; none where nothing was.
    pub repair_data: Option<DataRecord>,
    /// The repair, layer by layer.
    pub repair: Vec<LayerRepair>,
    /// Kept indices.
    pub kept: Cut,
    /// Tensors of the parent that are no part of the model and were left out.
    pub dropped_tensors: Vec<String>,
    /// Files of the parent that were left out, with the reason.
    pub dropped_files: Vec<String>,
}

/// The parent of a child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParentRecord {
    /// Name of its directory.
    pub name: String,
    /// Fingerprint of its checkpoint.
    pub fingerprint: String,
    /// Shape.
    pub architecture: Architecture,
    /// Parameters.
    pub parameters: u64,
}

/// Text used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecord {
    /// Where it was.
    pub path: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Sequences.
    pub samples: u64,
    /// Tokens.
    pub tokens: u64,
}

/// What the repair of a layer came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerRepair {
    /// The child's layer, from 0.
    pub layer: u64,
    /// Its projections.
    pub refits: Vec<Refit>,
    /// Share of the energy of the parent's stream, in the kept channels behind this layer, that the child misses on kept-out
    /// sequences; none where the repair was made from Gram matrices.
    pub stream_error: Option<f64>,
}

/// One refitted projection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refit {
    /// Such as `o_proj`.
    pub projection: String,
    /// Ridge chosen on kept-out sequences, as a share of the inputs' mean square; none where the sliced weights
    /// were best, or where the repair was made from Gram matrices with one ridge for all.
    pub strength: Option<f64>,
}
