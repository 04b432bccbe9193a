//! A tree is walked by pattern (glob) or as a whole (folder), always in the same order.
//!
//! One bad file is a failure of that file: the walk goes on. Live databases and secrets are left
//! alone with a note.

mod git;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use walkdir::{DirEntry, WalkDir};

use crate::capture::{Capture, Content, Entry, Failure, Note};
use crate::error::{CaptureError, SourceError};
use crate::facts::Metadata;
use crate::file::{self, Links, Pinned, Taken};
use crate::source::{Filter, Source};
use crate::stop::Stop;
use crate::taking::Taking;

/// Captures all files that match a pattern, symbolic links followed to their content.
pub(crate) fn glob(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let pattern = Pattern::parse(&source.path)?;
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
    let private = taking.guard.private();
    for path in paths {
        if private.iter().any(|p| path.starts_with(p)) {
            capture.notes.push(Note::KeptOut { path });
            continue;
        }
        take_into(&mut capture, taking, &path, Links::Follow)?;
    }
    capture.sort();
    Ok(capture)
}

/// Captures a folder with everything below it. The folder itself may be a symbolic link; those
/// inside are kept as links.
pub(crate) fn dir(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let (root, exclude) = (source.path.as_path(), exclusions(source)?);
    let began = folder(root)?;
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
            take_into(&mut capture, taking, path, Links::Keep)?;
        } else {
            capture.notes.push(Note::SpecialFile {
                path: path.to_owned(),
            });
        }
    }
    // Single files may vanish under a walk; the folder itself must still be the one it began with.
    // Gone by now is not absent: that would be no failure where the source is optional.
    if folder(root).ok() != Some(began) {
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
        Err(e) => capture
            .failures
            .push(failure(path, CaptureError::read(path, e))),
    }
}

/// Adds one file, or the failure or note that it comes to. Only what ends the whole run is an error.
fn take_into(
    capture: &mut Capture,
    taking: &mut Taking<'_>,
    path: &Path,
    links: Links,
) -> Result<(), CaptureError> {
    match file::take(taking, path, links) {
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
        Err(error) => capture.failures.push(failure(path, error)),
    }
    Ok(())
}

fn failure(path: &Path, error: CaptureError) -> Failure {
    Failure {
        path: path.to_owned(),
        error,
    }
}

/// The failure of a walk's step; none where something merely vanished meanwhile.
pub(crate) fn walk_failure(e: walkdir::Error, root: &Path) -> Option<Failure> {
    let path = e.path().unwrap_or(root).to_owned();
    let error = e.into_io_error()?;
    (error.kind() != std::io::ErrorKind::NotFound).then(|| Failure {
        error: CaptureError::read(&path, error),
        path,
    })
}

/// Makes sure that a folder to walk is one, and tells which: its device and inode.
pub(crate) fn folder(path: &Path) -> Result<(u64, u64), CaptureError> {
    let pinned = Pinned::new(path, Links::Follow).map_err(|e| file::look_error(path, e))?;
    if pinned.stat.is_dir() {
        return Ok((pinned.stat.dev(), pinned.stat.ino()));
    }
    let found = file::found(&pinned.stat);
    Err(CaptureError::WrongType {
        path: path.to_owned(),
        found,
        wanted: "a folder",
    })
}

/// The patterns of what a source leaves out.
pub(crate) fn exclusions(source: &Source) -> Result<Vec<GlobMatcher>, SourceError> {
    source
        .exclude
        .iter()
        .map(|p| matcher(p.trim_end_matches('/')))
        .collect()
}

pub(crate) fn excluded(exclude: &[GlobMatcher], base: &Path, path: &Path) -> bool {
    let below = path.strip_prefix(base).unwrap_or(path);
    exclude.iter().any(|m| m.is_match(below))
}

fn matcher(pattern: &str) -> Result<GlobMatcher, SourceError> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    let err = |e: globset::Error| SourceError::Pattern {
        pattern: pattern.to_owned(),
        reason: e.kind().to_string(),
    };
    Ok(glob.map_err(err)?.compile_matcher())
}

/// A pattern is a folder to start from, taken literally, and what must match below it.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    base: PathBuf,
    whole: GlobMatcher,
    /// What folders on the way must match, level by level, up to a `**`.
    levels: Vec<GlobMatcher>,
    /// How deep matches lie, unless there is a `**`.
    depth: Option<usize>,
}

/// What matched, sorted by bytes, and what could not be looked at.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) failures: Vec<Failure>,
    /// Links to nothing: an editor's lock, say.
    pub(crate) dangling: Vec<PathBuf>,
}

impl Pattern {
    /// Splits an absolute path at its first component that is not literal.
    pub(crate) fn parse(path: &Path) -> Result<Self, SourceError> {
        let parts: Vec<Component<'_>> = path.components().collect();
        let special = |c: &Component<'_>| {
            c.as_os_str()
                .as_bytes()
                .iter()
                .any(|b| b"*?[{\\".contains(b))
        };
        let first = parts
            .iter()
            .position(special)
            .unwrap_or(parts.len().saturating_sub(1));
        let (base, rest) = (parts[..first].iter().collect::<PathBuf>(), &parts[first..]);
        let rest: Vec<&str> = rest
            .iter()
            .map(|c| c.as_os_str().to_str())
            .collect::<Option<_>>()
            .ok_or_else(|| SourceError::Pattern {
                pattern: path.display().to_string(),
                reason: "it is not UTF-8".into(),
            })?;
        let whole = matcher(&rest.join("/"))?;
        let plain = |part: &&&str| !part.contains("**") && !part.contains(['{', '}', '\\']);
        let levels = rest
            .iter()
            .take_while(plain)
            .map(|p| matcher(p))
            .collect::<Result<_, _>>()?;
        let bounded = rest.iter().all(|p| !p.contains("**") && !p.contains('{'));
        Ok(Self {
            base,
            whole,
            levels,
            depth: bounded.then_some(rest.len()),
        })
    }

    /// All matches that are not folders. A symbolic link to a folder is followed as a shell does:
    /// yes, but not where `**` would make it go round in circles.
    pub(crate) fn find(&self, exclude: &[GlobMatcher], stop: &Stop) -> Result<Found, CaptureError> {
        folder(&self.base)?;
        let mut found = Found {
            paths: Vec::new(),
            failures: Vec::new(),
            dangling: Vec::new(),
        };
        let below = |p: &Path| p.strip_prefix(&self.base).unwrap_or(p).to_owned();
        let entered = |e: &DirEntry| {
            e.depth() == 0
                || (!excluded(exclude, &self.base, e.path())
                    && (!e.file_type().is_dir()
                        || self
                            .levels
                            .get(e.depth() - 1)
                            .is_none_or(|m| m.is_match(e.file_name()))))
        };
        let walk = WalkDir::new(&self.base)
            .min_depth(1)
            .max_depth(self.depth.unwrap_or(usize::MAX))
            .follow_links(self.depth.is_some());
        for item in walk.into_iter().filter_entry(entered) {
            stop.check()?;
            match item {
                Ok(e) if e.file_type().is_dir() || !self.whole.is_match(below(e.path())) => {}
                Ok(e) => self.add(&mut found, e),
                Err(e) => {
                    let Some(path) = e.path().map(Path::to_owned) else {
                        continue;
                    };
                    let link = path.is_symlink();
                    if link
                        && (!self.whole.is_match(below(&path))
                            || excluded(exclude, &self.base, &path))
                    {
                        continue;
                    }
                    let gone = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
                    if link && e.io_error().is_some_and(gone) {
                        found.dangling.push(path);
                    } else {
                        found.failures.extend(walk_failure(e, &self.base));
                    }
                }
            }
        }
        found
            .paths
            .sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
        Ok(found)
    }

    fn add(&self, found: &mut Found, entry: DirEntry) {
        let path = entry.into_path();
        match path.metadata() {
            Ok(m) if m.is_dir() => {}
            Ok(_) => found.paths.push(path),
            Err(_) if path.is_symlink() => found.dangling.push(path),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => found
                .failures
                .push(failure(&path, CaptureError::read(&path, e))),
        }
    }
}

/// Bytes in a file, zero where it cannot be told.
pub(crate) fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |m| m.size())
}
