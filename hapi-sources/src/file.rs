//! A file's content goes to memory where it is small, and to the staging folder otherwise.
//!
//! Before a path is opened, the guard is asked about the pinned file: no live database is opened, and no
//! secret is taken under another name. Each file is read stably ([`stable`](mod@stable)).

mod growing;
pub(crate) mod pinned;
pub(crate) mod stable;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroize;

use crate::capture::{Capture, Content, Entry, Note};
use crate::error::CaptureError;
use crate::facts::Sha256Hash;
use crate::guard::Protected;
use crate::source::Source;
use crate::staging::bytes::{Bytes, StagedFile};
use crate::taking::Taking;
use growing::growing;
use pinned::{Links, Pinned};
use stable::{Stable, fill, hash_up_to, stable};

/// Files up to this size stay in memory, as long as the run's budget lasts.
const SMALL: u64 = 64 << 10;
/// Files up to this size are looked through for values of secrets.
const SEARCHED: u64 = 1 << 20;

/// Captures one file, symbolic links followed to its content.
pub(crate) fn capture(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let mut capture = Capture::empty(source);
    match take(taking, &source.path, Links::Follow, Manner::Still)? {
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

/// How a file is written by others while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It is to hold still.
    Still,
    /// Whole lines are appended: what it had at its opening is taken.
    Growing,
}

/// Takes one regular file, unless it is a live database or a secret.
pub(crate) fn take(
    taking: &mut Taking<'_>,
    path: &Path,
    links: Links,
    manner: Manner,
) -> Result<Taken, CaptureError> {
    let gate = |taking: &mut Taking<'_>, pinned: &Pinned| match taking.guard.check(pinned, path) {
        Some(Protected::Database) => Err(CaptureError::LiveDatabase {
            path: path.to_owned(),
        }),
        Some(Protected::Secret(name)) => Ok(Some(name)),
        None => Ok(None),
    };
    let read = match manner {
        Manner::Still => stable(taking, path, links, gate, |taking, file, size, first| {
            pass(taking, path, file, size, first)
        }),
        Manner::Growing => growing(taking, path, links, gate, |taking, file, size, first| {
            pass(taking, path, file, size, first)
        }),
    };
    let read = match read? {
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
    let quotes = |secret| Note::QuotesSecret {
        path: path.to_owned(),
        secret,
        sha256,
    };
    let notes = notes.into_iter().map(quotes).collect();
    let content = Content::File {
        bytes: keep(taking, body, read.size)?,
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
    file: &mut (impl Read + ?Sized),
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
    let (staged, read, hash) = to_staging(taking, path, file, size, first)?;
    Ok((Body::Staged(staged), read, hash))
}

/// Copies what a descriptor shows to the staging folder, once: for a file that nothing is compared with.
pub(crate) fn stage(
    taking: &Taking<'_>,
    path: &Path,
    file: &mut File,
    size: u64,
) -> Result<(Bytes, Sha256Hash), CaptureError> {
    let (staged, len, sha256) = to_staging(taking, path, file, size, true)?;
    Ok((staged.into_bytes(len), sha256))
}

fn to_staging(
    taking: &Taking<'_>,
    path: &Path,
    file: &mut (impl Read + ?Sized),
    size: u64,
    is_progress: bool,
) -> Result<(StagedFile, u64, Sha256Hash), CaptureError> {
    taking.staging.require(size)?;
    let (staged, mut out) = taking.staging.file()?;
    let (len, sha256) = hash_up_to(&taking.stop, path, file, size, |chunk| {
        out.write_all(chunk)
            .map_err(|e| taking.staging.write_error(e, size))?;
        if is_progress {
            taking.advance(chunk.len() as u64);
        }
        Ok(())
    })?;
    Ok((staged, len, sha256))
}

/// Moves content to where it stays: memory for the small, the staging folder for the rest.
fn keep(taking: &mut Taking<'_>, body: Body, len: u64) -> Result<Bytes, CaptureError> {
    let v = match body {
        Body::Memory(v) => v,
        Body::Staged(staged) => return Ok(staged.into_bytes(len)),
    };
    if len <= SMALL && len <= taking.memory {
        taking.memory -= len;
        return Ok(Bytes::from_vec(v));
    }
    let (staged, mut out) = taking.staging.file()?;
    out.write_all(&v)
        .map_err(|e| taking.staging.write_error(e, len))?;
    Ok(staged.into_bytes(len))
}

/// Bytes in a file, zero where it cannot be told.
pub(crate) fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |m| m.size())
}
