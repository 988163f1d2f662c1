//! Progress of long work: a bar with ETA on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two lines on how far the work is, where no bar is drawn.
const LINES: Duration = Duration::from_secs(30);

/// A known number of steps.
pub struct Steps {
    bar: Option<ProgressBar>,
    total: u64,
    started: Instant,
    /// Steps done, and when a line last said so.
    state: Mutex<(u64, Instant)>,
}

impl Steps {
    /// Starts `total` steps.
    pub fn new(total: u64) -> Self {
        let drawn = std::io::stderr().is_terminal() && log::log_enabled!(log::Level::Info);
        let bar = drawn.then(|| {
            let style = ProgressStyle::with_template("[{pos}/{len}] {bar:30} ETA {eta}  {msg}");
            let bar =
                ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        let started = Instant::now();
        Self { bar, total, started, state: Mutex::new((0, started)) }
    }

    /// Says what is being done.
    pub fn say(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_string()),
            None => log::info!("{what}"),
        }
    }

    /// One step is done.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
            return;
        }
        let Ok(mut state) = self.state.lock() else { return };
        state.0 += 1;
        if state.1.elapsed() >= LINES {
            state.1 = Instant::now();
            let left = self.total.saturating_sub(state.0) as f64 / state.0 as f64;
            let seconds = left * self.started.elapsed().as_secs_f64();
            log::info!("{} of {}, ETA {seconds:.0} s", state.0, self.total);
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
