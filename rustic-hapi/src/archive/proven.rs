//! What the last run of each series proved of its files, as this machine remembers it: one JSON file in
//! the state folder. A file with the SHA-256 that it had then is in the repository already, so its bytes
//! are not cut into chunks once more, and SQLite is not asked again what it said of the same database.
//!
//! Nothing is ever concluded from size and time alone. What is not on record, or was read longer ago than
//! a week, is read in full; what another version checked is checked again; and where the record or the
//! snapshot's tree is odd, all is as if there were none. The snapshot that a record is of is named by the hash of
//! its file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Local, TimeDelta, Utc};
use hapi_sources::{Integrity, IntegrityCheck, Sha256Hash, SoundDatabase};
use serde::{Deserialize, Serialize};

use crate::archive::parent::{Known, Parent};
use crate::archive::{Archive, ItemContent};
use crate::error::Error;
use crate::machine::record;
use crate::policy::history::Snapshot;
use crate::policy::manifest::{Manifest, PathRecord};
use crate::profile::sources::{Series, SeriesSource};

/// After so long all is read once more.
const TRUSTED_FOR: TimeDelta = TimeDelta::days(7);

/// The layout of the file.
const VERSION: u32 = 1;

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Proven {
    version: u32,
    /// By series.
    series: BTreeMap<String, LastSnapshot>,
}

/// The last snapshot of a series that was read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct LastSnapshot {
    /// Its id: 64 hexadecimal digits, the SHA-256 of its file.
    snapshot: String,
    /// All of its files.
    files: Vec<ProvenFile>,
}

/// A file of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ProvenFile {
    /// Its path in the snapshot.
    path: PathRecord,
    /// SHA-256 of its bytes, in hexadecimal.
    sha256: String,
    /// Its modification time (RFC 3339, UTC), if a tree can tell it. A hint, and never more.
    mtime: Option<String>,
    /// When its bytes were last cut into chunks.
    since: DateTime<Utc>,
    /// The check that found nothing in it, where it is a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sound: Option<Check>,
}

/// A check that SQLite made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Check {
    kind: IntegrityCheck,
    /// Whose: what another version thinks of it is another matter.
    by: String,
    /// When.
    since: DateTime<Utc>,
}

impl Proven {
    /// What is on record: nothing, where there is none or it makes no sense.
    pub(crate) fn load(state: &Path) -> Self {
        let known: Option<Self> = record::load(&file(state)).ok().flatten();
        known
            .filter(|proven| proven.version == VERSION)
            .unwrap_or_default()
    }

    /// Writes the record down, of these series alone.
    ///
    /// # Errors
    /// [`Error::State`] with the file.
    pub(crate) fn store(&mut self, state: &Path, series: &[Series]) -> Result<(), Error> {
        self.version = VERSION;
        self.series
            .retain(|name, _| series.iter().any(|s| s.name == *name));
        record::store(&file(state), self)
    }

    /// What is on record of a series counts no more.
    pub(crate) fn forget(&mut self, series: &str) {
        self.series.remove(series);
    }

    /// The databases of a series that SQLite need not check again while they have these hashes, with the
    /// check that it made.
    pub(crate) fn sound(
        &self,
        series: &str,
        now: &DateTime<Local>,
    ) -> BTreeMap<PathBuf, SoundDatabase> {
        let files = self.series.get(series).into_iter().flat_map(|s| &s.files);
        files
            .filter_map(|file| {
                let check = file.sound.as_ref()?;
                let holds = check.by == checker() && is_recent(check.since, now);
                let mtime: jiff::Timestamp = file.mtime.as_deref()?.parse().ok()?;
                let sound = SoundDatabase {
                    sha256: file.hash()?,
                    mtime: mtime.into(),
                    check: check.kind,
                };
                holds.then_some((file.path.to_path(), sound))
            })
            .collect()
    }

    /// The snapshot that the engine may take chunks from, if it still is in the repository.
    pub(crate) fn known(
        &self,
        series: &str,
        history: &[Snapshot],
        now: &DateTime<Local>,
    ) -> Option<Known> {
        let last = self.series.get(series)?;
        // Not one that is gone, nor one of another repository.
        let snapshot = history
            .iter()
            .find(|s| s.id.to_hex().as_str() == last.snapshot)?;
        Some(Known {
            snapshot: last.snapshot.clone(),
            tree: snapshot.tree.parse().ok()?,
            files: last
                .files
                .iter()
                .filter(|file| is_recent(file.since, now))
                .filter_map(|file| Some((file.path.to_path(), file.hash()?)))
                .collect(),
        })
    }

    /// Takes a snapshot into the record that was just read back.
    pub(crate) fn record(
        &mut self,
        snapshot: &str,
        manifest: &Manifest,
        sources: &[SeriesSource],
        archive: &Archive,
        parent: Option<&Parent>,
        now: &DateTime<Local>,
    ) {
        let mut checks = self.checks(manifest, sources, now);
        let before = self.series.remove(&manifest.series);
        let since: BTreeMap<PathBuf, DateTime<Utc>> = before
            .into_iter()
            .flat_map(|last| last.files)
            .map(|file| (file.path.to_path(), file.since))
            .collect();
        let mut files = Vec::new();
        for (index, item) in archive.items().iter().enumerate() {
            let ItemContent::File { sha256, .. } = &item.content else {
                continue;
            };
            let reused = parent.is_some_and(|p| p.same.contains(&index));
            let since = since.get(&item.path).filter(|_| reused);
            files.push(ProvenFile {
                path: item.path.as_path().into(),
                sha256: sha256.to_string(),
                mtime: in_words(item.metadata.mtime),
                since: since.copied().unwrap_or(now.to_utc()),
                sound: checks.remove(&item.path),
            });
        }
        let record = LastSnapshot {
            snapshot: snapshot.to_owned(),
            files,
        };
        self.series.insert(manifest.series.clone(), record);
    }

    /// The checks that found nothing in a snapshot's databases: those of before, where the bytes are the same, and
    /// this run's.
    fn checks(
        &self,
        manifest: &Manifest,
        sources: &[SeriesSource],
        now: &DateTime<Local>,
    ) -> BTreeMap<PathBuf, Check> {
        let known = self.sound(&manifest.series, now);
        let last = self.series.get(&manifest.series);
        let mut checks = BTreeMap::new();
        for record in &manifest.sources {
            let Some(source) = sources.iter().find(|s| s.source.name == record.name) else {
                continue;
            };
            let kind = source.source.integrity;
            for entry in &record.entries {
                let facts = entry.database.as_ref();
                if facts.is_none_or(|facts| facts.integrity != Integrity::Ok) {
                    continue;
                }
                let path = entry.path.to_path();
                let repeated = known.get(&path).is_none_or(|it| {
                    entry.sha256 != Some(it.sha256.to_string()) || !it.check.covers(kind)
                });
                let old = last.filter(|_| !repeated).and_then(|last| {
                    let file = last.files.iter().find(|file| file.path == entry.path)?;
                    file.sound.clone()
                });
                checks.insert(
                    path,
                    old.unwrap_or_else(|| Check {
                        kind,
                        by: checker(),
                        since: now.to_utc(),
                    }),
                );
            }
        }
        checks
    }
}

impl ProvenFile {
    fn hash(&self) -> Option<Sha256Hash> {
        let bytes = hex::decode(&self.sha256).ok()?;
        Some(Sha256Hash(bytes.try_into().ok()?))
    }
}

/// A modification time in words.
fn in_words(mtime: SystemTime) -> Option<String> {
    let mtime = jiff::Timestamp::try_from(mtime).ok()?;
    Some(mtime.to_string())
}

fn is_recent(since: DateTime<Utc>, now: &DateTime<Local>) -> bool {
    (TimeDelta::zero()..TRUSTED_FOR).contains(&(now.to_utc() - since))
}

/// What checks databases here.
fn checker() -> String {
    format!(
        "rustic-hapi {}, SQLite {}",
        env!("CARGO_PKG_VERSION"),
        hapi_sources::sqlite_version()
    )
}

fn file(state: &Path) -> PathBuf {
    state.join("proven.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// chrono would not survive what some file systems can tell.
    #[test]
    fn any_modification_time_is_told_or_left_out() {
        use std::time::Duration;
        let at =
            |seconds, nanoseconds| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        assert_eq!(
            in_words(at(1_700_000_000, 123_456_789)).as_deref(),
            Some("2023-11-14T22:13:20.123456789Z")
        );
        assert_eq!(
            in_words(SystemTime::UNIX_EPOCH - Duration::new(1, 1)).as_deref(),
            Some("1969-12-31T23:59:58.999999999Z")
        );
        assert_eq!(in_words(at(1 << 60, 0)), None);
    }
}
