//! Rows and columns of a tensor, picked from its bytes: no number is converted.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use crate::weights::checkpoint::tensor::Tensor;

/// Bytes that one task copies at least.
const TASK: usize = 256 * 1024;

/// Columns in a run, on average, above which whole runs are copied rather than elements.
const LONG_RUN: usize = 8;

/// A selection that the tensor does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// An index beyond the last.
    #[error("tensor {tensor}: index {position} of the {axis} to keep is {index}, but it has {size} {axis}")]
    OutOfRange {
        /// Its name.
        tensor: String,
        /// `rows` or `columns`.
        axis: &'static str,
        /// Place in the list, from 0.
        position: usize,
        /// The index.
        index: u32,
        /// How many there are.
        size: usize,
    },
    /// No such axis.
    #[error("tensor {tensor} has shape {shape:?}: no {axis} to choose from")]
    NoSuchAxis {
        /// Its name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// `rows` or `columns`.
        axis: &'static str,
    },
    /// Elements smaller than a byte.
    #[error("tensor {tensor} is {dtype}: elements smaller than a byte cannot be chosen one by one")]
    Packed {
        /// Its name.
        tensor: String,
        /// Its type.
        dtype: safetensors::Dtype,
    },
}

impl Tensor<'_> {
    /// The rows and columns with these indices, in this order (repeats are allowed); none = all. A tensor of one dimension
    /// has rows only, one of three or more no columns. Borrows where nothing changes.
    ///
    /// # Errors
    /// An index out of range; an axis the tensor does not have.
    pub fn select(&self, rows: Option<&[u32]>, columns: Option<&[u32]>) -> Result<Tensor<'_>, SelectError> {
        let rows = self.checked(rows, 0, "rows")?;
        let columns = self.checked(columns, 1, "columns")?;
        let mut shape = self.shape.clone();
        shape.iter_mut().zip([rows, columns]).for_each(|(dim, kept)| *dim = kept.map_or(*dim, <[u32]>::len));
        let data = match (rows, columns) {
            (None, None) => Cow::Borrowed(&*self.data),
            _ => Cow::Owned(self.gather(rows, columns)?),
        };
        Ok(Tensor { name: self.name.clone(), dtype: self.dtype, shape, data })
    }

    /// The list if it picks anything but all in order.
    fn checked<'i>(
        &self,
        indices: Option<&'i [u32]>,
        axis: usize,
        name: &'static str,
    ) -> Result<Option<&'i [u32]>, SelectError> {
        let Some(indices) = indices else { return Ok(None) };
        let tensor = || self.name.clone();
        let size = match self.shape.get(axis) {
            Some(size) if axis == 0 || self.shape.len() == 2 => *size,
            _ => {
                let shape = self.shape.clone();
                return Err(SelectError::NoSuchAxis { tensor: tensor(), shape, axis: name });
            }
        };
        if let Some(position) = indices.iter().position(|index| *index as usize >= size) {
            let index = indices.get(position).copied().unwrap_or_default();
            return Err(SelectError::OutOfRange { tensor: tensor(), axis: name, position, index, size });
        }
        let all = indices.len() == size && indices.iter().enumerate().all(|(i, index)| i == *index as usize);
        Ok((!all).then_some(indices))
    }

    fn gather(&self, rows: Option<&[u32]>, columns: Option<&[u32]>) -> Result<Vec<u8>, SelectError> {
        let bits = self.dtype.bitsize();
        if !bits.is_multiple_of(8) {
            return Err(SelectError::Packed { tensor: self.name.clone(), dtype: self.dtype });
        }
        // A vector is one row of columns: its runs are copied whole.
        let (rows, columns, height, width) = match (self.shape.len(), rows) {
            (1, Some(rows)) => (None, Some(rows), 1, self.rows()),
            _ => (rows, columns, self.rows(), self.row_len()),
        };
        let pick = Pick::new(columns, width, bits / 8);
        let (source, target) = (width * (bits / 8), pick.bytes());
        let kept = rows.map_or(height, <[u32]>::len);
        let mut out = vec![0u8; kept * target];
        if out.is_empty() {
            return Ok(out);
        }
        let rows_per_task = TASK.div_ceil(target);
        out.par_chunks_mut(rows_per_task * target).enumerate().for_each(|(task, out)| {
            for (offset, out) in out.chunks_exact_mut(target).enumerate() {
                let at = task * rows_per_task + offset;
                let row = rows.map_or(at, |rows| rows.get(at).map_or(0, |row| *row as usize));
                pick.copy(self.data.get(row * source..(row + 1) * source).unwrap_or_default(), out);
            }
        });
        Ok(out)
    }
}

/// What is taken from each row.
enum Pick<'a> {
    /// All of so many bytes.
    All(usize),
    /// Runs of bytes, and how many there are in all.
    Runs(Vec<Range<usize>>, usize),
    /// Elements of so many bytes.
    Elements(&'a [u32], usize),
}

impl<'a> Pick<'a> {
    fn new(columns: Option<&'a [u32]>, width: usize, size: usize) -> Self {
        let Some(columns) = columns else { return Pick::All(width * size) };
        let mut runs: Vec<Range<usize>> = Vec::new();
        for column in columns.iter().map(|column| *column as usize * size) {
            match runs.last_mut() {
                Some(run) if run.end == column => run.end += size,
                _ => runs.push(column..column + size),
            }
        }
        match runs.len() * LONG_RUN <= columns.len() || ![1, 2, 4, 8].contains(&size) {
            true => Pick::Runs(runs, columns.len() * size),
            false => Pick::Elements(columns, size),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Pick::All(bytes) | Pick::Runs(_, bytes) => *bytes,
            Pick::Elements(columns, size) => columns.len() * size,
        }
    }

    fn copy(&self, row: &[u8], out: &mut [u8]) {
        match self {
            Pick::All(_) => copy(row, out),
            Pick::Runs(runs, _) => {
                let mut rest = out;
                for run in runs {
                    let Some((head, tail)) = rest.split_at_mut_checked(run.len()) else { return };
                    copy(row.get(run.clone()).unwrap_or_default(), head);
                    rest = tail;
                }
            }
            Pick::Elements(columns, 1) => elements::<1>(row, columns, out),
            Pick::Elements(columns, 2) => elements::<2>(row, columns, out),
            Pick::Elements(columns, 4) => elements::<4>(row, columns, out),
            Pick::Elements(columns, _) => elements::<8>(row, columns, out),
        }
    }
}

/// Copies where the lengths agree; a tensor with fewer bytes than its shape says leaves zeros.
fn copy(from: &[u8], to: &mut [u8]) {
    if from.len() == to.len() {
        to.copy_from_slice(from);
    }
}

fn elements<const SIZE: usize>(row: &[u8], columns: &[u32], out: &mut [u8]) {
    let row = row.as_chunks::<SIZE>().0;
    for (to, column) in out.as_chunks_mut::<SIZE>().0.iter_mut().zip(columns) {
        if let Some(from) = row.get(*column as usize) {
            *to = *from;
        }
    }
}
