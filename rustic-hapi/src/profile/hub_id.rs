//! A hub id says which hub's state a snapshot is of. Host name and series do not: two hubs of one
//! machine may share a repository, and each snapshot belongs to one of them.
//!
//! `init` writes the id into the profile, and each run into manifest and description. A profile without
//! one has the id that is made of its host name and the path of its first database; the same goes for
//! snapshots that are older than this: their manifest has that path.

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The user name that snapshots of ours carry.
pub const USERNAME: &str = "rustic-hapi";

/// Tells the state of one hub from that of others: 8 to 64 letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HubId(String);

impl HubId {
    /// The id of a hub that was given none: 32 hexadecimal digits.
    pub fn of(host: &str, database: &Path) -> Self {
        let mut hash = Sha256::new();
        for part in [
            b"rustic-hapi hub",
            host.as_bytes(),
            database.as_os_str().as_encoded_bytes(),
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hex::encode(&hash.finalize()[..16]))
    }

    /// Reads an id; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = (8..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        is_id.then(|| Self(text.to_owned()))
    }

    /// The id as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether 8 or more of its first characters name it.
    pub fn is_named(&self, name: &str) -> bool {
        name.len() >= 8 && self.0.starts_with(name)
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hub that a profile is for.
#[derive(Clone, Debug)]
pub struct HubOfProfile {
    /// Its id.
    pub id: HubId,
    /// Whether the id stands in the profile.
    pub is_written: bool,
    /// Its databases' paths or patterns, the first one of the main series first.
    databases: Vec<PathBuf>,
    /// The ids that it has by its paths.
    by_path: Vec<HubId>,
}

impl HubOfProfile {
    /// `fallback` names the state where there is no database.
    pub(crate) fn new(
        written: Option<HubId>,
        host: &str,
        databases: Vec<PathBuf>,
        fallback: &Path,
    ) -> Self {
        let by_path: Vec<HubId> = databases.iter().map(|path| HubId::of(host, path)).collect();
        let first = || by_path.first().cloned();
        Self {
            is_written: written.is_some(),
            id: written
                .or_else(first)
                .unwrap_or_else(|| HubId::of(host, fallback)),
            databases,
            by_path,
        }
    }

    /// Whether an id is this hub's.
    pub(crate) fn has_id(&self, id: &HubId) -> bool {
        *id == self.id || self.by_path.contains(id)
    }

    /// Whether a snapshot of these databases, which names no hub, is this hub's.
    pub(crate) fn has_database(&self, host: &str, databases: &[PathBuf]) -> bool {
        databases
            .iter()
            .any(|path| self.databases.contains(path) || HubId::of(host, path) == self.id)
    }
}
