//! A restore brings sources back into a folder, each file proven before it has its name.
//!
//! snapshot ─> contents ─> fetch ─> compare with manifest ─> on the disk ─> its name
//!
//! Interrupted at any point it leaves no half-written file under a real name, and run again it
//! finishes: what is there and equal is left as it is. [`crate::commands::restore_in_place`] is for the hub's own files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Local};
use hapi_sources::{CaptureError, DecryptError, Identities, Kind, Observer, Plaintext, Stop};
use rustic_core::repofile::{Node, SnapshotId};

use crate::error::Error;
use crate::machine::place::{Found, Looks, Place, dress};
use crate::policy::choice::{self, Choice, Chosen, Which};
use crate::policy::history::{SHRUNK, Snapshot};
use crate::policy::manifest::{EntryKind, EntryRecord, SourceRecord};
use crate::profile::Profile;
use crate::repository::{Engine, Repository};
use crate::restore::contents::{Contents, is_plain};
use crate::restore::fetch::{Failure, Fetch};
use crate::restore::origin;
use crate::terminal::ui::Ui;

/// Files that may wait for the disk together, and their bytes.
const WAITING: usize = 256;
const WAITING_BYTES: u64 = 32 << 20;

/// What a restore is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which snapshots.
    pub which: Which,
    /// Where to.
    pub target: PathBuf,
    /// Only these sources; all of them if empty.
    pub sources: Vec<String>,
    /// Another host's snapshots than the profile's.
    pub host: Option<String>,
    /// Replace what is in the way.
    pub overwrite: bool,
    /// Say what would be restored; write nothing.
    pub dry_run: bool,
}

/// What a restore did.
#[derive(Debug)]
pub struct Report {
    /// Where to.
    pub target: PathBuf,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// By source, in the profile's order.
    pub sources: Vec<SourceReport>,
    /// Sources that no snapshot holds, and whether they are required.
    pub nowhere: Vec<(String, bool)>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// From the opening of the repository to the last byte on the disk.
    pub took: Duration,
}

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
    pub differences: Vec<String>,
}

/// Restores into a folder.
///
/// # Errors
/// Those of the repository and of the target. Where a file is not what its manifest says, that is in
/// the report, and the others are restored.
pub fn run(
    profile: &Profile,
    request: &Request,
    identities: Option<&Identities>,
    now: DateTime<Local>,
    stop: &Stop,
    ui: &Ui,
) -> Result<Report, Error> {
    let started = Instant::now();
    if fs::canonicalize(&request.target).is_ok_and(|target| target == Path::new("/")) {
        return Err(Error::Usage {
            fact: "`/` is no target: a database put down beside a leftover `-wal` comes back wrong"
                .into(),
            hint: Some(
                "restore into an empty folder, or use `rustic-hapi restore --in-place`".into(),
            ),
        });
    }
    let repository = Repository::open(profile, stop, ui.clone())?;
    let _held = repository.lock_to_read()?;
    let mut library = Library::open(&repository, profile, request.host.as_deref())?;
    let chosen = library.choose(profile, &request.which, &request.sources, now)?;
    let mut warnings = library.unreadable.clone();
    warnings.extend(warnings_of(&chosen, &library.snapshots));

    let mut plan = Vec::new();
    for choice in chosen.choices {
        let contents = library.contents(&choice.snapshot)?;
        contents.is_trustworthy(&choice.snapshot)?;
        plan.push(choice);
    }
    let mut report = Report {
        target: request.target.clone(),
        dry_run: request.dry_run,
        sources: Vec::new(),
        nowhere: chosen.nowhere,
        warnings,
        took: Duration::ZERO,
    };
    if request.dry_run {
        for choice in plan {
            let record = library.record(&choice)?;
            report
                .sources
                .push(SourceReport::planned(choice, record, identities));
        }
        report.took = started.elapsed();
        return Ok(report);
    }

    let place = Place::open(&request.target)?;
    report.target = place.path().to_path_buf();
    let restorer = Restorer {
        place: &place,
        identities,
        overwrite: request.overwrite,
        ui,
        stop,
    };
    restorer.nothing_in_the_way(&plan, &library)?;
    for choice in plan {
        let came = library.bring(&repository, &restorer, choice, ui, stop)?;
        report.sources.push(came);
    }
    restorer.dress_folders(&report.sources, &library)?;
    place.sync()?;
    report.took = started.elapsed();
    Ok(report)
}

/// The snapshots of a repository, and the contents of those that were opened.
pub(crate) struct Library {
    pub(crate) engine: Engine,
    pub(crate) snapshots: Vec<Snapshot>,
    /// What is wrong with snapshot files that cannot be read.
    pub(crate) unreadable: Vec<String>,
    opened: BTreeMap<SnapshotId, Contents>,
}

impl Library {
    pub(crate) fn open(
        repository: &Repository,
        profile: &Profile,
        host: Option<&str>,
    ) -> Result<Self, Error> {
        let (files, unreadable) = repository.readable_snapshots()?;
        let snapshots = origin::readable(repository, &files, profile, host)?;
        Ok(Self {
            engine: repository.for_reading()?,
            snapshots,
            unreadable,
            opened: BTreeMap::new(),
        })
    }

    /// Chooses, and keeps the wanted sources only.
    pub(crate) fn choose(
        &mut self,
        profile: &Profile,
        which: &Which,
        sources: &[String],
        now: DateTime<Local>,
    ) -> Result<Chosen, Error> {
        let (engine, opened) = (&self.engine, &mut self.opened);
        let mut describe = |snapshot: &Snapshot| {
            let contents = Contents::load(engine, snapshot)?;
            let description = contents.description.clone();
            opened.insert(snapshot.id, contents);
            Ok(description)
        };
        let mut chosen = choice::choose(&self.snapshots, profile, which, now, &mut describe)?;
        self.unreadable.append(&mut chosen.unreadable);
        for name in sources {
            let known = chosen.choices.iter().any(|c| c.source == *name)
                || chosen.nowhere.iter().any(|(nowhere, _)| nowhere == name);
            if !known {
                let names: Vec<_> = chosen.choices.iter().map(|c| c.source.as_str()).collect();
                return Err(Error::Usage {
                    fact: format!("there is no source `{name}` to restore"),
                    hint: Some(format!("there are {}", names.join(", "))),
                });
            }
        }
        if !sources.is_empty() {
            chosen.choices.retain(|c| sources.contains(&c.source));
            chosen.nowhere.retain(|(name, _)| sources.contains(name));
            for (_, required) in &mut chosen.nowhere {
                *required = true;
            }
        }
        Ok(chosen)
    }

    /// The contents of a snapshot, loaded once.
    pub(crate) fn contents(&mut self, snapshot: &Snapshot) -> Result<&Contents, Error> {
        let id = snapshot.id;
        if !self.opened.contains_key(&id) {
            let contents =
                Contents::load(&self.engine, snapshot).map_err(|reason| Error::Unlike {
                    snapshot: snapshot.to_string(),
                    differences: vec![reason],
                })?;
            self.opened.insert(id, contents);
        }
        self.opened(&id)
    }

    fn opened(&self, id: &SnapshotId) -> Result<&Contents, Error> {
        self.opened.get(id).ok_or_else(|| Error::NoSnapshot {
            fact: "a snapshot was used before it was opened".into(),
            hint: "this is a defect".into(),
        })
    }

    /// What the manifest says of a chosen source.
    pub(crate) fn record(&self, choice: &Choice) -> Result<&SourceRecord, Error> {
        let contents = self.opened(&choice.snapshot.id)?;
        contents
            .manifest
            .sources
            .iter()
            .find(|s| s.name == choice.source)
            .ok_or_else(|| Error::Unlike {
                snapshot: choice.snapshot.to_string(),
                differences: vec![format!("its manifest has no source `{}`", choice.source)],
            })
    }

    /// Bytes that a chosen source takes, as far as its snapshot can be read.
    pub(crate) fn bytes(&mut self, choice: &Choice) -> u64 {
        let Ok(contents) = self.contents(&choice.snapshot) else {
            return 0;
        };
        let sources = contents.manifest.sources.iter();
        sources
            .filter(|source| source.name == choice.source)
            .flat_map(|source| &source.entries)
            .filter(|entry| contents.node(&entry.path.to_path()).is_some())
            .filter_map(|entry| entry.size)
            .fold(0, u64::saturating_add)
    }

    /// Restores a source; what cannot be read is tried once more with what the repository has now.
    /// Somebody may have pruned it meanwhile, which moves what is still needed to other packs.
    pub(crate) fn bring(
        &mut self,
        repository: &Repository,
        restorer: &Restorer<'_>,
        choice: Choice,
        ui: &Ui,
        stop: &Stop,
    ) -> Result<SourceReport, Error> {
        let record = self.record(&choice)?.clone();
        let fetch = self.fetch(&choice.snapshot, ui, stop)?;
        let came = restorer.source(&fetch, choice.clone(), &record)?;
        if !came
            .differences
            .iter()
            .any(|what| what.contains("cannot be read"))
        {
            return Ok(came);
        }
        // One that does not answer any more is no difference, but an error.
        repository.snapshot_ids()?;
        self.engine = repository.for_reading()?;
        let fetch = self.fetch(&choice.snapshot, ui, stop)?;
        restorer.source(&fetch, choice, &record)
    }

    /// What brings files out of an opened snapshot.
    pub(crate) fn fetch<'a>(
        &'a self,
        snapshot: &Snapshot,
        ui: &'a Ui,
        stop: &'a Stop,
    ) -> Result<Fetch<'a>, Error> {
        Ok(Fetch {
            engine: &self.engine,
            contents: self.opened(&snapshot.id)?,
            ui,
            stop,
        })
    }
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
}

/// What should be said about where sources come from.
pub(crate) fn warnings_of(chosen: &Chosen, snapshots: &[Snapshot]) -> Vec<String> {
    let mut warnings = Vec::new();
    for choice in &chosen.choices {
        if !choice.outcome.is_sound() {
            warnings.push(format!(
                "`{}` is {} in the snapshot {}",
                choice.source,
                choice.outcome.in_words(),
                choice.snapshot
            ));
        } else if let Some((newer, outcome)) = choice.passed_over.first() {
            warnings.push(format!(
                "`{}` comes from {}: in the newest, {}, it is {}",
                choice.source,
                choice.snapshot,
                newer.short_id(),
                outcome.in_words()
            ));
        }
    }
    // A migration emptied the database: then the newest is not what anybody wants back.
    let mut told = Vec::new();
    for choice in chosen.choices.iter().filter(|c| c.snapshot.has(SHRUNK)) {
        if told.contains(&choice.snapshot.id) {
            continue;
        }
        told.push(choice.snapshot.id);
        let before = snapshots.iter().rev().find(|s| {
            s.series == choice.snapshot.series && s.time < choice.snapshot.time && s.is_sound()
        });
        warnings.push(format!(
            "the snapshot {} has far fewer rows than the one before it{}",
            choice.snapshot,
            before.map_or_else(String::new, |s| format!("; the last sound one is {s}"))
        ));
    }
    warnings
}

/// Restores sources into one place.
pub(crate) struct Restorer<'a> {
    pub place: &'a Place,
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
    fn nothing_in_the_way(&self, plan: &[Choice], library: &Library) -> Result<(), Error> {
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
                    in_the_way.push(self.place.of(&path));
                }
                if entry.database.is_some() {
                    self.no_leftovers(&path)?;
                }
            }
        }
        if !in_the_way.is_empty() {
            return Err(Error::InTheWay {
                target: self.place.path().to_path_buf(),
                files: in_the_way,
            });
        }
        let free = self.place.free()?;
        if free < needed {
            return Err(Error::NoRoom {
                path: self.place.path().to_path_buf(),
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
            if self.place.look(&side)? != Found::Nothing {
                return Err(Error::Usage {
                    fact: format!(
                        "`{}` belongs to another database, and SQLite would mix the two",
                        self.place.of(&side).display()
                    ),
                    hint: Some("restore into an empty folder; for the hub's own database there is `rustic-hapi restore --in-place`".into()),
                });
            }
        }
        let path = self.place.of(database);
        if self.overwrite && path.exists() {
            crate::machine::holders::nobody_has_it_open(&path)?;
        }
        Ok(())
    }

    /// Where an entry goes: a secret that is opened loses its `.age`.
    pub(crate) fn path_of(&self, record: &SourceRecord, entry: &EntryRecord) -> PathBuf {
        path_of(record, entry, self.identities.is_some())
    }

    /// What is where an entry goes.
    fn there(&self, fetch: &Fetch<'_>, entry: &EntryRecord, path: &Path) -> Result<There, Error> {
        Ok(match (self.place.look(path)?, entry.kind) {
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
                        Err(Failure::Difference(_) | Failure::Sealed) => There::Same,
                        Err(Failure::Stopped) => return Err(CaptureError::Stopped.into()),
                        Err(Failure::Local(error)) => {
                            return Err(Error::State {
                                path: self.place.of(path),
                                error,
                            });
                        }
                    }
                }
                _ => There::of(
                    entry.size == Some(size) && entry.sha256 == Some(self.place.hash(path)?),
                ),
            },
            _ => There::Different,
        })
    }

    fn is_plaintext(&self, plaintext: &Plaintext, size: u64, path: &Path) -> Result<There, Error> {
        let bytes = plaintext.as_bytes();
        Ok(There::of(
            size == bytes.len() as u64
                && self.place.hash(path)? == crate::restore::contents::sha256_hex(bytes),
        ))
    }

    /// Restores one source.
    pub(crate) fn source(
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
            if let Err(Lost::Sealed) = brought {
                // Better encrypted than not at all: another identity opens it later.
                path = entry.path.to_path();
                report.opened = Some(false);
                report.differences.push(format!(
                    "`{}`: none of the identities opens it; it is left encrypted",
                    path.display()
                ));
                brought = self.as_it_is(fetch, entry, &path);
            }
            match brought {
                Ok(Brought::Incoming(incoming, size)) => {
                    report.files.push(self.place.of(&path));
                    report.bytes += size;
                    waiting.push(Waiting {
                        incoming,
                        path,
                        size,
                    });
                }
                Ok(Brought::Already(size)) => {
                    report.files.push(self.place.of(&path));
                    report.bytes += size;
                    report.already += 1;
                }
                Ok(Brought::Other) => {}
                Err(Lost::Difference(what)) => report
                    .differences
                    .push(format!("`{}`: {what}", entry.path.to_path().display())),
                Err(Lost::Error(error)) => return Err(error),
                // It was brought as it is.
                Err(Lost::Sealed) => {}
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
            return Err(Lost::Difference("it is no plain absolute path".into()));
        }
        let node = fetch.node(entry).map_err(Lost::of(self, path))?;
        match entry.kind {
            EntryKind::Dir => {
                self.place.folder(path)?;
                Ok(Brought::Other)
            }
            EntryKind::Symlink => {
                let target = node.node_type.to_link().to_path_buf();
                match self.place.look(path)? {
                    Found::Symlink(there) if there == target => {}
                    Found::Nothing => self.place.link(path, &target, false)?,
                    _ if self.overwrite => self.place.link(path, &target, true)?,
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
        match self.place.look(path)? {
            Found::Nothing => {}
            Found::File(size)
                if entry.size == Some(size) && entry.sha256 == Some(self.place.hash(path)?) =>
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
        let (incoming, mut file) = self.place.incoming()?;
        fetch
            .into_file(entry, &mut file)
            .map_err(Lost::of(self, path))?;
        let local = |error| Lost::of(self, path)(Failure::Local(error));
        dress(&file, Looks::of(node)).map_err(local)?;
        if size >= WAITING_BYTES {
            file.sync_all().map_err(local)?;
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
        let plaintext = match open_secret(fetch, entry, identities) {
            // Better encrypted than not at all: another identity opens it later.
            Err(Failure::Sealed) => return Err(Lost::Sealed),
            other => other.map_err(Lost::of(self, path))?,
        };
        let size = plaintext.as_bytes().len() as u64;
        let there = match self.place.look(path)? {
            Found::Nothing => There::Nothing,
            Found::File(size) => self.is_plaintext(&plaintext, size, path)?,
            _ => There::Different,
        };
        match there {
            There::Same => {
                self.place.set_mode(path, 0o600)?;
                return Ok(Brought::Already(size));
            }
            There::Different if !self.overwrite => return Err(self.in_the_way(path).into()),
            _ => {}
        }
        let (incoming, mut file) = self.place.incoming()?;
        let local = |error| Lost::of(self, path)(Failure::Local(error));
        file.write_all(plaintext.as_bytes()).map_err(local)?;
        // Whatever the mode was: a secret is its owner's alone.
        let looks = Looks {
            mode: 0o600,
            ..Looks::of(node)
        };
        dress(&file, looks).map_err(local)?;
        Ok(Brought::Incoming(incoming, size))
    }

    /// Gives waiting files their names, once they are on the disk.
    fn settle(&self, waiting: &mut Vec<Waiting>) -> Result<(), Error> {
        match waiting.as_slice() {
            [] => return Ok(()),
            [one] if one.size >= WAITING_BYTES => {} // synced when it was written
            [one] => fs::File::open(&one.incoming)
                .and_then(|file| file.sync_all())
                .map_err(|error| Error::State {
                    path: one.incoming.clone(),
                    error,
                })?,
            _ => self.place.sync()?,
        }
        for file in waiting.drain(..) {
            self.place
                .settle(&file.incoming, &file.path, self.overwrite)?;
        }
        Ok(())
    }

    /// Gives the folders their looks, the deepest first: what comes into a folder changes its time.
    pub(crate) fn dress_folders(
        &self,
        sources: &[SourceReport],
        library: &Library,
    ) -> Result<(), Error> {
        let mut folders: BTreeMap<PathBuf, Looks> = BTreeMap::new();
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
                        folders.insert(folder.to_path_buf(), Looks::of(node));
                    }
                }
            }
        }
        for (folder, looks) in folders.iter().rev() {
            self.place.dress_folder(folder, *looks)?;
        }
        Ok(())
    }

    fn in_the_way(&self, path: &Path) -> Error {
        Error::InTheWay {
            target: self.place.path().to_path_buf(),
            files: vec![self.place.of(path)],
        }
    }
}

/// Where an entry goes: a secret that is opened loses its `.age`.
pub(crate) fn path_of(record: &SourceRecord, entry: &EntryRecord, opened: bool) -> PathBuf {
    let path = entry.path.to_path();
    match (record.kind, opened) {
        (Kind::Secret, true) => {
            let bytes = path.as_os_str().as_bytes();
            let bare = bytes.strip_suffix(b".age").unwrap_or(bytes);
            PathBuf::from(std::ffi::OsStr::from_bytes(bare))
        }
        _ => path,
    }
}

/// Decrypts a secret in memory, and compares the number of its entries with the manifest.
pub(crate) fn open_secret(
    fetch: &Fetch<'_>,
    entry: &EntryRecord,
    identities: &Identities,
) -> Result<Plaintext, Failure> {
    let ciphertext = fetch.into_memory(entry)?;
    let plaintext = identities
        .decrypt(&ciphertext)
        .map_err(|error| match error {
            DecryptError::NoMatchingKey => Failure::Sealed,
            error => Failure::Difference(format!("it cannot be decrypted: {error}")),
        })?;
    match entry.secret_entries {
        Some(entries) if entries != plaintext.entries() => Err(Failure::Difference(format!(
            "it has {} entries, the manifest says {entries}",
            plaintext.entries()
        ))),
        _ => Ok(plaintext),
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
    Difference(String),
    /// No identity that was given opens it.
    Sealed,
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
            Failure::Sealed => Self::Sealed,
            Failure::Stopped => Self::Error(CaptureError::Stopped.into()),
            Failure::Local(error) => Self::Error(Error::State {
                path: restorer.place.of(path),
                error,
            }),
        }
    }
}

impl Looks {
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
    fn planned(choice: Choice, record: &SourceRecord, identities: Option<&Identities>) -> Self {
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
