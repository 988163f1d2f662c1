//! One tensor: its bytes where the file holds them, or its own.

use std::borrow::Cow;

use half::{bf16, f16};
use safetensors::Dtype;

/// A tensor, row-major.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// Name in the checkpoint.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, rows first.
    pub shape: Vec<usize>,
    /// Little-endian bytes, `shape` product x element size of them.
    pub data: Cow<'a, [u8]>,
}

/// A tensor that cannot be used as numbers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TensorError {
    /// Not f32, f16 or bf16.
    #[error(
        "tensor {name} is {dtype:?}: expected F32, F16 or BF16 (a quantised checkpoint must be dequantised first)"
    )]
    NotFloating {
        /// Its name.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
    /// NaN or infinite.
    #[error(
        "tensor {name} holds {found} at element {element}: expected finite weights; the checkpoint is damaged"
    )]
    NotFinite {
        /// Its name.
        name: String,
        /// The value.
        found: f32,
        /// Where, row-major.
        element: usize,
    },
}

impl<'a> Tensor<'a> {
    /// Rows: the first dimension.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Numbers in a row: the product of the other dimensions.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// The numbers as f32, exact.
    ///
    /// # Errors
    /// Another element type; a NaN or an infinity.
    pub fn to_f32(&self) -> Result<Vec<f32>, TensorError> {
        let wide: Vec<f32> = match self.dtype {
            Dtype::F32 => {
                self.data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Dtype::F16 => {
                self.data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            Dtype::BF16 => {
                self.data.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            dtype => return Err(TensorError::NotFloating { name: self.name.clone(), dtype }),
        };
        match wide.iter().position(|x| !x.is_finite()) {
            None => Ok(wide),
            Some(element) => {
                let found = wide.get(element).copied().unwrap_or(f32::NAN);
                Err(TensorError::NotFinite { name: self.name.clone(), found, element })
            }
        }
    }

    /// `values`, rounded to nearest even in `dtype` (f32, f16 or bf16).
    ///
    /// # Errors
    /// Another element type; a value that is not finite, or not in f16's range.
    pub fn from_f32(
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        values: &[f32],
    ) -> Result<Tensor<'static>, TensorError> {
        let data: Vec<u8> = match dtype {
            Dtype::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Dtype::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            dtype => return Err(TensorError::NotFloating { name: name.into(), dtype }),
        };
        let overflow = |x: &f32| !x.is_finite() || (dtype == Dtype::F16 && f16::from_f32(*x).is_infinite());
        if let Some(element) = values.iter().position(overflow) {
            let found = values.get(element).copied().unwrap_or(f32::NAN);
            return Err(TensorError::NotFinite { name: name.into(), found, element });
        }
        Ok(Tensor { name: name.into(), dtype, shape: shape.to_vec(), data: Cow::Owned(data) })
    }
}
