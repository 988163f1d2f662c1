//! Linear layers profiled by microsoft/vidur: `.../compute/<device>/<model>/mlp.csv`.
//!
//! Each row times the four linear layers of one decoder layer at one number of tokens and one degree of tensor
//! parallelism. The profiler's timers enclose `torch.nn.functional.linear` alone (Sarathi-Serve's
//! `ColumnParallelLinear` with its bias where the model has one, `RowParallelLinear` without), in float16, with the
//! all-reduce switched off: a GEMM each. Its attention and all-reduce files are not imported.

use std::collections::{BTreeMap, BTreeSet};

use crate::hardware::import::columns::{Cells, Columns};
use crate::hardware::import::error::ImportError;
use crate::hardware::import::readings::{Compute, Readings};
use crate::hardware::import::report::{LeftOut, Report};
use crate::hardware::import::scale::LatencyColumn;
use crate::hardware::import::tree::{self, Tree};
use crate::hardware::import::{self, Gathered, Import, Request};
use crate::hardware::import::{delimited, provenance, scale};
use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::profile::manifest::Stack;
use crate::units::{DType, Seconds};

const LATENCY: LatencyColumn = LatencyColumn { name: "time_stats.*.median", unit: "milliseconds" };

/// Imports the linear layers of one device.
///
/// # Errors
/// See [`ImportError`].
pub(super) fn import(request: &Request<'_>) -> Result<Import, ImportError> {
    let (tree, files) = provenance::csv_files(request.source)?;
    let device = device(&tree, &files, request.system)?;
    let sheet = import::needed_sheet(request)?;
    let mut readings = Readings::default();
    let (mut taken, mut left_out) = (Vec::new(), Vec::new());
    for file in &files {
        if !is_mlp(file) || device_of(&tree, file) != device {
            left_out.push(LeftOut { file: file.clone(), reason: why_not(file) });
            continue;
        }
        let named = tree.path_of(file);
        let table = delimited::read(&named, &tree.read(file)?)?;
        readings.file(file, KernelFamily::Gemm);
        add(&table, &mut readings)?;
        scale::check(&named, LATENCY, &sheet.device, readings.of_last_file())?;
        taken.push(file.trim_end_matches("/mlp.csv").to_string());
    }
    let engine = request.framework.unwrap_or("sarathi-serve").to_string();
    let version = request.version.unwrap_or("not stated").to_string();
    let source = format!(
        "microsoft/vidur, {}: linear layers of {}",
        provenance::place(request.source),
        taken.join(", ")
    );
    let gathered = Gathered {
        sheet,
        stack: Stack { engine, engine_version: version, libraries: BTreeMap::new() },
        sources: BTreeMap::from([(KernelFamily::Gemm, source)]),
        licence: provenance::licence(request),
        copyright: None,
        notes: vec![(KernelFamily::Gemm, NOTE.to_string())],
        report: Report { files: Vec::new(), left_out },
    };
    import::finish(request, readings, gathered)
}

const NOTE: &str = "medians of torch.nn.functional.linear in float16, which is read as bf16 (same width, same rate), with \
                    its bias where the model has one; stated to a microsecond, so that calls of a few microseconds are \
                    coarse; sizes of the listed models only";

fn is_mlp(file: &str) -> bool {
    tree::last(file) == "mlp.csv"
}

fn why_not(file: &str) -> String {
    match tree::last(file) {
        "mlp.csv" => "of another device",
        "attention.csv" => "attention of mixed batches: not the calls of a profile's tables",
        _ => "no linear layers (mlp.csv)",
    }
    .to_string()
}

/// The folder after `compute` in a file's whole path; empty where there is none.
fn device_of(tree: &Tree, file: &str) -> String {
    let path = tree.beside(0).map(|root| root.join(file)).unwrap_or_default();
    let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let after = parts.iter().position(|part| part == "compute").and_then(|at| parts.get(at + 1));
    after.cloned().unwrap_or_default()
}

fn device(tree: &Tree, files: &[String], wanted: Option<&str>) -> Result<String, ImportError> {
    let known: BTreeSet<String> =
        files.iter().filter(|file| is_mlp(file)).map(|file| device_of(tree, file)).collect();
    let known: Vec<String> = known.into_iter().collect();
    let place = tree.given.clone();
    match (wanted, known.as_slice()) {
        (_, []) => Err(ImportError::NothingThere {
            path: place,
            expected: "a folder with profiles of vidur (compute/<device>/<model>/mlp.csv)".to_string(),
        }),
        (None, [one]) => Ok(one.clone()),
        (None, _) => Err(ImportError::Choose { flag: "--system", place, known }),
        (Some(name), _) if known.iter().any(|k| k == name) => Ok(name.to_string()),
        (Some(name), _) => {
            Err(ImportError::Unknown { what: "system", found: name.to_string(), place, known })
        }
    }
}

/// The four layers: their column, and width and depth of the product for a model.
const LAYERS: [&str; 4] = ["attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj"];

struct Sizes {
    hidden: u64,
    q_heads: u64,
    kv_heads: u64,
    ffn: u64,
    gated: bool,
    devices: u64,
}

impl Sizes {
    /// `(n, k)` of a layer on one device, if the sizes divide.
    fn of(&self, layer: usize) -> Option<(u64, u64)> {
        let head = Some(self.hidden / self.q_heads).filter(|_| self.hidden.is_multiple_of(self.q_heads))?;
        let share = |n: u64| Some(n / self.devices).filter(|_| n.is_multiple_of(self.devices));
        let heads = share(self.q_heads)?.checked_add(share(self.kv_heads)?.checked_mul(2)?)?;
        let ffn = share(self.ffn)?;
        match layer {
            0 => Some((heads.checked_mul(head)?, self.hidden)),
            1 => Some((self.hidden, share(self.q_heads)?.checked_mul(head)?)),
            2 => Some((if self.gated { ffn.checked_mul(2)? } else { ffn }, self.hidden)),
            _ => Some((self.hidden, ffn)),
        }
    }
}

fn add(table: &Columns, readings: &mut Readings) -> Result<(), ImportError> {
    let names = LAYERS.map(|layer| format!("time_stats.{layer}.median"));
    let [hidden, q_heads, kv_heads, ffn] =
        ["n_embd", "n_head", "n_kv_head", "n_expanded_embd"].map(|n| table.get(n));
    let (hidden, q_heads, kv_heads, ffn) = (hidden?, q_heads?, kv_heads?, ffn?);
    let (gated, tokens) = (table.get("use_gated_mlp")?, table.get("num_tokens")?);
    let devices = table.get("num_tensor_parallel_workers")?;
    let layers: Vec<Cells<'_>> = names.iter().map(|name| table.get(name)).collect::<Result<_, _>>()?;
    let kernel = readings.kernel("torch.nn.functional.linear");
    for row in 0..table.rows {
        let m = tokens.whole(row)?;
        let sizes = Sizes {
            hidden: hidden.whole(row)?,
            q_heads: q_heads.whole(row)?,
            kv_heads: kv_heads.whole(row)?,
            ffn: ffn.whole(row)?,
            gated: truth(&gated, row)?,
            devices: devices.whole(row)?,
        };
        for (layer, cells) in layers.iter().enumerate() {
            // The profiler leaves a layer out whose kernels it could not match with its trace.
            if cells.text(row).trim().is_empty() {
                readings.skip("layer without a time");
                continue;
            }
            let ms = cells.latency(row)?;
            match sizes.of(layer) {
                Some((n, k)) => {
                    let call = KernelCall::Gemm { m, n, k, dtype: DType::Bf16 };
                    readings.add(call, Seconds::from_ms(ms), kernel, Compute::Bf16);
                }
                None => readings.skip("sizes that the number of devices or heads does not divide"),
            }
        }
    }
    Ok(())
}

fn truth(cells: &Cells<'_>, row: usize) -> Result<bool, ImportError> {
    match cells.text(row).trim() {
        "True" | "true" | "1" => Ok(true),
        "False" | "false" | "0" => Ok(false),
        _ => Err(cells.wrong(row, "True or False")),
    }
}
