//! Shapes that were really tried, in a plan: their cost predicted, their loss as measured.

use crate::plan::error::PlanError;
use crate::plan::evaluation::{Evaluated, Evaluator};
use crate::plan::record::candidate::TriedShape;

/// Every tried shape that is uniform, fully predicted, with its measured loss.
pub(super) fn evaluate(evaluator: &Evaluator<'_>) -> Result<Vec<Evaluated>, PlanError> {
    let Some(judge) = evaluator.request.scores else { return Ok(Vec::new()) };
    let uniform = judge.tried.iter().filter(|tried| tried.child.architecture.uniform_shape().is_some());
    let one = |tried: &crate::quality::study::judge::TriedChild| {
        let mut evaluated = evaluator.evaluate(&tried.child.architecture, true)?;
        let candidate = &mut evaluated.candidate;
        candidate.dropped_layers = tried.child.dropped(judge.table.parent().depth());
        candidate.quality.loss_increase_nats = tried.loss();
        let nats = tried.measured.mean;
        let retained = evaluator.request.prior.retained_percent(nats, evaluator.request.recovery);
        candidate.quality.accuracy_retained_percent = retained;
        Ok(evaluated)
    };
    uniform.map(one).collect()
}

/// The one that meets the budgets and lost least.
pub(super) fn winner(tried: &[Evaluated]) -> Option<Evaluated> {
    let loss = |evaluated: &&Evaluated| evaluated.candidate.quality.loss_increase_nats.value;
    let feasible = tried.iter().filter(|evaluated| evaluated.candidate.feasible);
    feasible.min_by(|a, b| loss(a).total_cmp(&loss(b))).cloned()
}

/// For the record.
pub(super) fn record(tried: Vec<Evaluated>, evaluator: &Evaluator<'_>) -> Vec<TriedShape> {
    let known = |evaluated: &Evaluated| {
        let judge = evaluator.request.scores?;
        let shape = evaluated.candidate.shape.architecture();
        judge.tried.iter().find(|tried| tried.child.architecture == shape)?.predicted
    };
    let brief = |evaluated: Evaluated| {
        let predicted_loss_nats = known(&evaluated);
        let mut candidate = evaluated.candidate;
        candidate.breakdown.clear();
        candidate.quality.layers.clear();
        TriedShape { candidate, predicted_loss_nats }
    };
    tried.into_iter().map(brief).collect()
}
