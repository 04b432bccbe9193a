//! The contents of a snapshot are what its manifest says it holds, with the node of each entry in
//! its tree. This is the way back into a snapshot: `restore`, `drill` and `check` all begin here.
//!
//! A repository is not trusted to be what it should: the manifest's hash must be the one that stands
//! in the snapshot's description, every entry must have its node, of the same kind and size, and
//! nothing else may be there. What is not so is a *difference*. Only paths that the manifest names
//! are walked, so a tree that is not ours cannot keep us busy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use rustic_core::repofile::{Node, NodeType, SnapshotFile};
use sha2::{Digest, Sha256};

use crate::error::{Error, Reason};
use crate::policy::description::Description;
use crate::policy::history::Snapshot;
use crate::policy::manifest::{self, EntryKind, Manifest};
use crate::repository::Engine;

/// A manifest of 20,000 files has about 6 MB.
const LARGEST_MANIFEST: u64 = 256 << 20;

/// What a snapshot holds.
#[derive(Debug)]
pub(crate) struct Contents {
    /// The manifest.
    pub manifest: Manifest,
    /// Its summary, made anew.
    pub description: Description,
    /// Where manifest and description disagree: then neither is to be trusted.
    pub mismatches: Vec<String>,
    /// Where manifest and tree disagree: those entries cannot be restored.
    pub differences: Vec<String>,
    nodes: BTreeMap<PathBuf, Node>,
}

impl Contents {
    /// Nothing is restored from a snapshot that is not what it says.
    pub(crate) fn is_trustworthy(&self, snapshot: &Snapshot) -> Result<(), Error> {
        if self.mismatches.is_empty() {
            return Ok(());
        }
        Err(Error::Unlike {
            snapshot: snapshot.to_string(),
            differences: self.mismatches.clone(),
        })
    }

    /// Loads the contents of a snapshot of ours.
    ///
    /// # Errors
    /// There is no manifest that can be read, or this user may not read a folder: so nothing is known of the snapshot.
    pub(crate) fn load(engine: &Engine, snapshot: &Snapshot) -> Result<Self, Reason> {
        let file: SnapshotFile = engine
            .get_file(&snapshot.id)
            .map_err(|error| Reason::of(&error))?;
        let home = file
            .paths
            .iter()
            .next()
            .map(PathBuf::from)
            .ok_or("the snapshot names no path")?;
        let bytes = read_manifest(engine, &file, &home)?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| format!("its manifest is not rustic-hapi's: {error}"))?;
        if manifest.version > manifest::VERSION {
            return Err(Reason::from(format!(
                "its manifest has version {}, this program knows {}",
                manifest.version,
                manifest::VERSION
            )));
        }
        let description = manifest.describe(&bytes);
        let mut contents = Self {
            manifest,
            description,
            mismatches: Vec::new(),
            differences: Vec::new(),
            nodes: BTreeMap::new(),
        };
        contents.compare_with_description(&file, snapshot);
        contents.walk(engine, &file, &home.join(manifest::FILE_NAME))?;
        Ok(contents)
    }

    /// The node of an entry.
    pub(crate) fn node(&self, path: &Path) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// The nodes of entries and of the folders above them, by path.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_path(), node))
    }

    fn differs(&mut self, what: String) {
        // The first ones tell.
        if self.differences.len() < 50 {
            self.differences.push(what);
        }
    }

    fn compare_with_description(&mut self, file: &SnapshotFile, snapshot: &Snapshot) {
        if self.manifest.host != file.hostname {
            self.mismatches.push(format!(
                "the manifest is of the host `{}`, the snapshot of `{}`",
                self.manifest.host, file.hostname
            ));
        }
        if !snapshot.has(&self.manifest.series) {
            self.mismatches.push(format!(
                "the manifest is of the series `{}`, which is not one of the snapshot's tags",
                self.manifest.series
            ));
        }
        match &snapshot.description {
            Some(known) if known.manifest != self.description.manifest => self.mismatches.push(
                "the manifest is not the one that the snapshot's description names".to_owned(),
            ),
            Some(known) if *known != self.description => self
                .mismatches
                .push("the snapshot's description differs from its manifest".to_owned()),
            // `restic tag` writes a snapshot anew without it: nothing to compare with.
            Some(_) | None => {}
        }
    }

    /// Finds the node of each entry; what else is there is a difference.
    fn walk(
        &mut self,
        engine: &Engine,
        file: &SnapshotFile,
        manifest_path: &Path,
    ) -> Result<(), Reason> {
        let mut wanted: BTreeMap<PathBuf, (EntryKind, Option<u64>)> = BTreeMap::new();
        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        let mut odd = Vec::new();
        for entry in self.manifest.sources.iter().flat_map(|s| &s.entries) {
            let path = entry.path.to_path();
            if !is_plain(&path) {
                odd.push(format!(
                    "the manifest names `{}`, which is not a plain absolute path",
                    path.display()
                ));
                continue;
            }
            folders.extend(path.ancestors().skip(1).map(Path::to_path_buf));
            wanted.insert(path, (entry.kind, entry.size));
        }
        folders.extend(manifest_path.ancestors().skip(1).map(Path::to_path_buf));
        for what in odd {
            self.differs(what);
        }

        let mut left = vec![(PathBuf::from("/"), file.tree)];
        let mut unreadable: Vec<PathBuf> = Vec::new();
        let mut seen = BTreeSet::new();
        while let Some((folder, id)) = left.pop() {
            let tree = match engine.get_tree(&id) {
                Ok(tree) => tree,
                Err(error) => {
                    let words = format!("the folder `{}` cannot be read: ", folder.display());
                    let reason = Reason::of(&error).after(&words);
                    if reason.is_denied() {
                        return Err(reason);
                    }
                    self.differs(reason.text);
                    unreadable.push(folder);
                    continue;
                }
            };
            for node in tree.nodes {
                let name = node.name();
                let path = folder.join(&name);
                let is_name = Path::new(&name).components().eq([Component::Normal(&name)]);
                if !is_name || !seen.insert(path.clone()) {
                    self.differs(format!(
                        "`{}` holds an entry that no folder can have",
                        folder.display()
                    ));
                    continue;
                }
                let expected = wanted.get(&path).copied();
                if expected.is_none() && !folders.contains(&path) && path != manifest_path {
                    self.differs(format!(
                        "`{}` is in the tree and not in the manifest",
                        path.display()
                    ));
                    continue;
                }
                if let Some(subtree) = node.subtree {
                    left.push((path.clone(), subtree));
                }
                if let Some((kind, size)) = expected {
                    let same = match (kind, &node.node_type) {
                        (EntryKind::File, NodeType::File) => size == Some(node.meta.size),
                        (EntryKind::Dir, NodeType::Dir) => true,
                        (EntryKind::Symlink, NodeType::Symlink { .. }) => true,
                        _ => false,
                    };
                    if !same {
                        self.differs(format!(
                            "`{}` has another type or size in the tree than in the manifest",
                            path.display()
                        ));
                        continue;
                    }
                }
                self.nodes.insert(path, node);
            }
        }
        for path in wanted.keys() {
            let told = unreadable.iter().any(|folder| path.starts_with(folder));
            if !told && !seen.contains(path) {
                self.differs(format!(
                    "`{}` is in the manifest and not in the tree",
                    path.display()
                ));
            }
        }
        Ok(())
    }
}

/// Absolute, and made of names alone.
pub(crate) fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && parts.clone().next().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}

fn read_manifest(engine: &Engine, file: &SnapshotFile, home: &Path) -> Result<Vec<u8>, Reason> {
    let node = engine
        .node_from_path(file.tree, &home.join(manifest::FILE_NAME))
        .map_err(|error| Reason::of(&error).after("its manifest cannot be found: "))?;
    if node.node_type != NodeType::File || node.meta.size > LARGEST_MANIFEST {
        return Err("the size of its manifest is implausible".into());
    }
    let mut bytes = Limited {
        bytes: Vec::new(),
        left: node.meta.size,
    };
    engine
        .dump(&node, &mut bytes)
        .map_err(|error| Reason::of(&error).after("its manifest cannot be read: "))?;
    Ok(bytes.bytes)
}

/// Takes no more than was announced.
struct Limited {
    bytes: Vec<u8>,
    left: u64,
}

impl std::io::Write for Limited {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.left = self
            .left
            .checked_sub(buffer.len() as u64)
            .ok_or_else(|| std::io::Error::other("it is longer than it says"))?;
        self.bytes.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// SHA-256 of bytes in memory, in hexadecimal as manifests have it.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_paths_of_plain_names_are_followed() {
        for good in ["/a", "/a/b c", "/a/.b", "/a/..b"] {
            assert!(is_plain(Path::new(good)), "{good}");
        }
        for bad in ["", "/", "a", "a/b", "/a/../b", "/..", "../a", "/a\0b"] {
            assert!(!is_plain(Path::new(bad)), "{bad}");
        }
    }
}
