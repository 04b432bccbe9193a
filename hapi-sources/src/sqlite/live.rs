//! A live database as the file system shows it. Whether SQLite may open it, the preflight decides.

use std::fs::{File, Metadata as StdMetadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::ffi::ErrorCode;
use rusqlite::{Connection, OpenFlags};

use super::names::{real, with_suffix};
use crate::error::CaptureError;
use crate::facts::Metadata;
use crate::file::pinned::{Links, Pinned};
use crate::permission::Barrier;
use crate::stop::Stop;

/// Between two tries for a lock, and two steps of a copy that had none.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// A database as the file system shows it.
#[derive(Debug)]
pub(super) struct Live<'a> {
    pub(super) path: &'a Path,
    /// SQLite resolves links, and keeps the side files beside the real file.
    pub(super) real: PathBuf,
    pub(super) metadata: Metadata,
    pub(super) stat: StdMetadata,
}

impl<'a> Live<'a> {
    pub(super) fn look(path: &'a Path) -> Result<Self, CaptureError> {
        let pinned = Pinned::regular(path, Links::Follow, "a database")?;
        let err = |e| CaptureError::read(path, e);
        let mut metadata = Metadata::of(&pinned.stat).map_err(err)?;
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
            stat: pinned.stat,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        is_empty(self.stat.len())
    }

    /// Opens it read-only. Only what passed the preflight may get here.
    pub(super) fn open(&self) -> Result<Connection, CaptureError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let _opening = one_at_a_time();
        Connection::open_with_flags(&self.real, flags).map_err(|e| self.error(&e))
    }

    /// Starts a read transaction, waiting for locks until the limit is reached. `user_version`
    /// stands in the header, so a damaged schema does not keep a database from being pinned and
    /// copied. Returns false where SQLite calls the file malformed even so.
    pub(super) fn pin(
        &self,
        live: &Connection,
        limit: Duration,
        stop: &Stop,
    ) -> Result<bool, CaptureError> {
        live.busy_timeout(Duration::from_millis(100).min(limit))
            .map_err(|e| self.error(&e))?;
        let start = Instant::now();
        loop {
            stop.check()?;
            let pinned = live
                .execute_batch("BEGIN")
                .and_then(|()| live.query_row("PRAGMA user_version", [], |_| Ok(())));
            let Err(e) = pinned else { return Ok(true) };
            let _ = live.execute_batch("ROLLBACK");
            if e.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) {
                return Ok(false);
            }
            if !is_busy(&e) || start.elapsed() >= limit {
                return Err(self.error(&e));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Looks at the files by descriptors of our own, unless this process has a connection to the
    /// database: closing a descriptor drops all POSIX locks that the process holds on its file
    /// (fcntl(2), "Record locks"). `None` where it has one, or may not read the database.
    pub(super) fn by_descriptor<T>(&self, look: impl FnOnce(&File) -> T) -> Option<T> {
        let _opening = one_at_a_time();
        let own = std::fs::read_dir("/proc/self/fd").ok()?;
        let is_it = |m: &StdMetadata| (m.dev(), m.ino()) == (self.stat.dev(), self.stat.ino());
        let held = own
            .flatten()
            .filter_map(|fd| fd.path().metadata().ok())
            .any(|m| is_it(&m));
        if held {
            return None;
        }
        let file = File::open(&self.real).ok()?;
        file.metadata()
            .is_ok_and(|m| is_it(&m))
            .then(|| look(&file))
    }

    pub(super) fn error(&self, e: &rusqlite::Error) -> CaptureError {
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
                self.cannot_open(e)
            }
            _ => CaptureError::Sqlite {
                path,
                reason: e.to_string(),
            },
        }
    }

    /// The first file that SQLite needs and this user may not read: SQLite itself names none.
    fn unreadable(&self) -> Option<Barrier> {
        ["", "-wal", "-shm", "-journal"]
            .iter()
            .find_map(|suffix| Barrier::to_reading(&with_suffix(&self.real, suffix)))
    }

    /// What keeps this user from writing where a reader of a database in WAL mode does: to the `-shm`, and to the
    /// folder where a side file is missing.
    fn unwritable(&self) -> Option<(&'static str, Barrier)> {
        let side = |suffix| with_suffix(&self.real, suffix);
        if ["-wal", "-shm"].iter().all(|suffix| side(suffix).exists()) {
            return Some(("write to", Barrier::to_writing(&side("-shm"))?));
        }
        let folder = self.real.parent().unwrap_or(Path::new("/"));
        let barrier = Barrier::to_writing_in(folder)?;
        Some(("put the `-wal` and `-shm` files into", barrier))
    }

    fn cannot_open(&self, e: &rusqlite::Error) -> CaptureError {
        let side = |suffix| {
            with_suffix(&self.real, suffix)
                .metadata()
                .map_or(0, |m| m.len())
        };
        let path = self.path.to_owned();
        if let Some(barrier) = self.unreadable() {
            let to = "read";
            return CaptureError::Barred { path, to, barrier };
        }
        if side("-journal") > 0 {
            return CaptureError::HotJournal {
                path,
                reason: e.to_string(),
            };
        }
        // No mode helps a reader here.
        if side("-wal") > 0 && side("-shm") == 0 {
            let reason =
                format!("its `-wal` file has content but the `-shm` file is missing ({e})");
            return CaptureError::CannotOpen { path, reason };
        }
        if let Some((to, barrier)) = self.unwritable() {
            return CaptureError::Barred { path, to, barrier };
        }
        let reason = e.to_string();
        CaptureError::CannotOpen { path, reason }
    }
}

/// SQLite takes a file of one byte for an empty one (`unixFileSize` in `os_unix.c`).
pub(super) fn is_empty(bytes: u64) -> bool {
    bytes <= 1
}

/// Opening and looking by descriptor exclude each other within this process: locks are the process's,
/// so the guard over them has to be, too.
fn one_at_a_time() -> std::sync::MutexGuard<'static, ()> {
    static OPENING: Mutex<()> = Mutex::new(());
    OPENING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_busy(e: &rusqlite::Error) -> bool {
    matches!(
        e.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}
