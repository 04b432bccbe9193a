//! The commit gate stands between the engine and the backend. It knows what a snapshot is to hold,
//! watches every stream that is read for it, and refuses the snapshot file, which the engine writes last, unless
//! every stream ended whole and every check agreed with what the manifest says of it.
//! One file, since everything in it serves the one refusal.
//!
//! The engine itself logs a source that fails as "ignoring error" and saves the snapshot without
//! it. With the gate such a run ends in an error and leaves the repository as it was, some
//! unreferenced packs aside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::destination::folder::{path_in, remedy};
use crate::error::{Reason, Remedied};
use crate::machine::able::sync_folder;
use bytes::Bytes;
use hapi_sources::{Integrity, IntegrityVerdict, Stop};
use rustic_core::{
    BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend,
};

/// A backend that lets a snapshot through only when the gate is satisfied.
#[derive(Debug)]
pub(crate) struct GatedBackend {
    inner: Arc<dyn WriteBackend>,
    /// The repository's folder, where it is local: listed strictly and synced after writes.
    local: Option<PathBuf>,
    gate: Gate,
    /// Damaged key files, which would keep the engine from trying the sound ones.
    hidden_keys: Vec<Id>,
}

/// What the gate knows; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    state: Arc<Mutex<GateState>>,
    confirm: Arc<Mutex<Option<Confirm>>>,
    /// Snapshot files of other programs in a form that the engine can read (see `foreign.rs`).
    translated: Arc<Mutex<BTreeMap<Id, Bytes>>>,
    stop: Stop,
}

/// A last look before the snapshot is let through.
pub(crate) type Confirm = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct GateState {
    /// Streams that must end whole before a snapshot may be written; `None` outside a run.
    open: Option<BTreeSet<usize>>,
    /// What SQLite's checks must have found nothing in, where the manifest presumes that.
    verdicts: Vec<(PathBuf, IntegrityVerdict)>,
    /// Whether that is why a snapshot was refused, with nothing else on record.
    presumed_wrongly: bool,
    failures: Vec<Reason>,
    written: Written,
    /// When [`Gate::may_delete`] last looked.
    confirmed: Option<Instant>,
}

/// What a run has written to the backend.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// Packs with their sizes in bytes.
    pub packs: BTreeMap<Id, u32>,
    pub snapshot: Option<Id>,
}

impl Written {
    pub(crate) fn bytes(&self) -> u64 {
        self.packs.values().map(|size| u64::from(*size)).sum()
    }
}

impl Gate {
    /// A gate that also refuses everything once `stop` is set.
    pub(crate) fn new(stop: Stop) -> Self {
        Self {
            state: Arc::default(),
            confirm: Arc::default(),
            translated: Arc::default(),
            stop,
        }
    }

    /// A snapshot of these streams begins, whose manifest presumes that these verdicts, some of them
    /// still to come, are good.
    pub(crate) fn begin(
        &self,
        streams: impl IntoIterator<Item = usize>,
        verdicts: Vec<(PathBuf, IntegrityVerdict)>,
    ) {
        *self.state() = GateState {
            open: Some(streams.into_iter().collect()),
            verdicts,
            ..GateState::default()
        };
    }

    /// Stream `index` ended, and was exactly what it should be.
    pub(crate) fn whole(&self, index: usize) {
        if let Some(open) = &mut self.state().open {
            open.remove(&index);
        }
    }

    /// Something went wrong: no snapshot will be let through.
    pub(crate) fn fail(&self, failure: impl Into<Reason>) {
        let failure = failure.into();
        let mut state = self.state();
        // The first few tell the story; a full disk fails a thousand times.
        if state.failures.len() < 8 && !state.failures.contains(&failure) {
            state.failures.push(failure);
        }
    }

    /// Has this looked at, last of all, before a snapshot is let through.
    pub(crate) fn confirm_with(&self, confirm: Option<Confirm>) {
        *self.confirm.lock().unwrap_or_else(PoisonError::into_inner) = confirm;
    }

    pub(crate) fn failures(&self) -> Vec<Reason> {
        self.state().failures.clone()
    }

    /// Whether the snapshot was refused for what SQLite found in a copy that the manifest presumes to be
    /// sound, and for nothing else.
    pub(crate) fn presumed_wrongly(&self) -> bool {
        self.state().presumed_wrongly
    }

    /// Ends the run and hands out what it wrote.
    pub(crate) fn end(&self) -> Written {
        std::mem::take(&mut *self.state()).written
    }

    /// Whether the end was asked for.
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    fn verdict(&self) -> Result<(), String> {
        let verdicts = {
            let state = self.state();
            if let Some(failure) = state.failures.first() {
                return Err(failure.text.clone());
            }
            match &state.open {
                None => return Err("no run is under way".to_owned()),
                Some(open) if open.is_empty() => {}
                Some(open) => return Err(format!("{} streams did not end whole", open.len())),
            }
            state.verdicts.clone()
        };
        for (path, verdict) in verdicts {
            if verdict.wait() != Ok(Integrity::Ok) {
                self.state().presumed_wrongly = true;
                return Err(format!(
                    "SQLite's check of `{}` did not end as presumed",
                    path.display()
                ));
            }
        }
        // Last of all, and with little time to the snapshot.
        self.confirm()
    }

    /// Looks whether what the work relies on still holds: that nobody removed its lock.
    pub(crate) fn confirm(&self) -> Result<(), String> {
        let confirm = self.confirm.lock().unwrap_or_else(PoisonError::into_inner);
        let confirm = confirm.clone();
        match confirm {
            Some(confirm) => confirm(),
            None => Ok(()),
        }
    }

    /// The same for what deletes many files, and need not look before each of them.
    fn may_delete(&self) -> Result<(), String> {
        const LATELY: Duration = Duration::from_secs(20);
        if self.stop.is_set() {
            return Err("the run was told to stop".to_owned());
        }
        let state = self.state();
        if let Some(failure) = state.failures.first() {
            return Err(failure.text.clone());
        }
        if state.confirmed.is_some_and(|at| at.elapsed() < LATELY) {
            return Ok(());
        }
        drop(state);
        self.confirm()?;
        self.state().confirmed = Some(Instant::now());
        Ok(())
    }

    /// Snapshot files that are not read as they are stored.
    pub(super) fn translated(&self) -> MutexGuard<'_, BTreeMap<Id, Bytes>> {
        self.translated
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GatedBackend {
    /// Puts the gate before a backend. `local` is its folder, if it has one.
    pub(crate) fn new(inner: Arc<dyn WriteBackend>, local: Option<PathBuf>, gate: Gate) -> Self {
        Self {
            inner,
            local,
            gate,
            hidden_keys: Vec::new(),
        }
    }

    /// The same without these key files.
    #[must_use]
    pub(crate) fn without_keys(self, hidden_keys: Vec<Id>) -> Self {
        Self {
            hidden_keys,
            ..self
        }
    }
}

const GONE: &str = "a part of the repository is gone or cannot be read: put it back from another copy, or look at the disk; nothing was changed";

fn refused(reason: &str) -> Box<RusticError> {
    RusticError::new(
        ErrorKind::Verification,
        "the commit gate refused the snapshot: {reason}",
    )
    .attach_context("reason", reason)
}

impl ReadBackend for GatedBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.gate.stop.progressed();
        if tpe == FileType::Key && !self.hidden_keys.is_empty() {
            let mut keys = self.inner.list_with_size(tpe)?;
            keys.retain(|(id, _)| !self.hidden_keys.contains(id));
            return Ok(keys);
        }
        match &self.local {
            // The local backend logs listing errors and goes on: a plan to delete could then rest
            // on half a list.
            Some(folder) if tpe != FileType::Config => {
                let mut files = Vec::new();
                list_strictly(&folder.join(tpe.dirname()), &mut files).map_err(|error| {
                    let barred = match error.kind() {
                        io::ErrorKind::PermissionDenied => {
                            remedy(folder, &folder.join(tpe.dirname()))
                        }
                        _ => None,
                    };
                    let error = Remedied {
                        remedy: barred.map_or(GONE.into(), Into::into),
                        error: Some(error),
                    };
                    RusticError::with_source(ErrorKind::Backend, "cannot list `{path}`", error)
                        .attach_context("path", folder.join(tpe.dirname()).to_string_lossy())
                })?;
                Ok(files)
            }
            _ => self.inner.list_with_size(tpe),
        }
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        if tpe == FileType::Snapshot
            && let Some(translated) = self.gate.translated().get(id)
        {
            return Ok(translated.clone());
        }
        let read = self.inner.read_full(tpe, id);
        self.gate.stop.progressed();
        read
    }

    fn read_partial(
        &self,
        tpe: FileType,
        id: &Id,
        cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        let read = self.inner.read_partial(tpe, id, cacheable, offset, length);
        self.gate.stop.progressed();
        read
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        self.inner.warmup_path(tpe, id)
    }
}

impl WriteBackend for GatedBackend {
    fn create(&self) -> RusticResult<()> {
        self.inner.create()
    }

    fn write_bytes(
        &self,
        tpe: FileType,
        id: &Id,
        cacheable: bool,
        content: BytesList,
    ) -> RusticResult<()> {
        if self.gate.stop.is_set() {
            self.gate.fail("the run was told to stop".to_owned());
            return Err(refused("the run was told to stop"));
        }
        if tpe == FileType::Snapshot {
            self.gate.verdict().map_err(|reason| {
                self.gate.fail(reason.clone());
                refused(&reason)
            })?;
        }
        self.gate.stop.progressed();
        let size = u32::try_from(content.size()).unwrap_or(u32::MAX);
        let written = self
            .inner
            .write_bytes(tpe, id, cacheable, content)
            .and_then(|()| {
                self.local
                    .as_deref()
                    .map_or(Ok(()), |folder| sync_parent(folder, tpe, id))
            });
        if let Err(error) = &written {
            self.gate.fail(Reason::of(error));
        } else {
            let mut state = self.gate.state();
            match tpe {
                FileType::Pack => _ = state.written.packs.insert(*id, size),
                FileType::Snapshot => state.written.snapshot = Some(*id),
                _ => {}
            }
        }
        written
    }

    fn remove(&self, tpe: FileType, id: &Id, cacheable: bool) -> RusticResult<()> {
        // A prune may end anywhere; an unproven snapshot must go all the same.
        if tpe != FileType::Snapshot {
            self.gate.may_delete().map_err(|reason| refused(&reason))?;
        }
        let removed = self.inner.remove(tpe, id, cacheable);
        self.gate.stop.progressed();
        match &self.local {
            // That it is gone already is what was wanted: restic's prune deletes what ours marked.
            Some(folder) if removed.is_err() && !path_in(folder, tpe, id).exists() => Ok(()),
            _ => removed,
        }
    }
}

fn list_strictly(folder: &Path, files: &mut Vec<(Id, u32)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list_strictly(&entry.path(), files)?;
        } else if kind.is_file()
            && let Ok(id) = entry.file_name().to_string_lossy().parse::<Id>()
        {
            let size = match entry.metadata() {
                Ok(metadata) => metadata.len(),
                // Deleted between the two calls: it is not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            files.push((id, u32::try_from(size).unwrap_or(u32::MAX)));
        }
    }
    Ok(())
}

/// The local backend syncs a file before its rename, but not the folder that holds the new name.
fn sync_parent(folder: &Path, tpe: FileType, id: &Id) -> RusticResult<()> {
    let file = path_in(folder, tpe, id);
    let parent = file.parent().unwrap_or(folder).to_path_buf();
    sync_folder(&parent).map_err(|error| {
        RusticError::with_source(
            ErrorKind::InputOutput,
            "cannot sync the folder `{path}`",
            error,
        )
        .attach_context("path", parent.to_string_lossy())
    })
}
