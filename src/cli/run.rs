//! `archplan run`: a plan file from calibration to report.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use archplan::pipeline::plan_file::PlanFile;
use archplan::pipeline::record::Record;
use archplan::pipeline::run::{self, Driver, Ended, Event, Selection};
use archplan::pipeline::run_error::RunError;
use archplan::pipeline::stage::{Stage, StageName, Word, arguments, shell, shell_words, typed};
use archplan::pipeline::stages::{SUMMARY_MD, Stages};
use archplan::pipeline::work_dir::{WorkDir, WorkDirError};
use archplan::units::Seconds;
use serde_json::{Value, json};

use crate::cli::{Failure, Global, output};

/// Arguments of `archplan run`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan run plan.toml --dry-run             every command, none run
  archplan run plan.toml
  archplan run plan.toml --from prune          prune and what follows again, changed or not
  archplan run plan.toml --until search --json

Stages: calibrate, score (with [score]), search, prune, evaluate, verify, report. Each is one command of this tool and is
run again where its settings, its inputs or its outputs changed; interrupted, the same command goes on. docs/run.md has every
key of a plan file, docs/examples whole ones. Exit codes: those of the stage that failed.")]
pub struct Args {
    /// Plan file
    #[arg(value_name = "FILE")]
    plan: PathBuf,
    /// Folder for everything that is written [default: work_dir of the plan file, else its name with .run]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Run this stage and those after it even where nothing changed
    #[arg(long, value_name = "STAGE")]
    from: Option<StageName>,
    /// Stop after this stage
    #[arg(long, value_name = "STAGE")]
    until: Option<StageName>,
    /// Print the commands and stop
    #[arg(long)]
    dry_run: bool,
}

/// Runs `archplan run`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let plan = PlanFile::read(&args.plan).map_err(Failure::bad_input)?;
    let work = args.work_dir.clone().unwrap_or_else(|| plan.work_dir(&args.plan));
    let stages = Stages::new(&plan, &args.plan, &work, &global.profile_dir);
    if args.dry_run {
        return commands(&stages, global);
    }
    let taken = WorkDir::take(&work).map_err(|error| match error {
        WorkDirError::Occupied { .. } => Failure::bad_input(error),
        _ => Failure::failed(error),
    })?;
    let mut processes = Processes { work: &taken, global, done: Vec::new() };
    let selection = Selection { from: args.from, until: args.until };
    let outcome = run::run(&stages, selection, &taken, &mut processes);
    let failed = match &outcome {
        Err(RunError::Stage { stage, code }) => Some(json!({"stage": stage.name(), "exit_code": code})),
        _ => None,
    };
    if global.json {
        let stages = &processes.done;
        output::json(&json!({"plan_file": args.plan, "work_dir": work, "stages": stages, "failed": failed}))?;
    }
    outcome.map_err(|error| failure(&error, args))?;
    let summary = work.join(SUMMARY_MD);
    let summed_up = args.until.is_none_or(|until| until == StageName::Report);
    if !global.json && summed_up {
        println!("{}", std::fs::read_to_string(&summary).map_err(Failure::failed)?.trim_end());
        println!("\n{} has this page", summary.display());
    }
    Ok(())
}

/// The commands alone.
fn commands(stages: &Stages, global: &Global) -> Result<(), Failure> {
    let lines: Vec<String> = stages.all.iter().map(shell).collect();
    match global.json {
        true => output::json(&json!({"commands": lines})),
        false => {
            lines.iter().for_each(|line| println!("{line}"));
            Ok(())
        }
    }
}

fn failure(error: &RunError, args: &Args) -> Failure {
    let again = || {
        let plan = shell_words(&["run".into(), args.plan.display().to_string()]);
        format!("{error}; its own message is above. When that is put right, `{plan}` goes on from there")
    };
    match error {
        RunError::Stage { code, .. } | RunError::Rehearsal { code } => match code {
            Some(2) => Failure::BadInput(again()),
            Some(3) => Failure::Infeasible(again()),
            _ => Failure::Failed(again()),
        },
        RunError::NoStage(_) | RunError::Nothing { .. } | RunError::Input { .. } => Failure::bad_input(error),
        _ => Failure::failed(error),
    }
}

/// Stages as processes of this very program.
struct Processes<'a> {
    work: &'a WorkDir,
    global: &'a Global,
    /// What is said of each stage at the end.
    done: Vec<Value>,
}

impl Driver for Processes<'_> {
    fn command(&mut self, words: &[Word], keep: bool) -> io::Result<Ended> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments(words));
        if self.global.quiet {
            command.arg("--quiet");
        }
        command.args((0..self.global.verbose).map(|_| "--verbose"));
        // Standard input is empty, and holds the work directory's lock until the process ends, whatever becomes of this one.
        command.stdin(self.work.lock()?);
        // Standard output of the whole is the summary.
        command.stdout(if keep { Stdio::piped() } else { Stdio::from(io::stderr()) });
        let output = command.stderr(Stdio::inherit()).spawn()?.wait_with_output()?;
        Ok(Ended { code: output.status.code(), printed: output.stdout })
    }

    fn hear(&mut self, event: Event<'_>) {
        match event {
            Event::Rehearses { words } => log::info!("first: {}", shell_words(&typed(words))),
            Event::Unchanged { number, stage, record } => {
                let when = record.finished.as_deref().unwrap_or_default();
                log::info!("{} {}: unchanged, from {when}", place(number), stage.name);
                self.done.push(told(stage, "unchanged", None, record));
            }
            Event::Begins { number, stage, reason, at_most } => {
                let time = at_most.map(|s| format!("; {} last time with all that follows", Seconds(s)));
                log::info!("{} {} ({reason}{})", place(number), stage.name, time.unwrap_or_default());
                log::info!("$ {}", shell(stage));
            }
            Event::Done { number, stage, reason, record, elapsed } => {
                let took = Seconds(record.seconds.unwrap_or_default());
                log::info!("{} {}: done in {took}, {} in all", place(number), stage.name, Seconds(elapsed));
                self.done.push(told(stage, "done", Some(reason.to_string()), record));
            }
        }
    }
}

fn place((number, of): (usize, usize)) -> String {
    format!("[{number}/{of}]")
}

fn told(stage: &Stage, status: &str, reason: Option<String>, record: &Record) -> Value {
    let outputs: Vec<String> =
        stage.outputs.iter().map(|output| output.place().path.display().to_string()).collect();
    json!({
        "stage": stage.name.name(),
        "status": status,
        "reason": reason,
        "seconds": record.seconds,
        "finished": record.finished,
        "command": shell(stage),
        "outputs": outputs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Arguments;
    use clap::Parser;
    use std::path::Path;

    #[test]
    fn the_commands_of_every_example_parse() {
        let mut parsed = 0;
        for entry in std::fs::read_dir("docs/examples").unwrap() {
            let path = entry.unwrap().path();
            let plan = PlanFile::read(&path).unwrap_or_else(|error| panic!("{error}"));
            let stages = Stages::new(&plan, &path, Path::new("work"), &[]);
            // Every switch that a plan file knows is in one of the examples or in the tests of `pipeline::stages`.
            for words in stages.all.iter().map(|stage| &stage.words).chain([&stages.rehearsal]) {
                let line = std::iter::once("archplan".into()).chain(arguments(words));
                Arguments::try_parse_from(line).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                parsed += 1;
            }
        }
        assert!(parsed >= 22);
    }
}
