//! Which shapes to try next: those whose expected improvement on the best is largest, each batch spread out.

use crate::estimate::chance;
use crate::quality::study::Study;
use crate::quality::study::estimator::{Estimator, Predicted, Site, Tried};
use crate::quality::study::line::{Asked, Candidate};

/// A candidate to try, with what is expected of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice<'a> {
    /// The candidate.
    pub candidate: &'a Candidate,
    /// What is predicted of it, before it is tried.
    pub predicted: Predicted,
    /// By how much it is expected to beat the best so far, nats a token.
    pub expected_improvement: f64,
}

impl Choice<'_> {
    /// The line of the study that hands it out.
    pub fn asked(&self, worker: Option<String>) -> Asked {
        Asked {
            id: self.candidate.id.clone(),
            worker,
            predicted_nats: Some(self.predicted.mean),
            deviation_nats: Some(self.predicted.deviation),
        }
    }
}

/// The estimator after all that was told.
pub fn estimator(study: &Study) -> Estimator {
    Estimator::fit(Tried::of(&study.tried()))
}

/// Chooses up to `count` candidates that meet the budgets and were neither told nor asked for, by expected improvement (Jones,
/// Schonlau and Welch 1998). Those asked for already, and those of this batch, count as if they had lost what is predicted; what they settle comes last.
pub fn next(study: &Study, count: usize) -> Vec<Choice<'_>> {
    let first = estimator(study);
    let mut best = study.best().map(|(_, nats)| nats);
    let mut estimator = first.clone();
    for asked in &study.pending {
        if let Some(candidate) = study.find(&asked.id) {
            estimator = believe(&estimator, candidate, &mut best);
        }
    }
    let mut open: Vec<&Candidate> = study
        .candidates
        .iter()
        .filter(|c| {
            c.feasible && !study.told.contains_key(&c.id) && study.pending.iter().all(|p| p.id != c.id)
        })
        .collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let rated = open.iter().map(|candidate| {
            let site = Site::from(*candidate);
            let (mean, deviation) = (estimator.mean(&site), estimator.open(&site));
            // What is under way tells it but for what is its own: almost the same shape once more.
            let settled = deviation < site.own_deviation() && first.open(&site) >= site.own_deviation();
            (settled, improvement(Predicted { mean, deviation }, best), mean)
        });
        // The largest improvement; where none is expected of any, the least loss.
        let order = |a: &(bool, f64, f64), b: &(bool, f64, f64)| {
            a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then(a.2.total_cmp(&b.2))
        };
        let top = rated.enumerate().min_by(|(_, a), (_, b)| order(a, b));
        let Some((at, (_, expected_improvement, _))) = top else { break };
        let candidate = open.swap_remove(at);
        chosen.push(Choice {
            candidate,
            predicted: first.predict(&Site::from(candidate)),
            expected_improvement,
        });
        estimator = believe(&estimator, candidate, &mut best);
    }
    chosen
}

fn believe(estimator: &Estimator, candidate: &Candidate, best: &mut Option<f64>) -> Estimator {
    let site = Site::from(candidate);
    let mean = estimator.predict(&site).mean;
    *best = Some(best.map_or(mean, |best| best.min(mean)));
    estimator.believing(site)
}

/// Expected improvement on `best`; with nothing to improve on, how little is lost.
fn improvement(predicted: Predicted, best: Option<f64>) -> f64 {
    let Predicted { mean, deviation } = predicted;
    let Some(best) = best else { return -mean };
    if deviation <= 0.0 {
        return (best - mean).max(0.0);
    }
    let z = (best - mean) / deviation;
    (best - mean) * chance::normal_cdf(z)
        + deviation * (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// Chooses up to `count` candidates, told ones left out, that lie as far from each other as they can: what an estimator is
/// learned from and judged on. Candidates that miss the budgets count, too.
pub fn spread(study: &Study, count: usize) -> Vec<Choice<'_>> {
    let estimator = estimator(study);
    let place = |candidate: &Candidate| candidate.nats.map(|n| (n.max(0.0) + 0.01).ln());
    let distance = |a: &Candidate, b: &Candidate| {
        let (a, b) = (place(a), place(b));
        a.iter().zip(&b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>()
    };
    let taken = |c: &&Candidate| study.told.contains_key(&c.id) || study.pending.iter().any(|p| p.id == c.id);
    let known: Vec<&Candidate> = study.candidates.iter().filter(taken).collect();
    let nearest = |c: &Candidate| known.iter().map(|k| distance(c, k)).fold(f64::INFINITY, f64::min);
    let open = study.candidates.iter().filter(|c| !taken(c));
    let mut open: Vec<(f64, &Candidate)> = open.map(|c| (nearest(c), c)).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let top = open.iter().enumerate().max_by(|(i, a), (j, b)| a.0.total_cmp(&b.0).then(j.cmp(i)));
        let Some((at, _)) = top else { break };
        let (_, candidate) = open.remove(at);
        for (least, other) in &mut open {
            *least = least.min(distance(candidate, other));
        }
        let predicted = estimator.predict(&Site::from(candidate));
        chosen.push(Choice { candidate, predicted, expected_improvement: 0.0 });
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_improvement_is_the_mean_of_what_is_gained() {
        let (predicted, best) = (Predicted { mean: 0.3, deviation: 0.1 }, 0.25);
        // By midpoints over 12 standard deviations.
        let steps = 100_000;
        let gained: f64 = (0..steps)
            .map(|i| {
                let z = -6.0 + 12.0 * (f64::from(i) + 0.5) / f64::from(steps);
                let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
                (best - (predicted.mean + predicted.deviation * z)).max(0.0) * density * 12.0
                    / f64::from(steps)
            })
            .sum();
        assert!((improvement(predicted, Some(best)) - gained).abs() < 1e-6);
    }
}
