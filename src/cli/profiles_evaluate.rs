//! `archplan profiles evaluate`: how far a profile's kernel estimates can be trusted.

use std::collections::BTreeSet;
use std::path::PathBuf;

use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::latency::kernel_model::crossval::Split;
use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::latency::kernel_model::evaluation;
use archplan::hardware::latency::kernel_model::members::Rows;
use archplan::hardware::latency::kernel_model::scores::Score;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::table;
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
  archplan profiles evaluate ascend_910b --holdout random --against tables/ascend_910b"
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
    let mut scores = match (&args.holdout, &args.against) {
        (Some(holdout), _) => cross_validated(args, &profile, *holdout)?,
        (None, Some(dir)) => against(&profile, dir)?,
        (None, None) => match profile.evaluation_text() {
            Some(text) => random_only(evaluation::from_csv(&profile.name, text).map_err(Failure::bad_input)?),
            None => cross_validated(args, &profile, Holdout::Random)?,
        },
    };
    scores.retain(|s| args.wants(s.family, s.dtype));
    if scores.is_empty() {
        return Err(Failure::bad_input(nothing(args)));
    }
    print(&scores, global)
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

fn cross_validated(args: &Args, profile: &HardwareProfile, holdout: Holdout) -> Result<Vec<Score>, Failure> {
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
    let mut scores = Vec::new();
    for (rows, pattern, split) in tasks {
        let out = evaluation::holdout_name(rows.family, pattern);
        steps.say(&format!("cross-validate {} {}: {out} out", rows.family, rows.dtype));
        scores.extend(evaluation::cross_validate(rows, &profile.device, pattern, split));
        steps.done();
    }
    scores.extend(reduces.and_then(|rows| evaluation::all_reduce(&profile.name, rows)));
    Ok(scores)
}

fn against(profile: &HardwareProfile, dir: &std::path::Path) -> Result<Vec<Score>, Failure> {
    let rows: Vec<_> = table::read_folder(dir).map_err(Failure::bad_input)?.into_values().flatten().collect();
    let own: Vec<_> = profiles_fit::own_tables(profile)?.into_values().flatten().collect();
    let dtypes: BTreeSet<DType> = profile.tables.values().flat_map(|t| t.dtypes.iter().copied()).collect();
    let dtypes: Vec<DType> = dtypes.into_iter().collect();
    let model = KernelModel::open(profile, &dtypes, &dtypes).map_err(Failure::bad_input)?;
    let result = evaluation::against(&model, &own, &rows);
    if result.seen > 0 {
        log::info!("{} rows of {} are the profile's own and left out", result.seen, dir.display());
    }
    if let Some(gap) = &result.first_gap {
        log::warn!("{} rows cannot be priced; the first: {gap}", result.gaps);
    }
    if own.is_empty() {
        log::info!("`{}` does not carry its rows: rows it was fitted to cannot be told apart", profile.name);
    }
    Ok(result.scores)
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
