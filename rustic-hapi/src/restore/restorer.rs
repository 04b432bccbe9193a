//! A restorer brings sources into one place: each file proven before it has its name, what is there and
//! equal left as it is.
//! One file, since every way a file comes has to keep the same order.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hapi_sources::{CaptureError, Identities, Kind, Observer, Plaintext, Stop};
use rustic_core::repofile::Node;

use crate::error::Error;
use crate::machine::able::{keeps_private, sync_file};
use crate::machine::holders::nobody_has_it_open;
use crate::machine::target::{Attributes, Found, Target, apply};
use crate::policy::choice::Choice;
use crate::policy::manifest::{EntryKind, EntryRecord, SourceRecord};
use crate::repository::Repository;
use crate::restore::contents::{is_plain, sha256_hex};
use crate::restore::difference::{Difference, What};
use crate::restore::fetch::{Failure, Fetch};
use crate::restore::library::Library;
use crate::restore::secret::open_secret;
use crate::terminal::ui::Ui;

/// Files that may wait for the disk together, and their bytes.
const WAITING: usize = 256;
const WAITING_BYTES: u64 = 32 << 20;

/// One source as it was restored.
#[derive(Debug)]
pub struct SourceReport {
    /// Where it came from.
    pub choice: Choice,
    /// Its kind.
    pub kind: Kind,
    /// Its files, with the paths they have now.
    pub files: Vec<PathBuf>,
    /// Bytes of them.
    pub bytes: u64,
    /// How many were there already, and equal.
    pub already: u64,
    /// For a secret: whether it was opened.
    pub opened: Option<bool>,
    /// Where it is not what its manifest says: such a file is not restored.
    pub differences: Vec<Difference>,
}

/// Restores sources into one place.
pub(crate) struct Restorer<'a> {
    pub target: &'a Target,
    pub identities: Option<&'a Identities>,
    pub overwrite: bool,
    pub ui: &'a Ui,
    pub stop: &'a Stop,
}

/// A proven file that waits for the disk before it gets its name.
struct Waiting {
    incoming: PathBuf,
    path: PathBuf,
    size: u64,
}

impl Restorer<'_> {
    /// Makes sure, before anything is written, that nothing else is where files will be, and that
    /// there is room.
    pub(crate) fn nothing_in_the_way(
        &self,
        plan: &[Choice],
        library: &Library,
    ) -> Result<(), Error> {
        let mut in_the_way = Vec::new();
        let mut needed = 0;
        for choice in plan {
            let record = library.record(choice)?;
            let fetch = library.fetch(&choice.snapshot, self.ui, self.stop)?;
            for entry in &record.entries {
                if self.stop.is_set() {
                    return Err(CaptureError::Stopped.into());
                }
                let path = self.path_of(record, entry);
                // What has no node is told later, and needs no room.
                if !is_plain(&path) || fetch.node(entry).is_err() {
                    continue;
                }
                let there = self.there(&fetch, entry, &path)?;
                if there != There::Same {
                    needed = entry.size.unwrap_or(0).saturating_add(needed);
                }
                if there == There::Different && !self.overwrite {
                    in_the_way.push(self.target.of(&path));
                }
                if entry.database.is_some() {
                    self.no_leftovers(&path)?;
                }
            }
        }
        if !in_the_way.is_empty() {
            return Err(Error::InTheWay {
                target: self.target.path().to_path_buf(),
                files: in_the_way,
            });
        }
        let free = self.target.free()?;
        if free < needed {
            return Err(Error::NoRoom {
                path: self.target.path().to_path_buf(),
                free,
                needed,
            });
        }
        Ok(())
    }

    /// A WAL or journal beside a restored database would be taken for its own, and bring back rows
    /// that are not of the snapshot, without a word.
    fn no_leftovers(&self, database: &Path) -> Result<(), Error> {
        for suffix in ["-wal", "-journal", "-shm"] {
            let mut side = database.as_os_str().to_owned();
            side.push(suffix);
            let side = PathBuf::from(side);
            if self.target.look(&side)? != Found::Nothing {
                return Err(Error::usage(
                    format!(
                        "`{}` belongs to another database, and SQLite would mix the two",
                        self.target.of(&side).display()
                    ),
                    "restore into an empty folder; for the hub's own database there is `rustic-hapi restore --in-place`",
                ));
            }
        }
        let path = self.target.of(database);
        if self.overwrite && path.exists() {
            nobody_has_it_open(&path)?;
        }
        Ok(())
    }

    /// Where an entry goes: a secret that is opened loses its `.age`.
    pub(crate) fn path_of(&self, record: &SourceRecord, entry: &EntryRecord) -> PathBuf {
        path_of(record, entry, self.identities.is_some())
    }

    /// What is where an entry goes.
    fn there(&self, fetch: &Fetch<'_>, entry: &EntryRecord, path: &Path) -> Result<There, Error> {
        Ok(match (self.target.look(path)?, entry.kind) {
            (Found::Nothing, _) => There::Nothing,
            (Found::Dir, EntryKind::Dir) => There::Same,
            (Found::Symlink(there), EntryKind::Symlink) => There::of(
                fetch
                    .node(entry)
                    .is_ok_and(|node| node.node_type.to_link() == there),
            ),
            (Found::File(size), EntryKind::File) => match self.identities {
                Some(identities) if entry.secret_entries.is_some() => {
                    match open_secret(fetch, entry, identities) {
                        Ok(plaintext) => self.is_plaintext(&plaintext, size, path)?,
                        // Nothing will be written there; why not is told then.
                        Err(Failure::Difference(_)) => There::Same,
                        Err(Failure::Stopped) => return Err(CaptureError::Stopped.into()),
                        Err(Failure::Local(error)) => {
                            return Err(Error::at(&self.target.of(path))(error));
                        }
                    }
                }
                _ => There::of(
                    entry.size == Some(size) && entry.sha256 == Some(self.target.hash(path)?),
                ),
            },
            _ => There::Different,
        })
    }

    fn is_plaintext(&self, plaintext: &Plaintext, size: u64, path: &Path) -> Result<There, Error> {
        let bytes = plaintext.as_bytes();
        Ok(There::of(
            size == bytes.len() as u64 && self.target.hash(path)? == sha256_hex(bytes),
        ))
    }

    /// Restores a source; what cannot be read is tried once more with what the repository has now.
    /// Somebody may have pruned it meanwhile, which moves what is still needed to other packs.
    pub(crate) fn bring(
        &self,
        repository: &Repository,
        library: &mut Library,
        choice: Choice,
    ) -> Result<SourceReport, Error> {
        let record = library.record(&choice)?.clone();
        let fetch = library.fetch(&choice.snapshot, self.ui, self.stop)?;
        let came = self.source(&fetch, choice.clone(), &record)?;
        let unreadable = |d: &Difference| matches!(d.what, What::Unreadable(_));
        if !came.differences.iter().any(unreadable) {
            return Ok(came);
        }
        // One that does not answer any more is no difference, but an error.
        repository.snapshot_ids()?;
        library.engine = repository.for_reading()?;
        let fetch = library.fetch(&choice.snapshot, self.ui, self.stop)?;
        self.source(&fetch, choice, &record)
    }

    /// Restores one source.
    fn source(
        &self,
        fetch: &Fetch<'_>,
        choice: Choice,
        record: &SourceRecord,
    ) -> Result<SourceReport, Error> {
        let mut report = SourceReport {
            kind: record.kind,
            files: Vec::new(),
            bytes: 0,
            already: 0,
            opened: (record.kind == Kind::Secret && !record.entries.is_empty())
                .then_some(self.identities.is_some()),
            differences: Vec::new(),
            choice,
        };
        self.ui
            .start(&format!("restoring {}", record.name), bytes_of(record));
        let restored = self.entries(fetch, record, &mut report);
        self.ui.end();
        restored?;
        Ok(report)
    }

    fn entries(
        &self,
        fetch: &Fetch<'_>,
        record: &SourceRecord,
        report: &mut SourceReport,
    ) -> Result<(), Error> {
        let mut waiting: Vec<Waiting> = Vec::new();
        for entry in &record.entries {
            if self.stop.is_set() {
                return Err(CaptureError::Stopped.into());
            }
            let mut path = self.path_of(record, entry);
            let mut brought = self.entry(fetch, record, entry, &path);
            if let Err(Lost::Difference(What::Sealed)) = brought {
                // Better encrypted than not at all: another identity opens it later.
                path = entry.path.to_path();
                report.opened = Some(false);
                report.differences.push(Difference {
                    path: Some(path.clone()),
                    what: What::Sealed,
                });
                brought = self.as_it_is(fetch, entry, &path);
            }
            match brought {
                Ok(Brought::Incoming(incoming, size)) => {
                    report.files.push(self.target.of(&path));
                    report.bytes += size;
                    waiting.push(Waiting {
                        incoming,
                        path,
                        size,
                    });
                }
                Ok(Brought::Already(size)) => {
                    report.files.push(self.target.of(&path));
                    report.bytes += size;
                    report.already += 1;
                }
                Ok(Brought::Other) => {}
                Err(Lost::Difference(what)) => report.differences.push(Difference {
                    path: Some(entry.path.to_path()),
                    what,
                }),
                Err(Lost::Error(error)) => return Err(error),
            }
            if waiting.len() >= WAITING
                || waiting.iter().map(|w| w.size).sum::<u64>() >= WAITING_BYTES
            {
                self.settle(&mut waiting)?;
            }
        }
        self.settle(&mut waiting)
    }

    fn entry(
        &self,
        fetch: &Fetch<'_>,
        record: &SourceRecord,
        entry: &EntryRecord,
        path: &Path,
    ) -> Result<Brought, Lost> {
        if !is_plain(path) {
            return Err(Lost::Difference("it is not a plain absolute path".into()));
        }
        let node = fetch.node(entry).map_err(Lost::of(self, path))?;
        match entry.kind {
            EntryKind::Dir => {
                self.target.folder(path)?;
                Ok(Brought::Other)
            }
            EntryKind::Symlink => {
                let leads_to = node.node_type.to_link().to_path_buf();
                match self.target.look(path)? {
                    Found::Symlink(there) if there == leads_to => {}
                    Found::Nothing => self.target.link(path, &leads_to, false)?,
                    _ if self.overwrite => self.target.link(path, &leads_to, true)?,
                    _ => return Err(self.in_the_way(path).into()),
                }
                Ok(Brought::Other)
            }
            EntryKind::File => match (record.kind, self.identities) {
                (Kind::Secret, Some(identities)) => {
                    self.secret(fetch, entry, path, node, identities)
                }
                _ => self.file(fetch, entry, path, node),
            },
        }
    }

    fn file(
        &self,
        fetch: &Fetch<'_>,
        entry: &EntryRecord,
        path: &Path,
        node: &Node,
    ) -> Result<Brought, Lost> {
        if self.there(fetch, entry, path)? == There::Same {
            let size = entry.size.unwrap_or(0);
            self.ui.advance(size);
            return Ok(Brought::Already(size));
        }
        self.arrive(fetch, entry, path, node)
    }

    /// A secret's ciphertext.
    fn as_it_is(
        &self,
        fetch: &Fetch<'_>,
        entry: &EntryRecord,
        path: &Path,
    ) -> Result<Brought, Lost> {
        let node = fetch.node(entry).map_err(Lost::of(self, path))?;
        match self.target.look(path)? {
            Found::Nothing => {}
            Found::File(size)
                if entry.size == Some(size) && entry.sha256 == Some(self.target.hash(path)?) =>
            {
                return Ok(Brought::Already(size));
            }
            _ if self.overwrite => {}
            _ => return Err(self.in_the_way(path).into()),
        }
        self.arrive(fetch, entry, path, node)
    }

    fn arrive(
        &self,
        fetch: &Fetch<'_>,
        entry: &EntryRecord,
        path: &Path,
        node: &Node,
    ) -> Result<Brought, Lost> {
        let size = entry.size.unwrap_or(0);
        let (incoming, mut file) = self.target.incoming()?;
        fetch
            .into_file(entry, &mut file)
            .map_err(Lost::of(self, path))?;
        let local = |error| Lost::of(self, path)(Failure::Local(error));
        apply(&file, Attributes::of(node)).map_err(local)?;
        if size >= WAITING_BYTES {
            sync_file(&file).map_err(local)?;
        }
        Ok(Brought::Incoming(incoming, size))
    }

    fn secret(
        &self,
        fetch: &Fetch<'_>,
        entry: &EntryRecord,
        path: &Path,
        node: &Node,
        identities: &Identities,
    ) -> Result<Brought, Lost> {
        let plaintext = open_secret(fetch, entry, identities).map_err(Lost::of(self, path))?;
        let size = plaintext.as_bytes().len() as u64;
        let there = match self.target.look(path)? {
            Found::Nothing => There::Nothing,
            Found::File(size) => self.is_plaintext(&plaintext, size, path)?,
            _ => There::Different,
        };
        match there {
            There::Same => {
                self.target
                    .set_mode(path, private(Attributes::of(node).mode))?;
                return Ok(Brought::Already(size));
            }
            There::Different if !self.overwrite => return Err(self.in_the_way(path).into()),
            _ => {}
        }
        let (incoming, mut file) = self.target.incoming()?;
        let local = |error| Lost::of(self, path)(Failure::Local(error));
        keeps_private(&incoming)
            .and_then(|()| file.write_all(plaintext.as_bytes()))
            .map_err(local)?;
        let attributes = Attributes::of(node);
        let attributes = Attributes {
            mode: private(attributes.mode),
            ..attributes
        };
        apply(&file, attributes).map_err(local)?;
        Ok(Brought::Incoming(incoming, size))
    }

    /// Gives waiting files their names, once they are on the disk.
    fn settle(&self, waiting: &mut Vec<Waiting>) -> Result<(), Error> {
        match waiting.as_slice() {
            [] => return Ok(()),
            [one] if one.size >= WAITING_BYTES => {} // synced when it was written
            [one] => fs::File::open(&one.incoming)
                .and_then(|file| sync_file(&file))
                .map_err(Error::at(&one.incoming))?,
            _ => self.target.sync()?,
        }
        for file in waiting.drain(..) {
            self.target
                .settle(&file.incoming, &file.path, self.overwrite)?;
        }
        Ok(())
    }

    /// Gives the folders their attributes, the deepest first: what comes into a folder changes its time.
    pub(crate) fn apply_to_folders(
        &self,
        sources: &[SourceReport],
        library: &Library,
    ) -> Result<(), Error> {
        let mut folders: BTreeMap<PathBuf, Attributes> = BTreeMap::new();
        for source in sources {
            let record = library.record(&source.choice)?;
            let contents = library.opened(&source.choice.snapshot.id)?;
            for entry in &record.entries {
                let path = entry.path.to_path();
                for folder in path.ancestors() {
                    let Some(node) = contents.node(folder) else {
                        continue;
                    };
                    if node.subtree.is_some() {
                        folders.insert(folder.to_path_buf(), Attributes::of(node));
                    }
                }
            }
        }
        for (folder, attributes) in folders.iter().rev() {
            self.target.apply_to_folder(folder, *attributes)?;
        }
        Ok(())
    }

    fn in_the_way(&self, path: &Path) -> Error {
        Error::InTheWay {
            target: self.target.path().to_path_buf(),
            files: vec![self.target.of(path)],
        }
    }
}

/// Whatever the mode was: a secret is its owner's alone. A program stays one.
pub(crate) fn private(mode: u32) -> u32 {
    0o600 | (mode & 0o100)
}

/// Where an entry goes: a secret that is opened loses its `.age`.
pub(crate) fn path_of(record: &SourceRecord, entry: &EntryRecord, opened: bool) -> PathBuf {
    let path = entry.path.to_path();
    match (record.kind, opened) {
        (Kind::Secret, true) if entry.kind == EntryKind::File => {
            let bytes = path.as_os_str().as_bytes();
            let bare = bytes.strip_suffix(b".age").unwrap_or(bytes);
            PathBuf::from(std::ffi::OsStr::from_bytes(bare))
        }
        _ => path,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    Same,
    Different,
}

impl There {
    fn of(same: bool) -> Self {
        if same { Self::Same } else { Self::Different }
    }
}

enum Brought {
    Incoming(PathBuf, u64),
    Already(u64),
    Other,
}

enum Lost {
    Difference(What),
    Error(Error),
}

impl From<Error> for Lost {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Lost {
    fn of<'a>(restorer: &'a Restorer<'_>, path: &'a Path) -> impl FnOnce(Failure) -> Self + 'a {
        |failure| match failure {
            Failure::Difference(what) => Self::Difference(what),
            Failure::Stopped => Self::Error(CaptureError::Stopped.into()),
            Failure::Local(error) => Self::Error(Error::at(&restorer.target.of(path))(error)),
        }
    }
}

impl Attributes {
    /// What a node says. restic keeps permission bits as in POSIX, the rest as Go's `os.FileMode`.
    pub(crate) fn of(node: &Node) -> Self {
        let go = node.meta.mode.unwrap_or(0o600);
        let special = [(23, 0o4000), (22, 0o2000), (20, 0o1000)]
            .iter()
            .filter(|(bit, _)| go & (1 << bit) != 0)
            .fold(0, |mode, (_, posix)| mode | posix);
        Self {
            mode: (go & 0o777) | special,
            owner: node.meta.uid.zip(node.meta.gid),
            mtime: node.meta.mtime,
        }
    }
}

impl SourceReport {
    pub(crate) fn planned(
        choice: Choice,
        record: &SourceRecord,
        identities: Option<&Identities>,
    ) -> Self {
        let files = record
            .entries
            .iter()
            .filter(|e| e.kind == EntryKind::File)
            .map(|e| path_of(record, e, identities.is_some()))
            .collect();
        Self {
            kind: record.kind,
            files,
            bytes: bytes_of(record),
            already: 0,
            opened: (record.kind == Kind::Secret && !record.entries.is_empty())
                .then_some(identities.is_some()),
            differences: Vec::new(),
            choice,
        }
    }
}

/// What a manifest says it has in bytes; it may say anything.
fn bytes_of(record: &SourceRecord) -> u64 {
    let sizes = record.entries.iter().filter_map(|e| e.size);
    sizes.fold(0, u64::saturating_add)
}
