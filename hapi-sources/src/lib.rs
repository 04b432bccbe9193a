//! hapi-sources turns paths of a live machine into *captures*: whole, consistent bytes that the
//! caller owns.
//!
//! A [`Source`] says what to take ([`Kind`]: a live SQLite database, a file of secrets, a file, a
//! glob, a folder). A [`Capturer`] takes it and hands out a [`Capture`]: entries sorted by path,
//! each with its metadata, size, SHA-256, bytes and facts. After that the live path is never
//! touched again: what is archived is what was checked.
//!
//! The way back needs two more: [`Identities`] open secrets, and [`examine`] finds the facts of a
//! restored database anew.
//!
//! This crate knows nothing of restic, repositories or retention.
//!
#![doc = include_str!("../EXAMPLE.md")]

mod capture;
mod checksum;
mod error;
mod file;
mod git;
mod guard;
mod identity;
mod probe;
mod secret;
mod source;
mod sqlite;
mod staging;
mod tree;

/// A passphrase, from [`age::secrecy`]: zeroed when it is dropped, and never printed.
pub use age::secrecy::SecretString;
pub use capture::{
    Capture, Capturer, Content, DatabaseFacts, Entry, Failure, Integrity, Limits, Metadata, Note,
    Observer, SecretFacts, Sha256Hash, Silent, SoundDatabase, Stop,
};
pub use checksum::{Checksum, Checksummer};
pub use error::{
    CaptureError, DecryptError, ExamineError, IdentityError, RecipientError, SourceError,
    StagingError,
};
pub use identity::{Identities, Passphrase, Plaintext};
pub use probe::{Probe, probe};
pub use secret::{Recipients, SecretCache};
pub use source::{Column, Filter, IntegrityCheck, Kind, Source};
pub use sqlite::{IntegrityVerdict, Unknown, examine, tables};
pub use staging::{Bytes, BytesReader, Staging};

/// The version of the SQLite within, `3.50.2`, say.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}
