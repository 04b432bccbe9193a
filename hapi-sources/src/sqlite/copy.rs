//! A copy is one state of a live database, made by SQLite's online backup API
//! (<https://sqlite.org/backup.html>).
//!
//! A read transaction pins that state first. Without it every commit of another process would start
//! the copy over, and a busy hub's would never end. The pin keeps the WAL from being reset, so it
//! is released as soon as the local copy is done.

use std::io;
use std::thread;
use std::time::Instant;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::ffi::{self, ErrorCode};
use rusqlite::{Connection, OpenFlags};

use super::header::opens_anywhere;
use super::live::{Live, PAUSE};
use super::preflight::{Cleared, Refused};
use crate::error::{CaptureError, StagingError};
use crate::staging::Staging;
use crate::staging::bytes::StagedFile;
use crate::taking::Taking;

/// Bytes to copy between two looks at the clock.
const STEP: u32 = 8 << 20;

/// One state of a database.
pub(super) struct Copied {
    pub(super) staged: StagedFile,
    pub(super) len: u64,
    /// A finding: the file was shorter than it says.
    pub(super) cut: Option<String>,
}

pub(super) fn copy(
    taking: &Taking<'_>,
    db: &Live<'_>,
    cleared: Cleared,
) -> Result<Copied, Refused> {
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
    .map_err(|e| staging_error(taking.staging, &e, 0))?;
    target
        .execute_batch(
            "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -1024",
        )
        .map_err(|e| staging_error(taking.staging, &e, 0))?;
    pages(taking, db, &live, &mut target, start)?;
    // The pin ends here: nothing below needs the live database.
    drop(live);
    target
        .close()
        .map_err(|(_, e)| staging_error(taking.staging, &e, 0))?;
    let len = opens_anywhere(staged.path()).map_err(|e| taking.staging.write_error(e, 0))?;
    taking.stop.check()?;
    Ok(Copied { staged, len, cut })
}

/// Copies all pages.
fn pages(
    taking: &Taking<'_>,
    db: &Live<'_>,
    live: &Connection,
    target: &mut Connection,
    start: Instant,
) -> Result<(), CaptureError> {
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
            Ok(StepResult::Done) => return Ok(()),
            Ok(StepResult::More) => {}
            Ok(_) => thread::sleep(PAUSE),
            Err(e) if writes(&e) => return Err(staging_error(taking.staging, &e, needed).into()),
            Err(e) => return Err(db.error(&e)),
        }
        outcome = backup.step(step);
        let now = backup.progress().remaining;
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

fn staging_error(staging: &Staging, e: &rusqlite::Error, needed: u64) -> StagingError {
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => staging.no_space(needed),
        _ => staging.write_error(io::Error::other(e.to_string()), needed),
    }
}
