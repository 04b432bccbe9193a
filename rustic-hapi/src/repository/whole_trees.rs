//! Whether all that a snapshot needs is there: each tree and each chunk, by the index and the list of the packs. Trees
//! are read, each once; data are not.

use std::collections::{BTreeMap, BTreeSet};

use hapi_sources::{CaptureError, Stop};
use rustic_core::{DataId, Id, TreeId};

use crate::error::{Error, Reason};
use crate::repository::{Engine, Repository};

/// The trees of a repository, and what is known of them.
pub(crate) struct WholeTrees {
    pub(crate) engine: Engine,
    packs: BTreeMap<Id, u32>,
    /// Trees of which all that is in and below them was found.
    whole: BTreeSet<TreeId>,
}

/// Why a tree is not whole.
pub(crate) enum Flaw {
    /// Something is in no index, or its pack is not there.
    Missing(Reason),
    /// A tree that is there cannot be read: damaged, or out of reach.
    Unreadable(Reason),
}

impl Flaw {
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Missing(reason) | Self::Unreadable(reason) => reason,
        }
    }
}

impl WholeTrees {
    /// Reads the index, and lists the packs.
    ///
    /// # Errors
    /// Those of it.
    pub(crate) fn of(repository: &Repository) -> Result<Self, Error> {
        Ok(Self {
            engine: repository.for_reading()?,
            packs: repository.packs()?.into_iter().collect(),
            whole: BTreeSet::new(),
        })
    }

    /// What keeps a tree from being whole, if anything does.
    ///
    /// # Errors
    /// It was told to stop.
    pub(crate) fn flaw(&mut self, root: TreeId, stop: &Stop) -> Result<Option<Flaw>, Error> {
        let (mut left, mut seen) = (vec![root], BTreeSet::new());
        while let Some(id) = left.pop() {
            if self.whole.contains(&id) || !seen.insert(id) {
                continue;
            }
            if stop.is_set() {
                return Err(CaptureError::Stopped.into());
            }
            stop.progressed();
            if !self.has_tree(&id) {
                let fact = format!("the tree {} is missing", &id.to_hex()[..8]);
                return Ok(Some(Flaw::Missing(fact.into())));
            }
            let tree = match self.engine.get_tree(&id) {
                Ok(tree) => tree,
                Err(error) => return Ok(Some(Flaw::Unreadable(Reason::of(&error)))),
            };
            for node in tree.nodes {
                let mut blobs = node.content.iter().flatten();
                if !blobs.all(|blob| self.has_data(blob)) {
                    let name = node.name();
                    let fact = format!("data of `{}` is missing", name.to_string_lossy());
                    return Ok(Some(Flaw::Missing(fact.into())));
                }
                left.extend(node.subtree);
            }
        }
        self.whole.extend(seen);
        Ok(None)
    }

    fn has_tree(&self, id: &TreeId) -> bool {
        let entry = self.engine.get_index_entry(id);
        entry.is_ok_and(|e| self.reaches(&e.pack, e.location.offset, e.location.length))
    }

    fn has_data(&self, id: &DataId) -> bool {
        let entry = self.engine.get_index_entry(id);
        entry.is_ok_and(|e| self.reaches(&e.pack, e.location.offset, e.location.length))
    }

    fn reaches(&self, pack: &Id, offset: u32, length: u32) -> bool {
        let size = self.packs.get(pack);
        size.is_some_and(|size| u64::from(*size) >= u64::from(offset) + u64::from(length))
    }
}
