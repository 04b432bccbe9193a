//! What is covered is what the sources take, or leave out on purpose.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::CaptureError;
use crate::secret::named;
use crate::source::{Kind, Scope, Source};
use crate::sqlite::names::{SIDE_FILES, real, with_suffix};
use crate::stop::Stop;
use crate::tree::pattern::Pattern;

/// The paths that sources cover.
pub(super) struct Covered {
    files: HashSet<PathBuf>,
    folders: Vec<PathBuf>,
    /// Databases under whatever name.
    pub(super) inodes: HashSet<(u64, u64)>,
}

impl Covered {
    pub(super) fn by(sources: &[Source], stop: &Stop) -> Result<Self, CaptureError> {
        let mut covered = Self {
            files: HashSet::new(),
            folders: Vec::new(),
            inodes: HashSet::new(),
        };
        for source in sources {
            let found = || match Pattern::of(source)?.find(&[], stop) {
                Ok(found) => Ok(found.paths.into_iter().chain(found.dangling).collect()),
                Err(CaptureError::Stopped) => Err(CaptureError::Stopped),
                // There is nothing of it.
                Err(_) => Ok::<Vec<_>, CaptureError>(Vec::new()),
            };
            let paths = match source.kind {
                Kind::Dir => {
                    covered
                        .folders
                        .extend([source.path.clone(), real(&source.path)]);
                    continue;
                }
                Kind::Secret if source.scope == Scope::Rest => continue,
                Kind::Secret => named::file_of(source).ok().flatten().into_iter().collect(),
                Kind::Sqlite | Kind::Glob if source.is_pattern() => found()?,
                _ => vec![source.path.clone()],
            };
            for path in paths {
                covered.add(&path, source.kind == Kind::Sqlite);
            }
        }
        Ok(covered)
    }

    fn add(&mut self, path: &Path, is_database: bool) {
        let suffixes: &[&str] = if is_database { &SIDE_FILES } else { &[] };
        for path in [path.to_owned(), real(path)] {
            for suffix in [""].iter().chain(suffixes) {
                let file = with_suffix(&path, suffix);
                if let Ok(stat) = fs::metadata(&file)
                    && is_database
                {
                    self.inodes.insert((stat.dev(), stat.ino()));
                }
                self.files.insert(file);
            }
        }
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.files.contains(path) || self.folders.iter().any(|folder| path.starts_with(folder))
    }
}
