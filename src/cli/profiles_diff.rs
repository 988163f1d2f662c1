//! `archplan profiles diff`: two profiles against each other.

use std::path::PathBuf;

use archplan::estimate::Estimate;
use archplan::hardware::comparison::difference;
use archplan::hardware::comparison::ratios::RatioBin;
use archplan::hardware::latency::prediction::{Machine, Prediction, predict};
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::engine::EngineParameters;
use archplan::model::read;
use archplan::model::spec::ModelSpec;
use archplan::model::workload::{Deployment, Load, Workload};
use archplan::report::kernels::difference::{
    self as report, Change, DifferenceReport, Effect, EffectTime, Named, SetSummary, Summary,
};
use archplan::units::{DType, Seconds, three_digits};

use crate::cli::{Failure, Global, costs, output, profiles, profiles_list};

/// Arguments of `archplan profiles diff`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Ratios are B / A: below 1, B is faster. Calls that both profiles measured are compared as measured; where
there is none, estimates are, at calls that are stated. Faster and slower count calls on which the
two differ by more than the spread of their repeats (of estimates: than their 90 % intervals).

Examples:
  archplan profiles diff h100_sxm h200_sxm
  archplan profiles diff old/h200_sxm new/h200_sxm --out difference     two versions of an engine
  archplan profiles diff h100_sxm h200_sxm --model qwen3-8b --prompt 2048 --batch 8 --json"
)]
pub struct Args {
    /// First profile: a name (see `archplan profiles list`) or a folder
    a: String,
    /// Second profile
    b: String,
    /// Folder to write difference.html to (one self-contained page), and of each set of calls a picture and a table:
    /// difference_<family>_<dtype>.svg and .csv
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write to --out even where it holds something else (other files are left alone)
    #[arg(long, requires = "out")]
    force: bool,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "A whole model on both")]
struct ModelArgs {
    /// Built-in model name, config.json or checkpoint directory: predict one static batch of it with both profiles
    #[arg(long)]
    model: Option<String>,
    /// Sequences of the batch
    #[arg(long, value_name = "N", default_value_t = 8, requires = "model")]
    batch: u64,
    /// Prompt tokens of each
    #[arg(long, value_name = "TOKENS", default_value_t = 2048, requires = "model")]
    prompt: u64,
    /// Output tokens of each
    #[arg(long, value_name = "TOKENS", default_value_t = 128, requires = "model")]
    output: u64,
    /// Serving engine whose overheads are added; none: kernels only
    #[arg(long, default_value = "none", requires = "model")]
    engine: String,
    /// Tensor-parallel degree (devices per replica)
    #[arg(long, default_value_t = 1, requires = "model")]
    tp: u64,
    /// Type of weights and matrix operands: bf16, fp8 or int8
    #[arg(long, default_value = "bf16", requires = "model")]
    dtype: DType,
    /// Type of the KV cache
    #[arg(long, default_value = "bf16", requires = "model")]
    kv_dtype: DType,
}

/// Runs `archplan profiles diff`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let (a, b) = (profiles::named_or_at(global, &args.a)?, profiles::named_or_at(global, &args.b)?);
    if let Some(dir) = &args.out {
        report::check_target(dir, args.force).map_err(Failure::bad_input)?;
    }
    let model = args.model.effect(&a, &b)?;
    let difference = difference::compare(&a, &b).map_err(Failure::bad_input)?;
    let mut remarks = Vec::new();
    if difference.other_device {
        remarks.push(format!(
            "two devices, {} and {}: ratios compare the machines as well as their software",
            a.device.name, b.device.name
        ));
    }
    if a.hash() == b.hash() {
        remarks.push("both profiles hold the same files".to_string());
    }
    let summary = Summary {
        a: named(&a),
        b: named(&b),
        remarks,
        facts: difference.facts.clone(),
        sets: difference.sets.iter().map(SetSummary::of).collect(),
        model,
    };
    if let Some(dir) = &args.out {
        let report =
            DifferenceReport { summary: summary.clone(), difference, command: output::command_line() };
        let written = report::write(&report, dir, args.force).map_err(Failure::failed)?;
        log::info!("wrote {} files; open {}", written.len(), dir.join("difference.html").display());
    }
    match global.json {
        true => output::json(&summary),
        false => {
            print(&summary);
            Ok(())
        }
    }
}

fn named(profile: &HardwareProfile) -> Named {
    Named {
        name: profile.name.clone(),
        origin: profiles_list::origin(profile),
        device: profile.device.name.clone(),
        stack: profiles::stack(profile),
        sha256: profile.hash().to_string(),
    }
}

/// A figure of a prediction, in seconds, with its key in milliseconds.
type Figure = (&'static str, fn(&Prediction) -> Estimate);

impl ModelArgs {
    fn effect(&self, a: &HardwareProfile, b: &HardwareProfile) -> Result<Option<Effect>, Failure> {
        let Some(model) = &self.model else { return Ok(None) };
        let spec = read::resolve(model).map_err(Failure::bad_input)?;
        let engine = EngineParameters::built_in(&self.engine).map_err(Failure::bad_input)?;
        let on = |profile: &HardwareProfile| self.predict(profile, &spec, &engine);
        let (on_a, on_b) = (on(a)?, on(b)?);
        let times: [Figure; 3] = [
            ("prefill_ms", Prediction::ttft),
            ("decode_step_ms", Prediction::tpot),
            ("latency_ms", Prediction::latency),
        ];
        let time = |(key, of): Figure| {
            let (a, b) = (of(&on_a).map(|s| Seconds(s).ms()), of(&on_b).map(|s| Seconds(s).ms()));
            EffectTime { key, a, b, ratio: b.value / a.value }
        };
        Ok(Some(Effect {
            model: spec.name.clone(),
            deployment: format!(
                "batch {}, {} + {} tokens, tp {}, {} (KV {}), engine {}",
                self.batch, self.prompt, self.output, self.tp, self.dtype, self.kv_dtype, self.engine
            ),
            times: times.map(time).into(),
        }))
    }

    fn predict(
        &self,
        profile: &HardwareProfile,
        spec: &ModelSpec,
        engine: &EngineParameters,
    ) -> Result<Prediction, Failure> {
        let (tp, dtype, kv_dtype) = (self.tp, self.dtype, self.kv_dtype);
        let deployment = Deployment { engine: engine.name.clone(), tp, dtype, kv_dtype };
        let workload = Workload { load: Load::Batch(self.batch), prompt: self.prompt, output: self.output };
        let costs = costs::of(profile, &[dtype], &[kv_dtype])?;
        let machine = Machine { costs: &costs, hbm: profile.device.hbm, engine };
        let predicted = predict(machine, spec, &spec.architecture, &deployment, &workload);
        let predicted = predicted.map_err(Failure::bad_input)?;
        if !predicted.memory.fits() {
            log::warn!("{}: the batch does not fit its memory; times are given all the same", profile.name);
        }
        Ok(predicted)
    }
}

fn print(summary: &Summary) {
    for (letter, profile) in [("A", &summary.a), ("B", &summary.b)] {
        println!("{letter}: {} ({}), {}, {}", profile.name, profile.origin, profile.device, profile.stack);
    }
    for remark in &summary.remarks {
        println!("{remark}");
    }
    if !summary.facts.is_empty() {
        println!("\nStatements that differ");
        for fact in &summary.facts {
            let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".to_string());
            let (a, b) = (side(&fact.a), side(&fact.b));
            match a.chars().count() + b.chars().count() {
                0..=70 => println!("  {:<39} {a}  ->  {b}", fact.key),
                _ => println!("  {}\n    A  {a}\n    B  {b}", fact.key),
            }
        }
    }
    print_sets(summary);
    for set in summary.sets.iter().filter(|set| set.ratios.is_some()) {
        print_set(set);
    }
    if let Some(effect) = &summary.model {
        print_effect(effect);
    }
}

fn name(set: &SetSummary) -> String {
    set.dtype.map_or_else(|| set.family.to_string(), |dtype| format!("{} {dtype}", set.family))
}

fn print_sets(summary: &Summary) {
    println!("\nCalls, and ratios B / A (below 1: B is faster)");
    let titles = [
        "kernels",
        "only A",
        "only B",
        "both",
        "n",
        "median",
        "p10",
        "p90",
        "geo. mean",
        "faster %",
        "slower %",
    ];
    let mut table = output::table(&titles);
    for set in &summary.sets {
        let mut cells = vec![name(set)];
        cells.extend([set.only_a, set.only_b, set.both].map(|n| n.to_string()));
        match &set.ratios {
            Some(of) => {
                cells.push(of.n.to_string());
                let ratios = [of.median_ratio, of.p10_ratio, of.p90_ratio, of.geometric_mean_ratio];
                cells.extend(ratios.map(|ratio| format!("{ratio:.3}")));
                cells.extend([of.faster_percent, of.slower_percent].map(|share| format!("{share:.0}")));
            }
            None => cells.resize(titles.len(), "-".to_string()),
        }
        table.add_row(cells);
    }
    output::align_right(&mut table, 1..titles.len());
    println!("{table}");
    for set in &summary.sets {
        println!("{}: {}", name(set), set.basis);
    }
}

fn print_set(set: &SetSummary) {
    println!("\n{}: largest changes", name(set));
    let mut table = output::table(&["call", "A µs", "B µs", "B / A"]);
    let shown = set.gained.iter().take(5).chain(set.lost.iter().take(5).rev());
    for Change { call, a_us, b_us, ratio, .. } in shown {
        table.add_row([call.clone(), three_digits(*a_us), three_digits(*b_us), format!("{ratio:.3}")]);
    }
    output::align_right(&mut table, 1..4);
    println!("{table}\n\n{}: by decade", name(set));
    let mut table =
        output::table(&["axis", "from", "below", "n", "median", "p10", "p90", "faster %", "slower %"]);
    for RatioBin { axis, stretch, ratios } in &set.by_decade {
        let mut cells = vec![axis.to_string()];
        cells.extend([stretch.low, stretch.high].map(|end| end.to_string()));
        cells.push(ratios.n.to_string());
        let figures = [ratios.median_ratio, ratios.p10_ratio, ratios.p90_ratio];
        cells.extend(figures.map(|ratio| format!("{ratio:.3}")));
        cells.extend([ratios.faster_percent, ratios.slower_percent].map(|share| format!("{share:.0}")));
        table.add_row(cells);
    }
    output::align_right(&mut table, 1..9);
    println!("{table}");
}

fn print_effect(effect: &Effect) {
    println!("\n{}: {}", effect.model, effect.deployment);
    let mut table = output::table(&["", "A ms", "90 % interval", "B ms", "90 % interval", "B / A"]);
    let interval = |e: Estimate| format!("{} - {}", three_digits(e.low), three_digits(e.high));
    for EffectTime { key, a, b, ratio } in &effect.times {
        let words = key.trim_end_matches("_ms").replace('_', " ");
        let (a, b) = ([three_digits(a.value), interval(*a)], [three_digits(b.value), interval(*b)]);
        let mut cells = vec![words];
        cells.extend(a.into_iter().chain(b));
        cells.push(format!("{ratio:.3}"));
        table.add_row(cells);
    }
    output::align_right(&mut table, 1..6);
    println!("{table}");
}
