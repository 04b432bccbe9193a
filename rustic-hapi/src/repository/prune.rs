//! A prune frees what no snapshot needs, in two phases: what is marked today is deleted by a later one.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use rustic_core::{Credentials, PruneOptions};

use crate::error::Error;
use crate::repository::Repository;
use crate::repository::open::engine;

impl Repository {
    /// Prunes in two phases: packs without use are marked now, and deleted by a prune 23 hours or
    /// more later. Repacks at most 256 MiB.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) fn prune(&self) -> Result<Pruned, Error> {
        let mut options = PruneOptions::default();
        options.max_repack = rustic_core::LimitOption::Size(ByteSize(256 << 20));
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
        let pruned = Pruned {
            packs_marked: stats.packs.unused + stats.packs.repack + stats.packs_unref,
            packs_deleted: stats.packs_to_delete.remove,
            bytes_deleted: stats.size_to_delete.remove,
            bytes_repacked: stats.size_sum().repack,
        };
        inner
            .prune(&options, plan)
            .map_err(Error::engine("pruning"))?;
        if let Some(folder) = self.location().local() {
            remove_torn_packs(&folder.join("data")).map_err(Error::at(folder))?;
        }
        Ok(pruned)
    }
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

/// Removes what killed runs left of packs: files with the local backend's temporary name, a day old.
fn remove_torn_packs(data: &Path) -> io::Result<()> {
    const A_DAY: Duration = Duration::from_secs(24 * 3600);
    for folder in fs::read_dir(data)?.flatten() {
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let torn = file.file_name().to_string_lossy().ends_with("-tmp-");
            let modified = file.metadata().and_then(|m| m.modified());
            let old = modified.is_ok_and(|m| m.elapsed().is_ok_and(|age| age > A_DAY));
            if torn && old {
                fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}
