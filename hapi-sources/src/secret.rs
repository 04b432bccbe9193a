//! A secret is encrypted to age recipients (C2SP age v1) before anything else sees it.
//!
//! Its plaintext exists in memory that zeroes itself, and nowhere else. age makes another
//! ciphertext each time, so the former one is used again while plaintext and recipients are the
//! same and it is less than a week old: an unchanged state then makes an unchanged snapshot.

pub(crate) mod cache;
mod entries;
pub(crate) mod identity;
pub(crate) mod recipients;

use zeroize::Zeroizing;

use crate::capture::{Capture, Content, Entry, Note};
use crate::error::CaptureError;
use crate::facts::{Metadata, SecretFacts, Sha256Hash};
use crate::file::pinned::{Links, Pinned};
use crate::file::stable::{Stable, fill, stable};
use crate::guard::Protected;
use crate::source::Source;
use crate::staging::bytes::Bytes;
use crate::taking::Taking;
use cache::{Item, LARGEST};
use entries::contents;

/// Captures one file as ciphertext.
pub(crate) fn capture(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let path = source.path.as_path();
    // Known from here on, even if the encryption fails.
    let Known {
        plaintext,
        metadata,
        entries,
    } = read(taking, source)?;
    let no_one = || CaptureError::NoRecipients {
        path: path.to_owned(),
    };
    let recipients = taking.recipients.ok_or_else(no_one)?;
    let mut capture = Capture::empty(source);
    let item = Item {
        path,
        recipients,
        plaintext: &plaintext,
        now: taking.now,
    };
    let former = match taking.secret_cache.map(|cache| cache.load(&item)) {
        Some(Ok(former)) => former,
        Some(Err((path, reason))) => {
            capture.notes.push(Note::SecretCache { path, reason });
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
                capture.notes.push(Note::SecretCache {
                    path: cache.entry(path),
                    reason,
                });
            }
            fresh
        }
    };
    let sha256 = Sha256Hash::of(&ciphertext);
    let facts = SecretFacts { entries, reused };
    capture.entries.push(Entry {
        path: path.with_added_extension("age"),
        metadata,
        content: Content::Secret {
            bytes: Bytes::from_vec(ciphertext),
            sha256,
            facts,
        },
    });
    Ok(capture)
}

/// A secret's plaintext with what else was seen of its file.
struct Known {
    plaintext: Zeroizing<Vec<u8>>,
    metadata: Metadata,
    entries: u64,
}

/// Reads a secret and remembers it, so that no other source carries it, without taking it.
pub(crate) fn learn(taking: &mut Taking<'_>, source: &Source) -> Result<(), CaptureError> {
    read(taking, source).map(drop)
}

fn read(taking: &mut Taking<'_>, source: &Source) -> Result<Known, CaptureError> {
    let path = source.path.as_path();
    let gate = |taking: &mut Taking<'_>, pinned: &Pinned| match taking.guard.check(pinned, path) {
        Some(Protected::Database) => Err(CaptureError::LiveDatabase {
            path: path.to_owned(),
        }),
        _ if pinned.stat.len() > LARGEST => Err(CaptureError::WrongType {
            path: path.to_owned(),
            found: "larger than 16 MiB",
            wanted: "a file of secrets",
        }),
        _ => Ok(None),
    };
    let read = stable(
        taking,
        path,
        Links::Follow,
        gate,
        |taking, file, size, first| {
            let mut plaintext = Zeroizing::new(Vec::new());
            fill(file, &mut plaintext, size).map_err(|e| CaptureError::read(path, e))?;
            let (len, hash) = (plaintext.len() as u64, Sha256Hash::of(&plaintext));
            if first {
                taking.advance(len);
            }
            Ok((plaintext, len, hash))
        },
    )?;
    let Stable::Read(read) = read else {
        return Err(CaptureError::Missing {
            path: path.to_owned(),
        });
    };
    let (entries, values) = contents(&read.body);
    taking
        .guard
        .remember(path, (read.size, read.sha256), values);
    Ok(Known {
        plaintext: read.body,
        metadata: read.metadata,
        entries,
    })
}
