//! Why there is no plan. "No shape meets the budgets" is no error: see
//! [`Outcome::Infeasible`](crate::plan::record::Outcome).

use crate::hardware::latency::prediction::PredictError;
use crate::hardware::latency::uniform_tables::TablesError;
use crate::plan::record::candidate::Shape;
use crate::quality::error::QualityError;
use crate::quality::scores::error::ScoresError;
use crate::search::solver::enumeration::NotANumber;
use crate::search::space::error::SpaceError;

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Nowhere to run.
    #[error("no target: name a hardware profile with --profile")]
    NoTarget,
    /// Nothing to do.
    #[error("no workload: give --batch or --concurrency with --prompt and --output, or --workload")]
    NoWorkload,
    /// The same target with the same workload twice.
    #[error("{name} is asked for twice: give each profile and workload once")]
    RepeatedScenario {
        /// The scenario.
        name: String,
    },
    /// A confidence that is none.
    #[error("confidence is {found}: give a chance from 0.5 to below 1, such as 0.9")]
    Confidence {
        /// What was given.
        found: f64,
    },
    /// A limit that is no positive number.
    #[error("the limit of {metric} is {found}: give a positive number")]
    Limit {
        /// Name of the metric.
        metric: &'static str,
        /// What was given.
        found: f64,
    },
    /// The space cannot be built.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// A shape cannot be priced in a scenario.
    #[error("{scenario}: {error}")]
    Predict {
        /// The scenario.
        scenario: String,
        /// What is wrong.
        error: PredictError,
    },
    /// The tables of a scenario cannot be built.
    #[error("{scenario}: {error}")]
    Tables {
        /// The scenario.
        scenario: String,
        /// What is wrong.
        error: TablesError,
    },
    /// The loss of a shape cannot be told.
    #[error(transparent)]
    Quality(#[from] QualityError),
    /// No score covers a shape.
    #[error(transparent)]
    Scores(#[from] ScoresError),
    /// Cost or loss of a shape is no number.
    #[error("internal error: {0}; please report it")]
    NotANumber(#[from] NotANumber),
    /// The search and the full prediction disagree on a shape.
    #[error(
        "internal error: search and prediction disagree by {percent} % on {shape:?}; please report it with the command"
    )]
    Disagreement {
        /// The shape.
        shape: Shape,
        /// By how much, worst figure.
        percent: f64,
    },
}

impl PlanError {
    /// A defect of archplan rather than of the request.
    pub fn is_internal(&self) -> bool {
        matches!(self, PlanError::NotANumber(_) | PlanError::Disagreement { .. })
    }
}
