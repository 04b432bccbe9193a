//! Whether another process uses a database through another name than ours.
//!
//! SQLite finds the WAL and the `-shm` by the name through which a database was opened. A hard link, a
//! file that is mounted into a container, or a rename under a running hub puts them elsewhere: we see
//! neither what the hub committed nor its locks, and SQLite does not notice
//! (<https://sqlite.org/howtocorrupt.html>, "Multiple links to the same file").
//!
//! Certain is a process that has the database open and a WAL that is not ours (`/proc/PID/fd`); or, where
//! processes are hidden, a read lock on the database (`F_GETLK`; in WAL mode a connection holds one until
//! it ends) that nobody holds on the `-shm` beside our name. An idle `sqlite3` shell has no lock, a
//! connection in EXCLUSIVE mode has a write lock, and in another journal mode there is no WAL.

use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use super::header::is_wal;
use super::live::Live;
use super::names::with_suffix;
use crate::capture::Note;
use crate::error::CaptureError;
use crate::stop::Stop;

/// A connection that is being opened or closed looks the same for a moment.
const LOOKS: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(1);

/// The bytes that readers lock (<https://sqlite.org/fileformat2.html#the_lock_byte_page>).
const SHARED: (u64, u64) = (0x4000_0002, 510);
/// The byte of the `-shm` that each connection locks (`UNIX_SHM_DMS` in `os_unix.c`).
const CONNECTED: (u64, u64) = (128, 1);

/// Device and inode.
type Identity = (u64, u64);

/// Who uses the database through another name.
struct User {
    /// `None` where the kernel does not say.
    pid: Option<u32>,
    /// The WAL it has open, where that can be seen.
    wal: Option<PathBuf>,
}

/// Looks whether the name is the one that the hub uses.
///
/// # Errors
/// [`CaptureError::OtherName`] where it certainly is not. What is only possible is a note.
pub(super) fn look(live: &Live<'_>, stop: &Stop) -> Result<Option<Note>, CaptureError> {
    let mut user = find(live);
    for _ in 1..LOOKS {
        if user.is_none() {
            break;
        }
        stop.pause(BETWEEN)?;
        user = find(live);
    }
    if let Some(User { pid, wal }) = user {
        return Err(CaptureError::OtherName {
            path: live.path.to_owned(),
            pid,
            wal,
        });
    }
    let links = live.stat.nlink();
    Ok((links > 1).then(|| Note::SeveralNames {
        path: live.path.to_owned(),
        links,
    }))
}

fn find(live: &Live<'_>) -> Option<User> {
    visible(live).or_else(|| by_locks(live))
}

/// A process whose open files show it.
fn visible(live: &Live<'_>) -> Option<User> {
    let database = (live.stat.dev(), live.stat.ino());
    let wal = with_suffix(&live.real, "-wal");
    let ours = wal.metadata().ok().map(|m| (m.dev(), m.ino()));
    let processes = fs::read_dir("/proc").ok()?;
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find_map(|pid| {
            let wal = wal_of(&open_files(pid), database, ours)?;
            Some(User {
                pid: Some(pid),
                wal: Some(wal),
            })
        })
}

/// Paths and identities of a process's open files, as far as this user may see them. Nothing is opened,
/// and no server is asked.
fn open_files(pid: u32) -> Vec<(PathBuf, Identity)> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd"));
    let file = |link: PathBuf| {
        let target = fs::read_link(&link).ok()?;
        if !target.is_absolute() {
            return None;
        }
        let flags = AtFlags::STATX_DONT_SYNC;
        let stat = statx(CWD, &link, flags, StatxFlags::INO).ok()?;
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        Some((target, (device, stat.stx_ino)))
    };
    fds.into_iter()
        .flatten()
        .flatten()
        .filter_map(|fd| file(fd.path()))
        .collect()
}

/// The WAL that a process with this database has open for it, where it is not ours.
fn wal_of(
    files: &[(PathBuf, Identity)],
    database: Identity,
    ours: Option<Identity>,
) -> Option<PathBuf> {
    if !files.iter().any(|(_, id)| *id == database) {
        return None;
    }
    let wals = || files.iter().filter(|(path, _)| base_of_wal(path).is_some());
    if wals().any(|(_, id)| Some(*id) == ours) {
        return None;
    }
    wals()
        .find(|(path, _)| {
            // One that belongs to another database of the same process says nothing.
            let base = base_of_wal(path);
            files
                .iter()
                .all(|(path, id)| Some(path) != base.as_ref() || *id == database)
        })
        .map(|(path, _)| path.clone())
}

/// The database that a WAL belongs to, by its name. A file that was removed is shown with a suffix.
fn base_of_wal(path: &Path) -> Option<PathBuf> {
    let name = path.as_os_str().as_bytes();
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    let base = name.strip_suffix(b"-wal")?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(base.to_vec())))
}

/// A process that has a file open, as far as this user may see.
pub(super) fn who_has(path: &Path) -> Option<u32> {
    let stat = path.metadata().ok()?;
    let wanted = (stat.dev(), stat.ino());
    fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .find(|pid| open_files(*pid).iter().any(|(_, id)| *id == wanted))
}

/// A process that only the kernel's locks show: in another container, or another user's. A reader that may
/// not write the `-shm` has no lock on it either; so there must be nothing in a WAL beside our name.
fn by_locks(live: &Live<'_>) -> Option<User> {
    let reader = live.by_descriptor(|database| {
        let beside = with_suffix(&live.real, "-wal").metadata();
        if beside.is_ok_and(|wal| wal.len() > 0) {
            return None;
        }
        let reader = locked(database, SHARED)?;
        let in_wal_mode = is_wal(database);
        let shm = File::open(with_suffix(&live.real, "-shm"));
        let beside = shm.is_ok_and(|shm| locked(&shm, CONNECTED).is_some());
        (in_wal_mode && reader.typ == FlockType::ReadLock && !beside).then_some(reader)
    })??;
    let pid = reader.pid.map(|pid| pid.as_raw_nonzero().get());
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    // One whose files can be seen has been looked at.
    if pid.is_some_and(|pid| !open_files(pid).is_empty()) {
        return None;
    }
    Some(User { pid, wal: None })
}

/// The lock of another process that would be in the way of writing.
fn locked(file: &File, (start, length): (u64, u64)) -> Option<Flock> {
    let question = Flock {
        start,
        length,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    fcntl_getlk(file, &question).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wal(files: &[(&str, u64)], ours: Option<u64>) -> Option<PathBuf> {
        let files: Vec<_> = files
            .iter()
            .map(|(path, ino)| (PathBuf::from(path), (1, *ino)))
            .collect();
        wal_of(&files, (1, 7), ours.map(|ino| (1, ino)))
    }

    #[test]
    fn a_wal_elsewhere_is_told_from_that_of_another_database() {
        // The hub as it should be, and one that never wrote.
        assert_eq!(
            wal(&[("/h/hapi.db", 7), ("/h/hapi.db-wal", 8)], Some(8)),
            None
        );
        assert_eq!(wal(&[("/h/hapi.db", 7)], None), None);
        // Another database beside it.
        let other = [("/h/hapi.db", 7), ("/o/x.db", 9), ("/o/x.db-wal", 10)];
        assert_eq!(wal(&other, None), None);
        // A hard link or a mounted file, a rename, a WAL that was removed under the hub.
        let elsewhere = |files: &[(&str, u64)]| wal(files, Some(3)).unwrap();
        let linked = [("/data/hapi.db", 7), ("/data/hapi.db-wal", 8)];
        assert_eq!(elsewhere(&linked), Path::new("/data/hapi.db-wal"));
        let renamed = [("/h/hapi.db", 7), ("/h/old.db-wal", 8)];
        assert_eq!(elsewhere(&renamed), Path::new("/h/old.db-wal"));
        let removed = [("/h/hapi.db", 7), ("/h/hapi.db-wal (deleted)", 8)];
        assert_eq!(elsewhere(&removed), Path::new("/h/hapi.db-wal (deleted)"));
    }
}
