//! Tells slow phases of the machine from slow work: a fixed piece of work is timed after every measurement.
//!
//! Neighbours, clocks and other processes slow a machine down for seconds at a time, all repeats of a call alike, so
//! that neither their median nor their spread shows it. They never speed it up.

use std::thread;
use std::time::Duration;

use crate::compute::linear::{Shape, linear};
use crate::compute::storage::Stored;
use crate::hardware::measure::timing::{self, Timing};

/// The work: some arithmetic on weights read from memory, half a millisecond on two cores.
const WORK: Shape = Shape { m: 16, n: 1024, k: 1024 };
/// Different weights, so that they are read from memory: 96 MiB in all.
const PLACES: usize = 24;
/// Repeats of one look.
const REPEATS: usize = 3;
/// The machine is in a slow phase when the work takes this much longer than at its best.
const SLOW: f64 = 1.12;
/// A best that does not come back is forgotten by this share a look.
const FORGOTTEN: f64 = 1.001;
/// Attempts at a measurement, and the pause between them.
const ATTEMPTS: usize = 4;
/// See [`ATTEMPTS`].
const PAUSE: Duration = Duration::from_millis(150);

/// The fixed work and how fast it was.
pub struct Sentinel {
    weights: Vec<f32>,
    input: Vec<f32>,
    output: Vec<f32>,
    looks: usize,
    best: f64,
}

impl Default for Sentinel {
    fn default() -> Self {
        let mut sentinel = Self {
            weights: vec![0.5; PLACES * WORK.n * WORK.k],
            input: vec![0.5; WORK.m * WORK.k],
            output: vec![0.0; WORK.m * WORK.n],
            looks: 0,
            best: f64::INFINITY,
        };
        (0..PLACES).for_each(|_| {
            sentinel.look();
        });
        sentinel
    }
}

impl Sentinel {
    /// Slowness of the machine now: 1 = as at its best.
    fn look(&mut self) -> f64 {
        let size = WORK.n * WORK.k;
        let mut seconds = [0.0; REPEATS];
        for second in &mut seconds {
            let at = self.looks % PLACES * size;
            self.looks += 1;
            let start = std::time::Instant::now();
            let w = Stored::F32(&self.weights).part(at, size);
            // Sizes are constants that agree.
            let _ = linear(&self.input, w, &mut self.output, WORK);
            *second = start.elapsed().as_secs_f64();
        }
        let now = timing::median(seconds.to_vec());
        self.best = (self.best * FORGOTTEN).min(now);
        now / self.best
    }

    /// Repeats a measurement until the machine was at its best right after it; where it never is, the fastest counts.
    ///
    /// # Errors
    /// Whatever the measurement says.
    pub fn steadily<E>(&mut self, mut measure: impl FnMut() -> Result<Timing, E>) -> Result<Timing, E> {
        let mut fastest = measure()?;
        for _ in 1..ATTEMPTS {
            if self.look() <= SLOW {
                break;
            }
            thread::sleep(PAUSE);
            let again = measure()?;
            if again.median < fastest.median {
                fastest = again;
            }
        }
        Ok(fastest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Seconds;

    #[test]
    fn what_is_measured_in_a_slow_phase_is_measured_again() {
        let mut sentinel = Sentinel::default();
        // As if the machine had once been a hundred times faster: every look finds it slow.
        sentinel.best /= 100.0;
        let mut times = [3.0, 1.0, 2.0, 4.0].into_iter();
        let next = || Ok::<_, ()>(Timing { median: Seconds(times.next().unwrap()), spread: 0.0, repeats: 5 });
        assert_eq!(sentinel.steadily(next).map(|t| t.median), Ok(Seconds(1.0)));
        // And as if it had never been fast: one measurement will do.
        sentinel.best = f64::INFINITY;
        let mut calls = 0;
        let count = || {
            calls += 1;
            Ok::<_, ()>(Timing { median: Seconds(1.0), spread: 0.0, repeats: 5 })
        };
        assert!(sentinel.steadily(count).is_ok());
        assert_eq!(calls, 1);
    }
}
