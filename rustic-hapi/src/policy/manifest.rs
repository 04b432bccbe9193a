//! A manifest is the facts of all captures of a snapshot: a small JSON file inside it,
//! `<home>/.hapi-manifest.json`. The snapshot's description (`description.rs`) is its summary, with its hash.
//!
//! Neither holds a clock: the same state makes the same manifest, and so the same tree.

mod entry;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hapi_sources::{
    ATTACHMENTS, Capture, CaptureError, Column, Content, DatabaseFacts, Integrity, Kind, LeftOut,
    Note, Scope,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::entry::{EntryKind, EntryRecord, FailureRecord, PathRecord};
use crate::policy::description::{Description, Outcome, SourceSummary};
use crate::policy::notes::describe_note;
use crate::policy::uncovered::name_of;
use crate::profile::Profile;
use crate::profile::sources::{Sensitivity, SeriesSource};

/// The manifest's file name, in the home folder.
pub const FILE_NAME: &str = ".hapi-manifest.json";

/// So many names of what is missing stand in a manifest.
const MOST_NAMED: usize = 50;

/// What was seen of a hub beside its sources.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// What is in no source, and was not taken with the rest.
    pub uncovered: Vec<LeftOut>,
    /// HAPI's version.
    pub hapi: Option<String>,
}

/// The version of the manifest's and the description's layout.
pub const VERSION: u32 = 1;

/// What a snapshot holds, source by source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// The layout, [`VERSION`].
    pub version: u32,
    /// The series' name.
    pub series: String,
    /// The host name of the profile.
    pub host: String,
    /// Which hub's state it is (see `hub_id.rs`); `None` in those of before there was this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// The version of HAPI that ran, where its home tells; `None` also in those of before there was this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hapi: Option<String>,
    /// What `~` meant.
    pub home: PathRecord,
    /// In the profile's order.
    pub sources: Vec<SourceRecord>,
    /// What lies in HAPI's home and is in no snapshot, by its name there; only in the main series.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncovered: Vec<PathRecord>,
}

/// One source as it was taken, or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SourceRecord {
    /// The source's name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Its path or pattern.
    pub path: PathRecord,
    /// How private it is.
    pub sensitivity: Sensitivity,
    /// Whether it is what no other source takes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rest: bool,
    /// How it went.
    pub outcome: Outcome,
    /// What could not be taken, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailureRecord>,
    /// What the operator should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Files that rows of a database name and that are not in this snapshot: paths in HAPI's folder of attachments. A row
    /// may have been deleted while the snapshot was taken, so this is no failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_file: Vec<String>,
    /// What was taken, by path.
    pub entries: Vec<EntryRecord>,
}

impl Manifest {
    /// Writes down what `captured` brought, in the profile's order.
    pub fn of(
        profile: &Profile,
        series: &str,
        sources: &[SeriesSource],
        captured: &[Result<Capture, CaptureError>],
        beside: &Beside,
    ) -> Self {
        let folder = profile.hapi_home.join(ATTACHMENTS);
        let entries = || captured.iter().flatten().flat_map(|c| &c.entries);
        let taken: BTreeSet<&Path> = entries().map(|entry| entry.path.as_path()).collect();
        let is_there = |key: &String| {
            let path = folder.join(key);
            taken.contains(path.as_path())
                || taken.contains(path.with_added_extension("age").as_path())
        };
        Self {
            version: VERSION,
            series: series.to_owned(),
            host: profile.host.clone(),
            hub: Some(profile.hub.id.to_string()),
            hapi: beside.hapi.clone(),
            home: profile.reach.home.as_path().into(),
            sources: sources
                .iter()
                .zip(captured)
                .map(|(s, c)| {
                    let databases = c.iter().flat_map(|c| &c.entries);
                    let named = databases.filter_map(|entry| match &entry.content {
                        Content::Database { facts, .. } => Some(&facts.attachments),
                        _ => None,
                    });
                    let missing = named.flatten().filter(|key| !is_there(key)).cloned();
                    SourceRecord {
                        without_file: missing.take(MOST_NAMED).collect(),
                        ..SourceRecord::of(s, c)
                    }
                })
                .collect(),
            uncovered: beside
                .uncovered
                .iter()
                .take(MOST_NAMED)
                .map(|one| name_of(profile, &one.path).as_path().into())
                .collect(),
        }
    }

    /// The bytes of the file, one line a member, ending in a newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Only strings, numbers and maps with string keys: this cannot fail.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The summary for a snapshot's description; `bytes` are this manifest's.
    pub fn describe(&self, bytes: &[u8]) -> Description {
        Description {
            version: VERSION,
            manifest: hex::encode(Sha256::digest(bytes)),
            hub: self.hub.clone(),
            hapi: self.hapi.clone(),
            uncovered: self
                .uncovered
                .iter()
                .map(|name| name.to_path().to_string_lossy().into_owned())
                .collect(),
            sources: self
                .sources
                .iter()
                .map(|s| (s.name.clone(), s.summary()))
                .collect(),
        }
    }

    /// Whether every source is sound.
    pub fn is_complete(&self) -> bool {
        self.sources.iter().all(|s| s.outcome.is_sound())
    }

    /// What is left of databases that could not be opened: a WAL or journal, under a name that SQLite does
    /// not take for one.
    pub fn kept_side_files(&self) -> impl Iterator<Item = (&SourceRecord, &EntryRecord)> {
        self.sources
            .iter()
            .flat_map(|source| source.entries.iter().map(move |entry| (source, entry)))
            .filter(|(source, entry)| source.is_kept_side_file(entry))
    }

    /// Whether a database is damaged.
    pub fn is_damaged(&self) -> bool {
        self.sources
            .iter()
            .any(|s| s.outcome == Outcome::Damaged || s.has_damage())
    }
}

impl SourceRecord {
    fn of(source: &SeriesSource, captured: &Result<Capture, CaptureError>) -> Self {
        let mut record = Self {
            name: source.source.name.clone(),
            kind: source.source.kind,
            path: source.source.path.as_path().into(),
            sensitivity: source.sensitivity,
            rest: source.source.scope == Scope::Rest,
            outcome: Outcome::Failed,
            failures: Vec::new(),
            notes: Vec::new(),
            without_file: Vec::new(),
            entries: Vec::new(),
        };
        match captured {
            Err(error) => record.failures.push(FailureRecord::of(
                &source.source.name,
                &source.source.path,
                error,
            )),
            Ok(capture) => {
                record.failures = capture
                    .failures
                    .iter()
                    .map(|f| FailureRecord::of(&source.source.name, &f.path, &f.error))
                    .collect();
                record.notes = capture
                    .notes
                    .iter()
                    .filter(|note| !matches!(note, Note::SecretCache { .. }))
                    .map(describe_note)
                    .collect();
                record.entries = capture.entries.iter().map(EntryRecord::of).collect();
                record.outcome = if !capture.is_complete() {
                    Outcome::Partial
                } else if capture.absent {
                    Outcome::Absent
                } else if record.has_damage() {
                    Outcome::Damaged
                } else {
                    Outcome::Complete
                };
            }
        }
        record
    }

    /// Which rows name files that the snapshot does not have, in words.
    pub fn rows_without_file(&self) -> Option<String> {
        let first = self.without_file.first()?;
        let more = match self.without_file.len() {
            1 => String::new(),
            MOST_NAMED => format!(" and {} others or more", MOST_NAMED - 1),
            n => format!(" and {} more", n - 1),
        };
        Some(format!(
            "rows of {} name attachments that are not in the snapshot: `{first}`{more}",
            self.name
        ))
    }

    /// Whether an entry is a WAL or journal that lost its database. None is ever put beside one.
    pub fn is_kept_side_file(&self, entry: &EntryRecord) -> bool {
        self.kind == Kind::Sqlite && entry.database.is_none() && entry.kind == EntryKind::File
    }

    fn has_damage(&self) -> bool {
        self.databases()
            .any(|d| matches!(d.integrity, Integrity::Damaged { .. }))
    }

    /// The facts of its databases.
    pub fn databases(&self) -> impl Iterator<Item = &DatabaseFacts> {
        self.entries.iter().filter_map(|e| e.database.as_ref())
    }

    fn summary(&self) -> SourceSummary {
        let mut rows: BTreeMap<String, Option<u64>> = BTreeMap::new();
        let mut newest: BTreeMap<Column, Option<serde_json::Value>> = BTreeMap::new();
        for facts in self.databases() {
            for (table, count) in &facts.rows {
                let sum = rows.entry(table.clone()).or_default();
                *sum = match (*sum, *count) {
                    (None, count) => count,
                    (sum, None) => sum,
                    (Some(a), Some(b)) => Some(a + b),
                };
            }
            for (column, value) in &facts.newest {
                let best = newest.entry(column.clone()).or_default();
                if is_newer(value.as_ref(), best.as_ref()) {
                    best.clone_from(value);
                }
            }
        }
        SourceSummary {
            kind: self.kind,
            rest: self.rest,
            outcome: self.outcome,
            // A manifest that is read back may say anything.
            bytes: self
                .entries
                .iter()
                .filter_map(|e| e.size)
                .fold(0, u64::saturating_add),
            files: self
                .entries
                .iter()
                .filter(|e| e.kind == EntryKind::File)
                .count() as u64,
            rows,
            entries: self
                .entries
                .iter()
                .filter_map(|e| e.secret_entries)
                .reduce(u64::saturating_add),
            newest,
            schema: self
                .databases()
                .map(|d| (d.user_version, d.schema.chars().take(16).collect()))
                .collect(),
            unchecked: self
                .databases()
                .any(|d| matches!(d.integrity, Integrity::Unchecked { .. })),
        }
    }
}

fn is_newer(value: Option<&serde_json::Value>, than: Option<&serde_json::Value>) -> bool {
    match (value, than) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(a), Some(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a > b,
            _ => a.as_str() > b.as_str(),
        },
    }
}
