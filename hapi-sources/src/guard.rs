//! The guard knows what must not be read as a plain file: live databases and secrets.
//!
//! Opening and closing a database, or its `-wal` or `-shm`, by other means than SQLite drops the
//! POSIX locks that SQLite holds in this process, and a copy of a secret would carry its plaintext
//! past age. Both are told by device and inode, databases by path too, secrets by content too.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memchr::memmem;
use zeroize::Zeroizing;

use crate::error::CaptureError;
use crate::facts::Sha256Hash;
use crate::file::pinned::Pinned;
use crate::secret::named;
use crate::source::{Kind, Scope, Source};
use crate::sqlite::names::{SIDE_FILES, real, with_suffix};
use crate::stop::Stop;
use crate::tree::pattern::Pattern;

/// Side files come and go with the hub's connections: what was seen is this old at most.
const FRESH: Duration = Duration::from_secs(1);

/// Why a file must not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protected {
    Database,
    Secret(String),
}

/// What is protected, by all names known.
pub(crate) struct Guard {
    patterns: Vec<Pattern>,
    plain: Vec<PathBuf>,
    secrets: Vec<Secret>,
    private: Vec<PathBuf>,
    seen: Seen,
}

struct Secret {
    name: String,
    path: PathBuf,
    content: Option<(u64, Sha256Hash)>,
    values: Vec<Zeroizing<Vec<u8>>>,
}

struct Seen {
    at: Instant,
    databases: Vec<PathBuf>,
    inodes: HashMap<(u64, u64), Protected>,
    paths: HashMap<PathBuf, Protected>,
}

impl Guard {
    /// Protects the databases and secrets among the sources.
    pub(crate) fn new(sources: &[Source]) -> Result<Self, CaptureError> {
        let mut guard = Self {
            patterns: Vec::new(),
            plain: Vec::new(),
            secrets: Vec::new(),
            private: Vec::new(),
            seen: Seen {
                at: Instant::now(),
                databases: Vec::new(),
                inodes: HashMap::new(),
                paths: HashMap::new(),
            },
        };
        for s in sources {
            match s.kind {
                Kind::Sqlite if s.is_pattern() => guard.patterns.push(Pattern::of(s)?),
                Kind::Sqlite => guard.plain.push(s.path.clone()),
                // What nobody knows is no secret that others must not have.
                Kind::Secret if s.scope == Scope::Rest => {}
                Kind::Secret => {
                    let path = named::file_of(s).ok().flatten();
                    let own = |path: &PathBuf| {
                        s.scope == Scope::File || !named::is_taken_by_another(path, sources)
                    };
                    guard.secrets.extend(path.filter(own).map(|path| Secret {
                        name: s.name.clone(),
                        path,
                        content: None,
                        values: Vec::new(),
                    }));
                }
                Kind::File | Kind::Glob | Kind::Dir => {}
            }
        }
        guard.renew();
        Ok(guard)
    }

    /// Adds files and folders that no walk enters.
    pub(crate) fn keep_out(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        for path in paths {
            self.private.push(real(&path));
            self.private.push(path);
        }
    }

    /// The paths that no walk enters.
    pub(crate) fn private(&self) -> Vec<PathBuf> {
        self.private.clone()
    }

    /// Looks for the databases anew: at the beginning of each source.
    pub(crate) fn renew(&mut self) {
        let mut databases = HashSet::new();
        let matches = self
            .patterns
            .iter()
            .filter_map(|p| p.find(&[], &Stop::default()).ok());
        for path in self
            .plain
            .iter()
            .cloned()
            .chain(matches.flat_map(|m| m.paths))
        {
            databases.insert(real(&path));
            databases.insert(path);
        }
        self.seen.databases = databases.into_iter().collect();
        self.refresh();
    }

    fn refresh(&mut self) {
        let seen = &mut self.seen;
        seen.inodes.clear();
        seen.paths.clear();
        for secret in &self.secrets {
            // By name, too: one that is replaced by rename is another inode with other content.
            for path in [secret.path.clone(), real(&secret.path)] {
                seen.paths
                    .insert(path, Protected::Secret(secret.name.clone()));
            }
            if let Ok(m) = fs::metadata(&secret.path) {
                seen.inodes
                    .insert((m.dev(), m.ino()), Protected::Secret(secret.name.clone()));
            }
        }
        for database in &seen.databases {
            for suffix in [""].iter().chain(&SIDE_FILES) {
                let path = with_suffix(database, suffix);
                if let Ok(m) = fs::metadata(&path)
                    && m.is_file()
                {
                    seen.inodes.insert((m.dev(), m.ino()), Protected::Database);
                }
                seen.paths.insert(path, Protected::Database);
            }
        }
        seen.at = Instant::now();
    }

    /// Whether the pinned file must not be opened.
    pub(crate) fn check(&mut self, pinned: &Pinned, path: &Path) -> Option<Protected> {
        // A file with one name is told by that name even if it was made this very moment; one
        // with several may be a side file under another.
        if pinned.stat.nlink() > 1 || self.seen.at.elapsed() > FRESH {
            self.refresh();
        }
        let by_path = |p: &Path| self.seen.paths.get(p).cloned();
        let named = by_path(path).or_else(|| pinned.real_path().and_then(|p| by_path(&p)));
        if named.is_some() {
            return named;
        }
        self.seen.inodes.get(&pinned.identity()).cloned()
    }

    /// Remembers a secret's content, in memory only.
    pub(crate) fn remember(
        &mut self,
        path: &Path,
        content: (u64, Sha256Hash),
        values: Vec<Zeroizing<Vec<u8>>>,
    ) {
        if let Some(s) = self.secrets.iter_mut().find(|s| s.path == path) {
            s.content = Some(content);
            s.values = values;
        }
    }

    /// Whether a known secret is this long. An empty file is nobody's secret.
    pub(crate) fn same_length(&self, size: u64) -> bool {
        size > 0
            && self
                .secrets
                .iter()
                .any(|s| s.content.is_some_and(|c| c.0 == size))
    }

    /// The secret with this content.
    pub(crate) fn same_content(&self, size: u64, sha256: Sha256Hash) -> Option<String> {
        let same = |s: &&Secret| size > 0 && s.content == Some((size, sha256));
        self.secrets.iter().find(same).map(|s| s.name.clone())
    }

    /// The secrets of which a value stands in `content`.
    pub(crate) fn quoted(&self, content: &[u8]) -> Vec<String> {
        let quotes = |s: &&Secret| s.values.iter().any(|v| memmem::find(content, v).is_some());
        self.secrets
            .iter()
            .filter(quotes)
            .map(|s| s.name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::pinned::Links;

    fn check(guard: &mut Guard, path: &Path) -> Option<Protected> {
        guard.check(&Pinned::new(path, Links::Follow).unwrap(), path)
    }

    #[test]
    fn databases_are_known_by_path_link_and_inode_and_side_files_as_they_come() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |n: &str| tmp.path().join(n);
        for n in ["hapi.db", "plain", "env"] {
            fs::write(at(n), n).unwrap();
        }
        let sources = [
            Source::new("db", Kind::Sqlite, at("hapi.db")),
            Source::new("env", Kind::Secret, at("env")),
        ];
        let mut guard = Guard::new(&sources).unwrap();
        assert_eq!(check(&mut guard, &at("hapi.db")), Some(Protected::Database));
        assert_eq!(check(&mut guard, &at("plain")), None);
        fs::hard_link(at("hapi.db"), at("hard")).unwrap();
        std::os::unix::fs::symlink(at("hapi.db"), at("soft")).unwrap();
        fs::write(at("hapi.db-wal"), "wal").unwrap();
        for n in ["hard", "soft", "hapi.db-wal"] {
            assert_eq!(check(&mut guard, &at(n)), Some(Protected::Database), "{n}");
        }
        fs::hard_link(at("hapi.db-wal"), at("wal")).unwrap();
        assert_eq!(check(&mut guard, &at("wal")), Some(Protected::Database));
        fs::hard_link(at("env"), at("env2")).unwrap();
        assert_eq!(
            check(&mut guard, &at("env2")),
            Some(Protected::Secret("env".into()))
        );
    }
}
