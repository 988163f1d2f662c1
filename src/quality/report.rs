//! Everything there is to say about the shipped prior: coefficients, errors on unseen models, rankings.

use serde::Serialize;

use crate::quality::error::QualityError;
use crate::quality::interval::{self, IntervalScales};
use crate::quality::prior::{QualityPrior, Recovery};
use crate::quality::table;
use crate::quality::validation::{self, LeftOut, Method, RankingScore, Score};

/// One coefficient beside what was believed of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CoefficientReport {
    /// Parameter; its unit is in its name.
    pub name: String,
    /// Fitted value.
    pub value: f64,
    /// Share of what is known of it that came from the table, 0 (all from the law) to 1.
    pub from_table: f64,
    /// Central value believed beforehand.
    pub belief: f64,
    /// Where the belief is from.
    pub belief_source: String,
}

/// The shipped prior, judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualityReport {
    /// Figures the coefficients are fitted on (published ones and means of them).
    pub rows: usize,
    /// Parameters the table pins down, in all: the sum of `from_table`.
    pub effective_parameters: f64,
    /// Share of unseen parents' figures the intervals are made to cover.
    pub coverage: f64,
    /// Half-widths of the interval in units of one point plus the predicted drop.
    pub interval_scale: IntervalScales,
    /// The coefficients.
    pub coefficients: Vec<CoefficientReport>,
    /// Errors on figures the law was not fitted on, and of looking at size alone.
    pub scores: Vec<Score>,
    /// Rank correlation on lists of candidates that set no coefficient (the form of the law was chosen with them
    /// in sight).
    pub rankings: Vec<RankingScore>,
}

/// Judges the shipped prior; refits it once for everything left out (a few seconds).
pub fn report() -> Result<QualityReport, QualityError> {
    let (samples, beliefs) = (table::samples()?, table::beliefs()?);
    let prior = QualityPrior::shipped()?;
    let fitted = prior.fitted();
    let mut scores = Vec::new();
    for method in [Method::Axes, Method::SizeOnly] {
        let parents_out = validation::unseen(method, LeftOut::Parent, &samples, &beliefs)?;
        let scales = validation::interval_scales(&parents_out);
        for left_out in [LeftOut::Child, LeftOut::HeldOut] {
            let unseen = validation::unseen(method, left_out, &samples, &beliefs)?;
            scores.extend(validation::scores(method, left_out, &unseen, &scales));
        }
        scores.extend(validation::scores(method, LeftOut::Parent, &parents_out, &scales));
    }
    let rankings = table::rankings()?
        .iter()
        .map(|list| validation::ranking_score(prior.law(), list, Recovery::STANDARD.billions()))
        .collect::<Result<_, _>>()?;
    let coefficients: Vec<CoefficientReport> = fitted
        .coefficient
        .iter()
        .zip(beliefs)
        .map(|(c, belief)| CoefficientReport {
            name: c.name.clone(),
            value: c.value,
            from_table: c.from_table,
            belief: belief.prior,
            belief_source: belief.source,
        })
        .collect();
    Ok(QualityReport {
        rows: fitted.rows,
        effective_parameters: coefficients.iter().map(|c| c.from_table).sum(),
        coverage: interval::COVERAGE,
        interval_scale: fitted.interval_scale,
        coefficients,
        scores,
        rankings,
    })
}
