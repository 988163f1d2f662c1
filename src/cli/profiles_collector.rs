//! `archplan profiles collector`: one Python file that measures another machine and writes its profile there.

use std::fs;
use std::path::PathBuf;

use archplan::files;
use archplan::hardware::collector::point::{self, Point};
use archplan::hardware::collector::points::{self, Wanted};
use archplan::hardware::collector::program;
use archplan::hardware::collector::target::Target;
use archplan::hardware::profile::device::Granularity;
use archplan::model::read;
use archplan::model::spec::ModelSpec;
use archplan::units;
use serde_json::Value;

use crate::cli::{Failure, Global, output};

/// Arguments of `archplan profiles collector`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "The file needs Python 3.9 and PyTorch (on Ascend with torch_npu) where it runs, and nothing else:
copy it there, run it, copy the folder it writes back. `python3 collector.py --help` says more.
With --json the points are printed instead of the program.

Examples:
  archplan profiles collector --device cuda --out collector.py
  archplan profiles collector --device npu --model qwen3-32b --tp 1,2,4 --out collector.py
  archplan profiles collector --device cpu --budget 30m --most-points 500 --out -"
)]
pub struct Args {
    /// Device to measure
    #[arg(long)]
    device: Device,
    /// File to write; `-` for standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    /// Measure this model's calls too, and its pruned children's: a built-in model, config.json or checkpoint
    /// directory; may be given more than once
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// Tensor-parallel degrees of those models
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1")]
    tp: Vec<u64>,
    /// Multiple that the children's hidden size keeps
    #[arg(long, value_name = "N", default_value_t = 256)]
    multiple_hidden: u64,
    /// Multiple that the children's FFN width keeps
    #[arg(long, value_name = "N", default_value_t = 512)]
    multiple_ffn: u64,
    /// Measure these points and no others: JSON or CSV, see docs/formats.md
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "most_points"])]
    points: Option<PathBuf>,
    /// Keep the first N points, which are the coarsest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    most_points: Option<u32>,
    /// Time the program may take there, such as 30m [default: until all points are measured]
    #[arg(long, value_name = "TIME")]
    budget: Option<String>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Device {
    /// A GPU, through torch.cuda
    Cuda,
    /// An Ascend NPU, through torch_npu
    Npu,
    /// The host
    Cpu,
}

impl Device {
    fn target(self) -> Target {
        match self {
            Device::Cuda => Target::Cuda,
            Device::Npu => Target::Npu,
            Device::Cpu => Target::Cpu,
        }
    }
}

/// Runs `archplan profiles collector`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let budget = args.budget.as_deref().map(units::parse_duration).transpose();
    let budget = budget.map_err(|e| Failure::bad_input(format!("--budget: {e}")))?;
    let target = args.device.target();
    let list = list(args, target)?;
    let all: Vec<Value> = list.iter().map(|point| point.to_json()).collect();
    let to_stdout = args.out.as_os_str() == "-";
    if global.json && to_stdout {
        return output::json(&all);
    }
    let text = match global.json {
        true => serde_json::to_string(&all).map_err(Failure::failed)?,
        false => program::text(target, &list, budget).map_err(Failure::failed)?,
    };
    if to_stdout {
        println!("{}", text.trim_end());
        return Ok(());
    }
    files::write_atomically(&args.out, text.as_bytes())
        .map_err(|e| Failure::failed(format!("{}: {e}", args.out.display())))?;
    let out = args.out.display();
    log::info!(
        "{out}: {} points for a {} device; there: python3 {out} --out my_device",
        list.len(),
        target.name()
    );
    Ok(())
}

fn list(args: &Args, target: Target) -> Result<Vec<Point>, Failure> {
    if let Some(path) = &args.points {
        let shown = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|e| Failure::bad_input(format!("{shown}: {e}")))?;
        return point::read(&text, &shown).map_err(Failure::bad_input);
    }
    for (flag, value) in [("--multiple-hidden", args.multiple_hidden), ("--multiple-ffn", args.multiple_ffn)]
    {
        if value == 0 {
            return Err(Failure::bad_input(format!("{flag} is 0: give 1 at least")));
        }
    }
    if args.tp.contains(&0) {
        return Err(Failure::bad_input("--tp holds 0: give 1 at least"));
    }
    let models: Vec<ModelSpec> = args
        .model
        .iter()
        .map(|name| read::resolve(name))
        .collect::<Result<_, _>>()
        .map_err(Failure::bad_input)?;
    let mut limits = target.limits();
    limits.points = args.most_points.map_or(limits.points, |most| most as usize);
    let granularity = Granularity { hidden: args.multiple_hidden, ffn: args.multiple_ffn };
    Ok(points::points(&Wanted { target, models: &models, tp: &args.tp, granularity, limits }))
}
