//! A pinned path is nailed down by an `O_PATH` handle: looked at, not opened.
//!
//! Closing such a handle drops no locks, so what turns out to be a live database was never opened,
//! whatever happens to its name meanwhile.

use std::ffi::OsString;
use std::fs::{File, Metadata as StdMetadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::CaptureError;

/// Whether a symbolic link stands for its target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Follow,
    Keep,
}

/// What a path led to when it was looked at.
pub(crate) struct Pinned {
    handle: File,
    pub(crate) stat: StdMetadata,
}

impl Pinned {
    pub(crate) fn new(path: &Path, links: Links) -> io::Result<Self> {
        let mut flags = OFlags::PATH;
        if links == Links::Keep {
            flags |= OFlags::NOFOLLOW;
        }
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits() as i32)
            .open(path)?;
        let stat = handle.metadata()?;
        Ok(Self { handle, stat })
    }

    /// Pins a regular file; `wanted` is what the error says it should have been.
    pub(crate) fn regular(
        path: &Path,
        links: Links,
        wanted: &'static str,
    ) -> Result<Self, CaptureError> {
        Self::of(path, links, StdMetadata::is_file, wanted)
    }

    /// Pins a folder, or what a link to one leads to.
    pub(crate) fn folder(path: &Path) -> Result<Self, CaptureError> {
        Self::of(path, Links::Follow, StdMetadata::is_dir, "a folder")
    }

    fn of(
        path: &Path,
        links: Links,
        is_wanted: fn(&StdMetadata) -> bool,
        wanted: &'static str,
    ) -> Result<Self, CaptureError> {
        let pinned = Self::new(path, links).map_err(|e| look_error(path, e))?;
        if is_wanted(&pinned.stat) {
            return Ok(pinned);
        }
        Err(CaptureError::WrongType {
            path: path.to_owned(),
            found: found(&pinned.stat),
            wanted,
        })
    }

    /// Device and inode.
    pub(crate) fn identity(&self) -> (u64, u64) {
        (self.stat.dev(), self.stat.ino())
    }

    /// Opens what was pinned, and nothing else that may have taken its name since.
    pub(super) fn open(&self) -> io::Result<File> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits() as i32)
            .open(self.proc_path())
    }

    /// Where it lies, all links resolved.
    pub(crate) fn real_path(&self) -> Option<PathBuf> {
        std::fs::read_link(self.proc_path()).ok()
    }

    pub(crate) fn link_target(&self) -> io::Result<OsString> {
        let target = rustix::fs::readlinkat(&self.handle, "", Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.handle.as_raw_fd())
    }
}

/// The error for a path that cannot be looked at: missing is not the same as a dangling link.
fn look_error(path: &Path, error: io::Error) -> CaptureError {
    if error.kind() != io::ErrorKind::NotFound {
        return CaptureError::read(path, error);
    }
    if path.is_symlink() {
        let error = io::Error::new(
            io::ErrorKind::NotFound,
            "the target of the symbolic link does not exist",
        );
        return CaptureError::read(path, error);
    }
    CaptureError::Missing {
        path: path.to_owned(),
    }
}

/// What a path is, for [`CaptureError::WrongType`].
pub(crate) fn found(stat: &StdMetadata) -> &'static str {
    let t = stat.file_type();
    match () {
        () if t.is_file() => "a regular file",
        () if t.is_dir() => "a folder",
        () if t.is_symlink() => "a symbolic link",
        () if t.is_fifo() => "a named pipe",
        () if t.is_socket() => "a socket",
        () => "a device",
    }
}
