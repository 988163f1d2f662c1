//! `archplan profiles new`: a profile for a device nobody has measured, or measured at a few points.

use std::path::{Path, PathBuf};

use archplan::files;
use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::latency::kernel_model::axes;
use archplan::hardware::latency::kernel_model::device_model::{self, LEARNED};
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::datasheet::Datasheet;
use archplan::hardware::profile::device::Device;
use archplan::hardware::profile::draft;
use archplan::hardware::profile::table;
use archplan::hardware::transfer::carry::Types;
use archplan::hardware::transfer::constants::Constants;
use archplan::hardware::transfer::design;
use archplan::hardware::transfer::points::Points;
use archplan::hardware::transfer::profile_draft::{self, Request};
use archplan::units::DType;
use serde::Serialize;

use crate::cli::{Failure, Global, output, profiles};

/// Arguments of `archplan profiles new`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "What a measured relative's kernels do is carried over by the two data sheets and, where there are some,
corrected by points measured on the device itself. Every estimate of such a profile is marked `estimated`;
docs/transfer.md says how far off they were on devices that were left out.

A data sheet is a TOML file with the keys of [device] (hardware_profiles/README.md), the name of a known device, or
pairs: bf16, fp8, int8 (dense 10^12 operations/s), hbm_gib, hbm_gbps, l2_mib, cores, tile_m, tile_n, tile_k,
interconnect_gbps, name, source. Peaks of bf16, memory, bandwidth and cores must be there.

Examples:
  archplan profiles new l40s --like h100_sxm --datasheet l40s --out my_profiles
  archplan profiles new my_gpu --like h100_sxm --out my_profiles \\
      --datasheet bf16=362,fp8=733,hbm_gib=45,hbm_gbps=864,l2_mib=96,cores=142,interconnect_gbps=32
  archplan profiles new my_gpu --like h100_sxm --datasheet my_gpu.toml --suggest-points 30 --out to_measure
  archplan profiles new my_gpu --like h100_sxm --datasheet my_gpu.toml --calibrate measured --out my_profiles"
)]
pub struct Args {
    /// Name of the profile: lower-case letters, digits, underscores
    name: String,
    /// Measured profile of the device most like it
    #[arg(long, value_name = "PROFILE")]
    like: String,
    /// Data sheet: a TOML file, key=value pairs with commas between, or a known device's name
    #[arg(long, value_name = "SHEET")]
    datasheet: String,
    /// Points measured on the device, in the schema of the tables: a folder of <family>.csv, or one such file;
    /// may be given more than once
    #[arg(long, value_name = "CSV|DIR", conflicts_with = "suggest_points")]
    calibrate: Vec<PathBuf>,
    /// Instead of a profile, write which points to measure, so many of each family and element type: <family>.csv with
    /// the latency left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    suggest_points: Option<u32>,
    /// Folder to write to: the profile's own, or one for profiles, in which it gets its own
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace the profile that is there
    #[arg(long)]
    force: bool,
}

/// What `--json` prints of a profile that was made.
#[derive(Serialize)]
struct Made {
    name: String,
    folder: String,
    relative: String,
    /// Families with their element types.
    families: Vec<Family>,
    /// Keys of the data sheet that were taken from the relative.
    taken_from_relative: Vec<String>,
    remarks: Vec<String>,
}

#[derive(Serialize)]
struct Family {
    family: KernelFamily,
    dtypes: Vec<DType>,
    points: usize,
}

/// Runs `archplan profiles new`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let relative = profiles::at_hand(global)?.get(&args.like).map_err(Failure::bad_input)?;
    let sheet = Datasheet::read(&args.datasheet).map_err(Failure::bad_input)?;
    let (mut device, taken) =
        sheet.complete(&args.datasheet, &relative.device).map_err(Failure::bad_input)?;
    if device.name.is_empty() {
        device.name.clone_from(&args.name);
    }
    if let Some(wanted) = args.suggest_points {
        return suggest(args, &relative, &device, wanted as usize, global);
    }
    let folder =
        if draft::name_of(&args.out) == args.name { args.out.clone() } else { args.out.join(&args.name) };
    draft::check_new(&folder, args.force).map_err(Failure::bad_input)?;
    let request = Request {
        name: &args.name,
        relative: &relative,
        device,
        device_source: source(&sheet, &taken, &relative),
        points: read_points(&args.calibrate)?,
    };
    let outcome = profile_draft::make(&request).map_err(Failure::bad_input)?;
    outcome.draft.write(&folder, args.force).map_err(Failure::bad_input)?;
    let count = |family| outcome.points.get(&family).copied().unwrap_or(0);
    let families = outcome.draft.families.iter().map(|f| (f.family, f.info.dtypes.clone()));
    let all_reduce = outcome.draft.all_reduce.iter().map(|_| (KernelFamily::AllReduce, Vec::new()));
    let made = Made {
        name: args.name.clone(),
        folder: folder.display().to_string(),
        relative: relative.name.clone(),
        families: families
            .chain(all_reduce)
            .map(|(family, dtypes)| Family { family, dtypes, points: count(family) })
            .collect(),
        taken_from_relative: taken.iter().map(ToString::to_string).collect(),
        remarks: outcome.remarks,
    };
    print(&made, global)
}

fn print(made: &Made, global: &Global) -> Result<(), Failure> {
    if global.json {
        return output::json(made);
    }
    println!("{}: estimated, carried over from {}", made.folder, made.relative);
    for Family { family, dtypes, points } in &made.families {
        let types = dtypes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        println!("  {family:18} {types:12} {points} measured points");
    }
    if !made.taken_from_relative.is_empty() {
        let keys = made.taken_from_relative.join(", ");
        log::warn!("not on the data sheet, taken from {}: {keys}", made.relative);
    }
    made.remarks.iter().for_each(|remark| log::info!("{remark}"));
    Ok(())
}

fn source(sheet: &Datasheet, taken: &[&'static str], relative: &HardwareProfile) -> String {
    let own = sheet.source.clone().unwrap_or_else(|| "given to `archplan profiles new`".to_string());
    match taken.is_empty() {
        true => own,
        false => format!("{own}; {} as of {}", taken.join(", "), relative.name),
    }
}

fn read_points(paths: &[PathBuf]) -> Result<Points, Failure> {
    let mut points = Points::new();
    for path in paths {
        for (family, rows) in table::read_located(path).map_err(Failure::bad_input)? {
            let known = points.entry(family).or_default();
            for row in rows {
                if let Some(twice) = known.iter().find(|other| other.row.call == row.row.call) {
                    return Err(Failure::bad_input(format!(
                        "{}: the same call as in {}: keep one of them",
                        row.place, twice.place
                    )));
                }
                known.push(row);
            }
        }
    }
    Ok(points)
}

/// Shapes to suggest are those of the relative's tables; which of them are looked at is always the same.
const SEED: u64 = 1;

fn suggest(
    args: &Args,
    relative: &HardwareProfile,
    device: &Device,
    wanted: usize,
    global: &Global,
) -> Result<(), Failure> {
    let constants = Constants::all().map_err(Failure::failed)?;
    let mut lists: Vec<(PathBuf, String, usize)> = Vec::new();
    for family in LEARNED {
        let Some(of) = constants.of(family) else { continue };
        let mut text = table::columns(family).join(",") + "\n";
        let mut number = 0;
        let types = Types::of(relative, family, device).both;
        for (fit, rows) in device_model::fits(relative, family, &types).map_err(Failure::bad_input)? {
            let measured = rows.iter().flatten().filter_map(|row| Some(axes::coordinates(&row.call)?.2));
            let shapes: Vec<_> = measured.chain(fit.grid.iter().map(|(at, _)| *at)).collect();
            for at in design::choose(&shapes, (family, fit.dtype), device, of, wanted, SEED) {
                let names = axes::names(family).len();
                let sizes: Vec<String> = at.iter().take(names).map(ToString::to_string).collect();
                text.push_str(&format!("{},{},\n", sizes.join(","), fit.dtype));
                number += 1;
            }
        }
        if number > 0 {
            lists.push((args.out.join(format!("{family}.csv")), text, number));
        }
    }
    write_lists(&lists, args.force)?;
    if global.json {
        let suggested: Vec<_> = lists
            .iter()
            .map(|(path, _, points)| Suggested { file: path.display().to_string(), points: *points })
            .collect();
        return output::json(&suggested);
    }
    for (path, _, number) in &lists {
        println!("{}: {number} points to measure; fill in latency_us (microseconds)", path.display());
    }
    Ok(())
}

#[derive(Serialize)]
struct Suggested {
    file: String,
    points: usize,
}

fn write_lists(lists: &[(PathBuf, String, usize)], force: bool) -> Result<(), Failure> {
    let there = |path: &Path| path.exists() && !force;
    if let Some((path, ..)) = lists.iter().find(|(path, ..)| there(path)) {
        return Err(Failure::bad_input(format!(
            "{} exists: choose another folder, or replace it with --force",
            path.display()
        )));
    }
    lists.iter().try_for_each(|(path, text, _)| {
        files::write_atomically(path, text.as_bytes())
            .map_err(|e| Failure::bad_input(format!("{}: {e}", path.display())))
    })
}
