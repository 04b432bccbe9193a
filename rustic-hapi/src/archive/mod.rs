//! An archive is captures on their way into a snapshot: one sorted tree of what we own, handed to
//! the engine as a source, each stream watched by the commit gate.
//!
//! The engine's demands (rustic_core, `ReadSource`): entries sorted by name within each folder and
//! contiguous, a mode on each, folders before their content.
//!
//! Knows: captures, the repository, manifests. Must not know: retention, restoring, words for people.

pub(crate) mod collisions;
pub(crate) mod draft;
pub(crate) mod parent;
pub(crate) mod proven;
pub(crate) mod readback;
pub mod taken;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

use hapi_sources::{
    Bytes, BytesReader, Capture, Checksum, Checksummer, Content, IntegrityVerdict, Metadata,
    Sha256Hash,
};
use rustic_core::repofile::{DeleteOption, Node, NodeType, SnapshotFile, StringList};
use rustic_core::{
    BackupOptions, ErrorKind, ParentOptions, ReadSource, ReadSourceEntry, ReadSourceOpen,
    RusticError, RusticResult,
};
use sha2::{Digest, Sha256};

use crate::archive::parent::{Known, Parent};
use crate::error::Error;
use crate::policy::manifest;
use crate::repository::gate::{Gate, Written};
use crate::repository::{Repository, Writing};

/// Everything a snapshot will hold, in the order the engine takes it.
#[derive(Debug, Default)]
pub struct Archive {
    items: Vec<Item>,
    /// What the manifest presumes to be good.
    verdicts: Vec<(PathBuf, IntegrityVerdict)>,
}

/// One node of the tree.
#[derive(Clone, Debug)]
pub struct Item {
    /// The absolute path in the snapshot.
    pub path: PathBuf,
    /// Mode, owner and time.
    pub metadata: Metadata,
    /// What it is.
    pub content: ItemContent,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum ItemContent {
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

/// What a snapshot is called.
#[derive(Clone, Debug)]
pub struct Label {
    /// The host name of the profile.
    pub host: String,
    /// The one path that snapshots carry.
    pub home: PathBuf,
    /// The series first.
    pub tags: Vec<String>,
    /// The description's JSON.
    pub description: String,
    /// The snapshot's time, in the machine's time zone.
    pub time: jiff::Zoned,
    /// Until when it must be kept, if that was asked for.
    pub keep_until: Option<jiff::Zoned>,
}

/// Why there is no snapshot of an archive.
#[derive(Debug)]
pub enum Unwritten {
    /// SQLite found something in a copy of which the manifest presumes that it is sound. All data are in
    /// the repository: what was written is told.
    PresumedWrongly(Written),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Unwritten {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Archive {
    /// Lays captures and manifest out as one tree. Where two sources took the same path, the first
    /// one counts.
    pub fn new(captures: &[&Capture], home: &Path, manifest: Vec<u8>) -> Self {
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
    pub fn outline(&self) -> Self {
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
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(Item::len).sum()
    }

    /// Writes the archive as a snapshot. What is the same in one that is known is not read; the parent that this
    /// makes of it is returned, too.
    ///
    /// # Errors
    /// [`Unwritten::PresumedWrongly`] where the manifest is not true; [`Error::Refused`] with what the gate
    /// has on record, [`Error::Engine`] otherwise. The repository then has no new snapshot, at most some
    /// packs that nothing refers to.
    pub fn write(
        &self,
        repository: &Repository,
        label: &Label,
        known: Option<&Known>,
    ) -> Result<(SnapshotFile, Written, Option<Parent>), Unwritten> {
        let gate = repository.gate();
        let engine = repository.for_writing()?;
        let parent = known.and_then(|known| known.parent_of(self, &engine));
        let read = |index: &usize| !parent.as_ref().is_some_and(|p| p.same.contains(index));
        gate.begin(
            self.items
                .iter()
                .enumerate()
                .filter(|(_, i)| i.is_file())
                .map(|(i, _)| i)
                .filter(read),
            self.verdicts.clone(),
        );
        let saved = self.hand_over(&engine, gate, label, parent.as_ref());
        let failures = gate.failures();
        let presumed_wrongly = gate.presumed_wrongly();
        let written = gate.end();
        match saved {
            Ok(snapshot) => Ok((snapshot, written, parent)),
            Err(_) if presumed_wrongly => Err(Unwritten::PresumedWrongly(written)),
            Err(_) if !failures.is_empty() => Err(Error::Refused { failures }.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn hand_over(
        &self,
        engine: &Writing,
        gate: &Gate,
        label: &Label,
        parent: Option<&Parent>,
    ) -> Result<SnapshotFile, Error> {
        let tags: StringList = label
            .tags
            .join(",")
            .parse()
            .map_err(|error| Error::Engine {
                doing: "tagging the snapshot",
                reason: format!("{error}"),
            })?;
        let snapshot = SnapshotFile {
            time: label.time.clone(),
            hostname: label.host.clone(),
            username: crate::policy::history::USERNAME.to_owned(),
            program_version: concat!("rustic-hapi ", env!("CARGO_PKG_VERSION")).to_owned(),
            tags,
            description: Some(label.description.clone()),
            delete: label
                .keep_until
                .clone()
                .map_or(DeleteOption::NotSet, DeleteOption::After),
            ..SnapshotFile::default()
        };
        // Equal size and mtime prove nothing for a database: where hashes do not prove it, everything is
        // read.
        let parent = match parent {
            Some(parent) => ParentOptions::default().parents(vec![parent.snapshot.clone()]),
            None => ParentOptions::default().force(true),
        };
        let options = BackupOptions::default().parent_opts(parent);
        let source = GatedSource {
            items: self.items.clone(),
            gate: gate.clone(),
        };
        engine
            .archive(
                &options,
                &source,
                snapshot,
                std::slice::from_ref(&label.home),
            )
            .map_err(Error::engine("writing the snapshot"))
    }
}

impl Item {
    /// Bytes of the file; 0 for anything else.
    pub fn len(&self) -> u64 {
        match &self.content {
            ItemContent::File { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
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
            mtime: Some(crate::policy::restic_time::nearest(self.metadata.mtime)),
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

/// The archive as the engine sees it.
struct GatedSource {
    items: Vec<Item>,
    gate: Gate,
}

impl ReadSource for GatedSource {
    type Open = GatedStream;
    type Iter = std::vec::IntoIter<RusticResult<ReadSourceEntry<GatedStream>>>;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(Some(self.items.iter().map(Item::len).sum()))
    }

    fn entries(&self) -> Self::Iter {
        let entries: Vec<_> = self
            .items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let open = match &item.content {
                    ItemContent::File { bytes, sha256 } => Some(GatedStream {
                        index,
                        path: item.path.clone(),
                        bytes: bytes.clone(),
                        sha256: *sha256,
                        gate: self.gate.clone(),
                    }),
                    _ => None,
                };
                Ok(ReadSourceEntry {
                    path: item.path.clone(),
                    node: item.node(),
                    open,
                })
            })
            .collect();
        entries.into_iter()
    }
}

/// A stream that tells the gate how it ended.
struct GatedStream {
    index: usize,
    path: PathBuf,
    bytes: Bytes,
    sha256: Sha256Hash,
    gate: Gate,
}

impl GatedStream {
    fn fail(&self, what: impl std::fmt::Display) -> io::Error {
        let failure = format!("the stream of `{}` {what}", self.path.display());
        self.gate.fail(failure.clone());
        io::Error::other(failure)
    }
}

impl ReadSourceOpen for GatedStream {
    type Reader = GatedReader;

    fn open(self) -> RusticResult<GatedReader> {
        let opened = fault::on_open(&self.path).and_then(|()| self.bytes.open());
        match opened {
            Ok(reader) => Ok(GatedReader::start(self, reader)),
            Err(error) => {
                let error = self.fail(format_args!("could not be opened: {error}"));
                Err(RusticError::with_source(
                    ErrorKind::InputOutput,
                    "cannot open a capture",
                    error,
                ))
            }
        }
    }
}

/// A stream on its way into the engine. A large one is read and hashed ahead, on a thread of its
/// own, while the engine cuts and hashes chunks on another: it then costs one hash of time, not two.
struct GatedReader {
    stream: GatedStream,
    feed: Feed,
    chunk: io::Cursor<Vec<u8>>,
    seen: u64,
    done: bool,
}

enum Feed {
    Here(Box<Hashing>),
    Ahead {
        pieces: mpsc::Receiver<io::Result<Piece>>,
        /// Chunks that were used up, to be filled again.
        spare: mpsc::Sender<Vec<u8>>,
    },
}

enum Piece {
    Chunk(Vec<u8>),
    /// The end, and whether all of it was what was captured.
    End {
        same: bool,
    },
}

/// A reader that compares what it hands out with what was captured.
struct Hashing {
    reader: BytesReader,
    wanted: Wanted,
    path: PathBuf,
    length: u64,
    offset: u64,
}

/// A hash on its way, and what it should come to.
enum Wanted {
    Checksum(Checksummer, Checksum),
    Sha256(Sha256, Sha256Hash),
}

impl Wanted {
    /// The checksum where there is one: it tells as much of a disk, and takes a tenth of the time.
    fn of(bytes: &Bytes, sha256: Sha256Hash) -> Self {
        match bytes.checksum() {
            Some(checksum) => Self::Checksum(Checksummer::default(), checksum),
            None => Self::Sha256(Sha256::new(), sha256),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Checksum(hash, _) => hash.update(bytes),
            Self::Sha256(hash, _) => hash.update(bytes),
        }
    }

    fn is_met(&self) -> bool {
        match self {
            Self::Checksum(hash, wanted) => hash.finish() == *wanted,
            Self::Sha256(hash, wanted) => hash.clone().finalize()[..] == wanted.0,
        }
    }
}

impl Hashing {
    const CHUNK: usize = 1 << 20;

    /// The next chunk, in a buffer that is no longer used.
    fn next(&mut self, mut chunk: Vec<u8>) -> io::Result<Piece> {
        // A folder has thousands of small files: a buffer of a MiB for each is most of the work on them.
        let left = self.length.saturating_sub(self.offset);
        let room = usize::try_from(left).unwrap_or(usize::MAX);
        chunk.resize(room.saturating_add(1).min(Self::CHUNK), 0);
        let mut filled = 0;
        while filled < chunk.len() {
            match self.reader.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        chunk.truncate(filled);
        fault::on_read(&self.path, self.offset, &mut chunk)?;
        if chunk.is_empty() {
            let same = self.wanted.is_met();
            return Ok(Piece::End { same });
        }
        self.offset += chunk.len() as u64;
        self.wanted.update(&chunk);
        Ok(Piece::Chunk(chunk))
    }
}

impl GatedReader {
    fn start(stream: GatedStream, reader: BytesReader) -> Self {
        let mut hashing = Hashing {
            reader,
            wanted: Wanted::of(&stream.bytes, stream.sha256),
            path: stream.path.clone(),
            length: stream.bytes.len(),
            offset: 0,
        };
        let feed = if stream.bytes.len() < 8 * Hashing::CHUNK as u64 {
            Feed::Here(Box::new(hashing))
        } else {
            let (sender, pieces) = mpsc::sync_channel(2);
            let (spare, spares) = mpsc::channel();
            thread::spawn(move || {
                loop {
                    let piece = hashing.next(spares.try_recv().unwrap_or_default());
                    let last = !matches!(piece, Ok(Piece::Chunk(_)));
                    // The engine may have given up: then nobody listens.
                    if sender.send(piece).is_err() || last {
                        return;
                    }
                }
            });
            Feed::Ahead { pieces, spare }
        };
        Self {
            stream,
            feed,
            chunk: io::Cursor::default(),
            seen: 0,
            done: false,
        }
    }

    /// Fetches the next chunk; false at the end of a stream that was exactly what it should be.
    fn refill(&mut self) -> io::Result<bool> {
        if self.stream.gate.stop().is_set() {
            return Err(self.stream.fail("was stopped"));
        }
        let used = std::mem::take(&mut self.chunk).into_inner();
        let piece = match &mut self.feed {
            Feed::Here(hashing) => hashing.next(used),
            Feed::Ahead { pieces, spare } => {
                // Nobody takes it where all is read already.
                _ = spare.send(used);
                pieces
                    .recv()
                    .unwrap_or_else(|_| Err(io::Error::other("the reading thread ended")))
            }
        };
        let declared = self.stream.bytes.len();
        match piece {
            Err(error) => Err(self
                .stream
                .fail(format_args!("broke at byte {}: {error}", self.seen))),
            Ok(Piece::Chunk(chunk)) => {
                self.stream.gate.stop().progressed();
                self.seen += chunk.len() as u64;
                if self.seen > declared {
                    return Err(self
                        .stream
                        .fail(format_args!("is longer than its {declared} bytes")));
                }
                self.chunk = io::Cursor::new(chunk);
                Ok(true)
            }
            Ok(Piece::End { .. }) if self.seen < declared => Err(self.stream.fail(format_args!(
                "ended after {} of {declared} bytes",
                self.seen
            ))),
            Ok(Piece::End { same: false }) => Err(self.stream.fail("is not what was captured")),
            Ok(Piece::End { same: true }) => {
                self.stream.gate.whole(self.stream.index);
                Ok(false)
            }
        }
    }
}

impl Read for GatedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.done && !buffer.is_empty() {
            let read = self.chunk.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            self.done = !self.refill()?;
        }
        Ok(0)
    }
}

/// Faults that a test asks for, in builds with debug assertions alone:
/// `RUSTIC_HAPI_TEST_FAULT=break:hapi.db` (or `short`, `long`, `open`); with `pause` it waits for as long
/// as the file `RUSTIC_HAPI_TEST_PAUSE` is there, or a minute.
mod fault {
    use std::io;
    use std::path::Path;
    use std::thread;
    use std::time::{Duration, Instant};

    pub(super) fn on_open(path: &Path) -> io::Result<()> {
        match asked(path).as_deref() {
            Some("open") => Err(io::Error::from_raw_os_error(5)),
            Some("pause") => {
                let file = std::env::var_os("RUSTIC_HAPI_TEST_PAUSE").unwrap_or_default();
                let until = Instant::now() + Duration::from_secs(60);
                while Path::new(&file).exists() && Instant::now() < until {
                    thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn on_read(path: &Path, offset: u64, chunk: &mut Vec<u8>) -> io::Result<()> {
        match asked(path).as_deref() {
            Some("break") if offset > 0 || chunk.len() < 1 << 20 => {
                Err(io::Error::from_raw_os_error(5))
            }
            Some("short") => {
                chunk.pop();
                Ok(())
            }
            Some("long") if chunk.is_empty() && offset < u64::MAX / 2 => {
                chunk.push(0);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn asked(path: &Path) -> Option<String> {
        if !cfg!(debug_assertions) {
            return None;
        }
        let fault = std::env::var("RUSTIC_HAPI_TEST_FAULT").ok()?;
        let (what, suffix) = fault.split_once(':')?;
        path.to_string_lossy()
            .ends_with(suffix)
            .then(|| what.to_owned())
    }
}
