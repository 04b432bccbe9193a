//! The ledger is what this machine knows of its own snapshots: one JSON file a repository in the state
//! folder with each that it saved, until its own retention removes it.
//!
//! It tells what the repository cannot tell alone. A snapshot that is in the ledger and not in the
//! repository was removed by somebody else, or the storage was rolled back. A snapshot of this hub that
//! is in the repository and not in the ledger was written by somebody else: a clone of this machine, say.
//! A ledger that is lost begins anew with what is there, and tells of nothing before.

mod difference;
mod entry;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local};
use rustic_core::repofile::{SnapshotFile, SnapshotId};
use serde::{Deserialize, Serialize};

pub(crate) use self::difference::Difference;
use self::entry::Entry;
use crate::error::Error;
use crate::machine::private_files::write_private;
use crate::machine::record;
use crate::policy::history::Snapshot;
use crate::policy::retention::Plan;
use crate::profile::Profile;
use crate::repository::Repository;
use crate::state::present::Present;

/// The layout of the file.
const VERSION: u32 = 1;

/// What this machine saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Ledger {
    version: u32,
    /// Of this repository and hub; another one begins a ledger of its own.
    repository: String,
    hub: String,
    entries: Vec<Entry>,
    /// Whether it could not be written meanwhile: what is not in it may be this machine's all the same.
    #[serde(skip)]
    is_behind: bool,
    /// Whether this run said already that it cannot be written.
    #[serde(skip)]
    pub(crate) is_told: bool,
}

impl Ledger {
    /// One a repository: who tries another one loses nothing of this.
    fn file(state: &Path, repository: &str) -> PathBuf {
        let short = repository.get(..8).unwrap_or(repository);
        state.join(format!("saved-snapshots-{short}.json"))
    }

    /// Is there while a ledger could not be written. It is where the locks are, which no run goes without.
    fn behind(state: &Path, repository: &str) -> PathBuf {
        let file = Self::file(state, repository);
        let profile = state.file_name().unwrap_or_default().to_string_lossy();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let folder = state.parent().unwrap_or(state).join("locks");
        folder.join(format!("{profile}-{name}.behind"))
    }

    /// The ledger of a repository and the profile's hub; `None` where there is none, or it cannot be read.
    pub(crate) fn load(profile: &Profile, repository: &str) -> Option<Self> {
        let state = &profile.reach.state;
        let mut ledger: Self = record::load(&Self::file(state, repository)).ok()??;
        ledger.is_behind = Self::behind(state, repository).exists();
        let hub = ledger.hub == profile.hub.id.as_str();
        (ledger.version == VERSION && ledger.repository == repository && hub).then_some(ledger)
    }

    /// One that begins with what is there.
    pub(crate) fn begin(profile: &Profile, repository: &str, history: &[Snapshot]) -> Self {
        Self {
            version: VERSION,
            repository: repository.to_owned(),
            hub: profile.hub.id.to_string(),
            entries: history.iter().map(Entry::of).collect(),
            is_behind: false,
            is_told: false,
        }
    }

    /// Writes it down.
    ///
    /// # Errors
    /// [`Error::State`] with the file.
    pub(crate) fn store(&self, state: &Path) -> Result<(), Error> {
        let stored = record::store(&Self::file(state, &self.repository), self);
        let behind = Self::behind(state, &self.repository);
        match &stored {
            Ok(()) if self.is_behind => {}
            // There is none, as a rule.
            Ok(()) => _ = fs::remove_file(behind),
            // On a full disk, say, nothing can be written there either.
            Err(_) => _ = write_private(&behind, b""),
        }
        stored
    }

    /// A snapshot is about to be written: should the run be killed, it is this machine's all the same.
    pub(crate) fn writing(
        &mut self,
        series: &str,
        time: DateTime<Local>,
        tags: &[String],
        keep_until: Option<DateTime<Local>>,
    ) {
        self.entries.push(Entry {
            id: None,
            time: time.fixed_offset(),
            series: series.to_owned(),
            tags: tags.to_vec(),
            keep_until: keep_until.map(|until| until.to_utc()),
            removing: false,
            told: false,
        });
    }

    /// It was saved.
    pub(crate) fn saved(&mut self, time: DateTime<Local>, id: &str) {
        if let Some(entry) = self.entries.iter_mut().rfind(|entry| entry.time == time) {
            entry.id = Some(id.to_owned());
        }
    }

    /// It was removed again by the run that wrote it, since it could not be read back.
    pub(crate) fn taken_back(&mut self, time: DateTime<Local>) {
        if let Some(at) = self.entries.iter().rposition(|entry| entry.time == time) {
            self.entries.remove(at);
        }
    }

    /// These are this machine's as well, whoever wrote them: copies of its snapshots.
    pub(crate) fn adopt<'a>(&mut self, snapshots: impl IntoIterator<Item = &'a Snapshot>) {
        for snapshot in snapshots {
            if !self.entries.iter().any(|entry| entry.is(snapshot)) {
                self.entries.push(Entry::of(snapshot));
            }
        }
    }

    /// Whether a snapshot is in it that was saved, or removed by its own retention.
    pub(crate) fn has(&self, snapshot: &Snapshot) -> bool {
        let mut entries = self.entries.iter().filter(|entry| entry.id.is_some());
        entries.any(|entry| entry.is(snapshot))
    }

    /// What was saved, as retention plans it.
    pub(crate) fn snapshots(&self) -> impl Iterator<Item = Snapshot> {
        let saved = self.entries.iter().filter(|entry| entry.id.is_some());
        saved.map(Entry::snapshot)
    }

    /// Retention is about to remove these.
    pub(crate) fn removing(&mut self, ids: &[SnapshotId]) {
        let ids: BTreeSet<String> = ids.iter().map(|id| id.to_hex().to_string()).collect();
        for entry in &mut self.entries {
            entry.removing |= entry.id.as_ref().is_some_and(|id| ids.contains(id));
        }
    }

    /// Compares with the snapshots of this hub that there are now.
    ///
    /// # Errors
    /// Those of planning: what retention would remove is not missed.
    pub(crate) fn compare(
        &self,
        profile: &Profile,
        history: &[Snapshot],
        present: &Present,
        now: &DateTime<Local>,
    ) -> Result<Difference, Error> {
        let gone: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|entry| entry.id.is_some() && !entry.removing)
            .filter(|entry| !present.has(entry.id.as_ref(), entry.time.to_utc()))
            .collect();
        // Somebody who applies the same policy elsewhere, the server's side say, takes nothing away.
        let mut vanished = Vec::new();
        if !gone.is_empty() {
            let all = history
                .iter()
                .cloned()
                .chain(gone.iter().map(|e| e.snapshot()));
            let plan = Plan::make(&all.collect::<Vec<_>>(), &profile.retention, now)?;
            for entry in gone {
                let kept = plan
                    .decisions
                    .iter()
                    .any(|d| d.keep && entry.is(&d.snapshot));
                if kept && !entry.is_acknowledged(&profile.retention, &self.entries) {
                    vanished.push(entry.clone());
                }
            }
        }
        let is_known = |snapshot: &&Snapshot| self.entries.iter().any(|entry| entry.is(snapshot));
        let acknowledged = history
            .iter()
            .rfind(|s| s.is_acknowledged(&profile.retention))
            .map(|s| s.time);
        let foreign = history
            .iter()
            .filter(|snapshot| !self.is_behind && !is_known(snapshot))
            .filter(|snapshot| acknowledged.is_none_or(|until| snapshot.time > until))
            .cloned()
            .collect();
        Ok(Difference {
            is_new: vanished.iter().any(|entry| !entry.told),
            vanished,
            foreign,
            append_only: profile.append_only,
        })
    }

    /// Keeps what is there, and what is missed; a run has told of that now.
    pub(crate) fn settle(
        &mut self,
        history: &[Snapshot],
        present: &Present,
        difference: &Difference,
    ) {
        self.entries.retain_mut(|entry| {
            let missed = difference
                .vanished
                .iter()
                .any(|gone| gone.time == entry.time);
            entry.told |= missed;
            let there = history.iter().find(|snapshot| entry.is(snapshot));
            if let (None, Some(there)) = (&entry.id, there) {
                entry.id = Some(there.id.to_hex().to_string());
            }
            missed || there.is_some() || present.has(entry.id.as_ref(), entry.time.to_utc())
        });
        if self.is_behind {
            let unknown = history
                .iter()
                .filter(|snapshot| !self.entries.iter().any(|entry| entry.is(snapshot)))
                .map(Entry::of)
                .collect::<Vec<_>>();
            self.entries.extend(unknown);
            self.is_behind = false;
        }
    }
}

/// Notes that retention is about to remove these, where there is a ledger.
pub(crate) fn removing(
    profile: &Profile,
    repository: &str,
    ids: &[SnapshotId],
) -> Result<(), Error> {
    match Ledger::load(profile, repository) {
        None => Ok(()),
        Some(mut ledger) => {
            ledger.removing(ids);
            ledger.store(&profile.reach.state)
        }
    }
}

/// What is missed and what is foreign, for commands that only look; nothing where there is no ledger.
pub(crate) fn look(
    profile: &Profile,
    repository: &Repository,
    files: &[SnapshotFile],
    history: &[Snapshot],
    now: &DateTime<Local>,
) -> Result<Difference, Error> {
    match Ledger::load(profile, &repository.id()) {
        None => Ok(Difference::default()),
        Some(ledger) => {
            let present = Present::of(repository, files)?;
            ledger.compare(profile, history, &present, now)
        }
    }
}
