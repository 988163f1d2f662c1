//! A profile of what was measured: facts of the machine, tables, fits and their errors.

use std::collections::BTreeMap;

use crate::estimate::Source;
use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::kernel_model::evaluation;
use crate::hardware::latency::kernel_model::fit_file::{FitFile, VERSION};
use crate::hardware::latency::kernel_model::members::Rows;
use crate::hardware::measure::host::Host;
use crate::hardware::measure::session::Measured;
use crate::hardware::profile::device::{Device, Granularity, Tile};
use crate::hardware::profile::draft::{Draft, DraftFamily};
use crate::hardware::profile::manifest::{Stack, TableInfo};
use crate::hardware::profile::rules::ElementwiseRule;
use crate::hardware::profile::spelling;
use crate::hardware::profile::table::{self, Row};
use crate::units::{BytesPerSecond, DType, FlopsPerSecond};

/// Facts found by measuring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Multiply-adds in registers.
    pub arithmetic: FlopsPerSecond,
    /// Reading memory.
    pub reading: BytesPerSecond,
    /// Copying memory.
    pub copying: BytesPerSecond,
}

/// The CPU as a device: arithmetic is f32 whatever the weights are stored as.
pub fn device(host: &Host, facts: &Facts) -> Device {
    Device {
        name: format!("{}, {} threads", host.cpu, host.threads),
        peaks: [DType::F32, DType::Bf16].into_iter().map(|dtype| (dtype, facts.arithmetic)).collect(),
        hbm: host.memory,
        hbm_bandwidth: facts.reading,
        l2: host.last_level_cache,
        cores: host.threads as u64,
        // What one core multiplies in registers at a time.
        tile: Tile { m: 4, n: 4, k: 16 },
        interconnect: facts.copying,
        granularity: Granularity { hidden: 64, ffn: 64 },
    }
}

/// What a draft is made of.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// Name of the profile.
    pub name: &'a str,
    /// The machine.
    pub host: &'a Host,
    /// Its measured facts.
    pub facts: &'a Facts,
    /// Tables.
    pub tables: &'a [Measured],
    /// The rule of elementwise kernels and the points it stands on.
    pub elementwise: (ElementwiseRule, usize),
    /// Today, as `2026-08-21`.
    pub date: &'a str,
    /// Licence the measurer gives the figures.
    pub licence: &'a str,
}

/// The profile, with fits that open in no time and their errors.
///
/// # Errors
/// A fit that has no form as text (does not happen with finite numbers).
pub fn draft(parts: &Parts<'_>) -> Result<Draft, String> {
    let device = device(parts.host, parts.facts);
    let version = env!("CARGO_PKG_VERSION");
    let source = format!(
        "measured by archplan {version} on {} ({} threads, {}): medians of at least 5 repeats, weights and caches read from memory",
        parts.host.cpu, parts.host.threads, parts.host.system
    );
    let info = || TableInfo::new(Source::Measured, &source, parts.licence, parts.date);
    let (mut families, mut scores) = (Vec::new(), Vec::new());
    for family in [KernelFamily::Gemm, KernelFamily::AttentionPrefill, KernelFamily::AttentionDecode] {
        let mine: Vec<&Measured> =
            parts.tables.iter().filter(|t| t.family == family && !t.rows.is_empty()).collect();
        if mine.is_empty() {
            continue;
        }
        let rows: Vec<Row> = mine.iter().flat_map(|table| table.rows.iter().copied()).collect();
        // A fit is tied to its rows as the profile will read them: in the order and with the digits of the file.
        let text = spelling::table(family, &rows);
        let written =
            table::parse("", text.as_bytes(), family, None).map_err(|e| table::first(e).to_string())?;
        let mut fits = Vec::new();
        for dtype in mine.iter().map(|table| table.dtype) {
            let (fit, scored) =
                evaluation::fit_quick(&Rows::measured(family, dtype, &device, &written), &device);
            fits.push(fit);
            scores.extend(scored);
        }
        let fit = FitFile { version: VERSION, family, fits }.to_text().map_err(|e| e.to_string())?;
        families.push(DraftFamily { family, info: info(), rows, fit: Some(fit) });
    }
    let (rule, points) = parts.elementwise;
    let mut rule_info = TableInfo::new(Source::Estimated, &source, parts.licence, parts.date);
    rule_info.note = Some(format!(
        "fitted to {points} measured norms, activations and rotations; bytes are counted at two a value, as predictions count them"
    ));
    Ok(Draft {
        name: parts.name.to_string(),
        comment: Some(
            "Measured by `archplan profiles measure`. Keys and units: hardware_profiles/README.md."
                .to_string(),
        ),
        device,
        device_source: format!(
            "measured by archplan {version}: multiply-adds in registers (peak_tflops; arithmetic is f32 for every type), reading (hbm_gbps) and copying (interconnect_gbps: processes exchange through memory) {}; memory and cache as Linux states them; tile is what a core multiplies in registers",
            "of memory beyond the caches"
        ),
        stack: Stack {
            engine: "none".to_string(),
            engine_version: version.to_string(),
            libraries: BTreeMap::new(),
        },
        families,
        all_reduce: None,
        evaluation: Some(evaluation::to_csv(&scores).map_err(|e| e.to_string())?),
        elementwise: (rule, rule_info),
    })
}
