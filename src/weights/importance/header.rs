//! What statistics are about: model, data, tokenizer, settings, and which part of the samples is inside.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::model::architecture::Architecture;
use crate::weights::importance::error::Mismatch;

/// Version of the file format.
pub const FORMAT: u64 = 1;

/// Most parts of a run.
pub const MOST_SHARDS: u64 = 1 << 16;

/// What stands before the sums in a file of statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Program and version that gathered them, such as `archplan 0.1.0`.
    pub made_by: String,
    /// The model they are of.
    pub model: ModelIdentity,
    /// The text it read.
    pub data: DataIdentity,
    /// SHA-256 of `tokenizer.json`, in hex; empty where the data are token ids.
    pub tokenizer_sha256: String,
    /// Tokens in a sample.
    pub seq_len: u64,
    /// Tokens at the start of each sample that are not counted.
    pub skip_first: u64,
    /// Samples of all parts together.
    pub samples: u64,
    /// Number of parts the samples are divided into.
    pub shards: u64,
    /// Parts that are inside, from 0, ascending.
    pub parts: Vec<u64>,
    /// Whether Gram matrices are inside.
    pub grams: bool,
}

/// Which model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelIdentity {
    /// Fingerprint of its checkpoint; empty until an import has looked at the checkpoint.
    #[serde(default)]
    pub fingerprint: String,
    /// Its shape.
    pub architecture: Architecture,
    /// Whether it has post-norms.
    pub sandwich: bool,
}

/// Which text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataIdentity {
    /// Where it was, for people; not compared.
    pub path: String,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
}

/// Samples of part `index` out of `of`: a contiguous range, the ranges of all parts in order being all samples.
pub fn part_range(index: u64, of: u64, samples: u64) -> Range<u64> {
    let bound = |i: u64| (u128::from(samples) * u128::from(i.min(of)) / u128::from(of.max(1))) as u64;
    bound(index)..bound(index.saturating_add(1))
}

impl Header {
    /// Samples that the parts inside must have.
    pub fn samples_inside(&self) -> u64 {
        let count = |part: &u64| {
            let range = part_range(*part, self.shards, self.samples);
            range.end - range.start
        };
        self.parts.iter().map(count).sum()
    }

    /// First sample of the first part inside, from 0.
    pub fn first_sample(&self) -> u64 {
        self.parts.first().map_or(0, |part| part_range(*part, self.shards, self.samples).start)
    }

    /// Parts that are not inside.
    pub fn missing_parts(&self) -> Vec<u64> {
        let mut present = self.parts.iter().peekable();
        let absent = |part: &u64| present.next_if(|inside| *inside == part).is_none();
        (0..self.shards).filter(absent).collect()
    }

    /// Whether the numbers in the header can be.
    pub(crate) fn defect(&self) -> Option<String> {
        if let Err(error) = self.model.architecture.validate() {
            return Some(error.to_string());
        }
        let ascending = self.parts.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = self.parts.last().is_some_and(|last| *last < self.shards);
        if !ascending || !inside {
            return Some(format!(
                "parts {:?} of {}: expected one at least, ascending, below {}",
                self.parts, self.shards, self.shards
            ));
        }
        if self.shards > self.samples.min(MOST_SHARDS) {
            return Some(format!(
                "{} parts of {} samples: expected {MOST_SHARDS} at most, and a sample in each",
                self.shards, self.samples
            ));
        }
        if self.skip_first >= self.seq_len {
            return Some(format!("seq_len {} with skip_first {}", self.seq_len, self.skip_first));
        }
        None
    }

    /// Whether these statistics and `other` are of the same run over the same model, data and settings: then they can
    /// be added. `expected` and `found` of the error are this header's and the other's.
    ///
    /// # Errors
    /// The first thing that differs, by name.
    pub fn check_same_run(&self, other: &Header) -> Result<(), Mismatch> {
        self.check_model(&other.model.fingerprint, &other.model.architecture, other.model.sandwich)?;
        let differs = |what: &'static str, ours: &str, theirs: &str| match ours == theirs {
            true => Ok(()),
            false => Err(Mismatch { what, expected: ours.into(), found: theirs.into() }),
        };
        differs("data (sha256)", &self.data.sha256, &other.data.sha256)?;
        differs("tokenizer (sha256)", &self.tokenizer_sha256, &other.tokenizer_sha256)?;
        differs("version", &self.made_by, &other.made_by)?;
        for (what, ours, theirs) in [
            ("seq_len", self.seq_len, other.seq_len),
            ("skip_first", self.skip_first, other.skip_first),
            ("number of samples", self.samples, other.samples),
            ("number of shards", self.shards, other.shards),
        ] {
            differs(what, &ours.to_string(), &theirs.to_string())?;
        }
        let grams = |with: bool| if with { "with" } else { "without" };
        differs("Gram matrices", grams(self.grams), grams(other.grams))
    }

    /// Whether the statistics are of this model. `expected` and `found` of the error are the statistics' and the
    /// model's.
    ///
    /// # Errors
    /// Shape, norms or fingerprint differ.
    pub fn check_model(
        &self,
        fingerprint: &str,
        architecture: &Architecture,
        sandwich: bool,
    ) -> Result<(), Mismatch> {
        self.check_shape(architecture, sandwich)?;
        if self.model.fingerprint != fingerprint {
            let (expected, found) = (self.model.fingerprint.clone(), fingerprint.into());
            return Err(Mismatch { what: "model fingerprint", expected, found });
        }
        Ok(())
    }

    /// Whether the statistics are of a model of this shape.
    ///
    /// # Errors
    /// Shape or norms differ.
    pub fn check_shape(&self, architecture: &Architecture, sandwich: bool) -> Result<(), Mismatch> {
        let ours = &self.model;
        if ours.architecture.runs() != architecture.runs()
            || ours.architecture.hidden != architecture.hidden
            || ours.architecture.head_dim != architecture.head_dim
        {
            let (expected, found) = (ours.architecture.to_string(), architecture.to_string());
            return Err(Mismatch { what: "model shape", expected, found });
        }
        if ours.sandwich != sandwich {
            let norms = |sandwich: bool| if sandwich { "sandwich" } else { "pre-norm" }.to_string();
            let (expected, found) = (norms(ours.sandwich), norms(sandwich));
            return Err(Mismatch { what: "model norms", expected, found });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_samples_in_order() {
        for (of, samples) in [(1, 1), (3, 10), (7, 7), (4, 1_000_003)] {
            let mut next = 0;
            for index in 0..of {
                let range = part_range(index, of, samples);
                assert!(range.start == next && range.end > range.start);
                next = range.end;
            }
            assert_eq!(next, samples);
        }
    }
}
