//! A readback is the proof that a snapshot just written is there: its trees, loaded from the
//! backend through a handle with no cache, name every entry; the lengths of its blobs add up to
//! each file's size; the packs of this run are listed with their sizes; small files and the
//! manifest are read and hashed.
//!
//! It does not download the large files: `check --read-data` and a drill do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustic_core::Id;
use rustic_core::repofile::{Node, NodeType, SnapshotFile, SnapshotId};
use sha2::{Digest, Sha256};

use crate::archive::{Archive, Item, ItemContent};
use crate::error::{Error, Reason, one_line};
use crate::policy::history::Snapshot;
use crate::repository::gate::Written;
use crate::repository::{Engine, Repository};
use crate::restore::contents::Contents;
use crate::words::by_restic;

/// Files up to this many bytes are read back in full.
const SMALL: u64 = 256 << 10;

/// And of those no more than this many bytes in all.
const SMALL_IN_ALL: u64 = 32 << 20;

/// Proves that `snapshot` holds exactly what `archive` has.
///
/// # Errors
/// [`Error::NotProven`] when it does not: the snapshot was then removed. [`Error::Unproven`] when
/// even that failed.
pub(crate) fn prove(
    repository: &Repository,
    snapshot: &SnapshotFile,
    archive: &Archive,
    written: &Written,
) -> Result<(), Error> {
    // Who had the lock removed may prune what was just found.
    judge(
        repository,
        snapshot.id,
        compare(repository, snapshot, archive, written),
    )
}

/// Proves the same of a snapshot that was copied, by its manifest: `original` is what it was copied from.
///
/// # Errors
/// As [`prove`].
pub(crate) fn prove_copy(
    repository: &Repository,
    id: SnapshotId,
    original: &SnapshotFile,
    series: &str,
    written: &Written,
) -> Result<(), Error> {
    let proven = compare_copy(repository, id, original, series, written);
    judge(repository, id, proven)
}

/// What is not proven is removed.
fn judge(
    repository: &Repository,
    id: SnapshotId,
    compared: Result<(), Reason>,
) -> Result<(), Error> {
    let proven = compared.and_then(|()| Ok(repository.gate().confirm()?));
    let Err(reason) = proven else {
        return Ok(());
    };
    match repository.delete_snapshots(&[id]) {
        Ok(()) => Err(Error::NotProven { reason }),
        Err(removal) => Err(Error::Unproven {
            id: id.to_hex().as_str()[..8].to_owned(),
            reason: reason.text,
            removal: removal.to_string(),
        }),
    }
}

fn compare_copy(
    repository: &Repository,
    id: SnapshotId,
    original: &SnapshotFile,
    series: &str,
    written: &Written,
) -> Result<(), Reason> {
    let engine = reopened(repository)?;
    let mut stored: SnapshotFile = engine.get_file(&id).map_err(|error| Reason::of(&error))?;
    stored.id = id;
    let same = stored.tree == original.tree
        && stored.original == original.original
        && stored.description == original.description
        && stored.time == original.time
        && stored.tags == original.tags
        && stored.hostname == original.hostname
        && stored.username == original.username;
    if !same {
        return Err("the snapshot file differs from the one that was copied".into());
    }
    let packs = packs_are_listed(repository, written)?;
    let snapshot = Snapshot::read(&stored, series).ok_or("its time makes no sense")?;
    let contents = Contents::load(&engine, &snapshot)?;
    let mut flaws = contents.mismatches.iter().chain(&contents.differences);
    if let Some(flaw) = flaws.next() {
        return Err(flaw.clone().into());
    }
    let entries = contents.manifest.sources.iter().flat_map(|s| &s.entries);
    let hashes: BTreeMap<PathBuf, &str> = entries
        .filter_map(|entry| Some((entry.path.to_path(), entry.sha256.as_deref()?)))
        .collect();
    let mut small_budget = SMALL_IN_ALL;
    for (path, node) in contents.nodes() {
        if node.node_type != NodeType::File {
            continue;
        }
        let bytes = blobs_add_up(&engine, &packs, node)
            .map_err(|reason| format!("`{}`: {reason}", path.display()))?;
        if bytes != node.meta.size {
            return Err(format!(
                "`{}` has {bytes} bytes in the copy and not {}",
                path.display(),
                node.meta.size
            )
            .into());
        }
        let Some(hash) = hashes
            .get(path)
            .filter(|_| bytes <= SMALL.min(small_budget))
        else {
            continue;
        };
        small_budget -= bytes;
        if hex::encode(read_hash(&engine, node, bytes)?) != **hash {
            return Err(format!("`{}` reads back differently", path.display()).into());
        }
    }
    Ok(())
}

/// A handle with no cache, and an index that is read anew.
fn reopened(repository: &Repository) -> Result<Engine, Reason> {
    repository.reopen().map_err(|error| match error {
        Error::Engine { reason, .. } => reason,
        other => other.to_string().into(),
    })
}

/// The SHA-256 of a file, as it comes out of the repository.
fn read_hash(engine: &Engine, node: &Node, size: u64) -> Result<[u8; 32], Reason> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    engine
        .dump(node, &mut bytes)
        .map_err(|error| Reason::of(&error))?;
    Ok(Sha256::digest(&bytes).into())
}

fn compare(
    repository: &Repository,
    snapshot: &SnapshotFile,
    archive: &Archive,
    written: &Written,
) -> Result<(), Reason> {
    let engine = reopened(repository)?;
    let stored: SnapshotFile = engine
        .get_file(&snapshot.id)
        .map_err(|error| Reason::of(&error))?;
    if stored.tree != snapshot.tree || stored.description != snapshot.description {
        return Err("the snapshot file differs from what was written".into());
    }
    if written.snapshot != Some(*snapshot.id) {
        return Err("the snapshot was not written through the gate".into());
    }
    let packs = packs_are_listed(repository, written)?;

    let mut expected: BTreeMap<&Path, &Item> = archive
        .items()
        .iter()
        .map(|item| (item.path.as_path(), item))
        .collect();
    let mut small_budget = SMALL_IN_ALL;
    let mut folders = vec![(PathBuf::from("/"), stored.tree)];
    while let Some((folder, tree)) = folders.pop() {
        let tree = engine.get_tree(&tree).map_err(|error| Reason::of(&error))?;
        for node in tree.nodes {
            let path = folder.join(node.name());
            let Some(item) = expected.remove(path.as_path()) else {
                return Err(
                    format!("`{}` is in the snapshot and should not be", path.display()).into(),
                );
            };
            let same_kind = match (&item.content, &node.node_type) {
                (ItemContent::File { .. }, NodeType::File) => true,
                (ItemContent::Dir, NodeType::Dir) => node.subtree.is_some(),
                (ItemContent::Symlink(target), link @ NodeType::Symlink { .. }) => {
                    link.to_link() == target
                }
                _ => false,
            };
            if !same_kind {
                return Err(
                    format!("`{}` is of another type in the snapshot", path.display()).into(),
                );
            }
            if let ItemContent::File { sha256, .. } = &item.content {
                let stored = blobs_add_up(&engine, &packs, &node)
                    .map_err(|reason| format!("`{}`: {reason}", path.display()))?;
                if stored != item.len() || node.meta.size != stored {
                    return Err(format!(
                        "`{}` has {stored} bytes in the snapshot, {} were captured",
                        path.display(),
                        item.len()
                    )
                    .into());
                }
                let manifest = path.ends_with(crate::policy::manifest::FILE_NAME);
                if manifest || (stored <= SMALL && stored <= small_budget) {
                    small_budget = small_budget.saturating_sub(stored);
                    if read_hash(&engine, &node, stored)? != sha256.0 {
                        return Err(format!("`{}` reads back differently", path.display()).into());
                    }
                }
            }
            if let Some(subtree) = node.subtree {
                folders.push((path, subtree));
            }
        }
    }
    match expected.keys().next() {
        None => Ok(()),
        Some(missing) => Err(format!("`{}` is not in the snapshot", missing.display()).into()),
    }
}

fn packs_are_listed(
    repository: &Repository,
    written: &Written,
) -> Result<BTreeMap<Id, u32>, String> {
    let listed: BTreeMap<Id, u32> = repository
        .packs()
        .map_err(|error| error.to_string())?
        .into_iter()
        .collect();
    for (id, size) in &written.packs {
        match listed.get(id) {
            Some(found) if found == size => {}
            Some(found) => {
                return Err(format!(
                    "the pack {} has {found} bytes, {size} were written",
                    &id.to_hex()[..8]
                ));
            }
            None => return Err(format!("the pack {} is missing", &id.to_hex()[..8])),
        }
    }
    Ok(listed)
}

fn blobs_add_up(engine: &Engine, packs: &BTreeMap<Id, u32>, node: &Node) -> Result<u64, String> {
    let mut sum = 0;
    for id in node.content.iter().flatten() {
        let entry = engine
            .get_index_entry(id)
            .map_err(|error| one_line(&error))?;
        // Also the packs of earlier runs: what deduplication relies on must still be there.
        let end = u64::from(entry.location.offset) + u64::from(entry.location.length);
        if packs
            .get(&*entry.pack)
            .is_none_or(|size| u64::from(*size) < end)
        {
            return Err(format!(
                "the pack {} of an earlier run is missing or cut short ({}, then run again: what is missing is stored again)",
                &entry.pack.to_hex()[..8],
                by_restic!("rebuild-index")
            ));
        }
        sum += u64::from(entry.data_length());
    }
    Ok(sum)
}
