//! Arguments as typed -> request as meant; one file per subcommand; exit codes.
//!
//! Exit codes: 0 done, 1 failure, 2 usage or bad input, 3 infeasible.

/// The standard macro panics when a reader closes the pipe. Under the same name, so that no subcommand can
/// forget; it must stand before the modules that use it.
macro_rules! println {
    () => { $crate::cli::output::line(format_args!("")) };
    ($($text:tt)*) => { $crate::cli::output::line(format_args!($($text)*)) };
}

mod ablate;
mod arguments;
mod ask;
mod bench;
mod calibrate;
mod calibrate_files;
mod costs;
mod deployment;
mod device;
mod evaluate;
mod evaluate_serving;
#[cfg(test)]
mod examples;
mod fit_progress;
mod mask;
mod models;
mod output;
mod plot;
mod predict;
mod profiles;
mod profiles_check;
mod profiles_collector;
mod profiles_diff;
mod profiles_evaluate;
mod profiles_evaluate_transfer;
mod profiles_fit;
mod profiles_import;
mod profiles_list;
mod profiles_measure;
mod profiles_new;
mod profiles_show;
mod profiles_verify;
mod progress;
mod prune;
mod prune_target;
mod quality;
mod run;
mod score;
mod score_files;
mod search;
mod search_layers;
mod search_print;
mod search_scores;
mod search_target;
mod study;
mod study_show;
mod surgery_options;
mod tell;
mod tries;
mod verify;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Plan a smaller architecture for a latency budget, from measured kernels.
#[derive(Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Examples:
  archplan search --model qwen3-32b --profile ascend_910b --tp 4 --dtype int8 --batch 64 \\
      --prompt 2048 --output 1024 --speedup 1.3x --out run1
  archplan predict --model llama-3.1-8b --profile h200_sxm --concurrency 16 \\
      --prompt 1024 --output 512
  archplan models
  archplan profiles

Quantities take units where they are typed (20ms, 40GiB, 6B, 2500tok/s, 1.3x) and carry them
where they are printed; keys of JSON end in theirs. Data goes to standard output, messages to standard error.
Exit codes: 0 done, 1 failure, 2 usage or bad input, 3 no allowed shape meets the request.";

/// Options every subcommand takes.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Print JSON on stdout instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// Folder with further hardware profiles (one folder per profile); may be given more than once
    #[arg(long, global = true, value_name = "DIR")]
    pub profile_dir: Vec<PathBuf>,
    /// Print less on stderr: errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more on stderr (-v, -vv)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Find the shape to prune to, the front around it, and the proof that no allowed shape is better
    Search(Box<search::Args>),
    /// Do all of it from one file: calibrate, search, prune, evaluate, verify, report; what is done stays done
    Run(run::Args),
    /// Predict latency, throughput and memory of one model in one shape
    Predict(predict::Args),
    /// Turn a checkpoint into the chosen shape
    Prune(Box<prune::Args>),
    /// Prune in memory with one step of the surgery after the other, and measure what each is worth
    Ablate(Box<ablate::Args>),
    /// Draw a plan again from its plan.json
    Plot(plot::Args),
    /// List the built-in models and show what a config.json describes
    Models(models::Args),
    /// List, show, check and evaluate hardware profiles
    Profiles(profiles::Args),
    /// Loss, perplexity and agreement with its parent of a checkpoint, on text
    Evaluate(evaluate::Args),
    /// Compare predictions with measured serving runs
    EvaluateServing(evaluate_serving::Args),
    /// Find out what in a checkpoint matters, from its activations on calibration text
    Calibrate(Box<calibrate::Args>),
    /// Measure what each change of one block costs, for searches that know the checkpoint
    Score(Box<score::Args>),
    /// Search for the FFN neurons and KV groups to keep by forward passes of masked parents alone
    Mask(Box<mask::Args>),
    /// Hand out the shapes of a study to try next
    Ask(ask::Args),
    /// Say what tried shapes of a study lost
    Tell(tell::Args),
    /// Show what a study has tried, and how well scores foretold it
    Study(study_show::Args),
    /// Prune to shapes that were asked for, for real, and measure what they lose
    Try(Box<tries::Args>),
    /// Show the quality prior: coefficients, errors on unseen models, rank correlations
    Quality(quality::Args),
    /// Check a checkpoint: headers, shapes, index, every weight, and whether engines load it
    Verify(verify::Args),
}

/// Why a command did not end with 0.
#[derive(Debug)]
pub enum Failure {
    /// The input is at fault (exit code 2).
    BadInput(String),
    /// Something else went wrong (exit code 1).
    Failed(String),
    /// The request is sound but has no answer (exit code 3).
    Infeasible(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::BadInput(message) | Failure::Failed(message) | Failure::Infeasible(message) => {
                f.pad(message)
            }
        }
    }
}

impl Failure {
    /// The input is at fault.
    pub fn bad_input(error: impl std::fmt::Display) -> Self {
        Failure::BadInput(error.to_string())
    }
    /// Something else went wrong.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Failure::Failed(error.to_string())
    }
}

/// Parses the command line, runs, and maps the outcome to an exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(&arguments.global);
    let outcome = match &arguments.command {
        Command::Calibrate(args) => calibrate::run(args, &arguments.global),
        Command::Models(args) => models::run(args, &arguments.global),
        Command::Evaluate(args) => evaluate::run(args, &arguments.global),
        Command::EvaluateServing(args) => evaluate_serving::run(args, &arguments.global),
        Command::Score(args) => score::run(args, &arguments.global),
        Command::Predict(args) => predict::run(args, &arguments.global),
        Command::Profiles(args) => profiles::run(args, &arguments.global),
        Command::Plot(args) => plot::run(args, &arguments.global),
        Command::Run(args) => run::run(args, &arguments.global),
        Command::Search(args) => search::run(args, &arguments.global),
        Command::Prune(args) => prune::run(args, &arguments.global),
        Command::Ablate(args) => ablate::run(args, &arguments.global),
        Command::Mask(args) => mask::run(args, &arguments.global),
        Command::Ask(args) => ask::run(args, &arguments.global),
        Command::Tell(args) => tell::run(args, &arguments.global),
        Command::Study(args) => study_show::run(args, &arguments.global),
        Command::Try(args) => tries::run(args, &arguments.global),
        Command::Quality(args) => quality::run(args, &arguments.global),
        Command::Verify(args) => verify::run(args, &arguments.global),
    };
    let (message, code) = match outcome.and_then(|()| output::finish()) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => (message, 1),
        Err(Failure::BadInput(message)) => (message, 2),
        Err(Failure::Infeasible(message)) => (message, 3),
    };
    // Not `eprintln!`, which panics when nobody reads the errors.
    let _ = writeln!(io::stderr(), "error: {message}");
    ExitCode::from(code)
}

fn start_log(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => log::LevelFilter::Error,
        (false, 0) => log::LevelFilter::Info,
        (false, 1) => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .format(|out, record| match record.level() {
            log::Level::Info => writeln!(out, "{}", record.args()),
            level => writeln!(out, "{}: {}", level.as_str().to_lowercase(), record.args()),
        })
        .init();
}
