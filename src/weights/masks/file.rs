//! `mask.json`: a search for masks under way or done, read strictly, written whole or not at all.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files;
use crate::model::architecture::Architecture;
use crate::quality::scores::TextRecord;
use crate::search::solver::masks::{Options, Walk};
use crate::weights::importance::criteria::Criterion;
use crate::weights::masks::error::MasksError;
use crate::weights::masks::layout::{Layout, Scope};
use crate::weights::surgery::choice::scores::Scores;

/// Version of the file.
pub const FORMAT: u64 = 1;

/// What a search belongs to; a search of anything else does not go on from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the file.
    pub format: u64,
    /// Program and version.
    pub made_by: String,
    /// Fingerprint of the parent's checkpoint.
    pub fingerprint: String,
    /// The parent's shape.
    pub parent: Architecture,
    /// Shape whose widths are kept, of every layer or in all.
    pub target: Architecture,
    /// SHA-256 of the statistics it began with.
    pub importance_sha256: String,
    /// Criterion it began with.
    pub criterion: Criterion,
    /// Text.
    pub data: TextRecord,
    /// Samples a step.
    pub batch: u64,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskFile {
    /// What it belongs to.
    pub header: Header,
    /// Tokens that were run through masked parents.
    pub tokens_run: u64,
    /// Units.
    pub layout: Layout,
    /// Keep probabilities, and where the walk stands.
    pub walk: Walk,
}

impl MaskFile {
    /// Reads the bytes of a file, finished or not; `path` names it in errors.
    ///
    /// # Errors
    /// Anything else.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, MasksError> {
        let refused = |reason: String| MasksError::File { path: path.into(), reason };
        let file: Self = serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
        match file.defect() {
            None => Ok(file),
            Some(reason) => Err(refused(reason)),
        }
    }

    fn defect(&self) -> Option<String> {
        let Self { header, layout, walk, .. } = self;
        if header.format != FORMAT {
            return Some(format!("format {}: this version reads {FORMAT}", header.format));
        }
        let shapes: Vec<_> = header.parent.layer_shapes().collect();
        let fits = layout.order.len() == shapes.len() && layout.groups.len() == shapes.len();
        let is_order = |(order, ffn): (&Vec<u32>, u64)| {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            sorted.into_iter().map(u64::from).eq(0..ffn)
        };
        let orders = layout.order.iter().zip(shapes.iter().map(|shape| shape.ffn)).all(is_order);
        let groups = layout.groups.iter().eq(shapes.iter().map(|shape| &shape.kv_heads));
        if !(fits && orders && groups) {
            return Some("the units are not those of the parent's shape".into());
        }
        if walk.keep.iter().any(|keep| !(0.0..=1.0).contains(keep)) {
            return Some("a keep probability outside of 0 to 1".into());
        }
        let again = Walk::new(walk.pools.clone(), &walk.keep, walk.options);
        match (again, layout.pools(&header.parent, &header.target)) {
            (Err(error), _) => Some(error.to_string()),
            (_, Err(error)) => Some(error.to_string()),
            (_, Ok(pools)) if pools != walk.pools => Some("the pools are not those of the target".into()),
            _ => None,
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), MasksError> {
        let written = serde_json::to_vec(self).map_err(std::io::Error::other);
        let written = written.and_then(|bytes| files::write_atomically(path, &bytes));
        written.map_err(|error| MasksError::Io { path: path.into(), error })
    }

    /// Whether a search with this beginning goes on from the file.
    ///
    /// # Errors
    /// What differs.
    pub fn same(&self, begun: &MaskFile, path: &Path) -> Result<(), MasksError> {
        let pairs: [(&'static str, String, String); 8] = [
            ("the parent", self.header.fingerprint.clone(), begun.header.fingerprint.clone()),
            ("the target", self.header.target.to_string(), begun.header.target.to_string()),
            ("the statistics", self.header.importance_sha256.clone(), begun.header.importance_sha256.clone()),
            ("the criterion", self.header.criterion.to_string(), begun.header.criterion.to_string()),
            ("the text", text(&self.header.data), text(&begun.header.data)),
            ("the batch", self.header.batch.to_string(), begun.header.batch.to_string()),
            ("the units", units(&self.layout), units(&begun.layout)),
            ("the walk", options(&self.walk.options), options(&begun.walk.options)),
        ];
        match pairs.into_iter().find(|(_, found, expected)| found != expected) {
            None => Ok(()),
            Some((what, found, expected)) => {
                let advice = ": remove the file to begin anew, or name another folder";
                Err(MasksError::Other { path: path.into(), what, found, expected, advice })
            }
        }
    }

    /// Puts the probabilities in the place of the neurons' and groups' scores; among equal ones the order of importance
    /// decides. The other scores stay.
    ///
    /// # Errors
    /// Scores of another parent.
    pub fn rank(&self, fingerprint: &str, path: &Path, scores: &mut Scores) -> Result<(), MasksError> {
        if self.header.fingerprint != fingerprint {
            let (found, expected) = (self.header.fingerprint.clone(), fingerprint.to_string());
            let advice = ": search masks of this parent";
            return Err(MasksError::Other { path: path.into(), what: "the parent", found, expected, advice });
        }
        let mask = self.mask();
        let mut units = self.walk.keep.iter().zip(mask.iter().copied());
        // Those found come first: their number in a layer need not follow the probabilities alone.
        let score = |(keep, found): (&f64, bool)| keep + f64::from(u8::from(found));
        for (layer, order) in scores.layers.iter_mut().zip(&self.layout.order) {
            for (unit, neurons) in order.chunks(self.layout.unit.max(1) as usize).enumerate() {
                let Some(score) = units.next().map(score) else { continue };
                for (place, neuron) in neurons.iter().enumerate() {
                    let rank = (unit * neurons.len() + place) as f64 / order.len().max(1) as f64;
                    layer.ffn.get_mut(*neuron as usize).into_iter().for_each(|s| *s = score - 1e-9 * rank);
                }
            }
        }
        for layer in &mut scores.layers {
            layer.groups.iter_mut().zip(units.by_ref()).for_each(|(group, unit)| *group = score(unit));
        }
        Ok(())
    }

    /// What the walk has come to.
    pub fn mask(&self) -> Vec<bool> {
        self.layout.found(&self.walk.keep, &self.walk.pools)
    }

    /// The shape of it.
    pub fn shape(&self) -> Architecture {
        self.layout.shape(&self.header.parent, &self.mask())
    }
}

fn text(of: &TextRecord) -> String {
    format!("{} samples of {} tokens of {}", of.samples, of.seq_len, of.sha256)
}

fn units(of: &Layout) -> String {
    let scope = match of.scope {
        Scope::Model => "model",
        Scope::Layer => "layer",
    };
    format!("{} neurons a unit, widths in multiples of {}, scope {scope}", of.unit, of.multiple)
}

fn options(of: &Options) -> String {
    let Options { steps, masks, rate, baseline, seed } = of;
    format!("{steps} steps of {masks} masks, rate {rate}, baseline {baseline}, seed {seed}")
}
