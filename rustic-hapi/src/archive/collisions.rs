//! A collision is two sources that want the same place in a snapshot. It is settled before the
//! manifest is written, so that the manifest names exactly what the snapshot will hold.
//!
//! Databases come first, then secrets, files, globs and folders: the more special source has the
//! better copy. What loses is named in its own source, unless it is the same anyway.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use hapi_sources::{Capture, CaptureError, Content, Entry, Failure, Kind, Note, Sha256Hash};

/// What stands at a place already.
struct Taken {
    by: String,
    is_secret: bool,
    kind: PlaceKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlaceKind {
    File(Option<Sha256Hash>),
    Dir,
    Symlink,
}

/// Leaves each place to one source, and the manifest's own to the manifest.
pub(crate) fn settle(captured: &mut [Result<Capture, CaptureError>], manifest: &Path) {
    let mut order: Vec<&mut Capture> = captured
        .iter_mut()
        .filter_map(|c| c.as_mut().ok())
        .collect();
    order.sort_by_key(|capture| match capture.kind {
        Kind::Sqlite => 0,
        Kind::Secret => 1,
        Kind::File => 2,
        Kind::Glob => 3,
        Kind::Dir => 4,
    });
    let mut places: BTreeMap<PathBuf, Taken> = BTreeMap::new();
    for capture in order {
        for entry in std::mem::take(&mut capture.entries) {
            if entry.path == manifest {
                capture.notes.push(Note::KeptOut { path: entry.path });
                continue;
            }
            match judge(&places, &entry, capture.kind == Kind::Secret) {
                Collision::Free => {
                    places.insert(
                        entry.path.clone(),
                        Taken {
                            by: capture.source.clone(),
                            is_secret: capture.kind == Kind::Secret,
                            kind: kind_of(&entry),
                        },
                    );
                    capture.entries.push(entry);
                }
                Collision::Same => {}
                Collision::Also(by) => {
                    capture.notes.push(Note::AlsoTaken {
                        path: entry.path,
                        by,
                    });
                }
                Collision::Lost(by) => capture.failures.push(Failure {
                    path: entry.path.clone(),
                    error: CaptureError::Shadowed {
                        path: entry.path,
                        by,
                    },
                }),
            }
        }
    }
}

enum Collision {
    /// Nobody has the place.
    Free,
    /// What is there is the same.
    Same,
    /// What is there is another look at the same thing.
    Also(String),
    /// What is there is something else: this entry will not be in the snapshot.
    Lost(String),
}

fn judge(places: &BTreeMap<PathBuf, Taken>, entry: &Entry, is_secret: bool) -> Collision {
    let kind = kind_of(entry);
    if let Some(taken) = places.get(&entry.path) {
        return match (taken.kind, kind) {
            (there, here) if there == here => Collision::Same,
            // One secret, encrypted twice.
            _ if taken.is_secret && is_secret => Collision::Same,
            // A plain file where a ciphertext goes is another file, and lost.
            _ if taken.is_secret => Collision::Lost(taken.by.clone()),
            (PlaceKind::File(_), PlaceKind::Dir) | (PlaceKind::Dir, PlaceKind::File(_)) => {
                Collision::Lost(taken.by.clone())
            }
            _ => Collision::Also(taken.by.clone()),
        };
    }
    for above in entry.path.ancestors().skip(1) {
        if let Some(taken) = places.get(above).filter(|t| t.kind != PlaceKind::Dir) {
            return Collision::Lost(taken.by.clone());
        }
    }
    // Something that is no folder, where another source has what lies in a folder of that name.
    let after = (Bound::Excluded(&entry.path), Bound::Unbounded);
    let below = places
        .range::<PathBuf, _>(after)
        .next()
        .filter(|(path, _)| kind != PlaceKind::Dir && path.starts_with(&entry.path));
    match (below, kind) {
        (None, _) => Collision::Free,
        (Some((_, taken)), PlaceKind::Symlink) => Collision::Also(taken.by.clone()),
        (Some((_, taken)), _) => Collision::Lost(taken.by.clone()),
    }
}

fn kind_of(entry: &Entry) -> PlaceKind {
    match entry.content {
        Content::Dir => PlaceKind::Dir,
        Content::Symlink { .. } => PlaceKind::Symlink,
        _ => PlaceKind::File(entry.sha256()),
    }
}
