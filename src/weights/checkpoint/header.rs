//! The header of a safetensors file: read and proven sound before a byte of data is used.
//!
//! Stricter than the format's own reader in one point: a name that stands twice is refused.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Longest header that is read, in bytes; the format's own limit.
pub const LONGEST_HEADER: u64 = 100_000_000;

/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;

/// A header that is not sound. Offsets are in bytes from the start of the data unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not even the header's length is there.
    #[error(
        "the file has {length} bytes: expected 8 at least (the header's length); the download broke off, fetch it again"
    )]
    TooShort {
        /// Bytes of the file.
        length: u64,
    },
    /// A header length that no file has.
    #[error(
        "the header claims {header} bytes: expected {LONGEST_HEADER} at most; this is no safetensors file, or a damaged one"
    )]
    TooLong {
        /// Claimed bytes.
        header: u64,
    },
    /// The file ends within its header.
    #[error(
        "the header claims {header} bytes but the file has {length} in all: it is truncated or no safetensors file, fetch it again"
    )]
    BeyondEnd {
        /// Claimed bytes.
        header: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// Not UTF-8.
    #[error(
        "the header is not UTF-8 at byte {at}: expected JSON text; this is no safetensors file, or a damaged one"
    )]
    NotText {
        /// Byte of the header, from 0.
        at: usize,
    },
    /// Not the JSON of a header.
    #[error(
        "the header is not as expected ({{tensor: {{dtype, shape, data_offsets}}}}) at column {column}: {message}; the file is damaged"
    )]
    Syntax {
        /// Byte of the header, from 1.
        column: usize,
        /// What the JSON reader said; names the tensor where there is one.
        message: String,
    },
    /// A shape whose size cannot be counted.
    #[error("tensor {tensor} has shape {shape:?}: more elements than can be counted; the header is damaged")]
    Overflow {
        /// Its name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Element type and shape need another number of bytes than the offsets leave.
    #[error(
        "tensor {tensor} ({dtype} {shape:?}) needs {needs} bits but its offsets {begin}..{end} hold other than that; the header is damaged"
    )]
    Size {
        /// Its name.
        tensor: String,
        /// Element type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// Bits it needs.
        needs: usize,
        /// First byte.
        begin: usize,
        /// Byte after the last.
        end: usize,
    },
    /// It ends before it begins.
    #[error(
        "tensor {tensor} has offsets {begin}..{end}: expected an end after the beginning; the header is damaged"
    )]
    Reversed {
        /// Its name.
        tensor: String,
        /// First byte.
        begin: usize,
        /// Byte after the last.
        end: usize,
    },
    /// Two tensors share bytes.
    #[error(
        "tensor {tensor} begins at {begin} but {other} ends at {end}: they overlap; the header is damaged"
    )]
    Overlap {
        /// The later one.
        tensor: String,
        /// The earlier one.
        other: String,
        /// Where the later one begins.
        begin: usize,
        /// Where the earlier one ends.
        end: usize,
    },
    /// Bytes before a tensor belong to nobody.
    #[error(
        "bytes {from}..{begin} before tensor {tensor} belong to no tensor: expected no holes; the header is damaged"
    )]
    Hole {
        /// The tensor after the hole.
        tensor: String,
        /// First byte of the hole.
        from: usize,
        /// Where the tensor begins.
        begin: usize,
    },
    /// The file ends before a tensor does.
    #[error(
        "truncated: tensor {tensor} ends at byte {end} of the file, which has {length}; fetch the file again"
    )]
    Truncated {
        /// First tensor that is not whole.
        tensor: String,
        /// Byte of the file after its last.
        end: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// Bytes after the last tensor.
    #[error(
        "the tensors end at byte {end} of the file, which has {length}: expected nothing after them; the file is damaged"
    )]
    Trailing {
        /// Byte of the file after the last tensor.
        end: u64,
        /// Bytes of the file.
        length: u64,
    },
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, rows first.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub begin: usize,
    /// Byte after the last, counted from the start of the file.
    pub end: usize,
}

/// Reads and checks the header of a whole file; its tensors in the order they lie in.
///
/// # Errors
/// Anything that would make a tensor's bytes other than the header says.
pub fn read(file: &[u8]) -> Result<Vec<Entry>, HeaderError> {
    let text = text(file)?;
    let data = LENGTH_BYTES + text.len();
    let parsed: Parsed = serde_json::from_str(text)
        .map_err(|error| HeaderError::Syntax { column: error.column(), message: plain(&error) })?;
    let mut tensors = parsed.0;
    tensors.sort_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));
    let mut entries: Vec<Entry> = Vec::with_capacity(tensors.len());
    let mut position = 0;
    for (name, info) in tensors {
        let (begin, end) = info.data_offsets;
        check_size(&name, &info)?;
        if begin > position {
            return Err(HeaderError::Hole { tensor: name, from: position, begin });
        }
        if begin < position {
            let other = entries.last().map_or_else(String::new, |entry| entry.name.clone());
            return Err(HeaderError::Overlap { tensor: name, other, begin, end: position });
        }
        position = end;
        let (begin, end) = (begin.saturating_add(data), end.saturating_add(data));
        entries.push(Entry { name, dtype: info.dtype, shape: info.shape, begin, end });
    }
    check_length(&entries, data, file.len())?;
    Ok(entries)
}

fn text(file: &[u8]) -> Result<&str, HeaderError> {
    let length = file.len() as u64;
    let Some((first, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(HeaderError::TooShort { length });
    };
    let header = u64::from_le_bytes(*first);
    if header > LONGEST_HEADER {
        return Err(HeaderError::TooLong { header });
    }
    let Some(bytes) = rest.get(..header as usize) else {
        return Err(HeaderError::BeyondEnd { header, length });
    };
    std::str::from_utf8(bytes).map_err(|error| HeaderError::NotText { at: error.valid_up_to() })
}

fn check_size(name: &str, info: &TensorInfo) -> Result<(), HeaderError> {
    let ((begin, end), tensor) = (info.data_offsets, name.to_string());
    let elements = info.shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
    let Some(needs) = elements.and_then(|elements| elements.checked_mul(info.dtype.bitsize())) else {
        return Err(HeaderError::Overflow { tensor, shape: info.shape.clone() });
    };
    let Some(bytes) = end.checked_sub(begin) else {
        return Err(HeaderError::Reversed { tensor, begin, end });
    };
    if !needs.is_multiple_of(8) || needs / 8 != bytes {
        let (dtype, shape) = (info.dtype, info.shape.clone());
        return Err(HeaderError::Size { tensor, dtype, shape, needs, begin, end });
    }
    Ok(())
}

fn check_length(entries: &[Entry], data: usize, length: usize) -> Result<(), HeaderError> {
    if let Some(entry) = entries.iter().find(|entry| entry.end > length) {
        let (tensor, end) = (entry.name.clone(), entry.end as u64);
        return Err(HeaderError::Truncated { tensor, end, length: length as u64 });
    }
    let end = entries.last().map_or(data, |entry| entry.end);
    if end < length {
        return Err(HeaderError::Trailing { end: end as u64, length: length as u64 });
    }
    Ok(())
}

/// The message without its place, which is said apart.
fn plain(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(end) => message.get(..end).unwrap_or_default().to_string(),
        None => message,
    }
}

/// Names and places in the order they are written.
struct Parsed(Vec<(String, TensorInfo)>);

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with one key per tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
        let mut found = BTreeMap::new();
        let mut metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            let twice = || A::Error::custom(format!("`{name}` stands twice"));
            let wrong = |error: A::Error| A::Error::custom(format!("`{name}`: {error}"));
            if name == "__metadata__" {
                map.next_value::<Option<BTreeMap<String, String>>>().map_err(wrong)?;
                if std::mem::replace(&mut metadata, true) {
                    return Err(twice());
                }
                continue;
            }
            let info = map.next_value::<TensorInfo>().map_err(wrong)?;
            if found.contains_key(&name) {
                return Err(twice());
            }
            found.insert(name, info);
        }
        Ok(Parsed(found.into_iter().collect()))
    }
}
