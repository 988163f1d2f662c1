//! Rows of GEMM, attention and all-reduce tables -> readings. Latencies are milliseconds, all-reduce sizes elements.

use crate::hardware::import::aiconfigurator::database::Role;
use crate::hardware::import::columns::{Cells, Columns};
use crate::hardware::import::device;
use crate::hardware::import::error::ImportError;
use crate::hardware::import::readings::{Compute, Readings};
use crate::hardware::import::scale::LatencyColumn;
use crate::hardware::kernel::{Backend, KernelCall};
use crate::hardware::profile::device::Device;
use crate::units::{DType, Seconds};

pub(crate) const LATENCY: LatencyColumn = LatencyColumn { name: "latency", unit: "milliseconds" };

/// Every column that a role may need.
pub(crate) fn wanted(column: &str) -> bool {
    const NAMES: [&str; 27] = [
        "framework",
        "version",
        "device",
        "op_name",
        "kernel_source",
        "latency",
        "gemm_dtype",
        "m",
        "n",
        "k",
        "batch_size",
        "isl",
        "step",
        "num_heads",
        "num_key_value_heads",
        "head_dim",
        "window_size",
        "beam_width",
        "attn_dtype",
        "kv_cache_dtype",
        "allreduce_dtype",
        "nccl_dtype",
        "num_gpus",
        "message_size",
        "backend",
        "implementation",
        "oneccl_dtype",
    ];
    NAMES.contains(&column)
}

/// Adds every row of a table to the file started last, or counts it as skipped.
///
/// # Errors
/// A column that is missing or of another unit, or a cell that cannot be.
pub(crate) fn add(
    table: &Columns,
    role: Role,
    device: &Device,
    readings: &mut Readings,
) -> Result<(), ImportError> {
    check_unit(table)?;
    match role {
        Role::Gemm => gemm(table, device, readings),
        Role::Context | Role::Generation => attention(table, role, device, readings),
        Role::Custom | Role::Library => all_reduce(table, role, readings),
    }
}

/// A column such as `latency_us` is another unit, and no slip of the pen.
fn check_unit(table: &Columns) -> Result<(), ImportError> {
    let other =
        table.header.iter().find(|name| name.to_lowercase().starts_with("latency") && *name != LATENCY.name);
    match other {
        Some(column) if !table.has(LATENCY.name) => Err(ImportError::OtherUnit {
            file: table.file.clone(),
            column: column.clone(),
            expected: LATENCY.name,
            why: "this database states milliseconds in it; convert the file and rename the column",
        }),
        _ => Ok(()),
    }
}

/// The kernel that measured a row.
fn kernel(source: Option<&Cells<'_>>, row: usize, readings: &mut Readings) -> usize {
    readings.kernel(source.map_or("not stated", |cells| cells.text(row)))
}

/// An element type that the tables and the device have, or why not.
fn covered(name: &str, what: &str, device: &Device) -> Result<DType, String> {
    match device::dtype(name) {
        Some(dtype) if device.peaks.contains_key(&dtype) => Ok(dtype),
        Some(dtype) => Err(format!("{what} {name}: {} has no {dtype} peak", device.name)),
        None => Err(format!("{what} {name}: no such type in the tables (bf16, fp8 per tensor, int8 W8A8)")),
    }
}

fn gemm(table: &Columns, device: &Device, readings: &mut Readings) -> Result<(), ImportError> {
    let (m, n, k) = (table.get("m")?, table.get("n")?, table.get("k")?);
    let (types, latency) = (table.get("gemm_dtype")?, table.get(LATENCY.name)?);
    let source = table.optional("kernel_source");
    for row in 0..table.rows {
        if let Some(reason) = table.foreign(row) {
            readings.skip(reason);
            continue;
        }
        let (m, n, k, ms) = (m.whole(row)?, n.whole(row)?, k.whole(row)?, latency.latency(row)?);
        match covered(types.text(row), "gemm_dtype", device) {
            Ok(dtype) => {
                let kernel = kernel(source.as_ref(), row, readings);
                let call = KernelCall::Gemm { m, n, k, dtype };
                readings.add(call, Seconds::from_ms(ms), kernel, Compute::Bf16);
            }
            Err(reason) => readings.skip(reason),
        }
    }
    Ok(())
}

/// The columns of both attention tables.
struct Attention<'a> {
    batch: Cells<'a>,
    input: Cells<'a>,
    step: Cells<'a>,
    heads: [Cells<'a>; 2],
    head_dim: Cells<'a>,
    window: Option<Cells<'a>>,
    beam: Option<Cells<'a>>,
    compute: Cells<'a>,
    cache: Cells<'a>,
}

impl<'a> Attention<'a> {
    fn of(table: &'a Columns) -> Result<Self, ImportError> {
        Ok(Self {
            batch: table.get("batch_size")?,
            input: table.get("isl")?,
            step: table.get("step")?,
            heads: [table.get("num_heads")?, table.get("num_key_value_heads")?],
            head_dim: table.get("head_dim")?,
            window: table.optional("window_size"),
            beam: table.optional("beam_width"),
            compute: table.get("attn_dtype")?,
            cache: table.get("kv_cache_dtype")?,
        })
    }

    /// The call a row is of, or why it is none of a profile's.
    fn call(
        &self,
        row: usize,
        role: Role,
        device: &Device,
    ) -> Result<Result<(KernelCall, Compute), String>, ImportError> {
        let (batch, input, step) =
            (self.batch.whole(row)?, self.input.whole(row)?, self.step.whole_or_zero(row)?);
        let [q_heads, kv_heads] = &self.heads;
        let (q_heads, kv_heads) = (q_heads.whole(row)?, kv_heads.whole_or_zero(row)?);
        // Older collectors write 0 for as many KV heads as query heads.
        let kv_heads = if kv_heads == 0 { q_heads } else { kv_heads };
        let head_dim = self.head_dim.whole(row)?;
        let or_zero = |cells: Option<&Cells<'_>>| cells.map_or(Ok(0), |cells| cells.whole_or_zero(row));
        let (window, beam) = (or_zero(self.window.as_ref())?, or_zero(self.beam.as_ref())?);
        let compute = match device::dtype(self.compute.text(row)) {
            Some(DType::Bf16) => Compute::Bf16,
            Some(DType::Fp8) => Compute::Fp8,
            _ => return Ok(Err(format!("attn_dtype {}: neither bf16 nor fp8", self.compute.text(row)))),
        };
        let skipped = match covered(self.cache.text(row), "kv_cache_dtype", device) {
            Err(reason) => Some(reason),
            Ok(_) if window > 0 => Some("sliding window".to_string()),
            Ok(_) if beam > 1 => Some("beam search".to_string()),
            Ok(_) if role == Role::Context && step > 0 => Some("prompt behind a cached prefix".to_string()),
            Ok(_) if role == Role::Generation && input > 1 => {
                Some("several new tokens a sequence".to_string())
            }
            Ok(_) if !q_heads.is_multiple_of(kv_heads) => {
                Some("KV heads do not divide the query heads".to_string())
            }
            Ok(dtype) => {
                let call = match role {
                    Role::Context => KernelCall::AttentionPrefill {
                        batch,
                        seq_len: input,
                        q_heads,
                        kv_heads,
                        head_dim,
                        dtype,
                    },
                    _ => {
                        let kv_len = input.saturating_add(step);
                        KernelCall::AttentionDecode { batch, kv_len, q_heads, kv_heads, head_dim, dtype }
                    }
                };
                return Ok(Ok((call, compute)));
            }
        };
        Ok(Err(skipped.unwrap_or_default()))
    }
}

fn attention(
    table: &Columns,
    role: Role,
    device: &Device,
    readings: &mut Readings,
) -> Result<(), ImportError> {
    let columns = Attention::of(table)?;
    let (latency, source) = (table.get(LATENCY.name)?, table.optional("kernel_source"));
    for row in 0..table.rows {
        if let Some(reason) = table.foreign(row) {
            readings.skip(reason);
            continue;
        }
        let ms = latency.latency(row)?;
        match columns.call(row, role, device)? {
            Ok((call, compute)) => {
                let kernel = kernel(source.as_ref(), row, readings);
                readings.add(call, Seconds::from_ms(ms), kernel, compute);
            }
            Err(reason) => readings.skip(reason),
        }
    }
    Ok(())
}

fn all_reduce(table: &Columns, role: Role, readings: &mut Readings) -> Result<(), ImportError> {
    let types = match role {
        Role::Custom => table.get("allreduce_dtype")?,
        _ => table.optional("oneccl_dtype").map_or_else(|| table.get("nccl_dtype"), Ok)?,
    };
    let (world, size, latency) =
        (table.get("num_gpus")?, table.get("message_size")?, table.get(LATENCY.name)?);
    let (operation, source) = (table.optional("op_name"), table.optional("kernel_source"));
    let named = table.optional("backend").or_else(|| table.optional("implementation"));
    for row in 0..table.rows {
        if let Some(reason) = table.foreign(row) {
            readings.skip(reason);
            continue;
        }
        let operation = operation.as_ref().map_or("all_reduce", |cells| cells.text(row));
        if operation != "all_reduce" {
            readings.skip(format!("{operation}: not a collective of tensor parallelism"));
            continue;
        }
        if device::dtype(types.text(row)) != Some(DType::Bf16) {
            readings.skip(format!("reduces {}; activations are bf16", types.text(row)));
            continue;
        }
        let (world, elements, ms) = (world.whole(row)?, size.whole_or_zero(row)?, latency.latency(row)?);
        if world < 2 || elements == 0 {
            readings.skip("all-reduce of one device or of nothing".to_string());
            continue;
        }
        let kernel_name = source.as_ref().map_or("", |cells| cells.text(row));
        let implementation = named.as_ref().map(|cells| cells.text(row)).filter(|text| !text.is_empty());
        let Some(backend) = backend(role, implementation.unwrap_or(kernel_name)) else {
            readings.skip(format!("unknown implementation `{}`", implementation.unwrap_or(kernel_name)));
            continue;
        };
        let kernel = readings.kernel(kernel_name);
        let bytes = elements.saturating_mul(2);
        let call = KernelCall::AllReduce { world, bytes, backend };
        readings.add(call, Seconds::from_ms(ms), kernel, Compute::Bf16);
    }
    Ok(())
}

/// How an all-reduce is carried out. TensorRT-LLM's is measured inside a captured graph.
fn backend(role: Role, implementation: &str) -> Option<Backend> {
    let name = implementation.to_ascii_lowercase();
    match role {
        Role::Library => Some(Backend::Nccl),
        _ if name.ends_with("_eager") => Some(Backend::VllmEager),
        _ if name.ends_with("_graph") || name.starts_with("trtllm") => Some(Backend::VllmGraph),
        _ => None,
    }
}
