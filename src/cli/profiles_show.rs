//! `archplan profiles show NAME`.

use std::collections::BTreeMap;

use archplan::estimate::Source;
use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::coverage;
use archplan::hardware::profile::manifest::TableInfo;
use archplan::units::DType;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cli::profiles::at_hand;
use crate::cli::profiles_list::origin;
use crate::cli::{Failure, Global, output};

/// Arguments of `archplan profiles show`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan profiles show ascend_910b
  archplan profiles show h200_sxm --json")]
pub struct Args {
    /// Name of the profile (see `archplan profiles list`)
    name: String,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    origin: String,
    sha256: String,
    device: Value,
    stack: Value,
    tables: Vec<Table>,
    all_reduce_rule: Option<Value>,
    elementwise_rule: Value,
    /// The rows of `evaluation.csv`, as they stand there.
    evaluation: Vec<Map<String, Value>>,
}

#[derive(Serialize)]
struct Table {
    family: KernelFamily,
    provenance: Source,
    dtypes: Vec<DType>,
    source: String,
    licence: String,
    copyright: Option<String>,
    date: String,
    note: Option<String>,
    /// Measured rows; absent where there are none.
    rows: Option<usize>,
    axes: Vec<Axis>,
}

#[derive(Serialize)]
struct Axis {
    name: &'static str,
    min: u64,
    max: u64,
    values: usize,
}

/// Runs `archplan profiles show`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let profile = at_hand(global)?.get(&args.name).map_err(Failure::bad_input)?;
    let shown = shown(&profile)?;
    match global.json {
        true => output::json(&shown),
        false => {
            print(&profile, &shown);
            Ok(())
        }
    }
}

fn shown(profile: &HardwareProfile) -> Result<Shown, Failure> {
    let tables = profile.tables.iter().map(|(family, info)| table(profile, *family, info));
    let rule = profile.elementwise;
    Ok(Shown {
        name: profile.name.clone(),
        origin: origin(profile),
        sha256: profile.hash().to_string(),
        device: device(profile),
        stack: json!({
            "engine": profile.stack.engine,
            "engine_version": profile.stack.engine_version,
            "libraries": profile.stack.libraries,
        }),
        tables: tables.collect::<Result<_, _>>()?,
        all_reduce_rule: profile.all_reduce.map(|rule| {
            json!({
                "latency_us": rule.latency.us(),
                "efficiency": rule.efficiency,
                "full_mesh_devices": rule.full_mesh_devices,
                "interval_factor": rule.interval_factor,
            })
        }),
        elementwise_rule: json!({
            "launch_us": rule.launch.us(),
            "efficiency": rule.efficiency,
            "interval_factor": rule.interval_factor,
        }),
        evaluation: evaluation(profile)?,
    })
}

fn device(profile: &HardwareProfile) -> Value {
    let device = &profile.device;
    let peaks: BTreeMap<_, _> =
        device.peaks.iter().map(|(dtype, peak)| (dtype.name(), peak.tflops())).collect();
    json!({
        "name": device.name,
        "source": profile.device_source,
        "peak_tflops": peaks,
        "hbm_gib": device.hbm.gib(),
        "hbm_gbps": device.hbm_bandwidth.gbps(),
        "l2_mib": device.l2.map(|l2| l2.mib()),
        "cores": device.cores,
        "tile_m": device.tile.m,
        "tile_n": device.tile.n,
        "tile_k": device.tile.k,
        "interconnect_gbps": device.interconnect.gbps(),
        "multiple_hidden": device.granularity.hidden,
        "multiple_ffn": device.granularity.ffn,
    })
}

fn table(profile: &HardwareProfile, family: KernelFamily, info: &TableInfo) -> Result<Table, Failure> {
    let rows = match info.provenance {
        Source::Measured => Some(profile.rows(family).map_err(Failure::bad_input)?),
        _ => None,
    };
    let axes = rows.as_ref().map(|rows| coverage::axes(rows)).unwrap_or_default();
    let axis = |axis: &coverage::Axis| {
        Some(Axis {
            name: axis.name,
            min: *axis.values.first()?,
            max: *axis.values.last()?,
            values: axis.values.len(),
        })
    };
    Ok(Table {
        family,
        provenance: info.provenance,
        dtypes: info.dtypes.clone(),
        source: info.source.clone(),
        licence: info.licence.clone(),
        copyright: info.copyright.clone(),
        date: info.date.clone(),
        note: info.note.clone(),
        rows: rows.map(|rows| rows.len()),
        axes: axes.iter().filter_map(axis).collect(),
    })
}

/// Each line of `evaluation.csv` under its titles; numbers as numbers.
fn evaluation(profile: &HardwareProfile) -> Result<Vec<Map<String, Value>>, Failure> {
    let Some(text) = profile.evaluation_text() else { return Ok(Vec::new()) };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let bad = |e: csv::Error| Failure::bad_input(format!("{}/evaluation.csv: {e}", profile.name));
    let titles = reader.headers().map_err(bad)?.clone();
    let value = |cell: &str| cell.parse::<f64>().map_or_else(|_| json!(cell), |number| json!(number));
    reader
        .records()
        .map(|record| {
            let record = record.map_err(bad)?;
            Ok(titles.iter().zip(&record).map(|(title, cell)| (title.to_string(), value(cell))).collect())
        })
        .collect()
}

fn print(profile: &HardwareProfile, shown: &Shown) {
    let device = &profile.device;
    let peaks: Vec<_> =
        device.peaks.iter().map(|(dtype, p)| format!("{dtype} {} TFLOPS", p.tflops())).collect();
    let libraries: Vec<_> =
        profile.stack.libraries.iter().map(|(name, version)| format!(", {name} {version}")).collect();
    let l2 = device.l2.map_or_else(|| "unknown".to_string(), |l2| format!("{} MiB", l2.mib()));
    let tile = device.tile;
    println!("{}: {} ({})", shown.name, device.name, shown.origin);
    println!("  peaks         {}", peaks.join(", "));
    println!("  memory        {} GiB at {} GB/s, L2 {l2}", device.hbm.gib(), device.hbm_bandwidth.gbps());
    println!("  cores         {}, tile {} x {} x {}", device.cores, tile.m, tile.n, tile.k);
    println!("  interconnect  {} GB/s per device, one way", device.interconnect.gbps());
    println!("  multiples     hidden {}, FFN {}", device.granularity.hidden, device.granularity.ffn);
    println!(
        "  stack         {} {}{}",
        profile.stack.engine,
        profile.stack.engine_version,
        libraries.concat()
    );
    println!("  source        {}", profile.device_source);
    println!("  sha256        {}", shown.sha256);
    for table in &shown.tables {
        print_provenance(table);
    }
    println!();
    print_rules(profile);
    if let Some(first) = shown.evaluation.first() {
        println!("\nstated errors (evaluation.csv)");
        let titles: Vec<_> = first.keys().map(String::as_str).collect();
        let mut table = output::table(&titles);
        for row in &shown.evaluation {
            table.add_row(
                row.values().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_string)),
            );
        }
        println!("{table}");
    }
}

fn print_provenance(table: &Table) {
    let dtypes: Vec<_> = table.dtypes.iter().map(|dtype| dtype.name()).collect();
    let rows = table.rows.map(|rows| format!(", {rows} rows")).unwrap_or_default();
    let of = if dtypes.is_empty() { "" } else { " of " };
    println!("\n{}: {}{rows}{of}{}", table.family, table.provenance, dtypes.join(", "));
    for axis in &table.axes {
        println!("  {:<13} {} .. {} ({} values)", axis.name, axis.min, axis.max, axis.values);
    }
    println!("  source        {} ({})", table.source, table.date);
    let copyright = table.copyright.as_ref().map(|holder| format!(", {holder}")).unwrap_or_default();
    println!("  licence       {}{copyright}", table.licence);
    if let Some(note) = &table.note {
        println!("  note          {note}");
    }
}

fn print_rules(profile: &HardwareProfile) {
    let rule = profile.elementwise;
    println!(
        "rule for elementwise kernels: {} a launch + bytes at {:.0} % of the memory bandwidth, within a factor of {}",
        rule.launch,
        100.0 * rule.efficiency,
        rule.interval_factor
    );
    if let Some(rule) = profile.all_reduce {
        let mesh = rule.full_mesh_devices.map_or_else(String::new, |n| format!(" in a full mesh of {n}"));
        println!(
            "rule for all-reduce: {} + bytes at {:.0} % of the interconnect{mesh}, within a factor of {}",
            rule.latency,
            100.0 * rule.efficiency,
            rule.interval_factor
        );
    }
}
