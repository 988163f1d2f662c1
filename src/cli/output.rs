//! Standard output: lines, tables, JSON. It may be closed early: `archplan models | head -1` is no failure and
//! no panic.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;

use archplan::pipeline::stage;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

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

/// Prints pretty JSON.
///
/// # Errors
/// A value that has no form in JSON.
pub fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(value).map_err(Failure::failed)?);
    Ok(())
}

/// A plain table under column titles.
pub fn table(titles: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(titles);
    table
}

/// Sets columns of figures flush right; columns that the table lacks are passed over.
pub fn align_right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// The command as typed, quoted where a shell would need it.
pub fn command_line() -> String {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    stage::shell_words(&words)
}
