//! A profile's values as text: the manifest and the tables, in the schema they are read in.

use std::fmt::Write;

use crate::estimate::Source;
use crate::hardware::kernel::{Backend, KernelCall, KernelFamily};
use crate::hardware::profile::device::Device;
use crate::hardware::profile::draft::Draft;
use crate::hardware::profile::manifest::TableInfo;
use crate::hardware::profile::table::{self, Row};
use crate::units::{DType, FlopsPerSecond};

/// A table as CSV, in the order of its calls; the column of spreads is there if any row states one. Latencies have
/// nine significant digits.
pub fn table(family: KernelFamily, rows: &[Row]) -> String {
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_key(|row| order(&row.call));
    let spreads = rows.iter().any(|row| row.spread.is_some());
    let mut header = table::columns(family).join(",");
    if spreads {
        header = format!("{header},{}", table::SPREAD);
    }
    let mut text = header;
    for row in rows {
        text.push('\n');
        text.push_str(&call(&row.call));
        let _ = write!(text, ",{}", digits(row.latency.us(), 9));
        if spreads {
            text.push(',');
            if let Some(spread) = row.spread {
                let _ = write!(text, "{}", digits(spread * 100.0, 3));
            }
        }
    }
    text.push('\n');
    text
}

/// All-reduce tables ascend in devices for each backend and size.
fn order(call: &KernelCall) -> (u64, KernelCall) {
    match *call {
        KernelCall::AllReduce { world, .. } => (world, *call),
        _ => (0, *call),
    }
}

fn call(call: &KernelCall) -> String {
    match *call {
        KernelCall::Gemm { m, n, k, dtype } => format!("{m},{n},{k},{dtype}"),
        KernelCall::AttentionPrefill { batch, seq_len: length, q_heads, kv_heads, head_dim, dtype }
        | KernelCall::AttentionDecode { batch, kv_len: length, q_heads, kv_heads, head_dim, dtype } => {
            format!("{batch},{length},{q_heads},{kv_heads},{head_dim},{dtype}")
        }
        KernelCall::AllReduce { world, bytes, backend } => {
            let backend = match backend {
                Backend::Nccl => "nccl",
                Backend::VllmEager => "vllm_eager",
                Backend::VllmGraph => "vllm_graph",
            };
            format!("{world},{bytes},{backend}")
        }
        KernelCall::Elementwise { bytes, launches } => format!("{bytes},{launches}"),
    }
}

/// A number with so many significant digits and no trailing zeros.
pub fn digits(x: f64, digits: usize) -> f64 {
    format!("{x:.*e}", digits.saturating_sub(1)).parse().unwrap_or(x)
}

/// `profile.toml`.
pub fn manifest(draft: &Draft) -> String {
    let mut text = String::new();
    if let Some(comment) = &draft.comment {
        comment.lines().for_each(|line| text.push_str(&format!("# {line}\n")));
    }
    let _ = writeln!(text, "name = {}\n", quoted(&draft.name));
    device(&mut text, &draft.device, &draft.device_source);
    let _ = writeln!(text, "\n[stack]\nengine = {}", quoted(&draft.stack.engine));
    let _ = writeln!(text, "engine_version = {}", quoted(&draft.stack.engine_version));
    if !draft.stack.libraries.is_empty() {
        let library = |(name, version): (&String, &String)| format!("{} = {}", quoted(name), quoted(version));
        let libraries: Vec<_> = draft.stack.libraries.iter().map(library).collect();
        let _ = writeln!(text, "libraries = {{ {} }}", libraries.join(", "));
    }
    for family in &draft.families {
        info(&mut text, family.family, &family.info);
    }
    if let Some((rule, of)) = &draft.all_reduce {
        info(&mut text, KernelFamily::AllReduce, of);
        number(&mut text, "latency_us", rule.latency.us());
        number(&mut text, "efficiency", rule.efficiency);
        if let Some(devices) = rule.full_mesh_devices {
            let _ = writeln!(text, "full_mesh_devices = {devices}");
        }
        number(&mut text, "interval_factor", rule.interval_factor);
    }
    let (rule, of) = &draft.elementwise;
    info(&mut text, KernelFamily::Elementwise, of);
    number(&mut text, "launch_us", rule.launch.us());
    number(&mut text, "efficiency", rule.efficiency);
    number(&mut text, "interval_factor", rule.interval_factor);
    text
}

fn device(text: &mut String, device: &Device, source: &str) {
    let _ = writeln!(text, "[device]\nname = {}\nsource = {}", quoted(&device.name), quoted(source));
    let peak = |(dtype, rate): (&DType, &FlopsPerSecond)| format!("{dtype} = {}", digits(rate.tflops(), 6));
    let peaks: Vec<_> = device.peaks.iter().map(peak).collect();
    let _ = writeln!(text, "peak_tflops = {{ {} }}", peaks.join(", "));
    number(text, "hbm_gib", device.hbm.gib());
    number(text, "hbm_gbps", device.hbm_bandwidth.gbps());
    if let Some(l2) = device.l2 {
        number(text, "l2_mib", l2.mib());
    }
    let (tile, granularity) = (device.tile, device.granularity);
    for (key, value) in [("cores", device.cores), ("tile_m", tile.m), ("tile_n", tile.n), ("tile_k", tile.k)]
    {
        let _ = writeln!(text, "{key} = {value}");
    }
    number(text, "interconnect_gbps", device.interconnect.gbps());
    let _ = writeln!(text, "multiple_hidden = {}\nmultiple_ffn = {}", granularity.hidden, granularity.ffn);
}

fn info(text: &mut String, family: KernelFamily, info: &TableInfo) {
    let provenance = if family == KernelFamily::Elementwise { Source::Estimated } else { info.provenance };
    let _ = writeln!(text, "\n[tables.{family}]\nprovenance = {}", quoted(provenance.name()));
    let _ = writeln!(text, "source = {}\nlicence = {}", quoted(&info.source), quoted(&info.licence));
    if let Some(copyright) = &info.copyright {
        let _ = writeln!(text, "copyright = {}", quoted(copyright));
    }
    let _ = writeln!(text, "date = {}", info.date);
    if !info.dtypes.is_empty() {
        let dtypes: Vec<_> = info.dtypes.iter().map(|dtype| quoted(dtype.name())).collect();
        let _ = writeln!(text, "dtypes = [{}]", dtypes.join(", "));
    }
    if let Some(note) = &info.note {
        let _ = writeln!(text, "note = {}", quoted(note));
    }
}

fn number(text: &mut String, key: &str, value: f64) {
    let _ = writeln!(text, "{key} = {}", digits(value, 6));
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
