//! One tensor: its bytes where the file holds them, or its own.

use std::borrow::Cow;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Elements converted at a time: they stay in a core's cache between conversion and check.
const BLOCK: usize = 16 * 1024;

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
    /// A finite value that the element type cannot hold.
    #[error(
        "tensor {name}: {found} at element {element} is beyond what {dtype} holds; write it as BF16 or F32"
    )]
    TooLarge {
        /// Its name.
        name: String,
        /// Its type.
        dtype: Dtype,
        /// The value.
        found: f32,
        /// Where, row-major.
        element: usize,
    },
    /// As many values as the shape says are needed.
    #[error("tensor {name}: {found} values for shape {shape:?}")]
    Length {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Values given.
        found: usize,
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
    /// Another element type; a NaN or an infinity (the first one is named).
    pub fn to_f32(&self) -> Result<Vec<f32>, TensorError> {
        let size = self.element_size()?;
        let mut wide = vec![0f32; self.data.len() / size];
        let found = (wide.par_chunks_mut(BLOCK), self.data.par_chunks(BLOCK * size))
            .into_par_iter()
            .enumerate()
            .find_map_first(|(block, (wide, narrow))| {
                widen(self.dtype, narrow, wide);
                Some(block * BLOCK + first_unsound(wide)?)
            });
        match found {
            None => Ok(wide),
            Some(element) => Err(self.not_finite(element, wide.get(element).copied())),
        }
    }

    /// Whether every number is finite; reads the bytes once and keeps nothing.
    ///
    /// # Errors
    /// Another element type; a NaN or an infinity (the first one is named).
    pub fn check_finite(&self) -> Result<(), TensorError> {
        let size = self.element_size()?;
        let blocks = self.data.par_chunks(BLOCK * size).enumerate();
        let found = blocks.find_map_first(|(block, narrow)| {
            if finite_bits(self.dtype, narrow) {
                return None;
            }
            let mut wide = vec![0f32; narrow.len() / size];
            widen(self.dtype, narrow, &mut wide);
            let at = first_unsound(&wide)?;
            Some((block * BLOCK + at, wide.get(at).copied()))
        });
        found.map_or(Ok(()), |(element, value)| Err(self.not_finite(element, value)))
    }

    /// `values`, rounded to nearest even in `dtype` (f32, f16 or bf16).
    ///
    /// # Errors
    /// Another element type; a value that is not finite, or that rounds to infinity (the first one is named); another
    /// number of values than `shape` has.
    pub fn from_f32(
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        values: &[f32],
    ) -> Result<Tensor<'static>, TensorError> {
        let mut tensor =
            Tensor { name: name.into(), dtype, shape: shape.to_vec(), data: Cow::Owned(Vec::new()) };
        let size = tensor.element_size()?;
        if shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim)) != Some(values.len()) {
            let (name, shape) = (tensor.name, tensor.shape);
            return Err(TensorError::Length { name, shape, found: values.len() });
        }
        let mut narrow = vec![0u8; values.len() * size];
        let found = (narrow.par_chunks_mut(BLOCK * size), values.par_chunks(BLOCK))
            .into_par_iter()
            .enumerate()
            .find_map_first(|(block, (narrow, wide))| {
                round(dtype, wide, narrow);
                let sound = finite_bits(dtype, narrow);
                let at = (!sound).then(|| wide.iter().position(|x| !fits(dtype, *x)))??;
                Some((block * BLOCK + at, wide.get(at).copied().unwrap_or(f32::NAN)))
            });
        match found {
            None => {
                tensor.data = Cow::Owned(narrow);
                Ok(tensor)
            }
            Some((element, found)) if found.is_finite() => {
                Err(TensorError::TooLarge { name: tensor.name, dtype, found, element })
            }
            Some((element, found)) => Err(tensor.not_finite(element, Some(found))),
        }
    }

    /// The same tensor with bytes of its own.
    pub fn into_owned(self) -> Tensor<'static> {
        let Tensor { name, dtype, shape, data } = self;
        Tensor { name, dtype, shape, data: Cow::Owned(data.into_owned()) }
    }

    /// Bytes of one element.
    fn element_size(&self) -> Result<usize, TensorError> {
        match self.dtype {
            Dtype::F32 => Ok(4),
            Dtype::F16 | Dtype::BF16 => Ok(2),
            dtype => Err(TensorError::NotFloating { name: self.name.clone(), dtype }),
        }
    }

    fn not_finite(&self, element: usize, found: Option<f32>) -> TensorError {
        TensorError::NotFinite { name: self.name.clone(), found: found.unwrap_or(f32::NAN), element }
    }
}

/// Numbers of `narrow` to f32; both hold the same count.
fn widen(dtype: Dtype, narrow: &[u8], wide: &mut [f32]) {
    match dtype {
        Dtype::F32 => {
            let words = narrow.as_chunks::<4>().0;
            wide.iter_mut().zip(words).for_each(|(w, n)| *w = f32::from_le_bytes(*n));
        }
        Dtype::F16 => {
            let words = narrow.as_chunks::<2>().0;
            let mut block = [f16::ZERO; 256];
            for (wide, words) in wide.chunks_mut(block.len()).zip(words.chunks(block.len())) {
                block.iter_mut().zip(words).for_each(|(b, n)| *b = f16::from_le_bytes(*n));
                if let Some(block) = block.get(..wide.len()) {
                    block.convert_to_f32_slice(wide);
                }
            }
        }
        _ => {
            let words = narrow.as_chunks::<2>().0;
            let as_f32 = |n: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*n)) << 16);
            wide.iter_mut().zip(words).for_each(|(w, n)| *w = as_f32(n));
        }
    }
}

/// The reverse of [`widen`], to nearest even.
fn round(dtype: Dtype, wide: &[f32], narrow: &mut [u8]) {
    match dtype {
        Dtype::F32 => {
            let words = narrow.as_chunks_mut::<4>().0;
            words.iter_mut().zip(wide).for_each(|(n, w)| *n = w.to_le_bytes());
        }
        Dtype::F16 => {
            let words = narrow.as_chunks_mut::<2>().0;
            let mut block = [f16::ZERO; 256];
            for (wide, words) in wide.chunks(block.len()).zip(words.chunks_mut(block.len())) {
                if let Some(block) = block.get_mut(..wide.len()) {
                    block.convert_from_f32_slice(wide);
                    words.iter_mut().zip(block).for_each(|(n, b)| *n = b.to_le_bytes());
                }
            }
        }
        _ => {
            let words = narrow.as_chunks_mut::<2>().0;
            words.iter_mut().zip(wide).for_each(|(n, w)| *n = bf16::from_f32(*w).to_le_bytes());
        }
    }
}

/// Whether no exponent is all ones: branch-free, a block at the speed of memory.
fn finite_bits(dtype: Dtype, narrow: &[u8]) -> bool {
    let words16 = |mask: u16| {
        let special = |n: &[u8; 2]| u16::from((u16::from_le_bytes(*n) & mask) == mask);
        narrow.as_chunks::<2>().0.iter().fold(0u16, |any, n| any | special(n)) == 0
    };
    match dtype {
        Dtype::F32 => {
            let special = |n: &[u8; 4]| u32::from((u32::from_le_bytes(*n) & 0x7f80_0000) == 0x7f80_0000);
            narrow.as_chunks::<4>().0.iter().fold(0u32, |any, n| any | special(n)) == 0
        }
        Dtype::F16 => words16(0x7c00),
        _ => words16(0x7f80),
    }
}

fn first_unsound(wide: &[f32]) -> Option<usize> {
    let special = |x: &f32| u32::from((x.to_bits() & 0x7f80_0000) == 0x7f80_0000);
    let any = wide.iter().fold(0u32, |any, x| any | special(x)) != 0;
    any.then(|| wide.iter().position(|x| !x.is_finite())).flatten()
}

fn fits(dtype: Dtype, value: f32) -> bool {
    match dtype {
        Dtype::F16 => f16::from_f32(value).is_finite(),
        Dtype::BF16 => bf16::from_f32(value).is_finite(),
        _ => value.is_finite(),
    }
}
