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
mod installed;
mod job;
mod machine;
mod plan;
mod report;
mod request;
mod systemd;
mod tool;
mod unit_files;
mod whose;

use std::path::Path;

pub(crate) use self::account::Account;
use self::crontab::Crontab;
pub(crate) use self::crontab::cron_runs;
use self::installed::warn_of_others;
pub use self::installed::{Installed, State, installed};
pub use self::machine::Machine;
use self::plan::{Plan, Text};
pub use self::report::Report;
pub use self::request::{Action, Kind, Request};
use self::systemd::Scope;
pub(crate) use self::tool::ask;
pub(crate) use self::unit_files::lingers;
use self::whose::refuse_another;
use crate::error::Error;
use crate::profile::lookup::Lookup;

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
    let plan = Plan::of(lookup, request.kind, request.user.as_deref(), machine)?;
    let action = request.action;
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
            if action == Action::Install {
                unit_files::install(&mut report, units, scope, &plan.lookup, machine)?;
            }
        }
        Text::Lines(lines) => {
            report.lines = Some(lines.clone());
            if action == Action::Install {
                let crontab = Crontab::read(&plan.profile.name)?;
                not_anothers(&crontab, &plan.lookup)?;
                report.warnings.extend(crontab.warnings());
                if crontab.block.as_deref() != Some(lines.as_bytes()) {
                    crontab.with(Some(lines)).write()?;
                    report.changed = true;
                }
            }
        }
    }
    if action == Action::Install {
        report.inactive = inactive(&report, machine);
        // One that runs is not to be taken away for one that does not.
        if report.inactive.is_none() {
            warn_of_others(&mut report, &plan.profile.name, &plan.lookup, machine);
        }
    }
    Ok(report)
}

/// Why what is written does not run by itself, and what does on this machine.
fn inactive(report: &Report, machine: &Machine) -> Option<(&'static str, String)> {
    let kind = report.request.kind;
    let works = || what_works(kind, machine, &report.slots);
    if !report.to_type.is_empty() {
        return Some(("no systemd answers here", works()));
    }
    let dead = kind == Kind::Cron && cron_runs() == Some(false);
    dead.then(|| ("no cron is running", works()))
}

/// What calls runs on this machine, where this kind does not.
pub(crate) fn what_works(kind: Kind, machine: &Machine, slots: &[String]) -> String {
    if kind != Kind::UserTimer && machine.has_manager(Kind::UserTimer) {
        return "`rustic-hapi schedule --install` works here".into();
    }
    if kind != Kind::SystemTimer && machine.has_manager(Kind::SystemTimer) {
        return "`sudo rustic-hapi schedule --system --install` works here".into();
    }
    if kind != Kind::Cron && cron_runs() == Some(true) {
        return "`rustic-hapi schedule --cron --install` works here".into();
    }
    format!(
        "neither systemd nor cron runs here: start one of them, or have whatever starts programs on this machine call `rustic-hapi snapshot --drill -q` at {}",
        slots.join(" and ")
    )
}

fn not_anothers(crontab: &Crontab, lookup: &Lookup) -> Result<(), Error> {
    let text = String::from_utf8_lossy(crontab.block.as_deref().unwrap_or_default());
    refuse_another(&text, lookup, Kind::Cron.noun(), Kind::Cron)
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
    if report.request.kind == Kind::Cron {
        let crontab = Crontab::read(&name)?;
        not_anothers(&crontab, lookup)?;
        if let Some(block) = &crontab.block {
            report.lines = Some(String::from_utf8_lossy(block).into_owned());
            report.changed = true;
            crontab.with(None).write()?;
        }
    } else {
        unit_files::remove(&mut report, lookup, machine)?;
    }
    warn_of_others(&mut report, &name, lookup, machine);
    Ok(report)
}
