//! A database at rest is a file that nobody changes: SQLite takes no locks on it, and makes no side files.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::stop::Stop;

/// Virtual-machine steps between two looks at the stop flag.
const STEPS: i32 = 5_000;

/// Why a look came to nothing.
#[derive(thiserror::Error, Debug)]
pub(super) enum Failed {
    #[error("stopped")]
    Stopped,
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

pub(super) fn open(copy: &Path, stop: &Stop) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let mut db = Connection::open_with_flags(immutable(copy), flags)?;
    let stop = stop.clone();
    let step = move || {
        stop.progressed();
        stop.is_set()
    };
    db.progress_handler(STEPS, Some(step))?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(db)
}

/// Tells SQLite that the file does not change (<https://sqlite.org/uri.html>): it takes no locks,
/// which the closing of the hash's handle would drop, and makes no side files.
fn immutable(copy: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in copy.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            b if b.is_ascii_alphanumeric() => uri.push(char::from(*b)),
            b => uri.push_str(&format!("%{b:02x}")),
        }
    }
    uri + "?immutable=1"
}

/// The names of its tables, sorted.
pub(super) fn tables(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut names = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")?;
    names.query_map([], |r| r.get(0))?.collect()
}

/// A name as SQL has it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
