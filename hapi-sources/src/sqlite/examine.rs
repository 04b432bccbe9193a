//! A database file at rest, a restored copy say, is examined as a capture examines its own copy.

use std::fs;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::at_rest::Failed;
use super::check::{self, Wanted};
use super::names::{real, with_suffix};
use crate::error::ExamineError;
use crate::facts::{DatabaseFacts, Sha256Hash};
use crate::file::pinned::found;
use crate::source::{Column, IntegrityCheck};
use crate::stop::Stop;

/// How every database begins (<https://sqlite.org/fileformat2.html>).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Hash, length and facts of a database file that no one else has open: what a capture notes of its
/// copy, found anew. `count` and `newest` are a source's.
///
/// Nothing is written, neither to the file nor beside it, also where its header says WAL (a database
/// that other means restored): SQLite is told that the file is immutable. It then sees no side file,
/// so one with content is an error: the state that the file and its `-wal` or `-journal` make up
/// together is not what the file alone holds.
///
/// Damage is a fact ([`Integrity::Damaged`](crate::Integrity::Damaged)), not an error. A file that
/// does not begin as a database does is an error, and so is an empty one: SQLite takes that for a
/// database without tables, but a copy is never empty.
pub fn examine(
    path: &Path,
    count: &[String],
    newest: &[Column],
    check: IntegrityCheck,
    stop: &Stop,
) -> Result<(Sha256Hash, u64, DatabaseFacts), ExamineError> {
    let real = at_rest(path)?;
    let wanted = Wanted { count, newest };
    check::look(&real, &wanted, check, stop).map_err(|e| failed(path, e))
}

/// The names of the tables of such a file, sorted, without SQLite's own: what [`examine`] may count.
pub fn tables(path: &Path) -> Result<Vec<String>, ExamineError> {
    let real = at_rest(path)?;
    let names = check::tables_of(&real).map_err(|e| failed(path, Failed::Sqlite(e)))?;
    Ok(names
        .into_iter()
        .filter(|name| !name.starts_with("sqlite_"))
        .collect())
}

/// Makes sure that a file is a database that stands alone, and returns its real path.
fn at_rest(path: &Path) -> Result<PathBuf, ExamineError> {
    let err = |error| ExamineError::Read {
        path: path.to_owned(),
        error,
    };
    // SQLite resolves links, and looks for the side files beside the real file.
    let real = real(path);
    let stat = fs::metadata(&real).map_err(err)?;
    if !stat.is_file() {
        return Err(ExamineError::WrongType {
            path: path.to_owned(),
            found: found(&stat),
        });
    }
    let mut magic = [0; MAGIC.len()];
    match File::open(&real).map_err(err)?.read_exact(&mut magic) {
        Ok(()) if magic == *MAGIC => {}
        Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => return Err(err(e)),
        _ => {
            return Err(ExamineError::NotADatabase {
                path: path.to_owned(),
            });
        }
    }
    for suffix in ["-wal", "-journal"] {
        let side = with_suffix(&real, suffix);
        match fs::metadata(&side) {
            Ok(m) if m.len() > 0 => {
                return Err(ExamineError::SideFile {
                    path: path.to_owned(),
                    side,
                });
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(ExamineError::Read {
                    path: side,
                    error: e,
                });
            }
            _ => {}
        }
    }
    Ok(real)
}

fn failed(path: &Path, e: Failed) -> ExamineError {
    let path = path.to_owned();
    match e {
        Failed::Stopped => ExamineError::Stopped,
        Failed::Read(error) => ExamineError::Read { path, error },
        Failed::Sqlite(e) => ExamineError::Sqlite {
            path,
            reason: e.to_string(),
        },
    }
}
