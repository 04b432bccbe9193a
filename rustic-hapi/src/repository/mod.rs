//! A repository of ours: opened with the profile's password behind the commit gate, known by its
//! id, and never mistaken for one that is missing.
//!
//! Knows: restic's format, by rustic_core. Must not know: sources, series, retention.

pub(crate) mod gate;
pub(crate) mod keys;
pub(crate) mod lock;
pub(crate) mod lock_file;
pub(crate) mod loose_packs;
pub(crate) mod password;
pub(crate) mod readahead;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, FixedOffset};
use hapi_sources::Stop;
use rustic_core::repofile::{Chunker, IndexFile, SnapshotFile, SnapshotId};
use rustic_core::{
    CheckOptions, ConfigOptions, Credentials, FileType, Id, IndexedFullStatus, IndexedIdsStatus,
    KeyOptions, OpenStatus, PruneOptions, RepairIndexOptions, RepositoryBackends,
    RepositoryOptions, TreeId, WriteBackend,
};
use sha2::Digest;

use crate::destination::Destination;
use crate::destination::location::Location;
use crate::destination::presence::Presence;
use crate::destination::rest::Patience;
use crate::error::Error;
use crate::profile::Profile;
use crate::repository::gate::{Gate, GatedBackend};
use crate::repository::lock::{Held, Locks, Mode, SHARED_WAIT};
use crate::repository::loose_packs::OnlyThese;
use crate::repository::readahead::Readahead;
use crate::terminal::ui::Ui;

/// The engine's handle on a repository whose index is loaded.
pub(crate) type Engine = rustic_core::Repository<IndexedFullStatus>;

/// The engine's handle to write with.
pub(crate) type Writing = rustic_core::Repository<IndexedIdsStatus>;

/// An open repository.
pub struct Repository {
    pub(crate) inner: rustic_core::Repository<OpenStatus>,
    pub(crate) backend: Arc<dyn WriteBackend>,
    destination: Destination,
    /// The profile's folder, which notes our locks.
    state: PathBuf,
    gate: Gate,
    ui: Ui,
}

/// Bytes a chunk, by the size of the databases that go in: small chunks find more that is the
/// same, and cost an id each in the tree and in the index. Fixed for a repository's life.
///
/// Of a gigabyte that a hub used for half a day, chunks of 16 KiB add 30 MB, of 12 KiB 25 MB, of 8 KiB 21 MB;
/// each step makes the first snapshot and a restore some tenth slower (docs/performance.md), and each id takes
/// memory several times over while a run compares.
pub fn chunk_size_for(database_bytes: u64) -> u64 {
    const GIB: u64 = 1 << 30;
    match database_bytes {
        b if b < 2 * GIB => 12 << 10,
        b if b < 4 * GIB => 16 << 10,
        b if b < 16 * GIB => 32 << 10,
        _ => 64 << 10,
    }
}

/// Bytes a pack, to begin with; the engine lets packs grow with the repository. Half a day's use is
/// some 30 MB, and the engine's own 32 MiB would send nothing before all of it was found: on a slow link
/// the upload goes on beside the archive. Several packs are in flight, and in memory, at once.
const PACK_SIZE: u64 = 8 << 20;

impl Repository {
    /// Opens the profile's repository with the password in its file.
    ///
    /// # Errors
    /// The password file, [`Error::NoRepository`] only where it is definitely absent,
    /// [`Error::WrongPassword`], [`Error::OtherRepository`] where the profile names another id.
    pub fn open(profile: &Profile, stop: &Stop, ui: Ui) -> Result<Self, Error> {
        let password = password::of(profile, stop)?;
        Self::open_as(profile, &password, Patience::Usual, stop, ui).map_err(of_the_file(profile))
    }

    /// The same where it answers at once: a server that does not is not asked again.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub fn open_at_once(profile: &Profile, stop: &Stop, ui: Ui) -> Result<Self, Error> {
        let password = password::of(profile, stop)?;
        Self::open_as(profile, &password, Patience::Once, stop, ui).map_err(of_the_file(profile))
    }

    /// Opens the profile's repository with another of its passwords.
    ///
    /// # Errors
    /// As [`Repository::open`], with [`Error::WrongKey`] where no key opens with it.
    pub fn open_with(
        profile: &Profile,
        password: &str,
        stop: &Stop,
        ui: Ui,
    ) -> Result<Self, Error> {
        Self::open_as(profile, password, Patience::Usual, stop, ui)
    }

    fn open_as(
        profile: &Profile,
        password: &str,
        patience: Patience,
        stop: &Stop,
        ui: Ui,
    ) -> Result<Self, Error> {
        let destination = reach(profile, patience, stop)?;
        destination.require()?;
        let (backend, gate, inner) = match unlock(&destination, password, stop, &ui, &[]) {
            Ok(unlocked) => unlocked,
            Err(Locked::Error(error)) => return Err(error),
            // A damaged key opens no more than a wrong password does, and the engine tries no
            // further after one that it cannot read.
            Err(Locked::Keys(damaged)) => {
                let names: Vec<_> = damaged
                    .iter()
                    .map(|id| id.to_hex().as_str()[..8].to_owned())
                    .collect();
                match unlock(&destination, password, stop, &ui, &damaged) {
                    Ok(unlocked) => {
                        ui.warn(format_args!(
                            "the key {} of the repository is damaged; another one opens it",
                            names.join(", ")
                        ));
                        unlocked
                    }
                    Err(_) => {
                        return Err(Error::DamagedKeys {
                            location: profile.location.to_string(),
                            keys: names,
                        });
                    }
                }
            }
        };
        let repository = Self {
            inner,
            backend,
            destination,
            state: profile.state.clone(),
            gate,
            ui,
        };
        match &profile.repository_id {
            Some(wanted) if *wanted != repository.id() => Err(Error::OtherRepository {
                location: profile.location.to_string(),
                found: repository.id(),
                wanted: wanted.clone(),
            }),
            _ => Ok(repository),
        }
    }

    /// Makes a repository (restic's version 2, fixed-size chunks, compressed, each blob verified
    /// before it is written) where there is none yet.
    ///
    /// # Errors
    /// [`Error::NotARepository`] where something else is there.
    pub fn init(profile: &Profile, chunk_size: u64, stop: &Stop) -> Result<Self, Error> {
        let password = password::of(profile, stop)?;
        let destination = reach(profile, Patience::Usual, stop)?;
        match destination.presence()? {
            Presence::Absent(_) => destination.remove_orphaned_keys()?,
            Presence::Repository | Presence::Nothing => {}
            other => other.require(&profile.location)?,
        }
        let (backend, gate) = gated(&destination, stop, &[]);
        let handle = engine(&backend, &profile.location, true, Ui::silent())?;
        let config = ConfigOptions::default()
            .set_version(2u32)
            .set_chunker(Chunker::FixedSize)
            .set_chunk_size(bytesize(chunk_size))
            .set_datapack_size(bytesize(PACK_SIZE))
            .set_extra_verify(true);
        let inner = handle
            .init(
                &Credentials::password(password.as_str()),
                // When the repository was made is nowhere else.
                &KeyOptions::default().with_created(true),
                &config,
            )
            .map_err(Error::engine("making the repository"))?;
        destination.make_room_for_locks()?;
        Ok(Self {
            inner,
            backend,
            destination,
            state: profile.state.clone(),
            gate,
            ui: Ui::silent(),
        })
    }

    /// Whether there is a repository at the profile's location, or room for one.
    ///
    /// # Errors
    /// [`Error::NotARepository`] where something else is there, or whatever keeps the answer from
    /// being certain.
    pub fn exists(profile: &Profile, stop: &Stop) -> Result<bool, Error> {
        let destination = reach(profile, Patience::Usual, stop)?;
        match destination.presence()? {
            Presence::Repository => Ok(true),
            Presence::Absent(_) | Presence::Nothing => Ok(false),
            other => other.require(&profile.location).map(|()| false),
        }
    }

    /// The repository's id, 64 hexadecimal digits.
    pub fn id(&self) -> String {
        self.inner.config().id.to_hex().to_string()
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        self.destination.location()
    }

    /// Bytes a chunk; `None` for content-defined chunks (a repository that restic made).
    pub fn chunk_size(&self) -> Option<usize> {
        let config = self.inner.config();
        matches!(config.chunker(), Chunker::FixedSize).then(|| config.chunk_size())
    }

    /// The gate its writes go through.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Takes a restic lock, waiting for at most `wait` for those in its way.
    ///
    /// # Errors
    /// [`Error::RepositoryLocked`], or what keeps locks from being listed or written.
    pub(crate) fn lock(&self, mode: Mode, wait: Duration) -> Result<Held, Error> {
        Locks::new(
            self.destination.locks(),
            self.state.clone(),
            &self.inner.key(),
            self.location().to_string(),
            self.gate.clone(),
            self.ui.clone(),
        )?
        .take(mode, wait)
    }

    /// Takes a shared lock where one can be written. Who reads can do without: a medium may be read-only,
    /// and a server may let nobody write.
    ///
    /// # Errors
    /// [`Error::RepositoryLocked`] where somebody deletes for longer than a while.
    pub(crate) fn lock_to_read(&self) -> Result<Option<Held>, Error> {
        match self.lock(Mode::Shared, SHARED_WAIT) {
            Ok(held) => Ok(Some(held)),
            Err(error @ (Error::RepositoryLocked { .. } | Error::Capture(_))) => Err(error),
            Err(error) => {
                self.ui
                    .step(format_args!("goes on without a lock: {error}"));
                Ok(None)
            }
        }
    }

    /// Takes up what uploads that broke off left, so that it is not sent again. Nobody else may be at
    /// work here: what another run has just sent looks the same.
    ///
    /// # Errors
    /// Those of reading and writing indexes; nothing is lost by them.
    pub(crate) fn take_up_loose_packs(&self) -> Result<(), Error> {
        let doing = || Error::engine("taking up what was sent before");
        let (sound, torn_indexes) = loose_packs::indexes(&*self.backend).map_err(doing())?;
        let files = sound
            .into_iter()
            .map(|id| self.inner.get_file::<IndexFile>(&id.into()));
        let mut loose = loose_packs::among(self.packs()?, files).map_err(doing())?;
        if loose.is_empty() && torn_indexes.is_empty() {
            return Ok(());
        }
        let torn = loose_packs::torn(&*self.backend, &loose);
        loose.retain(|(id, _)| !torn.contains(id));
        let size = loose.iter().map(|(_, size)| u64::from(*size)).sum();
        self.ui.step(format_args!(
            "takes up {} packs ({}) that were sent before; {} torn ones are left to a prune",
            loose.len(),
            crate::words::bytes(size),
            torn.len()
        ));
        let backend: Arc<dyn WriteBackend> =
            Arc::new(OnlyThese::new(Arc::clone(&self.backend), loose));
        // Without a cache, which would take the indexes that it is not shown for gone.
        engine(&backend, self.location(), false, Ui::silent())?
            .open(&Credentials::Masterkey(self.inner.key()))
            .and_then(|engine| engine.repair_index(&RepairIndexOptions::default(), false))
            .map_err(doing())?;
        for id in torn_indexes {
            self.backend
                .remove(FileType::Index, &id, true)
                .map_err(doing())?;
            self.ui.warn(format_args!(
                "removed the index file {}, which an upload left torn: what it listed is in another",
                &id.to_hex()[..8]
            ));
        }
        Ok(())
    }

    /// A handle to write a snapshot with, through the gate.
    pub(crate) fn for_writing(&self) -> Result<Writing, Error> {
        // The engine's handle cannot be cloned; the key spares a second key derivation.
        engine(&self.backend, self.location(), true, self.ui.clone())?
            .open(&Credentials::Masterkey(self.inner.key()))
            .and_then(rustic_core::Repository::to_indexed_ids)
            .map_err(Error::engine("reading the index"))
    }

    /// A second handle that shares nothing with this one but the key: no cache, and an index read
    /// anew from the backend. What it shows is what is there.
    pub(crate) fn reopen(&self) -> Result<Engine, Error> {
        let (backend, _) = gated(&self.destination, self.gate.stop(), &[]);
        engine(&backend, self.location(), false, Ui::silent())?
            .open(&Credentials::Masterkey(self.inner.key()))
            .and_then(rustic_core::Repository::to_indexed)
            .map_err(Error::engine("reading the index back"))
    }

    /// A handle to restore with: the index is loaded, and neighbouring blobs are fetched together.
    pub(crate) fn for_reading(&self) -> Result<Engine, Error> {
        let backend: Arc<dyn WriteBackend> =
            Arc::new(Readahead::new(Arc::clone(&self.backend), self.packs()?));
        engine(&backend, self.location(), true, Ui::silent())?
            .open(&Credentials::Masterkey(self.inner.key()))
            .and_then(rustic_core::Repository::to_indexed)
            .map_err(Error::engine("reading the index"))
    }

    /// The snapshot files that can be read, oldest first, and what is wrong with the others. For
    /// getting data back, where one damaged file must not stand in the way of the rest; whoever
    /// deletes needs all of them ([`Repository::snapshots`]).
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn readable_snapshots(&self) -> Result<(Vec<SnapshotFile>, Vec<String>), Error> {
        let (mut snapshots, mut unreadable) = (Vec::new(), Vec::new());
        for id in self.snapshot_ids()? {
            match self.readable_snapshot(id) {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(reason) => unreadable.push(format!(
                    "the snapshot file {} cannot be read: {reason}",
                    &id.to_hex()[..8]
                )),
            }
        }
        snapshots.sort_by_key(|snapshot| snapshot.time.timestamp());
        Ok((snapshots, unreadable))
    }

    /// All snapshot files, or those that can be read and the error: for what one torn file must not hide.
    ///
    /// # Errors
    /// They cannot be listed.
    pub(crate) fn snapshots_or_readable(
        &self,
    ) -> Result<(Vec<SnapshotFile>, Option<Error>), Error> {
        match self.snapshots() {
            Ok(files) => Ok((files, None)),
            Err(error @ Error::UnreadableSnapshots { .. }) => {
                Ok((self.readable_snapshots()?.0, Some(error)))
            }
            Err(error) => Err(error),
        }
    }

    fn readable_snapshot(&self, id: Id) -> Result<SnapshotFile, String> {
        let one_line = |error: Box<rustic_core::RusticError>| crate::error::one_line(&error);
        // A file is called by its hash, so one put in another's place is noticed.
        let stored = self
            .backend
            .read_full(FileType::Snapshot, &id)
            .map_err(one_line)?;
        if hex::encode(sha2::Sha256::digest(&stored)) != id.to_hex().as_str() {
            return Err("its name is not its hash".to_owned());
        }
        let id = SnapshotId::from(id);
        let mut snapshot: SnapshotFile = self.inner.get_file(&id).map_err(one_line)?;
        snapshot.id = id;
        _ = snapshot.original.get_or_insert(id);
        Ok(snapshot)
    }

    /// All snapshot files, ours and other people's, oldest first.
    ///
    /// # Errors
    /// Any that cannot be listed or read: half a list is no list.
    pub fn snapshots(&self) -> Result<Vec<SnapshotFile>, Error> {
        let mut snapshots = match self.inner.get_all_snapshots() {
            Ok(snapshots) => snapshots,
            Err(error) => {
                // Which one it is has to be known to whoever puts it right.
                return Err(match self.readable_snapshots()?.1.as_slice() {
                    [] => Error::engine("reading the snapshots")(error),
                    unreadable => Error::UnreadableSnapshots {
                        location: self.location().to_string(),
                        files: unreadable.join("; "),
                    },
                });
            }
        };
        snapshots.sort_by_key(|snapshot| snapshot.time.timestamp());
        Ok(snapshots)
    }

    /// The ids of all snapshot files, listed anew.
    pub fn snapshot_ids(&self) -> Result<Vec<Id>, Error> {
        let mut ids = self
            .backend
            .list(FileType::Snapshot)
            .map_err(Error::engine("listing the snapshots"))?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// What the files of the repository take, by kind; listed, not read.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn sizes(&self) -> Result<Sizes, Error> {
        let of = |kind| -> Result<Size, Error> {
            let files = self
                .backend
                .list_with_size(kind)
                .map_err(Error::engine("listing the repository's files"))?;
            Ok(Size {
                files: files.len() as u64,
                bytes: files.iter().map(|(_, bytes)| u64::from(*bytes)).sum(),
            })
        };
        Ok(Sizes {
            packs: of(FileType::Pack)?,
            index: of(FileType::Index)?,
            snapshots: of(FileType::Snapshot)?,
            keys: of(FileType::Key)?,
        })
    }

    /// The packs with their sizes, listed anew.
    pub(crate) fn packs(&self) -> Result<Vec<(Id, u32)>, Error> {
        self.backend
            .list_with_size(FileType::Pack)
            .map_err(Error::engine("listing the packs"))
    }

    /// Looks at structure and data as the engine does; errors and warnings, a line each.
    pub(crate) fn check(
        &self,
        options: CheckOptions,
        trees: Vec<TreeId>,
    ) -> Result<(Vec<String>, Vec<String>), Error> {
        // The engine's check panics over some damage (a tree that cannot be found, for one).
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.inner.check_with_trees(options, trees)
        }));
        let results = checked
            .map_err(|_| Error::Engine {
                doing: "checking the repository",
                reason: "the check gave up".to_owned(),
            })?
            .map_err(Error::engine("checking the repository"))?;
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        for (level, finding) in results.0 {
            let line = crate::error::shortened(&finding.to_string());
            // What a prune of ours marked, and restic's, which knows no marks, deleted.
            if line.contains("marked to-delete: true") && line.contains("not present") {
                warnings.push(line);
                continue;
            }
            // The engine keeps the name of its level to itself.
            match format!("{level:?}").as_str() {
                "Error" => errors.push(line),
                _ => warnings.push(line),
            }
        }
        Ok((errors, warnings))
    }

    /// Files of a kind that are called by their hash and are not what they are called, or cannot be
    /// read, and why.
    pub(crate) fn damaged_files(&self, kind: FileType) -> Result<Vec<(Id, String)>, Error> {
        damaged_files(&*self.backend, kind)
    }

    /// When the oldest key was made: when the repository was, as far as can be told.
    pub(crate) fn first_key_made(&self) -> Result<Option<DateTime<FixedOffset>>, Error> {
        #[derive(serde::Deserialize)]
        struct Key {
            created: Option<DateTime<FixedOffset>>,
        }
        let ids = self
            .backend
            .list(FileType::Key)
            .map_err(Error::engine("listing the keys"))?;
        // Key files are plain JSON (restic, repository design, "Keys, Encryption and MAC").
        let made = ids.iter().filter_map(|id| {
            let stored = self.backend.read_full(FileType::Key, id).ok()?;
            serde_json::from_slice::<Key>(&stored).ok()?.created
        });
        Ok(made.min())
    }

    /// Deletes snapshot files. Their data stays until a prune.
    ///
    /// # Errors
    /// The first failure; some may then be gone.
    pub fn delete_snapshots(&self, ids: &[SnapshotId]) -> Result<(), Error> {
        self.inner
            .delete_snapshots(ids)
            .map_err(Error::engine("removing snapshots"))
    }

    /// Prunes in two phases: packs without use are marked now, and deleted by a prune 23 hours or
    /// more later. Repacks at most 256 MiB.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn prune(&self) -> Result<Pruned, Error> {
        let mut options = PruneOptions::default();
        options.max_repack = rustic_core::LimitOption::Size(bytesize(256 << 20));
        let plan = self
            .inner
            .prune_plan(&options)
            .map_err(Error::engine("planning the prune"))?;
        let stats = &plan.stats;
        let pruned = Pruned {
            packs_marked: stats.packs.unused + stats.packs.repack + stats.packs_unref,
            packs_deleted: stats.packs_to_delete.remove,
            bytes_deleted: stats.size_to_delete.remove,
            bytes_repacked: stats.size_sum().repack,
        };
        self.inner
            .prune(&options, plan)
            .map_err(Error::engine("pruning"))?;
        if let Some(folder) = self.location().local() {
            remove_torn_packs(&folder.join("data")).map_err(|error| Error::State {
                path: folder.into(),
                error,
            })?;
        }
        Ok(pruned)
    }
}

/// What the files of a repository take, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sizes {
    /// Data and trees.
    pub packs: Size,
    /// What is in which pack.
    pub index: Size,
    /// Snapshots, ours and other people's.
    pub snapshots: Size,
    /// Keys.
    pub keys: Size,
}

impl Sizes {
    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        [self.packs, self.index, self.snapshots, self.keys]
            .iter()
            .map(|size| size.bytes)
            .sum()
    }
}

/// Files of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Size {
    /// How many.
    pub files: u64,
    /// What they take.
    pub bytes: u64,
}

/// What a prune did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pruned {
    /// Packs that are no longer needed, to be deleted by a later prune.
    pub packs_marked: u64,
    /// Packs marked earlier and deleted now.
    pub packs_deleted: u64,
    /// Their bytes.
    pub bytes_deleted: u64,
    /// Bytes of packs that were rewritten because part of them is unused.
    pub bytes_repacked: u64,
}

/// Removes what killed runs left of packs: files with the local backend's temporary name, a day old.
fn remove_torn_packs(data: &Path) -> io::Result<()> {
    const A_DAY: Duration = Duration::from_secs(24 * 3600);
    for folder in fs::read_dir(data)?.flatten() {
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let torn = file.file_name().to_string_lossy().ends_with("-tmp-");
            let modified = file.metadata().and_then(|m| m.modified());
            let old = modified.is_ok_and(|m| m.elapsed().is_ok_and(|age| age > A_DAY));
            if torn && old {
                fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}

/// Why a password opens nothing.
enum Locked {
    /// Perhaps because these key files are damaged.
    Keys(Vec<Id>),
    Error(Error),
}

type Unlocked = (
    Arc<dyn WriteBackend>,
    Gate,
    rustic_core::Repository<OpenStatus>,
);

/// Opens a repository with a password, leaving key files out.
fn unlock(
    destination: &Destination,
    password: &str,
    stop: &Stop,
    ui: &Ui,
    without: &[Id],
) -> Result<Unlocked, Locked> {
    let location = destination.location();
    let (backend, gate) = gated(destination, stop, without);
    let handle = engine(&backend, location, true, ui.clone()).map_err(Locked::Error)?;
    let error = match handle.open(&Credentials::password(password)) {
        Ok(inner) => return Ok((backend, gate, inner)),
        Err(error) => error,
    };
    let wrong = error.is_incorrect_password();
    if wrong && without.is_empty() {
        match backend.list(FileType::Key) {
            Ok(keys) if keys.is_empty() => {
                return Err(Locked::Error(Error::NotARepository {
                    location: location.to_string(),
                    fact: "has a `config` and no key, so that nothing opens it".into(),
                    hint: "is it a repository at all? If it was one, put `keys` back from another copy of it; nothing was changed".into(),
                }));
            }
            Err(error) => {
                return Err(Locked::Error(Error::engine("opening the repository")(
                    error,
                )));
            }
            Ok(_) => {}
        }
    }
    let error = match wrong {
        true => Error::WrongKey {
            location: location.to_string(),
        },
        false => Error::engine("opening the repository")(error),
    };
    if without.is_empty() && (wrong || error.to_string().contains("for key `")) {
        match damaged_files(&*backend, FileType::Key) {
            Ok(damaged) if !damaged.is_empty() => {
                return Err(Locked::Keys(
                    damaged.into_iter().map(|(id, _)| id).collect(),
                ));
            }
            _ => {}
        }
    }
    Err(Locked::Error(error))
}

/// See [`Repository::damaged_files`].
fn damaged_files(backend: &dyn WriteBackend, kind: FileType) -> Result<Vec<(Id, String)>, Error> {
    let ids = backend
        .list(kind)
        .map_err(Error::engine("listing the repository's files"))?;
    let mut damaged = Vec::new();
    for id in ids {
        match backend.read_full(kind, &id) {
            Err(error) => {
                let reason = crate::error::one_line(&error);
                damaged.push((id, format!("cannot be read: {reason}")));
            }
            Ok(stored) => {
                if hex::encode(sha2::Sha256::digest(&stored)) != id.to_hex().as_str() {
                    damaged.push((id, "is damaged: its name is not its hash".to_owned()));
                }
            }
        }
    }
    Ok(damaged)
}

/// The password that opens nothing is the one in the profile's file.
fn of_the_file(profile: &Profile) -> impl FnOnce(Error) -> Error {
    let origin = password::origin(profile);
    move |error| match error {
        Error::WrongKey { location } => Error::WrongPassword { origin, location },
        other => other,
    }
}

fn reach(profile: &Profile, patience: Patience, stop: &Stop) -> Result<Destination, Error> {
    let access = || profile.access();
    Destination::reach(&profile.location, access, &profile.home, patience, stop)
}

/// The backend of a destination, behind a gate of its own.
fn gated(
    destination: &Destination,
    stop: &Stop,
    without_keys: &[Id],
) -> (Arc<dyn WriteBackend>, Gate) {
    let gate = Gate::new(stop.clone());
    let local = destination.location().local().map(Path::to_path_buf);
    let backend = GatedBackend::new(destination.backend(), local, gate.clone());
    (Arc::new(backend.without_keys(without_keys.to_vec())), gate)
}

fn engine(
    backend: &Arc<dyn WriteBackend>,
    location: &Location,
    cache: bool,
    ui: Ui,
) -> Result<rustic_core::Repository<()>, Error> {
    let mut options = RepositoryOptions::default();
    // A cache of what is on a local disk anyway would only be a second copy of private data.
    options.no_cache = !cache || location.local().is_some();
    let backends = RepositoryBackends::new(Arc::clone(backend), None);
    rustic_core::Repository::new_with_progress(&options, &backends, ui)
        .map_err(Error::engine("reaching the repository"))
}

fn bytesize(bytes: u64) -> bytesize::ByteSize {
    bytesize::ByteSize(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page across two chunks would bring both along.
    #[test]
    fn chunks_hold_whole_pages_and_grow_with_the_databases() {
        let sizes = [0, 1 << 30, 2 << 30, 4 << 30, 16 << 30, 64 << 30].map(chunk_size_for);
        assert!(sizes.iter().all(|size| size % 4096 == 0), "{sizes:?}");
        assert!(sizes.is_sorted(), "{sizes:?}");
        assert_eq!(sizes[0], 12 << 10);
    }
}
