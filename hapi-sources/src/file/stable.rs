//! A file is read *stably*: what we keep is what stood in it at one moment.
//!
//! Size and times are compared on one handle before and after; a file that was changed moments ago
//! is read twice, because two writes within one tick of the clock look like one. Replacement by
//! rename is fine: the handle keeps the former content.

use std::fs::{File, Metadata as StdMetadata};
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use super::pinned::{Links, Pinned};
use crate::error::CaptureError;
use crate::facts::{Metadata, Sha256Hash};
use crate::stop::Stop;
use crate::taking::Taking;

const BUFFER: usize = 256 << 10;
/// Younger changes may hide behind the granularity of timestamps.
const RECENT: Duration = Duration::from_secs(2);

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
        let pinned = Pinned::regular(path, links, "a regular file")?;
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
            let (_, again) = hash_up_to(&taking.stop, path, &mut file, size, |_| Ok(()))?;
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

/// Reads into `v`, at most `size + 1` bytes, without ever moving it once it is allocated.
pub(crate) fn fill(file: &mut (impl Read + ?Sized), v: &mut Vec<u8>, size: u64) -> io::Result<()> {
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
pub(super) fn hash_up_to(
    stop: &Stop,
    path: &Path,
    file: &mut (impl Read + ?Sized),
    size: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), CaptureError>,
) -> Result<(u64, Sha256Hash), CaptureError> {
    let mut input = file.take(size + 1);
    let mut buffer = vec![0; BUFFER.min(size as usize + 1)];
    let (mut hash, mut read) = (Sha256::new(), 0);
    loop {
        stop.check()?;
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
