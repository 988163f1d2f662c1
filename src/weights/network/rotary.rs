//! Rotary frequencies of a layer, from a configuration in either spelling.

use serde_json::{Map, Value};

use crate::model::spec::{Family, ModelSpec};
use crate::weights::network::settings::SettingsError;

/// How far each pair of channels turns from token to token.
#[derive(Clone, Debug, PartialEq)]
pub struct Frequencies {
    /// Radians a token, `head_dim / 2` of them.
    pub radians: Vec<f32>,
    /// Factor on cosines and sines (YaRN's attention factor, else 1).
    pub factor: f32,
}

/// Ways to stretch the frequencies, as `rope_type` names them.
const KNOWN: &str = "default, linear, llama3, yarn";

/// One object of rotary parameters, and where it stands.
struct Parameters<'a> {
    origin: &'a str,
    /// Key of the object in the configuration.
    key: &'static str,
    map: Option<&'a Map<String, Value>>,
}

impl<'a> Parameters<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map?.get(name).filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &'static str, found: Option<&Value>, expected: &'static str) -> SettingsError {
        SettingsError::Rotary {
            origin: self.origin.into(),
            key: self.key,
            name,
            found: found.map_or_else(|| "nothing".into(), Value::to_string),
            expected,
        }
    }

    /// A positive number, unless absent or null.
    fn optional(&self, name: &'static str) -> Result<Option<f64>, SettingsError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64().filter(|x| x.is_finite() && *x > 0.0) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(name, Some(value), "a positive number")),
        }
    }

    fn number(&self, name: &'static str) -> Result<f64, SettingsError> {
        self.optional(name)?.ok_or_else(|| self.wrong(name, None, "a positive number"))
    }

    fn kind(&self) -> Result<&'a str, SettingsError> {
        match self.get("rope_type").or_else(|| self.get("type")) {
            None => Ok("default"),
            Some(Value::String(kind)) => Ok(kind),
            Some(other) => Err(self.wrong("rope_type", Some(other), "the name of a scaling")),
        }
    }
}

/// Frequencies of the windowed layers (`local`), or of those with full attention.
pub(super) fn frequencies(spec: &ModelSpec, local: bool) -> Result<Frequencies, SettingsError> {
    let parameters = parameters(spec, local);
    let base = base(spec, &parameters, local)?;
    if let Some(part) = parameters.optional("partial_rotary_factor")?.or_else(|| partial(spec))
        && part != 1.0
    {
        let found = Some(Value::from(part));
        return Err(parameters.wrong("partial_rotary_factor", found.as_ref(), "1: whole heads that turn"));
    }
    let head_dim = spec.architecture.head_dim as usize;
    let wavelengths: Vec<f64> = (0..head_dim / 2)
        .map(|pair| f64::from(base.powf(f64::from((2 * pair) as f32 / head_dim as f32)) as f32))
        .collect();
    let plain = |divisor: f64| wavelengths.iter().map(|w| ((1.0 / w) as f32) / divisor as f32).collect();
    match parameters.kind()? {
        "default" | "mrope" => Ok(Frequencies { radians: plain(1.0), factor: 1.0 }),
        "linear" => Ok(Frequencies { radians: plain(parameters.number("factor")?), factor: 1.0 }),
        "llama3" => llama3(spec, &parameters, &wavelengths),
        "yarn" => yarn(spec, &parameters, &wavelengths, base),
        other => Err(SettingsError::RotaryScaling {
            origin: spec.source.clone(),
            found: other.into(),
            known: KNOWN,
        }),
    }
}

/// transformers 5 nests per layer type where layers differ; `rope_scaling` of transformers 4 comes first where both
/// stand there, and is for full attention only.
fn parameters(spec: &ModelSpec, local: bool) -> Parameters<'_> {
    let object = |key: &str| spec.config.get(key).and_then(Value::as_object);
    let origin = spec.source.as_str();
    if let Some(map) = object("rope_parameters") {
        let kind = if local { "sliding_attention" } else { "full_attention" };
        if let Some(nested) = map.get(kind) {
            return Parameters { origin, key: "rope_parameters", map: nested.as_object() };
        }
        if spec.family != Family::Gemma3 && object("rope_scaling").is_none() {
            return Parameters { origin, key: "rope_parameters", map: Some(map) };
        }
    }
    let scaled = !(local && spec.family == Family::Gemma3);
    Parameters { origin, key: "rope_scaling", map: object("rope_scaling").filter(|_| scaled) }
}

/// Base of the angles: of the parameters, of the configuration, of the family's class.
fn base(spec: &ModelSpec, parameters: &Parameters<'_>, local: bool) -> Result<f64, SettingsError> {
    if let Some(base) = parameters.optional("rope_theta")? {
        return Ok(base);
    }
    let local = local && spec.family == Family::Gemma3;
    let name = if local { "rope_local_base_freq" } else { "rope_theta" };
    let top = Parameters { origin: &spec.source, key: "config", map: Some(&spec.config) };
    match (top.optional(name)?, spec.family) {
        (Some(base), _) => Ok(base),
        (None, Family::Gemma3) if !local => Ok(1e6),
        (None, Family::PanguEmbedded) => Err(top.wrong(name, None, "the rotary base, written out")),
        (None, _) => Ok(1e4),
    }
}

fn partial(spec: &ModelSpec) -> Option<f64> {
    spec.config.get("partial_rotary_factor").and_then(Value::as_f64)
}

/// Tokens the model was first made for.
fn original_positions(spec: &ModelSpec, parameters: &Parameters<'_>) -> Result<f64, SettingsError> {
    let written = parameters.optional("original_max_position_embeddings")?;
    Ok(written.unwrap_or(spec.max_positions as f64))
}

/// Llama 3.1: long waves are stretched by the factor, short ones kept, those between blended.
fn llama3(
    spec: &ModelSpec,
    parameters: &Parameters<'_>,
    wavelengths: &[f64],
) -> Result<Frequencies, SettingsError> {
    let factor = parameters.number("factor")?;
    let low = parameters.number("low_freq_factor")?;
    let high = parameters.number("high_freq_factor")?;
    let original = original_positions(spec, parameters)?;
    let stretch = |wavelength: &f64| {
        let frequency = f64::from((1.0 / wavelength) as f32);
        let turns = original * frequency / (2.0 * std::f64::consts::PI);
        if turns < low {
            return (frequency / factor) as f32;
        }
        if turns > high {
            return frequency as f32;
        }
        let smooth = (turns - low) / (high - low);
        ((1.0 - smooth) * frequency / factor + smooth * frequency) as f32
    };
    Ok(Frequencies { radians: wavelengths.iter().map(stretch).collect(), factor: 1.0 })
}

/// YaRN (arXiv 2309.00071), as transformers reads its parameters.
fn yarn(
    spec: &ModelSpec,
    parameters: &Parameters<'_>,
    wavelengths: &[f64],
    base: f64,
) -> Result<Frequencies, SettingsError> {
    let original = original_positions(spec, parameters)?;
    let factor = parameters.optional("factor")?.unwrap_or(spec.max_positions as f64 / original);
    let head_dim = spec.architecture.head_dim as f64;
    let scale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
    let (mscale, all) = (parameters.optional("mscale")?, parameters.optional("mscale_all_dim")?);
    let default = match (mscale, all) {
        (Some(mscale), Some(all)) => scale(mscale) / scale(all),
        _ => scale(1.0),
    };
    let attention = parameters.optional("attention_factor")?.unwrap_or(default);
    let pair_that_turns =
        |turns: f64| head_dim * (original / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * base.ln());
    let mut low = pair_that_turns(parameters.optional("beta_fast")?.unwrap_or(32.0));
    let mut high = pair_that_turns(parameters.optional("beta_slow")?.unwrap_or(1.0));
    if parameters.get("truncate").and_then(Value::as_bool).unwrap_or(true) {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(head_dim - 1.0));
    if low == high {
        high += 0.001;
    }
    let blend = |(pair, wavelength): (usize, &f64)| {
        let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
        (ramp / (factor * wavelength) + (1.0 - ramp) / wavelength) as f32
    };
    let radians = wavelengths.iter().enumerate().map(blend).collect();
    Ok(Frequencies { radians, factor: attention as f32 })
}
