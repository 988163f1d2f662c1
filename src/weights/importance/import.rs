//! Statistics that another program gathered, such as the hook script for PyTorch.

use std::path::Path;

use crate::model::spec::NormLayout;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::importance::error::StatisticsError;
use crate::weights::importance::file::Importance;

/// The script that gathers the same statistics from a transformers model: `hooks.py MODEL DATA.jsonl SAMPLES SEQ_LEN OUT`.
pub const HOOK_SCRIPT: &str = include_str!("python/hooks.py");

/// Reads statistics that carry no fingerprint yet (or the right one), checks them against the checkpoint, and gives them
/// its fingerprint.
///
/// # Errors
/// Whatever is wrong with the file; another model's shape, norms or fingerprint.
pub fn import(path: &Path, checkpoint: &Checkpoint) -> Result<Importance, StatisticsError> {
    let mut importance = Importance::load(path)?;
    let spec = checkpoint.spec();
    let (architecture, sandwich) = (&spec.architecture, spec.norms == NormLayout::Sandwich);
    let fingerprint = checkpoint.fingerprint();
    let stated = &importance.header.model.fingerprint;
    let outcome = match stated.is_empty() {
        true => importance.header.check_shape(architecture, sandwich),
        false => importance.header.check_model(&fingerprint, architecture, sandwich),
    };
    outcome.map_err(|mismatch| StatisticsError::OtherModel { path: path.into(), mismatch })?;
    importance.header.model.fingerprint = fingerprint;
    Ok(importance)
}
