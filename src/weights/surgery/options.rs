//! The steps of the surgery that can be switched.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{closest, did_you_mean};
use crate::weights::importance::criteria::Criterion;

/// Which layers go when the target is shallower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DepthMethod {
    /// Those of least block influence, `1 - E cos(input, output)` (ShortGPT, arXiv 2403.03853).
    BlockInfluence,
    /// The run of layers across which the stream turns least (arXiv 2403.17887).
    Contiguous,
    /// These, from 0.
    Layers(Vec<u64>),
}

/// How a norm's gain is re-initialised when channels are cut away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormInit {
    /// The kept gains as they are.
    None,
    /// Scaled to keep the L2 norm of the gain: SLNP (arXiv 2505.20155).
    Slnp,
    /// Scaled by the measured `sqrt(rho D / d)`, rho = the kept channels' share of the stream's energy.
    Energy,
}

/// Whether post-norms become part of the projection before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbsorbPostNorm {
    /// They stay.
    Off,
    /// They go.
    On,
    /// They go where every one of them is nearly a constant factor and a stock class can say the result.
    Auto,
}

/// What is refitted after the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repair {
    /// Nothing.
    None,
    /// The mean of what dropped heads and neurons gave is added to the bias, where there is one (FLAP).
    Bias,
    /// One factor per output, and its bias where there is one (SlimLLM).
    Affine,
    /// Ridge regression towards the sliced weights.
    LeastSquares,
    /// The same, and the up projection of every FFN that lost neurons in turn with its down projection: a reconstruction of
    /// SPAP's alternation (arXiv 2505.03373), whose formulas are not to be had.
    Spap,
}

impl Repair {
    /// Parent and child have to be run on calibration text.
    pub fn needs_text(self) -> bool {
        matches!(self, Repair::Affine | Repair::LeastSquares | Repair::Spap)
    }
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Which layers go.
    pub depth: DepthMethod,
    /// KV groups of dropped layers compete for the places of the layer they are merged into.
    pub clap: bool,
    /// Norms.
    pub norm: NormInit,
    /// Post-norms.
    pub absorb: AbsorbPostNorm,
    /// Repair.
    pub repair: Repair,
    /// FFN neurons and heads.
    pub criterion: Criterion,
}

impl Options {
    /// The same, with those layers of a parent of `depth` layers kept that a target names.
    ///
    /// # Errors
    /// A list of layers to drop that says otherwise.
    pub fn keeping(self, parents: &[u64], depth: u64) -> Result<Self, OtherLayers> {
        let dropped: Vec<u64> = (0..depth).filter(|layer| !parents.contains(layer)).collect();
        match &self.depth {
            DepthMethod::Layers(listed) if *listed != dropped => Err(OtherLayers {
                listed: self.depth.to_string(),
                dropped: match dropped.is_empty() {
                    true => "none".into(),
                    false => DepthMethod::Layers(dropped).to_string(),
                },
            }),
            _ if dropped.is_empty() => Ok(self),
            _ => Ok(Self { depth: DepthMethod::Layers(dropped), ..self }),
        }
    }
}

/// A list of layers to drop that is not the target's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--depth-method drops layers {listed}, but `parents` of the target leaves out {dropped}: leave the option out"
)]
pub struct OtherLayers {
    listed: String,
    dropped: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            depth: DepthMethod::Contiguous,
            clap: true,
            norm: NormInit::Slnp,
            absorb: AbsorbPostNorm::Auto,
            repair: Repair::None,
            criterion: Criterion::Minitron,
        }
    }
}

/// A word that names no choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no {what}{suggestion}; expected {expected}")]
pub struct UnknownChoice {
    what: &'static str,
    found: String,
    suggestion: String,
    expected: String,
}

fn unknown(what: &'static str, found: &str, known: &[&str]) -> UnknownChoice {
    let suggestion = did_you_mean(closest(found, known.iter().copied()));
    UnknownChoice { what, found: found.into(), suggestion, expected: known.join(", ") }
}

impl FromStr for DepthMethod {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "block-influence" => Ok(Self::BlockInfluence),
            "contiguous" => Ok(Self::Contiguous),
            _ => {
                let numbers: Option<Vec<u64>> =
                    text.split(',').map(|part| part.trim().parse().ok()).collect();
                let known = ["block-influence", "contiguous", "layer numbers from 0 such as 3,4,7"];
                let mut layers = numbers.ok_or_else(|| unknown("depth method", text, &known))?;
                layers.sort_unstable();
                layers.dedup();
                Ok(Self::Layers(layers))
            }
        }
    }
}

impl fmt::Display for DepthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlockInfluence => f.pad("block-influence"),
            Self::Contiguous => f.pad("contiguous"),
            Self::Layers(layers) => {
                let numbers: Vec<String> = layers.iter().map(u64::to_string).collect();
                f.pad(&numbers.join(","))
            }
        }
    }
}

/// Names of the values of a choice.
macro_rules! choices {
    ($name:ident, $what:literal, $($text:literal => $value:ident),+) => {
        impl FromStr for $name {
            type Err = UnknownChoice;
            fn from_str(text: &str) -> Result<Self, UnknownChoice> {
                match text {
                    $($text => Ok(Self::$value),)+
                    _ => Err(unknown($what, text, &[$($text),+])),
                }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$value => $text),+ })
            }
        }
    };
}

choices!(NormInit, "norm initialisation", "none" => None, "slnp" => Slnp, "energy" => Energy);
choices!(AbsorbPostNorm, "choice for post-norms", "off" => Off, "on" => On, "auto" => Auto);
choices!(Repair, "repair", "none" => None, "bias" => Bias, "affine" => Affine, "least-squares" => LeastSquares, "spap" => Spap);
