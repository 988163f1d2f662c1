//! Standard output that may be closed early: `archplan models | head -1` is no failure and no panic.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;

use crate::cli::Failure;

/// The first error of a write; nothing is written after it.
static BROKEN: OnceLock<io::Error> = OnceLock::new();

/// Writes one line to standard output. An error is kept for [`finish`].
pub fn line(text: fmt::Arguments<'_>) {
    if BROKEN.get().is_none()
        && let Err(error) = writeln!(io::stdout().lock(), "{text}")
    {
        let _ = BROKEN.set(error);
    }
}

/// Whether all that was printed got out. A reader that has seen enough is content.
///
/// # Errors
/// Standard output could not be written, for a full disk say.
pub fn finish() -> Result<(), Failure> {
    if let Err(error) = io::stdout().lock().flush() {
        let _ = BROKEN.set(error);
    }
    match BROKEN.get() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("standard output: {error}; what was printed is not complete")))
        }
        _ => Ok(()),
    }
}
