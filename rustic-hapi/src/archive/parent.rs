//! A parent is a snapshot whose chunks the engine takes for files that are still the same, without
//! reading them.
//!
//! The engine treats two files as equal if size and modification time agree, and cannot be told which of them to
//! read. So there is a parent only where all files that it would take have the same hash. It does not check that a
//! tree it reuses still exists, so we check all of them; chunks it looks up in its index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use hapi_sources::Sha256Hash;
use rustic_core::TreeId;
use rustic_core::repofile::{Node, NodeType};

use crate::archive::{Archive, ItemContent};
use crate::repository::Writing;

/// A snapshot of which it is known what bytes it has.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Its id, 64 hexadecimal digits.
    pub snapshot: String,
    /// Its root.
    pub tree: TreeId,
    /// The hashes of its files, as far as they count.
    pub files: BTreeMap<PathBuf, Sha256Hash>,
}

/// The same, as the parent of an archive.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    /// Its id.
    pub snapshot: String,
    /// The archive's files that are the same in it, by their place.
    pub same: BTreeSet<usize>,
}

impl Known {
    /// The parent of an archive; `None` where the engine must read everything.
    pub(crate) fn parent_of(&self, archive: &Archive, engine: &Writing) -> Option<Parent> {
        let nodes = self.nodes(engine)?;
        let mut same = BTreeSet::new();
        for (index, item) in archive.items().iter().enumerate() {
            let (ItemContent::File { sha256, .. }, Some(node)) =
                (&item.content, nodes.get(&item.path))
            else {
                continue;
            };
            let new = item.node();
            let taken = node.node_type == new.node_type
                && node.meta.size == new.meta.size
                && node.meta.mtime == new.meta.mtime;
            if !taken {
                continue;
            }
            if self.files.get(&item.path) != Some(sha256) {
                return None;
            }
            same.insert(index);
        }
        (!same.is_empty()).then(|| Parent {
            snapshot: self.snapshot.clone(),
            same,
        })
    }

    /// All nodes of the snapshot but its folders; `None` where a part of its tree is not to be had.
    fn nodes(&self, engine: &Writing) -> Option<BTreeMap<PathBuf, Node>> {
        let mut nodes = BTreeMap::new();
        let mut folders = vec![(PathBuf::from("/"), self.tree)];
        while let Some((folder, tree)) = folders.pop() {
            for node in engine.get_tree(&tree).ok()?.nodes {
                let path = folder.join(node.name());
                match node.node_type {
                    NodeType::Dir => folders.push((path, node.subtree?)),
                    _ => _ = nodes.insert(path, node),
                }
            }
        }
        Some(nodes)
    }
}
