//! Which schedules of a profile are there.

use std::fs;
use std::path::PathBuf;

use super::crontab::Crontab;
use super::machine::Machine;
use super::plan::{Plan, unit_folder};
use super::report::Report;
use super::request::{Action, Kind, command};
use super::systemd;
use super::unit_files;
use super::whose::{another, meant, missing};
use crate::error::Error;
use crate::profile::Profile;
use crate::profile::lookup::Lookup;

/// Which schedules of a profile are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// A timer of the user's manager.
    pub user_timer: State,
    /// A timer of the system's manager.
    pub system_timer: State,
    /// Lines in the crontab of the user that asks.
    pub cron: State,
}

impl Installed {
    /// What calls the runs of a profile, and when.
    pub(crate) fn in_words(&self, profile: &Profile) -> String {
        let all = [
            (Kind::UserTimer, &self.user_timer),
            (Kind::SystemTimer, &self.system_timer),
            (Kind::Cron, &self.cron),
        ];
        let each = all.into_iter().filter_map(|(kind, state)| {
            let State::Present {
                enabled,
                current,
                missing,
            } = state
            else {
                return None;
            };
            let noun = kind.noun();
            let times = || {
                let time = |at: &chrono::NaiveTime| at.format("%H:%M").to_string();
                profile.at.iter().map(time).collect::<Vec<_>>().join(", ")
            };
            Some(match (enabled, missing, current) {
                (false, ..) => format!("{noun}, which is NOT enabled"),
                (_, Some(path), _) => {
                    format!("{noun}, which calls the MISSING `{}`", path.display())
                }
                (_, _, Some(true)) => format!("{noun}, at {}", times()),
                _ => format!("{noun}, which is out of date"),
            })
        });
        let each: Vec<_> = each.collect();
        match each.is_empty() {
            true => "none installed on this machine (`rustic-hapi schedule --install`)".into(),
            false => each.join("; "),
        }
    }
}

/// How a schedule is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not there, or not ours.
    Absent,
    /// It is there, whole or not.
    Present {
        /// It will run by itself: the timer is enabled. A crontab always is.
        enabled: bool,
        /// It is what would be installed now; `None` where that cannot be told.
        current: Option<bool>,
        /// The program or profile that it calls and that is not there: each call fails.
        missing: Option<PathBuf>,
    },
}

/// Which schedules of a profile are there, enabled, and as they would be written now.
///
/// A crontab that cannot be read counts as absent: there need not be a cron.
pub fn installed(profile: &Profile, lookup: &Lookup, machine: &Machine) -> Installed {
    let mut lookup = lookup.clone();
    if !profile.file.as_os_str().is_empty() {
        lookup.profile = Some(profile.file.to_string_lossy().into_owned());
    }
    // Whoever it was installed for.
    let [service, _] = systemd::names(&profile.name);
    let unit = unit_files::read(&machine.system_units.join(service));
    let unit = unit.ok().flatten().unwrap_or_default();
    let user = unit.lines().find_map(|line| line.strip_prefix("User="));
    let timer = |kind: Kind| {
        let found = present(&profile.name, kind, &lookup, machine);
        let State::Present {
            enabled, missing, ..
        } = found
        else {
            return found;
        };
        let plan = Plan::of(&lookup, kind, user, machine).ok();
        let current = plan.and_then(|plan| plan.is_written());
        State::Present {
            enabled,
            current,
            missing,
        }
    };
    Installed {
        user_timer: timer(Kind::UserTimer),
        system_timer: timer(Kind::SystemTimer),
        cron: timer(Kind::Cron),
    }
}

fn present(name: &str, kind: Kind, lookup: &Lookup, machine: &Machine) -> State {
    let ours = meant(lookup);
    let is_anothers = |text: &str| another(text, ours.as_deref()).is_some();
    if kind == Kind::Cron {
        return match Crontab::read(name) {
            Ok(Crontab {
                block: Some(block), ..
            }) => {
                let text = String::from_utf8_lossy(&block);
                match is_anothers(&text) {
                    true => State::Absent,
                    false => State::Present {
                        enabled: true,
                        current: None,
                        missing: missing(&text),
                    },
                }
            }
            // A damaged one still runs.
            Err(Error::Usage { .. }) => State::Present {
                enabled: true,
                current: None,
                missing: None,
            },
            _ => State::Absent,
        };
    }
    let Ok(folder) = unit_folder(kind, lookup, machine) else {
        return State::Absent;
    };
    let [service, timer] = systemd::names(name);
    let ours = |name: &str| {
        let text = unit_files::read(&folder.join(name)).ok().flatten();
        text.filter(|text| systemd::is_ours(text))
    };
    let (timer_text, service_text) = (ours(&timer), ours(&service));
    if service_text.as_deref().is_some_and(is_anothers) {
        return State::Absent;
    }
    match timer_text.is_some() || service_text.is_some() {
        true => State::Present {
            enabled: fs::symlink_metadata(unit_files::wanted_link(&folder, &timer)).is_ok(),
            current: None,
            missing: service_text.and_then(|text| missing(&text)),
        },
        false => State::Absent,
    }
}

/// Two schedules of one profile run everything twice.
pub(super) fn warn_of_others(report: &mut Report, name: &str, lookup: &Lookup, machine: &Machine) {
    for kind in [Kind::UserTimer, Kind::SystemTimer, Kind::Cron] {
        if kind == report.request.kind || present(name, kind, lookup, machine) == State::Absent {
            continue;
        }
        let flags = format!("{}--remove", kind.flag());
        let hint = command(name, &flags);
        report.warnings.push(match report.request.action {
            Action::Remove => format!("warning: there still is {}: `{hint}`", kind.noun()),
            _ => format!(
                "warning: there is also {}, so every run happens twice; remove one: `{hint}`",
                kind.noun()
            ),
        });
    }
}
