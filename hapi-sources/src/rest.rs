//! The rest of a folder is every regular file in it that no source takes: what a program began to store after the
//! profile was written.
//!
//! Nobody knows what is in it, so it is encrypted like a secret, whatever its mode. No link is followed, no other
//! file system is entered, and no database is read. What is not taken is told in `left_out`, and fails nothing: one
//! file that never stands still must not spoil every run.

pub(crate) mod left_out;
pub(crate) mod walk;

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use left_out::{LeftOut, Why};
use walk::{MAGIC, Name, names};

use crate::capture::{Capture, Content, Entry, Failure};
use crate::error::CaptureError;
use crate::facts::Metadata;
use crate::file::pinned::{Links, Pinned};
use crate::guard::Protected;
use crate::secret::entries::contents;
use crate::secret::{Known, encrypted, plaintext_of};
use crate::source::Source;
use crate::sqlite::names::real;
use crate::stop::Stop;
use crate::taking::Taking;

/// Bytes that are taken in sum: secrets are held in memory, and encrypted anew each week.
pub const LARGEST_REST: u64 = 16 << 20;

/// Files that are taken in sum: each has a ciphertext of its own in the cache.
pub const MOST_REST: usize = 1000;

/// Captures the rest of a folder: whole names, the smallest first, as long as they fit.
pub(crate) fn capture(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let private = taking.guard.private();
    let names = names(source, &taking.sources, &private, &taking.stop)?;
    let mut capture = Capture::empty(source);
    for (name, why) in chosen(names) {
        match why {
            Some(why) => capture.left_out.push(name.left_out(why)),
            None => take(&mut capture, taking, source, &name)?,
        }
        capture.left_out.extend(name.out_of_reach);
    }
    capture.left_out.sort_by(|a, b| a.path.cmp(&b.path));
    capture.absent = capture.entries.is_empty() && capture.is_complete();
    capture.sort();
    Ok(capture)
}

/// What a capture of the rest would leave out, as far as that can be told without reading it.
///
/// # Errors
/// As [`uncovered`](crate::uncovered).
pub fn left_out(
    source: &Source,
    sources: &[Source],
    private: &[PathBuf],
    stop: &Stop,
) -> Result<Vec<LeftOut>, CaptureError> {
    let mut left_out = Vec::new();
    for (name, why) in chosen(names(source, sources, private, stop)?) {
        match why {
            Some(why) => left_out.push(name.left_out(why)),
            None => {
                left_out.extend(name.databases_left_out());
                let files = name.files.iter();
                let unreadable = files.filter_map(|path| {
                    let error = access(path, Access::READ_OK).err()?;
                    Some(LeftOut {
                        path: path.clone(),
                        is_folder: false,
                        why: Why::Unreadable(io::Error::from(error).to_string()),
                        databases: Vec::new(),
                    })
                });
                left_out.extend(unreadable);
            }
        }
        left_out.extend(name.out_of_reach);
    }
    left_out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(left_out)
}

/// The smallest names first, and why one does not fit.
fn chosen(mut names: Vec<Name>) -> impl Iterator<Item = (Name, Option<Why>)> {
    names.sort_by(|a, b| (a.bytes, &a.path).cmp(&(b.bytes, &b.path)));
    let (mut bytes, mut files) = (0u64, 0);
    names.into_iter().map(move |name| {
        bytes = bytes.saturating_add(name.bytes);
        files += name.files.len();
        let why = match () {
            () if name.files.is_empty() => None,
            () if bytes > LARGEST_REST => Some(Why::TooLarge),
            () if files > MOST_REST => Some(Why::TooMany),
            () => None,
        };
        (name, why)
    })
}

/// Takes what can be taken of one name. Only what ends the whole run is an error.
fn take(
    capture: &mut Capture,
    taking: &mut Taking<'_>,
    source: &Source,
    name: &Name,
) -> Result<(), CaptureError> {
    capture.left_out.extend(name.databases_left_out());
    for path in &name.links {
        let link = Pinned::new(path, Links::Keep).and_then(|pinned| {
            Ok(Entry {
                path: path.clone(),
                metadata: Metadata::of(&pinned.stat)?,
                content: Content::Symlink {
                    target: pinned.link_target()?,
                },
            })
        });
        // What is not there any more is not missed.
        capture.entries.extend(link.ok());
    }
    for path in &name.files {
        let why = match file(capture, taking, source, path) {
            Ok(None) | Err(CaptureError::Missing { .. } | CaptureError::LiveDatabase { .. }) => {
                continue;
            }
            Ok(Some(why)) => why,
            Err(e @ (CaptureError::Stopped | CaptureError::Staging(_))) => return Err(e),
            Err(CaptureError::Unstable { .. }) => Why::Unstable,
            Err(CaptureError::WrongType { .. }) => Why::TooLarge,
            Err(CaptureError::Read { error, .. }) => Why::Unreadable(error.to_string()),
            Err(error) => {
                let path = path.clone();
                capture.failures.push(Failure { path, error });
                continue;
            }
        };
        let databases = match why {
            Why::Database => vec![path.clone()],
            _ => Vec::new(),
        };
        capture.left_out.push(LeftOut {
            path: path.clone(),
            is_folder: false,
            why,
            databases,
        });
    }
    Ok(())
}

/// Takes one file, or says why not.
fn file(
    capture: &mut Capture,
    taking: &mut Taking<'_>,
    source: &Source,
    path: &Path,
) -> Result<Option<Why>, CaptureError> {
    let folder = real(&source.path);
    let gate = |taking: &mut Taking<'_>, pinned: &Pinned| {
        let is_inside = pinned.real_path().is_some_and(|p| p.starts_with(&folder));
        match taking.guard.check(pinned, path) {
            Some(Protected::Database) => Err(CaptureError::LiveDatabase {
                path: path.to_owned(),
            }),
            // A folder became a link meanwhile.
            _ if !is_inside => Err(CaptureError::Missing {
                path: path.to_owned(),
            }),
            _ if pinned.stat.len() > LARGEST_REST => Err(CaptureError::WrongType {
                path: path.to_owned(),
                found: "larger than 16 MiB",
                wanted: "a small file",
            }),
            _ => Ok(None),
        }
    };
    let known = plaintext_of(taking, path, Links::Keep, gate)?;
    if known.plaintext.starts_with(MAGIC) {
        return Ok(Some(Why::Database));
    }
    let known = Known {
        entries: contents(&known.plaintext).0,
        ..known
    };
    let entry = encrypted(taking, path, known, &mut capture.notes)?;
    capture.entries.push(entry);
    Ok(None)
}
