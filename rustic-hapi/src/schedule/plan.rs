//! A plan is what would be written for a profile, and where.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::account::Account;
use super::crontab::{self, Crontab};
use super::job::Job;
use super::machine::Machine;
use super::request::Kind;
use super::systemd::{self, Scope, Units};
use crate::error::{Error, ProfileError};
use crate::machine::holders::running_hubs;
use crate::profile::Profile;
use crate::profile::lookup::{Environment, Lookup};

/// What would be written.
pub(crate) struct Plan {
    pub(crate) profile: Profile,
    /// How that was found, by the user it is for.
    pub(crate) lookup: Lookup,
    pub(crate) job: Job,
    pub(crate) text: Text,
}

/// Units, or lines.
pub(crate) enum Text {
    Units {
        units: Units,
        scope: Scope,
        folder: PathBuf,
    },
    Lines(String),
}

/// What cron gives a job of this user.
///
/// # Errors
/// This user is not in the password database.
fn given_by_cron(job: &Job) -> Result<crontab::Given, Error> {
    // Where there is no crontab that can be read, no line of it sets anything.
    let crontab = Crontab::read(&job.name).ok();
    let mut set: Vec<String> = crontab
        .iter()
        .flat_map(Crontab::set_above)
        .map(|(name, _)| name)
        .collect();
    set.extend(std::env::var_os("TZ").map(|_| "TZ".to_owned()));
    Ok(crontab::Given {
        home: Account::own()?.home,
        set,
    })
}

impl Plan {
    /// # Errors
    /// Those of reading the profile and of finding the hub's user, and [`Error::Usage`] for what cannot
    /// be written down.
    pub(crate) fn of(
        lookup: &Lookup,
        kind: Kind,
        user: Option<&str>,
        machine: &Machine,
    ) -> Result<Self, Error> {
        let (profile, lookup, scope) = match kind {
            Kind::SystemTimer => {
                let (account, lookup) = of_hubs_user(lookup, user)?;
                (Profile::load(&lookup)?, lookup, Scope::System(account))
            }
            Kind::UserTimer | Kind::Cron => (Profile::load(lookup)?, lookup.clone(), Scope::User),
        };
        let job = Job::of(&profile, &lookup, machine)?;
        let text = match kind {
            Kind::Cron => Text::Lines(crontab::block(&job, &given_by_cron(&job)?)?),
            Kind::UserTimer | Kind::SystemTimer => Text::Units {
                units: systemd::units(&profile, &job, &scope, machine.rclone_config.as_deref())?,
                scope,
                folder: unit_folder(kind, &lookup, machine)?,
            },
        };
        Ok(Self {
            profile,
            lookup,
            job,
            text,
        })
    }

    /// Whether it is there already; `None` where that cannot be told.
    pub(crate) fn is_written(&self) -> Option<bool> {
        let is = |path: PathBuf, text: &str| fs::read_to_string(path).ok().map(|t| t == text);
        match &self.text {
            Text::Units { units, folder, .. } => {
                let [service, timer] = systemd::names(&self.profile.name);
                Some(
                    is(folder.join(service), &units.service).unwrap_or_default()
                        && is(folder.join(timer), &units.timer).unwrap_or_default(),
                )
            }
            Text::Lines(lines) => {
                let crontab = Crontab::read(&self.profile.name).ok()?;
                Some(crontab.block.as_deref() == Some(lines.as_bytes()))
            }
        }
    }

    /// What is unwise about it.
    pub(crate) fn warnings(&self, machine: &Machine) -> Vec<String> {
        let mut warnings = Vec::new();
        let fleeting = machine.binary.starts_with("/tmp")
            || machine
                .binary
                .components()
                .any(|part| part.as_os_str() == "target");
        if fleeting {
            warnings.push(format!(
                "warning: `{}` may be deleted soon: install the program (`cargo install --path rustic-hapi`), and schedule that one",
                machine.binary.display()
            ));
        }
        if let Text::Units {
            scope: Scope::System(account),
            ..
        } = &self.text
        {
            let files = [
                Some(self.profile.file.as_path()),
                self.profile.reach.environment_file.as_deref(),
                self.profile.reach.password.file(),
            ];
            for file in files.into_iter().flatten() {
                if !account.may_read(file) {
                    warnings.push(format!(
                        "warning: `{}` does not exist, or the user `{}` may not read it",
                        file.display(),
                        account.name
                    ));
                }
            }
        }
        warnings
    }
}

/// The user that is named, or whose the hub is, and how that user's profile is found.
fn of_hubs_user(lookup: &Lookup, user: Option<&str>) -> Result<(Account, Lookup), Error> {
    let account = match user {
        Some(user) => Account::of(user)?,
        None => Account::of(&owner(lookup)?.to_string())?,
    };
    let mut lookup = lookup.clone();
    if account.uid != Account::own()?.uid {
        // The operator's variables mean nothing to the service.
        lookup.env = Environment {
            home: Some(account.home.clone()),
            ..Environment::default()
        };
    }
    Ok((account, lookup))
}

/// Whose the profile's databases are, or where `sudo` leaves none to be found, those of the running hub.
fn owner(lookup: &Lookup) -> Result<u32, Error> {
    let databases: Vec<PathBuf> = match Profile::load(lookup) {
        Err(Error::Profile(ProfileError::Missing { .. })) if lookup.home.is_none() => {
            let hubs = running_hubs().into_iter();
            hubs.map(|folder| folder.join("hapi.db")).collect()
        }
        profile => profile?.databases().map(PathBuf::from).collect(),
    };
    let owner = |path: &PathBuf| Some(fs::metadata(path).ok()?.uid());
    let owners: BTreeSet<u32> = databases.iter().filter_map(owner).collect();
    match (owners.first(), owners.len()) {
        (Some(owner), 1) => Ok(*owner),
        _ => Err(Error::usage(
            "it is unclear whose hub this is for",
            "name the user: `rustic-hapi schedule --system --user NAME`",
        )),
    }
}

/// Where units lie.
///
/// # Errors
/// [`Error::Profile`] without a home.
pub(crate) fn unit_folder(
    kind: Kind,
    lookup: &Lookup,
    machine: &Machine,
) -> Result<PathBuf, Error> {
    if kind == Kind::SystemTimer {
        return Ok(machine.system_units.clone());
    }
    // Not `--home`: the manager of the user that calls has to find it.
    let base = match (&lookup.env.config, &lookup.env.home) {
        (Some(config), _) => config.clone(),
        (None, Some(home)) => home.join(".config"),
        (None, None) => lookup.home()?.join(".config"),
    };
    Ok(base.join("systemd/user"))
}
