//! Everything that can go wrong in a surgery.

use crate::compute::storage::SizeError;
use crate::model::config_error::ConfigError;
use crate::model::export::ExportError;
use crate::weights::checkpoint::error::CheckpointError;
use crate::weights::checkpoint::gather::SelectError;
use crate::weights::checkpoint::tensor::TensorError;
use crate::weights::checkpoint::write_error::WriteError;
use crate::weights::importance::criteria::Criterion;
use crate::weights::network::load::LoadError;
use crate::weights::network::settings::SettingsError;
use crate::weights::surgery::choice::error::ChoiceError;
use crate::weights::surgery::cut::CutError;

/// Why there is no child.
#[derive(Debug, thiserror::Error)]
pub enum SurgeryError {
    /// The parent's tensors, or the child's file.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tensor that cannot be used as numbers.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A selection that the tensor does not have.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The child's directory.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Sizes that do not fit each other.
    #[error("inside a layer: {0}")]
    Size(#[from] SizeError),
    /// A target that cannot be cut out of the parent.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// A cut that does not fit the parent.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// A model that cannot be run.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A layer that cannot be loaded.
    #[error(transparent)]
    Load(Box<LoadError<CheckpointError>>),
    /// A layer of the child that cannot be run.
    #[error("the child cannot be run: {0}")]
    Child(Box<LoadError<TensorError>>),
    /// The child has no configuration in its class.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The child's configuration cannot be read back.
    #[error("the child's configuration would not be readable: {0}")]
    Config(Box<ConfigError>),
    /// A step needs statistics.
    #[error(
        "{step} needs activation statistics: run `archplan calibrate` and give its file with --importance"
    )]
    NoImportance {
        /// The step.
        step: &'static str,
    },
    /// A criterion needs Gram matrices.
    #[error(
        "--criterion {criterion} needs Gram matrices, which the statistics do not hold: gather them with `archplan calibrate --gram`"
    )]
    NoGrams {
        /// The criterion.
        criterion: Criterion,
    },
    /// Too little text for a repair.
    #[error(
        "a repair needs at least 2 sequences, one of them to judge the fit, found {found}: give more with --data"
    )]
    TooFewSamples {
        /// Sequences there.
        found: usize,
    },
    /// There is no bias to add to.
    #[error(
        "--repair bias: this {class} has no bias on o_proj or down_proj to add to; use affine or least-squares"
    )]
    NoBias {
        /// The class.
        class: &'static str,
    },
    /// There are no post-norms.
    #[error(
        "--absorb-post-norm on: this checkpoint has no post-norms ({class} here is a plain pre-norm model); leave the option out"
    )]
    NoPostNorms {
        /// The class.
        class: &'static str,
    },
    /// There is no plain class for the result.
    #[error(
        "--absorb-post-norm on: no stock class can say a {class} without post-norms ({reason}); use off or auto"
    )]
    NoPlainClass {
        /// The class.
        class: &'static str,
        /// What the plain classes lack.
        reason: &'static str,
    },
}

impl From<LoadError<CheckpointError>> for SurgeryError {
    fn from(error: LoadError<CheckpointError>) -> Self {
        Self::Load(Box::new(error))
    }
}

impl From<LoadError<TensorError>> for SurgeryError {
    fn from(error: LoadError<TensorError>) -> Self {
        Self::Child(Box::new(error))
    }
}

impl From<ConfigError> for SurgeryError {
    fn from(error: ConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}
