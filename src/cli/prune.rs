//! `archplan prune`: turns a checkpoint into the chosen shape.

use std::path::{Path, PathBuf};

use archplan::compute::threads;
use archplan::model::architecture::Architecture;
use archplan::model::export::{ChildConfig, Form, child_config};
use archplan::model::loading;
use archplan::model::per_layer;
use archplan::model::spec::ModelSpec;
use archplan::units::{self, Bytes, format_count};
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::checkpoint::fingerprint::hexadecimal;
use archplan::weights::checkpoint::writer::{SHARD_LIMIT, Written};
use archplan::weights::importance::file::Importance;
use archplan::weights::importance::statistics::Sums;
use archplan::weights::masks::file::MaskFile;
use archplan::weights::surgery::directory::{self, Provenance};
use archplan::weights::surgery::operation::Operation;
use archplan::weights::surgery::options::Options;
use archplan::weights::surgery::planning::{self, Planned};
use archplan::weights::surgery::record::{DataRecord, Record, Refit};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cli::device::DeviceArgs;
use crate::cli::progress::Steps;
use crate::cli::surgery_options::{self, DataArgs, SurgeryArgs, repair_text};
use crate::cli::{Failure, Global, mask, output, prune_target};

/// Arguments of `archplan prune`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan prune --model ./parent --target run1 --importance stats.safetensors --out ./child
  archplan prune --model ./parent --target run1/target/config.json --importance stats.safetensors \\
      --repair least-squares --out ./child
  archplan prune --model ./parent --target run1/target.json --importance stats.safetensors \\
      --depth-method 17,18,19 --clap off --norm energy --repair affine --data more.jsonl --out ./child
  archplan prune --model ./parent --target run1 --importance stats.safetensors --out ./child --dry-run

A target.json whose layers have shapes of their own: {\"layers\": [{\"ffn\": 256, \"q_heads\": 8, \"kv_heads\": 4}, …], \"parents\":
[0, 1, 3, …]}; 0 = the layer has none, parents = the parent's layer each one comes from.

The child appears whole or not at all. It is a checkpoint as the parent is one, with its tokenizer and other files,
archplan.json (steps, kept indices, the parent's fingerprint) and a model card. Nothing is trained: a repair solves for weights
on calibration text, which is found through the statistics or given with --data.")]
pub struct Args {
    /// Checkpoint directory to prune (config.json, safetensors)
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Shape to prune to: the folder of a search, a config.json, or a target.json; layers may have shapes of their own
    #[arg(long, value_name = "DIR|FILE")]
    target: PathBuf,
    /// Statistics of the model, from `archplan calibrate`
    #[arg(long, value_name = "FILE")]
    importance: Option<PathBuf>,
    /// What `archplan mask` found, its folder or mask.json: it decides which FFN neurons and KV groups stay
    #[arg(long, value_name = "DIR|FILE", requires = "importance")]
    mask: Option<PathBuf>,
    /// Directory to write; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    surgery: SurgeryArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Largest weight file
    #[arg(long, value_name = "BYTES", help_heading = "Output")]
    shard_size: Option<String>,
    /// Say what would be done, write nothing
    #[arg(long, help_heading = "Output")]
    dry_run: bool,
}

/// Runs `archplan prune`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    args.device.with(|| prune(args, global))
}

fn prune(args: &Args, global: &Global) -> Result<(), Failure> {
    if args.out.exists() && !args.dry_run {
        let out = args.out.display();
        return Err(Failure::bad_input(format!(
            "--out {out} exists: expected a new directory, name another"
        )));
    }
    let parent = Checkpoint::open(&args.model).map_err(Failure::bad_input)?;
    let target = prune_target::read(&args.target, parent.spec())?;
    let importance = args.importance.as_deref().map(|path| statistics(path, &parent)).transpose()?;
    let sums = importance.as_ref().map(|(importance, _)| &importance.sums);
    let options = surgery_options::with_parents(args.surgery.options(), &target, parent.spec())?;
    let mask = args.mask.as_deref().map(mask::finished).transpose()?;
    let planned = plan(&parent, &target.architecture, &options, sums, mask.as_ref())?;
    warn_of_loading(&planned.child);
    if !global.json {
        print_plan(&parent, &planned);
    }
    if args.dry_run {
        return match global.json {
            true => output::json(
                &json!({"kept": planned.cut, "absorbed_post_norms": planned.absorbed, "post_norms": planned.sites, "config": planned.child.config}),
            ),
            false => Ok(()),
        };
    }
    let repairs = options.repair.needs_text() && planned.changes(parent.spec());
    let header = importance.as_ref().map(|(importance, _)| &importance.header);
    let grams = header.is_some_and(|header| header.grams) && args.data.data.is_none();
    let text = match repairs.then(|| repair_text(&args.data, &parent, &args.model, header)) {
        Some(Err(Failure::BadInput(reason))) if grams => {
            log::warn!("{reason}; repairing from the Gram matrices of the statistics");
            None
        }
        text => text.transpose()?,
    };
    let provenance = Provenance {
        command: output::command_line(),
        importance_sha256: importance.as_ref().map(|(_, hash)| hash.clone()),
        mask_sha256: mask.as_ref().map(|(.., hash)| hash.clone()),
        data: text.as_ref().map(|(path, samples)| DataRecord {
            path: path.display().to_string(),
            sha256: samples.data_hash.clone(),
            samples: samples.sequences.len() as u64,
            tokens: samples.sequences.iter().map(|s| s.len() as u64).sum(),
        }),
    };
    let samples = text.as_ref().map(|(_, samples)| samples.sequences.as_slice()).unwrap_or_default();
    let operation = Operation { parent: &parent, planned: &planned, options: &options, sums, samples };
    let limit = args.shard_limit()?;
    let bar = Steps::new(planned.cut.layers.len() as u64);
    let pool = threads::pinned(args.data.threads()).map_err(Failure::failed)?;
    let mut layers_done = |_: usize| bar.done();
    let (record, written) = pool
        .install(|| directory::write(&operation, &args.out, limit, provenance, &mut layers_done))
        .map_err(Failure::failed)?;
    drop(bar);
    report(args, global, &record, &written)
}

/// What will be done, by the criterion's scores or by a mask.
fn plan(
    parent: &Checkpoint,
    target: &Architecture,
    options: &Options,
    sums: Option<&Sums>,
    mask: Option<&(MaskFile, PathBuf, String)>,
) -> Result<Planned, Failure> {
    let planned = match (mask, sums) {
        (Some((mask, path, _)), Some(sums)) => {
            let mut scores = planning::scores(parent, sums, options.criterion).map_err(Failure::bad_input)?;
            mask.rank(&parent.fingerprint(), path, &mut scores).map_err(Failure::bad_input)?;
            planning::plan_by(parent, target, options, sums, &scores)
        }
        _ => planning::plan(parent, target, options, sums),
    };
    planned.map_err(Failure::bad_input)
}

impl Args {
    fn shard_limit(&self) -> Result<u64, Failure> {
        let Some(typed) = &self.shard_size else { return Ok(SHARD_LIMIT) };
        let bytes: Bytes =
            units::parse_bytes(typed).map_err(|e| Failure::bad_input(format!("--shard-size: {e}")))?;
        Ok((bytes.0 as u64).max(1))
    }
}

/// Reads statistics and checks that they are of this model.
pub fn statistics(path: &Path, parent: &Checkpoint) -> Result<(Importance, String), Failure> {
    let importance = Importance::load(path).map_err(Failure::bad_input)?;
    let spec = parent.spec();
    let sandwich = spec.norms == archplan::model::spec::NormLayout::Sandwich;
    importance
        .check_model(&parent.fingerprint(), &spec.architecture, sandwich)
        .map_err(|error| Failure::bad_input(format!("{}: {error}", path.display())))?;
    let bytes = std::fs::read(path).map_err(Failure::failed)?;
    Ok((importance, hexadecimal(&Sha256::digest(bytes))))
}

/// Who will not load the child, and why its shape had to be written in words of our own.
fn warn_of_loading(child: &ModelSpec) {
    if let Ok(ChildConfig { form: Form::PerLayer { reason }, .. }) = child_config(child, &child.architecture)
    {
        log::warn!("the layers are written as `{}`, for archplan alone: {reason}", per_layer::KEY);
    } else {
        for warning in loading::warnings(child, &child.architecture) {
            log::warn!("{warning}");
        }
    }
}

fn print_plan(parent: &Checkpoint, planned: &Planned) {
    let spec = parent.spec();
    println!("{} -> {}", spec.architecture, planned.child.architecture);
    let dropped: Vec<String> =
        planned.cut.layers.iter().flat_map(|layer| &layer.dropped).map(u64::to_string).collect();
    if !dropped.is_empty() {
        let moved: usize = planned
            .cut
            .layers
            .iter()
            .map(|layer| layer.groups.iter().filter(|group| group.layer != layer.parent).count())
            .sum();
        println!("layers dropped: {}; KV groups moved out of them: {moved}", dropped.join(", "));
    }
    for stray in parent.strays() {
        println!("left out: {stray}");
    }
    if !planned.sites.is_empty() {
        let mut table =
            output::table(&["post-norm", "variation of its rms", "share of the update lost if absorbed"]);
        for site in &planned.sites {
            table.add_row([
                format!("layer {} {}", site.layer, site.part),
                format!("{:.3}", site.rms_cv),
                format!("{:.2} %", site.lost_share * 100.0),
            ]);
        }
        output::align_right(&mut table, [1, 2]);
        println!("{table}");
        println!("post-norms are {}", if planned.absorbed { "absorbed" } else { "kept" });
    }
}

fn report(args: &Args, global: &Global, record: &Record, written: &Written) -> Result<(), Failure> {
    if global.json {
        return output::json(&json!({
            "out": args.out,
            "files": written.files,
            "tensors": written.tensors,
            "parameters": written.parameters,
            "bytes": written.bytes,
            "record": record,
        }));
    }
    if !record.repair.is_empty() {
        let mut table = output::table(&["layer", "refitted", "of the stream still missed"]);
        for layer in &record.repair {
            let counts = |refit: &&Refit| refit.strength.is_some() || layer.stream_error.is_none();
            let refitted = layer.refits.iter().filter(counts).count();
            table.add_row([
                layer.layer.to_string(),
                format!("{refitted} of {}", layer.refits.len()),
                layer
                    .stream_error
                    .map_or_else(|| "not known".into(), |share| format!("{:.2} %", share * 100.0)),
            ]);
        }
        output::align_right(&mut table, [0, 1, 2]);
        println!("{table}");
    }
    let share = record.parameters as f64 / record.parent.parameters.max(1) as f64 * 100.0;
    println!(
        "{}: {} parameters ({share:.1} % of the parent's), {} in {} weight files",
        args.out.display(),
        format_count(record.parameters as f64),
        Bytes(written.bytes as f64),
        written.files.len(),
    );
    Ok(())
}
