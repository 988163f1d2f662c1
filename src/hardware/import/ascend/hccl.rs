//! All-reduce tables of HCCL (`hcom_allReduce_*.csv`, as msmodeling lays them out).

use crate::hardware::import::ascend::operator::{self, Read};
use crate::hardware::import::columns::Columns;
use crate::hardware::kernel::{Backend, KernelCall};
use crate::units::DType;

/// The call of one row.
pub(super) fn call(table: &Columns, row: usize) -> Read {
    let world = table.get("num_devices")?.whole(row)?;
    let bytes = table.get("message_bytes")?.whole(row)?;
    if let Some(types) = table.optional("dtype") {
        let name = types.text(row);
        if !name.is_empty() && operator::dtype(name) != Some(DType::Bf16) {
            return Ok(Err(format!("reduces {name}; activations are bf16")));
        }
    }
    if world < 2 {
        return Ok(Err("all-reduce of one device".to_string()));
    }
    Ok(Ok(KernelCall::AllReduce { world, bytes, backend: Backend::Nccl }))
}
