//! How well scores foretell what really tried shapes lose, each predicted without itself.

use serde::Serialize;

use crate::quality::study::Study;
use crate::quality::study::error::StudyError;
use crate::quality::study::estimator::{Estimator, Tried, Z90};
use crate::quality::validation::{kendall, spearman};

/// Fewest tried shapes that are worth judging.
pub const FEWEST: usize = 8;

/// A tried shape, predicted from all others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unseen {
    /// The candidate.
    pub id: String,
    /// What it lost, nats a token.
    pub measured_nats: f64,
    /// Predicted without it, nats a token.
    pub predicted_nats: f64,
    /// Standard deviation of the prediction, nats a token.
    pub deviation_nats: f64,
    /// The sum of its scores, nats a token.
    pub scores_nats: f64,
    /// Parameters.
    pub params: u64,
}

/// How one way to rank agrees with what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Spearman's rank correlation; none where all are alike.
    pub spearman: Option<f64>,
    /// Kendall's tau-b.
    pub kendall: Option<f64>,
    /// Mean absolute error, nats a token; none for a ranking by size.
    pub mean_error_nats: Option<f64>,
    /// Median error relative to what was measured, percent; none for a ranking by size.
    pub median_error_percent: Option<f64>,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Validation {
    /// Tried shapes.
    pub tried: usize,
    /// The estimator, each shape left out in turn, its scales chosen again.
    pub estimator: Agreement,
    /// Sums of scores.
    pub scores: Agreement,
    /// Parameters alone.
    pub size: Agreement,
    /// Share of measured losses within the 90 % interval, percent.
    pub coverage_percent: f64,
    /// Each shape, in the order of the study.
    pub shapes: Vec<Unseen>,
}

/// Judges a study.
///
/// # Errors
/// Fewer than [`FEWEST`] tried shapes.
pub fn validate(study: &Study) -> Result<Validation, StudyError> {
    let found = study.tried();
    let tried = Tried::of(&found);
    if tried.len() < FEWEST {
        return Err(StudyError::TooFew { found: tried.len(), expected: FEWEST });
    }
    let unseen = |(index, (candidate, _)): (usize, &(&crate::quality::study::line::Candidate, _))| {
        let own = *tried.get(index)?;
        let mut others = tried.clone();
        others.remove(index);
        let predicted = Estimator::fit(others).predict(&own.site);
        Some(Unseen {
            id: candidate.id.clone(),
            measured_nats: own.nats,
            predicted_nats: predicted.mean,
            deviation_nats: predicted.deviation.hypot(own.variance.sqrt()),
            scores_nats: own.site.sum(),
            params: candidate.params,
        })
    };
    let shapes: Vec<Unseen> = found.iter().enumerate().filter_map(unseen).collect();
    let within = |s: &&Unseen| (s.measured_nats - s.predicted_nats).abs() <= Z90 * s.deviation_nats;
    let measured: Vec<f64> = shapes.iter().map(|s| s.measured_nats).collect();
    let by = |of: fn(&Unseen) -> f64| shapes.iter().map(of).collect::<Vec<f64>>();
    Ok(Validation {
        tried: shapes.len(),
        estimator: agreement(&by(|s| s.predicted_nats), &measured, true),
        scores: agreement(&by(|s| s.scores_nats), &measured, true),
        size: agreement(&by(|s| -(s.params as f64)), &measured, false),
        coverage_percent: 100.0 * shapes.iter().filter(within).count() as f64 / shapes.len().max(1) as f64,
        shapes,
    })
}

fn agreement(predicted: &[f64], measured: &[f64], of_nats: bool) -> Agreement {
    let errors: Vec<f64> = predicted.iter().zip(measured).map(|(p, m)| (p - m).abs()).collect();
    let mut relative: Vec<f64> =
        errors.iter().zip(measured).filter(|(_, m)| **m > 0.0).map(|(e, m)| 100.0 * e / m).collect();
    relative.sort_by(f64::total_cmp);
    let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
    Agreement {
        spearman: spearman(predicted, measured),
        kendall: kendall(predicted, measured),
        mean_error_nats: of_nats.then_some(mean),
        median_error_percent: relative.get(relative.len() / 2).copied().filter(|_| of_nats),
    }
}
