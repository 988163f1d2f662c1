//! Times repeats of one piece of work.

use std::time::{Duration, Instant};

use crate::units::Seconds;

/// What repeats of a call took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Median.
    pub median: Seconds,
    /// Robust standard deviation of a repeat, as a share of the median.
    pub spread: f64,
    /// Repeats.
    pub repeats: usize,
}

/// Fewest repeats a median stands on.
const FEWEST: usize = 5;
/// Repeats of short work.
const MANY: usize = 60;
/// Repeats go on for this long, or until there are [`MANY`].
const ENOUGH: Duration = Duration::from_millis(60);
/// Unsteady work is repeated until its median is known to this share, or for [`PATIENCE`].
const SURE: f64 = 0.01;
/// See [`SURE`].
const PATIENCE: Duration = Duration::from_millis(250);
/// Repeats before any is counted.
const WARM_UP: usize = 2;

/// Times `work`, which is told the number of the repeat; the first two do not count. Calls of a few microseconds
/// are repeated 60 times or, where they are unsteady, more often; calls of a second five times.
pub fn time(mut work: impl FnMut(usize)) -> Timing {
    (0..WARM_UP).for_each(&mut work);
    let start = Instant::now();
    let mut seconds = Vec::with_capacity(MANY);
    while !enough(&seconds, start.elapsed()) {
        let repeat = WARM_UP + seconds.len();
        let before = Instant::now();
        work(repeat);
        seconds.push(before.elapsed().as_secs_f64());
    }
    Timing::of(&seconds)
}

fn enough(seconds: &[f64], elapsed: Duration) -> bool {
    let n = seconds.len();
    if n < FEWEST || (n < MANY && elapsed < ENOUGH) {
        return false;
    }
    // Looked at now and then, since it sorts.
    if !n.is_multiple_of(MANY) && elapsed < PATIENCE {
        return n < MANY && elapsed >= ENOUGH && Timing::of(seconds).uncertainty() < SURE;
    }
    elapsed >= PATIENCE || Timing::of(seconds).uncertainty() < SURE
}

impl Timing {
    /// Standard deviation of the median as a share of it, were repeats independent.
    fn uncertainty(&self) -> f64 {
        1.2533 * self.spread / (self.repeats as f64).sqrt()
    }

    /// From the seconds of each repeat.
    pub fn of(seconds: &[f64]) -> Self {
        let median = median(seconds.to_vec());
        let deviation = median_of(seconds.iter().map(|s| (s - median).abs()));
        let spread = if median > 0.0 { 1.4826 * deviation / median } else { 0.0 };
        Self { median: Seconds(median), spread, repeats: seconds.len() }
    }
}

fn median_of(values: impl Iterator<Item = f64>) -> f64 {
    median(values.collect())
}

/// Middle value; the mean of the two middle ones of an even number; zero of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let at = |i: usize| values.get(i).copied().unwrap_or(0.0);
    if n.is_multiple_of(2) { 0.5 * (at((n / 2).saturating_sub(1)) + at(n / 2)) } else { at(n / 2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads_pass_over_outliers() {
        let timing = Timing::of(&[1.0, 1.1, 0.9, 1.0, 50.0]);
        assert_eq!((timing.median, timing.repeats), (Seconds(1.0), 5));
        assert!((timing.spread - 0.14826).abs() < 1e-9, "{}", timing.spread);
        assert_eq!(median(vec![1.0, 3.0]), 2.0);
    }

    #[test]
    fn every_repeat_has_its_number_and_short_work_is_repeated_often() {
        let mut seen = Vec::new();
        let timing = time(|i| seen.push(i));
        assert_eq!(seen, (0..seen.len()).collect::<Vec<_>>());
        assert!(timing.repeats >= MANY);
    }
}
