//! Serving engines: the few named parameters that stand between kernel times and what a client sees.
//!
//! Kernel sums miss what happens between kernels. Each parameter here has a physical meaning and is not tied to a
//! model or a device, so it transfers; how it was come by stands in the engine's file under
//! `hardware_profiles/engines/`.
//!
//! Deliberately absent: how they act (see [`crate::hardware::latency::serving`]) and how they are fitted
//! (see [`crate::hardware::latency::calibration`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{closest, did_you_mean};
use crate::units::{Bytes, Seconds};

/// How the parameters of an engine were come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Fitted to serving runs of this engine.
    Fitted,
    /// Taken over from another engine, or assumed.
    Estimated,
    /// True by definition (no engine, no overheads).
    Definition,
}

/// Time that passes outside the kernels, or that kernels take longer for inside a network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overheads {
    /// Factor on the linear layers of a prefill: sustained compute lowers the clocks that a short benchmark enjoys.
    pub prefill_gemm_slowdown: f64,
    /// Factor on every kernel of a decode step.
    pub decode_slowdown: f64,
    /// Factor on the 8-bit linear layers of a decode step, whose measured times include a quantisation of the
    /// activations that engines fuse into the kernel before.
    pub quantised_decode_gemm: f64,
    /// Least time per layer of a prefill: an eager pass cannot run faster than the host launches its kernels.
    pub prefill_layer_floor_us: f64,
    /// Host time per decode step (scheduling, input preparation, sampling hand-over).
    pub step_us: f64,
    /// Host time per sequence of a decode step (detokenisation, streaming).
    pub sequence_us: f64,
    /// Host time per request before its prefill (HTTP, tokenisation, admission).
    pub request_us: f64,
}

/// What a closed loop of requests waits for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queueing {
    /// Prefills that pass until the first token, the request's own included, when few are in flight:
    /// requests that finish together come back together.
    pub prefills_per_first_token: f64,
    /// Prefills waited for per further request in flight: at the start of a run all come at once.
    pub prefills_per_concurrent_request: f64,
    /// Decode steps waited for until a new request is admitted.
    pub decode_steps_per_first_token: f64,
    /// Share of a decode step's linear layers that a prefill in the same step saves (1 = weights are read once).
    pub shared_step: f64,
}

/// Limits of the scheduler and of memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most tokens of one pass (`max_num_batched_tokens`, `max_num_tokens`, `chunked_prefill_size`).
    pub chunk_tokens: u64,
    /// Share of the device memory the engine may use.
    pub memory_share: f64,
    /// Context, captured graphs and communication buffers, out of that share.
    pub reserve_gib: f64,
}

/// How far predictions stood from runs that the fit had not seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residuals {
    /// Relative spread of the time to first token (natural logarithm, one standard deviation).
    pub ttft_log_sigma: f64,
    /// Relative spread of the time per output token.
    pub tpot_log_sigma: f64,
}

/// An engine as its file describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineParameters {
    /// Name on the command line.
    pub name: String,
    /// What it is, for people.
    pub description: String,
    /// How the parameters were come by.
    pub origin: Origin,
    /// Runs and documents behind them.
    pub source: String,
    /// Time outside the kernels.
    pub overheads: Overheads,
    /// What requests wait for.
    pub queueing: Queueing,
    /// Scheduler and memory limits.
    pub limits: Limits,
    /// Error on runs held out.
    pub residuals: Residuals,
}

/// An engine file that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// No engine of that name.
    #[error("no engine `{name}`: known are {}{}", .known.join(", "), did_you_mean(.suggestion.as_deref()))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The closest known name.
        suggestion: Option<String>,
        /// All known names.
        known: Vec<&'static str>,
    },
    /// Not TOML, a key is missing, unknown or of the wrong type.
    #[error("{origin}: {message}")]
    Syntax {
        /// File.
        origin: String,
        /// What the parser says, with line and column.
        message: String,
    },
    /// A parameter is out of its range.
    #[error("{origin}: {key} = {found} is out of range; expected {expected}")]
    Range {
        /// File.
        origin: String,
        /// Key.
        key: &'static str,
        /// Value found.
        found: f64,
        /// Range.
        expected: &'static str,
    },
}

/// Engine files compiled into the binary, in the order they are listed.
const BUILT_IN: [(&str, &str); 6] = [
    ("vllm", include_str!("../../../hardware_profiles/engines/vllm.toml")),
    ("trtllm", include_str!("../../../hardware_profiles/engines/trtllm.toml")),
    ("sglang", include_str!("../../../hardware_profiles/engines/sglang.toml")),
    ("vllm-ascend", include_str!("../../../hardware_profiles/engines/vllm-ascend.toml")),
    ("mindie", include_str!("../../../hardware_profiles/engines/mindie.toml")),
    ("none", include_str!("../../../hardware_profiles/engines/none.toml")),
];

/// Names of the built-in engines.
pub fn names() -> Vec<&'static str> {
    BUILT_IN.iter().map(|(name, _)| *name).collect()
}

/// The engine people would run on a profile when they name none.
pub fn default_for(profile: &str) -> &'static str {
    if profile.starts_with("ascend") { "vllm-ascend" } else { "vllm" }
}

impl EngineParameters {
    /// A built-in engine by name.
    ///
    /// # Errors
    /// [`EngineError::Unknown`] with the closest name.
    pub fn built_in(name: &str) -> Result<Self, EngineError> {
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Self::from_toml(text, &format!("hardware_profiles/engines/{name}.toml")),
            None => Err(EngineError::Unknown {
                name: name.to_string(),
                suggestion: closest(name, names()).map(str::to_string),
                known: names(),
            }),
        }
    }

    /// Reads an engine file; `origin` names it in errors.
    ///
    /// # Errors
    /// When it is not TOML, a key is missing or unknown, or a value is out of range.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, EngineError> {
        let engine: Self = toml::from_str(text).map_err(|error| EngineError::Syntax {
            origin: origin.to_string(),
            message: error.to_string().trim_end().to_string(),
        })?;
        engine.check(origin)?;
        Ok(engine)
    }

    fn check(&self, origin: &str) -> Result<(), EngineError> {
        let (o, q, l, r) = (&self.overheads, &self.queueing, &self.limits, &self.residuals);
        const FACTOR: (f64, f64, &str) = (0.1, 10.0, "a factor between 0.1 and 10");
        const NOT_NEGATIVE: (f64, f64, &str) = (0.0, 1e9, "a number that is 0 or more");
        const SHARE: (f64, f64, &str) = (0.0, 1.0, "a share between 0 and 1");
        let ranges = [
            ("overheads.prefill_gemm_slowdown", o.prefill_gemm_slowdown, FACTOR),
            ("overheads.decode_slowdown", o.decode_slowdown, FACTOR),
            ("overheads.quantised_decode_gemm", o.quantised_decode_gemm, FACTOR),
            ("overheads.prefill_layer_floor_us", o.prefill_layer_floor_us, NOT_NEGATIVE),
            ("overheads.step_us", o.step_us, NOT_NEGATIVE),
            ("overheads.sequence_us", o.sequence_us, NOT_NEGATIVE),
            ("overheads.request_us", o.request_us, NOT_NEGATIVE),
            ("queueing.prefills_per_first_token", q.prefills_per_first_token, (1.0, 100.0, "1 or more")),
            ("queueing.prefills_per_concurrent_request", q.prefills_per_concurrent_request, SHARE),
            ("queueing.decode_steps_per_first_token", q.decode_steps_per_first_token, NOT_NEGATIVE),
            ("queueing.shared_step", q.shared_step, SHARE),
            ("limits.chunk_tokens", l.chunk_tokens as f64, (1.0, 1e9, "1 or more")),
            ("limits.memory_share", l.memory_share, SHARE),
            ("limits.reserve_gib", l.reserve_gib, NOT_NEGATIVE),
            ("residuals.ttft_log_sigma", r.ttft_log_sigma, NOT_NEGATIVE),
            ("residuals.tpot_log_sigma", r.tpot_log_sigma, NOT_NEGATIVE),
        ];
        match ranges.into_iter().find(|(_, x, (low, high, _))| !(x >= low && x <= high)) {
            Some((key, found, (_, _, expected))) => {
                Err(EngineError::Range { origin: origin.to_string(), key, found, expected })
            }
            None => Ok(()),
        }
    }

    /// Rounds what a fit writes to four significant digits.
    pub fn round(&mut self) {
        let (o, q, r) = (&mut self.overheads, &mut self.queueing, &mut self.residuals);
        let fitted = [
            &mut o.prefill_gemm_slowdown,
            &mut o.decode_slowdown,
            &mut o.quantised_decode_gemm,
            &mut o.prefill_layer_floor_us,
            &mut o.step_us,
            &mut o.sequence_us,
            &mut o.request_us,
            &mut q.prefills_per_first_token,
            &mut q.prefills_per_concurrent_request,
            &mut q.decode_steps_per_first_token,
            &mut r.ttft_log_sigma,
            &mut r.tpot_log_sigma,
        ];
        for x in fitted.into_iter().filter(|x| **x > 0.0) {
            let unit = 10f64.powi(x.log10().floor() as i32 - 3);
            // Dividing by the inverse keeps 0.0501 from becoming 0.050100000000000006.
            *x = if unit < 1.0 {
                (*x / unit).round() / (1.0 / unit).round()
            } else {
                (*x / unit).round() * unit
            };
        }
    }

    /// Context, captured graphs and communication buffers.
    pub fn reserve(&self) -> Bytes {
        Bytes::from_gib(self.limits.reserve_gib)
    }
}

impl Overheads {
    /// Host time of a decode step of `sequences` sequences.
    pub fn decode_host(&self, sequences: u64) -> Seconds {
        Seconds::from_us(self.step_us + self.sequence_us * sequences as f64)
    }

    /// Least time of a prefill through `layers` layers.
    pub fn prefill_floor(&self, layers: u64) -> Seconds {
        Seconds::from_us(self.prefill_layer_floor_us * layers as f64)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Origin::Fitted => "fitted",
            Origin::Estimated => "estimated",
            Origin::Definition => "definition",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_engine_loads_under_its_own_name() {
        for name in names() {
            assert_eq!(EngineParameters::built_in(name).unwrap().name, name);
        }
    }

    #[test]
    fn an_unknown_engine_gets_a_suggestion() {
        let error = EngineParameters::built_in("vlm").unwrap_err().to_string();
        assert!(error.contains("did you mean `vllm`"), "{error}");
    }

    #[test]
    fn bad_files_say_which_key() {
        let good = BUILT_IN[0].1;
        let negative = good.replacen("step_us = ", "step_us = -", 1);
        let error = EngineParameters::from_toml(&negative, "e.toml").unwrap_err().to_string();
        assert!(error.contains("overheads.step_us"), "{error}");
        let unknown = format!("{good}\nwarp = 9\n");
        let error = EngineParameters::from_toml(&unknown, "e.toml").unwrap_err().to_string();
        assert!(error.contains("e.toml") && error.contains("warp"), "{error}");
    }
}
