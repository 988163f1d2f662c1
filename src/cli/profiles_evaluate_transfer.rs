//! `archplan profiles evaluate-transfer`: devices predicted from each other, against what was measured on them.

use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::transfer::evaluation::{self, TransferScore};

use crate::cli::progress::Steps;
use crate::cli::{Failure, Global, output, profiles};

/// Arguments of `archplan profiles evaluate-transfer`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Each profile is taken for unmeasured in turn and made anew from each of the others and its own data sheet,
with so many of its own rows as calibration points; all its other rows are compared. Points are counted for each
family and element type. Constants are those fitted without the target where there are such.

APE = absolute percentage error; bias > 0 = predicted too slow; coverage = share of rows inside the
stated 90 % interval.

Examples:
  archplan profiles evaluate-transfer h100_sxm a100_sxm --points 0,10,30,100 --seed 1
  archplan --profile-dir my_profiles profiles evaluate-transfer h100_sxm my_gpu --points 30"
)]
pub struct Args {
    /// Measured profiles, two at least
    #[arg(required = true, num_args = 2.., value_name = "PROFILE")]
    names: Vec<String>,
    /// Numbers of calibration points to try
    #[arg(long, value_delimiter = ',', default_value = "0,10,30,100", value_name = "N,...", value_parser = clap::value_parser!(u32).range(0..=500))]
    points: Vec<u32>,
    /// Seed of the draw of rows that points are chosen from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this profile as the target
    #[arg(long, value_name = "PROFILE")]
    target: Option<String>,
}

/// Runs `archplan profiles evaluate-transfer`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let at_hand = profiles::at_hand(global)?;
    let load = |name: &String| at_hand.get(name).map_err(Failure::bad_input);
    let all: Vec<HardwareProfile> = args.names.iter().map(load).collect::<Result<_, _>>()?;
    if let Some(target) = args.target.as_ref().filter(|target| !args.names.contains(target)) {
        return Err(Failure::bad_input(format!(
            "--target {target}: is none of the profiles given ({})",
            args.names.join(", ")
        )));
    }
    let wanted = |name: &str| args.target.as_deref().is_none_or(|target| target == name);
    let pairs: Vec<(&HardwareProfile, &HardwareProfile)> = all
        .iter()
        .flat_map(|target| all.iter().map(move |relative| (relative, target)))
        .filter(|(relative, target)| relative.name != target.name && wanted(&target.name))
        .collect();
    let counts: Vec<usize> = args.points.iter().map(|n| *n as usize).collect();
    let steps = Steps::new(pairs.len() as u64);
    let mut scores = Vec::new();
    for (relative, target) in pairs {
        steps.say(&format!("{} from {}", target.name, relative.name));
        scores
            .extend(evaluation::evaluate(relative, target, &counts, args.seed).map_err(Failure::bad_input)?);
        steps.done();
    }
    if scores.is_empty() {
        return Err(Failure::bad_input("no family and element type is measured on two of these profiles"));
    }
    print(&scores, global)
}

fn print(scores: &[TransferScore], global: &Global) -> Result<(), Failure> {
    if global.json {
        return output::json(&scores);
    }
    let mut table = output::table(&[
        "target",
        "from",
        "family",
        "dtype",
        "points",
        "n",
        "median APE %",
        "mean APE %",
        "p90 APE %",
        "bias %",
        "coverage %",
    ]);
    for s in scores {
        table.add_row(vec![
            s.target.clone(),
            s.relative.clone(),
            s.family.to_string(),
            s.dtype.map_or("-".to_string(), |d| d.to_string()),
            s.points.to_string(),
            s.n.to_string(),
            format!("{:.1}", s.median_ape_percent),
            format!("{:.1}", s.mean_ape_percent),
            format!("{:.1}", s.p90_ape_percent),
            format!("{:+.1}", s.bias_percent),
            format!("{:.0}", s.coverage_percent),
        ]);
    }
    output::align_right(&mut table, 4..11);
    println!("{table}");
    let mut unseen: Vec<String> =
        scores.iter().filter(|s| s.constants_without.is_empty()).map(|s| s.target.clone()).collect();
    unseen.dedup();
    if !unseen.is_empty() {
        println!("Constants are those of all devices for: {}", unseen.join(", "));
    }
    Ok(())
}
