//! `archplan profiles`: list, show, check, evaluate, fit and import hardware profiles; one file per action.

use std::path::Path;

use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::registry::Profiles;

use crate::cli::{
    Failure, Global, profiles_check, profiles_collector, profiles_diff, profiles_evaluate,
    profiles_evaluate_transfer, profiles_fit, profiles_import, profiles_list, profiles_measure, profiles_new,
    profiles_show, profiles_verify,
};

/// Arguments of `archplan profiles`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan profiles                                  the profiles at hand
  archplan profiles show h200_sxm                    device facts, provenance, what the tables cover
  archplan profiles evaluate h200_sxm                errors of its kernel estimates
  archplan profiles diff h100_sxm h200_sxm           two devices, or two versions of one
  archplan profiles check my_profiles/l40s           every defect of a profile of your own
  archplan profiles collector --device cuda --out collector.py   a program that measures another machine
  archplan --profile-dir my_profiles profiles list   built-in profiles and your own")]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// List the profiles at hand (the default)
    List,
    /// Show a profile's device facts, the provenance of its figures and what its tables cover
    Show(profiles_show::Args),
    /// Check a profile completely and report every defect (exit code 2 if there are any)
    Check(profiles_check::Args),
    /// Show how far the kernel estimates can be trusted, by cross-validation or on rows of yours
    Evaluate(profiles_evaluate::Args),
    /// Compare two profiles: facts, coverage, ratios of their kernels, and a whole model
    Diff(profiles_diff::Args),
    /// Learn the kernel estimators of a profile from its tables
    Fit(profiles_fit::Args),
    /// Write a program that measures another machine and writes its profile there
    Collector(profiles_collector::Args),
    /// Make a profile from measured tables of others
    Import(Box<profiles_import::Args>),
    /// Make a profile for a device known by its data sheet, from a measured relative and points of yours
    New(profiles_new::Args),
    /// Show how well devices are predicted from each other, with and without measured points
    EvaluateTransfer(profiles_evaluate_transfer::Args),
    /// Measure this machine's CPU: a new profile in minutes
    Measure(profiles_measure::Args),
    /// Predict whole models from a profile of this machine's CPU, run them, and compare
    Verify(profiles_verify::Args),
}

/// Runs `archplan profiles`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    match args.action.as_ref().unwrap_or(&Action::List) {
        Action::List => profiles_list::run(global),
        Action::Show(args) => profiles_show::run(args, global),
        Action::Check(args) => profiles_check::run(args, global),
        Action::Evaluate(args) => profiles_evaluate::run(args, global),
        Action::Diff(args) => profiles_diff::run(args, global),
        Action::Fit(args) => profiles_fit::run(args, global),
        Action::Collector(args) => profiles_collector::run(args, global),
        Action::Import(args) => profiles_import::run(args, global),
        Action::New(args) => profiles_new::run(args, global),
        Action::EvaluateTransfer(args) => profiles_evaluate_transfer::run(args, global),
        Action::Measure(args) => profiles_measure::run(args, global),
        Action::Verify(args) => profiles_verify::run(args, global),
    }
}

/// The built-in profiles and those of `--profile-dir`.
pub fn at_hand(global: &Global) -> Result<Profiles, Failure> {
    Profiles::new(&global.profile_dir).map_err(Failure::bad_input)
}

/// A profile by its name, or by the path of its folder.
pub fn named_or_at(global: &Global, text: &str) -> Result<HardwareProfile, Failure> {
    let path = Path::new(text);
    let is_path =
        path.components().count() > 1 || text.starts_with('.') || path.join("profile.toml").is_file();
    let profile = match is_path {
        true => HardwareProfile::load(path),
        false => at_hand(global)?.get(text),
    };
    profile.map_err(Failure::bad_input)
}

/// Engine and version whose kernels were measured.
pub fn stack(profile: &HardwareProfile) -> String {
    format!("{} {}", profile.stack.engine, profile.stack.engine_version)
}
