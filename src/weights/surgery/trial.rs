//! A child in memory, to be tried without being written.

use std::collections::BTreeMap;

use crate::model::tensors;
use crate::weights::checkpoint::tensor::{Tensor, TensorError};
use crate::weights::network::load::{ends_from, layer_from};
use crate::weights::network::settings::Settings;
use crate::weights::network::source::Resident;
use crate::weights::surgery::error::SurgeryError;
use crate::weights::surgery::operation::{Operation, Receiver};
use crate::weights::surgery::record::LayerRepair;

#[derive(Default)]
struct Kept {
    tensors: BTreeMap<String, Tensor<'static>>,
}

impl Receiver for Kept {
    fn tensor(&mut self, tensor: Tensor<'_>) -> Result<(), SurgeryError> {
        self.tensors.insert(tensor.name.clone(), tensor.into_owned());
        Ok(())
    }

    fn layers_done(&mut self, _: usize) {}
}

/// Performs the operation; the child as it would be written, rounded to its element types.
///
/// # Errors
/// What the operation meets.
pub fn in_memory(operation: &Operation<'_>) -> Result<(Resident, Vec<LayerRepair>), SurgeryError> {
    let mut kept = Kept::default();
    let repair = operation.perform(&mut kept)?;
    let spec = &operation.planned.child;
    let settings = Settings::of(spec)?;
    let mut layers = Vec::new();
    for index in 0..spec.architecture.depth() {
        let names = tensors::layer(spec, index);
        layers.push(layer_from(
            |role| {
                let name = names.iter().find(|of| of.role == role).map(|of| of.name.as_str());
                Ok::<_, TensorError>(name.and_then(|name| kept.tensors.remove(name)))
            },
            &settings,
            index,
        )?);
    }
    let ends = ends_from(
        |role| Ok::<_, TensorError>(tensors::end(spec, role).and_then(|of| kept.tensors.remove(&of.name))),
        &settings,
    )?;
    Ok((Resident { settings, layers, ends }, repair))
}
