//! A repository lock keeps other programs' hands off what a run needs, and ours off theirs: a file in
//! the repository, by restic's own rules (restic, repository design, "Locks"), so that stock restic
//! honours it and we honour restic's.
//! One file, since locks and what is held are each other's.
//!
//! Shared locks go together; an exclusive one goes with none. Whoever wants one looks, puts his own
//! down, waits a moment and looks again. A lock is refreshed every five minutes, and is stale after
//! thirty; one of our own at once where its process is gone. restic says that of any lock that has this
//! machine's name, when it is asked to (`restic unlock`). We clear locks with nobody watching, and two
//! containers may have one name and never see each other's processes.
//!
//! More than 400 lines, since those who take a lock and the lock that is held watch each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use chrono::Utc;
use hapi_sources::{CaptureError, Stop};
use rustic_core::Id;
use rustic_core::repofile::MasterKey;
use sha2::{Digest, Sha256};

use crate::destination::lock_files::LockStore;
use crate::error::Error;
use crate::machine::private_files::{private_folder, write_private};
use crate::repository::gate::Gate;
pub(crate) use crate::repository::lock_file::Mode;
use crate::repository::lock_file::{LockFile, LockKey, lives};
use crate::repository::name::is_hash_of;
use crate::terminal::ui::Ui;
use crate::words::by_restic;

/// How often a lock is refreshed (restic, `refreshInterval`). A build with debug assertions takes seconds
/// from `RUSTIC_HAPI_TEST_LOCK_REFRESH`.
fn refresh_interval() -> Duration {
    test_seconds("RUSTIC_HAPI_TEST_LOCK_REFRESH").unwrap_or(Duration::from_secs(5 * 60))
}

/// How long a lock may go without before it counts as lost: others will soon call it stale.
const LOST: Duration = Duration::from_secs(25 * 60);

/// How long somebody else gets to put his own down, too (restic, `waitBeforeLockCheck`).
const SETTLE: Duration = Duration::from_millis(200);

/// How long after a signal a shared lock is removed, whatever the run is waiting for: soon after, the
/// run is ended the hard way.
const AFTER_SIGNAL: Duration = Duration::from_secs(15);

/// How long what adds or reads waits for what deletes.
pub(crate) const SHARED_WAIT: Duration = Duration::from_secs(10 * 60);

/// How long what deletes waits for everybody else.
pub(crate) fn exclusive_wait() -> Duration {
    test_seconds("RUSTIC_HAPI_TEST_LOCK_WAIT").unwrap_or(Duration::from_secs(60))
}

fn test_seconds(name: &str) -> Option<Duration> {
    let asked = cfg!(debug_assertions).then(|| std::env::var(name).ok())??;
    asked.parse().ok().map(Duration::from_secs)
}

/// The locks of one repository.
#[derive(Clone)]
pub(crate) struct Locks {
    store: Arc<dyn LockStore>,
    /// Where locks of ours are noted, so that a later run knows what a crash of ours left.
    notes: PathBuf,
    key: Arc<LockKey>,
    location: String,
    gate: Gate,
    ui: Ui,
}

impl Locks {
    /// Those in `store`. A lock that is lost shuts the gate.
    pub(crate) fn new(
        store: Arc<dyn LockStore>,
        state: PathBuf,
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
            notes: state.join("own-locks"),
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
                    hint: blocker.remedy,
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
        let (now, host) = (Utc::now(), crate::machine::process::host_name());
        let noted = self.noted();
        let mut found = None;
        for id in self.store.list()? {
            if Some(&id) == ours {
                continue;
            }
            let name = &id.to_hex()[..8];
            let file = match self.read(&id)? {
                Read::Gone => continue,
                Read::Torn => {
                    self.remove_torn(&id);
                    continue;
                }
                Read::Lock(file) => file,
                Read::Unreadable => {
                    let text = format!("the lock {name} cannot be read");
                    found = Some(Blocker {
                        text,
                        remedy: UNREADABLE.to_owned(),
                    });
                    continue;
                }
            };
            // Another machine may have this one's name, and another container its processes: only of a lock
            // of our own a process that is gone says that it is.
            let is_ours = noted.contains(&id);
            if file.is_stale(now, &host, |pid| !is_ours || lives(pid)) {
                let left = format!(
                    "process {} on {} ({})",
                    file.pid,
                    file.hostname,
                    file.time.format("%Y-%m-%d %H:%M")
                );
                match self.store.remove(&id) {
                    Ok(()) => {
                        self.forget(&id);
                        self.ui.step(format_args!(
                            "removed the stale lock {name}, left by {left}"
                        ))
                    }
                    Err(error) => self.ui.step(format_args!(
                        "the stale lock {name}, left by {left}, cannot be removed: {error}"
                    )),
                }
            } else if file.excludes(mode) && found.is_none() {
                found = Some(Blocker {
                    text: file.holder(),
                    remedy: file.remedy(now, &host),
                });
            }
        }
        Ok(found)
    }

    /// Those that the next run waits for; it removes what is stale or torn. Changes nothing.
    pub(crate) fn in_the_way(&self) -> Result<Vec<InTheWay>, Error> {
        let (now, host) = (Utc::now(), crate::machine::process::host_name());
        let noted = self.noted();
        let mut found = Vec::new();
        for id in self.store.list()? {
            let name = &id.to_hex()[..8];
            match self.read(&id)? {
                Read::Lock(file)
                    if !file.is_stale(now, &host, |pid| !noted.contains(&id) || lives(pid)) =>
                {
                    found.push(InTheWay {
                        fact: format!("{name}: {}", file.in_words(now, &host)),
                        remedy: file.remedy(now, &host),
                        blocks_all: file.excludes(Mode::Shared),
                    });
                }
                Read::Unreadable => found.push(InTheWay {
                    fact: format!("{name}: cannot be read"),
                    remedy: UNREADABLE.to_owned(),
                    blocks_all: true,
                }),
                _ => {}
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
        self.note(&id);
        if let Err(error) = self.store.write(&id, sealed) {
            // It may be there all the same: only the answer was lost.
            if self.store.remove(&id).is_ok() {
                self.forget(&id);
            }
            return Err(error);
        }
        Ok(id)
    }

    /// Reads a lock that is listed.
    fn read(&self, id: &Id) -> Result<Read, Error> {
        /// A file so small is sent in far less, also over a slow link.
        const SENT: Duration = Duration::from_secs(5);
        let begun = Instant::now();
        loop {
            let stored = self.store.read(id)?;
            let is_whole = stored.as_ref().is_some_and(|stored| is_hash_of(id, stored));
            if let Some(stored) = stored.as_ref().filter(|_| is_whole) {
                return Ok(LockFile::open(stored, &self.key).map_or(Read::Unreadable, Read::Lock));
            }
            // "Not there" is what some servers say of anything that goes wrong behind them.
            if !self.store.list()?.contains(id) {
                return Ok(Read::Gone);
            }
            if begun.elapsed() > SENT {
                return Ok(match stored {
                    Some(_) => Read::Torn,
                    None => Read::Unreadable,
                });
            }
            self.gate.stop().progressed();
            thread::sleep(Duration::from_millis(250));
        }
    }

    /// What a crash left of a lock before it was one; whoever had it never got to his work.
    fn remove_torn(&self, id: &Id) {
        let name = &id.to_hex()[..8];
        match self.store.remove(id) {
            Ok(()) => self.ui.step(format_args!("removed the torn lock {name}")),
            Err(error) => self.ui.step(format_args!(
                "the torn lock {name} cannot be removed: {error}"
            )),
        }
    }

    /// Locks of ours that are not known to be removed. What cannot be read or written of it costs a
    /// wait for half an hour at most.
    fn noted(&self) -> BTreeSet<Id> {
        let text = fs::read_to_string(&self.notes).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn note(&self, id: &Id) {
        let mut noted = self.noted();
        noted.insert(*id);
        self.write_notes(&noted);
    }

    fn forget(&self, id: &Id) {
        let mut noted = self.noted();
        if noted.remove(id) {
            self.write_notes(&noted);
        }
    }

    fn write_notes(&self, noted: &BTreeSet<Id>) {
        let lines: String = noted
            .iter()
            .map(|id| format!("{}\n", id.to_hex().as_str()))
            .collect();
        let folder = self.notes.parent().unwrap_or(&self.notes);
        _ = private_folder(folder).and_then(|()| write_private(&self.notes, lines.as_bytes()));
    }
}

/// What is behind the name of a lock.
enum Read {
    Lock(LockFile),
    /// Removed meanwhile.
    Gone,
    /// Never written whole.
    Torn,
    /// Not to be read, or not with this key.
    Unreadable,
}

struct Blocker {
    text: String,
    remedy: String,
}

const UNREADABLE: &str = concat!(
    "is it left over from a crash? Make sure that no program uses the repository; then ",
    by_restic!("unlock --remove-all"),
    " removes all locks"
);

/// A lock that a run waits for.
pub(crate) struct InTheWay {
    /// Whose it is, how old, and whether its process lives.
    pub(crate) fact: String,
    /// What removes it.
    pub(crate) remedy: String,
    /// Whether snapshots wait for it; for others only retention does.
    pub(crate) blocks_all: bool,
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
    /// Takes it away, where it matters whether that can be done.
    ///
    /// # Errors
    /// What kept it from being removed.
    pub(crate) fn end(self) -> Result<(), Error> {
        let id = self.shared.id().take();
        let Some(id) = id else { return Ok(()) };
        self.shared.locks.store.remove(&id)?;
        self.shared.locks.forget(&id);
        Ok(())
    }

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
        let removed = self.locks.store.remove(&id);
        if removed.is_ok() {
            self.locks.forget(&id);
        }
        if let Err(error) = removed {
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
                return self.is_honoured(&id);
            }
        }
        Err(
            "another program removed the lock of this run, so its data may have been pruned"
                .to_owned(),
        )
    }

    /// Whether nobody has a lock that excludes it: after a sleep of this machine, others may have taken it
    /// for stale, and begun.
    fn is_honoured(&self, id: &Id) -> Result<(), String> {
        for _ in 0..2 {
            match self.locks.blocker(self.mode, Some(id)) {
                Ok(None) => return Ok(()),
                Ok(Some(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
            // One who saw ours only after he had put down his own takes it away again.
            thread::sleep(SETTLE * 5);
        }
        Err("another program took an exclusive lock despite the lock of this run, so its data may have been pruned".to_owned())
    }

    /// Refreshes until it is released.
    fn refresh(&self) {
        let mut refreshed = SystemTime::now();
        let interval = refresh_interval();
        let mut next = Instant::now() + interval;
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
            // The wall's clock goes on while the machine sleeps, and so does everybody else's.
            let age = refreshed.elapsed().unwrap_or_default();
            if Instant::now() < next && age < interval + interval / 2 {
                continue;
            }
            if age > LOST {
                let fact = "the lock of this run was not refreshed for 25 minutes, so other programs may have taken it for stale";
                self.locks.gate.fail(fact.to_owned());
                return;
            }
            // One that somebody removed is not put down again: he may be at work by now.
            if let Err(fact) = self.is_there() {
                self.locks.ui.step(&fact);
                self.locks.gate.fail(fact);
                return;
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
                    let removed = old.map(|old| {
                        self.locks.store.remove(&old)?;
                        self.locks.forget(&old);
                        Ok::<(), Error>(())
                    });
                    if let Some(Err(error)) = removed {
                        self.locks
                            .ui
                            .step(format_args!("an old lock could not be removed: {error}"));
                    }
                    refreshed = SystemTime::now();
                    next = Instant::now() + interval;
                }
                Err(error) => {
                    self.locks
                        .ui
                        .step(format_args!("the lock could not be refreshed: {error}"));
                    next = Instant::now() + interval / 5;
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
