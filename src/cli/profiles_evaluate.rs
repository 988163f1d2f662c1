//! `archplan profiles evaluate`: how far a profile's kernel estimates can be trusted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::latency::kernel_model::crossval::Split;
use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::latency::kernel_model::evaluation;
use archplan::hardware::latency::kernel_model::members::Rows;
use archplan::hardware::latency::kernel_model::scored::ScoredSet;
use archplan::hardware::latency::kernel_model::scores::Score;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::table;
use archplan::report::kernels::errors::{self, ErrorReport};
use archplan::units::DType;

use crate::cli::progress::Steps;
use crate::cli::{Failure, Global, output, profiles, profiles_fit};

/// Arguments of `archplan profiles evaluate`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Without options: the errors found when the profile was fitted, for rows kept out at random.
APE = absolute percentage error; bias > 0 = predicted too slow; coverage = share of rows inside
the stated 90 % interval.

Examples:
  archplan profiles evaluate h200_sxm
  archplan profiles evaluate h200_sxm --against new_rows      rows the profile has not seen
  archplan profiles evaluate h200_sxm --holdout value         one whole value at a time
  archplan profiles evaluate ascend_910b --holdout random --against tables/ascend_910b
  archplan profiles evaluate h200_sxm --family gemm --out errors     pictures, a page, every row

--out draws rows that the estimators had not seen. Without --against and --holdout it keeps out random
rows now (a minute for a profile of 100 000 rows): stored errors are figures without their rows."
)]
pub struct Args {
    /// Profile to evaluate
    name: String,
    /// Folder of tables to predict (gemm.csv, attention_prefill.csv, attention_decode.csv, all_reduce.csv);
    /// rows the profile has itself are left out
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// Run the cross-validation anew: `random` keeps out 20 % of the rows five times, `value` one whole N, K,
    /// head count or length at a time; on the tables of --against where given
    #[arg(long, value_enum)]
    holdout: Option<Holdout>,
    /// Folder to write errors.html to (one self-contained page), and of each set of rows a picture and a table:
    /// errors_<family>_<dtype>_<kept out>.svg and .csv
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write to --out even where it holds something else (other files are left alone)
    #[arg(long, requires = "out")]
    force: bool,
    /// Only this kernel family
    #[arg(long, value_enum)]
    family: Option<Family>,
    /// Only this element type
    #[arg(long)]
    dtype: Option<DType>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Holdout {
    Random,
    Value,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Family {
    Gemm,
    AttentionPrefill,
    AttentionDecode,
    AllReduce,
}

impl Args {
    fn wants(&self, family: KernelFamily, dtype: Option<DType>) -> bool {
        let named = |f: Family| match f {
            Family::Gemm => KernelFamily::Gemm,
            Family::AttentionPrefill => KernelFamily::AttentionPrefill,
            Family::AttentionDecode => KernelFamily::AttentionDecode,
            Family::AllReduce => KernelFamily::AllReduce,
        };
        self.family.is_none_or(|f| named(f) == family) && self.dtype.is_none_or(|d| Some(d) == dtype)
    }
}

/// Runs `archplan profiles evaluate`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let profile = profiles::at_hand(global)?.get(&args.name).map_err(Failure::bad_input)?;
    if let Some(dir) = &args.out {
        // Now rather than after minutes of training.
        errors::check_target(dir, args.force).map_err(Failure::bad_input)?;
    }
    let stored = profile.evaluation_text().filter(|_| args.out.is_none());
    let sets = match (&args.holdout, &args.against, stored) {
        (Some(holdout), ..) => cross_validated(args, &profile, *holdout)?,
        (None, Some(dir), _) => against(args, &profile, dir)?,
        (None, None, Some(text)) => {
            let scores = evaluation::from_csv(&profile.name, text).map_err(Failure::bad_input)?;
            return print_some(args, random_only(scores), global);
        }
        (None, None, None) => {
            log::info!(
                "keeping out rows at random (a fifth at a time, from small tables one at a time), each predicted by estimators trained without it"
            );
            cross_validated(args, &profile, Holdout::Random)?
        }
    };
    let scores: Vec<Score> = sets.iter().filter_map(ScoredSet::score).collect();
    if scores.is_empty() {
        return Err(Failure::bad_input(nothing(args)));
    }
    if let Some(dir) = &args.out {
        draw(args, &profile, sets, dir)?;
    }
    print(&scores, global)
}

fn print_some(args: &Args, mut scores: Vec<Score>, global: &Global) -> Result<(), Failure> {
    scores.retain(|s| args.wants(s.family, s.dtype));
    if scores.is_empty() {
        return Err(Failure::bad_input(nothing(args)));
    }
    print(&scores, global)
}

fn draw(args: &Args, profile: &HardwareProfile, sets: Vec<ScoredSet>, dir: &Path) -> Result<(), Failure> {
    let report = ErrorReport {
        profile: profile.name.clone(),
        device: profile.device.name.clone(),
        stack: profiles::stack(profile),
        sha256: profile.hash().to_string(),
        command: output::command_line(),
        sets,
    };
    let written = errors::write(&report, dir, args.force).map_err(Failure::failed)?;
    log::info!("wrote {} files; open {}", written.len(), dir.join("errors.html").display());
    Ok(())
}

/// Why there is no score.
fn nothing(args: &Args) -> String {
    let asked = args.against.as_ref().map_or_else(|| format!("`{}`", args.name), |d| d.display().to_string());
    let selection = if args.family.is_some() || args.dtype.is_some() {
        "of this --family and --dtype (an all-reduce has no element type)"
    } else {
        "of a family the profile covers: a folder holds <family>.csv"
    };
    format!("{asked}: no rows to score {selection}")
}

fn random_only(scores: Vec<Score>) -> Vec<Score> {
    scores.into_iter().filter(|s| s.holdout == "random" || s.family == KernelFamily::AllReduce).collect()
}

fn cross_validated(
    args: &Args,
    profile: &HardwareProfile,
    holdout: Holdout,
) -> Result<Vec<ScoredSet>, Failure> {
    let tables = match &args.against {
        Some(dir) => table::read_folder(dir).map_err(Failure::bad_input)?,
        None => profiles_fit::own_tables(profile)?,
    };
    let mut sets = profiles_fit::row_sets(profile, &tables);
    sets.retain(|rows| args.wants(rows.family, Some(rows.dtype)));
    let tasks: Vec<(&Rows, usize, Split)> = sets
        .iter()
        .flat_map(|rows| match holdout {
            Holdout::Random => vec![(rows, 0, Split::Folds(5))],
            Holdout::Value => evaluation::value_patterns(rows.family)
                .into_iter()
                .map(|pattern| (rows, pattern, Split::OneValue))
                .collect(),
        })
        .collect();
    let reduces = tables.get(&KernelFamily::AllReduce).filter(|_| args.wants(KernelFamily::AllReduce, None));
    if tasks.is_empty() && reduces.is_none() {
        return Err(Failure::bad_input(format!(
            "`{}` has no such tables of its own to cross-validate; give some with --against DIR",
            args.name
        )));
    }
    let steps = Steps::new(tasks.len() as u64);
    let mut scored = Vec::new();
    for (rows, pattern, split) in tasks {
        let out = evaluation::holdout_name(rows.family, pattern);
        steps.say(&format!("cross-validate {} {}: {out} out", rows.family, rows.dtype));
        let set = evaluation::cross_validate(rows, &profile.device, pattern, split);
        scored.push(set.with_spreads(tables.get(&rows.family).map_or(&[], Vec::as_slice)));
        steps.done();
    }
    scored.extend(reduces.map(|rows| evaluation::all_reduce(&profile.name, rows)));
    Ok(scored)
}

fn against(args: &Args, profile: &HardwareProfile, dir: &Path) -> Result<Vec<ScoredSet>, Failure> {
    let rows: Vec<_> = table::read_folder(dir).map_err(Failure::bad_input)?.into_values().flatten().collect();
    let own: Vec<_> = profiles_fit::own_tables(profile)?.into_values().flatten().collect();
    let dtypes: BTreeSet<DType> = profile.tables.values().flat_map(|t| t.dtypes.iter().copied()).collect();
    let dtypes: Vec<DType> = dtypes.into_iter().collect();
    let model = KernelModel::open(profile, &dtypes, &dtypes).map_err(Failure::bad_input)?;
    let mut result = evaluation::against(&model, &own, &rows);
    result.sets.retain(|set| args.wants(set.family, set.dtype));
    if result.seen > 0 {
        log::info!("{} rows of {} are the profile's own and left out", result.seen, dir.display());
    }
    if let Some(gap) = &result.first_gap {
        log::warn!("{} rows cannot be priced; the first: {gap}", result.gaps);
    }
    if own.is_empty() {
        log::info!("`{}` does not carry its rows: rows it was fitted to cannot be told apart", profile.name);
    }
    Ok(result.sets)
}

/// Prints scores as a table or as JSON.
pub fn print(scores: &[Score], global: &Global) -> Result<(), Failure> {
    if global.json {
        return output::json(&scores);
    }
    let mut table = output::table(&[
        "family",
        "dtype",
        "kept out",
        "n",
        "median APE %",
        "mean APE %",
        "p90 APE %",
        "bias %",
        "coverage %",
    ]);
    for s in scores {
        table.add_row(vec![
            s.family.to_string(),
            s.dtype.map_or("-".to_string(), |d| d.to_string()),
            s.holdout.clone(),
            s.n.to_string(),
            format!("{:.2}", s.median_ape),
            format!("{:.2}", s.mean_ape),
            format!("{:.1}", s.p90_ape),
            format!("{:+.2}", s.bias),
            format!("{:.0}", s.coverage),
        ]);
    }
    println!("{table}");
    Ok(())
}
