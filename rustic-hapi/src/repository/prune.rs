//! A prune frees what no snapshot needs, in two phases: what is marked today is deleted by a later one.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use rustic_core::{Credentials, PruneOptions};

use crate::destination::unfinished;
use crate::error::Error;
use crate::machine::disk::free_at;
use crate::repository::Repository;
use crate::repository::open::engine;

impl Repository {
    /// Prunes in two phases: packs without use are marked now, and deleted by a prune 23 hours or
    /// more later. Repacks at most 256 MiB.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) fn prune(&self, how: How) -> Result<Pruned, Error> {
        let mut options = PruneOptions::default();
        let mut repack = 256 << 20;
        if how == How::AtOnce {
            options.instant_delete = true;
            // What is rewritten needs room before the old packs go.
            repack = match self.location().local() {
                Some(folder) => {
                    remove_torn_packs(folder, Duration::ZERO).map_err(Error::at(folder))?;
                    repack.min(free_at(folder).unwrap_or(0) / 2)
                }
                None => 0,
            };
        }
        options.max_repack = rustic_core::LimitOption::Size(ByteSize(repack));
        // The engine reads them as they were translated, unless it has them in its cache.
        self.snapshots()?;
        let plain;
        let inner = match self.gate.translated().is_empty() {
            true => &self.inner,
            false => {
                plain = engine(&self.backend, self.location(), false, self.ui.clone())?
                    .open(&Credentials::Masterkey(self.inner.key()))
                    .map_err(Error::engine("planning the prune"))?;
                &plain
            }
        };
        let plan = inner
            .prune_plan(&options)
            .map_err(Error::engine("planning the prune"))?;
        let stats = &plan.stats;
        let unused = stats.packs.unused + stats.packs.repack + stats.packs_unref;
        let pruned = Pruned {
            packs_marked: match how {
                How::Marking => unused,
                How::AtOnce => 0,
            },
            packs_deleted: stats.packs_to_delete.remove
                + match how {
                    How::Marking => 0,
                    How::AtOnce => unused + stats.packs_to_delete.keep,
                },
            bytes_deleted: match how {
                How::Marking => stats.size_to_delete.remove,
                How::AtOnce => {
                    stats.size_to_delete.remove
                        + stats.size_to_delete.keep
                        + stats.size_sum().remove
                        + stats.size_unref
                }
            },
            bytes_repacked: stats.size_sum().repack,
        };
        inner
            .prune(&options, plan)
            .map_err(Error::engine("pruning"))?;
        if let Some(folder) = self.location().local() {
            remove_torn_packs(folder, A_DAY).map_err(Error::at(folder))?;
        }
        Ok(pruned)
    }
}

/// How packs that no snapshot needs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// They are marked, and deleted by a prune 23 h or more later: whoever is storing something may use them yet.
    Marking,
    /// They are deleted at once, and nothing is rewritten: a full disk has room for no more.
    AtOnce,
}

/// What a prune did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pruned {
    /// Packs that are no longer needed, to be deleted by a later prune.
    pub packs_marked: u64,
    /// Packs marked earlier and deleted now.
    pub packs_deleted: u64,
    pub bytes_deleted: u64,
    /// Bytes of packs that were rewritten because part of them is unused.
    pub bytes_repacked: u64,
}

const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// Removes what killed runs left of packs, if it is so old.
fn remove_torn_packs(folder: &Path, age: Duration) -> io::Result<()> {
    for (path, metadata) in unfinished::packs(folder) {
        let modified = metadata.modified()?;
        if modified.elapsed().is_ok_and(|elapsed| elapsed >= age) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
