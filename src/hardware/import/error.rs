//! Why an import was refused: what, where, what was expected, what to do.

use crate::hardware::profile::error::ProfileError;
use crate::names;

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file or folder cannot be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The file or folder.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file is not what its name says: cut off, damaged, or of another format.
    #[error("{file}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Nothing of the format is there.
    #[error("{path}: {expected} was expected and is not there")]
    NothingThere {
        /// The source as given.
        path: String,
        /// What the format looks like.
        expected: String,
    },
    /// Several sources where one is meant.
    #[error("{path} holds several: {}; give one of them", found.join(", "))]
    Several {
        /// The source as given.
        path: String,
        /// What was found.
        found: Vec<String>,
    },
    /// A name that is not known.
    #[error("unknown {what} `{found}`{hint}; {place} has {}", known.join(", "), hint = hint(found, known))]
    Unknown {
        /// Kind of name: system, framework, version, profile.
        what: &'static str,
        /// The name.
        found: String,
        /// Where it was looked for.
        place: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A choice that only the user can make.
    #[error("{place} has {}: choose with {flag}", known.join(", "))]
    Choose {
        /// The flag.
        flag: &'static str,
        /// Where the choices are.
        place: String,
        /// The choices.
        known: Vec<String>,
    },
    /// A flag without which the format cannot be imported.
    #[error("{flag} is needed: {reason}")]
    FlagNeeded {
        /// The flag with an example of its value.
        flag: &'static str,
        /// Why.
        reason: String,
    },
    /// A flag that the format does not take.
    #[error("{flag} does not go with --from {format}: {reason}")]
    FlagUnused {
        /// The flag.
        flag: &'static str,
        /// The format.
        format: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A file of known role lacks a column.
    #[error("{file}: no column `{column}`{hint}; its columns are {}", found.join(", "), hint = hint(column, found))]
    MissingColumn {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// The columns there are.
        found: Vec<String>,
    },
    /// A latency column of another unit than the format's.
    #[error("{file}: column `{column}` instead of `{expected}`: {why}")]
    OtherUnit {
        /// The file.
        file: String,
        /// The column found.
        column: String,
        /// The column the format has.
        expected: &'static str,
        /// The unit that is expected.
        why: &'static str,
    },
    /// A cell.
    #[error("{file}, {row}: `{found}` in column `{column}` is not {expected}")]
    Cell {
        /// The file.
        file: String,
        /// Such as `line 12` or `row 11`.
        row: String,
        /// The column.
        column: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// One file with rows of several devices, none of which was asked for.
    #[error(
        "{file}, {row}: measured on `{other}`, the rows before it on `{first}`: a profile is of one device; choose with --measured-on"
    )]
    MixedDevices {
        /// The file.
        file: String,
        /// The first row of the other device.
        row: String,
        /// Device of the first row.
        first: String,
        /// The other device.
        other: String,
    },
    /// Latencies that no device of these facts can have.
    #[error(
        "{file}: every latency is {direction} than {device} allows, by a factor of {factor:.0} or more: the column `{column}` must hold {unit}"
    )]
    ImplausibleUnit {
        /// The file.
        file: String,
        /// `slower` or `faster`.
        direction: &'static str,
        /// The device.
        device: String,
        /// How far the nearest row is off.
        factor: f64,
        /// The column of latencies.
        column: String,
        /// The unit it must have.
        unit: &'static str,
    },
    /// Device facts that the source does not state.
    #[error("{source_name} does not state {fact} of {device}: give {flag}")]
    UnknownFact {
        /// Where it was looked for.
        source_name: String,
        /// The fact.
        fact: &'static str,
        /// The device.
        device: String,
        /// The flag that sets it, with an example.
        flag: &'static str,
    },
    /// Files were read and none of their rows fits a table.
    #[error("{path}: no row of it fits a table of a profile ({reasons})")]
    NoRows {
        /// The source.
        path: String,
        /// Why rows were skipped, most frequent first.
        reasons: String,
    },
    /// The profile that would be written, or a profile that is read, is at fault.
    #[error(transparent)]
    Profile(Box<ProfileError>),
}

impl From<ProfileError> for ImportError {
    fn from(error: ProfileError) -> Self {
        ImportError::Profile(Box::new(error))
    }
}

fn hint(found: &str, known: &[String]) -> String {
    names::did_you_mean(names::closest(found, known.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_meant() {
        let known = vec!["b200_sxm".to_string(), "l40s".to_string()];
        let error =
            ImportError::Unknown { what: "system", found: "b200".into(), place: "x.whl".into(), known };
        assert_eq!(
            error.to_string(),
            "unknown system `b200`; did you mean `b200_sxm`?; x.whl has b200_sxm, l40s"
        );
    }
}
