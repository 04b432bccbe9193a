//! A tree is walked by pattern (glob) or as a whole (folder), always in the same order.
//!
//! One bad file is a failure of that file: the walk goes on. Live databases and secrets are left
//! alone with a note.

mod git;
pub(crate) mod pattern;

use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use crate::capture::{Capture, Content, Entry, Failure, Note};
use crate::error::CaptureError;
use crate::facts::Metadata;
use crate::file::pinned::{Links, Pinned};
use crate::file::{self, Manner, Taken};
use crate::source::{Filter, Source};
use crate::taking::Taking;
use pattern::{Pattern, excluded, exclusions, walk_failure};

/// Captures all files that match a pattern, symbolic links followed to their content.
pub(crate) fn glob(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let pattern = Pattern::of(source)?;
    let exclude = exclusions(source)?;
    let found = pattern.find(&exclude, &taking.stop)?;
    let mut capture = Capture {
        failures: found.failures,
        ..Capture::empty(source)
    };
    let mut paths = found.paths;
    if source.filter == Some(Filter::GitUntracked) {
        taking.observer.step("asking git");
        let (in_head, notes) = git::in_head("git".as_ref(), &paths, &taking.stop)?;
        paths.retain(|p| !in_head.contains(p));
        capture.notes = notes;
    }
    let dangling = found.dangling.into_iter();
    capture
        .notes
        .extend(dangling.map(|path| Note::DanglingLink { path }));
    let manner = match source.filter {
        Some(Filter::WholeLines) => Manner::Growing,
        Some(Filter::GitUntracked) | None => Manner::Still,
    };
    let private = taking.guard.private();
    for path in paths {
        if private.iter().any(|p| path.starts_with(p)) {
            capture.notes.push(Note::KeptOut { path });
            continue;
        }
        take_into(&mut capture, taking, &path, Links::Follow, manner)?;
    }
    capture.sort();
    Ok(capture)
}

/// Captures a folder with everything below it. The folder itself may be a symbolic link; those
/// inside are kept as links.
pub(crate) fn dir(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let (root, exclude) = (source.path.as_path(), exclusions(source)?);
    let began = Pinned::folder(root)?.identity();
    let mut capture = Capture::empty(source);
    let mut kept_out = Vec::new();
    let private = taking.guard.private();
    let kept = |e: &DirEntry| {
        let out = private.iter().any(|p| p == e.path());
        if out {
            kept_out.push(Note::KeptOut {
                path: e.path().to_owned(),
            });
        }
        !out && (e.depth() == 0 || !excluded(&exclude, root, e.path()))
    };
    let walk = WalkDir::new(root)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(kept);
    for item in walk {
        taking.stop.check()?;
        let entry = match item {
            Ok(entry) => entry,
            Err(e) => {
                capture.failures.extend(walk_failure(e, root));
                continue;
            }
        };
        let (path, kind) = (entry.path(), entry.file_type());
        if entry.depth() == 0 || kind.is_dir() {
            let links = if entry.depth() == 0 {
                Links::Follow
            } else {
                Links::Keep
            };
            simple(&mut capture, path, links, |_| Ok(Content::Dir));
        } else if kind.is_symlink() {
            simple(&mut capture, path, Links::Keep, |pinned| {
                Ok(Content::Symlink {
                    target: pinned.link_target()?,
                })
            });
        } else if kind.is_file() {
            take_into(&mut capture, taking, path, Links::Keep, Manner::Still)?;
        } else {
            capture.notes.push(Note::SpecialFile {
                path: path.to_owned(),
            });
        }
    }
    // Single files may vanish under a walk; the folder itself must still be the one it began with.
    // Gone by now is not absent: that would be no failure where the source is optional.
    if Pinned::folder(root).map(|now| now.identity()).ok() != Some(began) {
        return Err(CaptureError::Unstable {
            path: root.to_owned(),
            attempts: 1,
        });
    }
    capture.notes.append(&mut kept_out);
    capture.sort();
    Ok(capture)
}

/// Adds what has no bytes: a folder or a link.
fn simple(
    capture: &mut Capture,
    path: &Path,
    links: Links,
    content: impl FnOnce(&Pinned) -> std::io::Result<Content>,
) {
    let entry = Pinned::new(path, links).and_then(|pinned| {
        let metadata = Metadata::of(&pinned.stat)?;
        Ok(Entry {
            path: path.to_owned(),
            metadata,
            content: content(&pinned)?,
        })
    });
    match entry {
        Ok(entry) => capture.entries.push(entry),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => capture.failures.push(Failure::read(path, e)),
    }
}

/// Adds one file, or the failure or note that it comes to. Only what ends the whole run is an error.
fn take_into(
    capture: &mut Capture,
    taking: &mut Taking<'_>,
    path: &Path,
    links: Links,
    manner: Manner,
) -> Result<(), CaptureError> {
    match file::take(taking, path, links, manner) {
        Ok(Taken::File(entry, notes)) => {
            capture.entries.push(entry);
            capture.notes.extend(notes);
        }
        Ok(Taken::Secret(secret)) => {
            capture.notes.push(Note::SecretElsewhere {
                path: path.to_owned(),
                secret,
            });
        }
        // It was listed, and was gone when we came to it: the folder without it is as true a state.
        Err(CaptureError::Missing { .. }) => {}
        Err(CaptureError::LiveDatabase { path }) => capture.notes.push(Note::LiveDatabase { path }),
        Err(CaptureError::WrongType { path, found, .. })
            if !matches!(found, "a folder" | "a symbolic link") =>
        {
            capture.notes.push(Note::SpecialFile { path });
        }
        Err(e @ (CaptureError::Stopped | CaptureError::Staging(_))) => return Err(e),
        Err(error) => capture.failures.push(Failure {
            path: path.to_owned(),
            error,
        }),
    }
    Ok(())
}
