//! Parts gathered apart, added.

use std::path::PathBuf;

use crate::weights::importance::error::StatisticsError;
use crate::weights::importance::file::Importance;

/// The sum of parts of one run, in the order of the parts whatever the order of the files. With `allow_missing` parts
/// may be missing; the header of what comes back says which are inside.
///
/// # Errors
/// A file cannot be read, belongs to another run (what differs is named), or holds a part that another holds too; parts
/// are missing and must not be.
pub fn merge(paths: &[PathBuf], allow_missing: bool) -> Result<Importance, StatisticsError> {
    let mut parts = Vec::new();
    for path in paths {
        parts.push((path, Importance::load(path)?));
    }
    parts.sort_by(|a, b| a.1.header.parts.cmp(&b.1.header.parts));
    let mut parts = parts.into_iter();
    let (first, mut total) = parts.next().ok_or(StatisticsError::NoParts)?;
    let mut owners: Vec<(u64, &PathBuf)> = total.header.parts.iter().map(|part| (*part, first)).collect();
    for (path, part) in parts {
        let different = |mismatch| StatisticsError::DifferentRuns {
            first: first.clone(),
            second: path.clone(),
            mismatch,
        };
        total.header.check_same_run(&part.header).map_err(different)?;
        for index in &part.header.parts {
            if let Some((part, owner)) = owners.iter().find(|(owned, _)| owned == index) {
                let (first, second) = ((*owner).clone(), path.clone());
                return Err(StatisticsError::Overlap { first, second, part: *part });
            }
            owners.push((*index, path));
        }
        if !total.sums.add(&part.sums) {
            let reason = "its sums are not those of a model of the shape it states".to_string();
            return Err(StatisticsError::Header { path: path.clone(), reason });
        }
        total.header.parts.extend(&part.header.parts);
        total.header.parts.sort_unstable();
    }
    let missing = total.header.missing_parts();
    match missing.is_empty() || allow_missing {
        true => Ok(total),
        false => Err(StatisticsError::MissingParts { missing, shards: total.header.shards }),
    }
}
