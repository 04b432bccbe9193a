//! A run lock keeps two runs of ours on one machine from using one repository at the same time.
//!
//! It is a file that the kernel locks (`flock`), so a killed run leaves nothing behind that a
//! human would have to clear.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hapi_sources::Stop;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::destination::location::Location;
use crate::error::Error;

/// Held for as long as it lives.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock of a repository, waiting for at most `wait`.
    ///
    /// # Errors
    /// [`Error::Locked`] with the holder's process id, [`Error::State`] where the folder cannot be
    /// used.
    pub fn take(
        folder: &Path,
        location: &Location,
        wait: Duration,
        stop: &Stop,
    ) -> Result<Self, Error> {
        private_folder(folder)?;
        // One repository is one, however its path is written.
        let place = location
            .local()
            .and_then(|folder| fs::canonicalize(folder).ok())
            .map_or_else(
                || location.with_credentials(),
                |path| path.to_string_lossy().into_owned(),
            );
        let digest = hex::encode(Sha256::digest(place));
        let path = folder.join(format!("run-{}.lock", &digest[..16]));
        let state = |error| Error::State {
            path: path.clone(),
            error,
        };
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(state)?;
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

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.rewind().and_then(|()| file.read_to_string(&mut text)) {
        Ok(_) if !text.trim().is_empty() => format!("it is process {}", text.trim()),
        _ => "its process is not known".to_owned(),
    }
}

/// Makes a folder of ours, 0700, with whatever is missing above it.
///
/// # Errors
/// [`Error::State`] with the folder.
pub(crate) fn private_folder(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::State {
            path: path.into(),
            error,
        })
}

/// Why a file with a secret in it cannot be used, and what helps.
pub(crate) struct Unfit {
    pub(crate) fact: String,
    pub(crate) hint: String,
}

/// Reads a file that nobody but its owner may read. `missing` is the hint where it cannot be found.
pub(crate) fn read_private(path: &Path, missing: &str) -> Result<Zeroizing<String>, Unfit> {
    let unfit = |fact: String, hint: &str| Unfit {
        fact,
        hint: hint.to_owned(),
    };
    let metadata =
        fs::metadata(path).map_err(|error| unfit(format!("cannot be read: {error}"), missing))?;
    if !metadata.is_file() {
        return Err(unfit("is no file".into(), "name a file"));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(unfit(
            format!("can be read by others (mode {mode:04o})"),
            &format!("`chmod 600 '{}'`", path.display()),
        ));
    }
    fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| unfit(format!("cannot be read: {error}"), "run this as its owner"))
}

/// How the name begins of a file that is not whole yet.
pub(crate) const UNFINISHED: &str = ".tmp-";

/// Removes what killed processes left of files in a folder of ours. What is younger than an hour may still
/// be written; what cannot be removed is in nobody's way.
pub(crate) fn sweep_unfinished(folder: &Path) {
    const AGE: Duration = Duration::from_secs(60 * 60);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            continue;
        }
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > AGE) {
            _ = fs::remove_file(entry.path());
        }
    }
}

/// Puts a file of ours down, 0600, whole or not at all.
///
/// # Errors
/// [`Error::State`] with the file.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let put = || -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    put().map_err(|error| Error::State {
        path: PathBuf::from(path),
        error,
    })
}
