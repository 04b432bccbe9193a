//! An in-place restore brings sources back to where they live: the hub's own database, unless others
//! are named. The hub is stopped by the operator, never by us; nothing that was there is deleted.
//!
//! Everything is fetched and proven beside the live files first. Then each database is swapped
//! ([`crate::machine::swap`]), and each other file takes its name by one rename, the old one kept beside it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Local};
use hapi_sources::{
    CaptureError, Column, Identities, IntegrityCheck, Kind, Observer, Stop, examine,
};

use crate::commands::drill::facts_differ;
use crate::commands::restore::{Library, open_secret, path_of, warnings_of};
use crate::error::Error;
use crate::machine::holders;
use crate::machine::place::{Looks, dress};
use crate::machine::swap::{Ownership, Swap};
use crate::policy::choice::{Choice, Which};
use crate::policy::manifest::{EntryKind, EntryRecord, SourceRecord};
use crate::profile::Profile;
use crate::repository::Repository;
use crate::restore::contents::is_plain;
use crate::restore::fetch::{Failure, Fetch};
use crate::terminal::ui::Ui;

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

impl Report {
    /// Whether a database is among the files.
    pub fn has_database(&self) -> bool {
        self.files.iter().any(|file| file.is_database)
    }
}

/// One file that was replaced, or would be.
#[derive(Debug)]
pub struct Replaced {
    /// Whether SQLite opened it.
    pub is_database: bool,
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
    let _lock = crate::state::run_lock::lock(profile, request.lock_wait, stop)?;
    let repository = Repository::open(profile, stop, ui.clone())?;
    let _held = repository.lock_to_read()?;
    let mut library = Library::open(&repository, profile, request.host.as_deref())?;
    let chosen = library.choose(profile, &request.which, &request.sources, now)?;
    let mut report = Report {
        dry_run: request.dry_run,
        files: Vec::new(),
        warnings: warnings_of(&chosen, &library.snapshots),
        undo: Vec::new(),
        took: Duration::ZERO,
    };
    let nowhere = chosen
        .nowhere
        .iter()
        .find(|(name, _)| request.sources.contains(name));
    if let Some((name, _)) = nowhere {
        return Err(Error::NoSnapshot {
            fact: format!("no snapshot holds anything of `{name}`"),
            hint: "leave it away; `rustic-hapi snapshots` lists what there is".into(),
        });
    }
    let Coming {
        items,
        folders,
        links,
    } = coming(profile, request, &mut library, chosen.choices, identities)?;
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

    // All of it is there and proven before anything is replaced.
    let total = items.iter().fold(0u64, |sum, item| {
        sum.saturating_add(item.entry.size.unwrap_or(0))
    });
    let mut swept = BTreeSet::new();
    for item in &items {
        item.may_be_replaced()?;
        has_room(&item.live, total)?;
        let folder = item.live.parent().unwrap_or(Path::new("/"));
        if swept.insert(folder.to_path_buf()) {
            sweep(folder)?;
        }
    }
    let mut swaps = Vec::new();
    let mut arrivals = Vec::new();
    for item in items {
        let fetch = library.fetch(&item.choice.snapshot, ui, stop)?;
        make_folder(&fetch, &item.entry.path.to_path(), &item.live)?;
        if item.entry.database.is_none() {
            let arrival = item.bring(&fetch, identities)?;
            arrivals.push((item, arrival));
            continue;
        }
        let swap = Swap::begin(&item.live)?;
        if let Some(healed) = swap.healed() {
            report.warnings.push(healed.to_string());
        }
        if item.is_there_already() {
            report.files.push(Replaced {
                already: true,
                ..Replaced::planned(item)
            });
            continue;
        }
        item.bring_database(&fetch, swap.incoming(), ui, stop)?;
        let owner = fetch
            .node(&item.entry)
            .ok()
            .and_then(|node| Looks::of(node).owner);
        let (uid, gid) = owner_here(&item.live, owner).unwrap_or((0, 0));
        let mode = item.looks(&fetch)?.mode & 0o777;
        swaps.push((item, swap, Ownership { mode, uid, gid }));
    }
    if stop.is_set() {
        return Err(CaptureError::Stopped.into());
    }

    // From here on it is all or nothing: no signal stops it half way, a failure is undone.
    let replaced = replace(swaps, arrivals, now, &mut report);
    if let Err(error) = replaced {
        return Err(undone(error, &report));
    }
    for (choice, entry, live) in folders {
        let fetch = library.fetch(&choice.snapshot, ui, stop)?;
        // What the hub needs is in its place by now: the rest is told, and undoes nothing.
        if let Err(error) = make_folder(&fetch, &entry.join("x"), &live.join("x")) {
            report.warnings.push(format!(
                "the folder `{}` was not restored: {error}",
                live.display()
            ));
        }
    }
    for (target, live) in links {
        if let Err(error) = std::os::unix::fs::symlink(&target, &live) {
            report.warnings.push(format!(
                "the link `{}` was not restored: {error}",
                live.display()
            ));
        }
    }
    report.took = started.elapsed();
    Ok(report)
}

fn replace(
    swaps: Vec<(Item, Swap, Ownership)>,
    arrivals: Vec<(Item, Arrival)>,
    now: DateTime<Local>,
    report: &mut Report,
) -> Result<(), Error> {
    let no_stop = Stop::default();
    for (item, swap, ownership) in swaps {
        let prove = |live: &Path| item.prove(live, IntegrityCheck::Quick, &no_stop);
        let aside = swap.commit(now, &ownership, &prove)?;
        if let Some(folder) = &aside.folder {
            report.warnings.extend(lost_database(folder));
        }
        report.undo.extend(aside.undo());
        report.files.push(Replaced {
            set_aside: aside.folder.clone(),
            live: aside.live.clone(),
            ..Replaced::planned(item)
        });
    }
    for (item, arrival) in arrivals {
        let replaced = item.take_place(arrival, now, &mut report.undo)?;
        report.files.push(replaced);
    }
    Ok(())
}

/// A WAL that was set aside with an empty database, or none: to open that database would delete it.
fn lost_database(folder: &Path) -> Option<String> {
    let files = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
    let wal = files
        .filter(|path| path.as_os_str().as_encoded_bytes().ends_with(b"-wal"))
        .find(|path| {
            let name = path.to_string_lossy().into_owned();
            bytes(path) > 0 && bytes(Path::new(name.trim_end_matches("-wal"))) <= 1
        })?;
    Some(format!(
        "`{}` may be the only copy of what the hub wrote last: do not open the database beside it, since SQLite \
         would delete it; copy it away first",
        wal.display()
    ))
}

/// Puts back what was replaced before something failed, by the lines that an operator would type.
fn undone(error: Error, report: &Report) -> Error {
    if report.undo.is_empty() {
        return error;
    }
    let script = report.undo.join("\n");
    let put_back = std::process::Command::new("/bin/sh")
        .args(["-ec", &script])
        .stdin(std::process::Stdio::null())
        .status();
    match put_back {
        Ok(status) if status.success() => Error::Undone {
            error: Box::new(error),
        },
        _ => Error::NotUndone {
            error: Box::new(error),
            undo: report.undo.clone(),
        },
    }
}

/// What comes home.
#[derive(Default)]
struct Coming {
    items: Vec<Item>,
    /// Where from, their path then, and where they live.
    folders: Vec<(Choice, PathBuf, PathBuf)>,
    /// Targets of symbolic links that are not there, and where they live.
    links: Vec<(PathBuf, PathBuf)>,
}

/// What comes home, and where that is.
fn coming(
    profile: &Profile,
    request: &Request,
    library: &mut Library,
    choices: Vec<Choice>,
    identities: Option<&Identities>,
) -> Result<Coming, Error> {
    let mut coming = Coming::default();
    for choice in choices {
        let contents = library.contents(&choice.snapshot)?;
        contents.is_trustworthy(&choice.snapshot)?;
        let home = contents.manifest.home.to_path();
        let record = library.record(&choice)?.clone();
        if request.sources.is_empty() && record.kind != Kind::Sqlite {
            continue;
        }
        is_of_here(profile, request, &choice, &record)?;
        if record.kind == Kind::Secret && identities.is_none() && !record.entries.is_empty() {
            return Err(Error::Usage {
                fact: format!("the secret `{}` is encrypted", choice.source),
                hint: Some("bring the identity along: `--identity FILE`".into()),
            });
        }
        let links: Vec<_> = record
            .entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Symlink)
            .filter_map(|entry| {
                let path = entry.path.to_path();
                let node = library.contents(&choice.snapshot).ok()?.node(&path)?;
                Some((path, node.node_type.to_link().to_path_buf()))
            })
            .collect();
        for (path, target) in links {
            let live = live_path(profile, &record, &home, &path);
            if is_plain(&path) && fs::symlink_metadata(&live).is_err() {
                coming.links.push((target, live));
            }
        }
        for entry in record
            .entries
            .iter()
            .filter(|e| e.kind != EntryKind::Symlink)
        {
            let path = path_of(&record, entry, true);
            if !is_plain(&path) {
                return Err(Error::Unlike {
                    snapshot: choice.snapshot.to_string(),
                    differences: vec![format!("`{}` is no plain absolute path", path.display())],
                });
            }
            if record.is_kept_side_file(entry) {
                continue;
            }
            let live = live_path(profile, &record, &home, &path);
            if entry.kind == EntryKind::Dir {
                coming.folders.push((choice.clone(), path, live));
                continue;
            }
            coming.items.push(Item {
                live,
                choice: choice.clone(),
                record: record.clone(),
                entry: entry.clone(),
            });
        }
    }
    if coming.items.is_empty() && coming.folders.is_empty() {
        return Err(Error::NoSnapshot {
            fact: "there is nothing to restore in place".into(),
            hint: "name what is wanted with `--source`; `rustic-hapi restore --dry-run --target DIR` shows what there is".into(),
        });
    }
    Ok(coming)
}

/// A database of another path may be another hub's: it comes here only if its snapshot is named.
fn is_of_here(
    profile: &Profile,
    request: &Request,
    choice: &Choice,
    record: &SourceRecord,
) -> Result<(), Error> {
    let now = profile
        .sources
        .iter()
        .find(|s| s.source.name == record.name && s.source.kind == Kind::Sqlite);
    let then = record.path.to_path();
    match now {
        Some(now) if now.source.path != then && !matches!(request.which, Which::Named(_)) => {
            Err(Error::Usage {
                fact: format!(
                    "the newest snapshot {} of `{}` is of `{}`, and this profile's is `{}`",
                    choice.snapshot,
                    record.name,
                    then.display(),
                    now.source.path.display()
                ),
                hint: Some(format!(
                    "if it is the one you want here, name it: `rustic-hapi restore {} --in-place`",
                    choice.snapshot.short_id()
                )),
            })
        }
        _ => Ok(()),
    }
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
        let error = holders::in_use(path, &look.holders);
        if !dry_run {
            return Err(error);
        }
        report.warnings.push(error.to_string());
        report.warnings.extend(error.hint());
    }
    Ok(unseen)
}

/// Makes the folders above a file where there are none, with the mode they had.
fn make_folder(fetch: &Fetch<'_>, then: &Path, live: &Path) -> Result<(), Error> {
    let missing: Vec<(&Path, Option<&Path>)> = live
        .ancestors()
        .skip(1)
        .zip(
            then.ancestors()
                .skip(1)
                .map(Some)
                .chain(std::iter::repeat(None)),
        )
        .take_while(|(folder, _)| !folder.exists())
        .collect();
    for (folder, was) in missing.into_iter().rev() {
        let state = |error| Error::State {
            path: folder.into(),
            error,
        };
        let owner_above = owner_here(folder, None);
        crate::machine::private_files::private_folder(folder)?;
        let node = was.and_then(|was| fetch.contents.node(was));
        let looks = node.map(Looks::of);
        let owner = owner_above.or(looks.and_then(|looks| looks.owner));
        let looks = Looks {
            mode: looks.map_or(0o700, |looks| looks.mode),
            owner,
            mtime: None,
        };
        let open = File::open(folder).map_err(state)?;
        dress(&open, looks).map_err(state)?;
        let above = folder.parent().unwrap_or(Path::new("/"));
        File::open(above)
            .and_then(|above| above.sync_all())
            .map_err(state)?;
    }
    Ok(())
}

/// To whom something new belongs: to whoever has the nearest folder, since numbers of users differ
/// between machines; where root has it, to whom it belonged.
fn owner_here(path: &Path, then: Option<(u32, u32)>) -> Option<(u32, u32)> {
    let above = path.ancestors().skip(1).find_map(|p| fs::metadata(p).ok());
    above
        .filter(|above| above.uid() != 0)
        .map(|above| (above.uid(), above.gid()))
        .or(then)
}

/// What files that are on their way are called.
const INCOMING: &str = ".rustic-hapi-restoring-";

/// Removes what a killed restore left of files on their way: it may be a secret in plain. The lock of
/// runs is held, so nobody is using them.
fn sweep(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let ours = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(INCOMING.as_bytes());
        if ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let path = entry.path();
            fs::remove_file(&path).map_err(|error| Error::State { path, error })?;
        }
    }
    Ok(())
}

/// Whether a file has the bytes of an entry.
fn has_hash(path: &Path, entry: &EntryRecord) -> bool {
    let hash = || {
        let mut hash = <sha2::Sha256 as sha2::Digest>::new();
        io::copy(&mut File::open(path).ok()?, &mut hash).ok()?;
        Some(hex::encode(sha2::Digest::finalize(hash)))
    };
    fs::metadata(path).is_ok_and(|m| m.is_file() && Some(m.len()) == entry.size)
        && hash() == entry.sha256
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
            Failure::Sealed => Error::Usage {
                fact: format!("none of the identities opens the secret `{}`", self.choice.source),
                hint: Some("bring the identity of one of the recipients; `rustic-hapi recovery-kit` names them".into()),
            },
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

    /// What is there must be something that can be set aside and brought back.
    fn may_be_replaced(&self) -> Result<(), Error> {
        let refuse = |fact: &str, hint: &str| {
            Err(Error::Usage {
                fact: format!("`{}` {fact}", self.live.display()),
                hint: Some(hint.to_owned()),
            })
        };
        match (fs::symlink_metadata(&self.live), fs::metadata(&self.live)) {
            (Ok(link), Err(_)) if link.is_symlink() => refuse(
                "is a symbolic link that leads nowhere",
                "mount what it leads to, or move the link away",
            ),
            (_, Ok(there)) if !there.is_file() => refuse(
                "is in the way, and is no file",
                "look at it, and move it away",
            ),
            _ => Ok(()),
        }
    }

    /// Whether the live database is this one to the byte, with nothing in a WAL or journal.
    fn is_there_already(&self) -> bool {
        let side = |suffix| {
            let path = holders::side_file(&self.live, suffix);
            fs::metadata(path).is_ok_and(|m| m.len() > 0)
        };
        !side("-wal") && !side("-journal") && has_hash(&self.live, &self.entry)
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
        let local = |error| self.lost(Failure::Local(error));
        let mut incoming = tempfile::Builder::new()
            .prefix(INCOMING)
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
                has_hash(&live, &self.entry)
            }
        };
        if same {
            if self.record.kind == Kind::Secret {
                fs::set_permissions(&live, fs::Permissions::from_mode(0o600)).map_err(local)?;
            }
            return Ok(Arrival::Already);
        }
        looks.owner = owner_here(&live, looks.owner);
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
            let quoted = |path: &Path| crate::machine::shell::quoted(&path.to_string_lossy());
            undo.push(match &set_aside {
                Some(old) => format!("mv -f {} {}", quoted(old), quoted(&live)),
                None => format!("rm {}", quoted(&live)),
            });
        }
        Ok(Replaced {
            is_database: false,
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
            is_database: item.entry.database.is_some(),
            source: item.choice.source.clone(),
            bytes: item.entry.size.unwrap_or(0),
            choice: item.choice,
            live: item.live,
            set_aside: None,
            already: false,
        }
    }
}
