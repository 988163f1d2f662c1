//! `archplan evaluate-serving`: predictions against measured serving runs, seen and unseen by the fit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use archplan::hardware::latency::accuracy::{
    LeftOut, Priced, Score, Skipped, held_out, observe, scores, unconstrained, with_runs,
};
use archplan::hardware::latency::calibration::Observation;
use archplan::hardware::latency::refit::refit;
use archplan::hardware::latency::validation::{
    PUBLISHED_FIGURES, Run, SERVING_RUNS, published_figures, serving_runs,
};
use archplan::hardware::profile::engine::{self, EngineParameters};
use archplan::hardware::profile::registry::Profiles;
use archplan::units::DType;
use comfy_table::Table;
use serde::Serialize;

use crate::cli::{Failure, Global, costs, output};

/// Arguments of `archplan evaluate-serving`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan evaluate-serving                     the shipped runs, seen and left out
  archplan evaluate-serving --data runs.csv     your own runs, with the shipped parameters
  archplan evaluate-serving --refit             fit the shipped runs anew, print the engines' files

Columns of --data: model, hardware, engine, precision, tp, concurrency, prompt_len, output_len,
ttft_ms, tpot_ms; further columns are ignored. Rows of a model, device or engine that is not known
are listed as skipped.")]
pub struct Args {
    /// Score this CSV of serving runs instead of the shipped ones
    #[arg(long, value_name = "FILE", conflicts_with = "refit")]
    data: Option<PathBuf>,
    /// Only runs of this engine
    #[arg(long)]
    engine: Option<String>,
    /// Fit the shipped runs anew and print the engines' files (TOML)
    #[arg(long, conflicts_with_all = ["json", "engine"])]
    refit: bool,
}

#[derive(Serialize)]
struct Report {
    data: String,
    scores: Vec<Score>,
    held_out: Vec<HeldOut>,
    published: Vec<Score>,
    skipped: Vec<Skipped>,
}

#[derive(Serialize)]
struct HeldOut {
    left_out: LeftOut,
    scores: Vec<Score>,
}

/// Runs `archplan evaluate-serving`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    if let Some(name) = &args.engine {
        EngineParameters::built_in(name).map_err(Failure::bad_input)?;
    }
    let wanted = |run: &Run| args.engine.as_ref().is_none_or(|name| *name == run.engine);
    let origin = args.data.as_ref().map_or("shipped serving runs".into(), |path| path.display().to_string());
    let text = match &args.data {
        Some(path) => fs::read_to_string(path)
            .map_err(|error| Failure::BadInput(format!("{}: {error}; give a CSV file", path.display())))?,
        None => SERVING_RUNS.to_string(),
    };
    let mut runs = serving_runs(&text, &origin).map_err(Failure::bad_input)?;
    runs.retain(wanted);
    let mut figures = match args.data {
        Some(_) => Vec::new(),
        None => published_figures(PUBLISHED_FIGURES, "published figures").map_err(Failure::failed)?,
    };
    figures.retain(wanted);
    let devices = price(&[&runs[..], &figures[..]].concat(), global)?;
    if runs.is_empty() && figures.is_empty() {
        let engine = args.engine.as_ref().map(|name| format!(" of engine `{name}`")).unwrap_or_default();
        return Err(Failure::BadInput(format!(
            "{origin}: no runs{engine}; --data FILE brings runs of your own"
        )));
    }
    let (observations, mut skipped) = observe(&runs, &devices);
    let (published, unpublished) = observe(&figures, &devices);
    skipped.extend(unpublished);
    if args.refit {
        return print_refit(&observations, &published);
    }
    let engines = built_in()?;
    let mut report = Report {
        data: origin,
        scores: scores(&observations, &engines),
        held_out: Vec::new(),
        published: scores(&published, &engines),
        skipped,
    };
    if args.data.is_none() {
        let seen = unconstrained(&observations);
        let fitted = with_runs(&engines, &seen);
        for left_out in LeftOut::ALL {
            let scores = held_out(&seen, &fitted, left_out).map_err(Failure::failed)?;
            report.held_out.push(HeldOut { left_out, scores });
        }
    }
    match global.json {
        true => output::json(&report)?,
        false => print_report(&report),
    }
    if report.scores.is_empty() && report.published.is_empty() {
        return Err(Failure::BadInput(format!("{}: every run was skipped", report.data)));
    }
    Ok(())
}

fn built_in() -> Result<Vec<EngineParameters>, Failure> {
    engine::names()
        .into_iter()
        .map(|name| EngineParameters::built_in(name).map_err(Failure::failed))
        .collect()
}

/// Kernel prices of every known device among the runs; an unknown one is reported run by run.
fn price(runs: &[Run], global: &Global) -> Result<BTreeMap<String, Priced>, Failure> {
    let profiles = Profiles::new(&global.profile_dir).map_err(Failure::bad_input)?;
    let mut devices = BTreeMap::new();
    for run in runs {
        if devices.contains_key(&run.profile) || !profiles.names().any(|name| name == run.profile) {
            continue;
        }
        let profile = profiles.get(&run.profile).map_err(Failure::bad_input)?;
        let of_device = || runs.iter().filter(|other| other.profile == run.profile);
        let dtypes: BTreeSet<DType> = of_device().map(|run| run.dtype).collect();
        let kv_dtypes: BTreeSet<DType> = of_device().map(|run| run.kv_dtype).collect();
        let list = |set: BTreeSet<DType>| set.into_iter().collect::<Vec<_>>();
        let costs = Box::new(costs::of(&profile, &list(dtypes), &list(kv_dtypes))?);
        devices.insert(run.profile.clone(), Priced { costs, hbm: profile.device.hbm });
    }
    Ok(devices)
}

fn print_refit(runs: &[Observation], figures: &[Observation]) -> Result<(), Failure> {
    for engine in refit(&built_in()?, runs, figures).map_err(Failure::failed)? {
        println!("# hardware_profiles/engines/{}.toml", engine.name);
        println!("{}", toml::to_string(&engine).map_err(Failure::failed)?);
    }
    Ok(())
}

fn print_report(report: &Report) {
    if !report.scores.is_empty() {
        println!("Predicted against measured, {}\n{}\n", report.data, table(&report.scores));
    }
    for held_out in report.held_out.iter().filter(|h| !h.scores.is_empty()) {
        println!(
            "Left out of the fit: {} at a time\n{}\n",
            held_out.left_out.name(),
            table(&held_out.scores)
        );
    }
    if !report.published.is_empty() {
        println!("Published figures, each cited in the table\n{}\n", table(&report.published));
    }
    for skipped in &report.skipped {
        println!("skipped line {}: {}", skipped.line, skipped.reason);
    }
}

fn table(scores: &[Score]) -> Table {
    let titles = [
        "engine",
        "model",
        "device",
        "figure",
        "n",
        "median APE %",
        "mean %",
        "p90 %",
        "bias %",
        "in interval %",
    ];
    let mut table = output::table(&titles);
    for score in scores {
        let cell = |x: f64| format!("{x:.1}");
        table.add_row([
            score.engine.clone(),
            score.model.clone(),
            score.profile.clone(),
            score.metric.to_string(),
            score.n.to_string(),
            cell(score.median_ape),
            cell(score.mean_ape),
            cell(score.p90_ape),
            format!("{:+.1}", score.bias),
            format!("{:.0}", score.coverage),
        ]);
    }
    output::align_right(&mut table, 4..10);
    table
}
