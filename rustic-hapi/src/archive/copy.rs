//! Copying a snapshot from one repository of ours into another, over the engine's copy, whose traps are dealt with
//! here: it leaves out, without an error, every blob that the source's index lacks, and it does not set `original`.
//! So each blob is looked for first, and what is handed over is the snapshot as it is to be: `original` is set, and
//! description, tags, times, host and `--keep` are as they were.
//!
//! The engine writes the snapshot file last, through the gate of the copy, as it does in a run. Then it is read back
//! as a run's is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hapi_sources::CaptureError;
use rustic_core::repofile::{SnapshotFile, SnapshotId};

use crate::archive::readback;
use crate::error::{Error, Reason};
use crate::policy::history::Snapshot;
use crate::repository::Repository;
use crate::repository::whole_trees::WholeTrees;
use crate::restore::contents::Contents;

/// The repository that is copied from.
pub(crate) struct CopySource {
    trees: WholeTrees,
}

/// Why a snapshot was not copied.
pub(crate) enum NotCopied {
    /// It is not whole in the repository that it is copied from, or cannot be read there; others may be. Some of it
    /// may have been sent.
    Flawed(Reason),
    /// The copying itself failed.
    Failed(Error),
}

impl From<Error> for NotCopied {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl CopySource {
    /// Reads the index of the repository.
    ///
    /// # Errors
    /// Those of reading it.
    pub(crate) fn open(repository: &Repository) -> Result<Self, Error> {
        Ok(Self {
            trees: WholeTrees::of(repository)?,
        })
    }

    /// Copies one snapshot; its id there and the bytes that were sent.
    ///
    /// # Errors
    /// [`NotCopied`]; the copy then has no new snapshot, at most some packs that nothing refers to.
    pub(crate) fn copy(
        &mut self,
        snapshot: &Snapshot,
        file: &SnapshotFile,
        copy: &Repository,
    ) -> Result<(SnapshotId, u64), NotCopied> {
        let contents = Contents::load(&self.trees.engine, snapshot).map_err(NotCopied::Flawed)?;
        let flaws = contents.mismatches.iter().chain(&contents.differences);
        if let Some(flaw) = flaws.into_iter().next() {
            return Err(NotCopied::Flawed(flaw.clone().into()));
        }
        // The engine's copy would leave out what it does not find.
        if let Some(flaw) = self.trees.flaw(file.tree, copy.gate().stop())? {
            return Err(NotCopied::Flawed(flaw.reason()));
        }
        let mut file = file.clone();
        file.original = file.original.or(Some(snapshot.id));

        let (gate, engine) = (copy.gate(), copy.for_writing()?);
        // No stream is read for it: what is refused is what comes after a write that failed, a lost lock, a stop.
        gate.begin([], Vec::new());
        let hand_over = || self.trees.engine.copy(&engine, [&file]);
        // It slices packs by what the index says of them, and panics over one that is cut short. What fails without
        // the gate's knowledge is the reading.
        let copied = catch_unwind(AssertUnwindSafe(hand_over));
        let failures = gate.failures();
        let written = gate.end();
        let id = match (copied, written.snapshot) {
            (Ok(Ok(())), Some(id)) => SnapshotId::from(id),
            _ if gate.stop().is_set() => return Err(Error::from(CaptureError::Stopped).into()),
            _ if !failures.is_empty() => return Err(Error::Refused { failures }.into()),
            (Ok(Err(error)), _) => return Err(NotCopied::Flawed(Reason::of(&error))),
            (Err(_), _) => return Err(NotCopied::Flawed("a pack is cut short".into())),
            (Ok(Ok(())), None) => {
                return Err(Error::Engine {
                    doing: "copying the snapshot",
                    reason: "the engine gave up".into(),
                }
                .into());
            }
        };
        readback::prove_copy(copy, id, &file, &snapshot.series, &written)?;
        Ok((id, written.bytes()))
    }
}
