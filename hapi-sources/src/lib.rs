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
// From top to bottom: a file uses only files below it, so there is no circle. Some files of the kinds' folders
// stand below their kind, since others need them: the guard asks `file/pinned.rs`, `sqlite/names.rs` and (as
// sqlite does) `tree/pattern.rs`, and `secret/named.rs`; a capture holds a `sqlite/verdict.rs`, with integrity, at_rest and header below it;
// and `rest/left_out.rs`; taking holds `secret/cache.rs` and `secret/recipients.rs`.
#![warn(unreachable_pub)]

mod capturer;
mod probe;

mod rest;
mod secret;
mod sqlite;
mod tree;

mod file;

mod taking;

mod guard;

mod capture;

mod facts;
mod observer;
mod staging;
mod stop;

mod checksum;
mod source;

mod error;

mod permission;

/// A passphrase, from [`age::secrecy`]: zeroed when it is dropped, and never printed.
pub use age::secrecy::SecretString;
pub use capture::{Capture, Content, Entry, Failure, Note};
pub use capturer::Capturer;
pub use checksum::{Checksum, Checksummer};
pub use error::{
    CaptureError, DecryptError, ExamineError, IdentityError, RecipientError, SourceError,
    StagingError,
};
pub use facts::{
    ATTACHMENTS, DatabaseFacts, Integrity, Metadata, SecretFacts, Sha256Hash, SoundDatabase,
};
pub use observer::Observer;
pub use permission::{Barrier, user_for_chown, user_name};
pub use probe::{Probe, measure, probe};
pub use rest::left_out::{LeftOut, Why};
pub use rest::walk::uncovered;
pub use rest::{LARGEST_REST, MOST_REST, left_out};
pub use secret::cache::SecretCache;
pub use secret::identity::{Identities, Passphrase, Plaintext};
pub use secret::named::named_file;
pub use secret::recipients::Recipients;
pub use source::{Column, Filter, IntegrityCheck, Kind, Scope, Source};
pub use sqlite::examine::{examine, tables};
pub use sqlite::verdict::{IntegrityVerdict, Unknown};
pub use sqlite::{Counts, count_live};
pub use staging::Staging;
pub use staging::bytes::{Bytes, BytesReader};
pub use stop::Stop;
pub use taking::Limits;
pub use tree::pattern::Exclusions;

/// The version of the SQLite within, `3.50.2`, say.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}
