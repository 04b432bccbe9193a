//! A live SQLite database is copied by SQLite's online backup API (<https://sqlite.org/backup.html>).
//!
//! A read transaction pins one state first. Without it every commit of another process would start
//! the copy over, and a busy hub's would never end. The pin keeps the WAL from being reset, so it
//! is released as soon as the local copy is done; all checks run on the copy.
//!
//! Nothing here opens the database or its side files but SQLite itself: closing another handle on
//! them drops the locks that SQLite holds in this process.

mod check;
mod examine;
mod hash;
mod verdict;

pub use examine::{examine, tables};
pub use verdict::{IntegrityVerdict, Unknown};

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::ffi::{self, ErrorCode};
use rusqlite::{Connection, OpenFlags};

use crate::capture::{Capture, Capturer, Content, Entry, Failure, Metadata};
use crate::error::{CaptureError, StagingError};
use crate::file::{self, Links, Pinned};
use crate::guard::{SIDE_FILES, real, with_suffix};
use crate::source::Source;
use crate::staging::{Bytes, StagedFile};
use crate::tree::{self, Pattern};
use check::{Failed, Wanted};
use hash::{Behind, Hashed};

/// Bytes to copy between two looks at the clock.
const STEP: u32 = 8 << 20;
const PAUSE: Duration = Duration::from_millis(20);

/// Captures one database, or all that match a pattern.
pub(crate) fn capture(c: &mut Capturer<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let captured = all(c, source);
    if captured.is_err()
        && let Some(checking) = c.checking.take()
    {
        // The copy that it keeps is in the way of the next source's.
        checking.give_up();
    }
    captured
}

fn all(c: &mut Capturer<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let mut capture = Capture::empty(source);
    if !source.is_pattern() {
        capture.entries.push(one(c, source, &source.path)?);
        return Ok(capture);
    }
    let found = Pattern::parse(&source.path)?.find(&tree::exclusions(source)?, &c.stop)?;
    let paths: Vec<PathBuf> = found
        .paths
        .into_iter()
        .filter(|p| !is_side_file(p))
        .collect();
    let mut failures = found.failures;
    if paths.is_empty() && failures.is_empty() {
        return Err(CaptureError::NoMatch {
            path: source.path.clone(),
        });
    }
    for path in paths {
        match one(c, source, &path) {
            Ok(entry) => capture.entries.push(entry),
            Err(e @ (CaptureError::Stopped | CaptureError::Staging(_))) => return Err(e),
            Err(error) => failures.push(Failure { path, error }),
        }
    }
    if capture.entries.is_empty() {
        return Err(failures.swap_remove(0).error);
    }
    capture.failures = failures;
    Ok(capture)
}

/// Whether SQLite would call a file of a database's so.
pub(crate) fn is_side_file(path: &Path) -> bool {
    let name = path.as_os_str().as_encoded_bytes();
    SIDE_FILES.iter().any(|s| name.ends_with(s.as_bytes()))
}

/// Opens a database, reads one value and closes it: what a capture begins with. Tells whether it is
/// in WAL mode.
pub(crate) fn probe(path: &Path) -> Result<bool, CaptureError> {
    let live = Live::look(path)?;
    let open = live.open()?;
    let read = || -> Result<bool, rusqlite::Error> {
        open.busy_timeout(Duration::from_secs(5))?;
        let () = open.query_row("PRAGMA user_version", [], |_| Ok(()))?;
        let mode: String = open.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        Ok(mode == "wal")
    };
    match read() {
        // A capture copies what it can of a damaged one, and says so.
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => Ok(false),
        read => read.map_err(|e| live.error(&e)),
    }
}

/// The bytes to copy, about: the database's and its WAL's.
pub(crate) fn size(path: &Path) -> u64 {
    let path = real(path);
    tree::size(&path) + tree::size(&with_suffix(&path, "-wal"))
}

fn one(c: &mut Capturer<'_>, source: &Source, path: &Path) -> Result<Entry, CaptureError> {
    let live = Live::look(path)?;
    let Copied {
        staged,
        len,
        hashed,
        cut,
    } = copy(c, &live)?;
    let staged = Arc::new(staged);
    let sound = c.sound.get(path).copied();
    let sound = sound.filter(|sound| sound.check.covers(source.integrity));
    // The bytes in which it found nothing before.
    let known = |hashed: &Hashed| sound.is_some_and(|sound| sound.sha256 == hashed.sha256);
    let for_nothing = match &hashed {
        Some(hashed) => known(hashed),
        // It is likely to be: then the check waits for the hash, and goes on beside it otherwise.
        None => sound.is_some_and(|sound| sound.mtime == live.metadata.mtime),
    };
    let mut verdict = (!for_nothing).then(|| begin_check(c, source, &staged));
    let wanted = Wanted {
        count: &source.count,
        newest: &source.newest,
    };
    let (hashed, mut facts) =
        check::presumed(staged.path(), hashed, &wanted, &c.stop).map_err(|e| {
            // Nothing is left to be checked.
            verdict.iter().for_each(IntegrityVerdict::give_up);
            match e {
                Failed::Stopped => CaptureError::Stopped,
                Failed::Read(e) => c.staging.write_error(e, 0).into(),
                Failed::Sqlite(e) => of_the_copy(path, &e.to_string()),
            }
        })?;
    if let Some(finding) = cut {
        facts.add_damage(finding);
    }
    if known(&hashed) {
        if let Some(verdict) = verdict.take() {
            verdict.give_up();
            c.checking = None;
        }
    } else if verdict.is_none() {
        verdict = Some(begin_check(c, source, &staged));
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
    if !c.presume {
        entry.conclude()?;
    }
    Ok(entry)
}

/// Begins to check a copy.
fn begin_check(
    c: &mut Capturer<'_>,
    source: &Source,
    staged: &Arc<StagedFile>,
) -> IntegrityVerdict {
    c.observer.step("checking integrity");
    // One check at a time: each has a large cache.
    if let Some(before) = c.checking.take() {
        _ = before.wait();
    }
    let verdict = IntegrityVerdict::begin(Arc::clone(staged), source.integrity, &c.stop);
    c.checking = Some(verdict.clone());
    verdict
}

impl Entry {
    /// Waits for SQLite's verdict, where one is still to come, and puts it into the facts.
    pub(crate) fn conclude(&mut self) -> Result<(), CaptureError> {
        let Content::Database { facts, verdict, .. } = &mut self.content else {
            return Ok(());
        };
        match verdict.take().map(|verdict| verdict.wait()) {
            None => Ok(()),
            Some(Ok(integrity)) => {
                facts.judge(integrity);
                Ok(())
            }
            Some(Err(Unknown::Stopped)) => Err(CaptureError::Stopped),
            Some(Err(Unknown::Failed { reason })) => Err(of_the_copy(&self.path, &reason)),
        }
    }
}

fn of_the_copy(path: &Path, reason: &str) -> CaptureError {
    CaptureError::Sqlite {
        path: path.to_owned(),
        reason: format!("checking the copy: {reason}"),
    }
}

/// A database as the file system shows it.
struct Live<'a> {
    path: &'a Path,
    real: PathBuf,
    metadata: Metadata,
}

impl<'a> Live<'a> {
    fn look(path: &'a Path) -> Result<Self, CaptureError> {
        let pinned = Pinned::new(path, Links::Follow).map_err(|e| file::look_error(path, e))?;
        if !pinned.stat.is_file() {
            let found = file::found(&pinned.stat);
            return Err(CaptureError::WrongType {
                path: path.to_owned(),
                found,
                wanted: "a database",
            });
        }
        let err = |e| file::read_error(path, e);
        let mut metadata = file::metadata(&pinned.stat).map_err(err)?;
        // SQLite resolves links, and keeps the side files beside the real file.
        let real = real(path);
        // An empty WAL holds nothing; a reader makes one where the hub closed cleanly.
        if let Ok(wal) = with_suffix(&real, "-wal").metadata()
            && wal.len() > 0
        {
            metadata.mtime = metadata.mtime.max(wal.modified().map_err(err)?);
        }
        Ok(Self {
            path,
            real,
            metadata,
        })
    }

    fn open(&self) -> Result<Connection, CaptureError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(&self.real, flags).map_err(|e| self.error(&e))
    }

    /// Starts a read transaction, waiting for locks until the limit is reached. `user_version`
    /// stands in the header, so a damaged schema does not keep a database from being pinned and
    /// copied. Returns false where SQLite calls the file malformed even so.
    fn pin(&self, c: &Capturer<'_>, live: &Connection) -> Result<bool, CaptureError> {
        live.busy_timeout(Duration::from_millis(100).min(c.limits.busy))
            .map_err(|e| self.error(&e))?;
        let start = Instant::now();
        loop {
            c.check_stop()?;
            let pinned = live
                .execute_batch("BEGIN")
                .and_then(|()| live.query_row("PRAGMA user_version", [], |_| Ok(())));
            let Err(e) = pinned else { return Ok(true) };
            let _ = live.execute_batch("ROLLBACK");
            if e.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) {
                return Ok(false);
            }
            if !is_busy(&e) || start.elapsed() >= c.limits.busy {
                return Err(self.error(&e));
            }
            thread::sleep(PAUSE);
        }
    }

    fn error(&self, e: &rusqlite::Error) -> CaptureError {
        let path = self.path.to_owned();
        let Some(code) = e.sqlite_error() else {
            return CaptureError::Sqlite {
                path,
                reason: e.to_string(),
            };
        };
        match code.code {
            _ if !self.real.exists() => CaptureError::Missing { path },
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => CaptureError::Locked { path },
            ErrorCode::NotADatabase => CaptureError::NotADatabase { path },
            ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
                CaptureError::CannotOpen {
                    path,
                    reason: self.why_not(e),
                }
            }
            _ => CaptureError::Sqlite {
                path,
                reason: e.to_string(),
            },
        }
    }

    fn why_not(&self, e: &rusqlite::Error) -> String {
        let side = |suffix| {
            with_suffix(&self.real, suffix)
                .metadata()
                .map_or(0, |m| m.len())
        };
        if side("-wal") > 0 && side("-shm") == 0 {
            return format!(
                "there is a `-wal` file with content but no `-shm` file to read it by ({e})"
            );
        }
        if side("-journal") > 0 {
            return format!(
                "a `-journal` file was left by a crash, and only a writer may roll it back ({e})"
            );
        }
        e.to_string()
    }
}

fn is_busy(e: &rusqlite::Error) -> bool {
    matches!(
        e.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
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

fn copy(c: &mut Capturer<'_>, db: &Live<'_>) -> Result<Copied, CaptureError> {
    let start = Instant::now();
    let mut live = db.open()?;
    let mut cut = None;
    if !db.pin(c, &live)? {
        // A file shorter than its header says is refused as malformed. With this switch SQLite
        // goes by the file's real size instead; on this connection nothing can be written anyway.
        live = db.open()?;
        live.execute_batch("PRAGMA writable_schema = ON")
            .map_err(|e| db.error(&e))?;
        if !db.pin(c, &live)? {
            let reason = "the database disk image is malformed".into();
            return Err(CaptureError::Sqlite {
                path: db.path.to_owned(),
                reason,
            });
        }
        cut = Some("the file is shorter than its header says".to_owned());
    }
    let (staged, file) = c.staging.file()?;
    // Closed before SQLite opens it, for the same reason that the live file is never opened here.
    drop(file);
    let mut target = Connection::open_with_flags(
        staged.path(),
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|e| staging_error(c, &e, 0))?;
    let cache = hash::CACHE >> 10;
    target
        .execute_batch(&format!(
            "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -{cache}"
        ))
        .map_err(|e| staging_error(c, &e, 0))?;
    let behind = pages(c, db, &live, &mut target, staged.path(), start)?;
    // The pin ends here: nothing below needs the live database.
    drop(live);
    target.close().map_err(|(_, e)| staging_error(c, &e, 0))?;
    let finish = || -> io::Result<_> {
        let len = opens_anywhere(staged.path())?;
        let hashed = behind.map_or(Ok(None), |behind| behind.finish(len))?;
        Ok((len, hashed))
    };
    let (len, hashed) = finish().map_err(|e| c.staging.write_error(e, 0))?;
    c.check_stop()?;
    Ok(Copied {
        staged,
        len,
        hashed,
        cut,
    })
}

/// Copies all pages, and begins to hash them where it can.
fn pages(
    c: &Capturer<'_>,
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
    c.staging.require(needed)?;
    let behind = hash::foresee(live, pages).and_then(|first| Behind::begin(copy, first, &c.stop));
    let mut left = backup.progress().remaining;
    loop {
        c.check_stop()?;
        if start.elapsed() > c.limits.copy {
            let seconds = c.limits.copy.as_secs();
            return Err(CaptureError::Deadline {
                path: db.path.to_owned(),
                seconds,
            });
        }
        match outcome {
            Ok(StepResult::Done) => return Ok(behind),
            Ok(StepResult::More) => {}
            Ok(_) => thread::sleep(PAUSE),
            Err(e) if writes(&e) => return Err(staging_error(c, &e, needed).into()),
            Err(e) => return Err(db.error(&e)),
        }
        outcome = backup.step(step);
        let now = backup.progress().remaining;
        if let Some(behind) = &behind {
            let copied = pages.saturating_sub(now.max(0) as u32);
            behind.copied(u64::from(page_size) * u64::from(copied));
        }
        c.advance(u64::from(page_size) * (left - now).max(0) as u64);
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

fn staging_error(c: &Capturer<'_>, e: &rusqlite::Error, needed: u64) -> StagingError {
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => c.staging.no_space(needed),
        _ => c
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
