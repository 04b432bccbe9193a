//! A description is the summary of a manifest that stands in the snapshot file, with the manifest's
//! hash: listing, status and retention need no trees, and a swapped tree is noticed.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use hapi_sources::{Column, Kind};
use serde::{Deserialize, Serialize};

/// What a snapshot's description says, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Description {
    /// The layout, the manifest's own.
    pub version: u32,
    /// SHA-256 of the manifest's bytes, in hexadecimal.
    pub manifest: String,
    /// The manifest's hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// The version of HAPI that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hapi: Option<String>,
    /// What lies in HAPI's home and is in no snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncovered: Vec<String>,
    /// By source name.
    pub sources: BTreeMap<String, SourceSummary>,
}

/// The tables of a hub that people mean by its content.
pub const CONTENT: [&str; 2] = ["sessions", "messages"];

/// A source in a description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SourceSummary {
    /// Its kind.
    pub kind: Kind,
    /// Whether it is what no other source takes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rest: bool,
    /// How it went.
    pub outcome: Outcome,
    /// Bytes in the snapshot.
    pub bytes: u64,
    /// Files in the snapshot.
    pub files: u64,
    /// Rows by table, over all databases of the source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, Option<u64>>,
    /// Entries of the plaintext of a secret, over all its files; `None` for other kinds, and in descriptions
    /// of before there was this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Newest value by column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub newest: BTreeMap<Column, Option<serde_json::Value>>,
    /// `user_version` and the first 16 digits of the schema's hash, by database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema: Vec<(i32, String)>,
    /// Whether a part of a database could not be checked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchecked: bool,
}

impl SourceSummary {
    /// The newest value that is a time, over all columns.
    pub fn newest_time(&self) -> Option<DateTime<Utc>> {
        self.newest.values().flatten().filter_map(as_time).max()
    }
}

/// A column's value as a time: milliseconds or seconds since 1970, or ISO 8601 text in UTC.
fn as_time(value: &serde_json::Value) -> Option<DateTime<Utc>> {
    const FIRST_MILLISECONDS: i64 = 100_000_000_000;
    if let Some(number) = value.as_i64() {
        return if number >= FIRST_MILLISECONDS {
            DateTime::from_timestamp_millis(number)
        } else {
            DateTime::from_timestamp(number, 0)
        };
    }
    let text = value.as_str()?;
    DateTime::parse_from_rfc3339(text)
        .map(|t| t.to_utc())
        .ok()
        .or_else(|| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S")
                .ok()
                .map(|t| t.and_utc())
        })
}

impl Description {
    /// Whether SQLite had anything else to say of a database than that it is sound.
    pub fn has_unsound_databases(&self) -> bool {
        self.sources
            .values()
            .any(|source| source.outcome == Outcome::Damaged || source.unchecked)
    }
}

/// How a source went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All of it is in the snapshot.
    Complete,
    /// It does not exist and need not.
    Absent,
    /// All of it is in the snapshot, and SQLite says that it is damaged.
    Damaged,
    /// A part of it could not be taken.
    Partial,
    /// Nothing of it could be taken.
    Failed,
}

impl Outcome {
    /// Whether a snapshot with this source can be complete.
    pub fn is_sound(self) -> bool {
        matches!(self, Self::Complete | Self::Absent)
    }

    /// For a sentence.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Absent => "absent",
            Self::Damaged => "damaged",
            Self::Partial => "only there in part",
            Self::Failed => "missing",
        }
    }
}
