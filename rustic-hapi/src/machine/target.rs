//! A target is the folder that files are restored into. Nothing leaves it: every folder on the way is
//! opened by its name alone and without following a symbolic link, every file is written under a
//! temporary name, and takes its own by one rename once its content is proven.
//!
//! The temporary names lie in a folder of this run (0700) inside the target, so on its file system; a
//! later run sweeps what a killed one left.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hapi_sources::Staging;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::machine::able::{if_able, keeps_private};

/// The folder that files are restored into.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    root: OwnedFd,
    staging: Staging,
    next: AtomicU64,
}

/// Mode, owner and time to give.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    /// Permission bits, and set-uid, set-gid and sticky.
    pub mode: u32,
    pub owner: Option<(u32, u32)>,
    pub mtime: Option<jiff::Timestamp>,
}

/// What is at a path now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A plain file of so many bytes.
    File(u64),
    Dir,
    /// A symbolic link with this target.
    Symlink(PathBuf),
    /// A device, a pipe, a socket.
    Other,
}

impl Target {
    /// Opens the folder, which is made (0700) where it is missing, and sweeps what killed runs left.
    ///
    /// # Errors
    /// [`Error::State`] with the folder.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let path = std::path::absolute(path).map_err(|error| at(path, error))?;
        // Where it is, and who reads there, is whose wish it is.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| at(&path, error))?;
        let path = fs::canonicalize(&path).map_err(|error| at(&path, error))?;
        let root = rustix::fs::open(&path, FOLDER, Mode::empty())
            .map_err(|error| at(&path, error.into()))?;
        // What keeps our own folder from being made in there, keeps anything from being.
        let as_target = |error| match error {
            hapi_sources::StagingError::Io { error, .. } => at(&path, error),
            other => other.into(),
        };
        Staging::sweep(&path).map_err(as_target)?;
        let staging = Staging::create(&path).map_err(as_target)?;
        Ok(Self {
            path,
            root,
            staging,
            next: AtomicU64::new(0),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where something with this absolute path goes.
    pub(crate) fn of(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Bytes that are free for this user.
    pub(crate) fn free(&self) -> Result<u64, Error> {
        let room = rustix::fs::fstatvfs(&self.root).map_err(|error| self.failed(error))?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }

    /// What is there now. Folders on the way that are missing count as nothing.
    ///
    /// # Errors
    /// One of them is a symbolic link, or something that is no folder.
    pub(crate) fn look(&self, path: &Path) -> Result<Found, Error> {
        let (Some(folder), name) = (self.walk(path, false)?, name_of(path)) else {
            return Ok(Found::Nothing);
        };
        let stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            other => other.map_err(|error| at(&self.of(path), error.into()))?,
        };
        Ok(match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::RegularFile => {
                Found::File(u64::try_from(stat.st_size).unwrap_or(0))
            }
            rustix::fs::FileType::Directory => Found::Dir,
            rustix::fs::FileType::Symlink => {
                let target = rustix::fs::readlinkat(&folder, name, Vec::new())
                    .map_err(|error| at(&self.of(path), error.into()))?;
                Found::Symlink(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
            }
            _ => Found::Other,
        })
    }

    /// Whether what is put there is only for whom its mode says.
    pub(crate) fn has_modes(&self) -> bool {
        keeps_private(self.staging.path()).is_ok()
    }

    /// SHA-256 of a file that is there, in hexadecimal.
    pub(crate) fn hash(&self, path: &Path) -> Result<String, Error> {
        let file = self.open_there(path)?;
        let mut hash = Sha256::new();
        io::copy(&mut &file, &mut hash).map_err(|error| at(&self.of(path), error))?;
        Ok(hex::encode(hash.finalize()))
    }

    /// Gives a plain file that is there its mode.
    pub(crate) fn set_mode(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let file = self.open_there(path)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
            .map_err(|error| at(&self.of(path), error.into()))
    }

    /// Opens a file that is there to read, and no other through a link.
    fn open_there(&self, path: &Path) -> Result<File, Error> {
        let failed = |error: Errno| at(&self.of(path), error.into());
        let Some(folder) = self.walk(path, false)? else {
            return Err(failed(Errno::NOENT));
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, name_of(path), flags, Mode::empty());
        file.map(File::from).map_err(failed)
    }

    /// A new file under a temporary name (0600).
    pub(crate) fn incoming(&self) -> Result<(PathBuf, File), Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.staging.path().join(format!("{number:08}"));
        let file = File::options()
            .write(true)
            .read(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| at(&path, error))?;
        Ok((path, file))
    }

    /// Gives a file its own name. Its content must be on the disk by then. What is there is replaced
    /// only if `overwrite`.
    pub(crate) fn settle(
        &self,
        incoming: &Path,
        path: &Path,
        overwrite: bool,
    ) -> Result<(), Error> {
        let Some(folder) = self.walk(path, true)? else {
            return Err(at(&self.of(path), io::ErrorKind::NotFound.into()));
        };
        let flags = match overwrite {
            true => RenameFlags::empty(),
            false => RenameFlags::NOREPLACE,
        };
        let name = name_of(path);
        match rustix::fs::renameat_with(rustix::fs::CWD, incoming, &folder, name, flags) {
            // Some file systems know no such flag. A second name is never put in another's place, either; where
            // there are no second names: look, then rename.
            Err(Errno::INVAL) if !overwrite => {
                use rustix::fs::{AtFlags, CWD, linkat, renameat, unlink};
                match linkat(CWD, incoming, &folder, name, AtFlags::empty()) {
                    Ok(()) => unlink(incoming),
                    Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS)
                        if self.look(path)? == Found::Nothing =>
                    {
                        renameat(CWD, incoming, &folder, name)
                    }
                    Err(error) => Err(error),
                }
            }
            other => other,
        }
        .map_err(|error| at(&self.of(path), error.into()))
    }

    pub(crate) fn link(&self, path: &Path, leads_to: &Path, overwrite: bool) -> Result<(), Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let incoming = self.staging.path().join(format!("{number:08}"));
        std::os::unix::fs::symlink(leads_to, &incoming).map_err(|error| at(&incoming, error))?;
        self.settle(&incoming, path, overwrite)
    }

    /// Makes a folder, and those above it (0700 until they are told their mode).
    pub(crate) fn folder(&self, path: &Path) -> Result<(), Error> {
        self.walk(&path.join("x"), true).map(drop)
    }

    /// Gives a folder its mode, owner and time.
    pub(crate) fn apply_to_folder(&self, path: &Path, attributes: Attributes) -> Result<(), Error> {
        match self.walk(&path.join("x"), false)? {
            Some(folder) => {
                apply(&File::from(folder), attributes).map_err(|e| at(&self.of(path), e))
            }
            None => Ok(()),
        }
    }

    /// Has the file system write down everything, names included.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        rustix::fs::syncfs(&self.root).map_err(|error| self.failed(error))
    }

    /// The folder that holds `path`, opened name by name; `None` where one is missing and none is to
    /// be made.
    fn walk(&self, path: &Path, make: bool) -> Result<Option<OwnedFd>, Error> {
        let mut folder =
            rustix::io::fcntl_dupfd_cloexec(&self.root, 0).map_err(|error| self.failed(error))?;
        let mut so_far = PathBuf::from("/");
        for part in path.parent().unwrap_or(Path::new("/")).components() {
            let name = match part {
                Component::RootDir => continue,
                Component::Normal(name) => name,
                _ => return Err(at(path, io::ErrorKind::InvalidInput.into())),
            };
            so_far.push(name);
            let opened = match rustix::fs::openat(&folder, name, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) if !make => return Ok(None),
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&folder, name, Mode::RWXU) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(at(&self.of(&so_far), error.into())),
                    }
                    rustix::fs::openat(&folder, name, FOLDER, Mode::empty())
                }
                other => other,
            };
            folder = match opened {
                Ok(opened) => opened,
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(Error::usage(
                        format!(
                            "`{}` is in the way: nothing is restored through a symbolic link, or below a file",
                            self.of(&so_far).display()
                        ),
                        "choose an empty folder as target",
                    ));
                }
                Err(error) => return Err(at(&self.of(&so_far), error.into())),
            };
        }
        Ok(Some(folder))
    }

    fn failed(&self, error: Errno) -> Error {
        at(&self.path, error.into())
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Gives an open file or folder its mode, owner and time. The owner only where that is allowed: a
/// user gets files of their own.
pub(crate) fn apply(file: &File, attributes: Attributes) -> io::Result<()> {
    let root = rustix::process::geteuid().is_root();
    let mut mode = attributes.mode & 0o7777;
    let owner = attributes.owner.filter(|_| root);
    match owner {
        Some((uid, gid)) => {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            if_able(rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(io::Error::from))?;
        }
        // Set-uid for somebody else is not what was backed up.
        None if attributes.owner != Some((file.metadata()?.uid(), file.metadata()?.gid())) => {
            mode &= 0o777;
        }
        None => {}
    }
    let mode = Mode::from_raw_mode(mode);
    if_able(rustix::fs::fchmod(file, mode).map_err(io::Error::from))?;
    if let Some(mtime) = attributes.mtime {
        let time = Timespec {
            tv_sec: mtime.as_second(),
            tv_nsec: i64::from(mtime.subsec_nanosecond()).max(0),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        if_able(rustix::fs::futimens(file, &times).map_err(io::Error::from))?;
    }
    Ok(())
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn at(path: &Path, error: io::Error) -> Error {
    Error::at(path)(error)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn nothing_goes_through_a_symbolic_link_or_over_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let folder = dir.path().join("target");
        let target = Target::open(&folder).unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("link")).unwrap();

        let (incoming, mut file) = target.incoming().unwrap();
        file.write_all(b"new").unwrap();
        assert!(
            target
                .settle(&incoming, Path::new("/link/file"), true)
                .is_err()
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

        target
            .settle(&incoming, Path::new("/a/b/file"), false)
            .unwrap();
        assert_eq!(fs::read(folder.join("a/b/file")).unwrap(), b"new");
        let (again, _) = target.incoming().unwrap();
        assert!(
            target
                .settle(&again, Path::new("/a/b/file"), false)
                .is_err()
        );
        assert_eq!(fs::read(folder.join("a/b/file")).unwrap(), b"new");
        assert_eq!(target.look(Path::new("/a/b/file")).unwrap(), Found::File(3));
        assert_eq!(target.look(Path::new("/no/b")).unwrap(), Found::Nothing);
        assert!(target.look(Path::new("/a/../b")).is_err());
    }
}
