//! `archplan verify DIR`: is a checkpoint sound, and will engines load it?

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use archplan::units::{Bytes, format_count};
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::checkpoint::verification::{self, Comparison, Engine, Finding, Severity};
use archplan::weights::surgery::consistency;
use archplan::weights::surgery::directory::RECORD;
use archplan::weights::surgery::record::Record;
use serde::Serialize;

use crate::cli::progress::Steps;
use crate::cli::{Failure, Global, output};

/// Names of tensors printed for people in one list; JSON holds all.
const PRINTED: usize = 20;

/// Arguments of `archplan verify`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan verify pruned/                                 headers, shapes, index, every weight, archplan.json
  archplan verify pruned/ --engine vllm --tp 4            and that vLLM loads it on four devices
  archplan verify copy/ --parent Qwen3-8B/ --json         and that shared tensors have the same bytes

Exit codes: 0 sound, 2 damaged or no checkpoint, 3 sound, but the engine does not load it so or (with --parent)
a tensor has other bytes than the parent's.")]
pub struct Args {
    /// Checkpoint directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Engine that must load it: transformers, vllm or any (problems of either are told but do not count)
    #[arg(long, value_name = "ENGINE", default_value = "any")]
    engine: Engine,
    /// Devices of a tensor-parallel group that must be able to share it
    #[arg(long, value_name = "N", default_value_t = 1)]
    tp: u64,
    /// Checkpoint whose tensors it is compared with, byte by byte where shapes agree
    #[arg(long, value_name = "DIR")]
    parent: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    directory: String,
    model_class: &'static str,
    parameters: u64,
    tensors: usize,
    bytes: u64,
    fingerprint: String,
    engine: Engine,
    tp: u64,
    sound: bool,
    loadable: bool,
    findings: &'a [Finding],
    parent: Option<&'a Comparison>,
}

/// Runs `archplan verify`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let checkpoint = Checkpoint::open(&args.directory).map_err(Failure::bad_input)?;
    let parent = args.parent.as_deref().map(Checkpoint::open).transpose().map_err(Failure::bad_input)?;
    let mut findings = weights(&checkpoint)?;
    findings.extend(verification::surroundings(&checkpoint, args.engine, args.tp));
    findings.extend(record(&checkpoint, parent.as_ref())?);
    findings.sort_by_key(|finding| finding.severity);
    let comparison = parent.as_ref().map(|parent| compare(&checkpoint, parent)).transpose()?;
    let has = |severity| findings.iter().any(|finding| finding.severity == severity);
    let report = Report {
        directory: args.directory.display().to_string(),
        model_class: checkpoint.spec().family.class_name(),
        parameters: parameters(&checkpoint)?,
        tensors: checkpoint.names().count(),
        bytes: checkpoint.total_bytes(),
        fingerprint: checkpoint.fingerprint(),
        engine: args.engine,
        tp: args.tp,
        sound: !has(Severity::Damaged),
        loadable: !has(Severity::NotLoadable),
        findings: &findings,
        parent: comparison.as_ref(),
    };
    match global.json {
        true => output::json(&report)?,
        false => print(&checkpoint, &report, args.parent.as_deref()),
    }
    outcome(&report)
}

fn outcome(report: &Report) -> Result<(), Failure> {
    let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    let directory = &report.directory;
    if !report.sound {
        let defects = match count(Severity::Damaged) {
            1 => "1 defect".to_string(),
            n => format!("{n} defects"),
        };
        return Err(Failure::bad_input(format!("{directory} is damaged: {defects}")));
    }
    if !report.loadable {
        let rules = match count(Severity::NotLoadable) {
            1 => "1 rule is".to_string(),
            n => format!("{n} rules are"),
        };
        let message = format!("{directory} is sound but does not load as asked: {rules} broken");
        return Err(Failure::Infeasible(message));
    }
    match report.parent.map(|parent| parent.different.len()) {
        None | Some(0) => Ok(()),
        Some(n) => {
            let tensors = tensors(n);
            Err(Failure::Infeasible(format!("{tensors} of {directory} with other bytes than the parent's")))
        }
    }
}

fn tensors(count: usize) -> String {
    if count == 1 { "1 tensor".into() } else { format!("{count} tensors") }
}

fn weights(checkpoint: &Checkpoint) -> Result<Vec<Finding>, Failure> {
    let steps = Steps::new(checkpoint.names().count() as u64);
    steps.say("reading every weight");
    verification::weights(checkpoint, |_| steps.done()).map_err(Failure::bad_input)
}

fn compare(checkpoint: &Checkpoint, parent: &Checkpoint) -> Result<Comparison, Failure> {
    let steps = Steps::new(checkpoint.names().count() as u64);
    steps.say("comparing with the parent");
    verification::compare(checkpoint, parent, |_| steps.done()).map_err(Failure::bad_input)
}

/// What is wrong with the record of a surgery, where there is one.
fn record(checkpoint: &Checkpoint, parent: Option<&Checkpoint>) -> Result<Vec<Finding>, Failure> {
    let path = checkpoint.dir().join(RECORD);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::bad_input(format!("cannot read {}: {error}", path.display()))),
    };
    let finding =
        |severity, what: String| Finding { severity, message: format!("{}: {what}", path.display()) };
    let record: Record = match serde_json::from_slice(&text) {
        Ok(record) => record,
        Err(error) => {
            return Ok(vec![finding(Severity::Damaged, format!("no record of a surgery: {error}"))]);
        }
    };
    // Against another model than the one it was made from, kept indices prove nothing.
    let own = parent.filter(|parent| parent.fingerprint() == record.parent.fingerprint);
    let contradictions =
        consistency::contradictions(&record, checkpoint.spec(), own.map(Checkpoint::spec)).into_iter();
    let mut findings: Vec<Finding> = contradictions.map(|what| finding(Severity::Damaged, what)).collect();
    if parent.is_some() && own.is_none() {
        let what = format!("made from another {}: the parent's fingerprint differs", record.parent.name);
        findings.push(finding(Severity::Note, what));
    }
    Ok(findings)
}

/// Numbers in the tensors of the model, strays aside.
fn parameters(checkpoint: &Checkpoint) -> Result<u64, Failure> {
    let mut total = 0;
    for name in checkpoint.names().filter(|name| checkpoint.strays().iter().all(|s| s.name != **name)) {
        let tensor = checkpoint.tensor(name).map_err(Failure::bad_input)?;
        total += tensor.shape.iter().map(|dim| *dim as u64).product::<u64>();
    }
    Ok(total)
}

fn print(checkpoint: &Checkpoint, report: &Report, parent: Option<&Path>) {
    println!(
        "{}: {}, {} parameters in {} tensors, {} in {} files",
        report.directory,
        report.model_class,
        format_count(report.parameters as f64),
        report.tensors,
        Bytes(report.bytes as f64),
        checkpoint.files().count()
    );
    for finding in report.findings {
        let kind = match finding.severity {
            Severity::Damaged => "damaged",
            Severity::NotLoadable => "not loadable",
            Severity::Note => "note",
        };
        println!("{kind}: {}", finding.message);
    }
    if report.sound {
        println!("headers, index and shapes fit config.json; every weight is finite");
    }
    if let (Some(comparison), Some(parent)) = (report.parent, parent) {
        println!("against {}: {} byte-identical", parent.display(), tensors(comparison.identical));
        for (what, names) in [
            ("other bytes", &comparison.different),
            ("another shape or type", &comparison.reshaped),
            ("only here", &comparison.added),
            ("only in the parent", &comparison.removed),
        ] {
            print_names(what, names);
        }
    }
    println!("fingerprint {}", report.fingerprint);
}

fn print_names(what: &str, names: &[String]) {
    if names.is_empty() {
        return;
    }
    println!("{what}: {}", tensors(names.len()));
    names.iter().take(PRINTED).for_each(|name| println!("  {name}"));
    if names.len() > PRINTED {
        println!("  and {} more (see --json)", names.len() - PRINTED);
    }
}
