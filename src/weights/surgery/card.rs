//! The model card of a child.

use crate::model::per_layer;
use crate::model::spec::{Family, ModelSpec};
use crate::units::format_count;
use crate::weights::surgery::record::Record;

/// The text of `README.md`.
pub fn text(record: &Record, child: &ModelSpec) -> String {
    let parent = &record.parent;
    let share = record.parameters as f64 / parent.parameters.max(1) as f64 * 100.0;
    let mut steps = vec![format!("depth: {}", record.options.depth)];
    if record.options.clap {
        let moved: usize = record
            .kept
            .layers
            .iter()
            .map(|layer| layer.groups.iter().filter(|group| group.layer != layer.parent).count())
            .sum();
        steps.push(format!("CLAP: {moved} KV groups of dropped layers moved into kept ones"));
    }
    steps.push(format!("norms: {}", record.options.norm));
    if record.absorbed_post_norms {
        steps.push("post-norms absorbed into the output and down projections".into());
    }
    steps.push(format!("repair: {}", record.options.repair));
    let steps: String = steps.iter().map(|step| format!("- {step}\n")).collect();
    let loading = match (child.config.contains_key(per_layer::KEY), child.family) {
        (true, _) => {
            "\nIts layers have shapes of their own, which config.json lists under `archplan_layers`: no engine reads that, archplan does.\n"
        }
        (_, Family::NemotronNas) => {
            "\nIts layers have shapes of their own (`block_configs`). vLLM loads it with `--trust-remote-code`.\n"
        }
        _ => "",
    };
    let repaired = match (&record.repair_data, record.options.repair) {
        (Some(data), repair) if repair.needs_text() => {
            format!("Refitted on {} sequences ({} tokens) of {}.\n", data.samples, data.tokens, data.path)
        }
        _ => String::new(),
    };
    format!(
        "---\nbase_model: {name}\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- pruned\n- archplan\n---\n\n\
         # {name}, pruned to {shape}\n\n\
         | | parent | this checkpoint |\n|---|---|---|\n| shape | {from} | {shape} |\n| parameters | {of} | {parameters} ({share:.1} %) |\n| class | | {class} |\n\n\
         Pruned by {made_by}; no training has followed. Expect it to need recovery training before use, and measure it\n\
         with `archplan evaluate`.\n\n{steps}{loading}\n{repaired}\n\
         Made with:\n\n```\n{command}\n```\n\n\
         `archplan.json` holds the steps, the kept indices of every layer and the parent's fingerprint `{fingerprint}`.\n",
        name = parent.name,
        shape = record.architecture,
        from = parent.architecture,
        of = format_count(parent.parameters as f64),
        parameters = format_count(record.parameters as f64),
        class = child.family.class_name(),
        made_by = record.made_by,
        command = record.command,
        fingerprint = parent.fingerprint,
    )
}
