//! A history is the snapshots of ours that a repository holds, read from the snapshot files alone:
//! no index, no trees.
//!
//! Ours are those with the profile's host name, the tag of one of its series, the user name
//! [`USERNAME`], which `restic tag` keeps, and the state of the profile's hub (see `hub_id.rs`).
//! Everyone else's are never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use chrono::{DateTime, FixedOffset, Utc};
use rustic_core::repofile::{DeleteOption, SnapshotFile, SnapshotId};

use crate::policy::description::Description;
use crate::profile::Profile;
use crate::profile::hub_id::HubId;
pub use crate::profile::hub_id::USERNAME;
use crate::profile::policy::Policy;
use crate::profile::sources::Series;

/// Tag of a snapshot in which something is missing or damaged.
pub const PARTIAL: &str = "partial";
/// Tag of a snapshot with a damaged database.
pub const DAMAGED: &str = "damaged";
/// Tag of a snapshot with far less than the sound one before it.
pub const SHRUNK: &str = "shrunk";
/// Tag of a snapshot with what was left of a database that SQLite must not open: its WAL or journal.
pub const WAL_KEPT: &str = "wal-kept";
/// Tag of a snapshot of chosen sources.
pub const ONLY: &str = "only";

/// The tags that say how a snapshot is, and name no series.
pub const CONDITIONS: [&str; 5] = [PARTIAL, DAMAGED, SHRUNK, WAL_KEPT, ONLY];

/// One snapshot of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id, which changes when `restic tag` writes it anew.
    pub id: SnapshotId,
    /// The id it had first.
    pub original: Option<SnapshotId>,
    /// The host name that it carries.
    pub host: String,
    /// When it was taken, with the offset of its machine then.
    pub time: DateTime<FixedOffset>,
    /// The series.
    pub series: String,
    /// All tags.
    pub tags: Vec<String>,
    /// The description, unless it was lost (`restic tag` drops it) or is not ours.
    pub description: Option<Description>,
    /// Kept at least until then.
    pub keep_until: Option<DateTime<Utc>>,
    /// Bytes the run added to the repository, after compression.
    pub added: Option<u64>,
    /// The root tree, in hexadecimal.
    pub tree: String,
}

impl Snapshot {
    /// The hub that its description names.
    pub fn hub(&self) -> Option<HubId> {
        HubId::parse(self.description.as_ref()?.hub.as_deref()?)
    }

    /// Reads a snapshot file as one of a series; `None` if its time makes no sense.
    pub(crate) fn read(file: &SnapshotFile, series: &str) -> Option<Self> {
        let tags: Vec<String> = file.tags.iter().cloned().collect();
        Some(Self {
            id: file.id,
            original: file.original,
            host: file.hostname.clone(),
            time: to_chrono(&file.time)?,
            series: series.to_owned(),
            tags,
            description: file
                .description
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok()),
            keep_until: match &file.delete {
                DeleteOption::After(time) => Some(to_chrono(time)?.to_utc()),
                DeleteOption::Never => Some(DateTime::<Utc>::MAX_UTC),
                DeleteOption::NotSet => None,
            },
            added: file.summary.as_ref().map(|s| s.data_added_packed),
            tree: file.tree.to_hex().to_string(),
        })
    }

    /// Whether it was taken of the same series at the same time, which `restic tag` and `restic copy` keep.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        self.series == other.series && self.time == other.time
    }

    /// Whether it has a tag.
    pub fn has(&self, tag: &str) -> bool {
        self.tags.iter().any(|t| t == tag)
    }

    /// Whether every source of the series is in it, whole.
    pub fn is_complete(&self) -> bool {
        !self.has(PARTIAL) && !self.has(DAMAGED) && !self.has(ONLY)
    }

    /// Complete, and not suspected of having lost something.
    pub fn is_sound(&self) -> bool {
        self.is_complete() && !self.has(SHRUNK)
    }

    /// What it holds of a source whole can be relied on, whatever else is missing.
    pub fn is_unsuspected(&self) -> bool {
        ![ONLY, SHRUNK, DAMAGED, WAL_KEPT]
            .iter()
            .any(|tag| self.has(tag))
    }

    /// Whether an id, or the beginning of one (8 characters or more), names it.
    pub fn is_named(&self, name: &str) -> bool {
        name.len() >= 8 && self.begins_with(name)
    }

    /// Whether it looked `shrunk` or `damaged`, and is known to be all right.
    pub fn is_acknowledged(&self, policy: &Policy) -> bool {
        policy.acknowledged.iter().any(|name| self.is_named(name))
    }

    /// Whether its id, or the one it had first, begins so.
    pub fn begins_with(&self, digits: &str) -> bool {
        [Some(self.id), self.original]
            .iter()
            .flatten()
            .any(|id| id.to_hex().as_str().starts_with(digits))
    }

    /// The first 8 digits of the id that it had first, by which a copy is known, too.
    pub fn first_id(&self) -> String {
        self.original.unwrap_or(self.id).to_hex().as_str()[..8].to_owned()
    }

    /// The first 8 digits of the id.
    pub fn short_id(&self) -> String {
        self.id.to_hex().as_str()[..8].to_owned()
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.short_id(),
            self.time.format("%Y-%m-%d %H:%M")
        )
    }
}

/// Which hub's state a snapshot is of, where its description does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The hub that its manifest names.
    pub hub: Option<HubId>,
    /// The paths of its databases.
    pub databases: Vec<PathBuf>,
}

/// Origins that were read from manifests, by snapshot.
pub type Origins = BTreeMap<SnapshotId, Origin>;

/// The hub whose state a snapshot is of; `None` where nothing tells.
pub fn hub_of(snapshot: &Snapshot, origins: &Origins) -> Option<HubId> {
    snapshot.hub().or_else(|| {
        let origin = origins.get(&snapshot.id)?;
        let by_path = || Some(HubId::of(&snapshot.host, origin.databases.first()?));
        origin.hub.clone().or_else(by_path)
    })
}

/// The snapshots of the profile's hub, oldest first.
///
/// One of which nothing tells whose it is (an older one of a series without a database) is taken for
/// this hub's unless there is another hub of that host; then it is nobody's, and never removed.
pub fn ours(files: &[SnapshotFile], profile: &Profile, origins: &Origins) -> Vec<Snapshot> {
    let of_host = files
        .iter()
        .filter(|f| f.hostname == profile.host && f.username == USERNAME);
    let mut snapshots: Vec<(Snapshot, Option<bool>)> = Vec::new();
    for file in of_host {
        let tagged = |s: &&Series| file.tags.iter().any(|tag| *tag == s.name);
        if let Some(series) = profile.series.iter().find(tagged)
            && let Some(snapshot) = Snapshot::read(file, &series.name)
        {
            let mine = is_of(&snapshot, profile, origins);
            snapshots.push((snapshot, mine));
        }
    }
    let another = snapshots.iter().any(|(_, mine)| *mine == Some(false));
    let mut snapshots: Vec<_> = snapshots
        .into_iter()
        .filter(|(_, mine)| mine.unwrap_or(!another))
        .map(|(snapshot, _)| snapshot)
        .collect();
    snapshots.sort_by_key(|s| s.time);
    snapshots
}

/// The same, or the snapshots of the only hub of that host, where the profile's hub has none and its id is
/// not written down.
pub fn ours_or_the_only(
    files: &[SnapshotFile],
    profile: &Profile,
    origins: &Origins,
) -> Vec<Snapshot> {
    let ours = ours(files, profile, origins);
    if !ours.is_empty() || profile.hub.is_written {
        return ours;
    }
    let mut snapshots: Vec<Snapshot> = files
        .iter()
        .filter(|f| f.hostname == profile.host && f.username == USERNAME)
        .filter_map(|file| {
            let tagged = |s: &&Series| file.tags.iter().any(|tag| *tag == s.name);
            let series = profile.series.iter().find(tagged)?;
            Snapshot::read(file, &series.name)
        })
        .collect();
    let hubs: BTreeSet<HubId> = snapshots
        .iter()
        .filter_map(|snapshot| hub_of(snapshot, origins))
        .collect();
    if hubs.len() > 1 {
        return Vec::new();
    }
    snapshots.sort_by_key(|s| s.time);
    snapshots
}

/// Whether a snapshot of this host is of the profile's hub; `None` where nothing tells.
fn is_of(snapshot: &Snapshot, profile: &Profile, origins: &Origins) -> Option<bool> {
    if let Some(hub) = snapshot.hub() {
        return Some(profile.hub.has_id(&hub));
    }
    match origins.get(&snapshot.id)? {
        Origin { hub: Some(hub), .. } => Some(profile.hub.has_id(hub)),
        Origin { databases, .. } if databases.is_empty() => None,
        Origin { databases, .. } => Some(profile.hub.has_database(&snapshot.host, databases)),
    }
}

/// The engine's time as ours.
pub(crate) fn to_chrono(time: &jiff::Zoned) -> Option<DateTime<FixedOffset>> {
    let offset = FixedOffset::east_opt(time.offset().seconds())?;
    let timestamp = time.timestamp();
    let utc = DateTime::from_timestamp(
        timestamp.as_second(),
        u32::try_from(timestamp.subsec_nanosecond().max(0)).ok()?,
    )?;
    Some(utc.with_timezone(&offset))
}
