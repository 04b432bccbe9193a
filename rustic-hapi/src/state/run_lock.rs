//! A run lock keeps two runs of ours on one machine from using one repository at the same time.
//!
//! It is a file that the kernel locks (`flock`), so a killed run leaves nothing behind that a
//! human would have to clear.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hapi_sources::Stop;
use sha2::{Digest, Sha256};

use crate::destination::location::Location;
use crate::error::Error;
use crate::machine::private_files::{give_to_owner_of, private_folder};
use crate::profile::reach::Reach;

/// Held for as long as it lives.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock of a repository, waiting for at most `wait`.
    ///
    /// # Errors
    /// [`Error::Locked`] with the holder's process id, [`Error::State`] where the folder cannot be
    /// used.
    pub(crate) fn take(
        folder: &Path,
        location: &Location,
        wait: Duration,
        stop: &Stop,
    ) -> Result<Self, Error> {
        private_folder(folder)?;
        let path = file(folder, location);
        let state = Error::at(&path);
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(state)?;
        give_to_owner_of(folder, &file).map_err(state)?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(state(error)),
                Err(TryLockError::WouldBlock) if started.elapsed() >= wait => {
                    return Err(Error::Locked {
                        holder: holder(&mut file),
                        path,
                    });
                }
                Err(TryLockError::WouldBlock) if stop.is_set() => {
                    return Err(Error::Capture(hapi_sources::CaptureError::Stopped));
                }
                Err(TryLockError::WouldBlock) => {
                    stop.progressed();
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(state)?;
        Ok(Self { _file: file })
    }
}

fn file(folder: &Path, location: &Location) -> PathBuf {
    // One repository is one, however its path is written.
    let place = location
        .local()
        .and_then(|folder| fs::canonicalize(folder).ok())
        .map_or_else(
            || location.with_credentials(),
            |path| path.to_string_lossy().into_owned(),
        );
    let digest = hex::encode(Sha256::digest(place));
    folder.join(format!("run-{}.lock", &digest[..16]))
}

/// Whether another run has taken the lock of a repository since a run of this process had it. It is read, not
/// tried: trying would keep a run from beginning.
pub(crate) fn is_taken_over(reach: &Reach) -> bool {
    let written = fs::read_to_string(file(&lock_folder(reach), &reach.location));
    let holder = written
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok());
    holder.is_some_and(|pid| pid != std::process::id())
}

/// Where the locks of this user's runs are.
pub(crate) fn lock_folder(reach: &Reach) -> PathBuf {
    reach.state.parent().unwrap_or(&reach.state).join("locks")
}

/// Takes the lock that a run, or anything else that deletes, holds.
pub(crate) fn lock(reach: &Reach, wait: Duration, stop: &Stop) -> Result<RunLock, Error> {
    RunLock::take(&lock_folder(reach), &reach.location, wait, stop)
}

/// Takes the lock that keeps out runs of this hub, wherever it is read from.
pub(crate) fn lock_runs(reach: &Reach, wait: Duration, stop: &Stop) -> Result<RunLock, Error> {
    let main = reach.main.as_ref().unwrap_or(&reach.location);
    RunLock::take(&lock_folder(reach), main, wait, stop)
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.rewind().and_then(|()| file.read_to_string(&mut text)) {
        Ok(_) if !text.trim().is_empty() => format!("it is process {}", text.trim()),
        _ => "its process is not known".to_owned(),
    }
}
