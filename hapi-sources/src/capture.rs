//! A capture is one source's bytes, whole, ours (staged or in memory), with its facts.
//!
//! Once a [`Capture`] exists, the live path it came from is never touched again.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::CaptureError;
use crate::facts::{DatabaseFacts, Integrity, Metadata, SecretFacts, Sha256Hash};
use crate::rest::left_out::LeftOut;
use crate::source::{Kind, Source};
use crate::sqlite::verdict::{IntegrityVerdict, Unknown};
use crate::staging::bytes::Bytes;

/// One source's bytes, whole, with its facts.
#[derive(Debug)]
pub struct Capture {
    /// The source's name.
    pub source: String,
    /// The source's kind.
    pub kind: Kind,
    /// What was taken, sorted by path. Empty where an optional source is absent (see `absent`).
    pub entries: Vec<Entry>,
    /// The source does not exist here, and is not required.
    pub absent: bool,
    /// Parts that could not be taken: a capture with any is not complete.
    pub failures: Vec<Failure>,
    /// What the operator should know; none of it makes the capture incomplete.
    pub notes: Vec<Note>,
    /// Of [`Scope::Rest`](crate::Scope::Rest): what was not taken all the same.
    pub left_out: Vec<LeftOut>,
}

/// One file, folder or symbolic link of a capture.
#[derive(Debug)]
pub struct Entry {
    /// The absolute path it has in a snapshot (a secret's ends in `.age`).
    pub path: PathBuf,
    /// Mode, owner and mtime of the live file.
    pub metadata: Metadata,
    /// The bytes, or what else it is.
    pub content: Content,
}

/// What an entry is.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants' fields say what they are")]
pub enum Content {
    /// A plain file.
    File { bytes: Bytes, sha256: Sha256Hash },
    /// A copy of a SQLite database that opens anywhere, with what is known of it.
    Database {
        bytes: Bytes,
        sha256: Sha256Hash,
        facts: Box<DatabaseFacts>,
        /// SQLite's verdict while it is still to come: until then the facts presume that all is
        /// sound. See [`Capturer::presume_sound`](crate::Capturer::presume_sound).
        verdict: Option<IntegrityVerdict>,
    },
    /// The age-encrypted ciphertext of a secret; size and hash are the ciphertext's.
    Secret {
        bytes: Bytes,
        sha256: Sha256Hash,
        facts: SecretFacts,
    },
    /// A folder (its children are entries of their own).
    Dir,
    /// A symbolic link, kept as such.
    Symlink { target: OsString },
}

/// A part of a source that could not be taken.
#[derive(Debug)]
pub struct Failure {
    /// The live path.
    pub path: PathBuf,
    /// Why.
    pub error: CaptureError,
}

impl Failure {
    pub(crate) fn read(path: &Path, error: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            error: CaptureError::read(path, error),
        }
    }
}

/// Something the operator should know about a capture that is nevertheless whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants' fields say what they are")]
pub enum Note {
    /// Neither file, folder nor symbolic link: not taken.
    SpecialFile { path: PathBuf },
    /// This is a live database or one of its side files; a folder's walk leaves it alone.
    LiveDatabase { path: PathBuf },
    /// This is a secret's file under another name: not taken.
    SecretElsewhere { path: PathBuf, secret: String },
    /// This file quotes a value of a secret; it was taken.
    QuotesSecret {
        path: PathBuf,
        secret: String,
        sha256: Sha256Hash,
    },
    /// This database has several hard links. Should the hub use another one, its WAL is not seen.
    SeveralNames { path: PathBuf, links: u64 },
    /// A symbolic link that matches a pattern, and leads nowhere.
    DanglingLink { path: PathBuf },
    /// Another source of the run has this path, too: that one's entry counts.
    AlsoTaken { path: PathBuf, by: String },
    /// Something of this program's own, which no walk enters.
    KeptOut { path: PathBuf },
    /// The filter could not ask git, so all that matches was taken.
    NoGit { path: PathBuf, reason: String },
    /// This file does not tell which file the source means.
    NamesNothing { path: PathBuf, reason: String },
    /// The secret's stored ciphertext could not be used, or not be stored.
    SecretCache { path: PathBuf, reason: String },
}

impl Capture {
    pub(crate) fn empty(source: &Source) -> Self {
        Self {
            source: source.name.clone(),
            kind: source.kind,
            entries: Vec::new(),
            absent: false,
            failures: Vec::new(),
            notes: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Puts the entries into the order of their paths' bytes: a folder before what is in it.
    pub(crate) fn sort(&mut self) {
        let bytes = |e: &Entry| e.path.as_os_str().as_bytes().to_vec();
        self.entries.sort_by_cached_key(bytes);
    }

    /// Whether no part of it failed.
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    /// SQLite's verdicts on its databases that are still to come, with the paths they are on.
    pub fn verdicts(&self) -> impl Iterator<Item = (&Path, &IntegrityVerdict)> {
        self.entries.iter().filter_map(|e| match &e.content {
            Content::Database {
                verdict: Some(verdict),
                ..
            } => Some((e.path.as_path(), verdict)),
            _ => None,
        })
    }

    /// The same capture with all verdicts in its facts; waits for those that are still to come. A
    /// database that could not be checked for a reason outside of it is not taken.
    ///
    /// # Errors
    /// Such a reason, where nothing else was taken, or that the end was asked for.
    pub fn conclude(mut self) -> Result<Self, CaptureError> {
        let mut failed = Vec::new();
        for mut entry in std::mem::take(&mut self.entries) {
            match entry.conclude() {
                Ok(()) => self.entries.push(entry),
                Err(CaptureError::Stopped) => return Err(CaptureError::Stopped),
                Err(error) => failed.push(Failure {
                    path: entry.path,
                    error,
                }),
            }
        }
        if self.entries.is_empty() && !failed.is_empty() {
            return Err(failed.swap_remove(0).error);
        }
        self.failures.append(&mut failed);
        Ok(self)
    }

    /// Bytes of content in all.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(Entry::len).sum()
    }

    /// Whether SQLite found damage in one of its databases.
    pub fn damaged(&self) -> bool {
        self.entries.iter().any(|e| {
            matches!(&e.content, Content::Database { facts, .. }
                if matches!(facts.integrity, Integrity::Damaged { .. }))
        })
    }
}

impl Entry {
    /// The content; `None` for folders and links.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.content {
            Content::File { bytes, .. }
            | Content::Database { bytes, .. }
            | Content::Secret { bytes, .. } => Some(bytes),
            Content::Dir | Content::Symlink { .. } => None,
        }
    }

    /// The content's hash; `None` for folders and links.
    pub fn sha256(&self) -> Option<Sha256Hash> {
        match &self.content {
            Content::File { sha256, .. }
            | Content::Database { sha256, .. }
            | Content::Secret { sha256, .. } => Some(*sha256),
            Content::Dir | Content::Symlink { .. } => None,
        }
    }

    /// Waits for SQLite's verdict, where one is still to come, and puts it into the facts.
    pub(crate) fn conclude(&mut self) -> Result<(), CaptureError> {
        let Content::Database { facts, verdict, .. } = &mut self.content else {
            return Ok(());
        };
        match verdict.take().map(|verdict| verdict.wait()) {
            None => Ok(()),
            Some(Ok(integrity)) => {
                facts.judge(integrity);
                Ok(())
            }
            Some(Err(Unknown::Stopped)) => Err(CaptureError::Stopped),
            Some(Err(Unknown::Failed { reason })) => {
                Err(CaptureError::of_the_copy(&self.path, &reason))
            }
        }
    }

    /// Bytes of content; 0 for folders and links.
    #[allow(
        clippy::len_without_is_empty,
        reason = "an entry without bytes is not an empty one"
    )]
    pub fn len(&self) -> u64 {
        self.bytes().map_or(0, Bytes::len)
    }
}
