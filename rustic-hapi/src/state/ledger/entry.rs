//! An entry is one snapshot that this machine saved.

use chrono::{DateTime, FixedOffset, Utc};
use rustic_core::repofile::SnapshotId;
use serde::{Deserialize, Serialize};

use crate::policy::history::Snapshot;
use crate::profile::policy::Policy;

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Entry {
    /// Its id; `None` while it is written, and where that was interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// Its time, which `restic tag` and `restic copy` keep.
    pub(super) time: DateTime<FixedOffset>,
    pub(super) series: String,
    pub(super) tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) keep_until: Option<DateTime<Utc>>,
    /// Retention of this machine set out to remove it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) removing: bool,
    /// A run told that it is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) told: bool,
}

impl Entry {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self {
            id: Some(snapshot.id.to_hex().to_string()),
            time: snapshot.time,
            series: snapshot.series.clone(),
            tags: snapshot.tags.clone(),
            keep_until: snapshot.keep_until,
            removing: false,
            told: false,
        }
    }

    /// Whether a snapshot is this one, also where `restic tag`, `rewrite` or `copy` wrote it anew.
    pub(super) fn is(&self, snapshot: &Snapshot) -> bool {
        let id = |id: Option<&SnapshotId>| id.map(|id| id.to_hex().to_string());
        let same_id = self.id.is_some()
            && [id(Some(&snapshot.id)), id(snapshot.original.as_ref())].contains(&self.id);
        same_id || (self.series == snapshot.series && self.time == snapshot.time)
    }

    pub(super) fn short_id(&self) -> &str {
        self.id.as_deref().and_then(|id| id.get(..8)).unwrap_or("")
    }

    /// Whether its id, or that of a later one of `entries` that is gone, is acknowledged.
    pub(super) fn is_acknowledged(&self, policy: &Policy, entries: &[Self]) -> bool {
        let named = |entry: &Self| {
            let id = entry.id.as_deref().unwrap_or("");
            let mut names = policy.acknowledged.iter();
            names.any(|name| name.len() >= 8 && id.starts_with(name))
        };
        entries
            .iter()
            .any(|entry| entry.series == self.series && entry.time >= self.time && named(entry))
    }

    /// As retention plans it.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            id: self
                .id
                .as_deref()
                .and_then(|id| id.parse().ok())
                .unwrap_or_default(),
            original: None,
            host: String::new(),
            time: self.time,
            series: self.series.clone(),
            tags: self.tags.clone(),
            description: None,
            keep_until: self.keep_until,
            added: None,
            tree: String::new(),
        }
    }
}
