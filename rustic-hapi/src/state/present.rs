//! What of its snapshots a repository has now, whatever they are called there.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rustic_core::repofile::SnapshotFile;

use crate::error::Error;
use crate::policy::history::{USERNAME, to_chrono};
use crate::repository::Repository;

/// What a repository holds of whatever host, series and hub, files that cannot be read among it: who changes
/// a profile, or a snapshot's tags, loses nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Present {
    ids: BTreeSet<String>,
    times: BTreeSet<DateTime<Utc>>,
}

impl Present {
    /// # Errors
    /// The repository cannot be listed.
    pub(crate) fn of(repository: &Repository, files: &[SnapshotFile]) -> Result<Self, Error> {
        let listed = repository.snapshot_ids()?;
        let mut ids: BTreeSet<String> = listed.iter().map(|id| id.to_hex().to_string()).collect();
        let originals = files.iter().filter_map(|file| file.original);
        ids.extend(originals.map(|id| id.to_hex().to_string()));
        let times = files.iter().filter(|file| file.username == USERNAME);
        Ok(Self {
            ids,
            times: times
                .filter_map(|file| Some(to_chrono(&file.time)?.to_utc()))
                .collect(),
        })
    }

    /// Whether a snapshot is there, by its id or its time.
    pub(super) fn has(&self, id: Option<&String>, time: DateTime<Utc>) -> bool {
        id.is_some_and(|id| self.ids.contains(id)) || self.times.contains(&time)
    }
}
