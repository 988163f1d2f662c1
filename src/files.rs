//! Whole files or none: write to a temporary name beside the target, then rename.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Writes `contents` to `path` so that a reader sees the old file or the new one, never half of it.
/// Missing parent directories are made.
pub fn write_atomically(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    let temporary = directory.join(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
    let written = fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}
