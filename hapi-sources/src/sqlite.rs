//! A live SQLite database is copied by SQLite's online backup API (<https://sqlite.org/backup.html>).
//!
//! A read transaction pins one state first. Without it every commit of another process would start
//! the copy over, and a busy hub's would never end. The pin keeps the WAL from being reset, so it
//! is released as soon as the local copy is done; all checks run on the copy.
//!
//! Nothing here opens the database or its side files but SQLite itself: closing another handle on
//! them drops the locks that SQLite holds in this process.

mod check;
pub(crate) mod examine;
mod hash;
mod live;
pub(crate) mod names;
mod other_name;
mod preflight;
mod side_files;
pub(crate) mod verdict;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::ffi::{self, ErrorCode};
use rusqlite::{Connection, OpenFlags};

use crate::capture::{Capture, Content, Entry, Failure, Note};
use crate::error::{CaptureError, StagingError};
use crate::facts::Metadata;
use crate::file;

use crate::source::Source;
use crate::staging::bytes::{Bytes, StagedFile};
use crate::stop::Stop;
use crate::taking::Taking;
use crate::tree::pattern::{Found, Pattern, exclusions};
use check::{Failed, Wanted};
use hash::{Behind, Hashed};
use live::Live;
use names::{is_side_file, real, with_suffix};
use preflight::{Cleared, Refused, SideFile};
use verdict::IntegrityVerdict;

/// Bytes to copy between two looks at the clock.
const STEP: u32 = 8 << 20;
const PAUSE: Duration = Duration::from_millis(20);

/// Captures one database, or all that match a pattern.
pub(crate) fn capture(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let captured = all(taking, source);
    if captured.is_err()
        && let Some(checking) = taking.checking.take()
    {
        // The copy that it keeps is in the way of the next source's.
        checking.give_up();
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
    let mut found = Pattern::parse(&source.path)?.find(&exclude, stop)?;
    found.paths.retain(|path| !is_side_file(path));
    let wals = Pattern::parse(&with_suffix(&source.path, "-wal"))?.find(&exclude, stop)?;
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
    let Copied {
        staged,
        len,
        hashed,
        cut,
    } = copy(taking, &live, cleared)?;
    let staged = Arc::new(staged);
    let sound = taking.sound.get(path).copied();
    let sound = sound.filter(|sound| sound.check.covers(source.integrity));
    // The bytes in which it found nothing before.
    let known = |hashed: &Hashed| sound.is_some_and(|sound| sound.sha256 == hashed.sha256);
    let for_nothing = match &hashed {
        Some(hashed) => known(hashed),
        // It is likely to be: then the check waits for the hash, and goes on beside it otherwise.
        None => sound.is_some_and(|sound| sound.mtime == live.metadata.mtime),
    };
    let mut verdict = (!for_nothing).then(|| begin_check(taking, source, &staged));
    let wanted = Wanted {
        count: &source.count,
        newest: &source.newest,
    };
    let (hashed, mut facts) = check::presumed(staged.path(), hashed, &wanted, &taking.stop)
        .map_err(|e| {
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

/// One state of a database.
struct Copied {
    staged: StagedFile,
    len: u64,
    /// Where the hash could be taken on the way.
    hashed: Option<Hashed>,
    /// A finding: the file was shorter than it says.
    cut: Option<String>,
}

fn copy(taking: &mut Taking<'_>, db: &Live<'_>, cleared: Cleared) -> Result<Copied, Refused> {
    let start = Instant::now();
    let mut live = db.open()?;
    let mut cut = None;
    let pinned = db.pin(&live, taking.limits.busy, &taking.stop);
    cleared.confirm(db)?;
    if !pinned? {
        // A file shorter than its header says is refused as malformed. With this switch SQLite
        // goes by the file's real size instead; on this connection nothing can be written anyway.
        live = db.open()?;
        live.execute_batch("PRAGMA writable_schema = ON")
            .map_err(|e| db.error(&e))?;
        if !db.pin(&live, taking.limits.busy, &taking.stop)? {
            let reason = "the database disk image is malformed".into();
            return Err(CaptureError::Sqlite {
                path: db.path.to_owned(),
                reason,
            }
            .into());
        }
        cut = Some("the file is shorter than its header says".to_owned());
    }
    let (staged, file) = taking.staging.file()?;
    // Closed before SQLite opens it, for the same reason that the live file is never opened here.
    drop(file);
    let mut target = Connection::open_with_flags(
        staged.path(),
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|e| staging_error(taking, &e, 0))?;
    let cache = hash::CACHE >> 10;
    target
        .execute_batch(&format!(
            "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -{cache}"
        ))
        .map_err(|e| staging_error(taking, &e, 0))?;
    let behind = pages(taking, db, &live, &mut target, staged.path(), start)?;
    // The pin ends here: nothing below needs the live database.
    drop(live);
    target
        .close()
        .map_err(|(_, e)| staging_error(taking, &e, 0))?;
    let finish = || -> io::Result<_> {
        let len = opens_anywhere(staged.path())?;
        let hashed = behind.map_or(Ok(None), |behind| behind.finish(len))?;
        Ok((len, hashed))
    };
    let (len, hashed) = finish().map_err(|e| taking.staging.write_error(e, 0))?;
    taking.stop.check()?;
    Ok(Copied {
        staged,
        len,
        hashed,
        cut,
    })
}

/// Copies all pages, and begins to hash them where it can.
fn pages(
    taking: &Taking<'_>,
    db: &Live<'_>,
    live: &Connection,
    target: &mut Connection,
    copy: &Path,
    start: Instant,
) -> Result<Option<Behind>, CaptureError> {
    let page_size: u32 = live
        .query_row("PRAGMA page_size", [], |r| r.get(0))
        .map_err(|e| db.error(&e))?;
    let step = i32::try_from(STEP / page_size.max(512)).unwrap_or(1).max(1);
    let backup = Backup::new(live, target).map_err(|e| db.error(&e))?;
    // Copies nothing, and tells how many pages there are.
    let mut outcome = backup.step(0);
    let pages = backup.progress().pagecount.max(0) as u32;
    let needed = u64::from(page_size) * u64::from(pages);
    taking.staging.require(needed)?;
    let behind =
        hash::foresee(live, pages).and_then(|first| Behind::begin(copy, first, &taking.stop));
    let mut left = backup.progress().remaining;
    loop {
        taking.stop.check()?;
        if start.elapsed() > taking.limits.copy {
            let seconds = taking.limits.copy.as_secs();
            return Err(CaptureError::Deadline {
                path: db.path.to_owned(),
                seconds,
            });
        }
        match outcome {
            Ok(StepResult::Done) => return Ok(behind),
            Ok(StepResult::More) => {}
            Ok(_) => thread::sleep(PAUSE),
            Err(e) if writes(&e) => return Err(staging_error(taking, &e, needed).into()),
            Err(e) => return Err(db.error(&e)),
        }
        outcome = backup.step(step);
        let now = backup.progress().remaining;
        if let Some(behind) = &behind {
            let copied = pages.saturating_sub(now.max(0) as u32);
            behind.copied(u64::from(page_size) * u64::from(copied));
        }
        taking.advance(u64::from(page_size) * (left - now).max(0) as u64);
        left = now;
    }
}

/// Whether an error of the copy comes from the writing side.
fn writes(e: &rusqlite::Error) -> bool {
    let extended = e.sqlite_error().map_or(0, |e| e.extended_code);
    e.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || [
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_TRUNCATE,
            ffi::SQLITE_IOERR_FSYNC,
        ]
        .contains(&extended)
}

fn staging_error(taking: &Taking<'_>, e: &rusqlite::Error, needed: u64) -> StagingError {
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => taking.staging.no_space(needed),
        _ => taking
            .staging
            .write_error(io::Error::other(e.to_string()), needed),
    }
}

/// Sets the header's versions, so that the copy opens anywhere, also where nothing can be written beside
/// it. `PRAGMA journal_mode = DELETE` does the same, but wants a schema without damage.
fn opens_anywhere(copy: &Path) -> io::Result<u64> {
    let file = File::options().read(true).write(true).open(copy)?;
    let len = file.metadata()?.len();
    let mut header = [0; 100];
    if len >= 100 {
        file.read_exact_at(&mut header, 0)?;
        if rollback_journal(&mut header) {
            file.write_all_at(&header, 0)?;
        }
    }
    Ok(len)
}

/// From WAL to rollback journal (bytes 18 and 19, <https://sqlite.org/fileformat2.html>). Returns whether
/// that changed anything.
fn rollback_journal(header: &mut [u8]) -> bool {
    match header.get_mut(18..20) {
        Some(versions) if *versions == [2, 2] => {
            versions.fill(1);
            true
        }
        _ => false,
    }
}
