//! The problem and its answer in plain numbers: one choice per group, limited sums of weights.

use serde::{Deserialize, Serialize};

/// One choice: what it loses and what it weighs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Loss, finite; may be negative.
    pub loss: f64,
    /// Weight under each constraint, finite; may be negative.
    pub weights: Vec<f64>,
}

/// One choice that stands for several consecutive groups at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// First group it covers.
    pub first: usize,
    /// Consecutive groups it covers, 1 at least.
    pub groups: usize,
    /// What it loses and weighs for all of them together.
    pub choice: Choice,
}

/// Every group is covered once, by a choice of its own or by a run; the sum of each constraint's weights is at most its
/// capacity; the sum of the losses is to be least.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problem {
    /// Choices of each group.
    pub groups: Vec<Vec<Choice>>,
    /// Choices that cover several groups.
    pub runs: Vec<Run>,
    /// Largest sum of the weights of each constraint.
    pub capacities: Vec<f64>,
}

/// One part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// A group's own choice.
    Choice {
        /// The group.
        group: usize,
        /// Position among its choices.
        choice: usize,
    },
    /// A run.
    Run {
        /// Position among the runs.
        run: usize,
    },
}

/// A way to cover every group.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// In the order of the groups.
    pub picks: Vec<Pick>,
    /// Sum of the losses, in that order.
    pub loss: f64,
    /// Sum of the weights under each constraint, in that order.
    pub weights: Vec<f64>,
}

/// The best assignment found and what is proven of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// The assignment; it keeps every capacity.
    pub assignment: Assignment,
    /// No assignment within the capacities loses less than this (to rounding).
    pub bound: f64,
    /// What the assignment loses beyond `bound`, in the unit of the loss.
    pub gap: f64,
    /// Nodes of the tree that were visited.
    pub nodes: u64,
    /// The search ended before its limit of nodes: `gap` is at most the tolerance asked for.
    pub proven: bool,
    /// Lagrange multiplier of each constraint at the root: loss per unit of capacity, roughly.
    pub multipliers: Vec<f64>,
}

/// A constraint that even the lightest assignment exceeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shortage {
    /// Index of the constraint.
    pub constraint: usize,
    /// The least sum that any assignment has.
    pub least: f64,
    /// The capacity.
    pub capacity: f64,
}

/// How a solve ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With an assignment.
    Solved(Solution),
    /// Proven: no assignment keeps every capacity. Constraints that cannot be met even alone; empty when each can, but
    /// not all together.
    Infeasible(Vec<Shortage>),
    /// Proven: none that keeps every capacity loses less than the cutoff.
    NoneBetter,
    /// The limit of nodes was reached before any assignment was found; none loses less than `bound`.
    Unknown {
        /// Lower bound of the loss.
        bound: f64,
        /// Nodes visited.
        nodes: u64,
    },
}

impl Outcome {
    /// The solution, if there is one.
    pub fn solution(&self) -> Option<&Solution> {
        match self {
            Outcome::Solved(solution) => Some(solution),
            _ => None,
        }
    }
}

/// A problem that is none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AssignmentError {
    /// There is nothing to choose.
    #[error("there are no groups to choose for: give one at least")]
    NoGroups,
    /// Nothing can cover a group, or not together with its neighbours.
    #[error("group {group} cannot be covered: give it a choice, or runs that meet there")]
    Uncovered {
        /// The group.
        group: usize,
    },
    /// A run leaves the groups.
    #[error(
        "run {run} covers {groups} groups from group {first}: expected one at least, within {all} groups"
    )]
    RunOutside {
        /// The run.
        run: usize,
        /// First group.
        first: usize,
        /// Groups it covers.
        groups: usize,
        /// Groups there are.
        all: usize,
    },
    /// Too few or too many weights.
    #[error("{pick:?} has {found} weights: expected {expected}, one per capacity")]
    Weights {
        /// The choice.
        pick: Pick,
        /// Weights it has.
        found: usize,
        /// Number of capacities.
        expected: usize,
    },
    /// A loss or weight is no finite number.
    #[error("{pick:?} loses or weighs {found}: expected a finite number")]
    NotFinite {
        /// The choice.
        pick: Pick,
        /// What was found.
        found: f64,
    },
    /// A capacity is not a number (infinite ones do not bind).
    #[error("capacity {constraint} is {found}: expected a number")]
    Capacity {
        /// The constraint.
        constraint: usize,
        /// What was found.
        found: f64,
    },
    /// A constraint that the problem does not have.
    #[error("there is no constraint {constraint}: the problem has {constraints}")]
    NoConstraint {
        /// What was asked for.
        constraint: usize,
        /// Constraints there are.
        constraints: usize,
    },
}

impl Problem {
    /// Every choice and run with the groups it covers: `(pick, first group, group after the last, choice)`.
    pub(super) fn parts(&self) -> impl Iterator<Item = (Pick, usize, usize, &Choice)> {
        let own = self.groups.iter().enumerate().flat_map(|(group, choices)| {
            let part = move |(choice, c)| (Pick::Choice { group, choice }, group, group + 1, c);
            choices.iter().enumerate().map(part)
        });
        let run = |(run, r)| {
            let Run { first, groups, choice }: &Run = r;
            (Pick::Run { run }, *first, first.saturating_add(*groups), choice)
        };
        own.chain(self.runs.iter().enumerate().map(run))
    }

    /// Whether it is a problem that can be solved.
    ///
    /// # Errors
    /// Which choice, run or capacity is at fault.
    pub fn check(&self) -> Result<(), AssignmentError> {
        let (all, expected) = (self.groups.len(), self.capacities.len());
        if all == 0 {
            return Err(AssignmentError::NoGroups);
        }
        for (run, &Run { first, groups, .. }) in self.runs.iter().enumerate() {
            if groups == 0 || first.checked_add(groups).is_none_or(|next| next > all) {
                return Err(AssignmentError::RunOutside { run, first, groups, all });
            }
        }
        for (pick, _, _, Choice { loss, weights }) in self.parts() {
            if weights.len() != expected {
                return Err(AssignmentError::Weights { pick, found: weights.len(), expected });
            }
            let bad = weights.iter().chain([loss]).find(|value| !value.is_finite());
            if let Some(&found) = bad {
                return Err(AssignmentError::NotFinite { pick, found });
            }
        }
        if let Some(constraint) = self.capacities.iter().position(|c| c.is_nan()) {
            return Err(AssignmentError::Capacity { constraint, found: f64::NAN });
        }
        self.uncovered().map_or(Ok(()), |group| Err(AssignmentError::Uncovered { group }))
    }

    /// The furthest group that can be reached by covering all before it, when the end cannot.
    fn uncovered(&self) -> Option<usize> {
        let mut reached = vec![false; self.groups.len() + 1];
        reached[0] = true;
        for first in 0..self.groups.len() {
            if reached[first] {
                reached[first + 1] |= !self.groups[first].is_empty();
                self.runs.iter().filter(|r| r.first == first).for_each(|r| reached[first + r.groups] = true);
            }
        }
        match reached.last() {
            Some(true) => None,
            _ => reached.iter().rposition(|&reached| reached),
        }
    }

    fn choice(&self, pick: Pick) -> Option<(usize, usize, &Choice)> {
        match pick {
            Pick::Choice { group, choice } => Some((group, 1, self.groups.get(group)?.get(choice)?)),
            Pick::Run { run } => self.runs.get(run).map(|r| (r.first, r.groups, &r.choice)),
        }
    }

    /// Loss and weights of picks in the order of the groups; `None` when they do not cover every group once.
    pub fn assignment(&self, picks: Vec<Pick>) -> Option<Assignment> {
        let (mut loss, mut weights, mut next) = (0.0, vec![0.0; self.capacities.len()], 0);
        for &pick in &picks {
            let (first, groups, choice) = self.choice(pick)?;
            if first != next {
                return None;
            }
            next += groups;
            loss += choice.loss;
            weights.iter_mut().zip(&choice.weights).for_each(|(sum, weight)| *sum += weight);
        }
        (next == self.groups.len()).then_some(Assignment { picks, loss, weights })
    }

    /// Whether an assignment keeps every capacity.
    pub fn holds(&self, assignment: &Assignment) -> bool {
        assignment.weights.iter().zip(&self.capacities).all(|(weight, capacity)| weight <= capacity)
    }
}
