//! Kernel databases of NVIDIA AIConfigurator (PyPI: aiconfigurator-core, before 0.6 aiconfigurator).

mod database;
mod licence;
mod rows;
mod system_file;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::hardware::import::aiconfigurator::database::{Entry, LIBRARIES, Role, System};
use crate::hardware::import::aiconfigurator::licence::Package;
use crate::hardware::import::columns::{self, Columns};
use crate::hardware::import::error::ImportError;
use crate::hardware::import::readings::Readings;
use crate::hardware::import::report::LeftOut;
use crate::hardware::import::tree::Tree;
use crate::hardware::import::{self, Gathered, Import, Request};
use crate::hardware::import::{delimited, parquet_file, scale, version};
use crate::hardware::kernel::KernelFamily;
use crate::hardware::profile::device::Device;
use crate::hardware::profile::manifest::{DeviceSheet, Stack};

/// Imports one system as one engine and version saw it.
///
/// # Errors
/// See [`ImportError`].
pub(super) fn import(request: &Request<'_>) -> Result<Import, ImportError> {
    let tree = Tree::open(request.source)?;
    let system = System::open(&tree, request.system)?;
    let framework = system.framework(request.framework)?;
    let version = system.version(&framework, request.version.unwrap_or("latest"))?;
    let yaml = tree.text(&system.yaml());
    let package = licence::read(&tree, &system.systems, yaml.as_deref().unwrap_or_default());
    let licence = package.licence.clone().or(request.licence.map(str::to_string));
    let licence = licence.unwrap_or_else(|| import::NO_LICENCE.to_string());
    let sheet = match import::given_sheet(request) {
        Some(sheet) => sheet,
        None => sheet(request, &system, &package, &yaml?, &licence)?,
    };
    let mut taken = Taken::new(&system, &sheet.device, request.measured_on);
    for role in [Role::Gemm, Role::Context, Role::Generation, Role::Custom] {
        if let Some(entry) = system.table(role, &framework, &version) {
            taken.table(role, entry, &version)?;
        }
    }
    let library = taken.library()?;
    let libraries: BTreeMap<_, _> =
        library.iter().map(|entry| (entry.framework.clone(), entry.version.clone())).collect();
    let left_out = left_out(&system, &framework, &version, &taken.read);
    let cited = licence::named(&package, &tree);
    let sources =
        taken.sources.iter().map(|(family, files)| (*family, format!("{cited}, {}", files.join(" and "))));
    let gathered = Gathered {
        sheet,
        stack: Stack { engine: framework.clone(), engine_version: version.clone(), libraries },
        sources: sources.collect(),
        licence,
        copyright: package.copyright,
        notes: taken.notes,
        report: import::report::Report { files: Vec::new(), left_out },
    };
    import::finish(request, taken.readings, gathered)
}

fn sheet(
    request: &Request<'_>,
    system: &System<'_>,
    package: &Package,
    yaml: &str,
    licence: &str,
) -> Result<DeviceSheet, ImportError> {
    let file = system.tree.path_of(&system.yaml());
    let cited = format!("{}, systems/{}.yaml", licence::named(package, system.tree), system.name);
    let context = system_file::Context {
        file: &file,
        system: &system.name,
        cited: &cited,
        given: &request.facts,
        date: request.date,
        licence,
    };
    system_file::read(yaml, &context)
}

/// Tables taken so far.
struct Taken<'a> {
    system: &'a System<'a>,
    device: Device,
    /// Name of the device whose rows are asked for.
    only: Option<&'a str>,
    readings: Readings,
    /// Paths of the files that were read.
    read: BTreeSet<String>,
    sources: BTreeMap<KernelFamily, Vec<String>>,
    notes: Vec<(KernelFamily, String)>,
    /// Name of the device in the first table that states one.
    measured_on: Option<String>,
}

impl<'a> Taken<'a> {
    fn new(system: &'a System<'a>, device: &Device, only: Option<&'a str>) -> Self {
        Self {
            system,
            device: device.clone(),
            only,
            readings: Readings::default(),
            read: BTreeSet::new(),
            sources: BTreeMap::new(),
            notes: Vec::new(),
            measured_on: None,
        }
    }

    /// Reads one table.
    fn table(&mut self, role: Role, entry: &Entry, version: &str) -> Result<(), ImportError> {
        let family = family(role);
        let bytes = self.system.tree.read(&entry.path)?;
        let file = self.system.tree.path_of(&entry.path);
        let mut table = match entry.path.ends_with(".parquet") {
            true => parquet_file::read(&file, bytes, rows::wanted)?,
            false => delimited::read(&file, &bytes)?,
        };
        let device = columns::settle_device(&mut table, self.only)?;
        self.readings.file(&entry.shown, family);
        rows::add(&table, role, &self.device, &mut self.readings)?;
        scale::check(&file, rows::LATENCY, &self.device, self.readings.of_last_file())?;
        self.read.insert(entry.path.clone());
        let kept = self.readings.of_last_file().next().is_some();
        if kept {
            self.sources.entry(family).or_default().push(entry.shown.clone());
            self.remark(role, entry, version, device, &table);
        }
        Ok(())
    }

    /// The newest table of the vendor's library that has all-reduces.
    fn library(&mut self) -> Result<Option<Entry>, ImportError> {
        let entries: Vec<Entry> = self.system.libraries().into_iter().cloned().collect();
        for entry in entries {
            self.table(Role::Library, &entry, &entry.version)?;
            if self.readings.of_last_file().next().is_some() {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// What the provenance must say of a table besides its place.
    fn remark(&mut self, role: Role, entry: &Entry, version: &str, device: Option<String>, table: &Columns) {
        let family = family(role);
        let mut note = |text: String| self.notes.push((family, text));
        if role != Role::Library && entry.version != version {
            note(format!("of {} {}, the newest there is up to {version}", entry.framework, entry.version));
        }
        let stated =
            |name: &str| table.optional(name).map(|cells| cells.distinct().to_vec()).unwrap_or_default();
        let (frameworks, versions) = (stated("framework"), stated("version"));
        let mine = frameworks.iter().all(|f| f.eq_ignore_ascii_case(&entry.framework));
        let versions_mine = versions.iter().all(|v| *v == entry.version);
        if role != Role::Library && !(mine && versions_mine) {
            let (frameworks, versions) = (frameworks.join(", "), versions.join(", "));
            note(format!("its rows say that {frameworks} {versions} was measured"));
        }
        let types = ["gemm_dtype", "attn_dtype", "kv_cache_dtype", "allreduce_dtype", "nccl_dtype"];
        if types.iter().flat_map(|name| stated(name)).any(|t| matches!(t.as_str(), "float16" | "half")) {
            note("measured in float16, which is read as bf16 (same width, same rate)".to_string());
        }
        if role == Role::Custom && !entry.framework.eq_ignore_ascii_case("vllm") {
            note(format!(
                "{}'s own kernels stand under the names vllm_graph and vllm_eager",
                entry.framework
            ));
        }
        match (device, &self.measured_on) {
            (Some(device), Some(first)) if device != *first => {
                note(format!("its rows name the device `{device}`, those of other tables `{first}`"));
            }
            (Some(device), None) => self.measured_on = Some(device),
            _ => {}
        }
    }
}

fn family(role: Role) -> KernelFamily {
    match role {
        Role::Gemm => KernelFamily::Gemm,
        Role::Context => KernelFamily::AttentionPrefill,
        Role::Generation => KernelFamily::AttentionDecode,
        Role::Custom | Role::Library => KernelFamily::AllReduce,
    }
}

/// Tables of the same engine and of the libraries that were not read, and why.
fn left_out(system: &System<'_>, framework: &str, version: &str, read: &BTreeSet<String>) -> Vec<LeftOut> {
    let near = |e: &&Entry| e.framework == framework || LIBRARIES.contains(&e.framework.as_str());
    let unread = system.entries.iter().filter(near).filter(|e| !read.contains(&e.path));
    let reason = |e: &Entry| match e.role {
        Some(Role::Library) if !LIBRARIES.contains(&e.framework.as_str()) => {
            "collectives of the library, which has tables of its own".to_string()
        }
        Some(Role::Library) => "another version of the library was taken".to_string(),
        Some(_) if version::compare(&e.version, version).is_gt() => {
            format!("of {}; {version} is the newest of GEMM and attention, or the one asked for", e.version)
        }
        Some(_) => format!("older ({}): there is a newer one up to {version}", e.version),
        None => format!("not of a dense decoder: {}", e.stem.trim_end_matches("_perf")),
    };
    unread.map(|e| LeftOut { file: e.shown.clone(), reason: reason(e) }).collect()
}
