//! Bytes are content we own: in memory, or in a staged file that is removed with the last of them.
//!
//! Whoever holds them, or reads them, can do so to the end, whatever becomes of the live file.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checksum::Checksum;

/// Content we own: in memory, or in a staged file that is removed with the last clone.
///
/// A staged file does not outlive its [`Staging`](crate::Staging). `Debug` shows the length only.
#[derive(Clone)]
pub struct Bytes(Inner);

#[derive(Clone)]
enum Inner {
    Memory(Arc<Vec<u8>>),
    Staged(Arc<StagedFile>, u64, Option<Checksum>),
    Outline(u64),
}

impl Bytes {
    /// Content held in memory.
    pub fn from_vec(v: Vec<u8>) -> Self {
        Self(Inner::Memory(Arc::new(v)))
    }

    /// Content of a staged file that others use, too.
    pub(crate) fn staged(file: Arc<StagedFile>, len: u64, checksum: Option<Checksum>) -> Self {
        Self(Inner::Staged(file, len, checksum))
    }

    /// The checksum, where one was taken with the SHA-256.
    pub fn checksum(&self) -> Option<Checksum> {
        match &self.0 {
            Inner::Memory(_) | Inner::Outline(_) => None,
            Inner::Staged(_, _, checksum) => *checksum,
        }
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Inner::Memory(v) => v.len() as u64,
            Inner::Staged(_, len, _) | Inner::Outline(len) => *len,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A reader from the first byte on, independent of this value's life.
    pub fn open(&self) -> io::Result<BytesReader> {
        Ok(BytesReader(match &self.0 {
            Inner::Memory(v) => Reader::Memory(Cursor::new(Shared(Arc::clone(v)))),
            Inner::Staged(file, ..) => Reader::Staged(File::open(&file.path)?, Arc::clone(file)),
            Inner::Outline(_) => return Err(io::ErrorKind::NotFound.into()),
        }))
    }

    /// Something as long that keeps no file: for what only wants to know how much it was. It cannot be
    /// opened.
    #[must_use]
    pub fn outline(&self) -> Self {
        Self(Inner::Outline(self.len()))
    }

    /// The file, where it is staged.
    pub fn staged_path(&self) -> Option<&Path> {
        match &self.0 {
            Inner::Memory(_) | Inner::Outline(_) => None,
            Inner::Staged(file, ..) => Some(&file.path),
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.len())
    }
}

/// Reads a [`Bytes`] from the beginning, and keeps it alive meanwhile.
pub struct BytesReader(Reader);

enum Reader {
    Memory(Cursor<Shared>),
    // The file is kept so that its name stays as long as someone reads it.
    Staged(
        File,
        #[allow(dead_code, reason = "held for its Drop")] Arc<StagedFile>,
    ),
}

struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Read for BytesReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Reader::Memory(c) => c.read(buf),
            Reader::Staged(f, _) => f.read(buf),
        }
    }
}

impl fmt::Debug for BytesReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BytesReader")
    }
}

/// A file in the staging folder that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct StagedFile {
    pub(super) path: PathBuf,
}

impl StagedFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn into_bytes(self, len: u64) -> Bytes {
        Bytes::staged(Arc::new(self), len, None)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(
            format!("{:?}", Bytes::from_vec(b"hush".to_vec())),
            "Bytes(4)"
        );
    }
}
