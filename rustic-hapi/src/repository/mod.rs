//! A repository of ours: opened with the profile's password behind the commit gate, known by its
//! id, and never mistaken for one that is missing.
//!
//! Knows: restic's format, by rustic_core. Must not know: sources, series, retention.

pub(crate) mod files;
mod foreign;
pub(crate) mod gate;
pub(crate) mod keys;
pub(crate) mod lock;
pub(crate) mod lock_file;
pub(crate) mod loose_packs;
mod name;
pub(crate) mod open;
pub(crate) mod password;
pub(crate) mod prune;
pub(crate) mod readahead;
pub(crate) mod whole_trees;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustic_core::repofile::Chunker;
use rustic_core::{
    CheckOptions, IndexedFullStatus, IndexedIdsStatus, OpenStatus, TreeId, WriteBackend,
};

use crate::destination::Destination;
use crate::destination::location::Location;
use crate::error::Error;
use crate::repository::gate::Gate;
use crate::repository::lock::{Held, InTheWay, Locks, Mode, SHARED_WAIT};
use crate::terminal::ui::Ui;

/// The engine's handle on a repository whose index is loaded.
pub(crate) type Engine = rustic_core::Repository<IndexedFullStatus>;

/// The engine's handle to write with.
pub(crate) type Writing = rustic_core::Repository<IndexedIdsStatus>;

/// An open repository.
pub struct Repository {
    pub(crate) inner: rustic_core::Repository<OpenStatus>,
    pub(crate) backend: Arc<dyn WriteBackend>,
    destination: Destination,
    /// The profile's folder, which notes our locks.
    state: PathBuf,
    gate: Gate,
    ui: Ui,
}

/// Bytes a chunk, by the size of the databases that go in: small chunks find more that is the
/// same, and cost an id each in the tree and in the index. Fixed for a repository's life.
///
/// Of a gigabyte that a hub used for half a day, chunks of 16 KiB add 30 MB, of 12 KiB 25 MB, of 8 KiB 21 MB;
/// each step makes the first snapshot and a restore some tenth slower (docs/performance.md), and each id takes
/// memory several times over while a run compares.
pub(crate) fn chunk_size_for(database_bytes: u64) -> u64 {
    const GIB: u64 = 1 << 30;
    match database_bytes {
        b if b < 2 * GIB => 12 << 10,
        b if b < 4 * GIB => 16 << 10,
        b if b < 16 * GIB => 32 << 10,
        _ => 64 << 10,
    }
}

impl Repository {
    /// Where this machine keeps what it knows of it.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// The repository's id, 64 hexadecimal digits.
    pub(crate) fn id(&self) -> String {
        self.inner.config().id.to_hex().to_string()
    }

    pub(crate) fn location(&self) -> &Location {
        self.destination.location()
    }

    /// Bytes a chunk; `None` for content-defined chunks (a repository that restic made).
    pub(crate) fn chunk_size(&self) -> Option<usize> {
        let config = self.inner.config();
        matches!(config.chunker(), Chunker::FixedSize).then(|| config.chunk_size())
    }

    /// The gate its writes go through.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Takes a restic lock, waiting for at most `wait` for those in its way.
    ///
    /// # Errors
    /// [`Error::RepositoryLocked`], or what keeps locks from being listed or written.
    pub(crate) fn lock(&self, mode: Mode, wait: Duration) -> Result<Held, Error> {
        self.locks()?.take(mode, wait)
    }

    /// The locks that the next run would wait for.
    ///
    /// # Errors
    /// What keeps locks from being listed or read.
    pub(crate) fn locks_in_the_way(&self) -> Result<Vec<InTheWay>, Error> {
        self.locks()?.in_the_way()
    }

    fn locks(&self) -> Result<Locks, Error> {
        Locks::new(
            self.destination.locks(),
            self.state.clone(),
            &self.inner.key(),
            self.location().to_string(),
            self.gate.clone(),
            self.ui.clone(),
        )
    }

    /// Takes a shared lock where one can be written. Who reads can do without: a medium may be read-only,
    /// and a server may let nobody write.
    ///
    /// # Errors
    /// [`Error::RepositoryLocked`] where somebody deletes for longer than a while.
    pub(crate) fn lock_to_read(&self) -> Result<Option<Held>, Error> {
        match self.lock(Mode::Shared, SHARED_WAIT) {
            Ok(held) => Ok(Some(held)),
            Err(error @ (Error::RepositoryLocked { .. } | Error::Capture(_))) => Err(error),
            Err(error) => {
                self.ui
                    .step(format_args!("continues without a lock: {error}"));
                Ok(None)
            }
        }
    }

    /// Looks at structure and data as the engine does; errors and warnings, a line each.
    pub(crate) fn check(
        &self,
        options: CheckOptions,
        trees: Vec<TreeId>,
    ) -> Result<(Vec<String>, Vec<String>), Error> {
        // The engine's check panics over some damage (a tree that cannot be found, for one); on a busy machine also
        // where a thread of its own has not let go of the index yet ("index still in use"). So it is asked again.
        let look = || self.inner.check_with_trees(options, trees.clone());
        let look = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
        let checked = look().or_else(|_| look());
        let results = checked
            .map_err(|_| Error::Engine {
                doing: "checking the repository",
                reason: "the check gave up".into(),
            })?
            .map_err(Error::engine("checking the repository"))?;
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        for (level, finding) in results.0 {
            let line = crate::error::shortened(&finding.to_string());
            // What a prune of ours marked, and restic's, which knows no marks, deleted.
            if line.contains("marked to-delete: true") && line.contains("not present") {
                warnings.push(line);
                continue;
            }
            // The engine keeps the name of its level to itself.
            match format!("{level:?}").as_str() {
                "Error" => errors.push(line),
                _ => warnings.push(line),
            }
        }
        Ok((errors, warnings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page across two chunks would bring both along.
    #[test]
    fn chunks_hold_whole_pages_and_grow_with_the_databases() {
        let sizes = [0, 1 << 30, 2 << 30, 4 << 30, 16 << 30, 64 << 30].map(chunk_size_for);
        assert!(sizes.iter().all(|size| size % 4096 == 0), "{sizes:?}");
        assert!(sizes.is_sorted(), "{sizes:?}");
        assert_eq!(sizes[0], 12 << 10);
    }
}
