//! A file is read *stably*: what we keep is what stood in it at one moment.
//!
//! Size and times are compared on one handle before and after; a file that was changed moments ago
//! is read twice, because two writes within one tick of the clock look like one. Replacement by
//! rename is fine: the handle keeps the former content.
//!
//! Every path is pinned by an `O_PATH` handle first. Closing such a handle drops no locks, so what
//! turns out to be a live database was never opened (see the guard), whatever happens to its name.

use std::ffi::OsString;
use std::fs::{File, Metadata as StdMetadata, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::capture::{Capture, Content, Entry, Note};
use crate::error::CaptureError;
use crate::facts::{Metadata, Sha256Hash};
use crate::guard::Protected;
use crate::source::Source;
use crate::staging::{Bytes, StagedFile};
use crate::taking::Taking;

/// Files up to this size stay in memory, as long as the capturer's budget lasts.
const SMALL: u64 = 64 << 10;
/// Files up to this size are looked through for values of secrets.
const SEARCHED: u64 = 1 << 20;
const BUFFER: usize = 256 << 10;
/// Younger changes may hide behind the granularity of timestamps.
const RECENT: Duration = Duration::from_secs(2);

/// Captures one file, symbolic links followed to its content.
pub(crate) fn capture(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let mut capture = Capture::empty(source);
    match take(taking, &source.path, Links::Follow)? {
        Taken::File(entry, notes) => {
            capture.entries.push(entry);
            capture.notes = notes;
        }
        Taken::Secret(secret) => {
            capture.notes.push(Note::SecretElsewhere {
                path: source.path.clone(),
                secret,
            });
        }
    }
    Ok(capture)
}

/// What became of a file.
pub(crate) enum Taken {
    File(Entry, Vec<Note>),
    /// It is this secret under another name, and was not taken.
    Secret(String),
}

/// Takes one regular file, unless it is a live database or a secret.
pub(crate) fn take(
    taking: &mut Taking<'_>,
    path: &Path,
    links: Links,
) -> Result<Taken, CaptureError> {
    let gate = |taking: &mut Taking<'_>, pinned: &Pinned| match taking.guard.check(pinned, path) {
        Some(Protected::Database) => Err(CaptureError::LiveDatabase {
            path: path.to_owned(),
        }),
        Some(Protected::Secret(name)) => Ok(Some(name)),
        None => Ok(None),
    };
    let read = match stable(taking, path, links, gate, |taking, file, size, first| {
        pass(taking, path, file, size, first)
    })? {
        Stable::Read(read) => read,
        Stable::Secret(name) => return Ok(Taken::Secret(name)),
    };
    let (mut body, sha256) = (read.body, read.sha256);
    if let Some(secret) = taking.guard.same_content(read.size, sha256) {
        if let Body::Memory(v) = &mut body {
            v.zeroize();
        }
        return Ok(Taken::Secret(secret));
    }
    let notes = match &body {
        Body::Memory(v) => taking.guard.quoted(v),
        Body::Staged(_) => Vec::new(),
    };
    let notes = notes
        .into_iter()
        .map(|secret| Note::QuotesSecret {
            path: path.to_owned(),
            secret,
            sha256,
        })
        .collect();
    let content = Content::File {
        bytes: keep(taking, body)?,
        sha256,
    };
    Ok(Taken::File(
        Entry {
            path: path.to_owned(),
            metadata: read.metadata,
            content,
        },
        notes,
    ))
}

enum Body {
    Memory(Vec<u8>),
    Staged(StagedFile),
}

/// Reads a file once, never more than a byte beyond its size.
fn pass(
    taking: &Taking<'_>,
    path: &Path,
    file: &mut File,
    size: u64,
    first: bool,
) -> Result<(Body, u64, Sha256Hash), CaptureError> {
    // A file as long as a secret may be one: it must not reach the disk before it is compared.
    if size <= SEARCHED || taking.guard.same_length(size) {
        let mut v = Vec::new();
        fill(file, &mut v, size).map_err(|e| CaptureError::read(path, e))?;
        if first {
            taking.advance(v.len() as u64);
        }
        let (len, hash) = (v.len() as u64, Sha256Hash::of(&v));
        return Ok((Body::Memory(v), len, hash));
    }
    taking.staging.require(size)?;
    let (staged, mut out) = taking.staging.file()?;
    let (read, hash) = hash_up_to(taking, path, file, size, |chunk| {
        out.write_all(chunk)
            .map_err(|e| taking.staging.write_error(e, size))?;
        if first {
            taking.advance(chunk.len() as u64);
        }
        Ok(())
    })?;
    Ok((Body::Staged(staged), read, hash))
}

/// Copies what a descriptor shows to the staging folder, once: for a file that nothing is compared with.
pub(crate) fn stage(
    taking: &Taking<'_>,
    path: &Path,
    file: &mut File,
    size: u64,
) -> Result<(Bytes, Sha256Hash), CaptureError> {
    taking.staging.require(size)?;
    let (staged, mut out) = taking.staging.file()?;
    let (len, sha256) = hash_up_to(taking, path, file, size, |chunk| {
        out.write_all(chunk)
            .map_err(|e| taking.staging.write_error(e, size))?;
        taking.advance(chunk.len() as u64);
        Ok(())
    })?;
    Ok((staged.into_bytes(len), sha256))
}

/// Moves content to where it stays: memory for the small, the staging folder for the rest.
fn keep(taking: &mut Taking<'_>, body: Body) -> Result<Bytes, CaptureError> {
    let v = match body {
        Body::Memory(v) => v,
        Body::Staged(staged) => {
            let len = staged
                .path()
                .metadata()
                .map_err(|e| taking.staging.write_error(e, 0))?
                .len();
            return Ok(staged.into_bytes(len));
        }
    };
    let len = v.len() as u64;
    if len <= SMALL && len <= taking.memory {
        taking.memory -= len;
        return Ok(Bytes::from_vec(v));
    }
    let (staged, mut out) = taking.staging.file()?;
    out.write_all(&v)
        .map_err(|e| taking.staging.write_error(e, len))?;
    Ok(staged.into_bytes(len))
}

/// Reads into `v`, at most `size + 1` bytes, without ever moving it once it is allocated.
pub(crate) fn fill(file: &mut File, v: &mut Vec<u8>, size: u64) -> io::Result<()> {
    let limit = usize::try_from(size + 1).map_err(|_| io::ErrorKind::FileTooLarge)?;
    v.resize(limit, 0);
    let mut done = 0;
    while done < limit {
        match file.read(&mut v[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    v.truncate(done);
    Ok(())
}

/// Hashes at most `size + 1` bytes, handing out each chunk.
fn hash_up_to(
    taking: &Taking<'_>,
    path: &Path,
    file: &mut File,
    size: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), CaptureError>,
) -> Result<(u64, Sha256Hash), CaptureError> {
    let mut input = file.take(size + 1);
    let mut buffer = vec![0; BUFFER.min(size as usize + 1)];
    let (mut hash, mut read) = (Sha256::new(), 0);
    loop {
        taking.stop.check()?;
        let n = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(CaptureError::read(path, e)),
        };
        hash.update(&buffer[..n]);
        each(&buffer[..n])?;
        read += n as u64;
    }
    buffer.zeroize();
    Ok((read, Sha256Hash(hash.finalize().into())))
}

/// What a stable read gave.
pub(crate) enum Stable<T> {
    Read(Reading<T>),
    /// The gate knew it for this secret.
    Secret(String),
}

pub(crate) struct Reading<T> {
    pub(crate) body: T,
    pub(crate) size: u64,
    pub(crate) sha256: Sha256Hash,
    pub(crate) metadata: Metadata,
}

/// Reads a regular file until two looks at it agree.
///
/// `gate` sees the pinned file before it is opened, and may refuse it or know it for a secret.
/// `pass` reads it once and returns what it read, how much, and the hash.
pub(crate) fn stable<'a, T>(
    taking: &mut Taking<'a>,
    path: &Path,
    links: Links,
    mut gate: impl FnMut(&mut Taking<'a>, &Pinned) -> Result<Option<String>, CaptureError>,
    mut pass: impl FnMut(
        &Taking<'a>,
        &mut File,
        u64,
        bool,
    ) -> Result<(T, u64, Sha256Hash), CaptureError>,
) -> Result<Stable<T>, CaptureError> {
    let attempts = taking.limits.rereads.saturating_add(1);
    for attempt in 0..attempts {
        taking.stop.check()?;
        if attempt > 0 {
            thread::sleep(Duration::from_millis((10 << attempt.min(5)).min(200)));
        }
        let pinned = Pinned::regular(path, links)?;
        if let Some(secret) = gate(taking, &pinned)? {
            return Ok(Stable::Secret(secret));
        }
        let err = |e| CaptureError::read(path, e);
        let mut file = pinned.open().map_err(err)?;
        let before = file.metadata().map_err(err)?;
        let size = before.len();
        let (body, read, sha256) = pass(taking, &mut file, size, attempt == 0)?;
        if read != size || changed(&before, &file.metadata().map_err(err)?) {
            continue;
        }
        if recent(&before) {
            file.rewind().map_err(err)?;
            let (_, again) = hash_up_to(taking, path, &mut file, size, |_| Ok(()))?;
            if again != sha256 || changed(&before, &file.metadata().map_err(err)?) {
                continue;
            }
        }
        let metadata = Metadata::of(&before).map_err(err)?;
        return Ok(Stable::Read(Reading {
            body,
            size,
            sha256,
            metadata,
        }));
    }
    Err(CaptureError::Unstable {
        path: path.to_owned(),
        attempts,
    })
}

fn changed(a: &StdMetadata, b: &StdMetadata) -> bool {
    // A new link, or the last one going (replacement by rename), moves ctime and nothing else.
    let ctime = |m: &StdMetadata| (m.ctime(), m.ctime_nsec());
    a.len() != b.len()
        || (a.mtime(), a.mtime_nsec()) != (b.mtime(), b.mtime_nsec())
        || (a.nlink() == b.nlink() && ctime(a) != ctime(b))
}

fn recent(m: &StdMetadata) -> bool {
    // A time in the future says nothing about when the change was: it counts as recent.
    let age = m
        .modified()
        .ok()
        .and_then(|t| SystemTime::now().duration_since(t).ok());
    age.is_none_or(|age| age <= RECENT)
}

/// Whether a symbolic link stands for its target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Follow,
    Keep,
}

/// A path nailed down by an `O_PATH` handle: looked at, not opened.
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

    fn regular(path: &Path, links: Links) -> Result<Self, CaptureError> {
        let pinned = Self::new(path, links).map_err(|e| look_error(path, e))?;
        if pinned.stat.is_file() {
            return Ok(pinned);
        }
        let found = found(&pinned.stat);
        Err(CaptureError::WrongType {
            path: path.to_owned(),
            found,
            wanted: "a regular file",
        })
    }

    /// Opens what was pinned, and nothing else that may have taken its name since.
    fn open(&self) -> io::Result<File> {
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
pub(crate) fn look_error(path: &Path, error: io::Error) -> CaptureError {
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
