//! The names of a database: the one that all links lead to, and those of its side files beside that one.
//!
//! SQLite finds a WAL or a journal by these names alone (<https://sqlite.org/fileformat2.html>).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The names of SQLite's side files, appended to the database's.
pub(crate) const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The path with all links resolved, as far as it exists.
pub(crate) fn real(path: &Path) -> PathBuf {
    // A link whose target is gone leads there all the same.
    let mut path = path.to_owned();
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    path.canonicalize()
        .unwrap_or_else(|_| match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => parent
                .canonicalize()
                .unwrap_or_else(|_| parent.to_owned())
                .join(name),
            _ => path.clone(),
        })
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Whether SQLite would call a file of a database's so.
pub(crate) fn is_side_file(path: &Path) -> bool {
    let name = path.as_os_str().as_encoded_bytes();
    SIDE_FILES.iter().any(|s| name.ends_with(s.as_bytes()))
}
