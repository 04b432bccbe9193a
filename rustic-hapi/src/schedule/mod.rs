//! A schedule is what calls `snapshot` at the profile's slots: a systemd timer of the user's or of
//! the system's, or lines in the user's crontab.
//!
//! What is printed is what is installed, byte for byte. Installing twice is installing once, and
//! only files and lines that carry our mark are ever changed or removed.
//!
//! ```text
//! rustic-hapi schedule                     print the units
//! rustic-hapi schedule --install           for this user
//! rustic-hapi schedule --install --system  for the whole system, as the hub's user
//! rustic-hapi schedule --install --cron    for a machine without systemd
//! ```
//!
//! Knows: units, crontabs, `systemctl`. Must not know: repositories, snapshots.

mod account;
mod crontab;
mod job;
mod machine;
mod plan;
mod report;
mod systemd;
mod tool;
mod unit_files;

use std::fs;
use std::path::Path;

pub use self::machine::Machine;
pub use self::report::Report;

pub(crate) use self::account::Account;
use self::crontab::Crontab;
use self::plan::{Plan, Text, unit_folder};
use self::systemd::Scope;
pub(crate) use self::systemd::databases;
pub(crate) use self::tool::ask;
pub(crate) use self::unit_files::lingers;
use crate::error::Error;
use crate::profile::{Lookup, Profile};

/// What calls us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A timer of the user's manager.
    UserTimer,
    /// A timer of the system's manager, that runs as the hub's user.
    SystemTimer,
    /// Lines in the user's crontab.
    Cron,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Show it.
    Print,
    /// Put it where it works.
    Install,
    /// Take it away.
    Remove,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What calls us.
    pub kind: Kind,
    /// What to do about it.
    pub action: Action,
}

/// Which schedules of a profile are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// A timer of the user's manager.
    pub user_timer: State,
    /// A timer of the system's manager.
    pub system_timer: State,
    /// Lines in the crontab of the user that asks.
    pub cron: State,
}

/// How a schedule is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not there, or not ours.
    Absent,
    /// It is there, whole or not.
    Present {
        /// It will run by itself: the timer is enabled. A crontab always is.
        enabled: bool,
        /// It is what would be installed now; `None` where that cannot be told.
        current: Option<bool>,
    },
}

/// Prints, installs or removes a schedule.
///
/// # Errors
/// Those of reading the profile (not to remove); [`Error::Usage`] for what cannot be written down,
/// for files of others, and for a crontab in which it is not clear what is ours; [`Error::State`] and
/// [`Error::Tool`] where the system refuses.
pub fn run(lookup: &Lookup, request: Request, machine: &Machine) -> Result<Report, Error> {
    if request.action == Action::Remove {
        return remove(lookup, request, machine);
    }
    let plan = Plan::of(lookup, request.kind, machine)?;
    let mut report = Report::new(request, plan.profile.name.clone());
    report.slots = plan.job.times();
    report.warnings = plan.warnings(machine);
    match &plan.text {
        Text::Units {
            units,
            scope,
            folder,
        } => {
            report.user = match scope {
                Scope::User => None,
                Scope::System(account) => Some(account.name.clone()),
            };
            let [service, timer] = systemd::names(&plan.profile.name);
            report.files = vec![
                (folder.join(service), units.service.clone()),
                (folder.join(timer), units.timer.clone()),
            ];
            if request.action == Action::Install {
                unit_files::install(&mut report, units, scope, machine)?;
            }
        }
        Text::Lines(lines) => {
            report.lines = Some(lines.clone());
            if request.action == Action::Install {
                let crontab = Crontab::read(&plan.profile.name)?;
                report.warnings.extend(crontab.warnings());
                if crontab.block.as_deref() != Some(lines.as_bytes()) {
                    crontab.with(Some(lines)).write()?;
                    report.changed = true;
                }
            }
        }
    }
    if request.action == Action::Install {
        report.warn_of_others(&plan.profile.name, lookup, machine);
    }
    Ok(report)
}

/// Which schedules of a profile are there, enabled, and as they would be written now.
///
/// A crontab that cannot be read counts as absent: there need not be a cron.
pub fn installed(profile: &Profile, lookup: &Lookup, machine: &Machine) -> Installed {
    let mut lookup = lookup.clone();
    if !profile.file.as_os_str().is_empty() {
        lookup.profile = Some(profile.file.to_string_lossy().into_owned());
    }
    let timer = |kind: Kind| {
        let found = present(&profile.name, kind, &lookup, machine);
        let State::Present { enabled, .. } = found else {
            return found;
        };
        let plan = Plan::of(&lookup, kind, machine).ok();
        let current = plan.and_then(|plan| plan.is_written());
        State::Present { enabled, current }
    };
    Installed {
        user_timer: timer(Kind::UserTimer),
        system_timer: timer(Kind::SystemTimer),
        cron: timer(Kind::Cron),
    }
}

fn remove(lookup: &Lookup, request: Request, machine: &Machine) -> Result<Report, Error> {
    // The profile need not be there any more.
    let wanted = lookup.profile.as_deref().unwrap_or("hapi");
    let by_path = wanted.contains('/') || wanted.ends_with(".toml");
    let name = match Path::new(wanted).file_stem() {
        Some(stem) if by_path => stem.to_string_lossy().into_owned(),
        _ => wanted.to_owned(),
    };
    let mut report = Report::new(request, name.clone());
    if request.kind == Kind::Cron {
        let crontab = Crontab::read(&name)?;
        if let Some(block) = &crontab.block {
            report.lines = Some(String::from_utf8_lossy(block).into_owned());
            report.changed = true;
            crontab.with(None).write()?;
        }
    } else {
        unit_files::remove(&mut report, lookup, machine)?;
    }
    report.warn_of_others(&name, lookup, machine);
    Ok(report)
}

fn present(name: &str, kind: Kind, lookup: &Lookup, machine: &Machine) -> State {
    if kind == Kind::Cron {
        return match Crontab::read(name) {
            // A damaged one still runs.
            Ok(Crontab { block: Some(_), .. }) | Err(Error::Usage { .. }) => State::Present {
                enabled: true,
                current: None,
            },
            _ => State::Absent,
        };
    }
    let Ok(folder) = unit_folder(kind, lookup, machine) else {
        return State::Absent;
    };
    let [service, timer] = systemd::names(name);
    let ours = |name: &str| {
        unit_files::read(&folder.join(name))
            .is_ok_and(|text| text.is_some_and(|text| systemd::is_ours(&text)))
    };
    match ours(&timer) || ours(&service) {
        true => State::Present {
            enabled: fs::symlink_metadata(unit_files::wanted_link(&folder, &timer)).is_ok(),
            current: None,
        },
        false => State::Absent,
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::UserTimer => "user-timer",
            Self::SystemTimer => "system-timer",
            Self::Cron => "cron",
        }
    }

    /// In words.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::UserTimer => "a timer of the user's",
            Self::SystemTimer => "a timer of the system's",
            Self::Cron => "a block in the crontab",
        }
    }

    /// What `schedule` takes to mean it.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::UserTimer => "",
            Self::SystemTimer => "--system ",
            Self::Cron => "--cron ",
        }
    }
}
