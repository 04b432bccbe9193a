//! A doctor looks now for what would make the next unattended run fail.
//!
//! Each check is a small function that says what it found ([`Finding`]: fact, verdict, remedy) and
//! stops none of the others. What cannot be looked at, because something before it is wrong, is said
//! to be so: silence would look like health. Nothing is changed, and nothing is
//! written but a lock that is taken away again (stale ones go by it, as by a run).
//!
//! Knows: everything that a run needs. Must not know: how a run goes.

mod copies;
mod cron;
mod finding;
mod keys;
mod machine;
mod repository;
mod sources;

use std::ffi::OsString;

use chrono::{DateTime, Local};
use hapi_sources::{CaptureError, Stop};

pub use self::finding::{Finding, Severity};
use crate::error::Error;
use crate::exit::Exit;
use crate::machine::hubs;
use crate::profile::Profile;
use crate::profile::lookup::Lookup;
use crate::profile::policy::Policy;
use crate::schedule::Machine;

/// What was asked for, and what matters of the process.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Look again with cron's environment.
    pub as_cron: bool,
    /// The arguments of this program, without its name: what is repeated for cron.
    pub arguments: Vec<OsString>,
    /// `TZ`.
    pub zone: Option<OsString>,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// When.
    pub time: DateTime<Local>,
    /// In a fixed order.
    pub findings: Vec<Finding>,
    /// What cron's environment finds, under the same subjects; empty unless asked for.
    pub as_cron: Vec<Finding>,
}

impl Report {
    /// The exit code: 1 where anything fails; warnings do not.
    pub fn exit(&self) -> Exit {
        let all = || self.findings.iter().chain(&self.as_cron);
        match all().any(|f| f.verdict == Severity::Fail) {
            true => Exit::Failed,
            false => Exit::Complete,
        }
    }
}

/// Looks at everything.
///
/// # Errors
/// Only that it was told to stop, and where the kernel does not say what program this is: what is
/// wrong is in the report.
pub fn run(
    lookup: &Lookup,
    request: &Request,
    machine: &Machine,
    now: DateTime<Local>,
    stop: &Stop,
) -> Result<Report, Error> {
    let mut findings = match Profile::load(lookup) {
        Ok(profile) => of_profile(&profile, lookup, machine, now, stop),
        Err(error) => without_profile(&error, lookup),
    };
    findings.extend(machine::clock(request.zone.as_deref(), now));
    let as_cron = match request.as_cron {
        true => cron::again(lookup, &request.arguments, machine).unwrap_or_else(|reason| {
            vec![Finding::warn(
                "doctor",
                format!("skipped: {reason}"),
                "`env -i HOME=\"$HOME\" rustic-hapi doctor` does nearly the same",
            )]
        }),
        false => Vec::new(),
    };
    match stop.is_set() {
        true => Err(CaptureError::Stopped.into()),
        false => Ok(Report {
            time: now,
            findings,
            as_cron,
        }),
    }
}

fn of_profile(
    profile: &Profile,
    lookup: &Lookup,
    machine: &Machine,
    now: DateTime<Local>,
    stop: &Stop,
) -> Vec<Finding> {
    let file = profile.file.display();
    let mut findings = vec![Finding::ok("profile", format!("`{file}` is valid"))];
    // SQLite's connections of this process are closed before anything else opens a file.
    let seen = sources::look(profile, stop);
    findings.extend(seen.findings);
    let running = hubs::running(&profile.reach.home);
    let others = profile.databases_beside(lookup);
    findings.push(sources::hub(profile, &running, &others));
    findings.push(sources::service(profile, &running));
    findings.push(sources::uncovered(profile, stop));
    findings.push(keys::recipients(profile));
    findings.extend(retention(profile));
    findings.extend(repository::look(profile, seen.bytes, now, stop));
    findings.extend(copies::look(profile, stop));
    findings.push(machine::staging(profile, seen.staged));
    findings.push(machine::private(&[&profile.reach.state, &profile.staging]));
    findings.push(machine::schedule(profile, lookup, machine));
    findings.extend(machine::programs(profile));
    findings.push(keys::identity(Some(profile), &profile.reach.home));
    findings.push(keys::drill(profile, now));
    // A copy has no runs of its own.
    let state = lookup
        .state()
        .unwrap_or_else(|_| profile.reach.state.clone());
    findings.push(machine::last_run(&state));
    findings
}

/// With less than 14 days of everything, who can write a snapshot can push another one of its day out: a storage
/// host relies on that (docs/append-only.md).
fn retention(profile: &Profile) -> Option<Finding> {
    let hours = profile.retention.keep_within_hours;
    let least = u32::from(Policy::FLOOR_DAYS) * 24;
    (hours < least).then(|| {
        Finding::warn(
            "retention",
            format!(
                "`keep-within` is {hours} h: of older snapshots only the newest of each day stays, so a bad one replaces the good one before it"
            ),
            "set `keep-within = \"14d\"` in `[retention]`",
        )
    })
}

/// What can be looked at without a profile, and a word on everything else.
fn without_profile(error: &Error, lookup: &Lookup) -> Vec<Finding> {
    const BECAUSE: &str = "the profile is invalid";
    let mut findings = vec![Finding::of_error(
        "profile",
        error,
        "correct the profile; `rustic-hapi profile check` checks it",
    )];
    let unseen = |subjects: &[&str]| -> Vec<Finding> {
        let each = subjects.iter();
        each.map(|s| Finding::unseen(*s, BECAUSE)).collect()
    };
    findings.extend(unseen(&["sources"]));
    findings.push(sources::any_hub());
    findings.extend(unseen(&[
        "hapi-home",
        "recipients",
        "repository",
        "repository id",
        "other disk",
        "room",
        "snapshots",
        "hub id",
        "chunk size",
        "recovery key",
        "staging",
    ]));
    match lookup.state() {
        Ok(state) => {
            findings.push(machine::private(&[state.as_path()]));
            findings.extend(unseen(&["schedule", "programs"]));
            let home = lookup.home().unwrap_or_default();
            findings.push(keys::identity(None, &home));
            findings.extend(unseen(&["drill"]));
            findings.push(machine::last_run(&state));
        }
        Err(_) => findings.extend(unseen(&[
            "private folders",
            "schedule",
            "programs",
            "identity",
            "drill",
            "last run",
        ])),
    }
    findings
}
