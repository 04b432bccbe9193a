//! A capture is one source's bytes, whole, ours (staged or in memory), with its facts.
//!
//! Once a [`Capture`] exists, the live path it came from is never touched again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::{CaptureError, StagingError};
use crate::guard::Guard;
use crate::secret::{self, Recipients, SecretCache};
use crate::source::{Column, IntegrityCheck, Kind, Source};
use crate::sqlite::IntegrityVerdict;
use crate::staging::{Bytes, Staging};
use crate::tree::{self, Pattern};
use crate::{file, sqlite};

/// Bytes of small files that one capturer keeps in memory.
const MEMORY: u64 = 16 << 20;

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
        /// sound. See [`Capturer::presume_sound`].
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

/// SHA-256 of a whole file (FIPS 180-4); `Display` is lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Hash(pub [u8; 32]);

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

/// A part of a source that could not be taken.
#[derive(Debug)]
pub struct Failure {
    /// The live path.
    pub path: PathBuf,
    /// Why.
    pub error: CaptureError,
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
    /// The secret's stored ciphertext could not be used, or not be stored.
    SecretCache { path: PathBuf, reason: String },
}

/// Told how far the present source is. All methods have empty bodies to start from.
pub trait Observer: Sync {
    /// A source of about `total` bytes begins.
    fn begin(&self, _source: &Source, _total: u64) {}
    /// So many bytes more have been copied.
    fn advance(&self, _bytes: u64) {}
    /// A step without bytes begins ("checking integrity", say).
    fn step(&self, _what: &str) {}
    /// The source is done.
    fn end(&self) {}
}

/// An observer that says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// A flag that ends a capture early: set it from a signal handler, say. Clones share it. The other way
/// it carries signs of life, so that whoever watches can tell work from waiting.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    /// End what has them, and not what it came from.
    also: Vec<Arc<AtomicBool>>,
    deadline: Arc<OnceLock<Instant>>,
    progress: Arc<AtomicU64>,
}

impl Stop {
    /// Shares a flag that something else sets.
    pub fn from_flag(flag: Arc<AtomicBool>) -> Self {
        Self {
            flag,
            ..Self::default()
        }
    }

    /// The same request, or this flag.
    #[must_use]
    pub fn or(mut self, flag: Arc<AtomicBool>) -> Self {
        self.also.push(flag);
        self
    }

    /// Asks for the end.
    pub fn set(&self) {
        self.flag.store(true, Ordering::SeqCst);
    }

    /// Asks for the end at a time to come. The first such time counts.
    pub fn set_at(&self, time: Instant) {
        _ = self.deadline.set(time);
    }

    /// Whether that time has come.
    pub fn is_late(&self) -> bool {
        self.deadline.get().is_some_and(|at| Instant::now() >= *at)
    }

    /// Whether the end was asked for.
    pub fn is_set(&self) -> bool {
        let set = |flag: &Arc<AtomicBool>| flag.load(Ordering::SeqCst);
        set(&self.flag) || self.also.iter().any(set) || self.is_late()
    }

    /// Something moved: bytes, or a step of SQLite's.
    pub fn progressed(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// The same request for an end, with signs of life that nobody watches: for what goes on beside the
    /// work.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            progress: Arc::default(),
            ..self.clone()
        }
    }

    /// How often something moved so far.
    pub fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long SQLite waits for a lock.
    pub busy: Duration,
    /// How long the copy of one database may take, from pin to release.
    pub copy: Duration,
    /// How often a file that changes while it is read is read again.
    pub rereads: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            busy: Duration::from_secs(20),
            copy: Duration::from_secs(30 * 60),
            rereads: 5,
        }
    }
}

/// Takes sources, one after the other, into one staging folder.
///
/// It remembers what it must not read again: the live databases and their side files (by device
/// and inode, and by path), and the secrets it has encrypted. Give it every source of the run with
/// [`Capturer::new`], so that a folder never opens a database that another source names.
pub struct Capturer<'a> {
    pub(crate) staging: &'a Staging,
    pub(crate) recipients: Option<&'a Recipients>,
    pub(crate) secret_cache: Option<&'a SecretCache>,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) stop: Stop,
    pub(crate) limits: Limits,
    pub(crate) now: SystemTime,
    pub(crate) guard: Guard,
    /// Bytes that files may still take in memory.
    pub(crate) memory: u64,
    pub(crate) presume: bool,
    pub(crate) sound: BTreeMap<PathBuf, SoundDatabase>,
    /// The check that was begun last.
    pub(crate) checking: Option<IntegrityVerdict>,
}

impl<'a> Capturer<'a> {
    /// A capturer for these sources, with no recipients, default limits and a silent observer.
    ///
    /// `sources` are all sources of the profile, also those that this run does not take: their
    /// databases and secrets are what the others must not read. An error is a pattern that is none.
    pub fn new(staging: &'a Staging, sources: &[Source]) -> Result<Self, CaptureError> {
        for source in sources {
            tree::exclusions(source)?;
            if source.is_pattern() {
                Pattern::parse(&source.path)?;
            }
        }
        Ok(Self {
            staging,
            recipients: None,
            secret_cache: None,
            observer: &Silent,
            stop: Stop::default(),
            limits: Limits::default(),
            now: SystemTime::now(),
            guard: Guard::new(sources)?,
            memory: MEMORY,
            presume: false,
            sound: BTreeMap::new(),
            checking: None,
        })
    }

    /// Whom secrets are encrypted to.
    #[must_use]
    pub fn recipients(self, recipients: Option<&'a Recipients>) -> Self {
        Self { recipients, ..self }
    }

    /// Where ciphertexts are kept for the next run.
    #[must_use]
    pub fn secret_cache(self, secret_cache: Option<&'a SecretCache>) -> Self {
        Self {
            secret_cache,
            ..self
        }
    }

    /// Who is told of the progress.
    #[must_use]
    pub fn observer(self, observer: &'a dyn Observer) -> Self {
        Self { observer, ..self }
    }

    /// The flag that ends captures early.
    #[must_use]
    pub fn stop(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// Hands captures of databases out before SQLite's own check of the copy has ended: their facts
    /// then presume that it finds nothing. [`Capture::verdicts`] are to be waited for before anything
    /// is made of that, and [`Capture::conclude`] puts them into the facts.
    #[must_use]
    pub fn presume_sound(self, presume: bool) -> Self {
        Self { presume, ..self }
    }

    /// Databases that were found sound before, by path and by the SQLite of
    /// [`sqlite_version`](crate::sqlite_version): a copy with the same hash is not checked again.
    #[must_use]
    pub fn sound(self, sound: BTreeMap<PathBuf, SoundDatabase>) -> Self {
        Self { sound, ..self }
    }

    /// How long things may take.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The present time, by which the age of stored ciphertexts is told.
    #[must_use]
    pub fn now(self, now: SystemTime) -> Self {
        Self { now, ..self }
    }

    /// Takes one source. An error means that nothing of it could be taken; where parts could not,
    /// the capture says so in its failures. A source that is not required may be absent.
    pub fn capture(&mut self, source: &Source) -> Result<Capture, CaptureError> {
        self.check_stop()?;
        self.guard.renew();
        let total = match source.kind {
            Kind::Sqlite if !source.is_pattern() => sqlite::size(&source.path),
            Kind::Secret | Kind::File => tree::size(&source.path),
            Kind::Sqlite | Kind::Glob | Kind::Dir => 0,
        };
        self.observer.begin(source, total);
        let captured = match source.kind {
            Kind::Secret => secret::capture(self, source),
            Kind::Sqlite => sqlite::capture(self, source),
            Kind::File => file::capture(self, source),
            Kind::Glob => tree::glob(self, source),
            Kind::Dir => tree::dir(self, source),
        };
        self.observer.end();
        match captured {
            Err(CaptureError::Missing { .. } | CaptureError::NoMatch { .. })
                if !source.required =>
            {
                Ok(Capture {
                    absent: true,
                    ..Capture::empty(source)
                })
            }
            other => other,
        }
    }

    /// Files and folders that no folder or pattern enters, whatever the sources say: a program's own
    /// state, its passwords, the place that captures go to.
    #[must_use]
    pub fn keep_out(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.guard.keep_out(paths);
        self
    }

    /// Reads the secrets among these sources without taking them, so that no other source carries
    /// a copy of one, or quotes it unnoticed: for runs that take only a part of a profile.
    ///
    /// Returns those that could not be read: copies of them are not recognised by content, only
    /// by name and inode.
    pub fn learn_secrets(&mut self, sources: &[Source]) -> Vec<(String, CaptureError)> {
        sources
            .iter()
            .filter(|s| s.kind == Kind::Secret)
            .filter_map(|s| Some((s.name.clone(), secret::learn(self, s).err()?)))
            .collect()
    }

    /// Takes all of these sources, secrets first (so that they are known when files are looked
    /// at), then databases, files, globs and folders. Returns them in the order given.
    ///
    /// Once it was stopped, or the staging folder failed, the rest is not tried and gets the same
    /// error. A lack of space is the error of one source: a smaller one may still fit.
    pub fn capture_all(
        &mut self,
        sources: &[Source],
    ) -> Vec<(usize, Result<Capture, CaptureError>)> {
        let mut order: Vec<usize> = (0..sources.len()).collect();
        order.sort_by_key(|i| sources[*i].kind);
        let mut ended: Option<CaptureError> = None;
        let mut captures: Vec<_> = order
            .into_iter()
            .map(|i| {
                let captured = match &ended {
                    Some(e) => Err(again(e)),
                    None => self.capture(&sources[i]),
                };
                if let Err(
                    e @ (CaptureError::Stopped | CaptureError::Staging(StagingError::Io { .. })),
                ) = &captured
                {
                    ended = Some(again(e));
                }
                (i, captured)
            })
            .collect();
        captures.sort_by_key(|(i, _)| *i);
        captures
    }

    /// So many bytes more have been copied.
    pub(crate) fn advance(&self, bytes: u64) {
        if bytes > 0 {
            self.stop.progressed();
        }
        self.observer.advance(bytes);
    }

    pub(crate) fn check_stop(&self) -> Result<(), CaptureError> {
        if self.stop.is_set() {
            Err(CaptureError::Stopped)
        } else {
            Ok(())
        }
    }
}

/// The error that ended the run, for a source that was not tried because of it.
fn again(e: &CaptureError) -> CaptureError {
    match e {
        CaptureError::Staging(StagingError::Io { path, error }) => {
            let error = io::Error::new(error.kind(), error.to_string());
            StagingError::Io {
                path: path.clone(),
                error,
            }
            .into()
        }
        _ => CaptureError::Stopped,
    }
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

    /// Bytes of content; 0 for folders and links.
    #[allow(
        clippy::len_without_is_empty,
        reason = "an entry without bytes is not an empty one"
    )]
    pub fn len(&self) -> u64 {
        self.bytes().map_or(0, Bytes::len)
    }
}
