//! Whole files or none: write to a temporary name beside the target, then rename.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes `contents` to `path` so that a reader sees the old file or the new one, never half of it.
/// Missing parent directories are made.
pub fn write_atomically(path: &Path, contents: &[u8]) -> io::Result<()> {
    write_atomically_with(path, |file| file.write_all(contents))
}

/// The same for contents that are written piece by piece.
pub fn write_atomically_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<fs::File>) -> io::Result<()>,
) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    let temporary = directory.join(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
    let written = fs::File::create(&temporary).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    });
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Removes a directory with all that is in it.
pub fn remove_directory(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path)
}
