//! Lines of a study.

use serde::{Deserialize, Serialize};

use crate::model::architecture::Architecture;
use crate::quality::scores::Measured;
use crate::quality::scores::curve::Nats;
use crate::quality::scores::table::Child;
use crate::quality::study::error::StudyError;

/// Version of the format.
pub const FORMAT: u32 = 1;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first: what the study belongs to.
    Study(Header),
    /// A shape that may be asked for.
    Candidate(Candidate),
    /// Someone was asked for a shape.
    Asked(Asked),
    /// What was found.
    Told(Told),
}

/// What a study belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the format.
    pub format: u32,
    /// Tool and version.
    pub made_by: String,
    /// The command that began it.
    pub command: String,
    /// Fingerprint of the parent's checkpoint.
    pub fingerprint: String,
    /// The parent's shape.
    pub parent: Architecture,
    /// SHA-256 of the scores the candidates were ranked by.
    pub scores_sha256: String,
}

impl Header {
    /// Whether this version reads it.
    ///
    /// # Errors
    /// Another format.
    pub fn check(&self) -> Result<(), StudyError> {
        match self.format {
            FORMAT => Ok(()),
            found => Err(StudyError::Format { found, expected: FORMAT }),
        }
    }

    /// Whether another header is that of the same study; the command may differ.
    ///
    /// # Errors
    /// What differs.
    pub fn same(&self, other: &Header) -> Result<(), StudyError> {
        let pairs = [
            ("parent", self.fingerprint == other.fingerprint && self.parent == other.parent),
            ("file of scores", self.scores_sha256 == other.scores_sha256),
        ];
        match pairs.into_iter().find(|(_, same)| !same) {
            Some((what, _)) => Err(StudyError::Other { what }),
            None => Ok(()),
        }
    }
}

/// A shape that may be asked for, with what its scores add up to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Its name: the shape, and the layers that are dropped.
    pub id: String,
    /// What is made of the parent.
    #[serde(flatten)]
    pub child: Child,
    /// Parameters.
    pub params: u64,
    /// Whether it meets the budgets; others may be tried to learn from.
    pub feasible: bool,
    /// Scores by axis, nats a token, in the order of [`crate::quality::scores::table::AXES`].
    pub nats: [f64; 4],
    /// Their variances.
    pub variance: [f64; 4],
}

impl Candidate {
    /// Of a child with its scores.
    pub fn new(child: Child, parent_depth: u64, params: u64, feasible: bool, axes: [Nats; 4]) -> Self {
        let dropped: Vec<String> = child.dropped(parent_depth).iter().map(u64::to_string).collect();
        let shape = match child.architecture.uniform_shape() {
            Some(_) => child.architecture.to_string(),
            None => {
                let runs = child.architecture.runs().into_iter();
                let of = |(n, s): (u64, crate::model::architecture::LayerShape)| {
                    format!("{n}x(f{} q{} kv{})", s.ffn, s.q_heads, s.kv_heads)
                };
                format!("d{} {}", child.architecture.hidden, runs.map(of).collect::<Vec<_>>().join(" "))
            }
        };
        let id = if dropped.is_empty() { shape } else { format!("{shape} without {}", dropped.join(",")) };
        Self { id, child, params, feasible, nats: axes.map(|n| n.mean), variance: axes.map(|n| n.variance) }
    }

    /// Whether its parts fit together.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self, header: &Header) -> Result<(), StudyError> {
        let fail = |problem: String| Err(StudyError::Candidate { id: self.id.clone(), problem });
        let (kept, depth) = (&self.child.kept, header.parent.depth());
        if let Err(error) = self.child.architecture.validate() {
            return fail(error.to_string());
        }
        if kept.len() as u64 != self.child.architecture.depth() {
            return fail(format!(
                "{} layers kept for {} layers",
                kept.len(),
                self.child.architecture.depth()
            ));
        }
        if !kept.windows(2).all(|pair| pair[0] < pair[1]) || kept.iter().any(|layer| *layer >= depth) {
            return fail(format!("kept layers {kept:?}: expected ascending ones below {depth}"));
        }
        let numbers = self.nats.iter().chain(&self.variance);
        if !numbers.clone().all(|x| x.is_finite()) || self.variance.iter().any(|v| *v < 0.0) {
            return fail("nats and variance: expected finite numbers, variances of 0 or more".into());
        }
        Ok(())
    }
}

/// Someone was asked for a shape.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The candidate.
    pub id: String,
    /// Who was asked, as they called themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// What was predicted of it, nats a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_nats: Option<f64>,
    /// Standard deviation of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation_nats: Option<f64>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The candidate.
    pub id: String,
    /// What it loses against its parent, nats a token; none where it could not be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_increase_nats: Option<f64>,
    /// Standard error of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
    /// Why it could not be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// How it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_by: Option<String>,
}

impl Told {
    /// The loss, where there is one.
    pub fn loss(&self) -> Option<Measured> {
        let mean = self.loss_increase_nats?;
        Some(Measured { mean, standard_error: self.standard_error })
    }

    /// Whether it says one thing.
    ///
    /// # Errors
    /// Neither a loss nor a failure, or both; numbers that are none.
    pub fn check(&self) -> Result<(), StudyError> {
        let fail = |problem: &str| Err(StudyError::Result { id: self.id.clone(), problem: problem.into() });
        if self.loss_increase_nats.is_some() == self.failed.is_some() {
            return fail("expected either loss_increase_nats or failed");
        }
        if self.loss_increase_nats.is_some_and(|x| !x.is_finite())
            || self.standard_error.is_some_and(|x| !(x.is_finite() && x >= 0.0))
        {
            return fail("expected finite nats a token, and a standard error of 0 or more");
        }
        Ok(())
    }
}
