//! What is to be backed up: is it there, may it be read, is it the hub's, and is it everything.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hapi_sources::{CaptureError, Kind, Source, Stop, probe};

use crate::archive::beside;

use crate::doctor::finding::{Finding, listed};
use crate::machine::holders;
use crate::machine::hubs::RunningHub;
use crate::machine::service;
use crate::machine::shell::quoted;
use crate::policy::notes::describe_note;
use crate::policy::services;
use crate::policy::uncovered::{self, Uncovered};
use crate::profile::Profile;
use crate::remedy::of_capture;

/// What the sources are like.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) findings: Vec<Finding>,
    /// Bytes of the largest database with its WAL.
    pub(super) staged: u64,
    /// Bytes of all databases.
    pub(super) bytes: u64,
}

/// A line for each source.
pub(super) fn look(profile: &Profile, stop: &Stop) -> Seen {
    let mut seen = Seen::default();
    for source in profile.sources.iter().map(|s| &s.source) {
        let finding = one(source, stop, &mut seen);
        seen.findings.push(finding);
    }
    seen
}

fn one(source: &Source, stop: &Stop, seen: &mut Seen) -> Finding {
    let subject = format!("source {}", source.name);
    let probe = match probe(source, stop) {
        Ok(probe) => probe,
        Err(error) => {
            let absent = matches!(
                error,
                CaptureError::Missing { .. } | CaptureError::NoMatch { .. }
            );
            if absent && !source.required {
                return Finding::ok(subject, format!("{error} (optional)"));
            }
            let remedy = of_capture(&error, Some(&source.name)).unwrap_or_else(|| {
                format!(
                    "run this as the user that the hub runs as, or let this one read it; `namei -l {}` shows what is in the way",
                    quoted(&source.path.to_string_lossy())
                )
            });
            return match error {
                CaptureError::NoMatch { .. } => Finding::warn(subject, error.to_string(), remedy),
                _ => Finding::fail(subject, error.to_string(), remedy),
            };
        }
    };
    seen.staged = seen.staged.max(probe.staged);
    if source.kind == Kind::Sqlite {
        let sizes = probe
            .paths
            .iter()
            .filter_map(|path| fs::metadata(path).ok());
        seen.bytes += sizes.map(|m| m.len()).sum::<u64>();
    }
    if let Some(first) = probe.failures.first() {
        let more = match probe.failures.len() {
            1 => String::new(),
            n => format!(", and {} more", n - 1),
        };
        return Finding::fail(
            subject,
            format!("{}{more}", first.error),
            of_capture(&first.error, Some(&source.name)).unwrap_or_else(|| {
                "let the user that runs this read it, or leave it out with `exclude`".into()
            }),
        );
    }
    if let Some(folder) = probe.unwritable.first() {
        let folder = folder.display();
        return Finding::warn(
            subject,
            format!(
                "`{folder}` is not writable, so the database can be opened only while the hub runs"
            ),
            "run this as the hub's user, and with `ReadWritePaths=` in a hardened unit",
        );
    }
    if let Some(note) = probe.notes.first() {
        return Finding::warn(
            subject,
            describe_note(note),
            "name the one that the hub opens in the profile, or remove the others",
        );
    }
    Finding::ok(subject, format!("`{}` is readable", source.path.display()))
}

/// A database that was left behind when HAPI's home moved looks healthy for ever. `others` are those of other profiles.
pub(super) fn hub(
    profile: &Profile,
    running: &[RunningHub],
    others: &BTreeSet<PathBuf>,
) -> Finding {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let ours: BTreeSet<PathBuf> = profile.databases().map(real).collect();
    let held = profile.databases().find_map(|path| {
        let look = holders::of(path).ok()?;
        Some((path, look.holders.into_iter().next()?))
    });
    // One whose home is in the profile may have its database set aside by hand.
    let folders: BTreeSet<&Path> = ours.iter().filter_map(|path| path.parent()).collect();
    let is_ours = |hub: &RunningHub| {
        let folder = hub
            .database
            .parent()
            .filter(|_| hub.says.database.is_none());
        ours.contains(&hub.database) || folder.is_some_and(|folder| folders.contains(folder))
    };
    let is_anothers = |hub: &RunningHub| others.contains(&hub.database);
    let mut other = running
        .iter()
        .filter(|hub| !is_ours(hub) && !is_anothers(hub));
    let other = other.next();
    match (held, other) {
        (Some((path, holder)), other) => {
            let other = other.map_or_else(String::new, |other| {
                format!("; another hub has `{}` open", other.database.display())
            });
            let path = path.display();
            Finding::ok("hub", format!("{holder} has `{path}` open{other}"))
        }
        (None, None) => Finding::ok("hub", "it is not running, as far as this user can see"),
        (None, Some(other)) if other.elsewhere => Finding::warn(
            "hub",
            format!(
                "process {} has `{}` open in a container, and this machine has that file nowhere",
                other.pid,
                other.database.display()
            ),
            "if that hub is meant, put HAPI's home on a volume and name its folder here as `hapi-home` in the profile",
        ),
        (None, Some(other)) => {
            let home = other.home(&profile.reach.home);
            let moved = match home.join("hapi.db") == other.database {
                true => String::new(),
                false => format!(
                    ", and `path = \"{}\"` in the source of the database",
                    other.database.display()
                ),
            };
            Finding::fail(
                "hub",
                format!(
                    "the running hub has `{}` open, which is not in the profile",
                    other.database.display()
                ),
                format!(
                    "if that hub is meant, write `hapi-home = \"{}\"` at the top of the profile `{}`{moved}",
                    home.display(),
                    profile.file.display()
                ),
            )
        }
    }
}

/// Whether what starts the hub is in the profile: it may hold keys, and no file of HAPI's has it.
pub(super) fn service(profile: &Profile, running: &[RunningHub]) -> Finding {
    const SUBJECT: &str = "service";
    let databases: BTreeSet<&Path> = profile.databases().collect();
    let units: Vec<_> = running
        .iter()
        .filter(|hub| databases.contains(hub.database.as_path()))
        .filter_map(|hub| hub.unit.clone())
        .collect();
    let files = service::files(&profile.reach.home, &units, Path::new("/"));
    let unnamed = services::unnamed(profile, &files);
    let unreadable: Vec<String> = files
        .iter()
        .filter(|file| !file.readable)
        .map(|file| file.path.display().to_string())
        .collect();
    if !unnamed.is_empty() {
        let names: Vec<String> = unnamed
            .iter()
            .map(|(_, file)| file.path.display().to_string())
            .collect();
        let lines: String = unnamed
            .iter()
            .map(|(name, file)| services::secret_lines(name, &file.path))
            .collect();
        return Finding::warn(
            SUBJECT,
            format!("what starts the hub is in no snapshot: {}", listed(&names)),
            format!(
                "add these lines at the end of `{}`:\n{}",
                profile.file.display(),
                lines.trim_start()
            ),
        );
    }
    match (files.is_empty(), unreadable.is_empty()) {
        (_, false) => Finding::warn(
            SUBJECT,
            format!(
                "this user may not read {}, which starts the hub",
                listed(&unreadable)
            ),
            "let root run rustic-hapi (`sudo rustic-hapi schedule --system --install`), or back it up separately",
        ),
        (true, true) => Finding::ok(
            SUBJECT,
            "no unit of systemd and no pm2 starts a hub, as far as this user can see",
        ),
        (false, true) => Finding::ok(SUBJECT, "what starts the hub is in the profile"),
    }
}

/// The same where there is nothing to compare with.
pub(super) fn any_hub() -> Finding {
    let running: Vec<String> = holders::running_hubs()
        .iter()
        .map(|dir| dir.join("hapi.db").display().to_string())
        .collect();
    match running.is_empty() {
        true => Finding::ok("hub", "no hub is running, as far as this user can see"),
        false => Finding::unseen(
            "hub",
            &format!(
                "{} is open, and there is no profile to compare with",
                listed(&running)
            ),
        ),
    }
}

/// What lies in HAPI's home and is in no snapshot.
pub(super) fn uncovered(profile: &Profile, stop: &Stop) -> Finding {
    const SUBJECT: &str = "hapi-home";
    let home = profile.hapi_home.display();
    let found = match profile.rest() {
        Some(rest) => beside::would_be_left_out(profile, &rest.source, stop),
        None => beside::not_taken(profile, stop),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            return Finding::warn(
                SUBJECT,
                format!("skipped: {error}"),
                "correct `hapi-home` in the profile",
            );
        }
    };
    if let Err(error) = fs::metadata(&profile.hapi_home) {
        return Finding::warn(
            SUBJECT,
            format!("skipped: `{home}`: {error}"),
            "correct `hapi-home` in the profile",
        );
    }
    let found: Vec<Uncovered> = found
        .iter()
        .map(|one| Uncovered::of(profile, one))
        .collect();
    match found.as_slice() {
        [] => Finding::ok(SUBJECT, format!("everything in `{home}` is covered")),
        [one] => Finding::warn(SUBJECT, one.fact.clone(), uncovered::hint(profile, &found)),
        several => {
            let facts: Vec<&str> = several.iter().map(|one| one.fact.as_str()).collect();
            Finding::warn(SUBJECT, facts.join("; "), uncovered::hint(profile, &found))
        }
    }
}
