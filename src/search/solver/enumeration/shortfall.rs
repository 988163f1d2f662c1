//! Why no shape is feasible: what each budget could reach, alone and beside the others.

use crate::search::solver::enumeration::{Candidate, UniformObjective, evaluate, for_every_slice};
use crate::search::space::{AxisCounts, ShapeIndex};

/// How near the space comes to budgets that it cannot keep together.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortfall {
    /// One entry per budget, in the objective's order.
    pub budgets: Vec<Reach>,
    /// The shape that exceeds its worst budget least.
    pub nearest: Option<Candidate>,
}

/// What the space can do for one budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// Smallest usage over all shapes, and where: above 1, the budget is out of reach even alone.
    pub alone: Option<Usage>,
    /// Smallest usage over the shapes that keep every other budget, and where; `None` if no shape keeps the
    /// others. Relaxing this budget alone by this factor makes the request feasible.
    pub beside_others: Option<Usage>,
}

/// Share of one budget that one shape uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Metric / limit, or limit / metric where more is better.
    pub share: f64,
    /// The shape.
    pub index: ShapeIndex,
}

#[derive(Clone, Copy)]
struct Least(f64, u64);

fn lower(a: Option<Least>, b: Option<Least>) -> Option<Least> {
    [a, b].into_iter().flatten().min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
}

struct Search {
    alone: Vec<Option<Least>>,
    beside: Vec<Option<Least>>,
    worst: Option<Least>,
}

impl Search {
    fn count(&mut self, usages: &[f64], rank: u64) {
        let exceeded = usages.iter().filter(|usage| **usage > 1.0).count();
        for ((usage, alone), beside) in usages.iter().zip(&mut self.alone).zip(&mut self.beside) {
            let here = Some(Least(*usage, rank));
            *alone = lower(*alone, here);
            if exceeded == usize::from(*usage > 1.0) {
                *beside = lower(*beside, here);
            }
        }
        let worst = usages.iter().copied().max_by(f64::total_cmp).unwrap_or(0.0);
        self.worst = lower(self.worst, Some(Least(worst, rank)));
    }

    fn merge(mut self, other: Search) -> Search {
        let join = |mine: &mut Vec<Option<Least>>, theirs: Vec<Option<Least>>| {
            mine.iter_mut().zip(theirs).for_each(|(a, b)| *a = lower(*a, b));
        };
        join(&mut self.alone, other.alone);
        join(&mut self.beside, other.beside);
        self.worst = lower(self.worst, other.worst);
        self
    }
}

impl Shortfall {
    /// Evaluates every shape once more, budget by budget.
    pub fn find<O: UniformObjective>(counts: AxisCounts, objective: &O) -> Self {
        let none = || vec![None; objective.budgets()];
        let found = for_every_slice(
            counts,
            || Search { alone: none(), beside: none(), worst: None },
            |search, hidden, heads| {
                let slice = objective.slice(hidden, heads);
                let mut usages = vec![0.0; objective.budgets()];
                for ffn in 0..counts.ffn {
                    for layers in 0..counts.layers {
                        objective.usages(&slice, ffn, layers, &mut usages);
                        search.count(&usages, counts.rank(ShapeIndex { hidden, heads, ffn, layers }));
                    }
                }
            },
            Search::merge,
        );
        let usage = |least: Least| Some(Usage { share: least.0, index: counts.at(least.1)? });
        let reach = |(alone, beside): (Option<Least>, Option<Least>)| Reach {
            alone: alone.and_then(usage),
            beside_others: beside.and_then(usage),
        };
        Shortfall {
            budgets: found.alone.into_iter().zip(found.beside).map(reach).collect(),
            nearest: found
                .worst
                .and_then(|least| counts.at(least.1))
                .map(|index| Candidate { index, point: evaluate(objective, index) }),
        }
    }
}
