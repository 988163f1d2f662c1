//! Models whose layers can be had one at a time: a checkpoint on disk, or weights in memory.

use std::borrow::Cow;

use crate::compute::storage::SizeError;
use crate::model::spec::ModelSpec;
use crate::model::tensors::{self, ModelTensor, Role};
use crate::weights::checkpoint::Checkpoint;
use crate::weights::checkpoint::error::CheckpointError;
use crate::weights::checkpoint::tensor::Tensor;
use crate::weights::network::forward;
use crate::weights::network::layer::{Ends, Layer};
use crate::weights::network::load::{LoadError, ends_from, layer_from, output_ends_from};
use crate::weights::network::settings::{Settings, SettingsError};

/// Weights of a checkpoint that cannot be loaded.
pub type WeightsError = LoadError<CheckpointError>;

/// A model, layer by layer.
pub trait LayerSource: Sync {
    /// How it is run.
    fn settings(&self) -> &Settings;

    /// Layers.
    fn depth(&self) -> usize;

    /// The weights of layer `index`; an empty layer beyond the last.
    ///
    /// # Errors
    /// Weights that cannot be loaded.
    fn layer(&self, index: usize) -> Result<Cow<'_, Layer>, WeightsError>;

    /// Embedding, last norm, head.
    ///
    /// # Errors
    /// Weights that cannot be loaded.
    fn ends(&self) -> Result<Cow<'_, Ends>, WeightsError>;

    /// Last norm and head; the embedding is left out where the head does not share it.
    ///
    /// # Errors
    /// Weights that cannot be loaded.
    fn output_ends(&self) -> Result<Cow<'_, Ends>, WeightsError> {
        self.ends()
    }

    /// Gain of the last norm alone, `[hidden]`.
    ///
    /// # Errors
    /// Weights that cannot be loaded.
    fn final_norm(&self) -> Result<Vec<f32>, WeightsError> {
        Ok(self.output_ends()?.final_norm.clone())
    }

    /// The stream as it enters the first layer, reading only the embedding's rows that are asked for: `out` is made
    /// `[tokens, hidden]`.
    ///
    /// # Errors
    /// Weights that cannot be loaded; a token beyond the vocabulary.
    fn embed(&self, tokens: &[u32], out: &mut Vec<f32>) -> Result<(), SourceError> {
        Ok(forward::embed(self.ends()?.as_ref(), self.settings(), tokens, out)?)
    }
}

/// Tokens that cannot be embedded.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Weights that cannot be loaded.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A token beyond the vocabulary, or weights that do not fit each other.
    #[error(transparent)]
    Size(#[from] SizeError),
}

/// A checkpoint whose layers are loaded when asked for, and forgotten by the caller.
#[derive(Debug)]
pub struct Streamed<'c> {
    checkpoint: &'c Checkpoint,
    settings: Settings,
}

impl<'c> Streamed<'c> {
    /// Reads how the checkpoint is run.
    ///
    /// # Errors
    /// A configuration that cannot be run.
    pub fn new(checkpoint: &'c Checkpoint) -> Result<Self, SettingsError> {
        Ok(Self { checkpoint, settings: Settings::of(checkpoint.spec())? })
    }

    /// The model.
    pub fn spec(&self) -> &ModelSpec {
        self.checkpoint.spec()
    }
}

impl LayerSource for Streamed<'_> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn depth(&self) -> usize {
        self.spec().architecture.depth() as usize
    }

    fn layer(&self, index: usize) -> Result<Cow<'_, Layer>, WeightsError> {
        load_layer(self.checkpoint, &self.settings, index as u64).map(Cow::Owned)
    }

    fn ends(&self) -> Result<Cow<'_, Ends>, WeightsError> {
        load_ends(self.checkpoint, &self.settings).map(Cow::Owned)
    }

    fn output_ends(&self) -> Result<Cow<'_, Ends>, WeightsError> {
        if self.spec().tied_embeddings {
            return self.ends();
        }
        let ends = output_ends_from(|role| self.checkpoint.get(role, None), &self.settings)?;
        let roles = [Role::FinalNorm, Role::LmHead];
        release(self.checkpoint, roles.into_iter().filter_map(|role| tensors::end(self.spec(), role)));
        Ok(Cow::Owned(ends))
    }

    fn final_norm(&self) -> Result<Vec<f32>, WeightsError> {
        let tensor = self.checkpoint.get(Role::FinalNorm, None).map_err(WeightsError::Source)?;
        let missing = || WeightsError::Missing { place: "ends of the model".into(), role: Role::FinalNorm };
        let mut gain = tensor.ok_or_else(missing)?.to_f32().map_err(WeightsError::Tensor)?;
        gain.iter_mut().for_each(|g| *g += self.settings.gain_offset);
        Ok(gain)
    }

    fn embed(&self, tokens: &[u32], out: &mut Vec<f32>) -> Result<(), SourceError> {
        let table = self.checkpoint.get(Role::Embedding, None).map_err(WeightsError::Source)?;
        let place = || "ends of the model".to_string();
        let missing = || WeightsError::Missing { place: place(), role: Role::Embedding };
        let table = table.ok_or_else(missing)?;
        let row_bytes = table.data.len().checked_div(table.rows()).unwrap_or(0);
        let mut rows = Vec::with_capacity(tokens.len() * row_bytes);
        for &token in tokens {
            let at = token as usize * row_bytes;
            let row = table.data.get(at..at + row_bytes).ok_or(SizeError {
                what: "embedding",
                found: table.rows(),
                expected: token as usize + 1,
            })?;
            rows.extend_from_slice(row);
        }
        let shape = vec![tokens.len(), table.row_len()];
        let rows = Tensor { name: table.name.clone(), dtype: table.dtype, shape, data: Cow::Owned(rows) };
        *out = rows.to_f32().map_err(WeightsError::Tensor)?;
        out.iter_mut().for_each(|x| *x *= self.settings.embedding_factor);
        Ok(())
    }
}

/// A model in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Resident {
    /// How it is run.
    pub settings: Settings,
    /// Its layers.
    pub layers: Vec<Layer>,
    /// Embedding, last norm, head.
    pub ends: Ends,
}

impl Resident {
    /// Loads all of a source into memory.
    ///
    /// # Errors
    /// Weights that cannot be loaded.
    pub fn of(source: &dyn LayerSource) -> Result<Self, WeightsError> {
        let layer = |index| source.layer(index).map(Cow::into_owned);
        Ok(Self {
            settings: source.settings().clone(),
            layers: (0..source.depth()).map(layer).collect::<Result<_, _>>()?,
            ends: source.ends()?.into_owned(),
        })
    }
}

impl LayerSource for Resident {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn depth(&self) -> usize {
        self.layers.len()
    }

    fn layer(&self, index: usize) -> Result<Cow<'_, Layer>, WeightsError> {
        Ok(self.layers.get(index).map_or_else(|| Cow::Owned(Layer::default()), Cow::Borrowed))
    }

    fn ends(&self) -> Result<Cow<'_, Ends>, WeightsError> {
        Ok(Cow::Borrowed(&self.ends))
    }
}

/// Loads layer `index` of a checkpoint; the mapped pages are given back.
///
/// # Errors
/// Weights that cannot be loaded.
pub fn load_layer(checkpoint: &Checkpoint, settings: &Settings, index: u64) -> Result<Layer, WeightsError> {
    let layer = layer_from(|role| checkpoint.get(role, Some(index)), settings, index)?;
    release(checkpoint, tensors::layer(checkpoint.spec(), index));
    Ok(layer)
}

/// Loads embedding, last norm and head of a checkpoint; the mapped pages are given back.
///
/// # Errors
/// Weights that cannot be loaded.
pub fn load_ends(checkpoint: &Checkpoint, settings: &Settings) -> Result<Ends, WeightsError> {
    let ends = ends_from(|role| checkpoint.get(role, None), settings)?;
    let roles = [Role::Embedding, Role::FinalNorm, Role::LmHead];
    release(checkpoint, roles.into_iter().filter_map(|role| tensors::end(checkpoint.spec(), role)));
    Ok(ends)
}

fn release(checkpoint: &Checkpoint, tensors: impl IntoIterator<Item = ModelTensor>) {
    for tensor in tensors {
        if let Ok(tensor) = checkpoint.tensor(&tensor.name) {
            checkpoint.release(&tensor);
        }
    }
}
