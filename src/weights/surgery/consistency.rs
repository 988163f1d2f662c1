//! Whether a record tells the truth about the checkpoint it lies beside.

use crate::model::architecture::Architecture;
use crate::model::counts;
use crate::model::spec::ModelSpec;
use crate::weights::surgery::record::Record;

/// What the record says that the configuration beside it, or the parent's, does not; empty where they agree.
pub fn contradictions(record: &Record, spec: &ModelSpec, parent: Option<&ModelSpec>) -> Vec<String> {
    let mut found = Vec::new();
    let shape = &spec.architecture;
    if !same(&record.architecture, shape) {
        found.push(format!("states the shape {}, config.json {shape}", record.architecture));
    }
    let kept = record.kept.architecture(shape.head_dim);
    if !same(&kept, shape) {
        found.push(format!("keeps indices for the shape {kept}, config.json states {shape}"));
    }
    let parameters = counts::parameters(spec, shape).total();
    if record.parameters != parameters {
        found.push(format!("states {} parameters, config.json makes {parameters}", record.parameters));
    }
    if let Some(Err(error)) = parent.map(|parent| record.kept.check(parent)) {
        found.push(format!("keeps what the parent does not have: {error}"));
    }
    found
}

fn same(one: &Architecture, other: &Architecture) -> bool {
    let sizes = |of: &Architecture| (of.hidden, of.head_dim, of.depth());
    sizes(one) == sizes(other) && one.layer_shapes().eq(other.layer_shapes())
}
