//! A repository lock keeps other programs' hands off what a run needs, and ours off theirs: a file in
//! the repository, by restic's own rules (restic, repository design, "Locks"), so that stock restic
//! honours it and we honour restic's.
//!
//! Shared locks go together; an exclusive one goes with none. Whoever wants one looks, puts his own
//! down, waits a moment and looks again. A lock is refreshed every five minutes, and is stale after
//! thirty, or at once where its process was one of this machine's and is gone.

mod lock_file;
mod store;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chrono::Utc;
use hapi_sources::{CaptureError, Stop};
use rustic_core::Id;
use rustic_core::repofile::MasterKey;
use sha2::{Digest, Sha256};

pub use self::lock_file::Mode;
use self::lock_file::{LockFile, LockKey, lives};
pub(crate) use self::store::{LockFolder, LockStore};
use crate::error::Error;
use crate::gate::Gate;
use crate::ui::Ui;

/// How often a lock is refreshed (restic, `refreshInterval`).
const REFRESH: Duration = Duration::from_secs(5 * 60);

/// How long a lock may go without before it counts as lost: others will soon call it stale.
const LOST: Duration = Duration::from_secs(25 * 60);

/// How long somebody else gets to put his own down, too (restic, `waitBeforeLockCheck`).
const SETTLE: Duration = Duration::from_millis(200);

/// How long after a signal a shared lock is removed, whatever the run is waiting for: soon after, the
/// run is ended the hard way.
const AFTER_SIGNAL: Duration = Duration::from_secs(15);

/// How long what adds or reads waits for what deletes.
pub const SHARED_WAIT: Duration = Duration::from_secs(10 * 60);

/// How long what deletes waits for everybody else.
pub fn exclusive_wait() -> Duration {
    let asked = cfg!(debug_assertions)
        .then(|| std::env::var("RUSTIC_HAPI_TEST_LOCK_WAIT").ok())
        .flatten();
    asked
        .and_then(|seconds| seconds.parse().ok())
        .map_or(Duration::from_secs(60), Duration::from_secs)
}

/// The locks of one repository.
#[derive(Clone)]
pub(crate) struct Locks {
    store: Arc<dyn LockStore>,
    key: Arc<LockKey>,
    location: String,
    gate: Gate,
    ui: Ui,
}

impl Locks {
    /// Those in `store`. A lock that is lost shuts the gate.
    pub(crate) fn new(
        store: Arc<dyn LockStore>,
        master: &MasterKey,
        location: String,
        gate: Gate,
        ui: Ui,
    ) -> Result<Self, Error> {
        let key = LockKey::new(master).ok_or_else(|| Error::Internal {
            what: "the master key has another length than restic's".into(),
        })?;
        Ok(Self {
            store,
            key: Arc::new(key),
            location,
            gate,
            ui,
        })
    }

    /// Takes a lock, waiting for at most `wait` for those in its way.
    ///
    /// # Errors
    /// [`Error::RepositoryLocked`] with who is in the way, or what keeps lock files from being listed,
    /// read or written.
    pub(crate) fn take(&self, mode: Mode, wait: Duration) -> Result<Held, Error> {
        let stop = self.gate.stop();
        let deadline = Instant::now() + wait;
        let mut told = String::new();
        loop {
            let blocker = match self.attempt(mode)? {
                Ok(held) => return Ok(held),
                Err(blocker) => blocker,
            };
            if Instant::now() >= deadline {
                return Err(Error::RepositoryLocked {
                    location: self.location.clone(),
                    holder: blocker.text,
                    unreadable: blocker.unreadable,
                });
            }
            if blocker.text != told {
                // Somebody who watches would think that it hangs.
                self.ui
                    .note(format_args!("waiting for a lock: {}", blocker.text));
                told = blocker.text;
            }
            // Two that began at the same moment must not do so again.
            let pause = Duration::from_millis(500 + u64::from(random_byte()) * 4);
            let until = (Instant::now() + pause).min(deadline);
            while Instant::now() < until {
                if stop.is_set() {
                    return Err(CaptureError::Stopped.into());
                }
                // Waiting for somebody is no hanging, and has its own end.
                stop.progressed();
                thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn attempt(&self, mode: Mode) -> Result<Result<Held, Blocker>, Error> {
        if let Some(blocker) = self.blocker(mode, None)? {
            return Ok(Err(blocker));
        }
        let id = self.put(mode)?;
        // From here on it is removed whatever happens.
        let held = Held::new(self.clone(), mode, id);
        thread::sleep(SETTLE);
        match self.blocker(mode, Some(&id))? {
            Some(blocker) => Ok(Err(blocker)),
            None => Ok(Ok(held)),
        }
    }

    /// Who is in the way. What is stale is removed on the way.
    fn blocker(&self, mode: Mode, ours: Option<&Id>) -> Result<Option<Blocker>, Error> {
        let (now, host) = (Utc::now(), crate::host_name());
        let mut found = None;
        for id in self.store.list()? {
            if Some(&id) == ours {
                continue;
            }
            let Some(stored) = self.store.read(&id)? else {
                continue;
            };
            let name = &id.to_hex()[..8];
            let Some(file) = LockFile::open(&stored, &self.key) else {
                let text = format!("the lock {name} cannot be read");
                found = Some(Blocker {
                    text,
                    unreadable: true,
                });
                continue;
            };
            if file.is_stale(now, &host, lives) {
                let left = format!(
                    "process {} on {} ({})",
                    file.pid,
                    file.hostname,
                    file.time.format("%Y-%m-%d %H:%M")
                );
                match self.store.remove(&id) {
                    Ok(()) => self.ui.step(format_args!(
                        "removed the stale lock {name}, left by {left}"
                    )),
                    Err(error) => self.ui.step(format_args!(
                        "the stale lock {name}, left by {left}, cannot be removed: {error}"
                    )),
                }
            } else if file.excludes(mode) && found.is_none() {
                found = Some(Blocker {
                    text: file.holder(),
                    unreadable: false,
                });
            }
        }
        Ok(found)
    }

    fn put(&self, mode: Mode) -> Result<Id, Error> {
        let file = LockFile::of_this_process(mode, chrono::Local::now().fixed_offset());
        let sealed = file.sealed(&self.key).ok_or_else(|| Error::Internal {
            what: "a lock cannot be encrypted".into(),
        })?;
        let id: Id = hex::encode(Sha256::digest(&sealed))
            .parse()
            .map_err(|_| Error::Internal {
                what: "a hash is no id".into(),
            })?;
        self.store.write(&id, sealed)?;
        Ok(id)
    }
}

struct Blocker {
    text: String,
    unreadable: bool,
}

/// A lock, held and refreshed for as long as this lives.
pub(crate) struct Held {
    shared: Arc<Shared>,
    refresher: Option<JoinHandle<()>>,
}

struct Shared {
    locks: Locks,
    mode: Mode,
    /// The present file; `None` once it is released.
    id: Mutex<Option<Id>>,
}

impl Held {
    fn new(locks: Locks, mode: Mode, id: Id) -> Self {
        let shared = Arc::new(Shared {
            locks,
            mode,
            id: Mutex::new(Some(id)),
        });
        let refresher = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.refresh())
        };
        let held = Self {
            shared,
            refresher: Some(refresher),
        };
        let shared = Arc::clone(&held.shared);
        let gate = held.shared.locks.gate.clone();
        gate.confirm_with(Some(Arc::new(move || shared.is_there())));
        held.shared
            .locks
            .ui
            .step(format_args!("holds the lock {}", &id.to_hex()[..8]));
        held
    }
}

impl Held {
    /// Whether nobody else had one a moment ago.
    pub(crate) fn is_alone(&self) -> bool {
        let ours = *self.shared.id();
        let listed = self.shared.locks.store.list();
        listed.is_ok_and(|ids| ids.iter().all(|id| Some(*id) == ours))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.locks.gate.confirm_with(None);
        self.shared.release();
        if let Some(refresher) = self.refresher.take() {
            refresher.thread().unpark();
            // It may be waiting for a server; nobody waits for it. What it puts down then, it removes.
            drop(refresher);
        }
    }
}

impl Shared {
    fn id(&self) -> MutexGuard<'_, Option<Id>> {
        self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) -> &Stop {
        self.locks.gate.stop()
    }

    fn release(&self) {
        let Some(id) = self.id().take() else { return };
        if let Err(error) = self.locks.store.remove(&id) {
            self.locks.ui.warn(format_args!(
                "the lock {} could not be removed, and is stale in 30 minutes (`restic unlock` removes it): {error}",
                &id.to_hex()[..8]
            ));
        }
    }

    /// Whether the lock is still there; somebody may have removed it by force.
    fn is_there(&self) -> Result<(), String> {
        // It may be replaced by a fresh one between the two looks.
        for _ in 0..2 {
            let Some(id) = *self.id() else { break };
            let listed = self.locks.store.list().map_err(|error| error.to_string())?;
            if listed.contains(&id) {
                return Ok(());
            }
        }
        Err(
            "somebody removed the lock of this run, so that its data may have been pruned"
                .to_owned(),
        )
    }

    /// Refreshes until it is released.
    fn refresh(&self) {
        let mut refreshed = Instant::now();
        let mut next = refreshed + REFRESH;
        let mut stopped: Option<Instant> = None;
        loop {
            thread::park_timeout(Duration::from_millis(250));
            if self.id().is_none() {
                return;
            }
            if self.stop().is_set() {
                let since = stopped.get_or_insert_with(Instant::now).elapsed();
                // What still waits for a server writes nothing any more: the gate is shut.
                if self.mode == Mode::Shared && since > AFTER_SIGNAL {
                    self.release();
                    return;
                }
                continue;
            }
            if Instant::now() < next {
                continue;
            }
            match self.locks.put(self.mode) {
                Ok(fresh) => {
                    let old = {
                        let mut id = self.id();
                        match *id {
                            Some(_) => id.replace(fresh),
                            // Released meanwhile: nothing must stay.
                            None => Some(fresh),
                        }
                    };
                    if let Some(Err(error)) = old.map(|old| self.locks.store.remove(&old)) {
                        self.locks
                            .ui
                            .step(format_args!("an old lock could not be removed: {error}"));
                    }
                    refreshed = Instant::now();
                    next = refreshed + REFRESH;
                }
                Err(error) => {
                    self.locks
                        .ui
                        .step(format_args!("the lock could not be refreshed: {error}"));
                    next = Instant::now() + REFRESH / 5;
                    if refreshed.elapsed() > LOST {
                        self.locks.gate.fail(format!(
                            "the lock could not be refreshed for 25 minutes: {error}"
                        ));
                    }
                }
            }
        }
    }
}

fn random_byte() -> u8 {
    let mut byte = [0];
    // Without it two would only wait the same.
    _ = getrandom::fill(&mut byte);
    byte[0]
}
