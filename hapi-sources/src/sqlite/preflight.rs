//! A preflight decides whether SQLite may open a live database, before SQLite does.
//!
//! Opening is not harmless, even read-only:
//! - SQLite deletes the WAL of a database of 0 bytes, or 1, at its first read (`pagerOpenWalIfPresent` in
//!   `pager.c`, 3.54), and ignores its rollback journal. The WAL may be the only copy of everything.
//! - It finds the WAL by the name through which the database was opened. Where the hub uses another
//!   name, the copy is old or torn (see [`super::other_name`]).
//! - It creates missing side files as the user who opens. The owner of the database may be unable to
//!   write them, and the hub is read-only from then on (see [`super::side_files`]).
//!
//! The `-wal` carries no locks, so a descriptor of our own may be opened on it: the one exception to
//! the rule that only SQLite opens these files. It is held over SQLite's first read. If the database is
//! truncated in that moment, the bytes of the deleted WAL are still there to be kept.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::live::{self, Live};
use super::names::with_suffix;
use super::{other_name, side_files};
use crate::capture::Note;
use crate::error::{CaptureError, StagingError};
use crate::stop::Stop;

/// A state that a hub passes through in a moment must still be there after this time.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// A `-wal` or `-journal` with content.
#[derive(Debug)]
pub(super) struct SideFile {
    pub(super) path: PathBuf,
    pub(super) len: u64,
    /// `None` where this user may not read it.
    pub(super) file: Option<File>,
}

/// A database that SQLite may open.
#[derive(Debug)]
pub(super) struct Cleared {
    /// The WAL there was; held until the first read is done.
    wal: Option<SideFile>,
    /// What the operator should know.
    pub(super) note: Option<Note>,
}

/// Why a database is not opened.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: CaptureError,
    /// What is left of its content, to be kept.
    pub(super) left: Option<SideFile>,
}

impl From<StagingError> for Refused {
    fn from(error: StagingError) -> Self {
        CaptureError::from(error).into()
    }
}

impl From<CaptureError> for Refused {
    fn from(error: CaptureError) -> Self {
        Self { error, left: None }
    }
}

/// Looks at a database and its side files without opening the database.
///
/// # Errors
/// [`CaptureError::DatabaseLost`], [`CaptureError::EmptyDatabase`], [`CaptureError::OtherName`],
/// [`CaptureError::WouldLockOut`], or that the database cannot be looked at.
pub(super) fn clear<'a>(path: &'a Path, stop: &Stop) -> Result<(Live<'a>, Cleared), Refused> {
    let (mut live, mut wal) = look(path)?;
    if live.as_ref().is_ok_and(Live::is_empty) || is_lost(&live, wal.as_ref()) {
        // The first transaction of a new database looks like this for a moment.
        stop.pause(SECOND_LOOK)?;
        (live, wal) = look(path)?;
        if is_lost(&live, wal.as_ref()) {
            return Err(lost(path, live.is_err(), wal));
        }
    }
    let live = live?;
    if live.is_empty() {
        let path = path.to_owned();
        return Err(CaptureError::EmptyDatabase { path }.into());
    }
    let note = other_name::look(&live, stop)?;
    side_files::check(&live, true)?;
    let wal = wal.filter(SideFile::is_wal);
    Ok((live, Cleared { wal, note }))
}

impl Cleared {
    /// Looks again, once SQLite has read the database for the first time.
    ///
    /// # Errors
    /// As [`clear`]: the database was truncated, or side files were made, in between.
    pub(super) fn confirm(self, live: &Live<'_>) -> Result<(), Refused> {
        let empty = live
            .real
            .metadata()
            .map_or(true, |m| live::is_empty(m.len()));
        if let Some(wal) = self.wal
            && empty
        {
            return Err(lost(live.path, !live.real.exists(), Some(wal)));
        }
        side_files::check(live, false).map_err(Refused::from)
    }
}

type Looked<'a> = (Result<Live<'a>, CaptureError>, Option<SideFile>);

/// Side files first, then the database: a hub makes the database first, so one that is alive is never
/// seen with a WAL and without a database.
fn look(path: &Path) -> Result<Looked<'_>, CaptureError> {
    let real = super::names::real(path);
    let side = match SideFile::open(&real, "-wal")? {
        Some(wal) => Some(wal),
        None => SideFile::open(&real, "-journal")?,
    };
    match Live::look(path) {
        Ok(live) => Ok((Ok(live), side)),
        Err(error @ CaptureError::Missing { .. }) => Ok((Err(error), side)),
        // A link whose target is gone.
        Err(CaptureError::Read { path, error }) if error.kind() == io::ErrorKind::NotFound => {
            Ok((Err(CaptureError::Read { path, error }), side))
        }
        Err(error) => Err(error),
    }
}

fn is_lost(live: &Result<Live<'_>, CaptureError>, side: Option<&SideFile>) -> bool {
    side.is_some() && live.as_ref().map_or(true, Live::is_empty)
}

fn lost(path: &Path, missing: bool, side: Option<SideFile>) -> Refused {
    let (name, bytes) = match &side {
        Some(side) => (side.path.clone(), side.len),
        None => (with_suffix(path, "-wal"), 0),
    };
    let is_readable = side.as_ref().is_some_and(|side| side.file.is_some());
    Refused {
        error: CaptureError::DatabaseLost {
            path: path.to_owned(),
            missing,
            pid: other_name::who_has(&name),
            side: name,
            bytes,
            is_readable,
        },
        left: side,
    }
}

impl SideFile {
    fn open(database: &Path, suffix: &str) -> Result<Option<Self>, CaptureError> {
        let path = with_suffix(database, suffix);
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        // A journal is only looked at: nothing needs its content while its database is there.
        let looked = path.symlink_metadata();
        let stat = match looked {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CaptureError::read(&path, error)),
        };
        if !stat.is_file() || stat.len() == 0 {
            return Ok(None);
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits() as i32)
            .open(&path)
            .ok();
        // Between the two looks another file may have taken the name.
        let same = |file: &File| file.metadata().is_ok_and(|m| m.ino() == stat.ino());
        Ok(Some(Self {
            file: file.filter(same),
            len: stat.len(),
            path,
        }))
    }

    fn is_wal(&self) -> bool {
        self.path.as_os_str().as_encoded_bytes().ends_with(b"-wal")
    }
}
