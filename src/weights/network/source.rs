//! Models whose layers can be had one at a time: a checkpoint on disk, or weights in memory.

use std::borrow::Cow;

use crate::model::spec::ModelSpec;
use crate::model::tensors::{self, ModelTensor, Role};
use crate::weights::checkpoint::Checkpoint;
use crate::weights::checkpoint::error::CheckpointError;
use crate::weights::network::layer::{Ends, Layer};
use crate::weights::network::load::{LoadError, ends_from, layer_from};
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
