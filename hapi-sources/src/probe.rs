//! A probe is a look at a source before anything is captured: is it there, may this user read it,
//! how much room would it need.
//!
//! Databases are opened by SQLite and closed again, everything else is not opened at all: a probe
//! drops nobody's locks and touches no file's access time.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use walkdir::WalkDir;

use crate::capture::{Failure, Note};
use crate::error::CaptureError;
use crate::file::pinned::{Links, Pinned};
use crate::secret::named;
use crate::source::{Kind, Scope, Source};
use crate::sqlite;
use crate::sqlite::names::real;
use crate::stop::Stop;
use crate::tree::pattern::{Found, Pattern, excluded, exclusions, walk_failure};

/// What a probe showed.
#[derive(Debug, Default)]
pub struct Probe {
    /// The files that a capture would look at now; for a folder, the folder alone.
    pub paths: Vec<PathBuf>,
    /// What this user cannot read.
    pub failures: Vec<Failure>,
    /// Bytes of the largest database with its WAL: what a capture puts into the staging folder.
    pub staged: u64,
    /// Folders of databases in WAL mode in which this user cannot make the side files that SQLite
    /// needs there while nobody else has the database open.
    pub unwritable: Vec<PathBuf>,
    /// What a capture would note.
    pub notes: Vec<Note>,
}

/// Looks at a source. Which of a glob's files a filter would leave out is not asked.
///
/// # Errors
/// What would keep a capture from beginning, absence among it.
pub fn probe(source: &Source, stop: &Stop) -> Result<Probe, CaptureError> {
    let mut probe = Probe::default();
    match source.kind {
        Kind::Secret if source.scope == Scope::Rest => _ = Pinned::folder(&source.path)?,
        Kind::File | Kind::Secret => {
            let named = named::file_of(source).ok().flatten();
            let path = named.ok_or_else(|| CaptureError::Missing {
                path: source.path.clone(),
            })?;
            readable(&path)?;
            probe.paths.push(path);
        }
        Kind::Dir => {
            Pinned::folder(&source.path)?;
            probe.below(source, stop)?;
            probe.paths.push(source.path.clone());
        }
        Kind::Sqlite if !source.is_pattern() => probe.database(&source.path, stop)?,
        Kind::Sqlite | Kind::Glob => {
            let found = found(source, stop)?;
            probe.failures = found.failures;
            for path in found.paths {
                let looked = match source.kind {
                    Kind::Sqlite => probe.database(&path, stop),
                    _ => readable(&path).map(|()| probe.paths.push(path.clone())),
                };
                if let Err(error) = looked {
                    probe.failures.push(Failure { path, error });
                }
            }
            if probe.paths.is_empty() && probe.failures.is_empty() {
                return Err(CaptureError::NoMatch {
                    path: source.path.clone(),
                });
            }
        }
    }
    Ok(probe)
}

impl Probe {
    fn database(&mut self, path: &Path, stop: &Stop) -> Result<(), CaptureError> {
        let (wal, note) = sqlite::probe(path, stop)?;
        self.notes.extend(note);
        self.staged = self.staged.max(sqlite::size(path));
        self.paths.push(path.to_owned());
        let real = real(path);
        if let Some(folder) = real.parent()
            && wal
            && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err()
        {
            self.unwritable.push(folder.to_owned());
        }
        Ok(())
    }

    fn below(&mut self, source: &Source, stop: &Stop) -> Result<(), CaptureError> {
        let (root, exclude) = (source.path.as_path(), exclusions(source)?);
        let walk = WalkDir::new(root)
            .into_iter()
            .filter_entry(|e| e.depth() == 0 || !excluded(&exclude, root, e.path()));
        for item in walk {
            stop.check()?;
            match item {
                Ok(entry) if entry.file_type().is_file() => {
                    if let Err(error) = readable(entry.path()) {
                        let path = entry.into_path();
                        self.failures.push(Failure { path, error });
                    }
                }
                Ok(_) => {}
                Err(error) => self.failures.extend(walk_failure(error, root)),
            }
        }
        Ok(())
    }
}

/// How many files there are of a source now, and their bytes; none is opened.
pub fn measure(source: &Source, stop: &Stop) -> (u64, u64) {
    let paths = match source.kind {
        Kind::Dir => {
            let entries = WalkDir::new(&source.path).into_iter().flatten();
            entries.map(walkdir::DirEntry::into_path).collect()
        }
        Kind::Sqlite | Kind::Glob => found(source, stop).map_or_else(|_| Vec::new(), |f| f.paths),
        Kind::File | Kind::Secret => vec![source.path.clone()],
    };
    let sizes = paths.iter().filter_map(|path| path.metadata().ok());
    let files = sizes.filter(std::fs::Metadata::is_file);
    files.fold((0, 0), |(files, bytes), stat| {
        (files + 1, bytes + stat.len())
    })
}

/// What the path of a glob, or of databases, names.
fn found(source: &Source, stop: &Stop) -> Result<Found, CaptureError> {
    match source.kind {
        Kind::Sqlite => sqlite::databases_of(source, stop),
        _ => Pattern::of(source)?.find(&exclusions(source)?, stop),
    }
}

/// Whether a path leads to a file that this user may read.
fn readable(path: &Path) -> Result<(), CaptureError> {
    Pinned::regular(path, Links::Follow, "a regular file")?;
    access(path, Access::READ_OK).map_err(|error| CaptureError::read(path, error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_told_and_what_is_not_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let look = |kind, name: &str| probe(&Source::new("s", kind, path(name)), &Stop::default());
        assert!(matches!(
            look(Kind::File, "a"),
            Err(CaptureError::Missing { .. })
        ));
        assert!(matches!(
            look(Kind::Glob, "*.md"),
            Err(CaptureError::NoMatch { .. })
        ));
        std::fs::write(path("a.md"), "text").unwrap();
        assert_eq!(look(Kind::Glob, "*.md").unwrap().paths, [path("a.md")]);
        assert_eq!(look(Kind::Dir, "").unwrap().failures.len(), 0);
        assert!(matches!(
            look(Kind::Sqlite, "a.md"),
            Err(CaptureError::NotADatabase { .. })
        ));
        rusqlite::Connection::open(path("h.db"))
            .unwrap()
            .execute_batch("CREATE TABLE t(n)")
            .unwrap();
        let probe = look(Kind::Sqlite, "h.db").unwrap();
        assert_eq!((probe.staged, probe.unwritable.len()), (8192, 0));
    }
}
