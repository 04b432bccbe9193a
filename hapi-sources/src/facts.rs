//! Facts are what is known of captured bytes: their hash, their file's mode, owner and time, and what a
//! database or a secret holds.
//!
//! They are plain values that may be stored and shown: of a secret they hold a count, and none of its
//! content.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::source::{Column, IntegrityCheck};

/// SHA-256 of a whole file (FIPS 180-4); `Display` is lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Hash(pub [u8; 32]);

impl Sha256Hash {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Sha256Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A database as it was when a check of SQLite's found nothing in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoundDatabase {
    /// The copy's hash.
    pub sha256: Sha256Hash,
    /// Its modification time, which proves nothing: where it is the same, the check waits for the hash.
    pub mtime: SystemTime,
    /// The check.
    pub check: IntegrityCheck,
}

/// Mode, owner and time of a live file. No atime, ctime, inode, device or link count: they change
/// without the state changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// `st_mode`, type bits included.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time. A database's is the later of its own and its WAL's.
    pub mtime: SystemTime,
}

impl Metadata {
    pub(crate) fn of(stat: &fs::Metadata) -> io::Result<Self> {
        Ok(Self {
            mode: stat.mode(),
            uid: stat.uid(),
            gid: stat.gid(),
            mtime: stat.modified()?,
        })
    }
}

/// What is known of a copied database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DatabaseFacts {
    /// Bytes a page.
    pub page_size: u32,
    /// Pages in the file.
    pub page_count: u32,
    /// `PRAGMA user_version`.
    pub user_version: i32,
    /// SHA-256, in hexadecimal, over type, name, table and SQL of the schema's rows, by type and name.
    pub schema: String,
    /// The outcome of SQLite's own check.
    pub integrity: Integrity,
    /// Rows by table; `None` where the table does not exist or cannot be read.
    pub rows: BTreeMap<String, Option<u64>>,
    /// Newest value (SQL `max`) by column; `None` where there is none.
    pub newest: BTreeMap<Column, Option<serde_json::Value>>,
    /// Files that rows name, as a hub keeps them beside its database: paths in [`ATTACHMENTS`], sorted. Not stored.
    #[serde(skip)]
    pub attachments: Vec<String>,
}

/// The folder in HAPI's home that attachments of notes are in.
pub const ATTACHMENTS: &str = "scratchlist-attachments";

impl DatabaseFacts {
    /// Adds a finding of our own, before SQLite's.
    pub(crate) fn add_damage(&mut self, finding: String) {
        match &mut self.integrity {
            Integrity::Damaged { findings } => findings.insert(0, finding),
            other => {
                *other = Integrity::Damaged {
                    findings: vec![finding],
                }
            }
        }
    }

    /// Takes SQLite's verdict into account, beside findings of our own.
    pub(crate) fn judge(&mut self, verdict: Integrity) {
        match (&mut self.integrity, verdict) {
            (Integrity::Damaged { findings: ours }, Integrity::Damaged { findings }) => {
                ours.extend(findings);
            }
            (Integrity::Damaged { .. }, _) => {}
            (ours, verdict) => *ours = verdict,
        }
    }
}

/// The outcome of SQLite's own check of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
#[allow(missing_docs, reason = "the variants' fields say what they are")]
pub enum Integrity {
    /// Everything was checked and is sound.
    Ok,
    /// SQLite found damage: its first findings.
    Damaged { findings: Vec<String> },
    /// What could be checked is sound; these tables could not be (an unknown collation, say).
    Unchecked { tables: Vec<String> },
}

/// What may be known of a secret's plaintext.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SecretFacts {
    /// Assignments of an env file, top-level members of a JSON object, else lines that are not empty.
    pub entries: u64,
    /// Whether the former ciphertext was used again.
    pub reused: bool,
}
