//! The files of a repository, by kind: what there is, what it takes, and which of it cannot be trusted.

use std::collections::BTreeSet;
use std::fmt;

use rustic_core::repofile::{SnapshotFile, SnapshotId};
use rustic_core::{FileType, Id, WriteBackend};

use crate::error::{Error, Reason};
use crate::repository::lock_file::LockKey;
use crate::repository::name::is_hash_of;
use crate::repository::{Repository, foreign};

impl Repository {
    /// The snapshot files that can be read, oldest first, and what is wrong with the others. For
    /// getting data back, where one damaged file must not stand in the way of the rest; whoever
    /// deletes needs all of them ([`Repository::snapshots`]).
    ///
    /// # Errors
    /// They cannot be listed.
    pub(crate) fn readable_snapshots(&self) -> Result<(Vec<SnapshotFile>, Vec<Flawed>), Error> {
        let ids = self.snapshot_ids()?;
        self.each_of(ids)
    }

    fn each_of(&self, ids: Vec<Id>) -> Result<(Vec<SnapshotFile>, Vec<Flawed>), Error> {
        let (mut snapshots, mut flawed) = (Vec::new(), Vec::new());
        for id in ids {
            match self.readable_snapshot(id)? {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(flaw) => flawed.push(flaw),
            }
        }
        snapshots.sort_by_key(|snapshot| snapshot.time.timestamp());
        Ok((snapshots, flawed))
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

    fn readable_snapshot(&self, id: Id) -> Result<Result<SnapshotFile, Flawed>, Error> {
        let flawed = |reason: Reason, is_damaged| {
            Ok(Err(Flawed {
                what: "snapshot",
                id,
                reason,
                is_damaged,
            }))
        };
        // As it is stored, whatever the engine is shown of it.
        let stored = match self
            .destination
            .backend()
            .read_full(FileType::Snapshot, &id)
        {
            Ok(stored) => stored,
            Err(error) => return flawed(Reason::of(&error), false),
        };
        let key = LockKey::new(&self.inner.key()).ok_or_else(no_key)?;
        let Some(plain) = key.open(&stored) else {
            return match stored.is_empty() {
                true => flawed("it is empty".into(), true),
                false => flawed("it does not decrypt".into(), true),
            };
        };
        // A file is called by its hash, so one put in another's place is noticed.
        if !is_hash_of(&id, &stored) {
            return flawed("its name is not its hash".into(), true);
        }
        let Ok(snapshot) = serde_json::from_slice(&plain) else {
            let Some(understood) = foreign::understood(&plain) else {
                let unknown =
                    "its form is unknown, and it may be from a later version of rustic-hapi";
                let remedy = "update rustic-hapi on this machine; nothing was removed";
                return flawed(Reason::remedied(unknown.into(), Some(remedy)), false);
            };
            // For a prune, which keeps what it has.
            let shown = serde_json::to_vec(&understood).unwrap_or_default();
            let sealed = key.seal(&shown).ok_or_else(no_key)?;
            self.gate.translated().insert(id, sealed.into());
            return Ok(Ok(named(id, understood)));
        };
        Ok(Ok(named(id, snapshot)))
    }

    /// All snapshot files, ours and other people's, oldest first.
    ///
    /// # Errors
    /// Any that cannot be listed or read: half a list is no list.
    pub(crate) fn snapshots(&self) -> Result<Vec<SnapshotFile>, Error> {
        let mut left: BTreeSet<Id> = self.snapshot_ids()?.into_iter().collect();
        let ids: Vec<_> = left.iter().map(|id| SnapshotId::from(*id)).collect();
        let mut snapshots: Vec<SnapshotFile> = self
            .inner
            .stream_files_list::<SnapshotFile>(ids)
            .map_err(Error::engine("reading the snapshots"))?
            .flatten()
            .map(|(id, snapshot)| named(*id, snapshot))
            .collect();
        for snapshot in &snapshots {
            left.remove(&*snapshot.id);
        }
        // Which one it is has to be known to whoever puts it right.
        let (more, flawed) = self.each_of(left.into_iter().collect())?;
        if let Some(first) = flawed.iter().find(|f| !f.is_damaged).or(flawed.first()) {
            return Err(Error::UnreadableSnapshots {
                location: self.location().to_string(),
                files: flawed.iter().map(Flawed::in_words).collect(),
                torn: first.is_damaged,
            });
        }
        snapshots.extend(more);
        snapshots.sort_by_key(|snapshot| snapshot.time.timestamp());
        Ok(snapshots)
    }

    /// The ids of all snapshot files, listed anew.
    pub(crate) fn snapshot_ids(&self) -> Result<Vec<Id>, Error> {
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
    pub(crate) fn sizes(&self) -> Result<Sizes, Error> {
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

    /// Files of a kind that are called by their hash and are not what they are called, or cannot be
    /// read, and why.
    pub(crate) fn flawed_files(&self, kind: FileType) -> Result<Vec<Flawed>, Error> {
        flawed_files(&*self.backend, kind)
    }

    /// Deletes snapshot files. Their data stays until a prune.
    ///
    /// # Errors
    /// The first failure; some may then be gone.
    pub(crate) fn delete_snapshots(&self, ids: &[SnapshotId]) -> Result<(), Error> {
        self.inner
            .delete_snapshots(ids)
            .map_err(Error::engine("removing snapshots"))
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
    pub keys: Size,
}

impl Sizes {
    pub(crate) fn bytes(&self) -> u64 {
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
    pub files: u64,
    pub bytes: u64,
}

/// A file that cannot be read, or is not what it is called.
#[derive(Clone, Debug)]
pub(crate) struct Flawed {
    what: &'static str,
    pub(crate) id: Id,
    pub(crate) reason: Reason,
    /// Whether its content is at fault. A file that could not be read (another user's, a disk's or a network's
    /// error) may be sound.
    pub(crate) is_damaged: bool,
}

impl Flawed {
    fn in_words(&self) -> Reason {
        Reason {
            text: self.to_string(),
            ..self.reason.clone()
        }
    }
}

impl fmt::Display for Flawed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.is_damaged {
            true => "is damaged",
            false => "cannot be read",
        };
        let name = &self.id.to_hex()[..8];
        write!(f, "the {} file {name} {how}: {}", self.what, self.reason)
    }
}

/// See [`Repository::flawed_files`].
pub(super) fn flawed_files(
    backend: &dyn WriteBackend,
    kind: FileType,
) -> Result<Vec<Flawed>, Error> {
    let ids = backend
        .list(kind)
        .map_err(Error::engine("listing the repository's files"))?;
    let mut flawed = Vec::new();
    for id in ids {
        let (reason, is_damaged) = match backend.read_full(kind, &id) {
            Err(error) => (Reason::of(&error), false),
            Ok(stored) if is_hash_of(&id, &stored) => continue,
            Ok(_) => ("its name is not its hash".into(), true),
        };
        flawed.push(Flawed {
            what: match kind {
                FileType::Key => "key",
                _ => "index",
            },
            id,
            reason,
            is_damaged,
        });
    }
    Ok(flawed)
}

fn named(id: Id, mut snapshot: SnapshotFile) -> SnapshotFile {
    snapshot.id = id.into();
    _ = snapshot.original.get_or_insert(snapshot.id);
    snapshot
}

fn no_key() -> Error {
    Error::Engine {
        doing: "reading the snapshots",
        reason: "the master key has an unknown form".into(),
    }
}
