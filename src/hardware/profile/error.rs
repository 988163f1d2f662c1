//! Where a profile is wrong: a [`Defect`] and its place (file, line, column).

use std::fmt;

use crate::hardware::profile::defect::Defect;

/// Line and column, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file or folder, as it was given.
    pub file: String,
    /// Where in the file; `None` for the file as a whole.
    pub position: Option<Position>,
}

impl Place {
    /// A file or folder as a whole.
    pub fn whole(file: impl Into<String>) -> Self {
        Self { file: file.into(), position: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(Position { line, column }) => write!(f, "{}:{line}:{column}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// One defect and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileError {
    /// Where; `None` when no file is at fault (an unknown profile name).
    pub place: Option<Place>,
    /// What.
    pub defect: Defect,
}

impl ProfileError {
    /// A defect at a place.
    pub fn at(place: Place, defect: Defect) -> Self {
        Self { place: Some(place), defect }
    }

    /// A defect of a file or folder as a whole.
    pub fn of(file: impl Into<String>, defect: Defect) -> Self {
        Self::at(Place::whole(file), defect)
    }
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.defect),
            None => self.defect.fmt(f),
        }
    }
}

impl std::error::Error for ProfileError {}

/// Turns byte offsets of one file into lines and columns.
pub(crate) struct Lines<'a> {
    bytes: &'a [u8],
    /// Offset of the first byte of each line.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        let ends = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1);
        Self { bytes, starts: std::iter::once(0).chain(ends).collect() }
    }

    pub(crate) fn at(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.bytes.get(start..offset.min(self.bytes.len())).unwrap_or(&[]);
        let column = String::from_utf8_lossy(before).chars().count() + 1;
        Position { line: u32_of(line), column: u32_of(column) }
    }

    pub(crate) fn place(&self, file: &str, offset: usize) -> Place {
        Place { file: file.to_string(), position: Some(self.at(offset)) }
    }
}

fn u32_of(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The text after a byte-order mark, if there is one (spreadsheets write it), and the offset at which it starts.
pub(crate) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_and_characters() {
        let lines = Lines::of("ab\né=1\n".as_bytes());
        assert_eq!(lines.at(0), Position { line: 1, column: 1 });
        assert_eq!(lines.at(3), Position { line: 2, column: 1 });
        assert_eq!(lines.at(5), Position { line: 2, column: 2 });
        assert_eq!(lines.at(999), Position { line: 3, column: 1 });
        assert_eq!(Lines::of(b"").at(0), Position { line: 1, column: 1 });
    }

    #[test]
    fn an_error_is_no_bigger_than_it_must_be() {
        assert!(size_of::<ProfileError>() <= 128, "{}", size_of::<ProfileError>());
    }
}
