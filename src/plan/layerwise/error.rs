//! Why there is no choice per layer. That none meets the budgets is no error: see
//! [`Outcome::Infeasible`](crate::plan::layerwise::Outcome).

use crate::model::architecture::{Architecture, ArchitectureError};
use crate::plan::error::PlanError;
use crate::search::solver::assignment::problem::AssignmentError;

/// Why there is no choice per layer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LayerwiseError {
    /// The request makes no sense, or a profile has a gap.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Budgets that must hold with a chance.
    #[error(
        "a confidence is asked for, but the spread of a figure is no sum over layers: leave the confidence out and \
         tighten the budgets by the margin you want"
    )]
    Confidence,
    /// Nothing to choose from.
    #[error("there is no menu: give one for each hidden size, the parent's at least")]
    NoMenu,
    /// A menu of another model.
    #[error("menu {menu} has choices for {found} layers, the parent has {expected}: give each its choices")]
    Layers {
        /// The menu.
        menu: usize,
        /// Layers it has.
        found: usize,
        /// Layers of the parent.
        expected: u64,
    },
    /// A loss that is no number.
    #[error("menu {menu}, {}: the loss is {found}; give a finite number of nats per token", place(*layer))]
    Loss {
        /// The menu.
        menu: usize,
        /// The layer; none for the hidden size.
        layer: Option<u64>,
        /// What was found.
        found: f64,
    },
    /// A standard deviation that is none.
    #[error("menu {menu}, {}: the standard deviation is {found}; give 0 or more", place(*layer))]
    Spread {
        /// The menu.
        menu: usize,
        /// The layer; none for the hidden size.
        layer: Option<u64>,
        /// What was found.
        found: f64,
    },
    /// A shape the parent cannot be pruned to.
    #[error("menu {menu}, layer {layer}, choice {choice}: {error}")]
    Shape {
        /// The menu.
        menu: usize,
        /// The layer.
        layer: usize,
        /// Position among its choices.
        choice: usize,
        /// What is wrong.
        error: ArchitectureError,
    },
    /// A run that leaves the layers.
    #[error(
        "menu {menu}: run {run} drops {layers} layers from layer {first}; expected one at least, within {all}"
    )]
    RunOutside {
        /// The menu.
        menu: usize,
        /// The run.
        run: usize,
        /// Its first layer.
        first: u64,
        /// Its layers.
        layers: u64,
        /// Layers of the parent.
        all: u64,
    },
    /// Dropping a layer moves the windows of those after it.
    #[error(
        "menu {menu} drops layers, but the model mixes attention windows: a layer dropped would change the windows of \
         those after it; leave drops out (a layer may still lose its attention or its FFN)"
    )]
    MixedWindows {
        /// The menu.
        menu: usize,
    },
    /// No choice of a layer can be run.
    #[error(
        "menu {menu}, layer {layer}: no choice is left that {loadable} can load and the devices can share; offer the \
         parent's own shape at least"
    )]
    NothingLeft {
        /// The menu.
        menu: usize,
        /// The layer.
        layer: usize,
        /// What is to load it.
        loadable: &'static str,
    },
    /// No shape is offered to all layers.
    #[error(
        "menu {menu}: transformers loads layers of one shape only, but no shape is offered to every layer that must \
         stay; offer the parent's own everywhere, or search uniform shapes (without --per-layer)"
    )]
    NothingShared {
        /// The menu.
        menu: usize,
    },
    /// Layers of their own are not known to the engine for such a parent.
    #[error(
        "vLLM loads layers of their own as DeciLM, which has no {what}, but the parent does: allow any engine, or \
         search uniform shapes (without --per-layer)"
    )]
    NotDeciLm {
        /// What the parent has.
        what: &'static str,
    },
    /// A budget that the request does not have.
    #[error("there is no budget {budget} to sweep: the request has {budgets}")]
    NoBudget {
        /// What was asked for.
        budget: usize,
        /// Budgets there are.
        budgets: usize,
    },
    /// A limit that is no positive number.
    #[error("a limit of the front is {found}: give positive numbers")]
    Limit {
        /// What was given.
        found: f64,
    },
    /// The solver refuses the problem.
    #[error("internal error: {0}; please report it")]
    Problem(#[from] AssignmentError),
    /// The search and the full prediction disagree.
    #[error(
        "internal error: search and prediction disagree by {percent} % on {architecture}; please report it"
    )]
    Disagreement {
        /// The shape.
        architecture: Architecture,
        /// By how much, worst figure.
        percent: f64,
    },
}

impl LayerwiseError {
    /// A defect of archplan rather than of the request.
    pub fn is_internal(&self) -> bool {
        match self {
            Self::Plan(error) => error.is_internal(),
            Self::Problem(_) | Self::Disagreement { .. } => true,
            _ => false,
        }
    }
}

fn place(layer: Option<u64>) -> String {
    layer.map_or("hidden size".to_string(), |layer| format!("layer {layer}"))
}
