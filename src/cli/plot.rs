//! `archplan plot`: draws a plan again from its plan.json.

use std::path::{Path, PathBuf};

use archplan::files;
use archplan::report::bundle;
use archplan::report::chart::{self, CostAxis};

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
    /// What the horizontal axis shows, in the first scenario
    #[arg(long, value_enum, default_value = "throughput")]
    x: Axis,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Axis {
    Throughput,
    Latency,
    Tpot,
    Ttft,
}

impl From<Axis> for CostAxis {
    fn from(axis: Axis) -> Self {
        match axis {
            Axis::Throughput => CostAxis::Throughput,
            Axis::Latency => CostAxis::Latency,
            Axis::Tpot => CostAxis::Tpot,
            Axis::Ttft => CostAxis::Ttft,
        }
    }
}

/// Runs `archplan plot`.
pub fn run(args: &Args, _global: &Global) -> Result<(), Failure> {
    let plan = bundle::read(&args.plan).map_err(Failure::bad_input)?;
    let ending = args.out.extension().map(|e| e.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        Some("svg") => {
            let text = chart::draw_svg(&plan, args.x.into()).map_err(Failure::failed)?;
            files::write_atomically(&args.out, text.as_bytes()).map_err(|e| unwritable(&args.out, &e))?;
        }
        Some("png") => chart::draw_png(&plan, args.x.into(), &args.out).map_err(Failure::failed)?,
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

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}
