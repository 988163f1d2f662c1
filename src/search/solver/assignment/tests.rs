//! Against trying every assignment of small problems, and properties of larger ones.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::search::solver::assignment::front::front;
use crate::search::solver::assignment::problem::{
    Assignment, AssignmentError, Choice, Outcome, Pick, Problem, Run,
};
use crate::search::solver::assignment::{Options, Start, solve};

/// Tries every way to cover the groups from `next` on.
fn brute_force(problem: &Problem, next: usize, picks: &mut Vec<Pick>, best: &mut Option<Assignment>) {
    if next == problem.groups.len() {
        let found = problem.assignment(picks.clone()).unwrap();
        if problem.holds(&found) && best.as_ref().is_none_or(|best| found.loss < best.loss) {
            *best = Some(found);
        }
        return;
    }
    let ways: Vec<(Pick, usize)> = problem
        .parts()
        .filter(|&(_, first, _, _)| first == next)
        .map(|(pick, _, next, _)| (pick, next))
        .collect();
    for (pick, next) in ways {
        picks.push(pick);
        brute_force(problem, next, picks, best);
        picks.pop();
    }
}

fn least(problem: &Problem) -> Option<Assignment> {
    let mut best = None;
    brute_force(problem, 0, &mut Vec::new(), &mut best);
    best
}

/// How the numbers of a random problem are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Continuous losses and weights.
    Continuous,
    /// Small whole numbers, full of ties; the same in every group now and then.
    Whole,
    /// Whole multiples of an odd step for the first constraint, continuous ones for the others; some are negative.
    Mixed,
}

fn choice(random: &mut ChaCha8Rng, kind: Kind, constraints: usize, groups: usize) -> Choice {
    let groups = groups as f64;
    let draw = |random: &mut ChaCha8Rng, k: usize| match kind {
        Kind::Continuous => random.random_range(0.0..groups),
        Kind::Whole => f64::from(random.random_range(0..5)) * groups,
        Kind::Mixed if k == 0 => f64::from(random.random_range(-3..9)) * (0.7 / 3.0),
        Kind::Mixed => random.random_range(-0.3..groups),
    };
    let loss = match kind {
        Kind::Whole => f64::from(random.random_range(-2..5)),
        _ => random.random_range(-0.2..groups),
    };
    Choice { loss, weights: (0..constraints).map(|k| draw(random, k)).collect() }
}

fn random_problem(seed: u64, kind: Kind) -> Problem {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let groups = random.random_range(1..7usize);
    let constraints = random.random_range(0..4usize);
    let alike = kind == Kind::Whole && random.random_bool(0.3);
    let mut all: Vec<Vec<Choice>> = Vec::new();
    for _ in 0..groups {
        let choices = random.random_range(1..7usize);
        let own = (0..choices).map(|_| choice(&mut random, kind, constraints, 1)).collect();
        all.push(if alike { all.first().cloned().unwrap_or(own) } else { own });
    }
    let mut runs = Vec::new();
    if random.random_bool(0.5) {
        for _ in 0..random.random_range(1..5usize) {
            let first = random.random_range(0..groups);
            let covered = random.random_range(1..=groups - first);
            runs.push(Run {
                first,
                groups: covered,
                choice: choice(&mut random, kind, constraints, covered),
            });
        }
    }
    let mut problem = Problem { groups: all, runs, capacities: vec![f64::INFINITY; constraints] };
    // Capacities around what a random assignment weighs: most problems are tight, some infeasible.
    let picks = (0..groups)
        .map(|group| Pick::Choice { group, choice: random.random_range(0..problem.groups[group].len()) });
    let typical = problem.assignment(picks.collect()).unwrap().weights;
    for (capacity, weight) in problem.capacities.iter_mut().zip(typical) {
        let drawn: f64 = random.random_range(-0.4..0.8);
        *capacity = weight + drawn.min(0.3) * weight.abs();
    }
    problem
}

#[test]
fn agrees_with_trying_every_assignment() {
    let (mut solved, mut infeasible, mut jointly) = (0, 0, 0);
    for kind in [Kind::Continuous, Kind::Whole, Kind::Mixed] {
        for seed in 0..1500 {
            let problem = random_problem(seed, kind);
            let expected = least(&problem);
            let found = solve(&problem, &Start::default(), &Options::default()).unwrap();
            match (&found, expected) {
                (Outcome::Solved(solution), Some(best)) => {
                    let loss = solution.assignment.loss;
                    assert!((loss - best.loss).abs() <= 1e-9, "{kind:?} {seed}: {loss} {}", best.loss);
                    assert!(problem.holds(&solution.assignment));
                    let again = problem.assignment(solution.assignment.picks.clone());
                    assert_eq!(again.as_ref(), Some(&solution.assignment));
                    assert!(solution.proven && solution.gap == 0.0 && solution.bound == loss);
                    solved += 1;
                }
                (Outcome::Infeasible(short), None) => {
                    for shortage in short {
                        let alone = Problem {
                            capacities: (0..problem.capacities.len())
                                .map(|k| match k == shortage.constraint {
                                    true => problem.capacities[k],
                                    false => f64::INFINITY,
                                })
                                .collect(),
                            ..problem.clone()
                        };
                        assert_eq!(least(&alone), None, "{kind:?} {seed}: {shortage:?}");
                        assert!(shortage.least > shortage.capacity);
                    }
                    infeasible += 1;
                    jointly += usize::from(short.is_empty());
                }
                (found, best) => panic!("{kind:?} {seed}: {found:?}, but {best:?}"),
            }
        }
    }
    // The problems are a mixture worth the name.
    assert!(solved > 1500 && infeasible > 300 && jointly > 50, "{solved} {infeasible} {jointly}");
}

#[test]
fn a_cutoff_and_a_known_assignment_change_nothing_but_the_work() {
    for seed in 0..400 {
        let problem = random_problem(seed, Kind::Continuous);
        let Some(best) = least(&problem) else { continue };
        let with = |start: &Start| solve(&problem, start, &Options::default()).unwrap();
        let start = Start { cutoff: Some(best.loss + 0.5), ..Start::default() };
        assert!((with(&start).solution().unwrap().assignment.loss - best.loss).abs() < 1e-9);
        let start = Start { cutoff: Some(best.loss - 1e-6), ..Start::default() };
        assert_eq!(with(&start), Outcome::NoneBetter);
        let multipliers = Some(vec![0.3; problem.capacities.len()]);
        let start = Start { multipliers, picks: Some(best.picks.clone()), cutoff: None };
        assert!((with(&start).solution().unwrap().assignment.loss - best.loss).abs() < 1e-9);
    }
}

#[test]
fn a_tolerance_is_kept_and_a_limit_of_nodes_is_owned_up_to() {
    let mut unproven = 0;
    for seed in 0..20 {
        let problem = large(seed, 30, 30, 3);
        let with = |options: &Options| solve(&problem, &Start::default(), options).unwrap();
        let exact = with(&Options::default());
        let exact = exact.solution().unwrap();
        assert!(exact.proven);
        let rough = with(&Options { tolerance: 0.05, ..Options::default() });
        let rough = rough.solution().unwrap();
        assert!(rough.proven && rough.gap <= 0.05 + 1e-12);
        assert!(rough.assignment.loss <= exact.assignment.loss + 0.05);
        assert!(rough.bound <= exact.assignment.loss + 1e-9);
        let short = with(&Options { nodes: 1, tolerance: 0.0 });
        let short = short.solution().unwrap();
        assert!(short.bound <= exact.assignment.loss + 1e-9 && short.nodes <= 1);
        assert!((short.gap - (short.assignment.loss - short.bound)).abs() < 1e-12);
        assert!(short.proven == (short.gap == 0.0));
        unproven += usize::from(!short.proven);
    }
    assert!(unproven > 10, "{unproven}");
}

fn large(seed: u64, groups: usize, choices: usize, constraints: usize) -> Problem {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut draw =
        || Choice { loss: random.random(), weights: (0..constraints).map(|_| random.random()).collect() };
    let groups: Vec<Vec<Choice>> = (0..groups).map(|_| (0..choices).map(|_| draw()).collect()).collect();
    let capacities = vec![0.25 * groups.len() as f64; constraints];
    Problem { groups, runs: Vec::new(), capacities }
}

#[test]
fn the_front_is_what_single_solves_say() {
    for seed in 0..60 {
        let problem = random_problem(seed, Kind::Mixed);
        if problem.capacities.is_empty() {
            continue;
        }
        let capacities: Vec<f64> = (0..12).map(|i| f64::from((i * 7) % 12) * 0.4 - 1.0).collect();
        let points = front(&problem, 0, &capacities, &Options::default()).unwrap();
        for (point, capacity) in points.iter().zip(&capacities) {
            let mut single = problem.clone();
            single.capacities[0] = *capacity;
            assert_eq!(point.capacity, *capacity);
            match (least(&single), &point.outcome) {
                (Some(best), Outcome::Solved(solution)) => {
                    assert!((best.loss - solution.assignment.loss).abs() < 1e-9);
                    assert!(single.holds(&solution.assignment));
                }
                (None, Outcome::Infeasible(_)) => {}
                (best, found) => panic!("{seed} at {capacity}: {best:?} {found:?}"),
            }
        }
    }
}

#[test]
fn the_same_problem_gives_the_same_answer() {
    let problem = large(7, 24, 40, 3);
    let run = || solve(&problem, &Start::default(), &Options::default()).unwrap();
    assert_eq!(run(), run());
}

#[test]
fn senseless_problems_are_refused() {
    let one = |weights: &[f64]| Choice { loss: 1.0, weights: weights.to_vec() };
    let error = |problem: &Problem| solve(problem, &Start::default(), &Options::default()).unwrap_err();
    let problem = |groups: Vec<Vec<Choice>>, runs: Vec<Run>| Problem { groups, runs, capacities: vec![3.0] };
    assert_eq!(error(&problem(vec![], vec![])), AssignmentError::NoGroups);
    assert_eq!(
        error(&problem(vec![vec![one(&[1.0])], vec![]], vec![])),
        AssignmentError::Uncovered { group: 1 }
    );
    let meeting = Run { first: 1, groups: 1, choice: one(&[1.0]) };
    let covered = problem(vec![vec![one(&[1.0])], vec![]], vec![meeting]);
    assert!(solve(&covered, &Start::default(), &Options::default()).unwrap().solution().is_some());
    let beyond = Run { first: 1, groups: usize::MAX, choice: one(&[1.0]) };
    assert!(matches!(
        error(&problem(vec![vec![one(&[1.0])], vec![one(&[1.0])]], vec![beyond])),
        AssignmentError::RunOutside { run: 0, .. }
    ));
    assert!(matches!(
        error(&problem(vec![vec![one(&[])]], vec![])),
        AssignmentError::Weights { found: 0, expected: 1, .. }
    ));
    assert!(matches!(
        error(&problem(vec![vec![one(&[f64::NAN])]], vec![])),
        AssignmentError::NotFinite { .. }
    ));
    let nan = Problem { capacities: vec![f64::NAN], ..problem(vec![vec![one(&[1.0])]], vec![]) };
    assert!(matches!(error(&nan), AssignmentError::Capacity { constraint: 0, .. }));
    let none = front(&problem(vec![vec![one(&[1.0])]], vec![]), 4, &[1.0], &Options::default());
    assert_eq!(none, Err(AssignmentError::NoConstraint { constraint: 4, constraints: 1 }));
}
