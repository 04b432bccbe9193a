//! What the last run of each series proved of its files, as this machine remembers it: one JSON file in
//! the state folder. A file with the SHA-256 that it had then is in the repository already, so its bytes
//! are not cut into chunks once more, and SQLite is not asked again what it said of the same database.
//!
//! Nothing is ever concluded from size and time alone. What is not on record, or was read longer ago than
//! a week, or by another SQLite, is read in full; so is everything where the record is odd. The snapshot that
//! a record is of is named by the hash of its file, so it cannot have been changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local, TimeDelta, Utc};
use hapi_sources::{Integrity, IntegrityCheck, Sha256Hash, SoundDatabases};
use serde::{Deserialize, Serialize};

use crate::archive::{Archive, Item, ItemContent};
use crate::error::Error;
use crate::history::Snapshot;
use crate::lock::write_private;
use crate::manifest::{Manifest, PathRecord};
use crate::profile::SeriesSource;

/// After so long all is read once more.
const FOR: TimeDelta = TimeDelta::days(7);

/// The layout of the file.
const VERSION: u32 = 1;

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Proven {
    version: u32,
    /// By series.
    series: BTreeMap<String, OfSeries>,
}

/// The last snapshot of a series that was read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct OfSeries {
    /// Its id: 64 hexadecimal digits, the SHA-256 of its file.
    snapshot: String,
    /// All of its files.
    files: Vec<File>,
}

/// A file of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    /// Its path in the snapshot.
    path: PathRecord,
    /// SHA-256 of its bytes, in hexadecimal.
    sha256: String,
    /// How many they are.
    size: u64,
    /// Its modification time.
    mtime: DateTime<Utc>,
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
    /// SQLite's version.
    sqlite: String,
    /// When.
    since: DateTime<Utc>,
}

/// The snapshot whose chunks are used again.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Its id.
    pub snapshot: String,
    /// The files of the new one that have the bytes they have in it, by their place in the archive.
    pub same: BTreeSet<usize>,
}

impl Proven {
    /// What is on record: nothing, where there is none or it makes no sense.
    pub fn load(state: &Path) -> Self {
        fs::read(file(state))
            .ok()
            .and_then(|text| serde_json::from_slice::<Self>(&text).ok())
            .filter(|proven| proven.version == VERSION)
            .unwrap_or_default()
    }

    /// Writes the record down.
    ///
    /// # Errors
    /// [`Error::State`] with the file.
    pub fn store(&self, state: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        write_private(&file(state), &text)
    }

    /// The databases of a series that SQLite need not check again while they have these hashes, with the
    /// check that it made.
    pub fn sound(&self, series: &str, now: &DateTime<Local>) -> SoundDatabases {
        let files = self.series.get(series).into_iter().flat_map(|s| &s.files);
        files
            .filter_map(|file| {
                let check = file.sound.as_ref()?;
                let holds =
                    check.sqlite == hapi_sources::sqlite_version() && is_recent(check.since, now);
                holds.then_some((file.path.to_path(), (file.hash()?, check.kind)))
            })
            .collect()
    }

    /// The snapshot that the engine may take chunks from; `None` where it must read everything.
    ///
    /// The engine takes files for the same by size and time, and cannot be told which of them to read. So
    /// there is a parent only if all files that it would take are the same.
    pub fn parent(
        &self,
        series: &str,
        history: &[Snapshot],
        archive: &Archive,
        now: &DateTime<Local>,
    ) -> Option<Parent> {
        let last = self.series.get(series)?;
        // Not one that is gone, nor one of another repository.
        history
            .iter()
            .find(|s| s.id.to_hex().as_str() == last.snapshot)?;
        let files: BTreeMap<PathBuf, &File> =
            last.files.iter().map(|f| (f.path.to_path(), f)).collect();
        let mut same = BTreeSet::new();
        for (index, item) in archive.items().iter().enumerate() {
            let (ItemContent::File { sha256, .. }, Some(file)) =
                (&item.content, files.get(item.path.as_path()))
            else {
                continue;
            };
            if !file.looks_like(item) {
                continue;
            }
            if file.hash() != Some(*sha256) || !is_recent(file.since, now) {
                return None;
            }
            same.insert(index);
        }
        (!same.is_empty()).then(|| Parent {
            snapshot: last.snapshot.clone(),
            same,
        })
    }

    /// Takes a snapshot into the record that was just read back.
    pub fn record(
        &mut self,
        snapshot: &str,
        manifest: &Manifest,
        sources: &[SeriesSource],
        archive: &Archive,
        parent: Option<&Parent>,
        now: &DateTime<Local>,
    ) {
        let known = self.sound(&manifest.series, now);
        let before = self.series.remove(&manifest.series);
        let before: BTreeMap<PathBuf, File> = before
            .into_iter()
            .flat_map(|before| before.files)
            .map(|file| (file.path.to_path(), file))
            .collect();
        let sound = sound_in(manifest, sources);
        let files = archive
            .items()
            .iter()
            .enumerate()
            .filter_map(|(index, item)| {
                let ItemContent::File { sha256, .. } = &item.content else {
                    return None;
                };
                let before = before.get(&item.path);
                let reused = parent.is_some_and(|p| p.same.contains(&index));
                let since = before.filter(|_| reused).map_or(now.to_utc(), |f| f.since);
                let sound = sound.get(item.path.as_path()).map(|&kind| {
                    let old = before.and_then(|f| f.sound.clone());
                    match known.get(&item.path) {
                        // It was not made anew.
                        Some((hash, made)) if hash == sha256 && made.covers(kind) => old,
                        _ => None,
                    }
                    .unwrap_or_else(|| Check {
                        kind,
                        sqlite: hapi_sources::sqlite_version().to_owned(),
                        since: now.to_utc(),
                    })
                });
                Some(File {
                    path: item.path.as_path().into(),
                    sha256: sha256.to_string(),
                    size: item.len(),
                    mtime: item.metadata.mtime.into(),
                    since,
                    sound,
                })
            })
            .collect();
        let record = OfSeries {
            snapshot: snapshot.to_owned(),
            files,
        };
        self.version = VERSION;
        self.series.insert(manifest.series.clone(), record);
    }
}

/// The databases in which SQLite found nothing, with the check that it was to make.
fn sound_in(manifest: &Manifest, sources: &[SeriesSource]) -> BTreeMap<PathBuf, IntegrityCheck> {
    let mut sound = BTreeMap::new();
    for record in &manifest.sources {
        let Some(source) = sources.iter().find(|s| s.source.name == record.name) else {
            continue;
        };
        let databases = record.entries.iter().filter(|entry| {
            let facts = entry.database.as_ref();
            facts.is_some_and(|facts| facts.integrity == Integrity::Ok)
        });
        sound.extend(databases.map(|entry| (entry.path.to_path(), source.source.integrity)));
    }
    sound
}

impl File {
    fn hash(&self) -> Option<Sha256Hash> {
        let bytes = hex::decode(&self.sha256).ok()?;
        Some(Sha256Hash(bytes.try_into().ok()?))
    }

    fn looks_like(&self, item: &Item) -> bool {
        self.size == item.len() && self.mtime == DateTime::<Utc>::from(item.metadata.mtime)
    }
}

fn is_recent(since: DateTime<Utc>, now: &DateTime<Local>) -> bool {
    (TimeDelta::zero()..FOR).contains(&(now.to_utc() - since))
}

fn file(state: &Path) -> PathBuf {
    state.join("proven.json")
}
