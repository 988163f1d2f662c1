//! One operator's rows -> readings.

use crate::hardware::import::ascend::hccl;
use crate::hardware::import::columns::{Cells, Columns};
use crate::hardware::import::error::ImportError;
use crate::hardware::import::readings::{Compute, Readings};
use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::profile::device::Device;
use crate::units::{DType, Seconds};

/// Operators that a dense decoder runs and a profile has a table for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    MatMul,
    Prefill,
    Decode,
    AllReduce,
}

impl Kind {
    pub(super) fn family(self) -> KernelFamily {
        match self {
            Kind::MatMul => KernelFamily::Gemm,
            Kind::Prefill => KernelFamily::AttentionPrefill,
            Kind::Decode => KernelFamily::AttentionDecode,
            Kind::AllReduce => KernelFamily::AllReduce,
        }
    }
}

/// Matrix products of plain two-dimensional operands.
const MATMULS: [&str; 6] =
    ["MatMulV2", "MatMulV3", "MatMul", "MatMulCommon", "QuantBatchMatmulV3", "QuantBatchMatmulV2"];
const ATTENTION: &str = "FusedInferAttentionScore";
const ALL_REDUCE: &str = "hcom_allReduce";

/// Columns that name the operator of a row.
const TYPES: [&str; 3] = ["OP Type", "Op Type", "Type"];

const SHAPES: &str = "shapes such as 1,256;256,256";

/// The kinds of rows in a file, by its name or, in a profiler's summary, by what its rows say.
pub(super) fn kinds_of(stem: &str, table: &Columns) -> Vec<Kind> {
    let types = op_types(table);
    let any = |names: &[&str]| {
        names.iter().any(|name| stem.starts_with(name)) || types.iter().any(|t| names.contains(&t.as_str()))
    };
    let mut kinds = Vec::new();
    if stem.starts_with(ALL_REDUCE) {
        return vec![Kind::AllReduce];
    }
    if any(&MATMULS) {
        kinds.push(Kind::MatMul);
    }
    if types.iter().any(|t| t == "attention_context") {
        kinds.push(Kind::Prefill);
    }
    if types.iter().any(|t| t == "attention_generation") {
        kinds.push(Kind::Decode);
    }
    if kinds.is_empty() && any(&[ATTENTION]) {
        // Which of the two is not stated: all its rows are counted as skipped.
        kinds.push(Kind::Prefill);
    }
    kinds
}

/// Why a file is none of a profile's.
pub(super) fn why_not(stem: &str, table: &Columns) -> String {
    match table.has("Input Shapes") {
        true => format!("not an operator of a dense decoder's tables: {stem}"),
        false => "no operator table (no column `Input Shapes`)".to_string(),
    }
}

fn op_types(table: &Columns) -> Vec<String> {
    let columns = TYPES.iter().filter_map(|name| table.optional(name));
    columns.flat_map(|cells| cells.distinct().to_vec()).collect()
}

/// One kind of a file's rows.
pub(super) struct Operator<'a> {
    pub(super) kind: Kind,
    /// File name without its ending.
    pub(super) stem: &'a str,
    pub(super) table: &'a Columns,
    pub(super) latency: &'static str,
    pub(super) device: &'a Device,
}

/// A row becomes a call, or says why not.
pub(super) type Read = Result<Result<KernelCall, String>, ImportError>;

impl Operator<'_> {
    /// Adds every row of this kind, or counts it as skipped.
    pub(super) fn add(&self, readings: &mut Readings) -> Result<(), ImportError> {
        let latency = self.table.get(self.latency)?;
        let types: Vec<Cells<'_>> = TYPES.iter().filter_map(|name| self.table.optional(name)).collect();
        for row in 0..self.table.rows {
            let named = types.iter().map(|cells| cells.text(row)).find(|text| !text.is_empty());
            if named.is_some_and(|name| self.is_of_another_kind(name)) {
                continue;
            }
            // Tables that are filled in later hold rows without a latency, or with 0.
            if matches!(latency.text(row).trim(), "" | "0" | "0.0" | "N/A") {
                readings.skip("no latency measured yet");
                continue;
            }
            let us = latency.latency(row)?;
            let read = match self.kind {
                Kind::MatMul => self.matmul(row)?,
                Kind::Prefill | Kind::Decode => self.attention(row)?,
                Kind::AllReduce => hccl::call(self.table, row)?,
            };
            match read {
                Ok(call) => {
                    let kernel = readings.kernel(self.kernel(named));
                    readings.add(call, Seconds::from_us(us), kernel, Compute::Bf16);
                }
                Err(reason) => readings.skip(reason),
            }
        }
        Ok(())
    }

    /// Whether a row is counted under another kind of the same file.
    fn is_of_another_kind(&self, name: &str) -> bool {
        match self.kind {
            Kind::MatMul => matches!(name, "attention_context" | "attention_generation"),
            Kind::Prefill => name == "attention_generation" || MATMULS.contains(&name),
            Kind::Decode => name != "attention_generation",
            Kind::AllReduce => false,
        }
    }

    /// The operator of a row; collectors name their own stages where a profiler names the operator.
    fn kernel<'b>(&'b self, named: Option<&'b str>) -> &'b str {
        match named {
            Some(name) if MATMULS.contains(&name) => name,
            _ => MATMULS
                .iter()
                .chain(&[ATTENTION, ALL_REDUCE])
                .filter(|name| self.stem.starts_with(**name))
                .max_by_key(|name| name.len())
                .unwrap_or(&self.stem),
        }
    }

    fn matmul(&self, row: usize) -> Read {
        let types = self.table.optional("OP Type").or_else(|| self.table.optional("Type"));
        let named = types.as_ref().map_or(self.stem, |cells| cells.text(row));
        if !MATMULS.iter().any(|name| named.starts_with(name)) {
            return Ok(Err(format!("not an operator of a dense decoder's tables: {named}")));
        }
        let Some(dtype) = self.dtype(row, 0)? else {
            return Ok(Err(format!("operands of type {}", self.table.get("Input Data Types")?.text(row))));
        };
        if !self.device.peaks.contains_key(&dtype) {
            return Ok(Err(format!("{} has no {dtype} peak", self.device.name)));
        }
        let (Some(inputs), Some(outputs)) =
            (self.shapes(row, "Input Shapes")?, self.shapes(row, "Output Shapes")?)
        else {
            return Ok(Err("no shapes stated".to_string()));
        };
        let (a, weight, out) = (inputs.first(), inputs.get(1), outputs.first());
        let (Some([m, k]), Some(weight), Some([rows, n])) =
            (a.map(Vec::as_slice), weight, out.map(Vec::as_slice))
        else {
            return Ok(Err("operands that are not two matrices".to_string()));
        };
        let elements = weight.iter().try_fold(1_u64, |product, side| product.checked_mul(*side));
        if m != rows || elements != n.checked_mul(*k) {
            return Ok(Err("shapes of a transposed or padded product".to_string()));
        }
        Ok(Ok(KernelCall::Gemm { m: *m, n: *n, k: *k, dtype }))
    }

    fn attention(&self, row: usize) -> Read {
        const STATED: [&str; 5] = ["Batch", "Seq Len", "Num Heads", "Num KV Heads", "Head Size"];
        if !self.table.has(STATED[0]) && op_types(self.table).iter().all(|t| !t.starts_with("attention_")) {
            return Ok(Err(
                "attention whose batch and lengths are not stated (columns Batch, Seq Len, ...)".to_string()
            ));
        }
        let Some(dtype) = self.dtype(row, 1)?.filter(|dtype| self.device.peaks.contains_key(dtype)) else {
            return Ok(Err(format!("cache of type {}", self.table.get("Input Data Types")?.text(row))));
        };
        let [batch, length, q_heads, kv_heads, head_dim] = STATED.map(|name| self.table.get(name));
        let (batch, length, q_heads) = (batch?.whole(row)?, length?.whole(row)?, q_heads?.whole(row)?);
        // 0 means as many KV heads as query heads.
        let kv_heads = match kv_heads?.whole_or_zero(row)? {
            0 => q_heads,
            heads => heads,
        };
        let head_dim = head_dim?.whole(row)?;
        if !q_heads.is_multiple_of(kv_heads) {
            return Ok(Err("KV heads do not divide the query heads".to_string()));
        }
        Ok(Ok(match self.kind {
            Kind::Decode => {
                KernelCall::AttentionDecode { batch, kv_len: length, q_heads, kv_heads, head_dim, dtype }
            }
            _ => KernelCall::AttentionPrefill { batch, seq_len: length, q_heads, kv_heads, head_dim, dtype },
        }))
    }

    /// Type of one input.
    fn dtype(&self, row: usize, input: usize) -> Result<Option<DType>, ImportError> {
        let types = self.table.get("Input Data Types")?;
        let name = types.text(row).trim_matches('"').split(';').nth(input).unwrap_or("").trim();
        Ok(dtype(name))
    }

    /// Tensors of a column; `None` where the profiler states none.
    fn shapes(&self, row: usize, column: &str) -> Result<Option<Vec<Vec<u64>>>, ImportError> {
        let cells = self.table.get(column)?;
        let text = cells.text(row).trim_matches('"').trim();
        if matches!(text, "" | "N/A") {
            return Ok(None);
        }
        let side = |side: &str| side.trim().parse::<u64>().ok().filter(|side| *side > 0);
        let tensor = |tensor: &str| match tensor.trim() {
            // An input that is left out keeps its place.
            "" => Some(Vec::new()),
            tensor => tensor.split(',').map(side).collect(),
        };
        text.split(';')
            .map(tensor)
            .collect::<Option<Vec<_>>>()
            .map(Some)
            .ok_or_else(|| cells.wrong(row, SHAPES))
    }
}

/// Element types as CANN names them.
pub(super) fn dtype(name: &str) -> Option<DType> {
    match name.strip_prefix("DT_").unwrap_or(name) {
        "BF16" | "FLOAT16" => Some(DType::Bf16),
        "INT8" => Some(DType::Int8),
        _ => None,
    }
}
