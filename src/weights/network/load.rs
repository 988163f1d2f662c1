//! Layers from tensors, wherever those come from.

use crate::model::tensors::Role;
use crate::weights::checkpoint::tensor::{Tensor, TensorError};
use crate::weights::network::layer::{Attention, Ends, Ffn, Layer, Linear};
use crate::weights::network::settings::Settings;

/// Weights that cannot be loaded; `E` is what can go wrong where the tensors come from.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError<E: std::error::Error + 'static> {
    /// Where the tensors come from.
    #[error(transparent)]
    Source(E),
    /// A tensor is not there.
    #[error("{place}: the tensor for {role:?} is missing; expected it, as others of its part are there")]
    Missing {
        /// Layer, or the ends.
        place: String,
        /// What is missing.
        role: Role,
    },
    /// A tensor of another shape.
    #[error("tensor {name} is of shape {found:?}, expected {expected}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that fits the others.
        expected: String,
    },
    /// A tensor that cannot be used as numbers.
    #[error(transparent)]
    Tensor(TensorError),
}

/// Makes layer `index` from the tensors `fetch` gives for each role; a part whose first projection is not there is
/// absent. Gains get the family's offset, all numbers become f32.
///
/// # Errors
/// What `fetch` returns; a tensor that is missing, of a shape that does not fit, or not finite floating-point numbers.
pub fn layer_from<'t, E: std::error::Error + 'static>(
    fetch: impl FnMut(Role) -> Result<Option<Tensor<'t>>, E>,
    settings: &Settings,
    index: u64,
) -> Result<Layer, LoadError<E>> {
    let mut source = Source { fetch, settings, place: format!("layer {index}") };
    Ok(Layer { attention: source.attention()?, ffn: source.ffn()? })
}

/// Makes embedding, last norm and head alike; without a head tensor the embedding serves.
///
/// # Errors
/// As [`layer_from`].
pub fn ends_from<'t, E: std::error::Error + 'static>(
    fetch: impl FnMut(Role) -> Result<Option<Tensor<'t>>, E>,
    settings: &Settings,
) -> Result<Ends, LoadError<E>> {
    let mut source = Source { fetch, settings, place: "ends of the model".into() };
    let table = [settings.vocabulary, settings.hidden];
    let embedding = source.required(Role::Embedding)?;
    let final_norm = source.gain(Role::FinalNorm, settings.hidden)?;
    let head = source.optional(Role::LmHead)?;
    let head = head.map(|tensor| numbers(&tensor, &table)).transpose()?;
    Ok(Ends { embedding: numbers(&embedding, &table)?, final_norm, head })
}

/// As [`ends_from`] for a model whose head does not share the embedding, which is left empty.
///
/// # Errors
/// As [`layer_from`].
pub fn output_ends_from<'t, E: std::error::Error + 'static>(
    fetch: impl FnMut(Role) -> Result<Option<Tensor<'t>>, E>,
    settings: &Settings,
) -> Result<Ends, LoadError<E>> {
    let mut source = Source { fetch, settings, place: "ends of the model".into() };
    let final_norm = source.gain(Role::FinalNorm, settings.hidden)?;
    let head = numbers(&source.required(Role::LmHead)?, &[settings.vocabulary, settings.hidden])?;
    Ok(Ends { embedding: Vec::new(), final_norm, head: Some(head) })
}

struct Source<'s, F> {
    fetch: F,
    settings: &'s Settings,
    place: String,
}

impl<'t, E, F> Source<'_, F>
where
    E: std::error::Error + 'static,
    F: FnMut(Role) -> Result<Option<Tensor<'t>>, E>,
{
    fn attention(&mut self) -> Result<Option<Attention>, LoadError<E>> {
        let Some(q) = self.optional(Role::Q)? else { return Ok(None) };
        let (hidden, d) = (self.settings.hidden, self.settings.head_dim);
        let q = self.linear(q, Role::QBias, None, hidden)?;
        let k = self.required(Role::K)?;
        let k = self.linear(k, Role::KBias, None, hidden)?;
        let v = self.required(Role::V)?;
        let v = self.linear(v, Role::VBias, Some(k.outputs), hidden)?;
        let o = self.required(Role::O)?;
        let o = self.linear(o, Role::OBias, Some(hidden), q.outputs)?;
        Ok(Some(Attention {
            norm: self.gain(Role::AttentionNorm, hidden)?,
            q,
            k,
            v,
            q_norm: self.optional_gain(Role::QNorm, d)?,
            k_norm: self.optional_gain(Role::KNorm, d)?,
            o,
            post_norm: self.optional_gain(Role::AttentionPostNorm, hidden)?,
        }))
    }

    fn ffn(&mut self) -> Result<Option<Ffn>, LoadError<E>> {
        let Some(gate) = self.optional(Role::Gate)? else { return Ok(None) };
        let hidden = self.settings.hidden;
        let gate = self.linear(gate, Role::GateBias, None, hidden)?;
        let up = self.required(Role::Up)?;
        let up = self.linear(up, Role::UpBias, Some(gate.outputs), hidden)?;
        let down = self.required(Role::Down)?;
        let down = self.linear(down, Role::DownBias, Some(hidden), gate.outputs)?;
        Ok(Some(Ffn {
            norm: self.gain(Role::FfnNorm, hidden)?,
            gate,
            up,
            down,
            post_norm: self.optional_gain(Role::FfnPostNorm, hidden)?,
        }))
    }

    fn optional(&mut self, role: Role) -> Result<Option<Tensor<'t>>, LoadError<E>> {
        (self.fetch)(role).map_err(LoadError::Source)
    }

    fn required(&mut self, role: Role) -> Result<Tensor<'t>, LoadError<E>> {
        self.optional(role)?.ok_or_else(|| LoadError::Missing { place: self.place.clone(), role })
    }

    /// A projection with its bias; without `outputs` as many as the tensor has rows.
    fn linear(
        &mut self,
        weight: Tensor<'t>,
        bias: Role,
        outputs: Option<usize>,
        inputs: usize,
    ) -> Result<Linear, LoadError<E>> {
        let outputs = outputs.unwrap_or_else(|| weight.rows());
        let bias = self.optional(bias)?;
        Ok(Linear {
            outputs,
            inputs,
            weight: numbers(&weight, &[outputs, inputs])?,
            bias: bias.map(|bias| numbers(&bias, &[outputs])).transpose()?,
        })
    }

    fn gain(&mut self, role: Role, width: usize) -> Result<Vec<f32>, LoadError<E>> {
        let tensor = self.required(role)?;
        self.with_offset(&tensor, width)
    }

    fn optional_gain(&mut self, role: Role, width: usize) -> Result<Option<Vec<f32>>, LoadError<E>> {
        self.optional(role)?.map(|tensor| self.with_offset(&tensor, width)).transpose()
    }

    fn with_offset(&self, tensor: &Tensor<'_>, width: usize) -> Result<Vec<f32>, LoadError<E>> {
        let mut gain = numbers(tensor, &[width])?;
        gain.iter_mut().for_each(|g| *g += self.settings.gain_offset);
        Ok(gain)
    }
}

fn numbers<E: std::error::Error + 'static>(
    tensor: &Tensor<'_>,
    shape: &[usize],
) -> Result<Vec<f32>, LoadError<E>> {
    if tensor.shape != shape {
        return Err(LoadError::Shape {
            name: tensor.name.clone(),
            found: tensor.shape.clone(),
            expected: format!("{shape:?}"),
        });
    }
    tensor.to_f32().map_err(LoadError::Tensor)
}
