//! Progress of long work: a bar with ETA on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A known number of steps.
pub struct Steps {
    bar: Option<ProgressBar>,
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
        Self { bar }
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
