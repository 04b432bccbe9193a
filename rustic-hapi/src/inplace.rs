//! An in-place restore brings sources back to where they live: the hub's own database, unless others
//! are named. The hub is stopped by the operator, never by us; nothing that was there is deleted.
//!
//! Everything is fetched and proven beside the live files first. Then each database is swapped
//! ([`crate::swap`]), and each other file takes its name by one rename, the old one kept beside it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Local};
use hapi_sources::{
    CaptureError, Column, Identities, IntegrityCheck, Kind, Observer, Stop, examine,
};

use crate::choice::{Choice, Which};
use crate::contents::is_plain;
use crate::drill::facts_differ;
use crate::error::Error;
use crate::fetch::{Failure, Fetch};
use crate::holders;
use crate::manifest::{EntryKind, EntryRecord, SourceRecord};
use crate::place::{Looks, dress};
use crate::profile::Profile;
use crate::repository::Repository;
use crate::restore::{Library, open_secret, path_of, warnings_of};
use crate::swap::{Ownership, Swap};
use crate::ui::Ui;

/// What an in-place restore is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which snapshots.
    pub which: Which,
    /// Only these sources; the databases if empty.
    pub sources: Vec<String>,
    /// Another host's snapshots than the profile's.
    pub host: Option<String>,
    /// Say what would be replaced; change nothing.
    pub dry_run: bool,
    /// How long to wait for another run.
    pub lock_wait: Duration,
}

/// What an in-place restore did.
#[derive(Debug)]
pub struct Report {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// In the order they were replaced.
    pub files: Vec<Replaced>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Commands that undo it, with the hub stopped.
    pub undo: Vec<String>,
    /// From the opening of the repository to the end.
    pub took: Duration,
}

/// One file that was replaced, or would be.
#[derive(Debug)]
pub struct Replaced {
    /// The source's name.
    pub source: String,
    /// Where it came from.
    pub choice: Choice,
    /// Where it lives.
    pub live: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Where what was there is now.
    pub set_aside: Option<PathBuf>,
    /// It was there already, and equal.
    pub already: bool,
}

/// A file that is to come home.
struct Item {
    choice: Choice,
    record: SourceRecord,
    entry: EntryRecord,
    live: PathBuf,
}

/// Restores to where the sources live.
///
/// # Errors
/// [`Error::InUse`] while a process has a database of the profile open; whatever keeps a file from
/// being fetched and proven, with nothing changed; [`Error::NotSwapped`], [`Error::HalfSwapped`].
pub fn run(
    profile: &Profile,
    request: &Request,
    identities: Option<&Identities>,
    now: DateTime<Local>,
    stop: &Stop,
    ui: &Ui,
) -> Result<Report, Error> {
    let started = Instant::now();
    let _lock = crate::snapshot::lock(profile, request.lock_wait, stop)?;
    let repository = Repository::open(profile, stop, ui.clone())?;
    let mut library = Library::open(&repository, profile, request.host.as_deref())?;
    let chosen = library.choose(profile, &request.which, &request.sources, now)?;
    let mut report = Report {
        dry_run: request.dry_run,
        files: Vec::new(),
        warnings: warnings_of(&chosen, &library.snapshots),
        undo: Vec::new(),
        took: Duration::ZERO,
    };
    let items = items(profile, request, &mut library, chosen.choices, identities)?;
    let unseen = nobody_has_a_database_open(profile, &items, request.dry_run, &mut report)?;
    if unseen > 0 {
        report.warnings.push(format!(
            "{unseen} processes of other users could not be looked at; run as root to see them all"
        ));
    }
    if request.dry_run {
        report
            .files
            .extend(items.into_iter().map(Replaced::planned));
        report.took = started.elapsed();
        return Ok(report);
    }

    let (databases, others): (Vec<Item>, Vec<Item>) = items
        .into_iter()
        .partition(|item| item.entry.database.is_some());
    // All of it is there and proven before anything is replaced.
    let mut swaps = Vec::new();
    for item in databases {
        let fetch = library.fetch(&item.choice.snapshot, ui, stop)?;
        item.make_folder(&fetch, &item.live)?;
        let swap = Swap::begin(&item.live)?;
        if let Some(healed) = swap.healed() {
            report.warnings.push(healed.to_string());
        }
        item.bring_database(&fetch, swap.incoming(), ui, stop)?;
        swaps.push((item, swap));
    }
    let mut arrivals = Vec::new();
    for item in others {
        let fetch = library.fetch(&item.choice.snapshot, ui, stop)?;
        let arrival = item.bring(&fetch, identities)?;
        arrivals.push((item, arrival));
    }

    for (item, swap) in swaps {
        if stop.is_set() {
            return Err(CaptureError::Stopped.into());
        }
        ui.step(format_args!("replacing `{}`", item.live.display()));
        let fetch = library.fetch(&item.choice.snapshot, ui, stop)?;
        let looks = item.looks(&fetch)?;
        let (uid, gid) = looks.owner.unwrap_or((0, 0));
        let ownership = Ownership {
            mode: looks.mode & 0o777,
            uid,
            gid,
        };
        let prove = |live: &Path| item.prove(live, IntegrityCheck::Quick, stop);
        let aside = swap.commit(now, &ownership, &prove)?;
        report.undo.extend(aside.undo());
        report.files.push(Replaced {
            set_aside: aside.folder.clone(),
            live: aside.live,
            already: false,
            bytes: item.entry.size.unwrap_or(0),
            source: item.choice.source.clone(),
            choice: item.choice,
        });
    }
    for (item, arrival) in arrivals {
        let replaced = item.take_place(arrival, now, &mut report.undo)?;
        report.files.push(replaced);
    }
    report.took = started.elapsed();
    Ok(report)
}

/// What comes home, and where that is.
fn items(
    profile: &Profile,
    request: &Request,
    library: &mut Library,
    choices: Vec<Choice>,
    identities: Option<&Identities>,
) -> Result<Vec<Item>, Error> {
    let mut items = Vec::new();
    for choice in choices {
        let contents = library.contents(&choice.snapshot)?;
        contents.is_trustworthy(&choice.snapshot)?;
        let home = contents.manifest.home.to_path();
        let record = library.record(&choice)?.clone();
        if request.sources.is_empty() && record.kind != Kind::Sqlite {
            continue;
        }
        if record.kind == Kind::Secret && identities.is_none() && !record.entries.is_empty() {
            return Err(Error::Usage {
                fact: format!("the secret `{}` is encrypted", choice.source),
                hint: Some("bring the identity along: `--identity FILE`".into()),
            });
        }
        let files = record.entries.iter().filter(|e| e.kind == EntryKind::File);
        for entry in files {
            let path = path_of(&record, entry, true);
            if !is_plain(&path) {
                return Err(Error::Unlike {
                    snapshot: choice.snapshot.to_string(),
                    differences: vec![format!("`{}` is no plain absolute path", path.display())],
                });
            }
            items.push(Item {
                live: live_path(profile, &record, &home, &path),
                choice: choice.clone(),
                record: record.clone(),
                entry: entry.clone(),
            });
        }
    }
    if items.is_empty() {
        return Err(Error::NoSnapshot {
            fact: "there is nothing to restore in place".into(),
            hint: "name what is wanted with `--source`; `rustic-hapi restore --dry-run --target DIR` shows what there is".into(),
        });
    }
    Ok(items)
}

/// Where a file of a snapshot lives here: a source's path may have changed since, and so may home.
fn live_path(profile: &Profile, record: &SourceRecord, home: &Path, path: &Path) -> PathBuf {
    let now = profile
        .sources
        .iter()
        .find(|s| s.source.name == record.name && !s.source.is_pattern());
    let then = record.path.to_path();
    match (now, path.strip_prefix(&then), path.strip_prefix(home)) {
        (Some(now), Ok(rest), _) if rest.as_os_str().is_empty() => now.source.path.clone(),
        (Some(now), Ok(rest), _) => now.source.path.join(rest),
        (_, _, Ok(rest)) => profile.home.join(rest),
        _ => path.to_path_buf(),
    }
}

/// A running hub would go on with files that are no longer there, and write into what came back.
fn nobody_has_a_database_open(
    profile: &Profile,
    items: &[Item],
    dry_run: bool,
    report: &mut Report,
) -> Result<usize, Error> {
    let of_profile = profile
        .sources
        .iter()
        .filter(|s| s.source.kind == Kind::Sqlite && !s.source.is_pattern())
        .map(|s| s.source.path.clone());
    let coming = items
        .iter()
        .filter(|item| item.entry.database.is_some())
        .map(|item| item.live.clone());
    let mut databases: Vec<PathBuf> = of_profile.chain(coming).collect();
    databases.sort();
    databases.dedup();
    let mut unseen = 0;
    for path in databases {
        // On a new machine there is not even the folder.
        if !path.parent().is_some_and(Path::exists) {
            continue;
        }
        let look = holders::of(&path)?;
        unseen = unseen.max(look.unseen);
        if look.holders.is_empty() {
            continue;
        }
        let error = Error::InUse {
            path,
            holders: look.holders,
        };
        if !dry_run {
            return Err(error);
        }
        report.warnings.push(error.to_string());
        report.warnings.extend(error.hint());
    }
    Ok(unseen)
}

/// Refuses to replace a database that a process has open.
///
/// # Errors
/// [`Error::InUse`].
pub(crate) fn nobody_has_it_open(path: &Path) -> Result<(), Error> {
    match holders::of(path)?.holders {
        holders if holders.is_empty() => Ok(()),
        holders => Err(Error::InUse {
            path: path.into(),
            holders,
        }),
    }
}

/// What came, beside where it will be.
enum Arrival {
    File(tempfile::TempPath),
    Already,
}

impl Item {
    fn lost(&self, failure: Failure) -> Error {
        match failure {
            Failure::Stopped => CaptureError::Stopped.into(),
            Failure::Local(error) => Error::State {
                path: self.live.clone(),
                error,
            },
            Failure::Difference(what) => Error::Unlike {
                snapshot: self.choice.snapshot.to_string(),
                differences: vec![format!("`{}`: {what}", self.entry.path.to_path().display())],
            },
        }
    }

    fn looks(&self, fetch: &Fetch<'_>) -> Result<Looks, Error> {
        let node = fetch.node(&self.entry).map_err(|f| self.lost(f))?;
        Ok(Looks::of(node))
    }

    /// Makes the folder of a file where there is none, with the mode and owner it had.
    fn make_folder(&self, fetch: &Fetch<'_>, live: &Path) -> Result<(), Error> {
        let Some(folder) = live.parent().filter(|folder| !folder.exists()) else {
            return Ok(());
        };
        crate::lock::private_folder(folder)?;
        let was = self.entry.path.to_path();
        let node = was.parent().and_then(|folder| fetch.contents.node(folder));
        if let Some(node) = node {
            File::open(folder)
                .and_then(|open| dress(&open, Looks::of(node)))
                .map_err(|error| Error::State {
                    path: folder.into(),
                    error,
                })?;
        }
        Ok(())
    }

    /// Fetches a database beside the live one, and has SQLite look at all of it.
    fn bring_database(
        &self,
        fetch: &Fetch<'_>,
        incoming: &Path,
        ui: &Ui,
        stop: &Stop,
    ) -> Result<(), Error> {
        let local = |error| self.lost(Failure::Local(error));
        has_room(incoming, self.entry.size.unwrap_or(0))?;
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .open(incoming)
            .map_err(local)?;
        ui.start(
            &format!("restoring {}", self.record.name),
            self.entry.size.unwrap_or(0),
        );
        let came = fetch.into_file(&self.entry, &mut file);
        ui.end();
        came.map_err(|failure| self.lost(failure))?;
        file.sync_all().map_err(local)?;
        drop(file);
        ui.start("checking integrity", 0);
        let proven = self.prove(incoming, IntegrityCheck::Full, stop);
        ui.end();
        if stop.is_set() {
            return Err(CaptureError::Stopped.into());
        }
        proven.map_err(|what| self.lost(Failure::Difference(what)))
    }

    /// Opens a database, and compares it with what was known when it was captured.
    fn prove(&self, path: &Path, check: IntegrityCheck, stop: &Stop) -> Result<(), String> {
        let Some(known) = &self.entry.database else {
            return Ok(());
        };
        let tables: Vec<String> = known.rows.keys().cloned().collect();
        let columns: Vec<Column> = known.newest.keys().cloned().collect();
        let (hash, _, found) = examine(path, &tables, &columns, check, stop)
            .map_err(|error| format!("it cannot be opened: {error}"))?;
        if self.entry.sha256 != Some(hash.to_string()) {
            return Err("its SHA-256 is not the manifest's".to_owned());
        }
        match facts_differ(known, &found) {
            differences if differences.is_empty() => Ok(()),
            differences => Err(differences.join("; ")),
        }
    }

    /// Fetches any other file beside where it lives. A link there is followed: the content is what
    /// is restored.
    fn bring(&self, fetch: &Fetch<'_>, identities: Option<&Identities>) -> Result<Arrival, Error> {
        let live = fs::canonicalize(&self.live).unwrap_or_else(|_| self.live.clone());
        let folder = live.parent().unwrap_or(Path::new("/"));
        self.make_folder(fetch, &live)?;
        has_room(&live, self.entry.size.unwrap_or(0))?;
        let local = |error| self.lost(Failure::Local(error));
        let mut incoming = tempfile::Builder::new()
            .prefix(".rustic-hapi-restoring-")
            .tempfile_in(folder)
            .map_err(local)?;
        let mut looks = self.looks(fetch)?;
        let same = match (self.record.kind, identities) {
            (Kind::Secret, Some(identities)) => {
                let plaintext = open_secret(fetch, &self.entry, identities)
                    .map_err(|failure| self.lost(failure))?;
                looks.mode = 0o600;
                incoming.write_all(plaintext.as_bytes()).map_err(local)?;
                fs::read(&live).is_ok_and(|there| {
                    zeroize::Zeroizing::new(there).as_slice() == plaintext.as_bytes()
                })
            }
            _ => {
                fetch
                    .into_file(&self.entry, incoming.as_file_mut())
                    .map_err(|failure| self.lost(failure))?;
                let hash = |path: &Path| {
                    let mut hash = <sha2::Sha256 as sha2::Digest>::new();
                    io::copy(&mut File::open(path).ok()?, &mut hash).ok()?;
                    Some(hex::encode(sha2::Digest::finalize(hash)))
                };
                fs::metadata(&live).is_ok_and(|m| m.is_file() && Some(m.len()) == self.entry.size)
                    && hash(&live) == self.entry.sha256
            }
        };
        if same {
            return Ok(Arrival::Already);
        }
        if let Ok(there) = fs::metadata(&live) {
            looks.owner = Some((there.uid(), there.gid()));
            if self.record.kind != Kind::Secret {
                looks.mode = there.permissions().mode();
            }
        }
        dress(incoming.as_file(), looks).map_err(local)?;
        incoming.as_file().sync_all().map_err(local)?;
        Ok(Arrival::File(incoming.into_temp_path()))
    }

    /// Gives what came its name; what was there keeps another one beside it.
    fn take_place(
        self,
        arrival: Arrival,
        now: DateTime<Local>,
        undo: &mut Vec<String>,
    ) -> Result<Replaced, Error> {
        let live = fs::canonicalize(&self.live).unwrap_or_else(|_| self.live.clone());
        let mut set_aside = None;
        let already = matches!(arrival, Arrival::Already);
        if let Arrival::File(incoming) = arrival {
            let mut exchange = || -> io::Result<()> {
                if live.try_exists()? {
                    set_aside = Some(second_name(&live, now)?);
                }
                fs::rename(&incoming, &live)?;
                File::open(live.parent().unwrap_or(Path::new("/")))?.sync_all()
            };
            exchange().map_err(|error| Error::State {
                path: live.clone(),
                error,
            })?;
            let quoted = |path: &Path| crate::env::quoted(&path.to_string_lossy());
            undo.push(match &set_aside {
                Some(old) => format!("mv -f {} {}", quoted(old), quoted(&live)),
                None => format!("rm {}", quoted(&live)),
            });
        }
        Ok(Replaced {
            source: self.choice.source.clone(),
            bytes: self.entry.size.unwrap_or(0),
            choice: self.choice,
            live,
            set_aside,
            already,
        })
    }
}

/// Gives a file a second name beside its own.
fn second_name(live: &Path, now: DateTime<Local>) -> io::Result<PathBuf> {
    let mut name = live.as_os_str().to_owned();
    name.push(now.format(".set-aside-%Y%m%dT%H%M%S").to_string());
    let mut path = PathBuf::from(&name);
    for number in 1.. {
        match fs::hard_link(live, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100 => {
                let mut next = name.clone();
                next.push(format!("-{number}"));
                path = PathBuf::from(next);
            }
            other => return other.map(|()| path),
        }
    }
    Ok(path)
}

fn has_room(path: &Path, needed: u64) -> Result<(), Error> {
    let folder = path.ancestors().find(|p| p.is_dir()).unwrap_or(path);
    let Ok(room) = rustix::fs::statvfs(folder) else {
        return Ok(());
    };
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    match free < needed {
        true => Err(Error::NoRoom {
            path: folder.into(),
            free,
            needed,
        }),
        false => Ok(()),
    }
}

impl Replaced {
    fn planned(item: Item) -> Self {
        Self {
            source: item.choice.source.clone(),
            bytes: item.entry.size.unwrap_or(0),
            choice: item.choice,
            live: item.live,
            set_aside: None,
            already: false,
        }
    }
}
