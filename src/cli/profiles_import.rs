//! `archplan profiles import`: measured tables of others become a profile.

use std::path::{Path, PathBuf};

use archplan::hardware::import::device::{self, GivenFacts};
use archplan::hardware::import::report::Report;
use archplan::hardware::import::{self, Format, Import, Request};
use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::device::Tile;
use archplan::hardware::profile::draft;
use archplan::hardware::profile::manifest::DeviceSheet;
use archplan::units::{self, Bytes, group_digits};
use serde::Serialize;

use crate::cli::{Failure, Global, arguments, output, profiles};

/// Reasons and files that are printed for people; JSON holds all.
const PRINTED: usize = 25;

/// Arguments of `archplan profiles import`.
#[derive(clap::Args, Debug)]
#[command(
    disable_version_flag = true,
    after_help = "Formats (hardware_profiles/README.md says what each takes and leaves):
  aiconfigurator    kernel database of NVIDIA AIConfigurator: the wheel (pip download --no-deps
                    aiconfigurator-core), its unpacked folder, or its folder `systems`; both layouts
  ascend-operators  operator CSVs of CANN's profiler and vllm-ascend collectors
  vidur             profiled linear layers (mlp.csv) of microsoft/vidur
  csv               <family>.csv in our own schema, with profile.toml or --device-from

Examples:
  archplan profiles import --from aiconfigurator aiconfigurator_core.whl --system b200_sxm \\
      --framework vllm --out my_profiles/b200_sxm
  archplan profiles import --from ascend-operators vllm-ascend/0.18.0 --device-from ascend_910b \\
      --out my_profiles/ascend_mine
  archplan profiles import --from csv measured/l40s --out my_profiles/l40s"
)]
pub struct Args {
    /// Where the tables are: a folder, or the wheel
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// What they are
    #[arg(long, value_name = "FORMAT")]
    from: From,
    /// Folder to write; its last part is the profile's name
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace the profile that is there
    #[arg(long)]
    force: bool,
    /// System of a database, such as b200_sxm
    #[arg(long, value_name = "NAME")]
    system: Option<String>,
    /// Serving engine whose kernels were measured, such as vllm
    #[arg(long, value_name = "NAME")]
    framework: Option<String>,
    /// Version of that engine [default for databases: latest]
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Device whose rows to take where a table names several
    #[arg(long, value_name = "DEVICE")]
    measured_on: Option<String>,
    /// Kernel to keep where several measured one call [default: the one with most calls]
    #[arg(long, value_name = "KERNEL")]
    prefer_kernel: Option<String>,
    /// Licence of the figures, where the source states none
    #[arg(long, value_name = "TEXT")]
    licence: Option<String>,
    /// Day for which the source is cited [default: today]
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<jiff::civil::Date>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Device facts that the source does not state.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Device facts")]
struct DeviceArgs {
    /// Take them from a profile at hand
    #[arg(long, value_name = "PROFILE", conflicts_with = "device")]
    device_from: Option<String>,
    /// Take them from a file with [device] and [tables.elementwise], as in profile.toml
    #[arg(long, value_name = "FILE")]
    device: Option<PathBuf>,
    /// Matrix cores (SMs, cube cores)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    cores: Option<u64>,
    /// Tile of one core, rows x output features x input features
    #[arg(long, value_name = "MxNxK", value_parser = device::parse_tile)]
    tile: Option<Tile>,
    /// Last-level cache, such as 50MiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    l2: Option<Bytes>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum From {
    Aiconfigurator,
    AscendOperators,
    Vidur,
    Csv,
}

impl From {
    fn format(self) -> Format {
        match self {
            From::Aiconfigurator => Format::Aiconfigurator,
            From::AscendOperators => Format::AscendOperators,
            From::Vidur => Format::Vidur,
            From::Csv => Format::Csv,
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Imported<'a> {
    name: &'a str,
    path: String,
    device: &'a str,
    engine: &'a str,
    engine_version: &'a str,
    licences: Vec<&'a str>,
    #[serde(flatten)]
    report: &'a Report,
    next: Vec<String>,
}

/// Runs `archplan profiles import`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let name = draft::check_new(&args.out, args.force).map_err(Failure::bad_input)?;
    let date = args.date.map_or_else(arguments::today, |day| day.to_string());
    let request = Request {
        format: args.from.format(),
        source: &args.source,
        name: &name,
        system: args.system.as_deref(),
        framework: args.framework.as_deref(),
        version: args.version.as_deref(),
        measured_on: args.measured_on.as_deref(),
        prefer_kernel: args.prefer_kernel.as_deref(),
        sheet: sheet(&args.device, global)?,
        facts: GivenFacts { cores: args.device.cores, tile: args.device.tile, l2: args.device.l2 },
        licence: args.licence.as_deref(),
        date: &date,
    };
    let import = import::import(&request).map_err(Failure::bad_input)?;
    let profile = import.draft.write(&args.out, args.force).map_err(Failure::bad_input)?;
    let next = next(&args.out, &profile);
    if global.json {
        return output::json(&imported(args, &import, next));
    }
    print(args, &import, &next);
    Ok(())
}

fn sheet(args: &DeviceArgs, global: &Global) -> Result<Option<DeviceSheet>, Failure> {
    if let Some(name) = &args.device_from {
        let profile = profiles::at_hand(global)?.get(name).map_err(Failure::bad_input)?;
        return profile.sheet().map(Some).map_err(Failure::bad_input);
    }
    let Some(path) = &args.device else { return Ok(None) };
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| Failure::bad_input(format!("{file}: {e}")))?;
    let first =
        |errors: Vec<_>| errors.into_iter().next().map_or_else(|| Failure::failed(&file), Failure::bad_input);
    DeviceSheet::read(&file, &text).map(Some).map_err(first)
}

/// Commands that make sense now.
fn next(out: &Path, profile: &HardwareProfile) -> Vec<String> {
    let (shown, name) = (out.display(), &profile.name);
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(out).display();
    let mut next = vec![
        format!("archplan profiles check {shown}"),
        format!("archplan --profile-dir {parent} profiles fit {name}"),
    ];
    let needed = [KernelFamily::Gemm, KernelFamily::AttentionPrefill, KernelFamily::AttentionDecode];
    if needed.iter().all(|family| profile.tables.contains_key(family)) {
        next.push(format!(
            "archplan --profile-dir {parent} predict --model llama-3.1-8b --profile {name} --concurrency 16 --prompt 1024 \
             --output 512"
        ));
    }
    next
}

fn imported<'a>(args: &Args, import: &'a Import, next: Vec<String>) -> Imported<'a> {
    let draft = &import.draft;
    let mut licences: Vec<&str> = draft.families.iter().map(|f| f.info.licence.as_str()).collect();
    licences.dedup();
    Imported {
        name: &draft.name,
        path: args.out.display().to_string(),
        device: &draft.device.name,
        engine: &draft.stack.engine,
        engine_version: &draft.stack.engine_version,
        licences,
        report: &import.report,
        next,
    }
}

fn count(rows: usize) -> String {
    group_digits(rows as u64, ' ')
}

fn print(args: &Args, import: &Import, next: &[String]) {
    let (draft, report) = (&import.draft, &import.report);
    let licence = draft.families.first().map_or("", |f| f.info.licence.as_str());
    println!(
        "{}: {}, {} {}",
        args.out.display(),
        draft.device.name,
        draft.stack.engine,
        draft.stack.engine_version
    );
    println!("licence of the figures: {licence}");
    println!();
    let mut table = output::table(&["family", "type", "rows"]);
    for family in KernelFamily::TABLES {
        for (kind, rows) in report.kept(family) {
            table.add_row([family.name().to_string(), kind, count(rows)]);
        }
    }
    output::align_right(&mut table, [2]);
    println!("{table}");
    for family in KernelFamily::TABLES.into_iter().filter(|family| report.kept(*family).is_empty()) {
        let fitted = draft.families.iter().any(|f| f.family == family && f.fit.is_some());
        println!(
            "{family}: {}",
            match family == KernelFamily::AllReduce && draft.all_reduce.is_some() {
                _ if fitted => "no rows; its fit was taken over",
                true => "no rows; estimated by the rule of the device sheet",
                false => "no rows; predictions that need it will say so",
            }
        );
    }
    print_skipped(report);
    print_left_out(report);
    println!("\nnext:");
    next.iter().for_each(|command| println!("  {command}"));
}

fn print_skipped(report: &Report) {
    let read: usize = report.files.iter().map(|file| file.rows).sum();
    let reasons = report.reasons();
    let skipped: usize = reasons.iter().map(|(_, rows)| rows).sum();
    println!("\n{} rows read, {} skipped{}", count(read), count(skipped), if skipped > 0 { ":" } else { "" });
    let mut table = output::table(&["rows", "why"]);
    for (reason, rows) in reasons.iter().take(PRINTED) {
        table.add_row([count(*rows), reason.clone()]);
    }
    output::align_right(&mut table, [0]);
    if !reasons.is_empty() {
        println!("{table}");
    }
    if reasons.len() > PRINTED {
        println!("and {} more reasons (see --json)", reasons.len() - PRINTED);
    }
}

fn print_left_out(report: &Report) {
    if report.left_out.is_empty() {
        return;
    }
    println!("\n{} files left out:", report.left_out.len());
    let mut table = output::table(&["file", "why"]);
    for left in report.left_out.iter().take(PRINTED) {
        table.add_row([&left.file, &left.reason]);
    }
    println!("{table}");
    if report.left_out.len() > PRINTED {
        println!("and {} more (see --json)", report.left_out.len() - PRINTED);
    }
}
