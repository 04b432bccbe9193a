//! Staging is the run's own folder for copies too large for memory. A program may use it for other
//! things that a killed run must not leave behind.
//!
//! The folder is `run-<pid>-<random>`, mode 0700, and holds files of mode 0600. Its run keeps an
//! advisory lock (flock) on it, so [`Staging::sweep`] can tell a killed run's folder from a live
//! one. Creating and sweeping exclude each other by a lock on the base folder: no folder is ever
//! seen between its creation and its lock.

pub(crate) mod bytes;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

use crate::error::StagingError;
use bytes::StagedFile;

/// What stays free on the staging file system, in bytes.
const MARGIN: u64 = 4 << 20;

/// A run's own folder, removed when this is dropped.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    next: AtomicU64,
    _lock: File,
}

impl Staging {
    /// Makes the run's folder under `base`, and `base` (mode 0700) where it is missing.
    pub fn create(base: &Path) -> Result<Self, StagingError> {
        let at = |error| StagingError::at(base, error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(base)
            .map_err(at)?;
        let base = fs::canonicalize(base).map_err(at)?;
        let _base_lock = lock_base(&base)?;
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| at(e.into()))?;
        let name = format!(
            "run-{}-{:016x}",
            std::process::id(),
            u64::from_ne_bytes(random)
        );
        let path = base.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| StagingError::at(&path, e))?;
        let lock = open_folder(&path).map_err(|e| StagingError::at(&path, e))?;
        lock.lock().map_err(|e| StagingError::at(&path, e))?;
        Ok(Self {
            path,
            next: AtomicU64::new(0),
            _lock: lock,
        })
    }

    /// Removes what killed runs left under `base`, and returns it. Folders of live runs and
    /// symbolic links are left alone; a missing `base` holds nothing.
    pub fn sweep(base: &Path) -> Result<Vec<PathBuf>, StagingError> {
        use io::ErrorKind::{NotFound, PermissionDenied};
        if !base.try_exists().map_err(|e| StagingError::at(base, e))? {
            return Ok(Vec::new());
        }
        let _base_lock = lock_base(base)?;
        let mut removed = Vec::new();
        for entry in fs::read_dir(base).map_err(|e| StagingError::at(base, e))? {
            let entry = entry.map_err(|e| StagingError::at(base, e))?;
            let path = entry.path();
            let ours = is_a_runs(entry.file_name().as_encoded_bytes())
                && entry.file_type().is_ok_and(|t| t.is_dir());
            if !ours {
                continue;
            }
            let lock = match open_folder(&path) {
                // Gone this moment, or another user's in a shared base.
                Err(e) if matches!(e.kind(), NotFound | PermissionDenied) => continue,
                other => other.map_err(|e| StagingError::at(&path, e))?,
            };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(e)) => return Err(StagingError::at(&path, e)),
            }
            match fs::remove_dir_all(&path) {
                // A run that ends right now removes its own folder.
                Err(e) if e.kind() == NotFound => continue,
                other => other.map_err(|e| StagingError::at(&path, e))?,
            }
            removed.push(path);
        }
        removed.sort();
        Ok(removed)
    }

    /// The run's folder, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An empty file of mode 0600, gone when the guard is dropped.
    pub(crate) fn file(&self) -> Result<(StagedFile, File), StagingError> {
        let path = self
            .path
            .join(format!("{:06}", self.next.fetch_add(1, Ordering::Relaxed)));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| StagingError::at(&path, e))?;
        Ok((StagedFile { path }, file))
    }

    /// Whether so many bytes more fit, with something to spare.
    pub(crate) fn require(&self, bytes: u64) -> Result<(), StagingError> {
        let free = self.free()?;
        let needed = bytes.saturating_add(MARGIN);
        if free < needed {
            return Err(StagingError::NoSpace {
                path: self.path.clone(),
                free,
                needed,
            });
        }
        Ok(())
    }

    /// The error of a write that failed when `needed` bytes were to be written in all.
    pub(crate) fn write_error(&self, error: io::Error, needed: u64) -> StagingError {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded => self.no_space(needed),
            _ => StagingError::at(&self.path, error),
        }
    }

    pub(crate) fn no_space(&self, needed: u64) -> StagingError {
        let free = self.free().unwrap_or(0);
        StagingError::NoSpace {
            path: self.path.clone(),
            free,
            needed,
        }
    }

    fn free(&self) -> Result<u64, StagingError> {
        let fs =
            rustix::fs::statvfs(&self.path).map_err(|e| StagingError::at(&self.path, e.into()))?;
        Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now, the next run's sweep removes.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Whether a name is one that [`Staging::create`] gives. The base may be anybody's folder, the target
/// of a restore or `/tmp`, and `run-notes` in it is not ours to remove.
fn is_a_runs(name: &[u8]) -> bool {
    let mut parts = name.splitn(3, |byte| *byte == b'-');
    let digits = |part: Option<&[u8]>, length: std::ops::RangeInclusive<usize>| {
        part.is_some_and(|part| {
            length.contains(&part.len())
                && part
                    .iter()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    parts.next() == Some(b"run") && digits(parts.next(), 1..=10) && digits(parts.next(), 16..=16)
}

fn open_folder(path: &Path) -> io::Result<File> {
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits() as i32;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn lock_base(base: &Path) -> Result<File, StagingError> {
    let lock = File::open(base).map_err(|e| StagingError::at(base, e))?;
    lock.lock().map_err(|e| StagingError::at(base, e))?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_sweep_leaves_folders_alone_whose_names_only_resemble_a_runs() {
        let tmp = tempfile::tempdir().unwrap();
        let others = [
            "run-notes",
            "run-12",
            "run-12-3",
            "run-x-0123456789abcdef",
            "run-12-0123456789abcdef-1",
        ];
        for name in others {
            fs::create_dir(tmp.path().join(name)).unwrap();
        }
        let left = tmp.path().join("run-12-0123456789abcdef");
        fs::create_dir(&left).unwrap();
        assert_eq!(Staging::sweep(tmp.path()).unwrap(), [left]);
        assert!(others.iter().all(|name| tmp.path().join(name).exists()));
    }

    #[test]
    fn folders_and_files_are_private_and_go_away() {
        let tmp = tempfile::tempdir().unwrap();
        let base = tmp.path().join("a/b");
        let staging = Staging::create(&base).unwrap();
        let run = staging.path().to_owned();
        assert_eq!(fs::metadata(&base).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&run).unwrap().mode() & 0o777, 0o700);
        let (staged, mut file) = staging.file().unwrap();
        file.write_all(b"content").unwrap();
        let path = staged.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let bytes = staged.into_bytes(7);
        let mut reader = bytes.open().unwrap();
        let twin = bytes.clone();
        drop(bytes);
        assert!(path.exists());
        drop(twin);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        drop(reader);
        assert!(!path.exists());
        drop(staging);
        assert!(!run.exists());
    }

    #[test]
    fn a_sweep_takes_the_dead_and_leaves_the_living() {
        let tmp = tempfile::tempdir().unwrap();
        let base = tmp.path().join("base");
        assert!(Staging::sweep(&base).unwrap().is_empty());
        let live = Staging::create(&base).unwrap();
        let dead = base.canonicalize().unwrap().join("run-1-0123456789abcdef");
        fs::create_dir_all(dead.join("x")).unwrap();
        fs::write(dead.join("x/y"), "z").unwrap();
        let other = tmp.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "k").unwrap();
        symlink(&other, base.join("run-2-0123456789abcdef")).unwrap();
        fs::create_dir(base.join("unrelated")).unwrap();
        let removed = Staging::sweep(&base.canonicalize().unwrap()).unwrap();
        assert_eq!(removed, [dead]);
        assert!(live.path().exists() && other.join("kept").exists());
        assert!(
            base.join("run-2-0123456789abcdef").is_symlink() && base.join("unrelated").exists()
        );
    }
}
