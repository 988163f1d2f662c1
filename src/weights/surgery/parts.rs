//! The tensors of one layer of the child while they are being made: as stored until a step changes them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use safetensors::Dtype;

use crate::model::tensors::{ModelTensor, Role};
use crate::weights::checkpoint::tensor::{Tensor, TensorError};

/// One tensor: bytes of the parent, or numbers that a step has changed.
#[derive(Clone, Debug)]
enum Part<'a> {
    Stored(Tensor<'a>),
    Changed { dtype: Dtype, shape: Vec<usize>, numbers: Vec<f32> },
}

/// The tensors of one layer, or of the model's ends.
#[derive(Clone, Debug, Default)]
pub struct Parts<'a> {
    parts: BTreeMap<Role, Part<'a>>,
}

impl<'a> Parts<'a> {
    /// Puts a tensor as it is stored.
    pub fn store(&mut self, role: Role, tensor: Tensor<'a>) {
        self.parts.insert(role, Part::Stored(tensor));
    }

    /// Puts numbers that will be rounded to `dtype`.
    pub fn change(&mut self, role: Role, dtype: Dtype, shape: &[usize], numbers: Vec<f32>) {
        self.parts.insert(role, Part::Changed { dtype, shape: shape.to_vec(), numbers });
    }

    /// Takes a tensor away.
    pub fn remove(&mut self, role: Role) {
        self.parts.remove(&role);
    }

    /// Whether there is one.
    pub fn has(&self, role: Role) -> bool {
        self.parts.contains_key(&role)
    }

    /// Element type and shape.
    pub fn form(&self, role: Role) -> Option<(Dtype, Vec<usize>)> {
        Some(match self.parts.get(&role)? {
            Part::Stored(tensor) => (tensor.dtype, tensor.shape.clone()),
            Part::Changed { dtype, shape, .. } => (*dtype, shape.clone()),
        })
    }

    /// The numbers of a tensor, to be changed; none where there is no such tensor.
    ///
    /// # Errors
    /// A value that is no finite number.
    pub fn numbers(&mut self, role: Role) -> Result<Option<&mut Vec<f32>>, TensorError> {
        let Some(part) = self.parts.get_mut(&role) else { return Ok(None) };
        if let Part::Stored(tensor) = part {
            let numbers = tensor.to_f32()?;
            *part = Part::Changed { dtype: tensor.dtype, shape: std::mem::take(&mut tensor.shape), numbers };
        }
        match part {
            Part::Changed { numbers, .. } => Ok(Some(numbers)),
            Part::Stored(_) => Ok(None),
        }
    }

    /// A copy of one tensor, as it will be written; none where there is no such tensor.
    ///
    /// # Errors
    /// A value that its element type cannot hold.
    pub fn tensor(&self, role: Role) -> Result<Option<Tensor<'_>>, TensorError> {
        Ok(match self.parts.get(&role) {
            None => None,
            Some(Part::Stored(tensor)) => Some(Tensor {
                name: tensor.name.clone(),
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
                data: Cow::Borrowed(&tensor.data),
            }),
            Some(Part::Changed { dtype, shape, numbers }) => {
                Some(Tensor::from_f32(&format!("{role:?}"), *dtype, shape, numbers)?)
            }
        })
    }

    /// Hands out the tensor of one name; none where there is no such tensor.
    ///
    /// # Errors
    /// A value that its element type cannot hold.
    pub fn take(&mut self, of: &ModelTensor) -> Result<Option<Tensor<'a>>, TensorError> {
        Ok(match self.parts.remove(&of.role) {
            None => None,
            Some(Part::Stored(tensor)) => Some(Tensor { name: of.name.clone(), ..tensor }),
            Some(Part::Changed { dtype, shape, numbers }) => {
                Some(Tensor::from_f32(&of.name, dtype, &shape, &numbers)?)
            }
        })
    }

    /// Multiplies row `i` of a matrix, or element `i` of a vector, by `factors[i]`, where there is such a tensor.
    ///
    /// # Errors
    /// A value that is no finite number.
    pub fn scale_rows(&mut self, role: Role, factors: &[f32]) -> Result<(), TensorError> {
        if let Some(numbers) = self.numbers(role)? {
            let width = numbers.len().checked_div(factors.len()).unwrap_or(0).max(1);
            for (row, factor) in numbers.chunks_mut(width).zip(factors) {
                row.iter_mut().for_each(|x| *x *= factor);
            }
        }
        Ok(())
    }
}
