//! Whole shapes, really cut: the surgery makes the child, and the held-out text judges it.

use crate::files;
use crate::model::architecture::Architecture;
use crate::model::counts;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::network::source::Streamed;
use crate::weights::scoring::Bench;
use crate::weights::scoring::error::ScoringError;
use crate::weights::scoring::reference::{Cost, Reference};
use crate::weights::surgery::directory::{self, Provenance};
use crate::weights::surgery::error::SurgeryError;
use crate::weights::surgery::operation::Operation;
use crate::weights::surgery::planning;
use crate::weights::surgery::trial;

/// Parameters up to which a child is made in memory; larger ones are written to scratch space and streamed.
pub const IN_MEMORY: u64 = 1 << 29;

/// Cuts the parent to `target` and measures the child. `scratch` is a directory that is made and removed for children of
/// more than [`IN_MEMORY`] parameters.
///
/// # Errors
/// A surgery that cannot be done; weights that cannot be loaded; the disk.
pub fn measure(
    bench: &Bench<'_>,
    reference: &Reference<'_>,
    target: &Architecture,
    scratch: &std::path::Path,
) -> Result<Cost, ScoringError> {
    let wrap =
        |error: SurgeryError| ScoringError::Surgery { what: target.to_string(), error: Box::new(error) };
    let Bench { parent, sums, options, repair_samples, .. } = *bench;
    let planned = planning::plan(parent, target, options, Some(sums)).map_err(wrap)?;
    let operation =
        Operation { parent, planned: &planned, options, sums: Some(sums), samples: repair_samples };
    if counts::parameters(&planned.child, &planned.child.architecture).total() <= IN_MEMORY {
        let (child, _) = trial::in_memory(&operation).map_err(wrap)?;
        return reference.cost(&child);
    }
    let limit = crate::weights::checkpoint::writer::SHARD_LIMIT;
    directory::write(&operation, scratch, limit, Provenance::default(), &mut |_| ()).map_err(wrap)?;
    let measured = written(reference, scratch);
    let removed = files::remove_directory(scratch);
    let cost = measured?;
    removed
        .map_err(|error| ScoringError::Taken(format!("{} cannot be removed: {error}", scratch.display())))?;
    Ok(cost)
}

fn written(reference: &Reference<'_>, scratch: &std::path::Path) -> Result<Cost, ScoringError> {
    let taken = |error: String| ScoringError::Taken(format!("{}: {error}", scratch.display()));
    let checkpoint = Checkpoint::open(scratch).map_err(|error| taken(error.to_string()))?;
    let child = Streamed::new(&checkpoint).map_err(|error| taken(error.to_string()))?;
    reference.cost(&child)
}
