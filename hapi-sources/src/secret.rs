//! A secret is encrypted to age recipients (C2SP age v1) before anything else sees it.
//!
//! Its plaintext exists in memory that zeroes itself, and nowhere else. age makes another
//! ciphertext each time, so the former one is used again while plaintext and recipients are the
//! same and it is less than a week old: an unchanged state then makes an unchanged snapshot.

pub(crate) mod cache;
pub(crate) mod entries;
pub(crate) mod identity;
pub(crate) mod named;
pub(crate) mod recipients;

use std::path::Path;

use zeroize::Zeroizing;

use crate::capture::{Capture, Content, Entry, Note};
use crate::error::CaptureError;
use crate::facts::{Metadata, SecretFacts, Sha256Hash};
use crate::file::pinned::{Links, Pinned};
use crate::file::stable::{Stable, fill, stable};
use crate::guard::Protected;
use crate::source::{Scope, Source};
use crate::staging::bytes::Bytes;
use crate::taking::Taking;
use cache::{Item, LARGEST};
use entries::contents;

/// Captures one file as ciphertext: the source's own, or the one that it names.
pub(crate) fn capture(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let mut capture = Capture::empty(source);
    let nothing = |capture: Capture| match source.required {
        true => Err(CaptureError::Missing {
            path: source.path.clone(),
        }),
        false => Ok(Capture {
            absent: true,
            ..capture
        }),
    };
    let path = match named::file_of(source) {
        Ok(Some(path)) => path,
        Ok(None) => return nothing(capture),
        Err(reason) => {
            capture.notes.push(Note::NamesNothing {
                path: source.path.clone(),
                reason,
            });
            return nothing(capture);
        }
    };
    if source.scope != Scope::File && named::is_taken_by_another(&path, &taking.sources) {
        capture.absent = true;
        return Ok(capture);
    }
    // Known from here on, even if the encryption fails.
    let known = read(taking, source, &path)?;
    let entry = encrypted(taking, &path, known, &mut capture.notes)?;
    capture.entries.push(entry);
    Ok(capture)
}

/// The ciphertext of what was read.
pub(crate) fn encrypted(
    taking: &Taking<'_>,
    path: &Path,
    known: Known,
    notes: &mut Vec<Note>,
) -> Result<Entry, CaptureError> {
    let Known {
        plaintext,
        metadata,
        entries,
    } = known;
    let no_one = || CaptureError::NoRecipients {
        path: path.to_owned(),
    };
    let recipients = taking.recipients.ok_or_else(no_one)?;
    let item = Item {
        path,
        recipients,
        plaintext: &plaintext,
        now: taking.now,
    };
    let former = match taking.secret_cache.map(|cache| cache.load(&item)) {
        Some(Ok(former)) => former,
        Some(Err((path, reason))) => {
            notes.push(Note::SecretCache { path, reason });
            None
        }
        None => None,
    };
    let reused = former.is_some();
    let ciphertext = match former {
        Some(former) => former,
        None => {
            let reason = |e: String| CaptureError::Encrypt {
                path: path.to_owned(),
                reason: e,
            };
            let fresh = recipients.encrypt(&plaintext).map_err(reason)?;
            if let Some(cache) = taking.secret_cache
                && let Err(e) = cache.store(&item, &fresh)
            {
                let reason = format!("it could not be stored: {e}");
                notes.push(Note::SecretCache {
                    path: cache.entry(path),
                    reason,
                });
            }
            fresh
        }
    };
    let sha256 = Sha256Hash::of(&ciphertext);
    let facts = SecretFacts { entries, reused };
    Ok(Entry {
        path: path.with_added_extension("age"),
        metadata,
        content: Content::Secret {
            bytes: Bytes::from_vec(ciphertext),
            sha256,
            facts,
        },
    })
}

/// A secret's plaintext with what else was seen of its file.
pub(crate) struct Known {
    pub(crate) plaintext: Zeroizing<Vec<u8>>,
    pub(crate) metadata: Metadata,
    pub(crate) entries: u64,
}

/// Reads a secret and remembers it, so that no other source carries it, without taking it.
pub(crate) fn learn(taking: &mut Taking<'_>, source: &Source) -> Result<(), CaptureError> {
    match named::file_of(source) {
        Ok(Some(path)) => read(taking, source, &path).map(drop),
        _ => Ok(()),
    }
}

fn read(taking: &mut Taking<'_>, source: &Source, path: &Path) -> Result<Known, CaptureError> {
    let is_named = source.scope != Scope::File;
    let limit = if is_named { named::LARGEST } else { LARGEST };
    let gate = |taking: &mut Taking<'_>, pinned: &Pinned| match taking.guard.check(pinned, path) {
        Some(Protected::Database) => Err(CaptureError::LiveDatabase {
            path: path.to_owned(),
        }),
        _ if pinned.stat.len() > limit => Err(CaptureError::WrongType {
            path: path.to_owned(),
            found: if is_named {
                "larger than 1 MiB"
            } else {
                "larger than 16 MiB"
            },
            wanted: "a file of secrets",
        }),
        _ if is_named && named::is_out_of_bounds(pinned, &source.path) => {
            Err(CaptureError::OutOfBounds {
                path: path.to_owned(),
                by: source.path.clone(),
            })
        }
        _ => Ok(None),
    };
    let Known {
        plaintext,
        metadata,
        ..
    } = plaintext_of(taking, path, Links::Follow, gate)?;
    let (entries, values) = contents(&plaintext);
    let content = (plaintext.len() as u64, Sha256Hash::of(&plaintext));
    taking.guard.remember(path, content, values);
    Ok(Known {
        plaintext,
        metadata,
        entries,
    })
}

/// Reads a file into memory that zeroes itself; its entries are not counted.
pub(crate) fn plaintext_of<'a>(
    taking: &mut Taking<'a>,
    path: &Path,
    links: Links,
    gate: impl FnMut(&mut Taking<'a>, &Pinned) -> Result<Option<String>, CaptureError>,
) -> Result<Known, CaptureError> {
    let read = stable(taking, path, links, gate, |taking, file, size, first| {
        let mut plaintext = Zeroizing::new(Vec::new());
        fill(file, &mut plaintext, size).map_err(|e| CaptureError::read(path, e))?;
        let (len, hash) = (plaintext.len() as u64, Sha256Hash::of(&plaintext));
        if first {
            taking.advance(len);
        }
        Ok((plaintext, len, hash))
    })?;
    match read {
        Stable::Read(read) => Ok(Known {
            plaintext: read.body,
            metadata: read.metadata,
            entries: 0,
        }),
        Stable::Secret(_) => Err(CaptureError::Missing {
            path: path.to_owned(),
        }),
    }
}
