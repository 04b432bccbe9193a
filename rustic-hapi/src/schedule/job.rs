//! A job is what a scheduler calls: the program with its arguments, the variables that the
//! scheduler's own environment lacks, and the times.
//!
//! All of it is one line of text without control characters, so that it can stand in a unit and in
//! a crontab.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use chrono::{NaiveTime, Timelike};
use hapi_sources::Filter;

use super::machine::Machine;
use crate::error::Error;
use crate::profile::Profile;
use crate::profile::lookup::Lookup;
use crate::profile::reach::Password;
use crate::profile::sources::SeriesSource;

/// Where programs are looked for when nothing else says: what a login has, without its own folders.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where cron looks.
const CRONS: &str = "/usr/bin:/bin";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The profile's name.
    pub(crate) name: String,
    /// The program, absolute.
    pub(crate) binary: String,
    /// The global options.
    pub(crate) options: Vec<String>,
    /// By name; HOME and PATH first.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// Whether every program that is needed lies where cron's own `PATH` finds it.
    pub(crate) short_path_will_do: bool,
    /// In order, to the minute.
    pub(crate) slots: Vec<NaiveTime>,
}

impl Job {
    /// What has to be called so that it means this profile, whoever calls.
    ///
    /// # Errors
    /// [`Error::Usage`] for a path that cannot stand in a line, and for a location with a password
    /// in it that is only on the command line: what is installed can be read by everybody.
    pub(crate) fn of(profile: &Profile, lookup: &Lookup, machine: &Machine) -> Result<Self, Error> {
        let file = std::path::absolute(&profile.file).unwrap_or_else(|_| profile.file.clone());
        let mut options = vec!["--profile".to_owned(), line(&file)?];
        if let Some(location) = &lookup.repository {
            if profile.reach.location.has_credentials() {
                return Err(Error::usage(
                    "other users could read the password in the location",
                    "write it into the profile (`location` in `[repository]`), and leave `--repository` out",
                ));
            }
            options.extend(["--repository".to_owned(), line(location)?]);
        }
        if let (Some(_), Some(path)) = (&lookup.password_file, profile.reach.password.file()) {
            options.extend(["--password-file".to_owned(), line(path)?]);
        }
        if let Some(name) = profile.reach.only_in_this_shell()?.first() {
            return Err(Error::usage(
                format!("the profile needs `{name}`, which scheduled runs do not have"),
                "write it into the profile: `location`, `password-file` or `password-command` in `[repository]`, everything else into the file that `environment-file` names",
            ));
        }
        let needed = needed(profile);
        let mut variables = vec![
            ("HOME", line(&profile.reach.home)?),
            ("PATH", machine.path_for(&needed)?),
        ];
        let rclone = machine
            .rclone_config
            .as_ref()
            .filter(|_| profile.reach.location.needs_rclone());
        let mut add = |name, value: Option<&PathBuf>| -> Result<(), Error> {
            if let Some(value) = value {
                variables.push((name, line(value)?));
            }
            Ok(())
        };
        add("HAPI_HOME", lookup.env.hapi_home.as_ref())?;
        // With `--home` they count for nothing.
        if lookup.home.is_none() {
            add("XDG_CONFIG_HOME", lookup.env.config.as_ref())?;
            add("XDG_STATE_HOME", lookup.env.state.as_ref())?;
        }
        add("RCLONE_CONFIG", rclone)?;
        line(&profile.name)?;
        Ok(Self {
            name: profile.name.clone(),
            binary: line(&machine.binary)?,
            options,
            variables,
            // What a command of the operator's calls is not known.
            short_path_will_do: profile.notify.command.is_none()
                && matches!(profile.reach.password, Password::File(_))
                && needed.iter().all(|program| is_in(CRONS, program)),
            slots: profile.at.clone(),
        })
    }

    /// The slots as one writes them.
    pub(crate) fn times(&self) -> Vec<String> {
        let time = |slot: &NaiveTime| format!("{:02}:{:02}", slot.hour(), slot.minute());
        self.slots.iter().map(time).collect()
    }
}

/// The programs that a run calls by their name.
fn needed(profile: &Profile) -> Vec<String> {
    // One that is named by its path is found anyway.
    let password = match &profile.reach.password {
        Password::Command(command) => first_word(command).filter(|name| !name.contains('/')),
        Password::File(_) | Password::Given(_) => None,
    };
    let by_git = |s: &SeriesSource| s.source.filter == Some(Filter::GitUntracked);
    let known = [
        ("rclone", profile.reach.location.needs_rclone()),
        ("ssh", profile.reach.location.needs_ssh()),
        ("git", profile.sources.iter().any(by_git)),
    ];
    let known = known.into_iter().filter(|(_, needed)| *needed);
    known
        .map(|(name, _)| name.to_owned())
        .chain(password)
        .collect()
}

fn is_in(path: &str, program: &str) -> bool {
    path.split(':')
        .any(|folder| Path::new(folder).join(program).is_file())
}

impl Machine {
    /// The usual folders, and before them those of a program that is needed and lies elsewhere.
    fn path_for(&self, needed: &[String]) -> Result<String, Error> {
        let mut folders: Vec<String> = Vec::new();
        for program in needed.iter().filter(|program| !is_in(PATH, program)) {
            let found = std::env::split_paths(&self.path)
                .find(|folder| folder.is_absolute() && folder.join(program).is_file());
            if let Some(folder) = found {
                let folder = line(&folder)?;
                if !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
        }
        folders.push(PATH.to_owned());
        Ok(folders.join(":"))
    }
}

fn first_word(command: &str) -> Option<String> {
    shell_words::split(command).ok()?.into_iter().next()
}

/// Text for one line.
///
/// # Errors
/// [`Error::Usage`] where it is not UTF-8 or has control characters.
pub(crate) fn line(text: impl AsRef<OsStr>) -> Result<String, Error> {
    let text = text.as_ref();
    match text.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(Error::Usage {
            fact: format!("`{text:?}` is not UTF-8, or has control characters in it")
                .replace('"', ""),
            hint: Some("a unit or a crontab cannot contain that: rename it".into()),
        }),
    }
}
