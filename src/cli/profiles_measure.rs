//! `archplan profiles measure`: measures this machine's CPU.

use std::path::PathBuf;
use std::time::Duration;

use archplan::compute::threads;
use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::measure::bench::Bench;
use archplan::hardware::measure::domain::Domain;
use archplan::hardware::measure::draft::{self, Facts, Parts};
use archplan::hardware::measure::elementwise;
use archplan::hardware::measure::host::Host;
use archplan::hardware::measure::journal::{self, Conditions, Journal};
use archplan::hardware::measure::peaks;
use archplan::hardware::measure::session::{self, Measured, Request, Standing};
use archplan::hardware::profile::draft as profile_draft;
use archplan::units::{self, DType};
use serde::Serialize;

use crate::cli::{Failure, Global, arguments, output};

/// Arguments of `archplan profiles measure`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Times the kernels of the tool's own transformer (matrices with f32 and bf16 weights, attention over
prompts and against f32 and bf16 caches, norms) with weights read from memory as in a forward pass. Starts from
a coarse grid and goes on where a model of the rows is least sure, until kept-out rows are predicted within the
target error or the budget is spent. Interrupted, the same command goes on where it was; nothing is lost.
Keep the machine idle while it measures.

Examples:
  archplan profiles measure --out my_profiles/this_cpu
  archplan profiles measure --out my_profiles/this_cpu --budget 20m --target-error 3%
  archplan profiles verify my_profiles/this_cpu            does it predict whole models?"
)]
pub struct Args {
    /// Device to measure; other devices: `archplan profiles collector`
    #[arg(long, default_value = "cpu", value_parser = ["cpu"])]
    device: String,
    /// Folder of the new profile; its last part is the profile's name
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Time to spend: 90s, 5m, 1h
    #[arg(long, default_value = "5m", value_parser = arguments::duration)]
    budget: Duration,
    /// Mean absolute error of kept-out rows at which a table is good enough
    #[arg(long, default_value = "5%", value_parser = arguments::share)]
    target_error: f64,
    /// Threads that measure [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Widest matrix side to cover
    #[arg(long, default_value_t = 4096)]
    max_width: u64,
    /// Most tokens of a pass to cover
    #[arg(long, default_value_t = 1024)]
    max_tokens: u64,
    /// Longest KV cache to cover, in tokens
    #[arg(long, default_value_t = 4096)]
    max_cached: u64,
    /// Seed of the choice of calls
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Licence you give the figures
    #[arg(long, default_value = "not stated")]
    licence: String,
    /// Forget what an interrupted run measured
    #[arg(long)]
    fresh: bool,
    /// Replace the profile in DIR
    #[arg(long)]
    force: bool,
}

/// Most numbers of an operand: 512 MiB of f32, and half as much of bf16.
const OPERAND: usize = 128 << 20;

/// Runs `archplan profiles measure`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let name = profile_draft::check_new(&args.out, args.force).map_err(Failure::bad_input)?;
    let count = arguments::threads(args.threads.map(|n| n as u64));
    let pool = threads::pinned(count).map_err(Failure::failed)?;
    pool.install(|| measure(args, &name, Host::read(count), global))
}

fn measure(args: &Args, name: &str, host: Host, global: &Global) -> Result<(), Failure> {
    let conditions = Conditions {
        archplan: env!("CARGO_PKG_VERSION").to_string(),
        cpu: host.cpu.clone(),
        threads: host.threads,
    };
    let path = journal::path_of(&args.out);
    let (mut journal, known) = Journal::open(&path, &conditions, args.fresh).map_err(Failure::bad_input)?;
    if !known.is_empty() {
        log::info!("taken up: {} rows of {}", known.len(), path.display());
    }
    let share = (host.memory.0 / 32.0) as usize;
    let operand = OPERAND.min(share).max(1 << 20);
    let mut bench = Bench::new(operand);
    let facts = facts(&mut bench);
    log::info!(
        "{}, {} threads: {} TFLOPS of arithmetic, memory read at {} GB/s",
        host.cpu,
        host.threads,
        units::three_digits(facts.arithmetic.tflops()),
        units::three_digits(facts.reading.gbps())
    );
    let request = request(args, operand as u64, &facts);
    let device = draft::device(&host, &facts);
    let tell = &mut |standing: &Standing| say(standing, &request);
    let tables =
        session::run(&mut bench, &device, &request, &mut journal, &known, tell).map_err(Failure::failed)?;
    let points = elementwise::measure();
    let rule = elementwise::rule(&points, facts.reading);
    let parts = Parts {
        name,
        host: &host,
        facts: &facts,
        tables: &tables,
        elementwise: (rule, points.len()),
        date: &arguments::today(),
        licence: &args.licence,
    };
    let draft = draft::draft(&parts).map_err(Failure::failed)?;
    draft.write(&args.out, args.force).map_err(Failure::bad_input)?;
    journal.remove();
    print(args, &tables, request.target, global)
}

fn facts(bench: &mut Bench) -> Facts {
    let (from, to) = bench.halves();
    Facts {
        arithmetic: peaks::arithmetic(),
        reading: peaks::reading(from),
        copying: peaks::copying(from, to),
    }
}

fn request(args: &Args, operand: u64, facts: &Facts) -> Request {
    let families = [KernelFamily::Gemm, KernelFamily::AttentionPrefill, KernelFamily::AttentionDecode];
    let tables = families.into_iter().flat_map(|family| [(family, DType::F32), (family, DType::Bf16)]);
    Request {
        tables: tables.collect(),
        budget: args.budget,
        target: args.target_error,
        seed: args.seed,
        domain: Domain {
            width: args.max_width.max(256),
            tokens: args.max_tokens.max(16),
            cached: args.max_cached.max(16),
            batch: 64,
            operand,
            peak: facts.arithmetic,
        },
    }
}

fn say(standing: &Standing, request: &Request) {
    let clock = |time: Duration| format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60);
    let error = match standing.error {
        Some(error) => {
            format!("kept-out error {:.1} % (target {:.1} %)", error * 100.0, request.target * 100.0)
        }
        None => "coarse grid".to_string(),
    };
    log::info!(
        "[{} of {}] {} {}: {} rows, {error}",
        clock(standing.elapsed),
        clock(request.budget),
        standing.family,
        standing.dtype,
        standing.rows
    );
}

#[derive(Serialize)]
struct Printed {
    family: KernelFamily,
    dtype: DType,
    rows: usize,
    mean_error_percent: Option<f64>,
    target_reached: bool,
    grid_rows: Option<usize>,
    grid_rows_are_a_lower_bound: bool,
}

fn print(args: &Args, tables: &[Measured], target: f64, global: &Global) -> Result<(), Failure> {
    let printed = |table: &Measured| Printed {
        family: table.family,
        dtype: table.dtype,
        rows: table.rows.len(),
        mean_error_percent: table.error.map(|e| e * 100.0),
        target_reached: table.error.is_some_and(|e| e <= target),
        grid_rows: table.grid.map(|(rows, _)| rows),
        grid_rows_are_a_lower_bound: table.grid.is_some_and(|(_, more)| more),
    };
    let printed: Vec<Printed> = tables.iter().map(printed).collect();
    if global.json {
        return output::json(&printed);
    }
    let mut table = output::table(&["family", "dtype", "rows", "mean error %", "a regular grid needs"]);
    output::align_right(&mut table, 2..5);
    for p in &printed {
        let grid = match (p.grid_rows, p.grid_rows_are_a_lower_bound) {
            (None, _) => "-".to_string(),
            (Some(rows), false) => format!("{rows} rows"),
            (Some(rows), true) => format!("more than {rows} rows"),
        };
        table.add_row([
            p.family.name().to_string(),
            p.dtype.to_string(),
            p.rows.to_string(),
            p.mean_error_percent.map_or("-".to_string(), units::three_digits),
            grid,
        ]);
    }
    println!("{table}");
    println!(
        "\nMean error: of rows kept out one at a time. A regular grid: rows it would take to leave the same mean"
    );
    println!("deviation over the range, by the covariance fitted to the rows.");
    if printed.iter().any(|p| !p.target_reached) {
        println!(
            "The target of {:.1} % was not reached everywhere; a larger --budget goes on: --force",
            target * 100.0
        );
    }
    println!(
        "\nNext: archplan profiles verify {0}\n      archplan --profile-dir {0} profiles list",
        args.out.display()
    );
    Ok(())
}
