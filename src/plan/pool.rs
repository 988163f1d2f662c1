//! Shapes that are worth trying: the best of a space, its front, and a sample of the rest.

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::hardware::latency::memo::Memo;
use crate::plan::error::PlanError;
use crate::plan::objective::Objective;
use crate::plan::request::Request;
use crate::plan::run::{TIE_NATS, prepare};
use crate::quality::study::line::Candidate;
use crate::search::solver::enumeration::{self, enumerate};

/// How many of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Best feasible shapes, no two of the same hidden size and depth.
    pub best: usize,
    /// Feasible shapes, and infeasible ones, in the sample.
    pub sample: usize,
}

/// Candidates whose standing to the budgets is another under `request` than the study says, as they stand now.
///
/// # Errors
/// As [`crate::plan::run::search`].
pub fn restated(request: &Request<'_>, candidates: &[Candidate]) -> Result<Vec<Candidate>, PlanError> {
    let memos: Vec<Memo<'_>> = request.targets.iter().map(|t| Memo::new(t.machine.costs)).collect();
    let (evaluator, _) = prepare(request, &memos)?;
    let restate = |candidate: &Candidate| {
        let keeps = evaluator.keeps_budgets(&candidate.child.architecture)?;
        Ok((keeps != candidate.feasible).then(|| Candidate { feasible: keeps, ..candidate.clone() }))
    };
    candidates.par_iter().map(restate).filter_map(Result::transpose).collect()
}

/// Candidates of a study. The parent itself is none.
///
/// # Errors
/// As [`crate::plan::run::search`]; a request without scores has none.
pub fn pool(request: &Request<'_>, sizes: Sizes) -> Result<Vec<Candidate>, PlanError> {
    let Some(judge) = request.scores else { return Ok(Vec::new()) };
    let space = request.search_space()?;
    let memos: Vec<Memo<'_>> = request.targets.iter().map(|t| Memo::new(t.machine.costs)).collect();
    let (evaluator, _) = prepare(request, &memos)?;
    let objective = Objective::build(&space, &evaluator)?;
    let options = enumeration::Options {
        finalists: sizes.best,
        loss_tolerance: TIE_NATS,
        sample: sizes.sample,
        seed: request.seed,
    };
    let found = enumerate(space.counts(), &objective, &options)?;
    let all = found.finalists.iter().chain(&found.feasible_front).chain(&found.sample);
    let (mut seen, mut pool) = (BTreeSet::new(), Vec::new());
    let depth = judge.table.parent().depth();
    for candidate in all {
        let Some(architecture) = space.architecture(candidate.index) else { continue };
        if architecture == request.spec.architecture {
            continue;
        }
        let child = judge.table.child(&architecture)?;
        let axes = judge.judge(&child)?.parts.axes();
        let params = objective.costs(candidate.index).first().map_or(0, |cost| cost.params);
        let one = Candidate::new(child, depth, params, candidate.point.is_feasible(), axes);
        if seen.insert(one.id.clone()) {
            pool.push(one);
        }
    }
    Ok(pool)
}
