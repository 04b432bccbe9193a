//! A SQLite database is captured while the hub uses it: a preflight, a copy, its facts, a verdict.
//!
//! Nothing here opens the database or its side files but SQLite itself: closing another handle on
//! them drops the locks that SQLite holds in this process. All checks run on the copy.

mod at_rest;
mod check;
mod copy;
pub(crate) mod examine;
mod hash;
mod header;
mod integrity;
mod live;
pub(crate) mod names;
mod other_name;
mod preflight;
mod side_files;
pub(crate) mod verdict;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::ffi::ErrorCode;

use crate::capture::{Capture, Content, Entry, Failure, Note};
use crate::error::CaptureError;
use crate::facts::Metadata;
use crate::file;
use crate::source::{Column, Source};
use crate::staging::bytes::{Bytes, StagedFile};
use crate::stop::Stop;
use crate::taking::Taking;
use crate::tree::pattern::{Found, Pattern, exclusions};
use at_rest::Failed;
use check::Wanted;
use copy::{Copied, copy};
use hash::Hashed;
use names::{is_side_file, real, with_suffix};
use preflight::{Refused, SideFile};
use verdict::IntegrityVerdict;

/// Captures one database, or all that match a pattern.
pub(crate) fn capture(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let before = taking.checking.clone();
    let captured = all(taking, source);
    if captured.is_err() {
        match (before, taking.checking.take()) {
            // Another source's, which was captured: its verdict is waited for.
            (Some(before), Some(now)) if now.is(&before) => taking.checking = Some(now),
            // The copy that it keeps is in the way of the next source's.
            (_, Some(now)) => now.give_up(),
            (_, None) => {}
        }
    }
    captured
}

fn all(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let mut capture = Capture::empty(source);
    let found = databases_of(source, &taking.stop)?;
    capture.failures = found.failures;
    if found.paths.is_empty() && capture.failures.is_empty() {
        return Err(CaptureError::NoMatch {
            path: source.path.clone(),
        });
    }
    for path in found.paths {
        match one(taking, source, &path) {
            Ok((entry, note)) => {
                capture.entries.push(entry);
                capture.notes.extend(note);
            }
            Err(Refused {
                error: error @ (CaptureError::Stopped | CaptureError::Staging(_)),
                ..
            }) => return Err(error),
            Err(Refused { error, left }) => {
                let kept = left.map(|left| keep(taking, &path, left)).transpose()?;
                capture.entries.extend(kept.flatten());
                capture.failures.push(Failure { path, error });
            }
        }
    }
    if capture.entries.is_empty() {
        return Err(capture.failures.swap_remove(0).error);
    }
    capture.sort();
    Ok(capture)
}

/// The databases of a source: of a pattern also those that are gone and left a `-wal` with content.
pub(crate) fn databases_of(source: &Source, stop: &Stop) -> Result<Found, CaptureError> {
    if !source.is_pattern() {
        return Ok(Found {
            paths: vec![source.path.clone()],
            failures: Vec::new(),
            dangling: Vec::new(),
        });
    }
    let exclude = exclusions(source)?;
    let mut found = Pattern::of(source)?.find(&exclude, stop)?;
    found.paths.retain(|path| !is_side_file(path));
    let wals = Pattern::parse(&with_suffix(&source.path, "-wal"), &source.literal)?
        .find(&exclude, stop)?;
    let orphaned = wals.paths.iter().filter_map(|wal| {
        let name = wal.as_os_str().as_bytes().strip_suffix(b"-wal")?;
        let database = PathBuf::from(OsStr::from_bytes(name));
        let left = wal.metadata().is_ok_and(|m| m.len() > 0);
        (left && !found.paths.contains(&database)).then_some(database)
    });
    let orphaned: Vec<_> = orphaned.collect();
    found.paths.extend(orphaned);
    found.paths.sort();
    Ok(found)
}

/// Keeps what is left of a database that SQLite must not open: the bytes of its WAL or journal, under a
/// name that SQLite never takes for one.
fn keep(taking: &Taking<'_>, path: &Path, left: SideFile) -> Result<Option<Entry>, CaptureError> {
    let Some(mut file) = left.file else {
        return Ok(None);
    };
    let err = |e| CaptureError::read(&left.path, e);
    let stat = file.metadata().map_err(err)?;
    let (bytes, sha256) = file::stage(taking, &left.path, &mut file, stat.len())?;
    let is_wal = left.path.as_os_str().as_bytes().ends_with(b"-wal");
    let suffix = if is_wal { "-wal.kept" } else { "-journal.kept" };
    Ok(Some(Entry {
        path: with_suffix(path, suffix),
        metadata: Metadata::of(&stat).map_err(err)?,
        content: Content::File { bytes, sha256 },
    }))
}

/// Opens a database, reads one value and closes it: what a capture begins with. Tells whether it is
/// in WAL mode.
pub(crate) fn probe(path: &Path, stop: &Stop) -> Result<(bool, Option<Note>), CaptureError> {
    let (live, mut cleared) = preflight::clear(path, stop).map_err(|refused| refused.error)?;
    let note = cleared.note.take();
    let open = live.open()?;
    let read = || -> Result<bool, rusqlite::Error> {
        open.busy_timeout(Duration::from_secs(5))?;
        let () = open.query_row("PRAGMA user_version", [], |_| Ok(()))?;
        let mode: String = open.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        Ok(mode == "wal")
    };
    let read = read();
    cleared.confirm(&live).map_err(|refused| refused.error)?;
    let wal = match read {
        // A capture copies what it can of a damaged one, and says so.
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => false,
        read => read.map_err(|e| live.error(&e))?,
    };
    Ok((wal, note))
}

/// What a live database holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows by table; `None` where the table does not exist or cannot be read.
    pub rows: BTreeMap<String, Option<u64>>,
    /// Newest value by column.
    pub newest: BTreeMap<Column, Option<serde_json::Value>>,
}

/// Counts in a live database, which SQLite opens read-only, and only where a capture would.
///
/// # Errors
/// As those of a capture that cannot begin.
pub fn count_live(
    path: &Path,
    count: &[String],
    newest: &[Column],
    stop: &Stop,
) -> Result<Counts, CaptureError> {
    let (live, cleared) = preflight::clear(path, stop).map_err(|refused| refused.error)?;
    let open = live.open()?;
    let pinned = live.pin(&open, Duration::from_secs(5), stop);
    cleared.confirm(&live).map_err(|refused| refused.error)?;
    if !pinned? {
        return Ok(Counts::default());
    }
    let rows = count.iter().map(|t| (t.clone(), check::rows(&open, t)));
    let newest = newest
        .iter()
        .map(|c| (c.clone(), check::newest(&open, &c.table, &c.column)));
    Ok(Counts {
        rows: rows.collect(),
        newest: newest.collect(),
    })
}

/// The bytes to copy, about: the database's and its WAL's.
pub(crate) fn size(path: &Path) -> u64 {
    let path = real(path);
    file::size(&path) + file::size(&with_suffix(&path, "-wal"))
}

fn one(
    taking: &mut Taking<'_>,
    source: &Source,
    path: &Path,
) -> Result<(Entry, Option<Note>), Refused> {
    let (live, mut cleared) = preflight::clear(path, &taking.stop)?;
    let note = cleared.note.take();
    let Copied { staged, len, cut } = copy(taking, &live, cleared)?;
    let staged = Arc::new(staged);
    let sound = taking.sound.get(path).copied();
    let sound = sound.filter(|sound| sound.check.covers(source.integrity));
    // The bytes in which it found nothing before.
    let known = |hashed: &Hashed| sound.is_some_and(|sound| sound.sha256 == hashed.sha256);
    // They are likely to be those again: then the check waits for the hash, and goes on beside it otherwise.
    let for_nothing = sound.is_some_and(|sound| sound.mtime == live.metadata.mtime);
    let mut verdict = (!for_nothing).then(|| begin_check(taking, source, &staged));
    let wanted = Wanted {
        count: &source.count,
        newest: &source.newest,
    };
    let (hashed, mut facts) =
        check::presumed(staged.path(), &wanted, &taking.stop).map_err(|e| {
            // Nothing is left to be checked.
            verdict.iter().for_each(IntegrityVerdict::give_up);
            match e {
                Failed::Stopped => CaptureError::Stopped,
                Failed::Read(e) => taking.staging.write_error(e, 0).into(),
                Failed::Sqlite(e) => CaptureError::of_the_copy(path, &e.to_string()),
            }
        })?;
    if let Some(finding) = cut {
        facts.add_damage(finding);
    }
    if known(&hashed) {
        if let Some(verdict) = verdict.take() {
            verdict.give_up();
            taking.checking = None;
        }
    } else if verdict.is_none() {
        verdict = Some(begin_check(taking, source, &staged));
    }
    let mut entry = Entry {
        path: path.to_owned(),
        metadata: live.metadata,
        content: Content::Database {
            bytes: Bytes::staged(staged, len, Some(hashed.checksum)),
            sha256: hashed.sha256,
            facts: Box::new(facts),
            verdict,
        },
    };
    if !taking.presume {
        entry.conclude()?;
    }
    Ok((entry, note))
}

/// Begins to check a copy.
fn begin_check(
    taking: &mut Taking<'_>,
    source: &Source,
    staged: &Arc<StagedFile>,
) -> IntegrityVerdict {
    taking.observer.step("checking integrity");
    // One check at a time: each has a large cache.
    if let Some(before) = taking.checking.take() {
        _ = before.wait();
    }
    let verdict = IntegrityVerdict::begin(Arc::clone(staged), source.integrity, &taking.stop);
    taking.checking = Some(verdict.clone());
    verdict
}
