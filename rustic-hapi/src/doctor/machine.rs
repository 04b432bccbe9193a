//! The machine that a run finds: room, folders, schedule, clock, programs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{DateTime, Datelike, Local};
use hapi_sources::{Filter, user_for_chown, user_name};

use crate::doctor::finding::Finding;
use crate::machine::disk::free_at;
use crate::machine::private_files::is_absent;
use crate::machine::process::{call_as, on_path};
use crate::machine::shell::quoted;
use crate::profile::Profile;
use crate::profile::lookup::Lookup;
use crate::schedule::{self, Kind, Machine, State};
use crate::state::begun;
use crate::state::runs;
use crate::words::bytes;

/// The largest database is copied there before it is read.
pub(super) fn staging(profile: &Profile, largest: u64) -> Finding {
    const SUBJECT: &str = "staging";
    /// What a capture wants to spare.
    const MARGIN: u64 = 4 << 20;
    let folder = profile.staging.display();
    match free_at(&profile.staging) {
        None => Finding::warn(
            SUBJECT,
            format!("skipped: the free space of `{folder}` is unknown"),
            "run `df` to see it",
        ),
        Some(free) if free < largest.saturating_add(MARGIN) => Finding::fail(
            SUBJECT,
            format!(
                "{} are free at `{folder}`; the copy of the largest database needs {}, with {} to spare",
                bytes(free),
                bytes(largest),
                bytes(MARGIN)
            ),
            "make room, or choose another place with `staging` in the profile",
        ),
        Some(free) => Finding::ok(
            SUBJECT,
            format!(
                "{} are free, the largest database needs {}",
                bytes(free),
                bytes(largest)
            ),
        ),
    }
}

/// Copies of private data lie in them, so nobody else may look.
pub(super) fn private(folders: &[&Path]) -> Finding {
    const SUBJECT: &str = "private folders";
    let user = rustix::process::geteuid().as_raw();
    for folder in folders {
        let shown = folder.display();
        let word = quoted(&folder.to_string_lossy());
        let mut there = folder.ancestors().filter(|p| p.symlink_metadata().is_ok());
        if let Some(file) = there.next().filter(|there| !there.is_dir()) {
            return Finding::fail(
                SUBJECT,
                format!("`{}` is not a folder", file.display()),
                "move it away: the next run makes the folder",
            );
        }
        match fs::metadata(folder) {
            Err(error) if is_absent(&error) => {}
            Err(error) => {
                return Finding::fail(
                    SUBJECT,
                    format!("`{shown}`: {error}"),
                    "run this as the user that the hub runs as",
                );
            }
            // It can use all of it; that user could not any more.
            Ok(m) if m.uid() != user && user == 0 => {
                return Finding::warn(
                    SUBJECT,
                    format!(
                        "`{shown}` belongs to {}, and this runs as root",
                        user_name(m.uid())
                    ),
                    format!("run it as that user: `{}`", call_as(m.uid())),
                );
            }
            Ok(m) if m.uid() != user => {
                return Finding::fail(
                    SUBJECT,
                    format!("`{shown}` belongs to {}", user_name(m.uid())),
                    format!(
                        "run this as that user, or `sudo chown -R {} {word}`",
                        user_for_chown(user)
                    ),
                );
            }
            Ok(m) if m.mode() & 0o077 != 0 && has_no_modes(folder) => {
                return Finding::fail(
                    SUBJECT,
                    format!("other users can read `{shown}`: its file system has no file modes"),
                    "choose a place on a file system that has them: `staging` in the profile, `XDG_STATE_HOME` for the state",
                );
            }
            Ok(m) if m.mode() & 0o077 != 0 => {
                return Finding::fail(
                    SUBJECT,
                    format!(
                        "other users can read `{shown}` (mode {:04o})",
                        m.mode() & 0o7777
                    ),
                    format!("`chmod 700 {word}`"),
                );
            }
            Ok(_) => {}
        }
    }
    Finding::ok(
        SUBJECT,
        "no other user can read the state and staging folders",
    )
}

/// Whether what is made in a folder is everybody's, whatever mode it is given.
fn has_no_modes(folder: &Path) -> bool {
    let made = tempfile::tempfile_in(folder).and_then(|file| file.metadata());
    made.is_ok_and(|metadata| metadata.mode() & 0o077 != 0)
}

/// Whether the next unattended run comes at all.
pub(super) fn schedule(profile: &Profile, lookup: &Lookup, machine: &Machine) -> Finding {
    const SUBJECT: &str = "schedule";
    const INSTALL: &str = "rustic-hapi schedule --install";
    let installed = schedule::installed(profile, lookup, machine);
    let found: Vec<(Kind, bool, Option<bool>, Option<PathBuf>)> = [
        (Kind::UserTimer, installed.user_timer),
        (Kind::SystemTimer, installed.system_timer),
        (Kind::Cron, installed.cron),
    ]
    .into_iter()
    .filter_map(|(kind, state)| match state {
        State::Absent => None,
        State::Present {
            enabled,
            current,
            missing,
        } => Some((kind, enabled, current, missing)),
    })
    .collect();
    let Some((kind, enabled, current, _)) = found.first().cloned() else {
        return Finding::fail(
            SUBJECT,
            "nothing runs `snapshot`: there is no timer and no crontab entry for this profile",
            format!("`{INSTALL}` (`--system`, or `--cron` without systemd)"),
        );
    };
    if let Some((kind, path)) = found
        .iter()
        .find_map(|(kind, _, _, missing)| Some((kind, missing.as_ref()?)))
    {
        return Finding::fail(
            SUBJECT,
            format!(
                "{} calls `{}`, which does not exist",
                kind.noun(),
                path.display()
            ),
            format!("`{INSTALL}{}` writes it again", option(*kind)),
        );
    }
    if found.len() > 1 {
        let all: Vec<_> = found.iter().map(|(kind, ..)| kind.noun()).collect();
        return Finding::warn(
            SUBJECT,
            format!("each slot runs more than once: {}", all.join(", ")),
            // What does not run is the one too many.
            {
                let dead = found.iter().find(|(_, enabled, ..)| !enabled);
                let (kind, ..) = dead.unwrap_or(&found[1]);
                format!(
                    "`rustic-hapi schedule --remove{}` removes one of them",
                    option(*kind)
                )
            },
        );
    }
    let (noun, flag) = (kind.noun(), option(kind));
    if !enabled {
        return Finding::fail(
            SUBJECT,
            format!("there is {noun}, but it is not enabled"),
            format!("`{INSTALL}{flag}` enables it"),
        );
    }
    if kind == Kind::UserTimer
        && let Ok((user, false)) = schedule::lingers(machine)
    {
        return Finding::fail(
            SUBJECT,
            format!("the timer runs only while `{user}` is logged in"),
            format!("`sudo loginctl enable-linger {}`", quoted(&user)),
        );
    }
    if current != Some(true) {
        return Finding::warn(
            SUBJECT,
            format!("{noun} is out of date"),
            format!("`{INSTALL}{flag}` writes it again"),
        );
    }
    if kind == Kind::Cron && schedule::cron_runs() == Some(false) {
        return Finding::warn(
            SUBJECT,
            "the crontab entry is there, but no cron is running",
            schedule::what_works(kind, machine, &times_of(profile)),
        );
    }
    Finding::ok(SUBJECT, format!("{noun} calls `snapshot`"))
}

fn times_of(profile: &Profile) -> Vec<String> {
    let time = |at: &chrono::NaiveTime| at.format("%H:%M").to_string();
    profile.at.iter().map(time).collect()
}

/// Slots, retention and freshness all go by it.
pub(super) fn clock(zone: Option<&OsStr>, now: DateTime<Local>) -> Vec<Finding> {
    const SUBJECT: &str = "clock";
    /// There was no program to take a snapshot with before that.
    const FIRST_YEAR: i32 = 2025;
    if now.year() < FIRST_YEAR {
        return vec![Finding::fail(
            SUBJECT,
            format!("it is {}, by the clock", now.format("%Y-%m-%d %H:%M")),
            "set the clock: `timedatectl set-ntp true`",
        )];
    }
    let told = zone.is_some_and(|zone| !zone.is_empty()) || Path::new("/etc/localtime").exists();
    vec![match told {
        true => Finding::ok(
            SUBJECT,
            format!("it is {}", now.format("%Y-%m-%d %H:%M %:z")),
        ),
        false => Finding::warn(
            SUBJECT,
            "no time zone is set: the profile's slots count as UTC",
            "`timedatectl set-timezone Europe/Berlin`, say",
        ),
    }]
}

/// A program of others, what it is needed for, and from which version on it does it well.
struct Needed {
    name: &'static str,
    what_for: &'static str,
    from: (u32, u32),
    because: &'static str,
}

/// Those that are needed, there and new enough.
pub(super) fn programs(profile: &Profile) -> Vec<Finding> {
    let git = Needed {
        name: "git",
        what_for: "a source has `filter = \"git-untracked\"`",
        // `GIT_CONFIG_GLOBAL`: whatever the user's own settings run is kept out.
        from: (2, 32),
        because: "older versions read the user's settings, and may run programs named there",
    };
    let rclone = Needed {
        name: "rclone",
        what_for: "the repository is reached through it",
        from: (1, 63),
        because: "older versions leave a torn file under its final name when an upload breaks off",
    };
    let filters = |s: &crate::SeriesSource| s.source.filter == Some(Filter::GitUntracked);
    let mut findings = Vec::new();
    if profile.sources.iter().any(filters) {
        // Without git everything is taken: more, never less.
        findings.push(program(&git, Finding::warn));
    }
    if profile.reach.location.needs_rclone() {
        findings.push(program(&rclone, Finding::fail));
    }
    if profile.reach.location.needs_ssh() {
        findings.push(match on_path("ssh") {
            Some(path) => Finding::ok("ssh", format!("`{}`", path.display())),
            None => Finding::fail(
                "ssh",
                "is not on the PATH, but the repository is reached through it".to_owned(),
                "`apt install openssh-client`, or put its folder into `PATH`",
            ),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok("programs", "no other programs needed"));
    }
    findings
}

fn program(needed: &Needed, absent: fn(&'static str, String, String) -> Finding) -> Finding {
    let Needed { name, from, .. } = *needed;
    let text = match schedule::ask(Command::new(name).arg("version")) {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => {
            return absent(
                name,
                format!("{error}, and {}", needed.what_for),
                format!("install {name}, or put its folder into `PATH`"),
            );
        }
    };
    let first = text.lines().next().unwrap_or_default();
    match version(first) {
        Some(there) if there >= from => Finding::ok(name, first.to_owned()),
        there => Finding::warn(
            name,
            match there {
                Some((major, minor)) => format!("it is {major}.{minor}; {}", needed.because),
                None => "its version is unknown".to_owned(),
            },
            format!("install {name} {}.{} or later", from.0, from.1),
        ),
    }
}

/// `git version 2.47.3`, `rclone v1.60.1-DEV`.
fn version(line: &str) -> Option<(u32, u32)> {
    let word = line.split_ascii_whitespace().find(|word| {
        let word = word.strip_prefix('v').unwrap_or(word);
        word.starts_with(|c: char| c.is_ascii_digit())
    })?;
    let mut parts = word.trim_start_matches('v').split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What went wrong last time will go wrong again.
pub(super) fn last_run(state: &Path) -> Finding {
    const SUBJECT: &str = "last run";
    let records = runs::last(state).and_then(|runs| Ok((runs, begun::never_ended(state)?)));
    let (runs, mut left) = match records {
        Ok(records) => records,
        Err(error) => {
            let remedy = error.hint();
            let remedy = remedy.unwrap_or_else(|| "run `rustic-hapi snapshot` by hand".into());
            return Finding::warn(SUBJECT, error.to_string(), remedy);
        }
    };
    let last = runs.iter().rfind(|run| run.command == "snapshot");
    left.retain(|begun| {
        begun.command == "snapshot" && last.is_none_or(|run| run.time < begun.time)
    });
    if let Some((_, fact)) = begun::in_words(&left).pop() {
        return Finding::warn(SUBJECT, fact, "run `rustic-hapi snapshot` by hand");
    }
    match last {
        None => Finding::ok(SUBJECT, "none recorded yet"),
        Some(run) if run.exit == 0 => Finding::ok(
            SUBJECT,
            format!("succeeded, {}", run.time.format("%Y-%m-%d %H:%M")),
        ),
        Some(run) => Finding::warn(
            SUBJECT,
            format!(
                "ended with exit code {} ({}): {}",
                run.exit,
                run.time.format("%Y-%m-%d %H:%M"),
                run.line
            ),
            "correct that, then run `rustic-hapi snapshot` by hand",
        ),
    }
}

/// What `schedule` takes to mean it, behind another option.
fn option(kind: Kind) -> String {
    match kind.flag().trim() {
        "" => String::new(),
        flag => format!(" {flag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("git version 2.47.3"), Some((2, 47)));
        assert_eq!(version("rclone v1.60.1-DEV"), Some((1, 60)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("what?"), None);
    }

    #[test]
    fn a_clock_that_lost_its_battery_is_noticed() {
        let old = DateTime::UNIX_EPOCH.with_timezone(&Local);
        assert_eq!(clock(None, old)[0].verdict, super::super::Severity::Fail);
    }
}
