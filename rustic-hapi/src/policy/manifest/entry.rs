//! An entry is a file, folder or link of a source, as the manifest has it, or why there is none.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hapi_sources::{CaptureError, Content, DatabaseFacts, Entry};
use serde::{Deserialize, Serialize};

use crate::remedy;

/// A part that could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailureRecord {
    /// The live path.
    pub path: PathRecord,
    /// The fact.
    pub error: String,
    /// The remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// One file, folder or symbolic link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EntryRecord {
    /// The path in the snapshot.
    pub path: PathRecord,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: EntryKind,
    /// Bytes of the file as it is in the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256 of the same bytes, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its modification time (`@seconds`), where restic cannot hold it and the snapshot has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<String>,
    /// What is known of a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseFacts>,
    /// Entries of a secret's plaintext: all that may be known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_entries: Option<u64>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// A file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
}

/// A path in JSON: a string, or, where it is not UTF-8, its bytes in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PathRecord {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Raw {
        /// The bytes, two digits each.
        hex: String,
    },
}

impl<P: AsRef<Path> + ?Sized> From<&P> for PathRecord {
    fn from(path: &P) -> Self {
        let path = path.as_ref();
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Raw {
                hex: hex::encode(path.as_os_str().as_bytes()),
            },
        }
    }
}

impl PathRecord {
    /// The path itself; what is not hexadecimal gives an empty one.
    pub fn to_path(&self) -> PathBuf {
        match self {
            Self::Text(text) => PathBuf::from(text),
            Self::Raw { hex } => {
                PathBuf::from(OsStr::from_bytes(&hex::decode(hex).unwrap_or_default()))
            }
        }
    }
}

impl FailureRecord {
    pub(super) fn of(source: &str, path: &Path, error: &CaptureError) -> Self {
        Self {
            path: path.into(),
            error: error.to_string(),
            hint: remedy::of_capture(error, Some(source)),
        }
    }
}

impl EntryRecord {
    pub(super) fn of(entry: &Entry) -> Self {
        let (kind, database, secret_entries) = match &entry.content {
            Content::File { .. } => (EntryKind::File, None, None),
            Content::Database { facts, .. } => (EntryKind::File, Some((**facts).clone()), None),
            Content::Secret { facts, .. } => (EntryKind::File, None, Some(facts.entries)),
            Content::Dir => (EntryKind::Dir, None, None),
            Content::Symlink { .. } => (EntryKind::Symlink, None, None),
        };
        Self {
            path: entry.path.as_path().into(),
            kind,
            size: entry.bytes().map(|_| entry.len()),
            sha256: entry.sha256().map(|hash| hash.to_string()),
            mtime: crate::policy::restic_time::beyond(entry.metadata.mtime),
            database,
            secret_entries,
        }
    }
}
