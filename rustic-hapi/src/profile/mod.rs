//! A profile is what the operator wrote: where the repository is, what goes into it, in which
//! rhythm, and what is kept.
//!
//! What was said (the TOML types, private) becomes what is meant ([`Profile`]) once, here. After
//! [`Profile::load`] every path is absolute, every name unique, every recipient one that age takes.
//!
//! Knows: TOML, paths, locations. Must not know: repositories, snapshots, the terminal.

pub(crate) mod hub_id;
pub(crate) mod notify;
pub mod policy;
mod twin;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{NaiveTime, TimeDelta, Weekday};
use hapi_sources::{Column, Filter, IntegrityCheck, Kind, Recipients, Source};
use serde::{Deserialize, Serialize};

use crate::destination::access::Access;
use crate::destination::location::Location;
use crate::destination::variables::{self, Variables};
use crate::error::{Error, ProfileError};
use crate::profile::hub_id::{HubId, HubOfProfile};
use crate::profile::notify::Notify;
use crate::profile::policy::Policy;

/// What a profile means, with everything resolved.
#[derive(Debug)]
pub struct Profile {
    /// The file's name without `.toml`: names the state folder.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// What `~` means; the one path that snapshots carry.
    pub home: PathBuf,
    /// What `$HAPI_HOME` means.
    pub hapi_home: PathBuf,
    /// The host name that snapshots carry.
    pub host: String,
    /// Which hub's state it is.
    pub hub: HubOfProfile,
    /// Where snapshots go.
    pub location: Location,
    /// The id that the repository there must have.
    pub repository_id: Option<String>,
    /// What restic's and rustic's variables say.
    pub variables: Variables,
    /// A file with what the destination's server wants to know beyond the location.
    pub environment_file: Option<PathBuf>,
    /// Whether the destination deletes nothing that we ask it to: retention is its own side's.
    pub append_only: bool,
    /// Whether runs prune, once a week.
    pub prune: bool,
    /// How long a run may take.
    pub limits: Limits,
    /// Where the repository's password is.
    pub password_file: PathBuf,
    /// The program that prints it, where there is no such file.
    pub password_command: Option<String>,
    /// The variables of restic's or rustic's that this came from: a timer will not have them.
    pub from_variables: Vec<&'static str>,
    /// Whether a repository on the sources' disk is accepted.
    pub allow_same_disk: bool,
    /// Other hosts that share the repository on purpose.
    pub other_hosts: Vec<String>,
    /// To whom secrets are encrypted. `None` where there is no secret.
    pub recipients: Option<Recipients>,
    /// Secrets that `[secrets] skip` leaves out. No other source may carry them either.
    pub skipped_secrets: Vec<Source>,
    /// Local times at which runs are expected, in order.
    pub at: Vec<NaiveTime>,
    /// What is kept.
    pub retention: Policy,
    /// What is told, though nothing failed.
    pub alarms: Alarms,
    /// Who is told how a run went.
    pub notify: Notify,
    /// Where `snapshot` writes its metrics for node_exporter, if anywhere.
    pub metrics: Option<PathBuf>,
    /// The series, the main one first.
    pub series: Vec<Series>,
    /// The sources, in the profile's order.
    pub sources: Vec<SeriesSource>,
    /// Where this profile keeps its lock, caches and history (0700).
    pub state: PathBuf,
    /// Where captures are staged.
    pub staging: PathBuf,
}

/// How long a run may take before it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Without any progress: no byte moved, no step of SQLite's.
    pub stall: Duration,
    /// In all, once a first complete snapshot exists.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(5 * 60),
            total: Duration::from_secs(2 * 3600),
        }
    }
}

/// What is told, though nothing failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alarms {
    /// The part of its rows, files or bytes that a source may lose from one snapshot to the next; more
    /// makes the snapshot `shrunk`.
    pub shrink: f64,
    /// How long a database's newest row may stay the newest.
    pub quiet: TimeDelta,
}

impl Default for Alarms {
    fn default() -> Self {
        Self {
            shrink: 1.0 / 3.0,
            quiet: TimeDelta::days(7),
        }
    }
}

/// A named set of sources with one rhythm; its name is the tag of its snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// The tag.
    pub name: String,
    /// When it is taken.
    pub rhythm: Rhythm,
}

/// When a series is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rhythm {
    /// By every run.
    EveryRun,
    /// By the first run since the first slot of this day that has no complete snapshot of it.
    Weekly(Weekday),
}

/// A source with the series it belongs to.
#[derive(Clone, Debug)]
pub struct SeriesSource {
    /// What to take.
    pub source: Source,
    /// The series' name.
    pub series: String,
    /// How private it is.
    pub sensitivity: Sensitivity,
}

/// How private a source is. It informs reports; only `secrets` changes how a source is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sensitivity {
    /// Nobody minds.
    Low,
    /// Not for everyone.
    #[default]
    Medium,
    /// Private.
    High,
    /// Opens doors: always encrypted before the repository.
    Secrets,
}

/// Where a profile is looked for, and what wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// A name, or a path (anything with a `/` or ending in `.toml`). `hapi` unless given.
    pub profile: Option<String>,
    /// What `~` means; `HOME` unless given.
    pub home: Option<PathBuf>,
    /// Wins over `[repository] location`.
    pub repository: Option<String>,
    /// Wins over `[repository] password-file`.
    pub password_file: Option<PathBuf>,
    /// The environment, so that a test needs none.
    pub env: Environment,
}

/// The environment variables that matter, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `HAPI_HOME`.
    pub hapi_home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub config: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub state: Option<PathBuf>,
    /// restic's own, and rustic's.
    pub restic: Variables,
}

impl Environment {
    /// Reads the process's environment; empty and relative values count as absent, as the XDG base
    /// directory specification has it.
    pub fn from_process() -> Self {
        let var = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|p| p.is_absolute())
        };
        Self {
            home: var("HOME"),
            hapi_home: var("HAPI_HOME"),
            config: var("XDG_CONFIG_HOME"),
            state: var("XDG_STATE_HOME"),
            restic: Variables::from_process(),
        }
    }
}

impl Lookup {
    /// What `~` means.
    ///
    /// # Errors
    /// [`ProfileError::NoHome`] where neither `--home` nor `HOME` says.
    pub fn home(&self) -> Result<PathBuf, ProfileError> {
        let home = self
            .home
            .clone()
            .or_else(|| self.env.home.clone())
            .ok_or(ProfileError::NoHome)?;
        // `~` stands in every path of the snapshot, so it has to be absolute and tidy.
        let home = std::path::absolute(&home).map_err(|_| ProfileError::NoHome)?;
        Ok(home.components().collect())
    }

    /// The repository that a flag or a variable names.
    ///
    /// # Errors
    /// Variables disagree.
    pub(crate) fn repository(&self) -> Result<Option<String>, ProfileError> {
        if self.repository.is_some() {
            return Ok(self.repository.clone());
        }
        let said = self.env.restic.get(variables::REPOSITORY)?;
        Ok(said.map(|said| said.text.to_owned()))
    }

    /// The password that a flag or a variable names.
    ///
    /// # Errors
    /// Variables disagree.
    pub(crate) fn password(&self) -> Result<Option<Password>, ProfileError> {
        Named::default().the_password(self, None, None, None)
    }

    /// The folder for profiles and password files of this user.
    pub fn config_dir(&self) -> Result<PathBuf, ProfileError> {
        let base = match (&self.env.config, &self.home) {
            (Some(config), None) => config.clone(),
            _ => self.home()?.join(".config"),
        };
        Ok(base.join("rustic-hapi"))
    }

    /// The folder that a profile's state is in, whether or not the profile makes sense.
    ///
    /// # Errors
    /// [`ProfileError::NoHome`].
    pub(crate) fn state(&self) -> Result<PathBuf, ProfileError> {
        let home = self.home()?;
        let name = self.name();
        Ok(self.state_dir(&home).join("rustic-hapi").join(name))
    }

    /// The profile's name, whether or not it makes sense.
    pub(crate) fn name(&self) -> String {
        let wanted = self.profile.as_deref().unwrap_or("hapi");
        Path::new(wanted).file_stem().map_or_else(
            || "hapi".to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        )
    }

    /// The folder for state of this user.
    fn state_dir(&self, home: &Path) -> PathBuf {
        match (&self.env.state, &self.home) {
            (Some(state), None) => state.clone(),
            _ => home.join(".local/state"),
        }
    }

    /// The files that may hold the profile, in order.
    pub fn candidates(&self) -> Result<Vec<PathBuf>, ProfileError> {
        let wanted = self.profile.as_deref().unwrap_or("hapi");
        if wanted.contains('/') || wanted.ends_with(".toml") {
            return Ok(vec![PathBuf::from(wanted)]);
        }
        let file = format!("{wanted}.toml");
        Ok(vec![
            self.config_dir()?.join(&file),
            Path::new("/etc/rustic-hapi").join(&file),
        ])
    }

    /// The profile's file, if there is one.
    pub fn find(&self) -> Result<Option<PathBuf>, ProfileError> {
        for path in self.candidates()? {
            match path.try_exists() {
                Ok(true) => return Ok(Some(path)),
                Ok(false) => {}
                Err(error) => return Err(ProfileError::Read { path, error }),
            }
        }
        Ok(None)
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawProfile {
    #[serde(skip_serializing_if = "Option::is_none")]
    extends: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hapi_home: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hub_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    staging: Option<String>,
    repository: RawRepository,
    secrets: RawSecrets,
    schedule: RawSchedule,
    retention: RawRetention,
    limits: RawLimits,
    alarms: RawAlarms,
    notify: Notify,
    metrics: RawMetrics,
    series: Vec<RawSeries>,
    source: Vec<RawSource>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawRepository {
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_file: Option<String>,
    allow_same_disk: bool,
    append_only: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other_hosts: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    no_progress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawSecrets {
    recipients: Vec<String>,
    skip: bool,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawSchedule {
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawRetention {
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_daily: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_within: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_weekly: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_monthly: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prune: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    acknowledged: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawAlarms {
    #[serde(skip_serializing_if = "Option::is_none")]
    shrink_alarm: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quiet_alarm: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawMetrics {
    #[serde(skip_serializing_if = "Option::is_none")]
    textfile: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSeries {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every: Option<Every>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Every {
    Run,
    Week,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSource {
    name: String,
    path: String,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    series: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sensitivity: Option<Sensitivity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    required: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    count: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    newest: Vec<Column>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    integrity: Option<IntegrityCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<Filter>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exclude: Vec<String>,
}

/// The profiles that come with the program, by the name that `extends` takes.
pub const SHIPPED: [(&str, &str); 2] = [
    ("hapi", include_str!("../../../profiles/hapi.toml")),
    (
        "hapi-stock",
        include_str!("../../../profiles/hapi-stock.toml"),
    ),
];

impl Profile {
    /// Finds, reads, merges and checks a profile.
    ///
    /// # Errors
    /// Any [`ProfileError`]; nothing is created.
    pub fn load(lookup: &Lookup) -> Result<Self, Error> {
        let Some(path) = lookup.find()? else {
            return Err(ProfileError::Missing {
                name: lookup.profile.clone().unwrap_or_else(|| "hapi".into()),
                looked: lookup.candidates()?,
            }
            .into());
        };
        let text = read_profile(&path)?;
        Ok(Self::parse(&text, &path, lookup)?)
    }

    /// Finds a profile, or does without: to get data back on a machine that has nothing but the
    /// repository and its password.
    ///
    /// # Errors
    /// As [`Profile::load`]; [`ProfileError::Missing`] unless repository and password file are named.
    pub fn load_or_bare(lookup: &Lookup) -> Result<Self, Error> {
        if lookup.find()?.is_some() {
            return Self::load(lookup);
        }
        let said = Named::of(lookup, None, None, None, None)?;
        match (said.location, said.password) {
            (Some(location), Some(password)) => {
                Ok(Self::bare(location, password, said.from_variables, lookup)?)
            }
            _ => Self::load(lookup),
        }
    }

    fn bare(
        location: Location,
        password: Password,
        from_variables: Vec<&'static str>,
        lookup: &Lookup,
    ) -> Result<Self, ProfileError> {
        let home = lookup.home()?;
        let (password_file, password_command) = match password {
            Password::File(file) => (file, None),
            Password::Command(command) => (PathBuf::new(), Some(command)),
        };
        let state = lookup.state_dir(&home).join("rustic-hapi").join("hapi");
        Ok(Self {
            name: "hapi".into(),
            file: PathBuf::new(),
            hapi_home: home.join(".hapi"),
            host: String::new(),
            hub: HubOfProfile::new(None, "", Vec::new(), &home),
            location,
            repository_id: None,
            variables: lookup.env.restic.clone(),
            environment_file: None,
            append_only: false,
            prune: false,
            limits: Limits::default(),
            password_file,
            password_command,
            from_variables,
            allow_same_disk: true,
            other_hosts: Vec::new(),
            recipients: None,
            skipped_secrets: Vec::new(),
            at: Vec::new(),
            retention: Policy::default(),
            alarms: Alarms::default(),
            notify: Notify::default(),
            metrics: None,
            series: Vec::new(),
            sources: Vec::new(),
            staging: state.join("staging"),
            state,
            home,
        })
    }

    /// Whether it stands in for a profile that is not there.
    pub fn is_bare(&self) -> bool {
        self.series.is_empty()
    }

    /// The merged profile as TOML, before paths are resolved.
    ///
    /// # Errors
    /// As [`Profile::load`].
    pub fn show(lookup: &Lookup) -> Result<String, Error> {
        let profile = Self::load(lookup)?;
        let text = read_profile(&profile.file)?;
        let mut merged = RawProfile::read(&text, &profile.file)?.merged(&profile.file)?;
        merged.repository.location = Some(profile.location.to_string());
        toml::to_string(&merged).map_err(|error| {
            Error::Profile(ProfileError::Syntax {
                path: profile.file,
                message: error.to_string(),
            })
        })
    }

    /// Reads a profile from text; `path` is for messages and the name.
    ///
    /// # Errors
    /// [`ProfileError`], with the line for what is not TOML of ours, with the key for what makes
    /// no sense.
    pub fn parse(text: &str, path: &Path, lookup: &Lookup) -> Result<Self, ProfileError> {
        RawProfile::read(text, path)?
            .merged(path)?
            .resolve(path, lookup)
    }

    /// What the destination's server wants to know beyond the location.
    ///
    /// # Errors
    /// The environment file cannot be used, or variables disagree.
    pub fn access(&self) -> Result<Access, ProfileError> {
        Access::of(&self.variables, self.environment_file.as_deref())
    }

    /// The variables of this process that reaching the repository takes from: no timer has them.
    ///
    /// # Errors
    /// As [`Profile::access`].
    pub fn only_in_this_shell(&self) -> Result<Vec<&'static str>, ProfileError> {
        let access = self.access()?;
        let mut names = self.from_variables.clone();
        let scheme = self.location.scheme();
        if scheme == "rest" {
            names.extend(&access.from_process);
        }
        let keys: &[&'static str] = match scheme {
            "s3" => &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            "b2" => &["B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"],
            _ => &[],
        };
        let here = |name: &&&str| {
            let set = std::env::var_os(name).is_some_and(|value| !value.is_empty());
            set && !access.environment.contains_key(**name)
        };
        names.extend(keys.iter().filter(here));
        Ok(names)
    }

    /// What a server wants to know besides the location, and who opens a repository elsewhere has to
    /// have: what it is, and how a shell gets it.
    pub(crate) fn needs(&self) -> Option<(&'static str, &'static str)> {
        let user = self
            .access()
            .is_ok_and(|access| access.rest_username.is_some());
        match self.location.scheme() {
            "rest" if user && !self.location.has_credentials() => Some(Location::REST_NEEDS),
            _ => self.location.needs(),
        }
    }

    /// Every source that is named, also those that are left out: what the others must not read.
    pub fn everything_named(&self) -> Vec<Source> {
        self.sources
            .iter()
            .map(|s| s.source.clone())
            .chain(self.skipped_secrets.iter().cloned())
            .collect()
    }
}

fn read_profile(path: &Path) -> Result<String, ProfileError> {
    let read = || {
        // A named pipe would hold the run up for ever, and no signal would end it.
        match fs::metadata(path)?.file_type() {
            kind if kind.is_file() => fs::read_to_string(path),
            kind if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::Error::other("it is not a regular file")),
        }
    };
    read().map_err(|error| ProfileError::Read {
        path: path.into(),
        error,
    })
}

impl RawProfile {
    fn read(text: &str, path: &Path) -> Result<Self, ProfileError> {
        toml::from_str(text).map_err(|error| ProfileError::Syntax {
            path: path.into(),
            message: error.to_string().trim_end().to_owned(),
        })
    }

    /// Lays this profile over the shipped one it extends.
    fn merged(self, path: &Path) -> Result<Self, ProfileError> {
        let at = Place { path };
        let Some(name) = self.extends.clone() else {
            if let Some(first) = self.without.first() {
                return Err(at.value(
                    "`without`",
                    format!("`{first}` is left out of nothing"),
                    Some("`without` needs `extends`".into()),
                ));
            }
            return Ok(self);
        };
        let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) else {
            let known: Vec<_> = SHIPPED.iter().map(|(n, _)| format!("\"{n}\"")).collect();
            return Err(at.value(
                "`extends`",
                format!("there is no shipped profile `{name}`"),
                Some(format!("there are {}", known.join(" and "))),
            ));
        };
        let mut base = Self::read(text, Path::new(&name))?;
        for gone in &self.without {
            let before = base.source.len();
            base.source.retain(|s| &s.name != gone);
            if base.source.len() == before {
                return Err(at.value(
                    "`without`",
                    format!("`{name}` has no source `{gone}`"),
                    None,
                ));
            }
        }
        let mut own_series = BTreeSet::new();
        for series in self.series {
            let first = own_series.insert(series.name.clone());
            match base
                .series
                .iter_mut()
                .find(|s| first && s.name == series.name)
            {
                Some(inherited) => *inherited = series,
                None => base.series.push(series),
            }
        }
        // Only inherited rows are replaced: a name given twice in this file stays a mistake.
        let mut own = BTreeSet::new();
        for source in self.source {
            let first = own.insert(source.name.clone());
            match base
                .source
                .iter_mut()
                .find(|s| first && s.name == source.name)
            {
                Some(inherited) => *inherited = source,
                None => base.source.push(source),
            }
        }
        // `without` may have emptied an inherited series: then it is not wanted either.
        let first = base.series.first().map(|s| s.name.clone());
        base.series.retain(|series| {
            own_series.contains(&series.name)
                || first.as_ref() == Some(&series.name)
                || base
                    .source
                    .iter()
                    .any(|s| s.series.as_ref() == Some(&series.name))
        });
        Ok(Self {
            extends: self.extends,
            without: self.without,
            hapi_home: self.hapi_home.or(base.hapi_home),
            host: self.host.or(base.host),
            hub_id: self.hub_id,
            staging: self.staging.or(base.staging),
            repository: self.repository,
            secrets: self.secrets,
            schedule: RawSchedule {
                at: self.schedule.at.or(base.schedule.at),
            },
            retention: RawRetention {
                keep_daily: self.retention.keep_daily.or(base.retention.keep_daily),
                keep_within: self.retention.keep_within.or(base.retention.keep_within),
                keep_weekly: self.retention.keep_weekly.or(base.retention.keep_weekly),
                keep_monthly: self.retention.keep_monthly.or(base.retention.keep_monthly),
                prune: self.retention.prune.or(base.retention.prune),
                acknowledged: self.retention.acknowledged,
            },
            limits: RawLimits {
                no_progress: self.limits.no_progress.or(base.limits.no_progress),
                total: self.limits.total.or(base.limits.total),
            },
            alarms: RawAlarms {
                shrink_alarm: self.alarms.shrink_alarm.or(base.alarms.shrink_alarm),
                quiet_alarm: self.alarms.quiet_alarm.or(base.alarms.quiet_alarm),
            },
            notify: self.notify,
            metrics: self.metrics,
            series: base.series,
            source: base.source,
        })
    }

    fn resolve(self, path: &Path, lookup: &Lookup) -> Result<Profile, ProfileError> {
        let at = Place { path };
        let home = lookup.home()?;
        let hapi_home = match &self.hapi_home {
            Some(text) => at.path("`hapi-home`", text, &home, None)?,
            None => match &lookup.env.hapi_home {
                Some(dir) => dir.components().collect(),
                None => home.join(".hapi"),
            },
        };
        let name = path.file_stem().map_or_else(
            || "hapi".to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        );
        let series = resolve_series(&at, &self.series)?;
        let (sources, skipped_secrets) = resolve_sources(
            &at,
            self.source,
            &series,
            self.secrets.skip,
            &home,
            &hapi_home,
        )?;
        if let Some(empty) = series
            .iter()
            .find(|s| sources.iter().all(|x| x.series != s.name))
        {
            return Err(at.value(
                &format!("series `{}`", empty.name),
                "no source belongs to it".into(),
                Some("give a source `series = …`, or remove the series".into()),
            ));
        }

        let given = |key: &str, text: &Option<String>| {
            let path = text.as_ref();
            path.map(|text| {
                at.path(
                    &format!("`{key}` in `[repository]`"),
                    text,
                    &home,
                    Some(&hapi_home),
                )
            })
            .transpose()
        };
        let usual_file = lookup.config_dir()?.join(format!("{name}.password"));
        let file = given("password-file", &self.repository.password_file)?.or_else(|| {
            let counts = self.repository.password_command.is_none() && usual_file.exists();
            counts.then(|| usual_file.clone())
        });
        let said = Named::of(
            lookup,
            Some(&at),
            self.repository.location.as_deref(),
            file,
            self.repository.password_command,
        )?;
        let Some(location) = said.location else {
            return Err(at.value(
                "`location` in `[repository]`",
                "no destination is given".into(),
                Some(
                    "say where snapshots go: `location = \"/mnt/backup/hapi\"`, or `--repository`"
                        .into(),
                ),
            ));
        };
        let environment_file = given("environment-file", &self.repository.environment_file)?;
        let swallows = |s: &&SeriesSource| {
            s.source.kind == Kind::Dir
                && location
                    .local()
                    .is_some_and(|r| r.starts_with(&s.source.path))
        };
        if let Some(outer) = sources.iter().find(swallows) {
            return Err(at.value(
                "`location` in `[repository]`",
                format!(
                    "the repository lies inside the source `{}`",
                    outer.source.name
                ),
                Some("a repository must not contain itself: choose another place".into()),
            ));
        }
        let (password_file, password_command) = match said.password {
            Some(Password::File(file)) => (file, None),
            Some(Password::Command(command)) => (usual_file, Some(command)),
            None => (usual_file, None),
        };

        let has_secrets = sources.iter().any(|s| s.source.kind == Kind::Secret);
        let recipients = match (has_secrets, self.secrets.recipients.is_empty()) {
            (true, true) => {
                return Err(at.value(
                    "`recipients` in `[secrets]`",
                    "there are secrets, but nobody to encrypt them to".into(),
                    Some("make an identity on another machine with `age-keygen`, and write its public key here: `recipients = [\"age1…\"]`".into()),
                ));
            }
            (_, true) => None,
            (_, false) => Some(
                Recipients::parse(&self.secrets.recipients).map_err(|error| {
                    at.value("`recipients` in `[secrets]`", error.to_string(), None)
                })?,
            ),
        };

        let state = lookup.state_dir(&home).join("rustic-hapi").join(&name);
        let staging = match &self.staging {
            Some(text) => at.path("`staging`", text, &home, Some(&hapi_home))?,
            None => state.join("staging"),
        };
        let metrics = self.metrics.textfile.as_ref();
        let metrics = metrics
            .map(|text| at.path("`textfile` in `[metrics]`", text, &home, Some(&hapi_home)))
            .transpose()?;
        let host = match self.host {
            Some(host) if !host.trim().is_empty() => host,
            Some(_) => return Err(at.value("`host`", "it is empty".into(), None)),
            None => crate::machine::process::host_name(),
        };
        let written = self.hub_id.as_deref().map(|text| {
            HubId::parse(text).ok_or_else(|| {
                at.value(
                    "`hub-id`",
                    format!("`{text}` is not a hub id"),
                    Some("a hub id has 8 to 64 letters, digits and hyphens; `rustic-hapi init` writes it".into()),
                )
            })
        });
        let databases = || sources.iter().filter(|s| s.source.kind == Kind::Sqlite);
        let (main, others): (Vec<_>, Vec<_>) =
            databases().partition(|s| series.first().is_some_and(|main| main.name == s.series));
        let paths = main
            .into_iter()
            .chain(others)
            .map(|s| s.source.path.clone());
        let hub = HubOfProfile::new(written.transpose()?, &host, paths.collect(), &hapi_home);

        Ok(Profile {
            name,
            file: path.into(),
            at: resolve_slots(&at, self.schedule.at)?,
            retention: resolve_retention(&at, &self.retention)?,
            alarms: resolve_alarms(&at, &self.alarms)?,
            notify: resolve_notify(&at, self.notify)?,
            metrics,
            home,
            hapi_home,
            host,
            hub,
            location,
            repository_id: self.repository.id,
            variables: lookup.env.restic.clone(),
            environment_file,
            append_only: self.repository.append_only,
            prune: self.retention.prune.unwrap_or(true),
            limits: resolve_limits(&at, &self.limits)?,
            password_file,
            password_command,
            from_variables: said.from_variables,
            allow_same_disk: self.repository.allow_same_disk,
            other_hosts: self.repository.other_hosts,
            recipients,
            skipped_secrets,
            series,
            sources,
            state,
            staging,
        })
    }
}

/// What names the repository: a flag, then the profile, then restic's variables, which must not say
/// otherwise.
#[derive(Debug, Default)]
struct Named {
    location: Option<Location>,
    password: Option<Password>,
    from_variables: Vec<&'static str>,
}

/// Where a password comes from.
#[derive(Debug)]
pub(crate) enum Password {
    File(PathBuf),
    Command(String),
}

impl Named {
    /// `at` and what follows are the profile's, where there is one.
    fn of(
        lookup: &Lookup,
        at: Option<&Place<'_>>,
        location: Option<&str>,
        file: Option<PathBuf>,
        command: Option<String>,
    ) -> Result<Self, ProfileError> {
        lookup.env.restic.agree()?;
        let mut named = Self::default();
        named.location = named.the_location(lookup, at, location)?;
        named.password = named.the_password(lookup, at, file, command)?;
        Ok(named)
    }

    fn the_location(
        &mut self,
        lookup: &Lookup,
        at: Option<&Place<'_>>,
        written: Option<&str>,
    ) -> Result<Option<Location>, ProfileError> {
        let home = lookup.home()?;
        let parse = |text: &str, by: &str| {
            Location::parse(text, &home).map_err(|fact| {
                let hint = "write an absolute path, or a location of restic's".to_owned();
                match at {
                    Some(at) if by.is_empty() => {
                        at.value("`location` in `[repository]`", fact, Some(hint))
                    }
                    _ => ProfileError::Variable {
                        name: by.to_owned(),
                        fact: format!("names no repository: {fact}"),
                        hint,
                    },
                }
            })
        };
        if let Some(text) = &lookup.repository {
            return parse(text, "--repository").map(Some);
        }
        let written = written.map(|text| parse(text, "")).transpose()?;
        let Some(said) = lookup.env.restic.get(variables::REPOSITORY)? else {
            return Ok(written);
        };
        let said_location = parse(said.text, said.by)?;
        let Some(written) = written else {
            self.from_variables.push(said.by);
            return Ok(Some(said_location));
        };
        // Who has the credentials may differ.
        let same = |a: String, b: String| a.trim_end_matches('/') == b.trim_end_matches('/');
        let agree = match (written.has_credentials(), said_location.has_credentials()) {
            (true, true) => same(written.with_credentials(), said_location.with_credentials()),
            _ => same(
                written.without_credentials(),
                said_location.without_credentials(),
            ),
        };
        if !agree {
            return Err(variables::disagree(said.by, "`location` in the profile"));
        }
        if said_location.has_credentials() && !written.has_credentials() {
            self.from_variables.push(said.by);
            return Ok(Some(said_location));
        }
        Ok(Some(written))
    }

    fn the_password(
        &mut self,
        lookup: &Lookup,
        at: Option<&Place<'_>>,
        file: Option<PathBuf>,
        command: Option<String>,
    ) -> Result<Option<Password>, ProfileError> {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
        if let Some(file) = &lookup.password_file {
            return Ok(Some(Password::File(absolute(file))));
        }
        if let (Some(_), Some(_), Some(at)) = (&file, &command, at) {
            return Err(at.value(
                "`password-command` in `[repository]`",
                "`password-file` is given, too".into(),
                Some("leave one of them".into()),
            ));
        }
        let said_file = lookup.env.restic.get(variables::PASSWORD_FILE)?;
        let said_command = lookup.env.restic.get(variables::PASSWORD_COMMAND)?;
        let said = match (said_file, said_command) {
            (Some(file), Some(command)) => {
                return Err(variables::disagree(command.by, &format!("`{}`", file.by)));
            }
            (Some(file), None) => Some((file.by, Password::File(absolute(Path::new(file.text))))),
            (None, Some(command)) => Some((command.by, Password::Command(command.text.to_owned()))),
            (None, None) => None,
        };
        let written = match (file, command) {
            (_, Some(command)) => Some(Password::Command(command)),
            (Some(file), None) => Some(Password::File(file)),
            (None, None) => None,
        };
        match (written, said) {
            (written, None) => Ok(written),
            (None, Some((by, said))) => {
                self.from_variables.push(by);
                Ok(Some(said))
            }
            (Some(Password::File(a)), Some((_, Password::File(b)))) if a == b => {
                Ok(Some(Password::File(a)))
            }
            (Some(Password::Command(a)), Some((_, Password::Command(b)))) if a == b => {
                Ok(Some(Password::Command(a)))
            }
            (Some(Password::File(_)), Some((by, _))) => {
                Err(variables::disagree(by, "`password-file` in the profile"))
            }
            (Some(Password::Command(_)), Some((by, _))) => {
                Err(variables::disagree(by, "`password-command` in the profile"))
            }
        }
    }
}

/// The file that messages name.
struct Place<'a> {
    path: &'a Path,
}

impl Place<'_> {
    fn value(&self, key: &str, fact: String, hint: Option<String>) -> ProfileError {
        ProfileError::Value {
            path: self.path.into(),
            key: key.into(),
            fact,
            hint,
        }
    }

    /// Makes a path absolute: `/…`, `~/…`, `$HAPI_HOME/…`.
    fn path(
        &self,
        key: &str,
        text: &str,
        home: &Path,
        hapi_home: Option<&Path>,
    ) -> Result<PathBuf, ProfileError> {
        let absolute = match (
            text.strip_prefix('~'),
            text.strip_prefix("$HAPI_HOME"),
            hapi_home,
        ) {
            (Some(rest), _, _) if rest.is_empty() || rest.starts_with('/') => {
                home.join(rest.trim_start_matches('/'))
            }
            (_, Some(rest), Some(base)) if rest.is_empty() || rest.starts_with('/') => {
                base.join(rest.trim_start_matches('/'))
            }
            _ => PathBuf::from(text),
        };
        if !absolute.is_absolute() {
            return Err(self.value(
                key,
                format!("`{text}` is not an absolute path"),
                Some("start it with `/`, `~/` or `$HAPI_HOME/`".into()),
            ));
        }
        if absolute
            .components()
            .any(|c| c == std::path::Component::ParentDir)
        {
            return Err(self.value(
                key,
                format!("`{text}` has `..` in it"),
                Some("write the path out".into()),
            ));
        }
        if text.contains('\0') {
            return Err(self.value(key, "it has a NUL character in it".into(), None));
        }
        Ok(absolute.components().collect())
    }
}

fn resolve_limits(at: &Place<'_>, raw: &RawLimits) -> Result<Limits, ProfileError> {
    let given = |key: &str, text: &Option<String>, usual: Duration, least: u64, most: u64| {
        let Some(text) = text else { return Ok(usual) };
        match parse_seconds(text) {
            Some(seconds) if (least..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
            Some(_) => Err(at.value(
                &format!("`{key}` in `[limits]`"),
                format!("`{text}` is out of range"),
                Some(format!(
                    "from {} to {}",
                    crate::words::duration(Duration::from_secs(least)),
                    crate::words::duration(Duration::from_secs(most))
                )),
            )),
            None => Err(at.value(
                &format!("`{key}` in `[limits]`"),
                format!("`{text}` is no length of time"),
                Some("write it as 90s, 5m or 2h".into()),
            )),
        }
    };
    let usual = Limits::default();
    Ok(Limits {
        stall: given("no-progress", &raw.no_progress, usual.stall, 1, 3600)?,
        total: given("total", &raw.total, usual.total, 10, 7 * 24 * 3600)?,
    })
}

/// `90s`, `5m`, `2h`, `1d`.
fn parse_seconds(text: &str) -> Option<u64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return None,
    };
    text[..text.len() - 1]
        .parse::<u64>()
        .ok()?
        .checked_mul(unit)
}

fn resolve_alarms(at: &Place<'_>, raw: &RawAlarms) -> Result<Alarms, ProfileError> {
    let mut alarms = Alarms::default();
    if let Some(shrink) = raw.shrink_alarm {
        if !(0.01..=0.99).contains(&shrink) {
            return Err(at.value(
                "`shrink-alarm` in `[alarms]`",
                format!("{shrink} is no part of anything"),
                Some(
                    "write what may be lost as a number between 0.01 and 0.99; 0.33 is a third"
                        .into(),
                ),
            ));
        }
        alarms.shrink = shrink;
    }
    if let Some(text) = &raw.quiet_alarm {
        let hours = parse_hours(text).filter(|hours| *hours > 0);
        let Some(hours) = hours else {
            return Err(at.value(
                "`quiet-alarm` in `[alarms]`",
                format!("`{text}` is no length of time"),
                Some("write it as 36h, 7d or 2w".into()),
            ));
        };
        alarms.quiet = TimeDelta::hours(i64::from(hours));
    }
    Ok(alarms)
}

fn resolve_notify(at: &Place<'_>, notify: Notify) -> Result<Notify, ProfileError> {
    match notify.fact() {
        None => Ok(notify),
        Some(fact) => Err(at.value(
            "`[notify]`",
            fact,
            Some("write it as `url = \"https://hc-ping.com/…\"`".into()),
        )),
    }
}

fn resolve_series(at: &Place<'_>, raw: &[RawSeries]) -> Result<Vec<Series>, ProfileError> {
    let mut seen = BTreeSet::new();
    let mut series = Vec::new();
    for (i, row) in raw.iter().enumerate() {
        let key = format!("series `{}`", row.name);
        let well_formed = !row.name.is_empty()
            && row
                .name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !well_formed || ["partial", "damaged", "shrunk", "only"].contains(&row.name.as_str()) {
            return Err(at.value(&key, "the name cannot be a tag of a series".into(), Some(
                "use letters, digits, `-`, `_` and `.`; `partial`, `damaged`, `shrunk` and `only` are taken".into(),
            )));
        }
        if !seen.insert(&row.name) {
            return Err(at.value(&key, "the name is given twice".into(), None));
        }
        let rhythm = match (row.every.unwrap_or(Every::Run), &row.on) {
            (Every::Run, None) => Rhythm::EveryRun,
            (Every::Run, Some(_)) => {
                return Err(at.value(&key, "`on` needs `every = \"week\"`".into(), None));
            }
            (Every::Week, on) => {
                let day = on.as_deref().unwrap_or("sunday");
                Rhythm::Weekly(day.parse().map_err(|_| {
                    at.value(
                        &key,
                        format!("`on`: `{day}` is not a day of the week"),
                        None,
                    )
                })?)
            }
        };
        if i == 0 && rhythm != Rhythm::EveryRun {
            return Err(at.value(
                &key,
                "the first series is taken by every run".into(),
                Some("put the weekly series after it".into()),
            ));
        }
        series.push(Series {
            name: row.name.clone(),
            rhythm,
        });
    }
    if series.is_empty() {
        return Err(at.value("`[[series]]`", "there is none".into(), Some(
            "add `extends = \"hapi\"`, or a series and sources of your own (see profiles/full.toml)".into(),
        )));
    }
    Ok(series)
}

fn resolve_sources(
    at: &Place<'_>,
    raw: Vec<RawSource>,
    series: &[Series],
    skip_secrets: bool,
    home: &Path,
    hapi_home: &Path,
) -> Result<(Vec<SeriesSource>, Vec<Source>), ProfileError> {
    let mut seen = BTreeSet::new();
    let mut sources = Vec::new();
    let mut skipped = Vec::new();
    for row in raw {
        let key = format!("source `{}`", row.name);
        let wrong = |fact: String, hint: Option<&str>| at.value(&key, fact, hint.map(Into::into));
        if row.name.is_empty() || row.name.chars().any(char::is_control) {
            return Err(wrong(
                "the name is empty or has control characters".into(),
                None,
            ));
        }
        if !seen.insert(row.name.clone()) {
            return Err(wrong("the name is given twice".into(), None));
        }
        let series_name = row.series.clone().unwrap_or_else(|| series[0].name.clone());
        if series.iter().all(|s| s.name != series_name) {
            return Err(wrong(format!("there is no series `{series_name}`"), None));
        }
        let sensitivity = row.sensitivity.unwrap_or(match row.kind {
            Kind::Secret => Sensitivity::Secrets,
            _ => Sensitivity::Medium,
        });
        if sensitivity == Sensitivity::Secrets && row.kind != Kind::Secret {
            return Err(wrong(
                "`sensitivity = \"secrets\"` needs `kind = \"secret\"`".into(),
                Some("only that kind is encrypted before the repository sees it"),
            ));
        }
        if row.kind != Kind::Sqlite
            && (!row.count.is_empty() || !row.newest.is_empty() || row.integrity.is_some())
        {
            return Err(wrong(
                "`count`, `newest` and `integrity` need `kind = \"sqlite\"`".into(),
                None,
            ));
        }
        if row.kind != Kind::Glob && row.filter.is_some() {
            return Err(wrong("`filter` needs `kind = \"glob\"`".into(), None));
        }
        if !matches!(row.kind, Kind::Glob | Kind::Dir) && !row.exclude.is_empty() {
            return Err(wrong(
                "`exclude` needs `kind = \"glob\"` or `kind = \"dir\"`".into(),
                None,
            ));
        }
        let path = at.path(
            &format!("`path` of {key}"),
            &row.path,
            home,
            Some(hapi_home),
        )?;
        let source = Source {
            name: row.name,
            kind: row.kind,
            path,
            filter: row.filter,
            exclude: row.exclude,
            required: row.required.unwrap_or(true),
            count: row.count,
            newest: row.newest,
            integrity: row.integrity.unwrap_or_default(),
        };
        if source.kind == Kind::Secret && skip_secrets {
            skipped.push(source);
            continue;
        }
        sources.push(SeriesSource {
            source,
            series: series_name,
            sensitivity,
        });
    }
    Ok((sources, skipped))
}

fn resolve_slots(at: &Place<'_>, raw: Option<Vec<String>>) -> Result<Vec<NaiveTime>, ProfileError> {
    let raw = raw.unwrap_or_else(|| vec!["06:00".into(), "18:00".into()]);
    let mut slots = raw
        .iter()
        .map(|text| {
            NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| {
                at.value(
                    "`at` in `[schedule]`",
                    format!("`{text}` is not a time of day"),
                    Some("write it as \"06:00\"".into()),
                )
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    slots.sort_unstable();
    slots.dedup();
    if slots.is_empty() {
        return Err(at.value("`at` in `[schedule]`", "there is no slot".into(), None));
    }
    Ok(slots)
}

fn resolve_retention(at: &Place<'_>, raw: &RawRetention) -> Result<Policy, ProfileError> {
    let default = Policy::default();
    let keep_daily = raw.keep_daily.unwrap_or(default.keep_daily);
    if keep_daily < Policy::FLOOR_DAYS {
        return Err(at.value(
            "`keep-daily` in `[retention]`",
            format!(
                "{keep_daily} is below the floor of {} days",
                Policy::FLOOR_DAYS
            ),
            Some(format!("say {} or more", Policy::FLOOR_DAYS)),
        ));
    }
    let is_id = |id: &&String| id.len() >= 8 && id.chars().all(|c| c.is_ascii_hexdigit());
    if let Some(odd) = raw.acknowledged.iter().find(|id| !is_id(id)) {
        return Err(at.value(
            "`acknowledged` in `[retention]`",
            format!("`{odd}` is not a snapshot's id"),
            Some("give 8 or more of its digits, as `rustic-hapi snapshots` shows them".into()),
        ));
    }
    let keep_within_hours = match &raw.keep_within {
        None => default.keep_within_hours,
        Some(text) => parse_hours(text).ok_or_else(|| {
            at.value(
                "`keep-within` in `[retention]`",
                format!("`{text}` is not a length of time"),
                Some("write it as \"14d\" (h, d or w)".into()),
            )
        })?,
    };
    Ok(Policy {
        keep_daily,
        keep_within_hours,
        keep_weekly: raw.keep_weekly.unwrap_or(default.keep_weekly),
        keep_monthly: raw.keep_monthly.unwrap_or(default.keep_monthly),
        acknowledged: raw.acknowledged.clone(),
    })
}

/// `14d`, `36h`, `2w` in hours.
pub fn parse_hours(text: &str) -> Option<u32> {
    let unit = match text.chars().last()? {
        'h' => 1,
        'd' => 24,
        'w' => 24 * 7,
        _ => return None,
    };
    let number: u32 = text[..text.len() - 1].parse().ok()?;
    number
        .checked_mul(unit)
        .filter(|hours| *hours < 24 * 366 * 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup() -> Lookup {
        Lookup {
            home: Some("/home/u".into()),
            ..Lookup::default()
        }
    }

    fn parse(text: &str) -> Result<Profile, ProfileError> {
        Profile::parse(text, Path::new("/etc/rustic-hapi/hapi.toml"), &lookup())
    }

    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    fn extending(name: &str, more: &str) -> String {
        format!(
            "extends = \"{name}\"\n[repository]\nlocation = \"/mnt/b\"\n[secrets]\nrecipients = [\"{RECIPIENT}\"]\n{more}"
        )
    }

    #[test]
    fn the_annotated_profile_makes_sense_and_has_every_key() {
        let text = include_str!("../../../profiles/full.toml");
        let profile = parse(text).expect("profiles/full.toml");
        assert_eq!(profile.retention.keep_monthly, 6);
        // Whatever serde knows is in the file, so that it stays complete.
        let raw = RawProfile::read(text, Path::new("full.toml")).expect("TOML");
        let known = toml::to_string(&raw).expect("TOML");
        let keys = [
            "extends",
            "without",
            "hapi-home",
            "host",
            "staging",
            "location",
            "id",
            "password-file",
            "environment-file",
            "append-only",
            "no-progress",
            "total",
            "prune",
            "allow-same-disk",
            "recipients",
            "skip",
            "at",
            "keep-daily",
            "keep-within",
            "keep-weekly",
            "keep-monthly",
            "textfile",
            "every",
            "on",
            "series",
            "sensitivity",
            "required",
            "count",
            "newest",
            "integrity",
            "filter",
            "exclude",
        ];
        for key in keys {
            assert!(known.contains(&format!("{key} = ")), "{key}");
        }
    }

    #[test]
    fn shipped_profiles_make_sense() {
        for (name, _) in SHIPPED {
            let profile = parse(&extending(name, "")).expect(name);
            assert_eq!(profile.series[0].rhythm, Rhythm::EveryRun);
            assert_eq!(profile.retention, Policy::default());
            assert_eq!(profile.at.len(), 2);
            let database = &profile.sources[0].source;
            assert_eq!(database.path, Path::new("/home/u/.hapi/hapi.db"));
        }
    }

    #[test]
    fn an_inherited_source_is_replaced_and_left_out_by_name() {
        let text = extending(
            "hapi",
            "[[source]]\nname = \"hapi.db\"\npath = \"/var/lib/h.db\"\nkind = \"sqlite\"\n",
        );
        let text = format!("without = [\"plans\"]\n{text}");
        let profile = parse(&text).expect("a profile");
        let named = |name: &str| profile.sources.iter().find(|s| s.source.name == name);
        assert_eq!(
            named("hapi.db").expect("hapi.db").source.path,
            Path::new("/var/lib/h.db")
        );
        assert!(named("hapi.db").is_some_and(|s| s.source.count.is_empty()));
        assert!(named("plans").is_none());
        let without = format!(
            "without = [\"voice-test-output\"]\n{}",
            extending("hapi", "")
        );
        assert_eq!(
            parse(&without).expect("a profile").series.len(),
            1,
            "nothing is weekly any more"
        );
        assert!(
            parse(&format!(
                "without = [\"nonsense\"]\n{}",
                extending("hapi", "")
            ))
            .is_err()
        );
    }

    #[test]
    fn hapi_home_of_the_profile_wins_over_the_variable() {
        let mut lookup = lookup();
        lookup.env.hapi_home = Some("/var/lib/hapi".into());
        let path = Path::new("hapi.toml");
        let text = extending("hapi-stock", "");
        let by_variable = Profile::parse(&text, path, &lookup).expect("a profile");
        assert_eq!(by_variable.hapi_home, Path::new("/var/lib/hapi"));
        let by_profile = Profile::parse(&format!("hapi-home = \"~/h\"\n{text}"), path, &lookup)
            .expect("a profile");
        assert_eq!(
            by_profile.sources[0].source.path,
            Path::new("/home/u/h/hapi.db")
        );
    }

    #[test]
    fn a_repository_inside_a_folder_that_it_holds_is_refused() {
        let text = extending(
            "hapi-stock",
            "[[source]]\nname = \"all\"\npath = \"/mnt\"\nkind = \"dir\"\n",
        );
        let error = parse(&text).expect_err("it contains itself").to_string();
        assert!(error.contains("lies inside the source `all`"), "{error}");
    }

    #[test]
    fn what_is_acknowledged_is_an_id() {
        for odd in ["zzzzzzzz", "0123456", ""] {
            let text = extending(
                "hapi-stock",
                &format!("[retention]\nacknowledged = [\"{odd}\"]\n"),
            );
            let error = parse(&text).expect_err(odd).to_string();
            assert!(error.contains("acknowledged"), "{error}");
        }
    }

    #[test]
    fn lengths_of_time() {
        assert_eq!(parse_hours("14d"), Some(336));
        assert_eq!(parse_hours("36h"), Some(36));
        assert_eq!(parse_hours("2w"), Some(336));
        for wrong in ["", "d", "14", "-1d", "1.5d", "99999999999d", "14ä"] {
            assert_eq!(parse_hours(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            _ = parse(&text);
            _ = parse_hours(&text);
        }

        #[test]
        fn no_value_of_a_known_key_makes_it_panic(
            key in proptest::sample::select(vec!["hapi-home", "host", "staging", "extends"]),
            value in "\\PC{0,60}",
        ) {
            _ = parse(&format!("{key} = {}\n{}", toml::Value::String(value), extending("hapi-stock", "")));
        }
    }
}
