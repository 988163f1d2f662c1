//! `archplan search --per-layer`: a shape for each layer, exact, beside the uniform one.

use archplan::estimate::{Estimate, Source};
use archplan::plan::layerwise::loadable::Loadable;
use archplan::plan::layerwise::{self, Ask, Outcome, scored};
use archplan::plan::record::Plan;
use archplan::plan::record::layerwise::{LayerPick, Layerwise, PerLayer};
use archplan::plan::request::Request;
use archplan::quality::scores::table::Child;
use archplan::quality::study::judge::Judge;
use archplan::quality::study::line::Candidate;
use archplan::search::solver::assignment::Options;
use clap::ValueEnum;

use crate::cli::{Failure, output};

/// Nodes visited at most, over all hidden sizes.
const NODES: u64 = 4_000_000;

/// What is to load the child, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoadableArg {
    /// No matter: archplan reads it
    Any,
    /// vLLM's DeciLM classes: layers of unlike FFN widths and KV heads
    Vllm,
    /// transformers: layers that stay share one shape
    Transformers,
}

impl From<LoadableArg> for Loadable {
    fn from(typed: LoadableArg) -> Self {
        match typed {
            LoadableArg::Any => Self::Any,
            LoadableArg::Vllm => Self::Vllm,
            LoadableArg::Transformers => Self::Transformers,
        }
    }
}

/// The choice per layer that loses least by the scores.
pub fn solve(request: &Request<'_>, loadable: Loadable) -> Result<Option<Layerwise>, Failure> {
    let Some(judge) = request.scores else { return Ok(None) };
    let space = request.search_space().map_err(Failure::bad_input)?;
    let menus = scored::menus(&judge.table, &space).map_err(Failure::bad_input)?;
    let options = Options { nodes: NODES, ..Options::default() };
    let ask = Ask { request, menus: &menus, loadable, options };
    match layerwise::search(&ask).map_err(Failure::bad_input)? {
        Outcome::Found(found) => Ok(Some(*found)),
        Outcome::Infeasible(short) => {
            let lines: Vec<String> = short
                .iter()
                .map(|s| {
                    format!("{}: the nearest is {}", s.metric.limit(s.limit), s.metric.format(s.nearest))
                })
                .collect();
            log::warn!(
                "no choice per layer meets the budgets{}{}",
                if lines.is_empty() { "" } else { "; " },
                lines.join("; ")
            );
            Ok(None)
        }
        Outcome::Undecided { bound_nats, nodes } => {
            log::warn!(
                "no choice per layer was found in {nodes} nodes; none loses less than {bound_nats:.4} nats a token"
            );
            Ok(None)
        }
    }
}

/// The child that a solution stands for.
fn child(found: &Layerwise) -> Child {
    Child { architecture: found.architecture.clone(), kept: found.parents.clone() }
}

/// The solution as a candidate of a study.
pub fn candidate(found: &Layerwise, judge: &Judge) -> Result<Candidate, Failure> {
    let child = child(found);
    let axes = judge.table.parts(&child).map_err(Failure::bad_input)?.axes();
    Ok(Candidate::new(child, judge.table.parent().depth(), found.params, true, axes))
}

/// Puts a solution into the plan. It is preferred where it loses less than the uniform shape: as measured where both were
/// tried, else as predicted.
pub fn attach(plan: &mut Plan, found: Layerwise, judge: &Judge, loadable: Loadable) -> Result<(), Failure> {
    let child = child(&found);
    let predicted = judge.judge(&child).map_err(Failure::bad_input)?.loss;
    let measured = judge.tried.iter().find(|tried| tried.child == child).map(|tried| tried.loss());
    let own = measured.unwrap_or(predicted);
    let chosen = plan.chosen.as_ref().map(|chosen| chosen.quality.loss_increase_nats);
    let comparable =
        |other: &Estimate| (own.source == Source::Measured) == (other.source == Source::Measured);
    let preferred = match chosen {
        Some(chosen) if comparable(&chosen) => own.value < chosen.value,
        // Only one of them was measured: predictions against each other.
        Some(_) => plan
            .finalists
            .first()
            .is_none_or(|best| predicted.value < best.candidate.quality.loss_increase_nats.value),
        None => true,
    };
    plan.per_layer = Some(Box::new(PerLayer {
        loadable: loadable.name().to_string(),
        found,
        predicted_loss_nats: predicted,
        measured_loss_nats: measured,
        preferred,
    }));
    Ok(())
}

/// What became of each layer.
pub fn print(plan: &Plan) {
    let Some(per_layer) = &plan.per_layer else { return };
    let found = &per_layer.found;
    println!("Layer by layer, for {}", per_layer.loadable);
    let mut table =
        output::table(&["parent's layers", "FFN", "query heads", "KV heads", "score, nats a token"]);
    for (from, to, pick, nats) in runs(&found.picks) {
        let layers = if from == to { from.to_string() } else { format!("{from}-{to}") };
        let size = |of: fn(&archplan::model::architecture::LayerShape) -> u64| {
            pick.shape.as_ref().map_or_else(|| "-".to_string(), |shape| of(shape).to_string())
        };
        let what = if pick.shape.is_some() { layers } else { format!("{layers} dropped") };
        table.add_row([
            what,
            size(|s| s.ffn),
            size(|s| s.q_heads),
            size(|s| s.kv_heads),
            format!("{nats:+.4}"),
        ]);
    }
    output::align_right(&mut table, 1..5);
    println!("{table}");
    let search = &found.search;
    let proof = match search.proven {
        true => "proven least by the scores".to_string(),
        false => format!("within {:.4} nats of the least by the scores", search.gap_nats),
    };
    let measured =
        per_layer.measured_loss_nats.map(|e| format!(", measured {:+.4}", e.value)).unwrap_or_default();
    println!(
        "hidden size {}, {} parameters; sum of scores {:+.4}, predicted {:+.4} ({:+.4} to {:+.4}){measured} nats a token; {proof}, {} nodes\n{}\n",
        found.architecture.hidden,
        archplan::units::format_count(found.params as f64),
        found.loss_increase_nats.value,
        per_layer.predicted_loss_nats.value,
        per_layer.predicted_loss_nats.low,
        per_layer.predicted_loss_nats.high,
        search.nodes,
        match per_layer.preferred {
            true => "It loses less than the uniform shape: target/ is this one",
            false => "The uniform shape loses no more: target/ is that one",
        }
    );
}

/// Picks that follow each other and are alike: first and last layer, the pick, the sum of scores.
fn runs(picks: &[LayerPick]) -> Vec<(u64, u64, LayerPick, f64)> {
    let mut runs: Vec<(u64, u64, LayerPick, f64)> = Vec::new();
    for pick in picks {
        let end = pick.layer + pick.layers - 1;
        match runs.last_mut() {
            Some((_, last, before, nats)) if before.shape == pick.shape && *last + 1 == pick.layer => {
                *last = end;
                *nats += pick.loss_nats;
            }
            _ => runs.push((pick.layer, end, *pick, pick.loss_nats)),
        }
    }
    runs
}
