//! An archive is captures on their way into a snapshot: one sorted tree of what we own, handed to
//! the engine as a source, each stream watched by the commit gate.
//!
//! The engine's demands (rustic_core, `ReadSource`): entries sorted by name within each folder and
//! contiguous, a mode on each, folders before their content.
//!
//! Knows: captures, the repository, manifests. Must not know: retention, restoring, words for people.

pub(crate) mod beside;
pub(crate) mod capturing;
pub(crate) mod collisions;
pub(crate) mod copy;
pub(crate) mod draft;
pub(crate) mod parent;
pub(crate) mod proven;
pub(crate) mod readback;
mod stream;
pub(crate) mod taken;
pub(crate) mod write;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hapi_sources::{Bytes, Capture, Content, IntegrityVerdict, Metadata, Sha256Hash};
use rustic_core::repofile::{Node, NodeType};
use sha2::{Digest, Sha256};

use crate::policy::{manifest, restic_time};

/// Everything a snapshot will hold, in the order the engine takes it.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    items: Vec<Item>,
    /// What the manifest presumes to be good.
    verdicts: Vec<(PathBuf, IntegrityVerdict)>,
}

/// One node of the tree.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// The absolute path in the snapshot.
    pub path: PathBuf,
    /// Mode, owner and time.
    pub metadata: Metadata,
    /// What it is.
    pub content: ItemContent,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum ItemContent {
    /// A file with the bytes it must have.
    File {
        /// The bytes.
        bytes: Bytes,
        /// Their hash, which the stream is compared with.
        sha256: Sha256Hash,
    },
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink(PathBuf),
}

impl Archive {
    /// Lays captures and manifest out as one tree. Where two sources took the same path, the first
    /// one counts.
    pub(crate) fn new(captures: &[&Capture], home: &Path, manifest: Vec<u8>) -> Self {
        let mut items: BTreeMap<TreeOrder, Item> = BTreeMap::new();
        for entry in captures.iter().flat_map(|c| &c.entries) {
            let content = match &entry.content {
                Content::File { bytes, sha256 }
                | Content::Database { bytes, sha256, .. }
                | Content::Secret { bytes, sha256, .. } => ItemContent::File {
                    bytes: bytes.clone(),
                    sha256: *sha256,
                },
                Content::Dir => ItemContent::Dir,
                Content::Symlink { target } => ItemContent::Symlink(target.into()),
            };
            items.entry(TreeOrder::of(&entry.path)).or_insert(Item {
                path: entry.path.clone(),
                metadata: entry.metadata,
                content,
            });
        }
        let newest = items.values().map(|item| item.metadata.mtime).max();
        let path = home.join(manifest::FILE_NAME);
        let owner = fs::metadata(home).ok();
        items.insert(
            TreeOrder::of(&path),
            Item {
                path,
                metadata: Metadata {
                    mode: 0o100_600,
                    uid: owner.as_ref().map_or(0, MetadataExt::uid),
                    gid: owner.as_ref().map_or(0, MetadataExt::gid),
                    mtime: newest.unwrap_or(SystemTime::UNIX_EPOCH),
                },
                content: ItemContent::File {
                    sha256: Sha256Hash(Sha256::digest(&manifest).into()),
                    bytes: Bytes::from_vec(manifest),
                },
            },
        );
        add_folders(&mut items);
        let verdicts = captures.iter().flat_map(|c| c.verdicts());
        Self {
            items: items.into_values().collect(),
            verdicts: verdicts
                .map(|(path, verdict)| (path.to_owned(), verdict.clone()))
                .collect(),
        }
    }

    /// The same without the bytes: what a readback compares with, while the copies are removed.
    #[must_use]
    pub(crate) fn outline(&self) -> Self {
        let mut outline = Self {
            items: self.items.clone(),
            verdicts: Vec::new(),
        };
        for item in &mut outline.items {
            if let ItemContent::File { bytes, .. } = &mut item.content {
                *bytes = bytes.outline();
            }
        }
        outline
    }

    /// The nodes, folders before what is in them.
    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.items.iter().map(Item::len).sum()
    }
}

impl Item {
    /// Bytes of the file; 0 for anything else.
    pub(crate) fn len(&self) -> u64 {
        match &self.content {
            ItemContent::File { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    /// Whether it is a file.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.content, ItemContent::File { .. })
    }

    /// The node as the engine gets it.
    pub(crate) fn node(&self) -> Node {
        let node_type = match &self.content {
            ItemContent::File { .. } => NodeType::File,
            ItemContent::Dir => NodeType::Dir,
            ItemContent::Symlink(target) => NodeType::from_link(target),
        };
        let metadata = rustic_core::repofile::Metadata {
            mode: Some(go_mode(self.metadata.mode, &node_type)),
            mtime: Some(restic_time::nearest(self.metadata.mtime)),
            uid: Some(self.metadata.uid),
            gid: Some(self.metadata.gid),
            size: self.len(),
            ..rustic_core::repofile::Metadata::default()
        };
        Node::new_node(
            self.path.file_name().unwrap_or_default(),
            node_type,
            metadata,
        )
    }
}

/// restic stores a mode as Go's `os.FileMode`: permission bits as in POSIX, the rest elsewhere
/// (restic, repository design, "Trees and Data"; Go, package io/fs).
fn go_mode(mode: u32, node_type: &NodeType) -> u32 {
    const DIR: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    const STICKY: u32 = 1 << 20;
    let kind = match node_type {
        NodeType::Dir => DIR,
        NodeType::Symlink { .. } => SYMLINK,
        _ => 0,
    };
    let special = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)]
        .iter()
        .filter(|(posix, _)| mode & posix != 0)
        .fold(0, |bits, (_, go)| bits | go);
    (mode & 0o777) | special | kind
}

/// The order the engine and restic want: by name, folder by folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TreeOrder(Vec<Vec<u8>>);

impl TreeOrder {
    fn of(path: &Path) -> Self {
        Self(
            path.components()
                .filter_map(|c| match c {
                    std::path::Component::Normal(name) => Some(name.as_bytes().to_vec()),
                    _ => None,
                })
                .collect(),
        )
    }
}

/// Adds the folders above what was captured, with their real mode and owner, and the mtime of the
/// newest captured thing below them: their own would change with every file that comes and goes.
fn add_folders(items: &mut BTreeMap<TreeOrder, Item>) {
    let mut newest_below: BTreeMap<PathBuf, SystemTime> = BTreeMap::new();
    for item in items.values() {
        for folder in item
            .path
            .ancestors()
            .skip(1)
            .filter(|f| f.file_name().is_some())
        {
            let newest = newest_below
                .entry(folder.to_path_buf())
                .or_insert(item.metadata.mtime);
            *newest = (*newest).max(item.metadata.mtime);
        }
    }
    for (folder, mtime) in newest_below {
        items.entry(TreeOrder::of(&folder)).or_insert_with(|| {
            let live = fs::metadata(&folder).ok();
            Item {
                metadata: Metadata {
                    mode: live.as_ref().map_or(0o40_755, MetadataExt::mode),
                    uid: live.as_ref().map_or(0, MetadataExt::uid),
                    gid: live.as_ref().map_or(0, MetadataExt::gid),
                    mtime,
                },
                path: folder,
                content: ItemContent::Dir,
            }
        });
    }
}
