//! A profile is what the operator wrote: where the repository is, what goes into it, in which
//! rhythm, and what is kept.
//!
//! What is written (`written.rs`) becomes what is meant ([`Profile`]) once, in `resolve.rs`. After
//! [`Profile::load`] every path is absolute, every name unique, every recipient one that age takes.
//!
//! Knows: TOML, paths, locations. Must not know: repositories, snapshots, the terminal.

mod at;
pub(crate) mod hub_id;
mod in_force;
pub(crate) mod lookup;
pub(crate) mod named;
pub(crate) mod notify;
pub(crate) mod policy;
pub(crate) mod reach;
pub(crate) mod reading;
mod resolve;
pub(crate) mod sources;
mod twin;
pub(crate) mod written;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{NaiveTime, TimeDelta};
use hapi_sources::{Kind, Recipients, Scope, Source};

use crate::profile::hub_id::HubOfProfile;
use crate::profile::notify::Notify;
use crate::profile::policy::Policy;
use crate::profile::reach::Reach;
use crate::profile::sources::{Series, SeriesSource};

/// What a profile means, with everything resolved.
#[derive(Debug)]
pub struct Profile {
    /// The file's name without `.toml`: names the state folder.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The copy that this is the profile of; `None` for the main repository.
    pub copy: Option<String>,
    /// A profile for each place that the snapshots are copied to; empty in those of the copies.
    pub copies: Vec<Profile>,
    /// What `$HAPI_HOME` means.
    pub hapi_home: PathBuf,
    /// Patterns of what in it the operator does not miss.
    pub ignore: Vec<String>,
    /// The same, and what comes again.
    pub not_missed: Vec<String>,
    /// The host name that snapshots carry.
    pub host: String,
    /// Which hub's state it is.
    pub hub: HubOfProfile,
    /// What opens the repository that snapshots go to.
    pub reach: Reach,
    /// Whether the destination deletes nothing that we ask it to: the server applies retention itself.
    pub append_only: bool,
    /// Whether runs prune, once a week.
    pub prune: bool,
    /// How long a run may take.
    pub limits: Limits,
    /// Whether a repository on the sources' disk is accepted.
    pub allow_same_disk: bool,
    /// Other hosts that share the repository on purpose.
    pub other_hosts: Vec<String>,
    /// To whom secrets are encrypted. `None` where there is no secret.
    pub recipients: Option<Recipients>,
    /// Secrets that `[secrets] skip` leaves out. No other source may carry them either.
    pub skipped_secrets: Vec<Source>,
    /// `[secrets] skip` is true, and there are recipients: they win.
    pub skip_is_overruled: bool,
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
    /// How long a database's newest row may stay the newest.
    pub quiet: TimeDelta,
}

impl Default for Alarms {
    fn default() -> Self {
        Self {
            quiet: TimeDelta::days(7),
        }
    }
}

impl Profile {
    /// Which secrets no snapshot has, or that `skip` does not count.
    /// `held` are those that a newest snapshot has all the same: another profile took it.
    pub(crate) fn about_secrets(&self, held: &dyn Fn(&str) -> bool) -> Option<String> {
        if self.skip_is_overruled {
            return Some(format!(
                "`[secrets] skip` is true in `{}`, and does not count: there are `recipients`, so secrets are captured",
                self.file.display()
            ));
        }
        let names: Vec<_> = self
            .skipped_secrets
            .iter()
            .filter(|s| s.scope == Scope::File)
            .map(|s| s.name.as_str())
            .filter(|name| !held(name))
            .collect();
        (!names.is_empty()).then(|| {
            format!(
                "the secrets {} are in no snapshot: `[secrets] skip` is true in `{}`",
                names.join(", "),
                self.file.display()
            )
        })
    }

    /// The name of the place: a copy's, or `main`.
    pub fn place(&self) -> &str {
        self.copy.as_deref().unwrap_or("main")
    }

    /// The table that says where it is, for a sentence.
    pub(crate) fn table(&self) -> String {
        match &self.copy {
            Some(name) => format!("the `[[copy]]` `{name}`"),
            None => "`[repository]`".to_owned(),
        }
    }

    /// The databases that are one file.
    pub(crate) fn databases(&self) -> impl Iterator<Item = &Path> {
        let sources = self.sources.iter().map(|s| &s.source);
        sources
            .filter(|source| source.kind == Kind::Sqlite && !source.is_pattern())
            .map(|source| source.path.as_path())
    }

    /// The source that takes what no other one does of HAPI's home, if there is one.
    pub(crate) fn rest(&self) -> Option<&SeriesSource> {
        let mut sources = self.sources.iter();
        sources.find(|s| s.source.scope == Scope::Rest && s.source.path == self.hapi_home)
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
