//! Files of statistics: safetensors with a JSON header, read strictly, written whole or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::files;
use crate::model::architecture::Architecture;
use crate::weights::importance::error::{Mismatch, StatisticsError};
use crate::weights::importance::fields::{self, Numbers, NumbersMut};
use crate::weights::importance::header::{FORMAT, Header};
use crate::weights::importance::statistics::Sums;

/// Key of the header in the metadata of the file.
pub const METADATA_KEY: &str = "archplan_statistics";

/// Statistics of a model over calibration text.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// What they are about.
    pub header: Header,
    /// The sums.
    pub sums: Sums,
}

/// Fields by name, in the order of the file.
type Fields<'a> = Vec<(String, Numbers<'a>)>;

/// The header as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u64,
    header: Header,
    counts: Counts,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    samples: u64,
    tokens: u64,
    angular_tokens: u64,
}

impl Importance {
    /// Reads and checks a finished file of statistics.
    ///
    /// # Errors
    /// Anything that is wrong with it; see [`StatisticsError`].
    pub fn load(path: &Path) -> Result<Self, StatisticsError> {
        let importance = Self::load_unfinished(path)?;
        let (done, expected) = (importance.sums.samples, importance.header.samples_inside());
        match done == expected {
            true => Ok(importance),
            false => Err(StatisticsError::Unfinished { path: path.into(), done, expected }),
        }
    }

    /// Reads a file of a run that may still be going on.
    ///
    /// # Errors
    /// As [`Importance::load`], but for unfinished files.
    pub fn load_unfinished(path: &Path) -> Result<Self, StatisticsError> {
        let bytes = fs::read(path).map_err(|error| StatisticsError::Io { path: path.into(), error })?;
        Self::from_bytes(&bytes, path)
    }

    /// Reads the bytes of such a file; `path` names it in errors.
    ///
    /// # Errors
    /// As [`Importance::load_unfinished`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, StatisticsError> {
        let damaged = |error: safetensors::SafeTensorError| StatisticsError::NotSafetensors {
            path: path.into(),
            reason: error.to_string(),
        };
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let Stored { header, counts, .. } = stored(&metadata, path)?;
        if let Some(reason) = header.defect().or_else(|| counts.defect(&header)) {
            return Err(StatisticsError::Header { path: path.into(), reason });
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
        check_size(&tensors, &header, path)?;
        let mut sums = Sums::zeros(&header.model.architecture, header.model.sandwich, header.grams);
        sums.samples = counts.samples;
        sums.tokens = counts.tokens;
        sums.angular_tokens = counts.angular_tokens;
        let mut expected = std::collections::BTreeSet::new();
        for (name, numbers) in fields::fields_mut(&mut sums) {
            if !is_empty(&numbers) {
                fill(&tensors, &name, numbers, path)?;
                expected.insert(name);
            }
        }
        match tensors.names().into_iter().filter(|name| !expected.contains(*name)).min() {
            Some(tensor) => Err(StatisticsError::Unknown { path: path.into(), tensor: tensor.into() }),
            None => Ok(Self { header, sums }),
        }
    }

    /// The file's bytes: the same statistics give the same bytes.
    ///
    /// # Errors
    /// Sums that are not those of the header's model, or that are not finite. `path` names the file in errors.
    pub fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, StatisticsError> {
        let (mut bytes, entries) = self.opening(path)?;
        entries.iter().for_each(|(_, numbers)| bytes.extend(little_endian(*numbers)));
        Ok(bytes)
    }

    /// Writes the statistics to `path`, whole or not at all, without a copy of them in memory.
    ///
    /// # Errors
    /// As [`Importance::to_bytes`]; the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), StatisticsError> {
        let (opening, entries) = self.opening(path)?;
        let written = files::write_atomically_with(path, |file| {
            file.write_all(&opening)?;
            entries.iter().try_for_each(|(_, numbers)| file.write_all(&little_endian(*numbers)))
        });
        written.map_err(|error| StatisticsError::Io { path: path.into(), error })
    }

    /// What stands before the numbers, and the numbers in the order in which they follow.
    fn opening(&self, path: &Path) -> Result<(Vec<u8>, Fields<'_>), StatisticsError> {
        let header_error = |reason: String| StatisticsError::Header { path: path.into(), reason };
        let counts = Counts {
            samples: self.sums.samples,
            tokens: self.sums.tokens,
            angular_tokens: self.sums.angular_tokens,
        };
        let (model, grams) = (&self.header.model, self.header.grams);
        let expected = fields::sizes(&model.architecture, model.sandwich, grams);
        let mut entries = fields::fields(&self.sums);
        if sizes(&entries) != expected || !self.is_shaped() {
            return Err(header_error("the sums are not those of a model of this shape".into()));
        }
        for (name, numbers) in &entries {
            check_numbers(name, *numbers, path)?;
        }
        entries.retain(|(_, numbers)| bytes_of(*numbers) > 0);
        // The wider type first, which keeps every tensor aligned.
        entries.sort_by_key(|(name, numbers)| (matches!(numbers, Numbers::F32(_)), name.clone()));
        let stored = Stored { format: FORMAT, header: self.header.clone(), counts };
        let text = serde_json::to_string(&stored).map_err(|error| header_error(error.to_string()))?;
        Ok((opening_bytes(&text, &entries), entries))
    }

    /// Whether every field is as long as it is in a model of the header's shape; without Gram matrices, whose squares need
    /// no second look once the sizes add up.
    fn is_shaped(&self) -> bool {
        let model = &self.header.model;
        let shape = Sums::zeros(&model.architecture, model.sandwich, false);
        let lengths = |sums: &Sums| -> Vec<(String, usize)> {
            let sums = fields::fields(sums).into_iter();
            sums.filter_map(|(name, numbers)| match numbers {
                Numbers::F64(values) => Some((name, values.len())),
                Numbers::F32(_) => None,
            })
            .collect()
        };
        lengths(&shape) == lengths(&self.sums)
    }

    /// Whether the statistics are of the model whose checkpoint has this fingerprint and shape.
    ///
    /// # Errors
    /// What differs, by name.
    pub fn check_model(
        &self,
        fingerprint: &str,
        architecture: &Architecture,
        sandwich: bool,
    ) -> Result<(), Mismatch> {
        self.header.check_model(fingerprint, architecture, sandwich)
    }
}

impl Counts {
    fn defect(&self, header: &Header) -> Option<String> {
        let most = header.samples_inside();
        let tokens = self.samples.saturating_mul(header.seq_len - header.skip_first);
        match self.samples <= most && self.tokens <= tokens && self.angular_tokens <= self.tokens {
            true => None,
            false => Some(format!(
                "{} samples, {} tokens, {} of angles: expected at most {most} samples of {} tokens",
                self.samples, self.tokens, self.angular_tokens, header.seq_len
            )),
        }
    }
}

fn stored(metadata: &Metadata, path: &Path) -> Result<Stored, StatisticsError> {
    let text = metadata.metadata().as_ref().and_then(|map| map.get(METADATA_KEY));
    let text = text.ok_or_else(|| StatisticsError::NotStatistics { path: path.into() })?;
    let bad =
        |error: serde_json::Error| StatisticsError::Header { path: path.into(), reason: error.to_string() };
    let value: Value = serde_json::from_str(text).map_err(bad)?;
    let format = value.get("format").cloned().unwrap_or(Value::Null);
    if format.as_u64() != Some(FORMAT) {
        let found = format.to_string();
        return Err(StatisticsError::UnknownFormat { path: path.into(), found, expected: FORMAT });
    }
    serde_json::from_value(value).map_err(bad)
}

/// Before anything is allocated: a header that promises more than the file holds is refused.
fn check_size(tensors: &SafeTensors, header: &Header, path: &Path) -> Result<(), StatisticsError> {
    let model = &header.model;
    let (sums, squares) = fields::sizes(&model.architecture, model.sandwich, header.grams);
    let expected = 8 * sums + 4 * squares;
    let found: u128 = tensors.iter().map(|(_, view)| view.data().len() as u128).sum();
    match found == expected {
        true => Ok(()),
        false => {
            let shape = model.architecture.to_string();
            Err(missing_tensor(tensors, header, path).unwrap_or(StatisticsError::WrongSize {
                path: path.into(),
                found,
                expected,
                shape,
            }))
        }
    }
}

/// The most telling complaint about a file that is too small: a whole layer that is not there.
fn missing_tensor(tensors: &SafeTensors, header: &Header, path: &Path) -> Option<StatisticsError> {
    let mut layers = 0..header.model.architecture.depth();
    let tensor = layers.find_map(|layer| {
        let name = format!("layers.{layer}.cosine");
        tensors.tensor(&name).is_err().then_some(name)
    })?;
    Some(StatisticsError::Missing { path: path.into(), tensor, expected: shown(Dtype::F64, &[1]) })
}

fn fill(
    tensors: &SafeTensors,
    name: &str,
    numbers: NumbersMut<'_>,
    path: &Path,
) -> Result<(), StatisticsError> {
    let (dtype, shape) = match &numbers {
        NumbersMut::F64(values) => (Dtype::F64, vec![values.len()]),
        NumbersMut::F32(values) => (Dtype::F32, square(values.len())),
    };
    let Ok(view) = tensors.tensor(name) else {
        let expected = shown(dtype, &shape);
        return Err(StatisticsError::Missing { path: path.into(), tensor: name.into(), expected });
    };
    if view.dtype() != dtype || view.shape() != shape {
        return Err(StatisticsError::Misshaped {
            path: path.into(),
            tensor: name.into(),
            found: shown(view.dtype(), view.shape()),
            expected: shown(dtype, &shape),
        });
    }
    match numbers {
        NumbersMut::F64(values) => {
            values.iter_mut().zip(f64s(&view)).for_each(|(to, from)| *to = from);
            check_numbers(name, Numbers::F64(values), path)
        }
        NumbersMut::F32(values) => {
            values.iter_mut().zip(f32s(&view)).for_each(|(to, from)| *to = from);
            check_numbers(name, Numbers::F32(values), path)
        }
    }
}

fn check_numbers(name: &str, numbers: Numbers<'_>, path: &Path) -> Result<(), StatisticsError> {
    let signed = fields::may_be_negative(name);
    let bad = |x: f64| !x.is_finite() || (!signed && x < 0.0);
    let first = match numbers {
        Numbers::F64(values) => values.iter().copied().enumerate().find(|(_, x)| bad(*x)),
        Numbers::F32(values) => values.iter().map(|x| f64::from(*x)).enumerate().find(|(_, x)| bad(*x)),
    };
    match first {
        None => Ok(()),
        Some((element, found)) => {
            Err(StatisticsError::BadNumber { path: path.into(), tensor: name.into(), found, element })
        }
    }
}

fn f64s<'a>(view: &TensorView<'a>) -> impl Iterator<Item = f64> + use<'a> {
    view.data().as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes))
}

fn f32s<'a>(view: &TensorView<'a>) -> impl Iterator<Item = f32> + use<'a> {
    view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

fn is_empty(numbers: &NumbersMut<'_>) -> bool {
    match numbers {
        NumbersMut::F64(values) => values.is_empty(),
        NumbersMut::F32(values) => values.is_empty(),
    }
}

/// Gram matrices are square.
fn square(length: usize) -> Vec<usize> {
    vec![length.isqrt(); 2]
}

fn shown(dtype: Dtype, shape: &[usize]) -> String {
    format!("{dtype:?} {shape:?}")
}

/// Numbers of F64 and of F32.
fn sizes(entries: &[(String, Numbers<'_>)]) -> (u128, u128) {
    entries.iter().fold((0, 0), |(sums, squares), (_, numbers)| match numbers {
        Numbers::F64(values) => (sums + values.len() as u128, squares),
        Numbers::F32(values) => (sums, squares + values.len() as u128),
    })
}

fn bytes_of(numbers: Numbers<'_>) -> usize {
    match numbers {
        Numbers::F64(values) => 8 * values.len(),
        Numbers::F32(values) => 4 * values.len(),
    }
}

fn little_endian(numbers: Numbers<'_>) -> Vec<u8> {
    match numbers {
        Numbers::F64(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Numbers::F32(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// Length and JSON header of a safetensors file of these tensors, one after the other.
fn opening_bytes(metadata: &str, entries: &[(String, Numbers<'_>)]) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ METADATA_KEY: metadata }));
    let mut begin = 0;
    for (name, numbers) in entries {
        let end = begin + bytes_of(*numbers);
        let (dtype, shape) = match numbers {
            Numbers::F64(values) => ("F64", vec![values.len()]),
            Numbers::F32(values) => ("F32", square(values.len())),
        };
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}));
        begin = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}
