//! Taking is what every kind of source needs while it takes: the staging folder, the guard, the recipients,
//! the limits, and the request to end early.
//!
//! One [`Taking`] serves all sources of a run, one after the other: the secrets that are known, the memory
//! that is used up and the check that still runs count for the next one, too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::facts::SoundDatabase;
use crate::guard::Guard;
use crate::observer::{Observer, Silent};
use crate::secret::cache::SecretCache;
use crate::secret::recipients::Recipients;
use crate::source::Source;
use crate::sqlite::verdict::IntegrityVerdict;
use crate::staging::Staging;
use crate::stop::Stop;

/// Bytes of small files that one run keeps in memory.
const MEMORY: u64 = 16 << 20;

/// What the kinds are handed.
pub(crate) struct Taking<'a> {
    pub(crate) staging: &'a Staging,
    pub(crate) recipients: Option<&'a Recipients>,
    pub(crate) secret_cache: Option<&'a SecretCache>,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) stop: Stop,
    pub(crate) limits: Limits,
    pub(crate) now: SystemTime,
    pub(crate) guard: Guard,
    /// All sources of the profile.
    pub(crate) sources: Vec<Source>,
    /// Bytes that files may still take in memory.
    pub(crate) memory: u64,
    /// Whether captures are handed out before SQLite's check has ended.
    pub(crate) presume: bool,
    pub(crate) sound: BTreeMap<PathBuf, SoundDatabase>,
    /// The check that was begun last.
    pub(crate) checking: Option<IntegrityVerdict>,
}

impl<'a> Taking<'a> {
    pub(crate) fn new(staging: &'a Staging, sources: &[Source], guard: Guard) -> Self {
        Self {
            staging,
            recipients: None,
            secret_cache: None,
            observer: &Silent,
            stop: Stop::default(),
            limits: Limits::default(),
            now: SystemTime::now(),
            guard,
            sources: sources.to_vec(),
            memory: MEMORY,
            presume: false,
            sound: BTreeMap::new(),
            checking: None,
        }
    }

    /// So many bytes more have been copied.
    pub(crate) fn advance(&self, bytes: u64) {
        if bytes > 0 {
            self.stop.progressed();
        }
        self.observer.advance(bytes);
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
