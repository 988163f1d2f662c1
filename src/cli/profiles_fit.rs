//! `archplan profiles fit`: learns a profile's kernel estimators and scores them by cross-validation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use archplan::estimate::Source;
use archplan::files;
use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::latency::kernel_model::device_model::{self, LEARNED};
use archplan::hardware::latency::kernel_model::ensemble::Fit;
use archplan::hardware::latency::kernel_model::evaluation;
use archplan::hardware::latency::kernel_model::fit_file::{FitFile, VERSION};
use archplan::hardware::latency::kernel_model::members::Rows;
use archplan::hardware::latency::kernel_model::scores::Score;
use archplan::hardware::profile::table::{self, Row};
use archplan::hardware::profile::{HardwareProfile, Origin};

use crate::cli::progress::Steps;
use crate::cli::{Failure, Global, fit_progress, profiles, profiles_evaluate};

/// Arguments of `archplan profiles fit`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Writes <family>.fit.json and evaluation.csv. A fit of a profile with tables holds only for those
tables: after changing one, fit again. It takes some minutes for tables of 100 000 rows; interrupted,
it goes on with the family and element type it was at.

Examples:
  archplan --profile-dir my_profiles profiles fit l40s
  archplan profiles fit h200_sxm --out /tmp/h200_sxm
  archplan profiles fit ascend_910b --rows tables/ascend_910b --out ascend_910b   grid only"
)]
pub struct Args {
    /// Profile to fit
    name: String,
    /// Fit these tables instead of the profile's own and keep only a coarse grid of them (for rows that
    /// may not be passed on): a folder with gemm.csv, attention_prefill.csv, attention_decode.csv
    #[arg(long, value_name = "DIR")]
    rows: Option<PathBuf>,
    /// Folder to write to [default: the profile's own folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs `archplan profiles fit`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let profile = profiles::at_hand(global)?.get(&args.name).map_err(Failure::bad_input)?;
    let out = match (&args.out, profile.origin()) {
        (Some(out), _) => out.clone(),
        (None, Origin::Folder(folder)) => folder.clone(),
        (None, Origin::BuiltIn) => {
            return Err(Failure::bad_input(format!(
                "`{}` is built in: say where to write with --out DIR",
                args.name
            )));
        }
    };
    let tables = match &args.rows {
        Some(dir) => table::read_folder(dir).map_err(Failure::bad_input)?,
        None => own_tables(&profile)?,
    };
    let sets = row_sets(&profile, &tables);
    if sets.is_empty() {
        return Err(Failure::bad_input(match &args.rows {
            Some(dir) => format!("{}: no tables to fit; they are named <family>.csv", dir.display()),
            None => format!("`{}` has no tables to fit; give some with --rows DIR", args.name),
        }));
    }
    // Now rather than after minutes of fitting.
    std::fs::create_dir_all(&out).map_err(|e| Failure::bad_input(format!("{}: {e}", out.display())))?;
    let steps = Steps::new(sets.iter().map(|rows| Fit::steps(rows.family) as u64).sum());
    let mut scores: Vec<Score> = Vec::new();
    let mut fitted: BTreeMap<KernelFamily, Vec<Fit>> = BTreeMap::new();
    for rows in &sets {
        let what = format!("{} {}, {} rows", rows.family, rows.dtype, rows.seconds.len());
        let coarse = args.rows.is_some();
        let mut part = match fit_progress::load(&out, rows, coarse) {
            Some(part) => {
                steps.say(&format!("taken up: {what}"));
                (0..Fit::steps(rows.family)).for_each(|_| steps.done());
                part
            }
            None => {
                steps.say(&format!("fit {what}"));
                let (fit, of_fit) = match coarse {
                    true => evaluation::fit_coarse(rows, &profile.device, &|| steps.done()),
                    false => evaluation::fit(rows, &profile.device, &|| steps.done()),
                };
                fit_progress::save(&out, rows, coarse, fit, of_fit)?
            }
        };
        fitted.entry(rows.family).or_default().push(part.fit);
        scores.append(&mut part.scores);
    }
    if let Some(rows) = tables.get(&KernelFamily::AllReduce) {
        scores.extend(evaluation::all_reduce(&profile.name, rows).score());
    }
    for (family, fits) in fitted {
        let text = FitFile { version: VERSION, family, fits }.to_text().map_err(Failure::failed)?;
        write(&out.join(format!("{family}.fit.json")), text.as_bytes())?;
    }
    write(&out.join("evaluation.csv"), evaluation::to_csv(&scores).map_err(Failure::failed)?.as_bytes())?;
    fit_progress::clear(&out, &sets);
    profiles_evaluate::print(&scores, global)
}

fn write(path: &std::path::Path, contents: &[u8]) -> Result<(), Failure> {
    files::write_atomically(path, contents).map_err(|e| Failure::failed(format!("{}: {e}", path.display())))
}

/// The measured tables of a profile.
pub fn own_tables(profile: &HardwareProfile) -> Result<BTreeMap<KernelFamily, Vec<Row>>, Failure> {
    let measured =
        KernelFamily::TABLES.into_iter().filter(|f| profile.provenance(*f) == Some(Source::Measured));
    measured.map(|family| Ok((family, profile.rows(family).map_err(Failure::bad_input)?.to_vec()))).collect()
}

/// One set of rows for each family and element type that is learned.
pub fn row_sets(profile: &HardwareProfile, tables: &BTreeMap<KernelFamily, Vec<Row>>) -> Vec<Rows> {
    let of = |family: KernelFamily| tables.get(&family).map(|rows| (family, device_model::by_dtype(rows)));
    LEARNED
        .into_iter()
        .filter_map(of)
        .flat_map(|(family, split)| split.into_iter().map(move |(dtype, rows)| (family, dtype, rows)))
        .map(|(family, dtype, rows)| Rows::measured(family, dtype, &profile.device, &rows))
        .collect()
}
