//! The files of a repository, by kind: what there is, what it takes, and which of it cannot be trusted.

use rustic_core::repofile::{SnapshotFile, SnapshotId};
use rustic_core::{FileType, Id, WriteBackend};

use crate::error::Error;
use crate::repository::Repository;
use crate::repository::name::is_hash_of;

impl Repository {
    /// The snapshot files that can be read, oldest first, and what is wrong with the others. For
    /// getting data back, where one damaged file must not stand in the way of the rest; whoever
    /// deletes needs all of them ([`Repository::snapshots`]).
    ///
    /// # Errors
    /// They cannot be listed.
    pub(crate) fn readable_snapshots(&self) -> Result<(Vec<SnapshotFile>, Vec<String>), Error> {
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
        if !is_hash_of(&id, &stored) {
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
    pub(crate) fn snapshots(&self) -> Result<Vec<SnapshotFile>, Error> {
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
    pub(crate) fn damaged_files(&self, kind: FileType) -> Result<Vec<(Id, String)>, Error> {
        damaged_files(&*self.backend, kind)
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

/// See [`Repository::damaged_files`].
pub(super) fn damaged_files(
    backend: &dyn WriteBackend,
    kind: FileType,
) -> Result<Vec<(Id, String)>, Error> {
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
                if !is_hash_of(&id, &stored) {
                    damaged.push((id, "is damaged: its name is not its hash".to_owned()));
                }
            }
        }
    }
    Ok(damaged)
}
