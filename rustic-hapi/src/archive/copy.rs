//! Copying a snapshot from one repository of ours into another, over the engine's copy, whose traps are dealt with
//! here: it leaves out, without an error, every blob that the source's index lacks, and it does not set `original`.
//! So each blob is looked for first, and what is handed over is the snapshot as it is to be: `original` is set, and
//! description, tags, times, host and `--keep` are as they were.
//!
//! The engine writes the snapshot file last, through the gate of the copy, as it does in a run. Then it is read back
//! as a run's is.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hapi_sources::{CaptureError, Stop};
use rustic_core::TreeId;
use rustic_core::repofile::{SnapshotFile, SnapshotId};

use crate::archive::readback;
use crate::error::{Error, Reason};
use crate::policy::history::Snapshot;
use crate::repository::{Engine, Repository};
use crate::restore::contents::Contents;

/// The repository that is copied from.
pub(crate) struct CopySource {
    engine: Engine,
    /// Trees of which all that is in and below them was found.
    whole: BTreeSet<TreeId>,
}

/// Why a snapshot was not copied.
pub(crate) enum NotCopied {
    /// It is not whole in the repository that it is copied from; others may be.
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
            engine: repository.for_reading()?,
            whole: BTreeSet::new(),
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
        let contents = Contents::load(&self.engine, snapshot).map_err(NotCopied::Flawed)?;
        let flaws = contents.mismatches.iter().chain(&contents.differences);
        if let Some(flaw) = flaws.into_iter().next() {
            return Err(NotCopied::Flawed(flaw.clone().into()));
        }
        self.find_every_blob(file.tree, copy.gate().stop())?;
        let mut file = file.clone();
        file.original = file.original.or(Some(snapshot.id));

        let (gate, engine) = (copy.gate(), copy.for_writing()?);
        // No stream is read for it: what is refused is what comes after a write that failed, a lost lock, a stop.
        gate.begin([], Vec::new());
        let hand_over = || self.engine.copy(&engine, [&file]);
        // It slices packs by what the index says of them, and panics over one that is cut short.
        let copied = catch_unwind(AssertUnwindSafe(hand_over));
        let failures = gate.failures();
        let written = gate.end();
        let id = match (copied, written.snapshot) {
            (Ok(Ok(())), Some(id)) => SnapshotId::from(id),
            _ if gate.stop().is_set() => return Err(Error::from(CaptureError::Stopped).into()),
            _ if !failures.is_empty() => return Err(Error::Refused { failures }.into()),
            (Ok(Err(error)), _) => return Err(Error::engine("copying the snapshot")(error).into()),
            (Ok(Ok(())) | Err(_), _) => {
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

    /// Makes sure that the index has every blob of a tree: the engine's copy would leave out one that it lacks.
    fn find_every_blob(&mut self, root: TreeId, stop: &Stop) -> Result<(), NotCopied> {
        let (mut left, mut seen) = (vec![root], BTreeSet::new());
        while let Some(id) = left.pop() {
            if self.whole.contains(&id) || !seen.insert(id) {
                continue;
            }
            if stop.is_set() {
                return Err(Error::from(CaptureError::Stopped).into());
            }
            stop.progressed();
            let tree = self
                .engine
                .get_tree(&id)
                .map_err(|error| NotCopied::Flawed(Reason::of(&error)))?;
            for node in tree.nodes {
                let mut blobs = node.content.iter().flatten();
                if blobs.any(|blob| self.engine.get_index_entry(blob).is_err()) {
                    let name = node.name();
                    let fact = format!("data of `{}` is in no index", name.to_string_lossy());
                    return Err(NotCopied::Flawed(fact.into()));
                }
                left.extend(node.subtree);
            }
        }
        self.whole.extend(seen);
        Ok(())
    }
}
