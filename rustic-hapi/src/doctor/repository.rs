//! Where snapshots go: does it open, is it the right one, does it outlive this disk, is there room.

use std::time::Duration;

use chrono::{DateTime, Local, TimeDelta};
use hapi_sources::Stop;
use rustix::fs::{Access, access};

use crate::doctor::finding::Finding;
use crate::error::Error;
use crate::machine::disk::{Relation, free_at};
use crate::policy::history::Snapshot;
use crate::policy::unmatched;
use crate::profile::Profile;
use crate::recovery::key;
use crate::remedy::make_room;
use crate::repository::lock::{Held, Mode};
use crate::repository::{Repository, chunk_size_for};
use crate::restore::origin;
use crate::state::{ledger, owner};
use crate::terminal::ui::Ui;
use crate::words::{by_restic, bytes};
use rustic_core::repofile::SnapshotFile;

const UNOPENED: &str = "the repository did not open";

/// Everything about it, in order.
pub(super) fn look(
    profile: &Profile,
    database_bytes: u64,
    now: DateTime<Local>,
    stop: &Stop,
) -> Vec<Finding> {
    let location = &profile.reach.location;
    let opened = Repository::open_at_once(&profile.reach, stop, Ui::silent());
    let mut findings = match &opened {
        Ok(repository) => vec![
            Finding::ok(
                "repository",
                format!(
                    "`{location}` opens with {}",
                    crate::repository::password::origin(&profile.reach.password)
                ),
            ),
            pinned(profile, repository),
        ],
        Err(error @ Error::OtherRepository { .. }) => vec![
            Finding::ok("repository", format!("`{location}` opens")),
            Finding::of_error("repository id", error, ""),
        ],
        Err(error) => vec![
            Finding::of_error(
                "repository",
                error,
                "check the disk, the server and the network; then try `rustic-hapi snapshots`",
            ),
            Finding::unseen("repository id", UNOPENED),
        ],
    };
    findings.push(other_disk(profile));
    findings.extend(left_to_its_owner(profile));
    findings.extend(only_in_this_shell(profile));
    let Ok(repository) = opened else {
        let rest = [
            "locks",
            "room",
            "snapshots",
            "hub id",
            "chunk size",
            "recovery key",
        ];
        findings.extend(rest.map(|subject| Finding::unseen(subject, UNOPENED)));
        return findings;
    };
    findings.extend(locks(&repository));
    match repository.snapshots() {
        Ok(files) => {
            let ours = origin::seen(&repository, &files, profile);
            findings.push(room(profile, &ours));
            findings.push(times(&ours, now));
            findings.push(hub(profile, &repository, &files, &ours, now));
        }
        Err(error) => {
            findings.push(Finding::unseen("room", "the snapshots cannot be listed"));
            findings.push(Finding::unseen("hub id", "the snapshots cannot be listed"));
            findings.push(Finding::of_error(
                "snapshots",
                &error,
                "`rustic-hapi check` reports what is damaged",
            ));
        }
    }
    findings.push(chunk_size(&repository, database_bytes));
    findings.push(kept_key(profile, &repository));
    findings
}

/// Whose state the snapshots are of, and whether they are those that this machine knows.
fn hub(
    profile: &Profile,
    repository: &Repository,
    files: &[SnapshotFile],
    ours: &[Snapshot],
    now: DateTime<Local>,
) -> Finding {
    const SUBJECT: &str = "hub id";
    let id = &profile.hub.id;
    if let Some(fact) = unmatched::nothing_matches(profile, ours, files)
        .filter(|_| origin::only_others(repository, files, profile, ours).is_none())
    {
        return Finding::warn(
            SUBJECT,
            fact,
            "correct `host`, `hub-id` or `extends` in the profile; `rustic-hapi snapshots --all-hosts` lists what is there",
        );
    }
    if let Some(fact) = origin::only_others(repository, files, profile, ours) {
        return Finding::warn(
            SUBJECT,
            fact,
            "`rustic-hapi init` lists the hubs of the repository",
        );
    }
    match ledger::look(profile, repository, files, ours, &now) {
        Ok(difference) => {
            if let Some(fact) = difference.all().into_iter().next() {
                return Finding::warn(
                    SUBJECT,
                    fact,
                    "find out who else may write to the repository",
                );
            }
        }
        Err(error) => return Finding::of_error(SUBJECT, &error, ""),
    }
    match profile.hub.is_written {
        true => Finding::ok(SUBJECT, format!("{id} is the profile's")),
        false => Finding::warn(
            SUBJECT,
            "the profile has none: if the database moves, its snapshots count as another hub's",
            format!(
                "write `hub-id = \"{id}\"` at the top of the profile, or run `rustic-hapi init`"
            ),
        ),
    }
}

fn pinned(profile: &Profile, repository: &Repository) -> Finding {
    let id = repository.id();
    match &profile.reach.id {
        Some(_) => Finding::ok("repository id", format!("{} is the profile's", &id[..8])),
        None => Finding::warn(
            "repository id",
            "the profile has none: another disk in its place would not be noticed",
            format!(
                "write `id = \"{id}\"` into {} of the profile",
                profile.table()
            ),
        ),
    }
}

/// What a run as root would put into another user's folder.
fn left_to_its_owner(profile: &Profile) -> Option<Finding> {
    let foreign = owner::foreign(Some(&profile.reach.location), &profile.reach.state)?;
    Some(Finding::fail("owner", foreign.in_words(), foreign.hint()))
}

fn only_in_this_shell(profile: &Profile) -> Option<Finding> {
    let names = profile.reach.only_in_this_shell().ok()?;
    (!names.is_empty()).then(|| {
        Finding::warn(
            "variables",
            format!(
                "{} are set in this shell only; scheduled runs do not have them",
                names.join(", ")
            ),
            format!(
                "write them into the profile, or into the file that `environment-file` of {} names",
                profile.table()
            ),
        )
    })
}

fn other_disk(profile: &Profile) -> Finding {
    const SUBJECT: &str = "other disk";
    let refused = crate::policy::survival::off_the_disk(profile)
        .and_then(|()| crate::policy::survival::lasts(profile));
    let Err(error) = refused else {
        if let Some(host) =
            crate::policy::survival::this_machine(&profile.reach.location, &profile.reach.home)
        {
            return Finding::warn(
                SUBJECT,
                format!("the repository is on this machine ({host})"),
                "if the machine is lost, so is the repository: use a server elsewhere, or add a `[[copy]]` there (docs/destinations.md)",
            );
        }
        return match crate::policy::survival::of_profile(profile) {
            (Relation::Other, _) if profile.reach.location.local().is_none() => {
                Finding::ok(SUBJECT, "the repository is behind a server or a program")
            }
            (Relation::Other, _) => Finding::ok(
                SUBJECT,
                "the repository is on another disk than the sources",
            ),
            (Relation::Unknown(by), path) => Finding::ok(
                SUBJECT,
                format!(
                    "on another file system than `{}`; whether that is another disk is unknown ({by})",
                    path.display()
                ),
            ),
            (Relation::Memory(_) | Relation::Container, _) => Finding::warn(
                SUBJECT,
                crate::policy::survival::dies_with_this_machine(profile).unwrap_or_default(),
                "choose a folder on a disk, a volume of the container, or another machine",
            ),
            (Relation::Same(reason), path) => Finding::warn(
                SUBJECT,
                format!(
                    "the repository is lost together with `{}`: {reason}",
                    path.display()
                ),
                "add a `[[copy]]` elsewhere (docs/destinations.md), or move it and take `allow-same-disk` out of the profile",
            ),
        };
    };
    Finding::of_error(SUBJECT, &error, "")
}

/// Room for a few runs like the last ones.
fn room(profile: &Profile, ours: &[Snapshot]) -> Finding {
    const SUBJECT: &str = "room";
    const RUNS: u64 = 6;
    const LEAST: u64 = 64 << 20;
    let Some(folder) = profile.reach.location.local() else {
        return Finding::ok(SUBJECT, "skipped: only the server knows");
    };
    for kind in ["snapshots", "index", "data"] {
        let path = folder.join(kind);
        if let Err(error) = access(&path, Access::WRITE_OK | Access::EXEC_OK) {
            return Finding::fail(
                SUBJECT,
                format!("`{}` cannot be written to: {error}", path.display()),
                "mount it for writing, or run this as the repository's owner",
            );
        }
    }
    let mut added: Vec<u64> = ours.iter().rev().take(10).filter_map(|s| s.added).collect();
    added.sort_unstable();
    let usual = added.get(added.len() / 2).copied().unwrap_or(0);
    let needed = usual.saturating_mul(RUNS).max(LEAST);
    match free_at(folder) {
        None => Finding::warn(
            SUBJECT,
            format!(
                "skipped: the free space of `{}` is unknown",
                folder.display()
            ),
            "run `df` to see it",
        ),
        Some(free) if free < needed => Finding::fail(
            SUBJECT,
            format!(
                "{} are free at `{}`; the next {RUNS} runs may need {}",
                bytes(free),
                folder.display(),
                bytes(needed)
            ),
            make_room(folder),
        ),
        Some(free) => Finding::ok(
            SUBJECT,
            format!(
                "{} are free, a run adds about {}",
                bytes(free),
                bytes(usual)
            ),
        ),
    }
}

/// What the next run would wait for: for an exclusive lock with its snapshot, for others with retention.
fn locks(repository: &Repository) -> Vec<Finding> {
    const SUBJECT: &str = "locks";
    match repository.locks_in_the_way() {
        // A file is written, synced, renamed and removed by it, as by a run.
        Ok(locks) if locks.is_empty() => {
            let tried = repository
                .lock(Mode::Shared, Duration::ZERO)
                .and_then(Held::end);
            vec![match tried {
                Ok(()) => Finding::ok(SUBJECT, "none in the way"),
                Err(error) => Finding::of_error(
                    SUBJECT,
                    &error,
                    "a run creates and removes a lock file: let this user write and remove files there",
                ),
            }]
        }
        Ok(locks) => locks
            .into_iter()
            .map(|lock| match lock.blocks_all {
                true => Finding::fail(SUBJECT, lock.fact, lock.remedy),
                false => Finding::warn(SUBJECT, lock.fact, lock.remedy),
            })
            .collect(),
        Err(error) => vec![Finding::of_error(
            SUBJECT,
            &error,
            concat!(
                by_restic!("list locks"),
                " shows whether restic can read them"
            ),
        )],
    }
}

/// A clock that was wrong once, or is now.
fn times(ours: &[Snapshot], now: DateTime<Local>) -> Finding {
    const SUBJECT: &str = "snapshots";
    match ours.last() {
        None => Finding::warn(
            SUBJECT,
            "there is none yet",
            "`rustic-hapi snapshot` takes one",
        ),
        Some(newest) if newest.time > now + TimeDelta::minutes(10) => Finding::fail(
            SUBJECT,
            format!("the newest, {newest}, has a date in the future"),
            format!(
                "check the clock (`timedatectl`); if it is right now, {} removes that snapshot",
                format_args!(by_restic!("forget {}"), newest.short_id())
            ),
        ),
        Some(newest) => Finding::ok(SUBJECT, format!("the newest of {} is {newest}", ours.len())),
    }
}

fn chunk_size(repository: &Repository, database_bytes: u64) -> Finding {
    const SUBJECT: &str = "chunk size";
    let wanted = chunk_size_for(database_bytes);
    match repository.chunk_size().map(|size| size as u64) {
        None => Finding::warn(
            SUBJECT,
            "the chunks are content-defined: each snapshot stores most of a changed database again",
            "make a new repository with `rustic-hapi init --repository LOCATION`, and keep this one as long as you need its snapshots",
        ),
        Some(size) if size < wanted => Finding::warn(
            SUBJECT,
            format!(
                "chunks of {} are too small for {} of databases: the index takes memory and time",
                bytes(size),
                bytes(database_bytes)
            ),
            format!(
                "make a new repository with `rustic-hapi init --repository LOCATION` (it takes {}), and keep this one as long as you need its snapshots",
                bytes(wanted)
            ),
        ),
        Some(size) => Finding::ok(SUBJECT, format!("{} suits the databases", bytes(size))),
    }
}

/// The key that is kept off this machine: was it ever tried, and does it still open anything.
fn kept_key(profile: &Profile, repository: &Repository) -> Finding {
    const SUBJECT: &str = "recovery key";
    const MAKE: &str = "`rustic-hapi recovery-kit --new-key --key-file FILE` makes one, to be kept off this machine; then `rustic-hapi recovery-kit --confirm --key-file FILE`";
    const CONFIRM: &str = "run `rustic-hapi recovery-kit --confirm` and type your written copy";
    let keys = match repository.keys() {
        Ok(keys) => keys,
        Err(error) => {
            return Finding::warn(
                SUBJECT,
                format!("skipped: {error}"),
                "`rustic-hapi check` reports what is damaged",
            );
        }
    };
    match key::last_confirmed(profile) {
        Err(error) => Finding::warn(SUBJECT, error.to_string(), CONFIRM),
        Ok(Some(kept)) if keys.iter().any(|key| key.id == kept.key_id) => Finding::ok(
            SUBJECT,
            format!("confirmed on {}", kept.confirmed.format("%Y-%m-%d")),
        ),
        Ok(Some(_)) => Finding::warn(
            SUBJECT,
            "the confirmed one no longer opens the repository",
            MAKE,
        ),
        Ok(None) if key::among(keys).is_empty() => Finding::warn(
            SUBJECT,
            "there is none: only this machine's password opens the repository",
            MAKE,
        ),
        Ok(None) => Finding::warn(SUBJECT, "never verified", CONFIRM),
    }
}
