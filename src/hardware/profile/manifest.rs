//! `profile.toml`: device facts, stack, and the provenance of each kernel family.

use std::collections::BTreeMap;

use toml::de::DeTable;

use crate::estimate::Source;
use crate::hardware::kernel::KernelFamily;
use crate::hardware::profile::defect::Defect;
use crate::hardware::profile::device::{Device, Granularity, Tile};
use crate::hardware::profile::error::{Lines, Place, ProfileError};
use crate::hardware::profile::rules::{AllReduceRule, ElementwiseRule};
use crate::hardware::profile::section::{self, Findings, Limits, Section};
use crate::names;
use crate::units::{Bytes, BytesPerSecond, DType, FlopsPerSecond, Seconds};

/// Software the figures were taken with.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// Engine whose kernels were measured, such as `vllm`.
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// Versions of drivers and libraries, as far as the source states them.
    pub libraries: BTreeMap<String, String>,
}

/// Where the figures of one kernel family come from.
#[derive(Clone, Debug, PartialEq)]
pub struct TableInfo {
    /// Measured (a table), fitted (a fit file) or estimated (a rule).
    pub provenance: Source,
    /// Who measured, or where the rule comes from.
    pub source: String,
    /// Licence of the figures.
    pub licence: String,
    /// Whose figures they are, where the licence asks for it to be said.
    pub copyright: Option<String>,
    /// Day for which the source is cited, as `2026-08-21`.
    pub date: String,
    /// Element types covered; empty for families without one.
    pub dtypes: Vec<DType>,
    /// Anything a reader should know.
    pub note: Option<String>,
    /// Where the section stands in the manifest.
    pub(crate) place: Place,
    /// Where its element types stand.
    pub(crate) dtypes_place: Place,
}

impl TableInfo {
    /// Measured or fitted figures of a family; element types, copyright and note are added as fields.
    pub fn new(provenance: Source, source: &str, licence: &str, date: &str) -> Self {
        Self {
            provenance,
            source: source.to_string(),
            licence: licence.to_string(),
            copyright: None,
            date: date.to_string(),
            dtypes: Vec::new(),
            note: None,
            place: Place::whole(""),
            dtypes_place: Place::whole(""),
        }
    }
}

/// A device without its kernels: its facts and the rules that stand in for tables.
#[derive(Clone, Debug)]
pub struct DeviceSheet {
    /// Device facts.
    pub device: Device,
    /// Where they come from.
    pub device_source: String,
    /// Software, where it is stated.
    pub stack: Option<Stack>,
    /// The rule for all-reduce, where one is stated.
    pub all_reduce: Option<(AllReduceRule, TableInfo)>,
    /// The rule for elementwise kernels.
    pub elementwise: (ElementwiseRule, TableInfo),
}

impl DeviceSheet {
    /// Reads `[device]`, `[tables.elementwise]` and, where they are there, `[stack]` and an estimated
    /// `[tables.all_reduce]` of a manifest; other tables are passed over. A whole profile.toml will do.
    ///
    /// # Errors
    /// Every defect found, in the order of the file.
    pub fn read(file: &str, text: &str) -> Result<Self, Vec<ProfileError>> {
        let (document, syntax) = DeTable::parse_recoverable(text);
        if !syntax.is_empty() {
            return Err(syntax_errors(file, text, &syntax));
        }
        let mut out = Findings::of(file, text);
        let mut top = Section::new("the file", 0..0, document.get_ref());
        top.optional("name");
        let device = top.section("device", &mut out).and_then(|s| read_device(s, &mut out));
        let stack = top.optional("stack").and_then(|v| section::as_section("[stack]", "stack", v, &mut out));
        let stack = stack.and_then(|s| read_stack(s, &mut out));
        let tables = top.section("tables", &mut out).map(|s| read_tables(s, &mut out));
        top.close(&mut out);
        out.errors.sort_by(|a, b| a.place.cmp(&b.place));
        let sheet = device.zip(tables).and_then(|((device, device_source), (infos, all_reduce, rule))| {
            let elementwise = (rule?, infos.get(&KernelFamily::Elementwise)?.clone());
            let all_reduce = all_reduce.zip(infos.get(&KernelFamily::AllReduce).cloned());
            Some(Self { device, device_source, stack, all_reduce, elementwise })
        });
        match sheet {
            Some(sheet) if out.errors.is_empty() => Ok(sheet),
            _ => Err(out.errors),
        }
    }
}

/// Everything the manifest says.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) name_place: Place,
    pub(crate) device: Device,
    pub(crate) device_source: String,
    pub(crate) stack: Stack,
    pub(crate) tables: BTreeMap<KernelFamily, TableInfo>,
    pub(crate) all_reduce: Option<AllReduceRule>,
    pub(crate) elementwise: ElementwiseRule,
}

impl Manifest {
    /// Reads a manifest; every defect found is returned, in the order of the file.
    pub(crate) fn read(file: &str, text: &str) -> Result<Self, Vec<ProfileError>> {
        let (document, syntax) = DeTable::parse_recoverable(text);
        if !syntax.is_empty() {
            return Err(syntax_errors(file, text, &syntax));
        }
        let mut out = Findings::of(file, text);
        let manifest = read_document(Section::new("the manifest", 0..0, document.get_ref()), &mut out);
        out.errors.sort_by(|a, b| a.place.cmp(&b.place));
        match manifest {
            Some(manifest) if out.errors.is_empty() => Ok(manifest),
            _ => Err(out.errors),
        }
    }
}

pub(super) fn syntax_errors(file: &str, text: &str, errors: &[toml::de::Error]) -> Vec<ProfileError> {
    let lines = Lines::of(text.as_bytes());
    let place = |e: &toml::de::Error| lines.place(file, e.span().map_or(0, |span| span.start));
    let defect = |e: &toml::de::Error| Defect::Syntax { reason: e.message().to_string() };
    errors.iter().map(|e| ProfileError::at(place(e), defect(e))).collect()
}

fn read_document(mut top: Section<'_>, out: &mut Findings<'_>) -> Option<Manifest> {
    let name = read_name(&mut top, out);
    let device = top.section("device", out).and_then(|s| read_device(s, out));
    let stack = top.section("stack", out).and_then(|s| read_stack(s, out));
    let tables = top.section("tables", out).map(|s| read_tables(s, out));
    top.close(out);
    let (name, name_place) = name?;
    let (device, device_source) = device?;
    let (tables, all_reduce, elementwise) = tables?;
    for info in tables.values() {
        for dtype in info.dtypes.iter().filter(|d| !device.peaks.contains_key(d)) {
            let defect = Defect::DTypeWithoutPeak { dtype: *dtype };
            out.errors.push(ProfileError::at(info.dtypes_place.clone(), defect));
        }
    }
    Some(Manifest {
        name,
        name_place,
        device,
        device_source,
        stack: stack?,
        tables,
        all_reduce,
        elementwise: elementwise?,
    })
}

/// Lower-case letters, digits and underscores.
pub(super) fn is_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    !name.is_empty() && name.chars().all(fine)
}

fn read_name(top: &mut Section<'_>, out: &mut Findings<'_>) -> Option<(String, Place)> {
    let name = top.text("name", out)?;
    let span = top.optional("name")?.span();
    if !is_name(&name) {
        out.note(&span, Defect::InvalidName { found: name });
        return None;
    }
    Some((name, out.place(&span)))
}

fn read_device(mut s: Section<'_>, out: &mut Findings<'_>) -> Option<(Device, String)> {
    let name = s.text("name", out);
    let source = s.text("source", out);
    let peaks = s.section("peak_tflops", out).map(|peaks| read_peaks(&peaks, out));
    let hbm = s.number("hbm_gib", Limits::Positive, out).map(Bytes::from_gib);
    let hbm_bandwidth = s.number("hbm_gbps", Limits::Positive, out).map(BytesPerSecond::from_gbps);
    let l2 = s.optional_number("l2_mib", Limits::Positive, out).map(Bytes::from_mib);
    let cores = s.count("cores", out);
    let tile = (s.count("tile_m", out), s.count("tile_n", out), s.count("tile_k", out));
    let interconnect = s.number("interconnect_gbps", Limits::Positive, out).map(BytesPerSecond::from_gbps);
    let hidden = s.optional_count("multiple_hidden", out).unwrap_or(256);
    let ffn = s.optional_count("multiple_ffn", out).unwrap_or(512);
    s.close(out);
    let device = Device {
        name: name?,
        peaks: peaks?,
        hbm: hbm?,
        hbm_bandwidth: hbm_bandwidth?,
        l2,
        cores: cores?,
        tile: Tile { m: tile.0?, n: tile.1?, k: tile.2? },
        interconnect: interconnect?,
        granularity: Granularity { hidden, ffn },
    };
    Some((device, source?))
}

pub(super) fn read_peaks(s: &Section<'_>, out: &mut Findings<'_>) -> BTreeMap<DType, FlopsPerSecond> {
    let mut peaks = BTreeMap::new();
    let entries = s.entries();
    if entries.is_empty() {
        let expected = "a peak for each dtype, such as { bf16 = 989 }";
        out.note(s.span(), Defect::EmptyList { key: "peak_tflops".to_string(), expected });
    }
    for (key, span, value) in entries {
        let peak = section::as_number(key, value, Limits::Positive, out);
        match dtype_named(key) {
            Some(dtype) => peaks.extend(peak.map(|p| (dtype, FlopsPerSecond::from_tflops(p)))),
            None => out.note(&span, Defect::UnknownDType { found: key.to_string() }),
        }
    }
    peaks
}

fn read_stack(mut s: Section<'_>, out: &mut Findings<'_>) -> Option<Stack> {
    let engine = s.text("engine", out);
    let engine_version = s.text("engine_version", out);
    let libraries =
        s.optional("libraries").and_then(|v| section::as_section("libraries", "libraries", v, out));
    s.close(out);
    let entries = libraries.map(|l| l.entries()).unwrap_or_default();
    let versions = entries.into_iter().filter_map(|(key, _, value)| {
        Some((key.to_string(), section::as_text(key, value, out)?.to_string()))
    });
    let libraries = versions.collect();
    Some(Stack { engine: engine?, engine_version: engine_version?, libraries })
}

type Tables = (BTreeMap<KernelFamily, TableInfo>, Option<AllReduceRule>, Option<ElementwiseRule>);

fn read_tables(s: Section<'_>, out: &mut Findings<'_>) -> Tables {
    let (mut tables, mut all_reduce, mut elementwise) = (BTreeMap::new(), None, None);
    // Elementwise kernels have no table, so without the rule no model could be priced.
    let entries = s.entries();
    if !entries.iter().any(|(key, ..)| *key == KernelFamily::Elementwise.name()) {
        let (key, section) = ("elementwise".to_string(), "[tables]".to_string());
        let expected = "a section with the rule for kernels without a table";
        out.note(s.span(), Defect::MissingKey { key, section, expected });
    }
    for (key, span, value) in entries {
        let Some(family) = family_named(key) else {
            let closest = names::closest(key, FAMILIES.map(KernelFamily::name));
            out.note(&span, Defect::UnknownFamily { found: key.to_string(), closest });
            continue;
        };
        let name = format!("[tables.{key}]");
        let Some(mut table) = section::as_section(&name, key, value, out) else { continue };
        let provenance = read_provenance(family, &mut table, out);
        let info = read_table(family, provenance, &mut table, out);
        match (family, provenance) {
            (KernelFamily::Elementwise, _) => elementwise = read_elementwise(&mut table, out),
            (KernelFamily::AllReduce, Some(Source::Estimated)) => {
                all_reduce = read_all_reduce(&mut table, out);
            }
            // Which keys belong there depends on the provenance: none is unknown until that is mended.
            (KernelFamily::AllReduce, None) => ALL_REDUCE_RULE.into_iter().for_each(|key| {
                table.optional(key);
            }),
            _ => {}
        }
        table.close(out);
        tables.extend(info.map(|i| (family, i)));
    }
    (tables, all_reduce, elementwise)
}

fn read_table(
    family: KernelFamily,
    provenance: Option<Source>,
    s: &mut Section<'_>,
    out: &mut Findings<'_>,
) -> Option<TableInfo> {
    let source = s.text("source", out);
    let licence = s.text("licence", out);
    let copyright = s.optional_text("copyright", out);
    let date = s.date("date", out);
    let note = s.optional_text("note", out);
    let typed = !matches!(family, KernelFamily::AllReduce | KernelFamily::Elementwise);
    let dtypes = if typed { read_dtypes(s, out) } else { Some((s.span().clone(), Vec::new())) };
    let (span, dtypes) = dtypes?;
    Some(TableInfo {
        provenance: provenance?,
        source: source?,
        licence: licence?,
        copyright,
        date: date?,
        dtypes,
        note,
        place: out.place(s.span()),
        dtypes_place: out.place(&span),
    })
}

fn read_provenance(family: KernelFamily, s: &mut Section<'_>, out: &mut Findings<'_>) -> Option<Source> {
    let word = s.text("provenance", out)?;
    let (possible, expected): (&[Source], _) = match family {
        KernelFamily::Elementwise => (&[Source::Estimated], "estimated"),
        _ => (&[Source::Measured, Source::Fitted, Source::Estimated], "measured, fitted or estimated"),
    };
    let found = possible.iter().find(|p| p.name() == word).copied();
    if found.is_none() {
        let span = s.optional("provenance").map_or(s.span().clone(), |value| value.span());
        out.note(&span, Defect::Provenance { found: word, family, expected });
    }
    found
}

fn read_dtypes(s: &mut Section<'_>, out: &mut Findings<'_>) -> Option<(std::ops::Range<usize>, Vec<DType>)> {
    let list = s.texts("dtypes", "a list such as [\"bf16\", \"fp8\"]", out)?;
    let mut dtypes = Vec::new();
    for (word, span) in list.items {
        match dtype_named(word) {
            None => out.note(&span, Defect::UnknownDType { found: word.to_string() }),
            Some(dtype) if dtypes.contains(&dtype) => out.note(&span, Defect::RepeatedDType { dtype }),
            Some(dtype) => dtypes.push(dtype),
        }
    }
    Some((list.span, dtypes))
}

const ALL_REDUCE_RULE: [&str; 4] = ["latency_us", "efficiency", "full_mesh_devices", "interval_factor"];

fn read_all_reduce(s: &mut Section<'_>, out: &mut Findings<'_>) -> Option<AllReduceRule> {
    let latency = s.number("latency_us", Limits::Positive, out);
    let efficiency = s.number("efficiency", Limits::Share, out);
    let full_mesh_devices = s.optional_count("full_mesh_devices", out);
    if full_mesh_devices == Some(1) {
        let span = s.optional("full_mesh_devices").map_or(s.span().clone(), |v| v.span());
        let key = "full_mesh_devices".to_string();
        out.note(&span, Defect::OutOfRange { key, found: "1".to_string(), expected: "at least 2 devices" });
    }
    let interval_factor = s.number("interval_factor", Limits::Factor, out);
    Some(AllReduceRule {
        latency: Seconds::from_us(latency?),
        efficiency: efficiency?,
        full_mesh_devices,
        interval_factor: interval_factor?,
    })
}

fn read_elementwise(s: &mut Section<'_>, out: &mut Findings<'_>) -> Option<ElementwiseRule> {
    let launch = s.number("launch_us", Limits::Positive, out);
    let efficiency = s.number("efficiency", Limits::Share, out);
    let interval_factor = s.number("interval_factor", Limits::Factor, out);
    Some(ElementwiseRule {
        launch: Seconds::from_us(launch?),
        efficiency: efficiency?,
        interval_factor: interval_factor?,
    })
}

const FAMILIES: [KernelFamily; 5] = [
    KernelFamily::Gemm,
    KernelFamily::AttentionPrefill,
    KernelFamily::AttentionDecode,
    KernelFamily::AllReduce,
    KernelFamily::Elementwise,
];

fn family_named(name: &str) -> Option<KernelFamily> {
    FAMILIES.into_iter().find(|f| f.name() == name)
}

/// Data files are written by machines: only the canonical name counts.
fn dtype_named(name: &str) -> Option<DType> {
    DType::ALL.into_iter().find(|d| d.name() == name)
}
