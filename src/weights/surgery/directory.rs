//! The child's directory: weights in shards, configuration, record, card, and what the parent had besides.

use std::path::Path;

use serde_json::Value;

use crate::model::blocks;
use crate::model::counts;
use crate::model::tensors::{self, ModelTensor};
use crate::weights::checkpoint::Checkpoint;
use crate::weights::checkpoint::extras;
use crate::weights::checkpoint::layout::TensorInfo;
use crate::weights::checkpoint::tensor::Tensor;
use crate::weights::checkpoint::writer::{CheckpointWriter, Written};
use crate::weights::surgery::card;
use crate::weights::surgery::error::SurgeryError;
use crate::weights::surgery::operation::{Operation, Receiver};
use crate::weights::surgery::record::{DataRecord, FORMAT, ParentRecord, Record};

/// The class of a DeciLM's configuration, for vLLM, and the file it is looked for in.
const CONFIG_CLASS: &str = include_str!("python/configuration_decilm.py");
const CONFIG_CLASS_FILE: &str = "configuration_decilm.py";

/// File name of the record.
pub const RECORD: &str = "archplan.json";

/// What the record says besides what the operation knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance {
    /// Command line.
    pub command: String,
    /// SHA-256 of the statistics' file.
    pub importance_sha256: Option<String>,
    /// SHA-256 of the mask's file.
    pub mask_sha256: Option<String>,
    /// Text of the repair.
    pub data: Option<DataRecord>,
}

struct Directory<'p> {
    parent: &'p Checkpoint,
    writer: CheckpointWriter,
    layers_done: &'p mut dyn FnMut(usize),
}

impl Receiver for Directory<'_> {
    fn tensor(&mut self, tensor: Tensor<'_>) -> Result<(), SurgeryError> {
        Ok(self.writer.copy(self.parent, &tensor)?)
    }

    fn layers_done(&mut self, done: usize) {
        (self.layers_done)(done);
    }
}

/// Performs the operation and writes the child to `out`, which appears whole or not at all.
///
/// # Errors
/// What the operation meets; `out` that is there already; the disk.
pub fn write(
    operation: &Operation<'_>,
    out: &Path,
    shard_limit: u64,
    provenance: Provenance,
    layers_done: &mut dyn FnMut(usize),
) -> Result<(Record, Written), SurgeryError> {
    let writer = CheckpointWriter::create(out, plan(operation)?, shard_limit)?;
    let mut directory = Directory { parent: operation.parent, writer, layers_done };
    let repair = operation.perform(&mut directory)?;
    let mut writer = directory.writer;
    let weights: Vec<&str> = operation.parent.files().collect();
    let extras = extras::copy(operation.parent.dir(), &weights, &mut writer)?;
    let planned = operation.planned;
    let (parent, child) = (operation.parent.spec(), &planned.child);
    let record = Record {
        format: FORMAT,
        made_by: concat!("archplan ", env!("CARGO_PKG_VERSION")).into(),
        command: provenance.command,
        parent: ParentRecord {
            name: parent.name.clone(),
            fingerprint: operation.parent.fingerprint(),
            architecture: parent.architecture.clone(),
            parameters: counts::parameters(parent, &parent.architecture).total(),
        },
        architecture: child.architecture.clone(),
        parameters: counts::parameters(child, &child.architecture).total(),
        options: operation.options.clone(),
        absorbed_post_norms: planned.absorbed,
        post_norms: planned.sites.clone(),
        importance_sha256: provenance.importance_sha256,
        mask_sha256: provenance.mask_sha256,
        repair_data: provenance.data.filter(|_| !repair.is_empty()),
        repair,
        kept: planned.cut.clone(),
        dropped_tensors: operation.parent.strays().iter().map(|stray| stray.name.clone()).collect(),
        dropped_files: extras.dropped.iter().map(|file| format!("{}: {}", file.name, file.reason)).collect(),
    };
    let class = child.config.get("auto_map").and_then(|map| map.get("AutoConfig"));
    let written_here = class.and_then(Value::as_str) == Some(blocks::CONFIG_CLASS);
    if written_here && !extras.copied.iter().any(|name| name == CONFIG_CLASS_FILE) {
        writer.add_file(CONFIG_CLASS_FILE, CONFIG_CLASS.as_bytes())?;
    }
    let config = Value::Object(child.config.clone());
    writer.add_file("config.json", format!("{config:#}\n").as_bytes())?;
    writer.add_file(RECORD, format!("{:#}\n", serde_json::json!(record)).as_bytes())?;
    writer.add_file("README.md", card::text(&record, child).as_bytes())?;
    Ok((record, writer.finish()?))
}

/// The child's tensors in the parent's element types.
fn plan(operation: &Operation<'_>) -> Result<Vec<TensorInfo>, SurgeryError> {
    let planned = operation.planned;
    let info = |of: &ModelTensor| -> Result<Option<TensorInfo>, SurgeryError> {
        let parent = match of.layer {
            None => None,
            Some(layer) => planned.cut.layers.get(layer as usize).map(|layer| layer.parent),
        };
        let Some(tensor) = operation.parent.get(of.role, parent)? else { return Ok(None) };
        let shape = of.shape.iter().map(|size| *size as usize).collect();
        Ok(Some(TensorInfo { name: of.name.clone(), dtype: tensor.dtype, shape }))
    };
    let mut plan = Vec::new();
    for of in tensors::all(&planned.child) {
        plan.extend(info(&of)?);
    }
    Ok(plan)
}
