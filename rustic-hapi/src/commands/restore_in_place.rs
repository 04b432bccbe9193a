//! An in-place restore brings sources back to where they live: the hub's own database, unless others
//! are named. The hub is stopped by the operator, never by us; nothing that was there is deleted.
//! One file, since it is one order of steps; an item is in `restore_in_place/item.rs`.
//!
//! Everything is fetched and proven beside the live files first. Then each database is swapped
//! ([`crate::machine::swap`]), and each other file takes its name by one rename, the old one kept beside it.

mod consent;
mod item;
mod request;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Local};
use hapi_sources::{CaptureError, Identities, IntegrityCheck, Kind, Stop};

pub use self::item::Replaced;
pub use self::request::Request;
use crate::commands::context::Context;
use crate::commands::restore_in_place::item::{
    Arrival, Item, has_room, make_folder, owner_here, sweep,
};
use crate::error::Error;
use crate::machine::holders;
use crate::machine::private_files::write_private;
use crate::machine::swap::{Ownership, Swap};
use crate::machine::target::Attributes;
use crate::policy::choice::Choice;
use crate::policy::manifest::{EntryKind, SourceRecord};
use crate::profile::Profile;
use crate::profile::reading::Reading;
use crate::repository::Repository;
use crate::restore::contents::is_plain;
use crate::restore::library::{Library, warnings_of};
use crate::restore::proof::database_is;
use crate::restore::restorer::path_of;
use crate::terminal::prompt::Consent;

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
    /// The script that holds them.
    pub undo_script: Option<PathBuf>,
    /// From the opening of the repository to the end.
    pub took: Duration,
}

impl Report {
    /// Whether a database is among the files.
    pub fn has_database(&self) -> bool {
        self.files.iter().any(|file| file.is_database)
    }
}

/// Restores to where the sources live.
///
/// # Errors
/// [`Error::InUse`] while a process has a database of the profile open; whatever keeps a file from
/// being fetched and proven, with nothing changed; [`Error::NotSwapped`], [`Error::HalfSwapped`].
pub fn run(
    from: Reading<'_>,
    request: &Request,
    identities: Option<&Identities>,
    context: &Context<'_>,
) -> Result<Report, Error> {
    let (now, stop, ui) = (context.now(), context.stop, context.ui);
    let started = Instant::now();
    let _lock = crate::state::run_lock::lock_runs(from.reach, request.lock_wait, stop)?;
    let repository = Repository::open(from.reach, stop, ui.clone())?;
    let _held = repository.lock_to_read()?;
    let mut library = Library::open(&repository, from.profile, request.host.as_deref())?;
    let chosen = library.choose(from.profile, &request.which, &request.sources, now)?;
    let mut report = Report {
        dry_run: request.dry_run,
        files: Vec::new(),
        warnings: warnings_of(&chosen, &library.snapshots),
        undo: Vec::new(),
        undo_script: None,
        took: Duration::ZERO,
    };
    let nowhere = chosen
        .nowhere
        .iter()
        .find(|(name, _)| request.sources.contains(name));
    if let Some((name, _)) = nowhere {
        return Err(Error::NoSnapshot {
            fact: format!("no snapshot has anything of `{name}`"),
            hint: "leave it out; `rustic-hapi snapshots` lists what there is".into(),
        });
    }
    let Coming {
        choices,
        items,
        folders,
        links,
    } = coming(from, request, &mut library, chosen.choices, identities)?;
    if let Err(error) = consent::is_decided(from, request, &choices, &mut library, now) {
        if !request.dry_run {
            return Err(error);
        }
        report.warnings.push(error.to_string());
        report.warnings.extend(error.hint());
    }
    let unseen = nobody_has_a_database_open(from, &items, request.dry_run, &mut report)?;
    if unseen > 0 {
        report.warnings.push(format!(
            "{unseen} processes of other users could not be checked; run as root to check them all"
        ));
    }
    if request.dry_run {
        report
            .files
            .extend(items.into_iter().map(Replaced::planned));
        report.took = started.elapsed();
        return Ok(report);
    }

    if request.consent == Consent::Terminal {
        // Who answers should know them.
        report
            .warnings
            .drain(..)
            .for_each(|warning| ui.warn(warning));
    }
    consent::agreed(request, &choices, &items, &mut library, now, stop)?;
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
            .and_then(|node| Attributes::of(node).owner);
        let (uid, gid) = owner_here(&item.live, owner).unwrap_or((0, 0));
        let mode = item.attributes(&fetch)?.mode & 0o777;
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
    match undo_script(&report, now) {
        Ok(script) => report.undo_script = script,
        Err(error) => report.warnings.push(format!(
            "the script that undoes this could not be written ({error}); these lines do it, with the hub stopped:\n{}",
            report.undo.join("\n")
        )),
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
        let prove = |live: &Path| database_is(&item.entry, live, IntegrityCheck::Quick, &no_stop);
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

/// Writes down what undoes the restore, with what was set aside: in its folder, or beside its file.
fn undo_script(report: &Report, now: DateTime<Local>) -> Result<Option<PathBuf>, Error> {
    let aside = || {
        report
            .files
            .iter()
            .filter_map(|file| file.set_aside.as_ref())
    };
    let folder = aside().find(|aside| aside.is_dir());
    let beside = || {
        let live = &report.files.iter().find(|file| !file.already)?.live;
        let mut name = live.file_name()?.to_owned();
        name.push(now.format(".undo-%Y%m%dT%H%M%S.sh").to_string());
        Some(live.with_file_name(name))
    };
    let script = match folder {
        Some(folder) => Some(folder.join("undo.sh")),
        None => beside(),
    };
    let Some(script) = script.filter(|_| !report.undo.is_empty()) else {
        return Ok(None);
    };
    let text = format!(
        "#!/bin/sh\n# Undoes the restore in place of {}. Stop the hub first.\nset -eu\n{}\n",
        now.format("%Y-%m-%d %H:%M:%S"),
        report.undo.join("\n")
    );
    write_private(&script, text.as_bytes())?;
    Ok(Some(script))
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
    /// Where from.
    choices: Vec<Choice>,
    items: Vec<Item>,
    /// Where from, their path then, and where they live.
    folders: Vec<(Choice, PathBuf, PathBuf)>,
    /// Targets of symbolic links that are not there, and where they live.
    links: Vec<(PathBuf, PathBuf)>,
}

/// What comes home, and where that is.
fn coming(
    from: Reading<'_>,
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
        is_of_here(from, request, &choice, &record)?;
        if record.kind == Kind::Secret && identities.is_none() && !record.entries.is_empty() {
            return Err(Error::usage(
                format!("the secret `{}` is encrypted", choice.source),
                "give the identity: `--identity FILE`",
            ));
        }
        coming.choices.push(choice.clone());
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
            let live = live_path(from, &record, &home, &path);
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
                    differences: vec![format!("`{}` is not a plain absolute path", path.display())],
                });
            }
            if record.is_kept_side_file(entry) {
                continue;
            }
            let live = live_path(from, &record, &home, &path);
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
            hint: "choose with `--source`; `rustic-hapi restore --dry-run --target DIR` shows what there is".into(),
        });
    }
    Ok(coming)
}

/// A database of another path may be another hub's: it comes here only if its snapshot is named.
fn is_of_here(
    from: Reading<'_>,
    request: &Request,
    choice: &Choice,
    record: &SourceRecord,
) -> Result<(), Error> {
    let now = from
        .sources()
        .iter()
        .find(|s| s.source.name == record.name && s.source.kind == Kind::Sqlite);
    let then = record.path.to_path();
    match now {
        Some(now) if now.source.path != then && !request.has_id() => Err(Error::usage(
            format!(
                "the newest snapshot {} of `{}` is of `{}`, and this profile's is `{}`",
                choice.snapshot,
                record.name,
                then.display(),
                now.source.path.display()
            ),
            format!(
                "if it is the one you want here, name it: `rustic-hapi restore {} --in-place`",
                choice.snapshot.short_id()
            ),
        )),
        _ => Ok(()),
    }
}

/// Where a file of a snapshot lives here: a source's path may have changed since, and so may home.
fn live_path(from: Reading<'_>, record: &SourceRecord, home: &Path, path: &Path) -> PathBuf {
    let now = from
        .sources()
        .iter()
        .find(|s| s.source.name == record.name && !s.source.is_pattern());
    let then = record.path.to_path();
    match (now, path.strip_prefix(&then), path.strip_prefix(home)) {
        (Some(now), Ok(rest), _) if rest.as_os_str().is_empty() => now.source.path.clone(),
        (Some(now), Ok(rest), _) => now.source.path.join(rest),
        (_, _, Ok(rest)) => from.reach.home.join(rest),
        _ => path.to_path_buf(),
    }
}

/// A running hub would go on with files that are no longer there, and write into what came back.
fn nobody_has_a_database_open(
    from: Reading<'_>,
    items: &[Item],
    dry_run: bool,
    report: &mut Report,
) -> Result<usize, Error> {
    let of_profile = from.profile.into_iter().flat_map(Profile::databases);
    let coming = items
        .iter()
        .filter(|item| item.entry.database.is_some())
        .map(|item| item.live.clone());
    let mut databases: Vec<PathBuf> = of_profile.map(PathBuf::from).chain(coming).collect();
    databases.sort();
    databases.dedup();
    let mut unseen = 0;
    for path in databases {
        // On a new machine there is not even the folder.
        if !path.parent().is_some_and(Path::exists) {
            continue;
        }
        if is_in_rollback_mode(&path) {
            report.warnings.push(format!(
                "`{}` is in rollback-journal mode: an idle hub in another container cannot be detected, so make sure that it is stopped",
                path.display()
            ));
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

/// Whether a database has no WAL: then only who writes or reads just now holds a lock (SQLite, "Database File
/// Format", offset 18).
fn is_in_rollback_mode(path: &Path) -> bool {
    let mut header = [0; 19];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header[18] == 1
}
