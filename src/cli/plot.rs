//! `archplan plot`: draws a plan again from its plan.json.

use std::path::{Path, PathBuf};

use archplan::files;
use archplan::names;
use archplan::report::bundle;
use archplan::report::chart::picture::{Picture, XAxis};
use archplan::report::chart::render;

use crate::cli::{Failure, Global};

/// Arguments of `archplan plot`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan plot run1/plan.json --out front.png
  archplan plot run1 --x latency --out latency.svg")]
pub struct Args {
    /// plan.json, or the folder that holds it
    plan: PathBuf,
    /// Picture to write; its ending says how: .svg or .png
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What the horizontal axis shows: throughput, speedup, latency, tpot, ttft, params or memory
    /// [default: throughput, with several scenarios speedup]
    #[arg(long, value_name = "AXIS")]
    x: Option<String>,
    /// Scenario to draw, counted from 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    scenario: usize,
}

/// Runs `archplan plot`.
pub fn run(args: &Args, _global: &Global) -> Result<(), Failure> {
    let plan = bundle::read(&args.plan).map_err(Failure::bad_input)?;
    let (made, ours) = (&plan.recipe.version, env!("CARGO_PKG_VERSION"));
    if made != ours {
        log::warn!("{}: made by archplan {made}, drawn by {ours}", args.plan.display());
    }
    let axis = match &args.x {
        Some(name) => axis(name)?,
        None => XAxis::default_for(&plan),
    };
    let scenarios = plan.scenarios.len();
    if !(1..=scenarios).contains(&args.scenario) {
        return Err(Failure::bad_input(format!("--scenario {}: the plan has {scenarios}", args.scenario)));
    }
    let picture = Picture::new(&plan, axis, args.scenario - 1);
    let ending = args.out.extension().map(|e| e.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        Some("svg") => {
            let text = render::svg(&picture).map_err(Failure::failed)?;
            files::write_atomically(&args.out, text.as_bytes()).map_err(|e| unwritable(&args.out, &e))?;
        }
        Some("png") => render::png(&picture, &args.out).map_err(Failure::failed)?,
        _ => {
            return Err(Failure::bad_input(format!(
                "{}: name a file that ends in .svg or .png",
                args.out.display()
            )));
        }
    }
    log::info!("wrote {}", args.out.display());
    Ok(())
}

fn axis(name: &str) -> Result<XAxis, Failure> {
    let found = XAxis::ALL.iter().find(|(known, _)| *known == name).map(|(_, axis)| *axis);
    found.ok_or_else(|| {
        let known: Vec<&str> = XAxis::ALL.iter().map(|(known, _)| *known).collect();
        let hint = names::did_you_mean(names::closest(name, known.iter().copied()));
        Failure::bad_input(format!("--x {name}: the axes are {}{hint}", known.join(", ")))
    })
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}
