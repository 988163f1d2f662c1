//! What `archplan search` says: scenario and space before, shapes, budgets and files after.

use std::path::PathBuf;

use archplan::estimate::Estimate;
use archplan::plan::record::candidate::{Candidate, Metrics, TriedShape};
use archplan::plan::record::{Binding, Budget, Metric, Plan};
use archplan::plan::request::Request;
use archplan::search::space::SearchSpace;
use archplan::units::{format_count, three_digits};
use comfy_table::Table;
use serde_json::json;

use crate::cli::{Failure, Global, output, search_layers};

/// Rows of the front that are shown; all of them are in front.csv.
const SHOWN: usize = 12;

/// Scenario, budgets and space, before anything is searched.
pub fn before(request: &Request<'_>, space: &SearchSpace, global: &Global) -> Result<(), Failure> {
    if global.json {
        return Ok(());
    }
    println!("{} {}", request.spec.name, request.spec.architecture);
    for scenario in request.scenarios() {
        println!("on {}", scenario.name);
    }
    let limits: Vec<String> = request.budgets.iter().map(|b| b.metric.limit(b.limit)).collect();
    let chance =
        request.confidence.map(|c| format!(", each with a chance of {c} at least")).unwrap_or_default();
    match limits.is_empty() {
        true => println!("no budget: the parent itself loses nothing; the front shows the trade-offs"),
        false => println!("budget: {}{chance}", limits.join(", ")),
    }
    println!("\nSearch space\n{space}\n");
    Ok(())
}

/// The space alone, for `--dry-run --json`.
pub fn space_json(request: &Request<'_>, space: &SearchSpace) -> Result<(), Failure> {
    let axes: Vec<_> = space
        .summary()
        .into_iter()
        .map(|a| json!({ "name": a.axis.name(), "parent": a.parent, "multiple": a.multiple, "values": a.values }))
        .collect();
    let scenarios: Vec<String> = request.scenarios().into_iter().map(|s| s.name).collect();
    output::json(&json!({ "scenarios": scenarios, "space": { "size": space.size(), "axes": axes } }))
}

/// The plan and the files that hold it.
pub fn after(plan: &Plan, written: &[PathBuf], global: &Global) -> Result<(), Failure> {
    if global.json {
        output::json(plan)?;
    } else {
        println!("Shapes");
        for (i, scenario) in plan.scenarios.iter().enumerate() {
            println!("{}", marked(plan, i, &scenario.name));
        }
        if !plan.budgets.iter().all(|b| b.checks.is_empty()) {
            println!("Budgets\n{}\n", budgets(plan));
        }
        println!("Front: {} shapes{}\n{}\n", plan.front.len(), thinned(plan), front(plan));
        search_layers::print(plan);
        let search = &plan.search;
        println!(
            "{} in {:.2} s, {}: {}",
            search.method,
            search.elapsed_s,
            space_words(plan),
            search.optimality
        );
        match &plan.recipe.request.scores {
            Some(scores) => {
                print_tried(plan);
                println!(
                    "Losses are from scores measured on the parent and {} tries (`archplan study`), before any training.",
                    scores.tries
                );
            }
            None => {
                println!("Accuracy is a prior from published tables of other models: see `archplan quality`.")
            }
        }
    }
    for path in written {
        log::info!("wrote {}", path.display());
    }
    Ok(())
}

/// Shapes that were tried, least loss first, and how to prune to the chosen one.
fn print_tried(plan: &Plan) {
    if !plan.tried.is_empty() {
        let mut table =
            numbers(&["tried", "shape", "params", "loss predicted", "loss measured", "speedup", "in budget"]);
        let mut tried: Vec<_> = plan.tried.iter().collect();
        let loss = |t: &TriedShape| t.candidate.quality.loss_increase_nats.value;
        tried.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
        for (at, tried) in tried.iter().take(SHOWN).enumerate() {
            let mut row = start((at + 1).to_string(), &tried.candidate);
            row.extend([
                tried.predicted_loss_nats.as_ref().map_or_else(|| "-".to_string(), nats),
                nats(&tried.candidate.quality.loss_increase_nats),
                tried.candidate.worst_speedup().map_or_else(String::new, |s| format!("{:.3}", s.value)),
                if tried.candidate.feasible { "yes" } else { "no" }.to_string(),
            ]);
            table.add_row(row);
        }
        println!(
            "Tried: {} shapes, really pruned and measured; nats a token above the parent\n{table}\n",
            tried.len()
        );
    }
    if let Some(chosen) = plan.chosen.as_ref().filter(|chosen| !chosen.dropped_layers.is_empty()) {
        let layers: Vec<String> = chosen.dropped_layers.iter().map(u64::to_string).collect();
        println!("The chosen shape drops layers {}, as its target.json says\n", layers.join(", "));
    }
}

/// A loss with its interval.
fn nats(e: &Estimate) -> String {
    match e.low == e.high {
        true => format!("{:+.4}", e.value),
        false => format!("{:+.4} ({:+.4} to {:+.4})", e.value, e.low, e.high),
    }
}

/// Title and value of what a shape loses: by scores the loss, else the accuracy.
fn lost(plan: &Plan) -> (&'static str, fn(&Candidate) -> String) {
    match plan.recipe.request.scores {
        Some(_) => ("loss, nats a token", |c| nats(&c.quality.loss_increase_nats)),
        None => ("accuracy kept %", |c| interval(&c.quality.accuracy_retained_percent)),
    }
}

fn space_words(plan: &Plan) -> String {
    format!("{} of {} shapes meet every budget", plan.search.feasible, plan.search.enumerated)
}

fn interval(e: &Estimate) -> String {
    match e.low == e.high {
        true => three_digits(e.value),
        false => format!("{} ({}-{})", three_digits(e.value), three_digits(e.low), three_digits(e.high)),
    }
}

type Column = (&'static str, fn(&Metrics) -> &Estimate);

const COLUMNS: [Column; 6] = [
    ("TTFT ms", |m| &m.ttft_ms),
    ("TPOT ms", |m| &m.tpot_ms),
    ("latency ms", |m| &m.latency_ms),
    ("tok/s", |m| &m.output_tokens_per_s),
    ("speedup", |m| &m.speedup),
    ("GiB/device", |m| &m.memory_gib),
];

/// Parent, chosen and knee in one scenario, with intervals: 90 % of costs, 80 % of accuracy.
fn marked(plan: &Plan, scenario: usize, name: &str) -> String {
    let (title, value) = lost(plan);
    let mut table = numbers(&[&[name, "shape", "params"], &COLUMNS.map(|c| c.0)[..], &[title]].concat());
    let rows =
        [("parent", Some(&plan.parent)), ("chosen", plan.chosen.as_ref()), ("knee", plan.knee.as_ref())];
    for (label, candidate) in rows.into_iter().filter_map(|(l, c)| Some((l, c?))) {
        let Some(metrics) = candidate.metrics.get(scenario) else { continue };
        let mut row = start(label.to_string(), candidate);
        row.extend(COLUMNS.map(|(_, of)| interval(of(metrics))));
        row.push(value(candidate));
        table.add_row(row);
    }
    format!("{table}\n")
}

fn start(label: String, candidate: &Candidate) -> Vec<String> {
    let shape = candidate.shape.architecture().to_string();
    vec![label, shape, format_count(candidate.params as f64)]
}

fn budgets(plan: &Plan) -> Table {
    let mut table = numbers(&["budget", "scenario", "chosen", "P(holds)"]);
    let checks = plan.budgets.iter().flat_map(|b| b.checks.iter().map(move |c| (b, c)));
    for (Budget { metric, limit, .. }, check) in checks {
        let scenario = check.scenario.and_then(|i| plan.scenarios.get(i)).map_or("", |s| s.name.as_str());
        table.add_row([
            metric.limit(*limit),
            scenario.to_string(),
            metric.format(check.value.value),
            format!("{:.2}", check.probability),
        ]);
    }
    table
}

fn thinned(plan: &Plan) -> String {
    if plan.front.len() > SHOWN { format!(", {SHOWN} of them") } else { String::new() }
}

/// The front of the first scenario, evenly thinned.
fn front(plan: &Plan) -> Table {
    let by_scores = plan.recipe.request.scores.is_some();
    let title = if by_scores { "loss, nats a token" } else { "accuracy kept %" };
    let mut table = numbers(&["", "shape", "params", "tok/s", "speedup", "TPOT ms", title, "in budget"]);
    let last = plan.front.len().saturating_sub(1);
    let shown = plan.front.len().min(SHOWN);
    for i in 0..shown {
        let at = (i * last).checked_div(shown - 1).unwrap_or(0);
        let Some(candidate) = plan.front.get(at) else { continue };
        let Some(metrics) = candidate.metrics.first() else { continue };
        let mut row = start((at + 1).to_string(), candidate);
        row.extend([
            three_digits(metrics.output_tokens_per_s.value),
            format!("{:.3}", metrics.speedup.value),
            three_digits(metrics.tpot_ms.value),
            match by_scores {
                true => format!("{:+.4}", candidate.quality.loss_increase_nats.value),
                false => format!("{:.1}", candidate.quality.accuracy_retained_percent.value),
            },
            if candidate.feasible { "yes" } else { "no" }.to_string(),
        ]);
        table.add_row(row);
    }
    table
}

fn numbers(titles: &[&str]) -> Table {
    let mut table = output::table(titles);
    output::align_right(&mut table, 2..titles.len());
    table
}

/// Which budgets bind, and the nearest value any shape reaches.
pub fn infeasible(plan: &Plan, binding: &[Binding]) -> String {
    let line = |b: &Binding| {
        let scenario = b.scenario.and_then(|i| plan.scenarios.get(i));
        let on = scenario.map(|s| format!(" on {}", s.name)).unwrap_or_default();
        let shape = b.shape.architecture();
        format!(
            "  {}{on}: the nearest is {} ({shape})",
            b.metric.limit(b.limit),
            nearest(b.metric, b.nearest)
        )
    };
    let lines: Vec<String> = binding.iter().map(line).collect();
    format!(
        "none of {} shapes meets the budgets; these bind:\n{}\nwiden the space (--max-width-prune, --max-depth-prune, --multiple) or the budget",
        plan.search.enumerated,
        lines.join("\n")
    )
}

fn nearest(metric: Metric, value: f64) -> String {
    metric.format(value)
}
