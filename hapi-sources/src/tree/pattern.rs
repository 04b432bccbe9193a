//! A pattern is a folder to start from, taken literally, and what must match below it.
//!
//! It names paths and opens nothing, so the guard may ask it which databases there are. What cannot be
//! listed is a failure beside what was found.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use walkdir::{DirEntry, WalkDir};

use crate::capture::Failure;
use crate::error::{CaptureError, SourceError};
use crate::file::pinned::Pinned;
use crate::source::Source;
use crate::stop::Stop;

/// A parsed pattern.
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
    /// Of a source.
    pub(crate) fn of(source: &Source) -> Result<Self, SourceError> {
        Self::parse(&source.path, &source.literal)
    }

    /// Splits an absolute path at its first component that is not literal, after what is literal anyway.
    pub(crate) fn parse(path: &Path, literal: &Path) -> Result<Self, SourceError> {
        let parts: Vec<Component<'_>> = path.components().collect();
        let begin = match path.starts_with(literal) {
            true => literal.components().count(),
            false => 0,
        };
        let special = |c: &Component<'_>| {
            c.as_os_str()
                .as_bytes()
                .iter()
                .any(|b| b"*?[{\\".contains(b))
        };
        let first = parts
            .iter()
            .skip(begin)
            .position(special)
            .map_or(parts.len().saturating_sub(1), |at| begin + at);
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
        Pinned::folder(&self.base)?;
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
            Err(e) => found.failures.push(Failure::read(&path, e)),
        }
    }
}

/// Patterns of what is left out, seen from a folder.
#[derive(Clone, Debug)]
pub struct Exclusions(Vec<GlobMatcher>);

impl Exclusions {
    /// Reads them.
    ///
    /// # Errors
    /// One is no pattern.
    pub fn parse(patterns: &[String]) -> Result<Self, SourceError> {
        let matchers = patterns.iter().map(|p| matcher(p.trim_end_matches('/')));
        matchers.collect::<Result<_, _>>().map(Self)
    }

    /// Whether one names a path in the folder, or a folder on the way to it.
    pub fn have(&self, folder: &Path, path: &Path) -> bool {
        let way = path.ancestors().take_while(|above| *above != folder);
        way.into_iter().any(|path| excluded(&self.0, folder, path))
    }
}

/// The patterns of what a source leaves out.
pub(crate) fn exclusions(source: &Source) -> Result<Vec<GlobMatcher>, SourceError> {
    Exclusions::parse(&source.exclude).map(|exclusions| exclusions.0)
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

/// The failure of a walk's step; none where something merely vanished meanwhile.
pub(crate) fn walk_failure(e: walkdir::Error, root: &Path) -> Option<Failure> {
    let path = e.path().unwrap_or(root).to_owned();
    let error = e.into_io_error()?;
    (error.kind() != std::io::ErrorKind::NotFound).then(|| Failure::read(&path, error))
}
