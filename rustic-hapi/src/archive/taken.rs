//! What was taken of a series, and the snapshot that came of it.

use hapi_sources::Sha256Hash;

use crate::policy::description::Description;
use crate::policy::manifest::Manifest;
use crate::policy::uncovered::Uncovered;

/// A series that was taken.
#[derive(Debug)]
pub struct Taken {
    /// What each source brought.
    pub manifest: Manifest,
    /// Its summary.
    pub description: Description,
    /// The snapshot's tags, the series first.
    pub tags: Vec<String>,
    /// The snapshot; `None` after `--dry-run`.
    pub snapshot: Option<Saved>,
    /// Notes that are told once, with what tells one from another.
    pub told_once: Vec<(String, Sha256Hash)>,
    /// What lies in HAPI's home and is in no snapshot: each is told once.
    pub uncovered: Vec<Uncovered>,
    /// The description of the snapshot it was compared with.
    pub before: Option<Description>,
    /// Why it is `shrunk`, if it is.
    pub shrunk: Option<String>,
    /// Whether the snapshot before it was so already, and it was told then.
    pub shrunk_before: bool,
    /// Databases that nothing is written to any more.
    pub quiet: Vec<String>,
}

/// A snapshot that is in the repository and was read back.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The id, 64 hexadecimal digits.
    pub id: String,
    /// Bytes added to the repository, compressed.
    pub added: u64,
    /// Bytes of all files in it.
    pub bytes: u64,
    /// Whether its tree is that of the snapshot before it.
    pub unchanged: bool,
}
